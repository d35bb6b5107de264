"""Prints the table of docs/exactness.md: ``python tests/exactness_table.py [BEGINNING]``, or the lines that begin so.

Published sizes, random weights with codebooks fitted to their latents, noise of moving level; and the bundled codec,
which nobody else runs, and Lyra v2, whose own library computes in int8, against themselves in float64, on the beginning
of the bundled recording. (Lyra where LYRA_MODEL_COEFFS names the folder of its networks.) Exits with 1 where any code
differs that is no near tie.
"""

import copy
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRITON_INTERPRET", "1")  # transformers imports Triton

import encodec_package
import torch
from oracles import KINDS_OF_QUANTIZERS as KINDS
from oracles import codec_of, compare_codes, cuts, fitted_codebooks, random_transformers_model, signal
from torch import Tensor

import streamcodec
from streamcodec import Codec, Codes, codecs
from streamcodec.audio import AudioReader
from streamcodec.bench.presets import PRESETS, QWEN_TTS, SNAC, Preset
from streamcodec.bench.random_weights import make
from streamcodec.bench.upstream import upstream_of
from streamcodec.cli.roundtrip import RECORDING
from streamcodec.codecs.dac import DacCodec
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.pocket_tts import PocketTtsCodec
from streamcodec.codecs.qwen_tts import QwenTtsCodec
from streamcodec.codecs.semantic import SemanticBase
from streamcodec.codecs.snac import SnacCodec
from streamcodec.codecs.xcodec import XcodecCodec

sys.path.append(str(Path(__file__).parent / "codecs"))
import mimi_models
import pocket_tts_models

# What a line of the table is measured on; tests take a part of it (`Extent`).
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


class Pair(NamedTuple):
    """A preset whose weights are saved, and read by another implementation and by us.

    seconds: of noise; fitted: frames that codebooks are fitted to.
    """

    preset: Preset
    seconds: float = 0.5
    fitted: int = 256


PAIRS = {
    "DAC 16 kHz": Pair(PRESETS["dac_16khz"]),
    "DAC 24 kHz": Pair(PRESETS["dac_24khz"]),
    "DAC 44.1 kHz": Pair(PRESETS["dac_44khz"]),
    "DAC 44.1 kHz, 16 kbps": Pair(
        Preset(DacCodec, PRESETS["dac_44khz"].config | {"n_codebooks": 18, "hidden_size": 128})
    ),
    "X-Codec, HuBERT": Pair(PRESETS["xcodec"]),
    "X-Codec, WavLM": Pair(Preset(XcodecCodec, {"semantic_model_config": {"model_type": "wavlm"}})),
    "SNAC 24 kHz": Pair(PRESETS["snac_24khz"]),
    "SNAC 32 kHz": Pair(PRESETS["snac_32khz"], fitted=64),
    "SNAC 44.1 kHz": Pair(PRESETS["snac_44khz"]),
    "Mimi": Pair(PRESETS["mimi"], 2, 64),
    "Qwen3-TTS, 12.5 Hz": Pair(PRESETS["qwen3_tts_12hz"], 2, 64),
}


class Extent(NamedTuple):
    """What a line is measured on. noise, fitted: parts of the table's noise, and of the frames that codebooks are
    fitted to; all_bandwidths: or the highest alone, whose codes begin with those of the others.
    """

    noise: float = 1
    fitted: float = 1
    all_bandwidths: bool = True


LATENTS_WITHIN = 1e-5, 1e-9  # of the largest one, where there are no codes to compare, in float32 and float64
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


def some_bandwidths(codec: Codec, extent: Extent) -> list[float]:
    """All of EnCodec's; the highest of SNAC and Qwen3-TTS, whose packages decode no fewer codebooks; of the others, the
    lowest and the highest.
    """
    offered = codec.spec.bandwidths
    if isinstance(codec, (SnacCodec, QwenTtsCodec)) or not extent.all_bandwidths:
        return [offered[-1]]
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


