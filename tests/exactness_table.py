"""Prints the table of docs/exactness.md: ``python tests/exactness_table.py``.

Published sizes, random weights with codebooks fitted to their latents, noise of moving level; and the bundled codec,
which nobody else runs, against itself in float64, on the beginning of its recording. Exits with 1 where any code
differs that is no near tie.
"""

import copy
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

os.environ.setdefault("TRITON_INTERPRET", "1")  # transformers imports Triton

import encodec_package
import soundfile
import torch
from oracles import codec_of, compare_codes, cuts, fitted_codebooks, latents_of, random_transformers_model, signal
from torch import Tensor

import streamcodec
from streamcodec import Codec, Codes, codecs
from streamcodec.bench.pairs import open_pair
from streamcodec.bench.presets import PRESETS, Preset, make
from streamcodec.cli.roundtrip import RECORDING
from streamcodec.codecs.dac import DacCodec
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.semantic import SemanticBase
from streamcodec.codecs.xcodec import XcodecCodec
from streamcodec.nn.factorised import FactorisedQuantizer
from streamcodec.nn.split import SplitQuantizer

# What a line of the table is measured on; tests take a part of it.
SECONDS, FITTED = 3, 300  # of the signal, and the frames that codebooks are fitted to
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
# The heavy families, half a second of each: a preset's weights, saved, and read by transformers and by us.
HEAVY_SECONDS, HEAVY_FITTED = 0.5, 256
HEAVY = {
    "DAC 16 kHz": PRESETS["dac_16khz"],
    "DAC 24 kHz": PRESETS["dac_24khz"],
    "DAC 44.1 kHz": PRESETS["dac_44khz"],
    "DAC 44.1 kHz, 16 kbps": Preset(DacCodec, PRESETS["dac_44khz"].config | {"n_codebooks": 18, "hidden_size": 128}),
    "X-Codec, HuBERT": PRESETS["xcodec"],
    "X-Codec, WavLM": Preset(XcodecCodec, {"semantic_model_config": {"model_type": "wavlm"}}),
}
SNAC = {"SNAC 24 kHz": "snac_24khz", "SNAC 44.1 kHz": "snac_44khz"}
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


def from_dac(model: Any, wav: Tensor, count: int) -> Upstream:
    codes = model.encode(wav, n_quantizers=count).audio_codes
    return Upstream(codes, model.decode(audio_codes=codes).audio_values[:, None])


def from_xcodec(model: Any, wav: Tensor, bandwidth: float) -> Upstream:
    codes = model.encode(wav, bandwidth=bandwidth).audio_codes
    return Upstream(codes, model.decode(codes).audio_values)


def package_model(stereo: bool, frames: int) -> tuple[Any, EncodecCodec]:
    """The encodec package's model at published size, its codebooks fitted to `frames`, and ours with its weights."""
    sizes = {"n_filters": 32, "dimension": 128, "ratios": [8, 5, 4, 2], "num_codebooks": 8, "codebook_size": 1024}
    model = encodec_package.small_model(stereo, **sizes)
    books = fitted_codebooks(converted(model), 8, 1024, frames)
    for layer, book in zip(model.quantizer.vq.layers, books, strict=True):
        layer._codebook.embed.copy_(book)
    codec = converted(model)
    peak = codec.decode(codec.encode(signal(1, codec.spec.channels, 48_000), codec.spec.bandwidths[-1])).abs().max()
    last = model.decoder.model[-1].conv
    for parameter in last.norm.parameters() if stereo else (last.conv.weight_g, last.conv.bias):
        parameter.mul_(0.8 / peak)
    return model, converted(model)


def converted(model: Any) -> EncodecCodec:
    config, tensors = encodec_package.converted(model)
    published = PUBLISHED["EnCodec 48 kHz" if model.channels == 2 else "EnCodec 24 kHz"]["target_bandwidths"]
    config["target_bandwidths"] = [kbps for kbps in published if kbps <= config["target_bandwidths"][-1]]
    codec = codecs.build(config, tensors, name="converted")
    assert isinstance(codec, EncodecCodec)
    return codec.eval()


