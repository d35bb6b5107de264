"""``streamcodec bench entropy``: bits before and after entropy coding.

Recordings are encoded, their codes are coded and decoded again, and must be the same. The table has a row for each
bandwidth and number of frames a block: codes as they are and coded, in kbps without any header, and the median time of
a frame, in one thread.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import load
from ..entropy import FrameDecoder, FrameEncoder, Predictor, find_model
from ..errors import AudioError, InputError
from ..train.data import find_audio
from ..train.entropy_codes import encoded

__all__ = ["run"]

RECORDING = Path(__file__).parents[1] / "bundled" / "jfk.flac"  # 11 s of speech, public domain


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code. Raises StreamcodecError."""
    if min(args.frames) < 1 or args.seconds <= 0:
        raise InputError("--frames and --seconds must be positive")
    codec, model = load(args.codec), find_model(args.model, args.codec)
    if model.fingerprint != codec.fingerprint:
        raise InputError(f"the entropy model is for other weights than {codec.spec.name} has here; train one for it")
    predictor, spec = Predictor(model), codec.spec
    most = max(1, int(args.seconds * spec.frame_rate))
    codes = [each[:, :most] for each in (encoded(path, codec) for path in _files(args.input))]
    codes = [each for each in codes if each.shape[1]]
    if not codes:
        raise AudioError(f"{args.input}: no frame in it")
    frames = sum(each.shape[1] for each in codes)
    width = (spec.codebook_size - 1).bit_length()
    rows = []
    for bandwidth in spec.bandwidths:
        for block in args.frames:
            bits, times = _coded(predictor, [each[: spec.codebooks(bandwidth)] for each in codes], block)
            plain = width * spec.codebooks(bandwidth) * frames
            rate = spec.frame_rate / frames / 1000
            rows.append(
                {
                    "bandwidth_kbps": bandwidth, "frames": block, "codes_kbps": plain * rate,
                    "coded_kbps": bits * rate, "saved": 1 - bits / plain,
                    "encode_ms": statistics.median(times[0]), "decode_ms": statistics.median(times[1]),
                }
            )  # fmt: skip
    facts = {
        "codec": spec.name, "model": model.hash, "recordings": len(codes), "seconds": round(frames / spec.frame_rate, 1)
    }  # fmt: skip
    _report(args, facts, rows)
    return 0


def _files(source: Path | None) -> list[Path]:
    if source is None:
        return [RECORDING]
    return find_audio(source) if source.is_dir() or source.suffix == ".txt" else [source]


def _coded(predictor: Predictor, codes: Sequence[np.ndarray], block: int) -> tuple[int, tuple[list[float], ...]]:
    """The bits of all blocks; milliseconds a frame of each, to encode and to decode."""
    bits, times = 0, ([], [])  # type: tuple[int, tuple[list[float], list[float]]]
    for each in codes:
        encoder, decoder = FrameEncoder(predictor), FrameDecoder(predictor)
        for part in _blocks(each, block):
            begun = time.thread_time()
            coded = encoder.encode(part)
            between = time.thread_time()
            back = decoder.decode(coded, *part.shape)
            ended = time.thread_time()
            if not np.array_equal(back, part):
                raise InputError("the codes did not come back: this is a fault of streamcodec's; please report it")
            bits += 8 * len(coded.data)
            times[0].append(1000 * (between - begun) / part.shape[1])
            times[1].append(1000 * (ended - between) / part.shape[1])
    return bits, times


def _blocks(codes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (codes[:, start : start + size] for start in range(0, codes.shape[1], size))


def _report(args: argparse.Namespace, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    if args.json:
        print(json.dumps(facts | {"rows": rows}))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    heads = ["kbps", "frames a block", "codes, kbps", "coded, kbps", "saved", "ms a frame to encode", "to decode"]
    print("\n| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for row in rows:
        cells = [f"{row['bandwidth_kbps']:g}", str(row["frames"]), f"{row['codes_kbps']:.2f}"]
        cells += [f"{row['coded_kbps']:.2f}", f"{row['saved']:.1%}"]
        print("| " + " | ".join([*cells, f"{row['encode_ms']:.3f}", f"{row['decode_ms']:.3f}"]) + " |")
