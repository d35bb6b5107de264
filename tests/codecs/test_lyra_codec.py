"""Lyra v2: its files to our layers, streams equal to offline; with its own weights, tflite's codes."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import exactness_speech
import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts, fitted_codebooks, signal

import streamcodec
from streamcodec import Codes
from streamcodec.checkpoint import load, save
from streamcodec.codecs.lyra import LyraCodec
from streamcodec.errors import CheckpointError, ConfigError

sys.path.append(str(Path(__file__).parent.parent / "checkpoint"))
from tflite_writer import Constant, Operator, model

# The folder lyra/model_coeffs of github.com/google/lyra, for the tests with its own weights.
COEFFICIENTS = os.environ.get("LYRA_MODEL_COEFFS")
with_its_weights = pytest.mark.skipif(
    COEFFICIENTS is None, reason="LYRA_MODEL_COEFFS names no folder model_coeffs of google/lyra"
)
SPEECH = os.environ.get("STREAMCODEC_SPEECH")  # a folder with ten minutes of recordings, for the longest test


@cache
def random_codec(dtype: torch.dtype = torch.float32) -> LyraCodec:
    torch.manual_seed(3)
    codec = LyraCodec().eval()
    with torch.no_grad():
        for name, weight in codec.named_parameters():
            weight.mul_(0.1 if name.endswith("bias") else 0.6)
        codec.quantizer.set_codebooks(fitted_codebooks(codec, *codec.quantizer.codebooks.shape[:2]))
        codec.decoder.layers[-1].weight.mul_(0.25 / codec.decode(codec.encode(signal(1, 1, 16_000))).std())
    return codec.to(dtype)


def write(codec: LyraCodec, folder: Path) -> None:
    """As Lyra's three files, transposed convolutions of several groups each in an operator of its own."""
    networks: dict[str, list[Operator]] = {"encoder": [], "decoder": []}
    for path, conv in codec._convolutions():
        weight, bias = conv.torch_weight().detach().numpy(), conv.bias.detach().numpy()
        operators, groups = networks[path.split(".")[0]], getattr(conv, "groups", 1)
        if type(conv).__name__ == "DepthwiseConv1d":
            operators.append(Operator("depthwise", Constant(weight[:, 0].T[None, :, None]), Constant(bias)))
        elif "Transpose" in type(conv).__name__:
            for part, offset in zip(np.split(weight, groups), np.split(bias, groups), strict=True):
                operators.append(
                    Operator("transposed", Constant(part.transpose(1, 2, 0)[:, :, None]), Constant(offset))
                )
        else:
            operators.append(Operator("conv", Constant(weight.transpose(0, 2, 1)[:, :, None]), Constant(bias)))
    books = codec.quantizer.codebooks.numpy()
    tables = [Constant(entries, f"transpose_{i}" if i else "transpose") for i, entries in enumerate(books)]
    (folder / "soundstream_encoder.tflite").write_bytes(model(networks["encoder"]))
    (folder / "lyragan.tflite").write_bytes(model(networks["decoder"]))
    (folder / "quantizer.tflite").write_bytes(model([], tables))


def test_its_three_files_are_the_codec(tmp_path: Path) -> None:
    codec, wav = random_codec(), signal(1, 1, 6000)
    write(codec, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, LyraCodec)
    assert again.fingerprint == codec.fingerprint
    assert torch.equal(again.encode(wav).data, codec.encode(wav).data)
    save(again, tmp_path / "saved")
    assert load(tmp_path / "saved").fingerprint == codec.fingerprint