def stream(codec: Codec, wav: Tensor, bandwidth: float) -> Codes:
    encoder = codec.open_encoder(bandwidth)
    pieces = cuts(wav.shape[2], SEPARATE * (1 + wav.shape[2] // sum(SEPARATE)))
    return Codes.cat([*(encoder.push(wav[:, :, start:stop]) for start, stop in pieces), encoder.flush()])


def streams_as(codec: Codec, wav: Tensor, bandwidth: float) -> Codes:
    """What an encoder's stream has to equal, offline."""
    windowed = isinstance(codec, SemanticBase)
    return codec.encode_windowed(wav, bandwidth) if windowed else codec.encode(wav, bandwidth)


def streamed_pcm(codec: Codec, codes: Codes) -> Tensor:
    """The codes decoded in pieces of 1, 5 and 40 frames."""
    decoder, parts = codec.open_decoder(), []
    frames = codes.data.shape[2]
    for start, stop in cuts(frames, [1, 5, 40] * (1 + frames // 46)):
        if start == frames:
            continue  # nothing is left: the piece before had the end
        scale = None if codes.scale is None else codes.scale[:, start:stop]
        length = codes.length - codec.spec.samples(start) if stop == frames else None
        parts.append(decoder.push(Codes(codes.data[:, :, start:stop], scale, length)))
    return torch.cat([*parts, decoder.flush()], 2)


def some_bandwidths(codec: Codec) -> list[float]:
    """All of EnCodec's; of the others, the lowest and the highest."""
    offered = codec.spec.bandwidths
    return list(offered) if isinstance(codec, EncodecCodec) else [offered[0], offered[-1]]


def from_double(codec: Codec, wav: Tensor, bandwidth: float) -> Upstream:
    codes = codec.encode(wav, bandwidth)
    return Upstream(codes.data, codec.decode(codes))


class Row(NamedTuple):
    """What a line of the table says, but for its name."""

    against: str
    pcm: float
    compared: int
    differ: int
    wrong: int
    stream_pcm: float
    stream_differ: int
    stream_wrong: int
    stream_differ_double: int

    def cells(self, name: str) -> list[str]:
        numbers = [f"{value:.1e}" if isinstance(value, float) else f"{value:,}" for value in self[1:]]
        return [name, self.against, *numbers]

    @property
    def holds(self) -> bool:
        return not (self.wrong or self.stream_wrong or self.stream_differ_double)


def row(against: str, codec: Codec, double: Codec, upstream: Callable[[Tensor, float], Upstream], wav: Tensor) -> Row:
    """One line: sums and maxima over bandwidths."""
    counts = {"compared": 0, "differ": 0, "wrong": 0}
    streams = {"compared": 0, "differ": 0, "wrong": 0}
    pcm = own_pcm = 0.0
    known = isinstance(double.quantizer, (FactorisedQuantizer, SplitQuantizer))
    quantizer = double.quantizer if known else double.quantizer.codebooks
    latents = latents_of(double, wav)
    heard = latents_windowed(double, wav) if isinstance(double, SemanticBase) else latents
    for bandwidth in some_bandwidths(codec):
        theirs = upstream(wav, bandwidth)
        assert theirs.pcm.std() > 0.01, "a difference means nothing without a level to compare it with"
        offline = codec.encode(wav, bandwidth)
        add(counts, compare_codes(latents, quantizer, offline.data, theirs.codes))
        codes = Codes(theirs.codes, offline.scale, offline.length)
        offline_pcm = codec.decode(codes)
        pcm = max(pcm, float((offline_pcm - theirs.pcm[:, :, : offline.length]).abs().max()))
        own_pcm = max(own_pcm, float((streamed_pcm(codec, codes) - offline_pcm).abs().max()))
        whole = streams_as(codec, wav, bandwidth) if isinstance(codec, SemanticBase) else offline
        add(streams, compare_codes(heard, quantizer, stream(codec, wav, bandwidth).data, whole.data))
    # Once: the codes of a lower bandwidth are the first of a higher one's.
    highest = codec.spec.bandwidths[-1]
    exact = int((stream(double, wav, highest).data != streams_as(double, wav, highest).data).sum())
    return Row(against, pcm, *counts.values(), own_pcm, streams["differ"], streams["wrong"], exact)


def latents_windowed(codec: SemanticBase, wav: Tensor) -> Tensor:
    """What the quantizer of a streaming encoder is given, [B, T, D]."""
    return codec.analyse_windowed(codec.as_rows(wav)).rows


def add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, value in more.items():
        total[name] += value


def noise(codec: Codec, part: float) -> Tensor:
    return signal(1, codec.spec.channels, round(part * SECONDS * codec.spec.sample_rate) + 123)


def encodec_row(name: str, part: float) -> Row:
    model = random_transformers_model(frames=FITTED, **SIZES | PUBLISHED[name])
    codec, double = codec_of(model), codec_of(model, torch.float64)
    wav = noise(codec, part)
    return row("transformers", codec, double, lambda x, kbps: from_transformers(model, x, kbps), wav)


def package_row(stereo: bool, part: float) -> Row:
    model, codec = package_model(stereo, FITTED)
    double = converted(model).double()
    return row("encodec package", codec, double, lambda x, kbps: from_package(model, x, kbps), noise(codec, part))


def heavy_row(name: str, part: float) -> Row:
    import transformers

    kind = name.partition(" ")[0].partition(",")[0]
    family = getattr(transformers, {"DAC": "DacModel", "X-Codec": "XcodecModel"}[kind])
    with tempfile.TemporaryDirectory() as scratch:
        folder = streamcodec.save(make(HEAVY[name], frames=HEAVY_FITTED), scratch)
        codec = streamcodec.load(folder, pad=False)  # as the bare models, without their processors
        model = family.from_pretrained(folder).eval()
    double = copy.deepcopy(codec).double()
    # 200 samples beyond whole frames: X-Codec's two branches disagree by a frame there.
    frames = int(part * HEAVY_SECONDS * codec.spec.frame_rate)
    wav = signal(1, 1, frames * codec.spec.hop_length + 200)

    def upstream(x: Tensor, bandwidth: float) -> Upstream:
        if kind == "X-Codec":
            return from_xcodec(model, x, bandwidth)
        return from_dac(model, x, codec.spec.codebooks(bandwidth))

    return row("transformers", codec, double, upstream, wav)


def snac_row(name: str, part: float) -> Row:
    """Against the snac package, without the noise that it draws anew at each call."""
    codec, upstream, highest = open_pair(name, None, frames=HEAVY_FITTED)
    wav = signal(1, 1, max(2, round(part * HEAVY_SECONDS * codec.spec.frame_rate)) * codec.spec.hop_length)

    def from_snac(x: Tensor, bandwidth: float) -> Upstream:
        codes, count = upstream.encode(x), codec.spec.codebooks(bandwidth)
        if bandwidth == highest:
            return Upstream(upstream.codes(codes), upstream.decode(codes))
        fewer = Codes(upstream.codes(codes)[:, :count])  # which the package cannot decode
        return Upstream(fewer.data, codec.decode(fewer))

    return row("snac package", codec, copy.deepcopy(codec).double(), from_snac, wav)


def bundled_row(part: float) -> Row:
    codec, double = streamcodec.load(), streamcodec.load(dtype=torch.float64)
    samples, rate = soundfile.read(RECORDING, dtype="float32", always_2d=True)
    assert rate == codec.spec.sample_rate
    wav = torch.from_numpy(samples[: round(part * SECONDS * rate)].T.copy())[None]
    return row("itself in float64", codec, double, lambda x, kbps: from_double(double, x, kbps), wav)


# Of what part of the table's noise.
ROWS: dict[str, Callable[[float], Row]] = {
    **{name: partial(encodec_row, name) for name in PUBLISHED},
    "EnCodec 24 kHz, `.th`": partial(package_row, False),
    "EnCodec 48 kHz, `.th`": partial(package_row, True),
    **{name: partial(heavy_row, name) for name in HEAVY},
    **{name: partial(snac_row, key) for name, key in SNAC.items()},
    "bundled codec": bundled_row,
}


def main() -> int:
    torch.set_num_threads(1)
    print("| " + " | ".join(HEAD) + " |")
    print("|---|---|" + "--:|" * (len(HEAD) - 2))
    failed = False
    for name, make_row in ROWS.items():
        with torch.no_grad():
            line = make_row(1)
        print("| " + " | ".join(line.cells(name)) + " |", flush=True)
        failed |= not line.holds
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
