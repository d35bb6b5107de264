"""The spectral family: streams equal to offline, its delay, its memory, its files, and what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_codes_agree, cuts, latents_of, signal
from safetensors.torch import load_file
from spectral_models import SMALL, small_codec

from streamcodec import Codes
from streamcodec.checkpoint import load, save
from streamcodec.codecs.spectral import SpectralCodec, SpectralConfig
from streamcodec.errors import CheckpointError, ConfigError

VARIANTS = [
    {},
    {"kernel_size": 1, "encoder_blocks": 0},
    {"hop_length": 5, "sampling_rate": 500, "decoder_blocks": 0, "bands": 1},
    {"encoder_blocks": 1, "kernel_size": 7, "expansion": 1, "bands": 3, "target_bandwidths": (0.8,)},
]
small_codecs = st.sampled_from(VARIANTS).map(lambda variant: small_codec(**variant))
sizes = st.lists(st.integers(0, 90) | st.integers(0, 7), max_size=12)
samples_of_any_length = st.integers(0, 20) | st.integers(0, 400)


# -- streams -------------------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(small_codecs, samples_of_any_length, st.integers(1, 2), st.data(), sizes, st.sampled_from(["exact", "primed"]))
def test_streams_equal_the_offline_calls(codec, samples, batch, data, pieces, start):
    wav, bandwidth = signal(batch, 1, samples, samples), data.draw(st.sampled_from(codec.spec.bandwidths))
    encoder = codec.open_encoder(bandwidth, batch, start=start)
    parts = [*(encoder.push(wav[:, :, first:stop]) for first, stop in cuts(samples, pieces)), encoder.flush()]
    codes, expected = Codes.cat(parts), codec.encode(wav, bandwidth)
    assert torch.equal(codes.data, expected.data)
    assert codes.length == expected.length == samples
    decoder = codec.open_decoder(batch, start=start)
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    assert pcm.shape == wav.shape
    torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)


@given(small_codecs, samples_of_any_length)
def test_a_recording_comes_back_whole_in_one_frame_more_than_it_fills(codec, samples):
    wav, hop = signal(1, 1, samples, samples), codec.spec.hop_length
    codes = codec.encode(wav)
    assert codes.data.shape[2] == (-(-samples // hop) + 1 if samples else 0)
    assert codec.decode(codes).shape == wav.shape


@given(small_codecs, st.integers(1, 300), sizes, st.integers(0, 40))
def test_saved_streams_go_on_to_the_bit(codec, samples, pieces, at):
    wav = signal(1, 1, samples, samples)
    at = min(at, samples)
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    codes = [encoder.push(wav[..., :at])]
    audio = [decoder.push(codes[0])]
    encoder, decoder = codec.open_encoder(state=encoder.save()), codec.open_decoder(state=decoder.save())
    codes += [encoder.push(wav[..., at:]), encoder.flush()]
    audio += [decoder.push(codes[1]), decoder.push(codes[2]), decoder.flush()]
    expected = codec.encode(wav)
    assert torch.equal(Codes.cat(codes).data, expected.data)
    torch.testing.assert_close(torch.cat(audio, 2), codec.decode(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize("level", [1e-4, 1e-2, 1.0, 30.0], ids=["quiet", "soft", "loud", "clipped"])
def test_float32_codes_are_those_of_float64_but_for_near_ties(level):
    codec, single = small_codec(), small_codec(torch.float32)
    wav = torch.cat([(level * signal(1, 1, 3000)).clamp(-1, 1), torch.zeros(1, 1, 600), signal(1, 1, 600)], 2)
    codes, ours = codec.encode(wav), single.encode(wav)
    latents = latents_of(codec, codec.filled(codec.as_rows(wav)).transpose(1, 2))
    assert_codes_agree(latents, codec.quantizer.codebooks, ours.data, codes.data)
    audio = codec.decode(codes)
    torch.testing.assert_close(single.decode(codes).double(), audio, rtol=0, atol=1e-5)
    assert audio.std() > 0.01


def test_weights_written_before_the_first_use_are_those_of_streams():
    """Also in ways that torch does not see: parts of the step are copies of weights, made when a codec is built."""
    codec = SpectralCodec(SMALL).double()
    for name, parameter in codec.named_parameters():
        parameter.data.copy_(dict(small_codec().named_parameters())[name])
    codec.quantizer.codebooks.data.copy_(small_codec().quantizer.codebooks)
    wav, stream = signal(1, 1, 600), codec.open_encoder()
    codes = Codes.cat([stream.push(wav), stream.flush()])
    assert torch.equal(codes.data, small_codec().encode(wav, 0.8).data)


# -- delay and memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "hop"), [(24_000, 320), (24_000, 240), (16_000, 320), (16_000, 200), (48_000, 480)])
def test_the_delay_is_a_frame_and_a_frame_of_lag(rate, hop):
    config = SMALL | {"sampling_rate": rate, "hop_length": hop}
    each = 4 * rate / hop / 1000
    spec = SpectralCodec(config | {"target_bandwidths": (each, 2 * each), "default_bandwidth": each}).spec
    assert (spec.encoder_delay, spec.decoder_delay, spec.delay) == (0, hop, 2 * hop)
    assert (spec.prefill_frames, spec.hop_length, spec.frame_rate) == (0, hop, rate / hop)
    assert [spec.codebooks(kbps) for kbps in spec.bandwidths] == [1, 2]


def test_no_sample_depends_on_more_than_the_delay_says():
    codec = small_codec()
    wav = signal(1, 1, 120).double().requires_grad_()
    audio = codec.decode_latents(codec.encode_latents(wav))
    spec = codec.spec
    for sample in range(30, 90):
        (gradient,) = torch.autograd.grad(audio[0, 0, sample], wav, retain_graph=True)
        reach = int(gradient[0, 0].nonzero().max()) - sample
        assert reach == spec.delay - 1 - sample % spec.hop_length


def test_a_late_listener_is_exact_once_the_memory_of_the_blocks_is_full():
    codec = small_codec()
    codes = codec.encode(signal(1, 1, 600)).data
    memory = 1 + codec.settings.decoder_blocks * (codec.settings.kernel_size - 1)
    whole, late = codec.decode(codes), codec.decode(codes[:, :, 40:])
    hop = codec.spec.hop_length
    torch.testing.assert_close(late[..., memory * hop :], whole[..., (40 + memory) * hop :], rtol=0, atol=1e-12)
    assert not torch.allclose(late[..., hop : 2 * hop], whole[..., 41 * hop : 42 * hop])


# -- files ---------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_learnt_and_comes_back_to_the_bit(tmp_path):
    codec = small_codec(torch.float32)
    save(codec, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, SpectralCodec)
    assert again.config == codec.config
    assert again.fingerprint == codec.fingerprint
    assert load_file(tmp_path / "model.safetensors").keys() == {*dict(codec.named_parameters()), "quantizer.codebooks"}
    wav = signal(1, 1, 500)
    assert torch.equal(again.encode(wav).data, codec.encode(wav).data)
    assert torch.equal(again.decode(again.encode(wav)), codec.decode(codec.encode(wav)))


def test_missing_and_foreign_weights_are_named():
    codec = small_codec(torch.float32)
    config, tensors = codec.to_huggingface()
    scale = next(name for name in tensors if name.endswith("scale"))
    with pytest.raises(CheckpointError, match=f"missing {scale}; unexpected other"):
        SpectralCodec(config, {name: t for name, t in tensors.items() if name != scale} | {"other": tensors[scale]})


REFUSED = [
    ({"hop_length": 0}, "hop_length is 0; it must be a whole number of at least 1"),
    ({"hop_length": 100_000}, "hop_length is 100000; at most 4096"),
    ({"kernel_size": 2.5}, "kernel_size is 2.5; it must be a whole number"),
    ({"decoder_blocks": -1}, "decoder_blocks is -1.*at least 0"),
    ({"encoder_width": True}, "encoder_width is True"),
    ({"bands": 4}, "bands is 4; of 6 bins, one for each sample of a hop, 1 to 3 bands"),
    ({"codebook_size": 12}, "codebook_size is 12; it must be a power of 2"),
    ({"audio_channels": 2}, "audio_channels is 2; this kind of codec is mono"),
    ({"target_bandwidths": [0.8, 0.9]}, r"a codebook of 16 entries is 0\.4 kbps at 100 frames a second"),
    ({"target_bandwidths": [0.8, 0.4]}, "ascending"),
    ({"target_bandwidths": [0.2], "default_bandwidth": None}, "a whole number of them"),
    ({"target_bandwidths": [], "default_bandwidth": None}, "a whole number of them"),
    ({"target_bandwidths": "6"}, "target_bandwidths is '6'; it must be a list of numbers"),
    ({"default_bandwidth": 6.0}, "default_bandwidth is 6.0; it is not in target_bandwidths"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[str(changes) for changes, _ in REFUSED])
def test_what_cannot_be_is_refused_with_a_sentence(changes, message):
    with pytest.raises(ConfigError, match=message):
        SpectralCodec(SMALL | changes)


def test_a_configuration_says_all_that_the_codec_is():
    config = SpectralConfig.from_dict(SMALL)
    assert SpectralConfig.from_dict(config.to_dict()) == config
    assert SpectralConfig.from_dict({}) == SpectralConfig()