def row(
    against: str,
    codec: Codec,
    double: Codec,
    upstream: Callable[[Tensor, float], Upstream],
    wav: Tensor,
    extent: Extent,
) -> Row:
    """One line: sums and maxima over bandwidths."""
    counts = {"compared": 0, "differ": 0, "wrong": 0}
    streams = {"compared": 0, "differ": 0, "wrong": 0}
    pcm = own_pcm = 0.0
    known = isinstance(double.quantizer, KINDS)
    quantizer = double.quantizer if known else double.quantizer.codebooks
    latents = double.analyse(double.filled(double.as_rows(wav))).rows
    heard = latents_windowed(double, wav) if isinstance(double, SemanticBase) else latents
    for bandwidth in some_bandwidths(codec, extent):
        theirs = upstream(wav, bandwidth)
        assert theirs.pcm.std() > 0.01, "a difference means nothing without a level to compare it with"
        offline = codec.encode(wav, bandwidth)
        add(counts, compare_codes(latents, quantizer, offline.data, theirs.codes))
        codes = Codes(theirs.codes, offline.scale, offline.length)
        offline_pcm = codec.decode(codes)
        pcm = max(pcm, float((offline_pcm - theirs.pcm[:, :, : offline.length]).abs().max()))
        own_pcm = max(own_pcm, float((streamed_pcm(codec, codes) - offline_pcm).abs().max()))
        # What an encoder's stream has to equal, offline.
        whole = codec.encode_windowed(wav, bandwidth) if isinstance(codec, SemanticBase) else offline
        add(streams, compare_codes(heard, quantizer, stream(codec, wav, bandwidth).data, whole.data))
    # Once: the codes of a lower bandwidth are the first of a higher one's. Offline ones are those of the latents above.
    highest = codec.spec.bandwidths[-1]
    expected = double.quantizer.encode(heard, double.spec.codebooks(highest)).transpose(1, 2)
    exact = int((stream(double, wav, highest).data != expected).sum())
    return Row(against, pcm, *counts.values(), own_pcm, streams["differ"], streams["wrong"], exact)


def latents_windowed(codec: SemanticBase, wav: Tensor) -> Tensor:
    """What the quantizer of a streaming encoder is given, [B, T, D]."""
    return codec.analyse_windowed(codec.as_rows(wav)).rows


def add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, value in more.items():
        total[name] += value


def noise(codec: Codec, extent: Extent) -> Tensor:
    return signal(1, codec.spec.channels, round(extent.noise * SECONDS * codec.spec.sample_rate) + 123)


def encodec_row(name: str, extent: Extent) -> Row:
    model = random_transformers_model(frames=round(extent.fitted * FITTED), **SIZES | PUBLISHED[name])
    codec, double = codec_of(model), codec_of(model, torch.float64)
    wav = noise(codec, extent)
    return row("transformers", codec, double, lambda x, kbps: from_transformers(model, x, kbps), wav, extent)


def package_row(stereo: bool, extent: Extent) -> Row:
    model, codec = package_model(stereo, round(extent.fitted * FITTED))
    double, wav = converted(model).double(), noise(codec, extent)
    return row("encodec package", codec, double, lambda x, kbps: from_package(model, x, kbps), wav, extent)


def pair_row(name: str, extent: Extent) -> Row:
    preset, seconds, fitted = PAIRS[name]
    snac = preset.build is SNAC
    with tempfile.TemporaryDirectory() as scratch:
        folder = streamcodec.save(make(preset, frames=round(extent.fitted * fitted)), scratch)
        # The others as bare models, without their processors; the snac package draws its noise anew at each call.
        codec = streamcodec.load(folder, noise="off") if snac else streamcodec.load(folder, pad=False)
        hop, frames = codec.spec.hop_length, max(2, int(extent.noise * seconds * codec.spec.frame_rate))
        # 200 samples beyond whole frames: X-Codec's two branches disagree by a frame there.
        wav = signal(1, 1, frames * hop + (0 if snac else 200))

        def upstream(x: Tensor, bandwidth: float) -> Upstream:
            other = upstream_of(codec, bandwidth, folder)
            assert other is not None
            encoded = other.encode(x)
            return Upstream(other.codes(encoded), other.decode(encoded))

        against, double = AGAINST.get(preset.build, "transformers"), copy.deepcopy(codec).double()
        return row(against, codec, double, upstream, wav, extent)


AGAINST: dict[Any, str] = {SNAC: "snac package", QWEN_TTS: "transformers' Mimi, qwen-tts"}