@pytest.mark.parametrize("missing", ["lyragan", "quantizer", "soundstream_encoder"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write(random_codec(), tmp_path)
    (tmp_path / f"{missing}.tflite").unlink()
    with pytest.raises(CheckpointError, match=f"{missing}.tflite is not beside"):
        load(tmp_path)


def test_what_it_is() -> None:
    spec = random_codec().spec
    assert (spec.sample_rate, spec.hop_length, spec.delay, spec.prefill_frames) == (16_000, 320, 320, 0)
    assert {kbps: spec.codebooks(kbps) for kbps in spec.bandwidths} == {3.2: 16, 6.0: 30, 9.2: 46}
    # A second of 50 frames in each direction: 2.0 M multiply-adds a frame, with dense layers it were three times that.
    assert random_codec().framing.multiply_adds() == (1_995_008, 1_995_008)
    with pytest.raises(ConfigError, match="sampling_rate is 24000"):
        LyraCodec({"sampling_rate": 24_000})


@settings(max_examples=8)
@given(
    st.integers(0, 40) | st.integers(0, 3000),
    st.sampled_from([3.2, 6.0, 9.2]),
    st.lists(st.integers(0, 700), max_size=8),
)
def test_streams_equal_the_offline_calls(samples: int, bandwidth: float, pieces: list[int]) -> None:
    codec, wav = random_codec(torch.float64), signal(1, 1, samples, samples)
    encoder, decoder = codec.open_encoder(bandwidth), codec.open_decoder()
    parts = [*(encoder.push(wav[:, :, first:stop]) for first, stop in cuts(samples, pieces)), encoder.flush()]
    codes, expected = Codes.cat(parts), codec.encode(wav, bandwidth)
    assert torch.equal(codes.data, expected.data)
    assert codes.length == samples
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)
    assert pcm.shape == wav.shape


# -- with its own weights --------------------------------------------------------------------------------------------


def speech() -> np.ndarray:
    samples, rate = soundfile.read(next(Path(streamcodec.__file__).parent.glob("bundled/*.flac")), dtype="float32")
    wav = np.clip(np.round(soxr.resample(samples, rate, 16_000) * 32_768), -32_768, 32_767) / 32_768
    return wav[: len(wav) // 320 * 320].astype(np.float32)


def below(error: Any, of: Any) -> float:
    """dB by which a difference lies below a signal."""
    return float(10 * np.log10(np.square(of).sum() / np.square(error).sum()))


@with_its_weights
def test_its_codes_are_those_of_tensorflow_lite() -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install ai-edge-litert")
    from streamcodec.evaluate import lyra

    theirs, codec, wav = lyra.Lyra(Path(COEFFICIENTS or "")), load(COEFFICIENTS), speech()[: 16_000 * 4]
    latents = lyra._run(theirs._load(lyra.ENCODER), wav.reshape(-1, 320))
    quantizer = theirs._load(lyra.QUANTIZER, delegates=False)
    encode, decode = (quantizer.get_signature_runner(name) for name in ("encode", "decode"))
    codes = np.stack([lyra._encode(encode, row) for row in latents])
    ours = codec.quantize(torch.from_numpy(latents.T[None].copy())).data[0].T.numpy()
    assert np.array_equal(ours, codes)
    # What differs is what their layers in int8 round.
    own = codec.encode_latents(wav[None, None])[0].T.detach().numpy()
    assert below(own - latents, latents) > 20
    audio = lyra._run(theirs._load(lyra.DECODER), np.stack([lyra._decode(decode, row) for row in codes])).reshape(-1)
    assert below(codec.decode(codes.T[None])[0, 0].numpy() - audio, audio) > 18


@with_its_weights
def test_its_streams_on_speech_equal_the_offline_calls() -> None:
    codec, wav = load(COEFFICIENTS), torch.from_numpy(speech())[None, None]
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    parts = [*(encoder.push(wav[..., i : i + 320]) for i in range(0, wav.shape[2], 320)), encoder.flush()]
    codes, expected = Codes.cat(parts), codec.encode(wav)
    flipped = (codes.data != expected.data).any(1).sum()
    assert flipped <= 1  # a near tie now and then: in float64 there is none
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    torch.testing.assert_close(pcm, codec.decode(codes), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@with_its_weights
@pytest.mark.skipif(SPEECH is None, reason="STREAMCODEC_SPEECH names no folder of recordings")
def test_ten_minutes_of_recordings_streamed_have_the_offline_codes_but_for_near_ties() -> None:
    found = exactness_speech.counts(exactness_speech.lyra(), Path(str(SPEECH)), 10)
    assert found["frames"] > 29_000
    assert found["stream, no near tie"] == found["upstream, no near tie"] == 0
    assert found["stream"] < found["frames"] / 1000
