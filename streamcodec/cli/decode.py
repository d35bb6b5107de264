"""``streamcodec decode``: a codes file to a recording."""

import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from ..audio import FORMATS, AudioWriter
from ..codecs import Codec, Start
from ..codecs.dac_chunked import unpadded_decode
from ..codes import Codes
from ..codesfile import CodesHeader, CodesReader, DacReader, EcdcReader, EncodecLM, kind_of, scx
from ..codesfile.dac_audio import restored
from ..codesfile.scx import ScxReader
from ..entropy import find_model
from ..errors import AudioError, CheckpointError, InputError
from ..files import NewFile
from ..sources import SourceFile
from .ends import input_of, output_format
from .running import CodecRun, open_codec, report, result_output
from .scx import announce_damage, span
from .telling import announce_clipping, progress, tell

__all__ = ["check_codec", "codec_of", "run"]


def codec_of(path: Path, header: CodesHeader, args: Namespace) -> Codec:
    """The codec that was asked for, or else the one that the file names. Raises what `load` does."""
    if args.codec is not None:
        return open_codec(args.codec, args)
    try:
        return open_codec(header.source or None, args)
    except CheckpointError as error:
        hint = f"{path} was made with {header.codec!r}; say where that is with --codec"
        raise type(error)(f"{error}. {hint}") from error


def _check(reader: CodesReader | EcdcReader, codec: Codec) -> None:
    """Raises AudioError where the codes mean nothing to the codec; says so where that cannot be known."""
    if isinstance(reader, EcdcReader):
        reader.check(codec)
        if codec.spec.name != reader.header.codec:
            tell(
                f"{reader.path}: made with {reader.header.codec}; noise comes out unless {codec.spec.name} is the same"
            )
        return
    check_codec(reader.path, reader.header, codec)


def check_codec(path: Path, header: CodesHeader, codec: Codec) -> None:
    """Raises AudioError where the codes of a file mean nothing to the codec; says so where that cannot be known."""
    spec = codec.spec
    if header.fingerprint == codec.fingerprint:
        return
    for name, found, wanted in (
        ("name", header.codec, spec.name),
        ("sample_rate", header.sample_rate, spec.sample_rate),
        ("channels", header.channels, spec.channels),
        ("hop_length", header.hop_length, spec.hop_length),
        ("codebook_size", header.codebook_size, spec.codebook_size),
    ):
        if found != wanted:
            raise AudioError(
                f"{path} was made with another codec: its {name} is {found!r}, not {wanted!r} "
                f"as that of {spec.name}; give the one that encoded it with --codec"
            )
    tell(
        f"{path}: made with a {spec.name} of another configuration or other weights; "
        "noise comes out unless both have the same codebooks"
    )


def run(args: Namespace) -> int:
    """Run the command."""
    source, form = input_of(args.input), output_format(args.output, list(FORMATS), args.format)
    with (
        SourceFile(source) as opened,
        result_output(args, args.output, [opened, source, args.codec, args.lm]) as output,
    ):
        kind = kind_of(opened)
        model = None if args.entropy is None else find_model(args.entropy)
        if kind != "scx" and (args.start_time is not None or args.end is not None):
            raise InputError(f"{args.input}: --from and --to are for .scx files; `streamcodec encode` writes them")
        if kind != "ecdc" and args.lm is not None:
            raise InputError(f"{args.input}: --lm is for .ecdc files, and this is none")
        if kind == "dac":
            writer, figures = _from_dac(DacReader(opened), output, form, args)
        elif kind == "scx":
            writer, figures = _from_scx(ScxReader(opened, model), output, form, args)
        else:
            lm = None if args.lm is None else EncodecLM.load(args.lm)
            reader = EcdcReader(opened, lm) if kind == "ecdc" else CodesReader(opened, model)
            writer, figures = _from_frames(reader, output, form, args)
    announce_clipping(writer)
    result = {"input": args.input, "output": args.output, "clipped_samples": writer.clipped, **figures}
    report(result, args)
    return 0