def higgs_row(extent: Extent) -> Row:
    import higgs_models  # which needs a transformers that has it

    acoustic = {"encoder_hidden_size": 64, "decoder_hidden_size": 1024, "hidden_size": 256}
    model = higgs_models.transformers_model(
        acoustic_model_config=higgs_models.SMALL["acoustic_model_config"] | acoustic, codebook_size=1024,
        semantic_model_config={"model_type": "hubert"}, codebook_dim=64, target_bandwidths=[0.5, 1, 1.5, 2],
    )  # fmt: skip
    codec, double = (higgs_models.codec_of(model, dtype) for dtype in (torch.float32, torch.float64))
    codec.pad = double.pad = False
    wav = signal(1, 1, int(extent.noise * 25) * codec.spec.hop_length + 200)
    return row("transformers", codec, double, lambda x, kbps: from_xcodec(model, x, kbps), wav, extent)


def pocket_row(extent: Extent) -> Row:
    """It has latents and no codes: those are counted that lie further off than `LATENTS_WITHIN`."""
    torch.manual_seed(0)
    codec = PocketTtsCodec({}).eval()
    mimi_models.settle_layers(codec)
    wav = signal(1, 1, int(extent.noise * 25) * codec.spec.hop_length)
    mimi_models.settle_level(codec, lambda: codec.decode_latents(codec.encode_latents(wav)))
    double, theirs = copy.deepcopy(codec).double(), pocket_tts_models.transformers_model(codec)
    expected = theirs.encode(wav).latents.transpose(1, 2)
    latents, audio = codec.encode_latents(wav), codec.decode_latents(expected)
    apart = audio - theirs.decode(expected.transpose(1, 2)).audio_values
    differ, streamed = far(latents, expected, 0), far(latents_streamed(codec, wav), latents, 0)
    exact = far(latents_streamed(double, wav.double()), double.encode_latents(wav.double()), 1)
    own = latents_heard(codec, expected) - audio
    pcm, own_pcm = (float(difference.abs().max()) for difference in (apart, own))
    return Row("transformers", pcm, latents.numel(), differ, differ, own_pcm, streamed, streamed, exact)


def far(latents: Tensor, others: Tensor, precision: int) -> int:
    return int(((latents - others).abs() > LATENTS_WITHIN[precision] * others.abs().max()).sum())


def latents_streamed(codec: Codec, wav: Tensor) -> Tensor:
    encoder = codec.open_latent_encoder()
    pieces = cuts(wav.shape[2], SEPARATE * (1 + wav.shape[2] // sum(SEPARATE)))
    return torch.cat([*(encoder.push(wav[:, :, start:stop]) for start, stop in pieces), encoder.flush()], 2)


def latents_heard(codec: Codec, latents: Tensor) -> Tensor:
    decoder = codec.open_latent_decoder()
    pieces = cuts(latents.shape[2], [1, 5, 40])
    return torch.cat([*(decoder.push(latents[:, :, start:stop]) for start, stop in pieces), decoder.flush()], 2)


def own_row(load: Callable[..., Codec], extent: Extent) -> Row:
    """A codec that nobody else runs in float32, on the bundled recording."""
    codec, double = load(), load(dtype=torch.float64)
    with AudioReader(RECORDING, codec.spec.sample_rate, 1, codec.spec.sample_rate) as reader:
        wav = torch.cat([torch.from_numpy(block) for block in reader], 1)[None]
    wav = wav[..., : round(extent.noise * SECONDS * codec.spec.sample_rate)]
    return row("itself in float64", codec, double, lambda x, kbps: from_double(double, x, kbps), wav, extent)


def lyra(**options: Any) -> Codec:
    return streamcodec.load(os.environ["LYRA_MODEL_COEFFS"], **options)


ROWS: dict[str, Callable[[Extent], Row]] = {
    **{name: partial(encodec_row, name) for name in PUBLISHED},
    "EnCodec 24 kHz, `.th`": partial(package_row, False),
    "EnCodec 48 kHz, `.th`": partial(package_row, True),
    **{name: partial(pair_row, name) for name in PAIRS},
    "Higgs Audio v2": higgs_row,
    "Pocket TTS": pocket_row,
    "bundled codec": partial(own_row, streamcodec.load),
    "Lyra v2": partial(own_row, lyra),
}


def main(wanted: str = "") -> int:
    torch.set_num_threads(1)
    print("| " + " | ".join(HEAD) + " |")
    print("|---|---|" + "--:|" * (len(HEAD) - 2))
    failed = False
    for name, make_row in ROWS.items():
        if not name.startswith(wanted) or (name == "Lyra v2" and "LYRA_MODEL_COEFFS" not in os.environ):
            continue
        with torch.no_grad():
            line = make_row(Extent())
        print("| " + " | ".join(line.cells(name)) + " |", flush=True)
        failed |= not line.holds
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
