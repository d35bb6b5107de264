"""Prints the table of docs/exactness.md: ``python tests/exactness_table.py``.

Published sizes, random weights with codebooks fitted to their latents, 3 s of noise of moving level; and the bundled
codec on the first 3 s of its recording. Exits with 1 where any code differs that is no near tie.
"""

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRITON_INTERPRET", "1")  # transformers imports Triton

import soundfile
import torch
from encodec_package import small_model
from oracles import codec_of, compare_codes, cuts, fitted_codebooks, latents_of, random_transformers_model, signal
from torch import Tensor

import streamcodec
from streamcodec import Codes, codecs
from streamcodec.checkpoint import weights
from streamcodec.codecs.encodec import EncodecCodec

SECONDS = 3
SIZES: dict[str, Any] = {
    "num_filters": 32,
    "hidden_size": 128,
    "codebook_size": 1024,
    "upsampling_ratios": [8, 5, 4, 2],
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "EnCodec 24 kHz": {"sampling_rate": 24_000, "target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0]},
    "EnCodec 32 kHz": {
        "sampling_rate": 32_000,
        "num_filters": 64,
        "codebook_size": 2048,
        "upsampling_ratios": [8, 5, 4, 4],
        "target_bandwidths": [2.2],
        "use_causal_conv": False,
        "use_conv_shortcut": False,
    },
    "EnCodec 48 kHz": {
        "sampling_rate": 48_000,
        "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
        "audio_channels": 2,
        "normalize": True,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "norm_type": "time_group_norm",
        "use_causal_conv": False,
    },
}
SEPARATE = [7, 960, 4001, 1, 320, 12_345]  # samples a push, in turn
HEAD = [
    "configuration",
    "compared with",
    "PCM, max difference",
    "codes compared",
    "differ",
    "of these no near tie",
    "stream against offline: PCM, max difference",
    "codes that differ, float32",
    "of these no near tie",
    "codes that differ, float64",
]


class Upstream(NamedTuple):
    """What another implementation made of the signal at one bandwidth: codes [B, K, T], and the audio of these."""

    codes: Tensor
    pcm: Tensor


def from_transformers(model: Any, wav: Tensor, bandwidth: float) -> Upstream:
    encoded = model.encode(wav, bandwidth=bandwidth)
    codes = torch.cat(list(encoded.audio_codes), 2)
    codes = codes[:, :, : codes.shape[2] - encoded.last_frame_pad_length]
    return Upstream(codes, model.decode(**encoded)[0][:, :, : wav.shape[2]])


def from_package(model: Any, wav: Tensor, bandwidth: float) -> Upstream:
    model.bandwidth = bandwidth
    frames = model.encode(wav)
    return Upstream(torch.cat([codes for codes, _ in frames], 2), model.decode(frames)[:, :, : wav.shape[2]])


def package_model(stereo: bool) -> tuple[Any, EncodecCodec]:
    """The encodec package's model at published size, its codebooks fitted, and ours with the same weights."""
    sizes = {"n_filters": 32, "dimension": 128, "ratios": [8, 5, 4, 2], "num_codebooks": 8, "codebook_size": 1024}
    model = small_model(stereo, **sizes)
    books = fitted_codebooks(converted(model), 8, 1024)
    for layer, book in zip(model.quantizer.vq.layers, books, strict=True):
        layer._codebook.embed.copy_(book)
    codec = converted(model)
    peak = codec.decode(codec.encode(signal(1, codec.spec.channels, 48_000), codec.spec.bandwidths[-1])).abs().max()
    last = model.decoder.model[-1].conv
    for parameter in last.norm.parameters() if stereo else (last.conv.weight_g, last.conv.bias):
        parameter.mul_(0.8 / peak)
    return model, converted(model)


def converted(model: Any) -> EncodecCodec:
    config, tensors = codecs.convert_original(weights.plain(model.state_dict(), "model.th"), "model.th")
    codec = codecs.build(config, tensors, name="converted")
    assert isinstance(codec, EncodecCodec)
    return codec.eval()


def stream(codec: EncodecCodec, wav: Tensor, bandwidth: float) -> Codes:
    encoder = codec.open_encoder(bandwidth)
    pieces = cuts(wav.shape[2], SEPARATE * (wav.shape[2] // sum(SEPARATE)))
    return Codes.cat([*(encoder.push(wav[:, :, start:stop]) for start, stop in pieces), encoder.flush()])


def streamed_pcm(codec: EncodecCodec, codes: Codes) -> Tensor:
    """The codes decoded in pieces of 1, 5 and 40 frames."""
    decoder, parts = codec.open_decoder(), []
    frames = codes.data.shape[2]
    for start, stop in cuts(frames, [1, 5, 40] * (frames // 46)):
        scale = None if codes.scale is None else codes.scale[:, start:stop]
        length = codes.length - codec.spec.samples(start) if stop == frames else None
        parts.append(decoder.push(Codes(codes.data[:, :, start:stop], scale, length)))
    return torch.cat([*parts, decoder.flush()], 2)


def row(name: str, against: str, codec: EncodecCodec, double: EncodecCodec, upstream: Any, wav: Tensor) -> list[str]:
    """One line of the table: sums and maxima over the bandwidths."""
    counts = {"compared": 0, "differ": 0, "wrong": 0}
    streams = {"compared": 0, "differ": 0, "wrong": 0}
    exact, pcm, own_pcm = 0, 0.0, 0.0
    latents, books = latents_of(double, wav), double.quantizer.codebooks
    for bandwidth in codec.spec.bandwidths:
        theirs = upstream(wav, bandwidth)
        assert theirs.pcm.abs().max() > 0.1, "a difference means nothing without a level to compare it with"
        offline = codec.encode(wav, bandwidth)
        add(counts, compare_codes(latents, books, offline.data, theirs.codes))
        codes = Codes(theirs.codes, offline.scale, wav.shape[2])
        offline_pcm = codec.decode(codes)
        pcm = max(pcm, float((offline_pcm - theirs.pcm).abs().max()))
        own_pcm = max(own_pcm, float((streamed_pcm(codec, codes) - offline_pcm).abs().max()))
        add(streams, compare_codes(latents, books, stream(codec, wav, bandwidth).data, offline.data))
        exact += int((stream(double, wav, bandwidth).data != double.encode(wav, bandwidth).data).sum())
    cells = [name, against, f"{pcm:.1e}", *(f"{value:,}" for value in counts.values()), f"{own_pcm:.1e}"]
    return [*cells, f"{streams['differ']:,}", f"{streams['wrong']:,}", f"{exact:,}"]


def add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, value in more.items():
        total[name] += value


def bundled_row() -> list[str]:
    from transformers import EncodecModel

    folder = Path(streamcodec.__file__).parent / "bundled"
    codec, double = streamcodec.load(), streamcodec.load(dtype=torch.float64)
    model = EncodecModel.from_pretrained(next(folder.glob("*/config.json")).parent).eval()
    samples, rate = soundfile.read(next(folder.glob("*.flac")), dtype="float32", always_2d=True)
    assert rate == codec.spec.sample_rate
    wav = torch.from_numpy(samples[: SECONDS * rate].T.copy())[None]
    return row("bundled codec", "transformers", codec, double, lambda x, kbps: from_transformers(model, x, kbps), wav)


def rows() -> list[list[str]]:
    table = []
    for name, config in PUBLISHED.items():
        model = random_transformers_model(**SIZES | config)
        codec, double = codec_of(model), codec_of(model, torch.float64)
        wav = signal(1, codec.spec.channels, SECONDS * codec.spec.sample_rate + 123)
        upstream = lambda x, kbps, model=model: from_transformers(model, x, kbps)  # noqa: E731
        table.append(row(name, "transformers", codec, double, upstream, wav))
    for name, stereo in (("EnCodec 24 kHz, `.th`", False), ("EnCodec 48 kHz, `.th`", True)):
        model, codec = package_model(stereo)
        double = converted(model).double()
        wav = signal(1, codec.spec.channels, SECONDS * codec.spec.sample_rate + 123)
        upstream = lambda x, kbps, model=model: from_package(model, x, kbps)  # noqa: E731
        table.append(row(name, "encodec package", codec, double, upstream, wav))
    return [*table, bundled_row()]


def main() -> int:
    torch.set_num_threads(1)
    with torch.no_grad():
        table = rows()
    print("| " + " | ".join(HEAD) + " |")
    print("|---|---|" + "--:|" * (len(HEAD) - 2))
    for cells in table:
        print("| " + " | ".join(cells) + " |")
    return int(any(cells[5] != "0" or cells[8] != "0" or cells[9] != "0" for cells in table))


if __name__ == "__main__":
    sys.exit(main())
