"""``streamcodec encode``: a recording to a codes file."""

from argparse import Namespace

from ..audio import AudioReader
from ..codecs import Codec
from ..codesfile import CodesHeader, CodesWriter, DacWriter, EcdcWriter, kind_of
from ..codesfile.ecdc import model_of
from ..errors import InputError
from .running import Run, announce, open_codec, progress, report, tell

__all__ = ["run"]


def _header(codec: Codec, source: str, run: Run) -> CodesHeader:
    spec = codec.spec
    return CodesHeader(
        codec=spec.name,
        source=source,
        fingerprint=codec.fingerprint,
        bandwidth=run.bandwidth,
        sample_rate=spec.sample_rate,
        channels=spec.channels,
        hop_length=spec.hop_length,
        codebook_size=spec.codebook_size,
        start=run.start,
    )


def _writer(codec: Codec, args: Namespace, run: Run) -> CodesWriter | DacWriter | EcdcWriter:
    """For the format that the output's suffix names."""
    kind = kind_of(args.output, look=False)
    if kind == "safetensors":
        return CodesWriter(args.output, _header(codec, args.codec or "", run))
    if run.start == "primed":
        raise InputError(
            f"{args.output}: this format cannot say that a stream began primed, and upstream's decoder begins exact; "
            "leave --start primed out or write .safetensors"
        )
    if kind == "dac":
        return DacWriter(args.output, codec)
    model = model_of(codec, args.output)
    if codec.spec.name != model.name:
        tell(f"{args.output}: will be decoded with the weights of {model.name}, not with those of {codec.spec.name}")
    return EcdcWriter(args.output, model)


def run(args: Namespace) -> int:
    """Run the command."""
    codec = open_codec(args.codec, args.device)
    spec = codec.spec
    run = Run(codec, args, spec.resolve(args.bandwidth, args.codebooks), args.start)
    with (
        AudioReader(args.input, spec.sample_rate, spec.channels, run.block) as reader,
        _writer(codec, args, run) as writer,
        progress(reader.length / spec.sample_rate) as advance,
    ):
        announce(reader)
        blocks = writer.listen(reader) if isinstance(writer, DacWriter) else reader
        for codes in run.counted(run.encode(blocks)):
            writer.append(codes)
            advance((codes.length or 0) / spec.sample_rate)
    tell(f"wrote {args.output}")
    files = {"input": args.input, "output": args.output, "changes": reader.changes}
    report({**files, **run.figures(writer.length, spec.encoder_delay + spec.hop_length)}, args.json)
    return 0
