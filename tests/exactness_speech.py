"""Counts the frames whose codes differ on recordings: ``python tests/exactness_speech.py FOLDER [MINUTES [CODEC]]``.

In float32 a stream, an offline run and transformers add the same numbers up in different orders. Where the two nearest
entries of a codebook nearly tie they may then choose differently. How often that happens depends on the audio: this
script counts it on recordings (the first MINUTES of a folder, 10 by default), for the bundled codec, for Lyra v2 where
LYRA_MODEL_COEFFS names the folder of its networks, and for EnCodec 24 kHz and DAC 16 kHz of published sizes with random
weights. Exits with 1 where a frame differs that is no near tie.
"""

import argparse
import copy
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from exactness_table import (
    PAIRS,
    PUBLISHED,
    SIZES,
    Upstream,
    from_double,
    from_transformers,
)
from oracles import KINDS_OF_QUANTIZERS, codec_of, compare_codes, latents_of, random_transformers_model
from torch import Tensor

import streamcodec
from streamcodec import Codec, Codes
from streamcodec.audio import AudioReader
from streamcodec.bench.random_weights import make

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}
Upstreams = Callable[[Tensor, float], Upstream]


def recordings(folder: Path, rate: int, minutes: float) -> Iterator[Tensor]:
    """Whole recordings [1, 1, N] at `rate` in the order of their names, until there are as many minutes."""
    left = minutes * 60 * rate
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        if left <= 0:
            return
        with AudioReader(path, rate, 1, rate) as reader:
            wav = torch.cat([torch.from_numpy(block) for block in reader], 1)[None]
        wav = wav[..., : int(left)]
        left -= wav.shape[2]
        yield wav


def frame_by_frame(codec: Codec, wav: Tensor, bandwidth: float) -> Tensor:
    encoder = codec.open_encoder(bandwidth)
    return Codes.cat([*map(encoder.push, wav.split(codec.spec.hop_length, 2)), encoder.flush()]).data


def from_dac(model: Any, wav: Tensor, count: int) -> Upstream:
    codes = model.encode(wav, n_quantizers=count).audio_codes
    return Upstream(codes, model.decode(audio_codes=codes).audio_values[:, None])


def bundled() -> tuple[Codec, Codec, Upstreams]:
    """Nobody else runs it: it is compared with itself in float64."""
    double = streamcodec.load(dtype=torch.float64)
    return streamcodec.load(), double, lambda x, kbps: from_double(double, x, kbps)


def lyra() -> tuple[Codec, Codec, Upstreams]:
    """Its own library computes in int8, which is further from this than any near tie: with itself in float64, too."""
    folder = os.environ["LYRA_MODEL_COEFFS"]
    double = streamcodec.load(folder, dtype=torch.float64)
    return streamcodec.load(folder), double, lambda x, kbps: from_double(double, x, kbps)


def encodec() -> tuple[Codec, Codec, Upstreams]:
    model = random_transformers_model(**SIZES | PUBLISHED["EnCodec 24 kHz"])
    return codec_of(model), codec_of(model, torch.float64), lambda x, kbps: from_transformers(model, x, kbps)


def dac() -> tuple[Codec, Codec, Upstreams]:
    from transformers import DacModel

    with tempfile.TemporaryDirectory() as scratch:
        folder = streamcodec.save(make(PAIRS["DAC 16 kHz"].preset), scratch)
        codec, model = streamcodec.load(folder, pad=False), DacModel.from_pretrained(folder).eval()  # as the bare model
    return codec, copy.deepcopy(codec).double(), lambda x, kbps: from_dac(model, x, codec.spec.codebooks(kbps))


CODECS = {
    "bundled codec": bundled,
    "Lyra v2": lyra,
    "EnCodec 24 kHz, random weights": encodec,
    "DAC 16 kHz, random weights": dac,
}


def counts(made: tuple[Codec, Codec, Upstreams], folder: Path, minutes: float) -> dict[str, Any]:
    """Frames in all, and those that differ between each pair of runs, with how many of them are no near tie."""
    codec, double, upstream = made
    quantizer = double.quantizer if isinstance(double.quantizer, KINDS_OF_QUANTIZERS) else double.quantizer.codebooks
    total = {"frames": 0, "stream": 0, "stream, no near tie": 0, "upstream": 0, "upstream, no near tie": 0}
    kbps = codec.spec.bandwidths[-1]
    for wav in recordings(folder, codec.spec.sample_rate, minutes):
        wav = wav[..., : wav.shape[2] // codec.spec.hop_length * codec.spec.hop_length]
        offline, latents = codec.encode(wav, kbps).data, latents_of(double, wav)
        total["frames"] += offline.shape[2]
        for name, data in (("stream", frame_by_frame(codec, wav, kbps)), ("upstream", upstream(wav, kbps).codes)):
            total[name] += int((data != offline).any(1).sum())
            total[f"{name}, no near tie"] += compare_codes(latents, quantizer, data, offline)["wrong"]
    return total


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("minutes", type=float, nargs="?", default=10.0)
    arguments.add_argument("codec", nargs="?", default="", help="the beginning of its name; all without it")
    args = arguments.parse_args()
    torch.set_num_threads(1)
    failed = False
    for name, made in CODECS.items():
        if not name.startswith(args.codec) or (made is lyra and "LYRA_MODEL_COEFFS" not in os.environ):
            continue
        with torch.no_grad():
            found = counts(made(), args.folder, args.minutes)
        print(name, found, flush=True)
        failed |= bool(found["stream, no near tie"] or found["upstream, no near tie"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
