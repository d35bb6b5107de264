"""``streamcodec info``: what a codec is, or what is in a .scx file."""

import dataclasses
import json
from argparse import Namespace
from typing import Any

from .. import native_support
from ..codecs import Codec, CodecSpec
from .running import milliseconds, open_codec
from .scx import describe

__all__ = ["run"]


def _delay(samples: int, spec: CodecSpec) -> str:
    return f"{samples} samples, {milliseconds(samples, spec):.1f} ms"


def _pre_roll(codec: Codec) -> str:
    frames, exact = codec.pre_roll
    heard = f"{frames} frames ({_delay(codec.spec.samples(frames), codec.spec)})"
    return f"a decoder that begins in the middle hears {heard} first, and is {'exact' if exact else 'near'} then"


def _size(count: int) -> str:
    return f"{count / 1024:.1f} KiB"


def _rows(codec: Codec) -> list[tuple[str, str]]:
    spec = codec.spec
    levels = f", in levels of {', '.join(map(str, spec.levels))}" if spec.levels else ""
    books = f"{spec.num_codebooks} of {spec.codebook_size} entries{levels}" if spec.num_codebooks else "none"
    rows = [
        ("codec", spec.name),
        ("sample rate", f"{spec.sample_rate} Hz, channels: {spec.channels}"),
        ("frame", f"{_delay(spec.hop_length, spec)}; {spec.frame_rate:g} frames a second"),
        ("latents", f"{spec.latent_channels} channels"),
        ("codebooks", books),
    ]
    for bandwidth in spec.bandwidths:
        default = " (default)" if bandwidth == spec.default_bandwidth else ""
        rows.append((f"{bandwidth:g} kbps", f"codebooks: {spec.codebooks(bandwidth)}{default}"))
    rows += [
        ("encoder delay", _delay(spec.encoder_delay, spec)),
        ("decoder delay", _delay(spec.decoder_delay, spec)),
        ("algorithmic delay", f"{_delay(spec.delay, spec)} (encoder, decoder and one frame)"),
    ]
    for side, frames, wait in (
        ("encoder", spec.encoder_prefill, spec.encoder_wait),
        ("decoder", spec.decoder_prefill, spec.decoder_wait),
    ):
        if frames:
            rows.append((f"exact start, {side}", f"waits for {frames} frames ({_delay(wait, spec)}) once"))
    if spec.segment_length is not None and spec.segment_stride is not None:
        rows.append(("segment", f"{_delay(spec.segment_length, spec)}, every {_delay(spec.segment_stride, spec)}"))
    if spec.semantic_window is not None:
        window = spec.semantic_window
        heard = f"{window.left} + {window.hop} + {window.right} frames"
        rows.append(("speech model", f"windowed: hears {heard} (past, hop, future), so streamed codes differ from"))
        rows.append(("", f"those of a whole file; work: {window.frames / window.hop:.1f} times one run over it"))
    rows.append(("pre-roll", _pre_roll(codec)))
    memory = (
        f"{_size(spec.bytes_per_stream)} (encoder {_size(spec.encoder_bytes)}, decoder {_size(spec.decoder_bytes)})"
    )
    return [*rows, ("memory per stream", memory)]


def _gflops(codec: Codec) -> tuple[float, float]:
    """10^9 floating-point operations for a second of audio, of encoder and decoder: two for a multiply-add."""
    encoder, decoder = (2e-9 * codec.spec.frame_rate * count for count in codec.framing.multiply_adds())
    return encoder, decoder


def _native(codec: Codec) -> str:
    """What the native executor runs on, and what of this codec it cannot run."""
    lacks = (f"; no {lack}, so not the {name}" for name, lack in codec.lacking("native").items())
    return "".join([native_support.about(), *lacks])


def _facts(codec: Codec) -> dict[str, Any]:
    spec = codec.spec
    return {
        **dataclasses.asdict(spec),
        "bits_per_code": (max(1, spec.codebook_size) - 1).bit_length(),
        "codebooks": {f"{bandwidth:g}": spec.codebooks(bandwidth) for bandwidth in spec.bandwidths},
        "encoder_delay_ms": milliseconds(spec.encoder_delay, spec),
        "decoder_delay_ms": milliseconds(spec.decoder_delay, spec),
        "algorithmic_delay": spec.delay,
        "algorithmic_delay_ms": milliseconds(spec.delay, spec),
        "prefill_ms": milliseconds(spec.prefill_frames * spec.hop_length, spec),
        "pre_roll": codec.pre_roll._asdict(),
        "gflops": dict(zip(("encoder", "decoder"), _gflops(codec), strict=True)),
        "backend": codec.served_by(),
        "native_executor": _native(codec),
    }


def run(args: Namespace) -> int:
    """Run the command."""
    if args.codec is not None and args.codec.lower().endswith(".scx"):
        return describe(args.codec, args.json)
    codec = open_codec(args.codec, args)
    if args.json:
        print(json.dumps(_facts(codec)))
        return 0
    encoder, decoder = _gflops(codec)
    rows = [
        *_rows(codec),
        ("GFLOP a second of audio", f"encoder {encoder:.2f}, decoder {decoder:.2f}"),
        ("computed by", ", ".join(f"{name}: {backend}" for name, backend in codec.served_by().items())),
        ("native executor", _native(codec)),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0