def _from_frames(
    reader: CodesReader | EcdcReader, output: NewFile, form: str, args: Namespace
) -> tuple[AudioWriter, dict[str, Any]]:
    header = reader.header
    codec = codec_of(reader.path, header, args)
    _check(reader, codec)
    spec, run = codec.spec, CodecRun(codec, args, header.bandwidth, args.start or cast(Start, header.start))
    with (
        AudioWriter(output, spec.sample_rate, spec.channels, form) as writer,
        progress(header.length / spec.sample_rate) as advance,
    ):
        for pcm in run.decode(run.counted(reader.blocks(run.block_frames, spec.samples))):
            writer.write(pcm)
            advance(pcm.shape[1] / spec.sample_rate)
    return writer, run.figures(writer.length, spec.decoder_delay + spec.hop_length)


# -- files that may grow, from any place on -------------------------------------------------------------------------


def _from_scx(reader: ScxReader, output: NewFile, form: str, args: Namespace) -> tuple[AudioWriter, dict[str, Any]]:
    if args.start is not None or args.offline:
        raise InputError(f"{reader.path}: a .scx file says how its stream begins; leave --start and --offline out")
    header = reader.header.codes
    codec = codec_of(reader.path, header, args)
    check_codec(reader.path, header, codec)
    spec, run = codec.spec, CodecRun(codec, args, header.bandwidth, "primed")
    start, end = span(args, reader)
    with (
        AudioWriter(output, spec.sample_rate, spec.channels, form) as writer,
        progress((reader.seconds if end is None else end) - start) as advance,
    ):
        pieces = scx.decode(reader, codec, start, end, step_frames=run.block_frames)
        while (pcm := run.timed(next, pieces, None)) is not None:
            writer.write(pcm)
            advance(pcm.shape[1] / spec.sample_rate)
    announce_damage(reader)
    figures = {
        "codec": spec.name, "sample_rate": spec.sample_rate, "channels": spec.channels, "samples": writer.length,
        "step_frames": run.step_frames, "codec_seconds": run.seconds,
        "real_time_factor": run.seconds * spec.sample_rate / max(1, writer.length),
    }  # fmt: skip
    return writer, figures


# -- DAC's own files: a batch of mono signals, brought to a level and a rate ------------------------------------------


def _from_dac(reader: DacReader, output: NewFile, form: str, args: Namespace) -> tuple[AudioWriter, dict[str, Any]]:
    if args.codec is None:
        raise InputError(f"{reader.path} does not say which model made it; name it with --codec, such as dac_44khz")
    codec, file = open_codec(args.codec, args), reader.file
    reader.check(codec)
    spec = codec.spec
    run = CodecRun(codec, args, spec.bandwidths[reader.codebooks - 1], args.start or "exact")
    if math.isnan(file.input_db):
        tell(f"{reader.path}: has no usable input_db; the audio keeps the level of the codec's output")
    if file.sample_rate != spec.sample_rate:
        tell(f"{reader.path}: resampled {spec.sample_rate} -> {file.sample_rate} Hz")
    seconds = file.original_length / file.sample_rate
    with (
        AudioWriter(output, file.sample_rate, file.channels, form) as writer,
        progress(seconds) as advance,
    ):
        pieces = _advancing(_dac_pieces(reader, run), advance, spec.sample_rate)
        for pcm in restored(file, pieces, spec.sample_rate, output.directory):
            writer.write(pcm)
    # The figures count at the codec's rate, one signal; the file has its own.
    heard = round(writer.length * spec.sample_rate / file.sample_rate)
    figures = run.figures(max(1, heard), spec.decoder_delay + spec.hop_length)
    figures |= {"sample_rate": file.sample_rate, "channels": file.channels, "samples": writer.length}
    figures["bitrate_kbps"] *= file.channels
    return writer, figures


def _advancing(pieces: Iterable[Tensor], advance: Callable[[float], object], rate: int) -> Iterator[Tensor]:
    for piece in pieces:
        advance(piece.shape[1] / rate)
        yield piece


def _dac_pieces(reader: DacReader, run: CodecRun) -> Iterator[Tensor]:
    """Audio [channels, n], chunk by chunk, each decoded by itself, as upstream does."""
    file, codec = reader.file, run.codec
    for start in range(0, reader.frames, file.chunk_length):
        stop = min(start + file.chunk_length, reader.frames)
        if file.padding:
            parts = (Codes(data) for data in reader.blocks(run.block_frames, start, stop))
            yield from run.decode(run.counted(parts), file.channels)
        else:
            (codes,) = run.counted(Codes(data) for data in reader.blocks(stop - start, start, stop))
            yield run.timed(unpadded_decode, codec, codes.data).flatten(0, 1)
