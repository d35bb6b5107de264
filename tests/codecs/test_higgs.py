"""Higgs Audio v2's tokenizer: equal to transformers offline; its decoder streams exactly, its encoder as declared."""

from pathlib import Path

import pytest
import torch
from oracles import cuts

pytest.importorskip(
    "transformers.models.higgs_audio_v2_tokenizer", reason="this transformers has no HiggsAudioV2TokenizerModel"
)

from higgs_models import SMALL, codec_of, double, resampled, small_codec, transformers_model
from xcodec_models import noise

from streamcodec import Codes
from streamcodec.checkpoint import load, save
from streamcodec.codecs import SemanticWindow
from streamcodec.codecs.higgs import FILTER, HiggsCodec
from streamcodec.codecs.semantic_model import resample
from streamcodec.errors import ConfigError

HOP = 960
WINDOW = SemanticWindow(3, 2, 2)


# -- offline -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_offline_equals_transformers_at_every_length() -> None:
    """Every residue where the branches agree, disagree by a frame, and agree again."""
    codec, single, oracle = small_codec(), small_codec(torch.float32), double(transformers_model())
    for samples in (119, 120, 959, *(HOP * 3 + residue for residue in (0, 1, 119, 120, 121, 480, 631, 632, 633, 959))):
        wav = noise(2, samples, samples)
        lost = 0 < samples % HOP < 120  # here upstream drops samples; by default a frame with zeros is added
        codec.pad = True
        assert codec.encode(wav).data.shape[2] == -(-samples // HOP)
        assert codec.encode(wav).length == samples
        codec.pad = not lost
        for bandwidth in (None, codec.spec.bandwidths[0]):
            with torch.no_grad():
                expected = oracle.encode(wav, bandwidth).audio_codes
                decoded = oracle.decode(expected).audio_values
            assert torch.equal(codec.encode(wav, bandwidth).data, expected), samples
            torch.testing.assert_close(codec.decode(expected), decoded, rtol=0, atol=1e-10)
            torch.testing.assert_close(single.decode(expected).double(), decoded, rtol=0, atol=1e-5)
    codec.pad = True


def test_it_gives_what_transformers_gives() -> None:
    codec, oracle, wav = small_codec(), double(transformers_model()), noise(2, 12 * HOP)
    with torch.no_grad():
        expected = oracle.encode(wav).audio_codes
        decoded = oracle.decode(expected).audio_values
    assert torch.equal(codec.encode(wav).data, expected)
    assert len(expected.unique()) > 8
    torch.testing.assert_close(codec.decode(expected), decoded, rtol=0, atol=1e-10)
    torch.testing.assert_close(small_codec(torch.float32).decode(expected).double(), decoded, rtol=0, atol=1e-5)
    assert decoded.std() > 0.05


@pytest.mark.parametrize(("old", "new"), [(24_000, 16_000), (16_000, 24_000), (44_100, 16_000)])
def test_the_resampler_is_torchaudios(old: int, new: int) -> None:
    for samples in (1, 2, 3, 441, 600):
        wav = noise(2, samples)[:, 0]
        torch.testing.assert_close(resample(wav, old, new, *FILTER), resampled(wav, old, new), rtol=0, atol=1e-12)


def test_the_published_numbers() -> None:
    spec = HiggsCodec(SMALL | {"codebook_size": 1024, "target_bandwidths": [0.5, 1, 1.5, 2]}).spec
    assert (spec.sample_rate, spec.hop_length, spec.frame_rate, spec.num_codebooks) == (24_000, 960, 25.0, 8)
    assert (spec.encoder_delay, spec.decoder_delay) == (22_174, 9458)  # the window costs nothing


# -- streams -------------------------------------------------------------------------------------------------------


def test_streams_equal_what_they_promise() -> None:
    codec = small_codec()
    for samples, pieces in ((9 * HOP, [HOP] * 8), (9 * HOP + 77, [1, 4000, 20]), (100, [50]), (0, [])):
        wav = noise(2, samples, samples)
        encoder, decoder = codec.open_encoder(batch=2, window=WINDOW), codec.open_decoder(batch=2)
        parts = [*(encoder.push(wav[:, :, first:stop]) for first, stop in cuts(samples, pieces)), encoder.flush()]
        codes, expected = Codes.cat(parts), codec.encode_windowed(wav, window=WINDOW)
        assert torch.equal(codes.data, expected.data)
        assert codes.length == expected.length == samples
        pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
        assert pcm.shape == wav.shape
        torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)


def test_a_window_that_covers_the_signal_is_the_offline_call() -> None:
    codec, wav = small_codec(), noise(1, 8 * HOP)
    assert torch.equal(codec.encode_windowed(wav, window=SemanticWindow(8, 8, 8)).data, codec.encode(wav).data)


def test_saved_streams_go_on_to_the_bit() -> None:
    codec, wav = small_codec(), noise(1, 8 * HOP)
    encoder, decoder = codec.open_encoder(window=WINDOW), codec.open_decoder()
    head = encoder.push(wav[..., :4000])
    audio = decoder.push(head)
    again, heard = codec.open_encoder(state=encoder.save()), codec.open_decoder(state=decoder.save())
    tails = [[one.push(wav[..., 4000:]), one.flush()] for one in (encoder, again)]
    assert all(torch.equal(one.data, other.data) for one, other in zip(*tails, strict=True))
    ends = [torch.cat([*(one.push(part) for part in tails[0]), one.flush()], 2) for one in (decoder, heard)]
    assert torch.equal(*ends)
    assert audio.shape[2] + ends[0].shape[2] == 8 * HOP


# -- the quantizer, files ------------------------------------------------------------------------------------------


def test_stages_add_up_and_gradients_pass_straight_through() -> None:
    codec = small_codec()
    latents = codec.encode_latents(noise(1, 8 * HOP)).detach().requires_grad_()
    for count in (1, 2, 4):
        found, codes = (
            codec.straight_through(latents, num_codebooks=count),
            codec.quantize(latents, num_codebooks=count),
        )
        assert torch.equal(found.codes.data, codes.data)
        torch.testing.assert_close(found.latents, codec.dequantize(codes))
        torch.testing.assert_close(codec.dequantize(codes, per_stage=True).sum(1), codec.dequantize(codes))
        for stage in range(count):
            seen = found.looked_up[:, stage].transpose(1, 2)
            nearest = torch.cdist(seen, codec.quantizer.codebooks[stage][None]).argmin(2)
            assert torch.equal(nearest, codes.data[:, stage])
        found.latents.square().sum().backward()
        assert float(latents.grad.abs().sum()) > 0
        latents.grad = None


def test_what_is_saved_comes_back_to_the_bit_and_transformers_reads_it(tmp_path: Path) -> None:
    codec, wav = small_codec(torch.float32), noise(1, 4 * HOP)
    save(codec, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, HiggsCodec)
    assert (again.config, again.fingerprint) == (codec.config, codec.fingerprint)
    theirs = codec_of(double(transformers_model()))
    assert torch.equal(again.double().encode(wav).data, theirs.encode(wav).data)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"downsample_factor": 500},
            "a frame of 960 samples at 24000 Hz is no whole number of the speech model's rows",
        ),
        ({"semantic_sample_rate": "16"}, "semantic_sample_rate is '16'; it must be a whole number"),
        ({"strides": [1, 2]}, "the semantic encoder"),
        ({"channel_ratios": [1, 2]}, "channel_ratios end at 2"),
    ],
)
def test_what_cannot_be_run_is_refused(change: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        HiggsCodec(SMALL | change)
