"""``streamcodec decode``: a codes file to a recording."""

from argparse import Namespace

from ..audio import AudioWriter
from ..codecs import Codec
from ..codesfile import CodesReader
from ..errors import AudioError, CheckpointError
from .running import Run, announce_clipping, open_codec, progress, report, tell

__all__ = ["run"]


def _open(reader: CodesReader, args: Namespace) -> Codec:
    """The codec that was asked for, or else the one that the file names."""
    if args.codec is not None:
        return open_codec(args.codec, args.device)
    try:
        return open_codec(reader.header.source or None, args.device)
    except CheckpointError as error:
        hint = f"{reader.path} was made with {reader.header.codec!r}; say where that is with --codec"
        raise type(error)(f"{error}. {hint}") from error


def _check(reader: CodesReader, codec: Codec) -> None:
    """Raises AudioError where the codes mean nothing to the codec; says so where that cannot be known."""
    header, spec = reader.header, codec.spec
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
                f"{reader.path} was made with another codec: its {name} is {found!r}, not {wanted!r} "
                f"as that of {spec.name}; give the one that encoded it with --codec"
            )
    tell(
        f"{reader.path}: made with a {spec.name} of another configuration or other weights; "
        "noise comes out unless both have the same codebooks"
    )


def run(args: Namespace) -> int:
    """Run the command."""
    with CodesReader(args.input) as reader:
        codec, header = _open(reader, args), reader.header
        _check(reader, codec)
        spec, run = codec.spec, Run(codec, args, header.bandwidth, args.start or header.start)
        with (
            AudioWriter(args.output, spec.sample_rate, spec.channels) as writer,
            progress(header.length / spec.sample_rate) as advance,
        ):
            for pcm in run.decode(run.counted(reader.blocks(run.block_frames, spec.samples))):
                writer.write(pcm)
                advance(pcm.shape[1] / spec.sample_rate)
    announce_clipping(writer)
    tell(f"wrote {args.output}")
    result = {
        "input": args.input,
        "output": args.output,
        "clipped_samples": writer.clipped,
        **run.figures(writer.length, spec.decoder_delay + spec.hop_length),
    }
    report(result, args.json)
    return 0
