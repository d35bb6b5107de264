"""``streamcodec encode``: a recording to a codes file."""

from argparse import Namespace

from ..audio import AudioReader
from ..codecs import Codec
from ..codesfile import KINDS, CodesWriter, DacWriter, EcdcWriter, EncodecLM
from ..codesfile.ecdc import model_of
from ..codesfile.scx import ScxWriter, header_of
from ..entropy import find_model
from ..errors import InputError
from ..files import NewFile
from ..precisions import check_encoding
from .ends import input_of, output_format
from .running import CodecRun, open_codec, report, result_output
from .telling import announce, progress, tell

__all__ = ["run"]


def _writer(
    codec: Codec, args: Namespace, run: CodecRun, output: NewFile, kind: str, lm: EncodecLM | None
) -> CodesWriter | DacWriter | EcdcWriter | ScxWriter:
    header = header_of(codec, bandwidth=run.bandwidth, start=run.start, source=args.codec or "")
    entropy = None if args.entropy is None else find_model(args.entropy or None, args.codec)
    if kind == "safetensors":
        return CodesWriter(output, header.codes, entropy)
    if kind == "scx":
        return ScxWriter(output, header, entropy=entropy)
    if entropy is not None:
        raise InputError(
            f"{args.output}: --entropy is for our own formats; upstream's cannot hold such codes (.ecdc has --lm)"
        )
    if run.start == "primed":
        raise InputError(
            f"{args.output}: this format cannot say that a stream began primed, and upstream's decoder begins exact; "
            "leave --start primed out or write .safetensors"
        )
    if kind == "dac":
        return DacWriter(output, codec)
    model = model_of(codec, args.output)
    if codec.spec.name != model.name:
        tell(f"{args.output}: will be decoded with the weights of {model.name}, not with those of {codec.spec.name}")
    return EcdcWriter(output, model, lm)


def run(args: Namespace) -> int:
    """Run the command."""
    check_encoding(args.precision)
    source, kind = input_of(args.input), output_format(args.output, KINDS, args.format)
    if args.lm is not None and kind != "ecdc":
        raise InputError(f"{args.output}: --lm is for .ecdc files; --entropy codes our own formats in fewer bytes")
    with result_output(args, args.output, [source, args.codec, args.lm]) as output:
        lm = None if args.lm is None else EncodecLM.load(args.lm)
        codec = open_codec(args.codec, args)
        spec, run = codec.spec, CodecRun(codec, args, codec.spec.resolve(args.bandwidth, args.codebooks), args.start)
        with (
            AudioReader(source, spec.sample_rate, spec.channels, run.block) as reader,
            _writer(codec, args, run, output, kind, lm) as writer,
            progress(reader.seconds) as advance,
        ):
            announce(reader)
            blocks = writer.listen(reader) if isinstance(writer, DacWriter) else reader
            for codes in run.counted(run.encode(blocks)):
                writer.append(codes)
                advance((codes.length or 0) / spec.sample_rate)
    files = {"input": args.input, "output": args.output, "changes": reader.changes}
    report({**files, **run.figures(writer.length, spec.encoder_delay + spec.hop_length)}, args)
    return 0
