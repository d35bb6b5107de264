"""EnCodec offline: equal to transformers for every field of its configuration, and to the encodec package."""

import copy
import math

import pytest
import torch
from encodec_package import converted, import_encodec, small_model
from oracles import (
    KINDS,
    SMALL,
    assert_codes_agree,
    codec_of,
    latents_of,
    random_transformers_model,
    signal,
    small_codec,
)

from streamcodec import Codes, codecs
from streamcodec.checkpoint import weights
from streamcodec.codecs.encodec import EncodecCodec, EncodecConfig
from streamcodec.errors import CheckpointError, ConfigError, NotStreamableError

GROUP_NORM = {"norm_type": "time_group_norm"}
# Every field of EncodecConfig at some value other than its default, by itself or with what gives it a meaning.
CONFIGS = {
    **KINDS,
    "target_bandwidths": {"target_bandwidths": [0.4, 2.0]},
    "sampling_rate": {"sampling_rate": 601},  # a frame rate that is no whole number
    "normalize": {"normalize": True},
    "chunk_length_s": {"chunk_length_s": 0.13, "overlap": 0.0},
    "overlap": {"chunk_length_s": 0.2, "overlap": 0.45},
    "chunks, normalized": {"chunk_length_s": 0.1, "overlap": 0.01, "normalize": True, "use_causal_conv": True},
    "num_residual_layers": {"num_residual_layers": 3},
    "no residual layers": {"num_residual_layers": 0},
    "norm_type": GROUP_NORM,
    "norm_type, non-causal": {**GROUP_NORM, "use_causal_conv": False},
    "kernel_size": {"kernel_size": 4},
    "kernel_size 1": {"kernel_size": 1, "last_kernel_size": 1},
    "last_kernel_size": {"last_kernel_size": 3},
    "residual_kernel_size": {"residual_kernel_size": 5},
    "dilation_growth_rate": {"dilation_growth_rate": 3, "num_residual_layers": 2},
    "use_causal_conv": {"use_causal_conv": False},
    "pad_mode constant": {"pad_mode": "constant"},
    "pad_mode replicate": {"pad_mode": "replicate"},
    "pad_mode constant, non-causal": {"pad_mode": "constant", "use_causal_conv": False},
    "pad_mode replicate, non-causal": {"pad_mode": "replicate", "use_causal_conv": False},
    "compress": {"compress": 1},
    "compress 4": {"compress": 4, "num_filters": 8},
    "num_lstm_layers": {"num_lstm_layers": 3},
    "trim_right_ratio": {"trim_right_ratio": 0.4},
    "trim_right_ratio 0": {"trim_right_ratio": 0.0},
    "codebook_size": {"codebook_size": 64},
    "codebook_dim": {"codebook_dim": 6},
    "hidden_size": {"hidden_size": 9},
    "use_conv_shortcut": {"use_conv_shortcut": False},
    "audio_channels": {"audio_channels": 2},
    "num_filters": {"num_filters": 6},
    "upsampling_ratios": {"upsampling_ratios": [2, 5, 2]},
    "upsampling_ratios, one": {"upsampling_ratios": [4]},
    "upsampling_ratios, non-causal": {"upsampling_ratios": [5, 3], "use_causal_conv": False},
}
FULL_SCALE = 1e-5


def lengths(codec: EncodecCodec) -> list[int]:
    hop, segments = codec.spec.hop_length, codec.segments
    if segments is None or segments.length is None:
        return [1, hop - 1, hop, hop + 1, 6 * hop, 7 * hop + 2, 40 * hop + 5]
    # transformers can stack the codes of segments only where all but the last have as many frames.
    length, stride = segments.length, segments.stride
    candidates = [1, length - 1, length, stride, stride + hop * 3, 3 * stride + hop * 2 + 1, 4 * stride + length]
    return [n for n in candidates if len(set(segments.cut(n)[:-1])) <= 1 and upstream_adds_up(codec, n)]


def upstream_adds_up(codec: EncodecCodec, samples: int) -> bool:
    """Whether transformers' overlap-add takes the segments: none may reach past the end of the last one."""
    frames, hop, stride = codec.segments.cut(samples), codec.spec.hop_length, codec.segments.stride
    total = stride * (len(frames) - 1) + frames[-1] * hop
    return all(i * stride + count * hop <= total for i, count in enumerate(frames))


@pytest.mark.parametrize("name", CONFIGS)
def test_offline_equals_transformers(name):
    model = random_transformers_model(**CONFIGS[name])
    codec = codec_of(model)
    double = codec_of(model, torch.float64)
    assert codec.spec.bandwidths == tuple(model.config.target_bandwidths)
    assert codec.spec.num_codebooks == model.config.num_quantizers
    assert codec.spec.frame_rate == codec.spec.sample_rate / codec.spec.hop_length
    tried = lengths(codec)
    assert len(tried) >= 4
    for samples in tried:
        wav = signal(2, codec.spec.channels, samples, seed=samples)
        for bandwidth in codec.spec.bandwidths:
            with torch.no_grad():
                encoded = model.encode(wav, bandwidth=bandwidth)
                decoded = model.decode(**encoded)[0]
            cut = encoded.last_frame_pad_length
            oracle = torch.cat(list(encoded.audio_codes), 2)
            oracle = oracle[:, :, : oracle.shape[2] - cut]
            codes = codec.encode(wav, bandwidth)
            assert codes.length == samples
            assert_codes_agree(latents_of(double, wav), double.quantizer.codebooks, codes.data, oracle)
            assert_scales_agree(codes, encoded)
            # Decoded from the oracle's codes: a near tie in the encoder must not count against the decoder.
            pcm = codec.decode(Codes(oracle, codes.scale, samples))
            assert pcm.shape == wav.shape
            torch.testing.assert_close(pcm, decoded[:, :, :samples], rtol=0, atol=FULL_SCALE)


def assert_scales_agree(codes: Codes, encoded) -> None:
    if encoded.audio_scales[0] is None:
        assert codes.scale is None
        return
    frames = [encoded.audio_codes.shape[3]] * len(encoded.audio_scales)
    frames[-1] -= encoded.last_frame_pad_length
    expected = [s.expand(-1, count) for s, count in zip(encoded.audio_scales, frames, strict=True)]
    torch.testing.assert_close(codes.scale, torch.cat(expected, 1), rtol=1e-6, atol=0)


def test_every_field_is_tried_at_another_value_than_its_default():
    fields = set(EncodecConfig.__dataclass_fields__) - {"default_bandwidth"}
    tried = {field for config in CONFIGS.values() for field in config}
    assert fields == tried & fields


def test_the_fitted_codebooks_are_in_use():
    """Else the comparisons of codes would compare little."""
    for kind in KINDS:
        codes = codec_of(random_transformers_model(**KINDS[kind])).encode(
            signal(2, 2 if kind == "48khz" else 1, 1200), 1.6
        )
        assert all(len(stage.unique()) > 8 for stage in codes.data.transpose(0, 1))


@pytest.mark.parametrize("size", [10, 20, 1000])
def test_codebook_sizes_that_are_no_power_of_two(size):
    """transformers counts the codebooks of these wrongly or refuses them; each code still takes whole bits."""
    bits = math.ceil(math.log2(size))
    codec = small_codec(codebook_size=size, target_bandwidths=(0.1 * bits, 0.3 * bits))
    assert codec.spec.num_codebooks == 3
    assert codec.spec.codebook_size == size
    wav = signal(1, 1, 300)
    for bandwidth in codec.spec.bandwidths:
        codes = codec.encode(wav, bandwidth)
        assert codes.data.shape[1] == codec.spec.codebooks(bandwidth)
        assert codes.data.max() < size
        assert codec.decode(codes).shape == wav.shape


# -- the encodec package -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stereo", [False, True], ids=["24khz", "48khz"])
def test_offline_equals_the_encodec_package(stereo):
    import_encodec()
    model = small_model(stereo)
    config, tensors = converted(model)
    codec = codecs.build(config, tensors, name="original")
    double = copy.deepcopy(codec).double()
    for samples in [1, 300, 20 * 7, 2001] + ([48_000, 47_520 + 2000, 100_000] if stereo else []):
        wav = signal(1, codec.spec.channels, samples, seed=samples)
        with torch.no_grad():
            frames = model.encode(wav)
            decoded = model.decode(frames)[:, :, :samples]
        oracle = torch.cat([codes for codes, _ in frames], 2)
        codes = codec.encode(wav, codec.spec.bandwidths[-1])
        assert_codes_agree(latents_of(double, wav), double.quantizer.codebooks, codes.data, oracle)
        pcm = codec.decode(Codes(oracle, codes.scale, samples))
        torch.testing.assert_close(pcm, decoded, rtol=0, atol=FULL_SCALE * max(1.0, float(decoded.abs().max())))


def test_a_last_segment_of_a_frame_is_not_taken_for_part_of_the_one_before():
    """149 + 1 frames at 48 kHz are as many as a whole segment: the length tells them apart, upstream a list does."""
    import_encodec()
    model = small_model(True, ratios=[8, 5, 4, 2])
    config, tensors = converted(model)
    codec = codecs.build(config, tensors, name="original")
    samples = 47_520 + 100
    wav = signal(1, 2, samples)
    with torch.no_grad():
        frames = model.encode(wav)
        decoded = model.decode(frames)[:, :, :samples]
    assert [codes.shape[2] for codes, _ in frames] == [149, 1]
    codes = codec.encode(wav, codec.spec.bandwidths[-1])
    assert codes.data.shape[2] == 150
    torch.testing.assert_close(codec.decode(codes), decoded, rtol=0, atol=FULL_SCALE)


# -- configurations that cannot be run -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_type": "layer_norm"}, "layer_norm.*weight_norm.*time_group_norm"),
        ({"pad_mode": "circular"}, "circular.*constant, reflect, replicate"),
        ({"use_causal_conv": False, "trim_right_ratio": 0.5}, r"trim_right_ratio is 0\.5.*1\.0"),
        ({"trim_right_ratio": 1.5}, r"1\.5.*0\.\.1"),
        ({"audio_channels": 3}, "audio_channels is 3.*1 and 2"),
        ({"codebook_dim": 5}, "codebook_dim is 5.*hidden_size, 6"),
        ({"target_bandwidths": []}, "target_bandwidths"),
        ({"target_bandwidths": [0.1]}, r"0\.1 kbps.*no codebook"),
        ({"upsampling_ratios": "82"}, "upsampling_ratios is '82'.*list"),
        ({"num_filters": 4.5}, r"num_filters is 4\.5.*whole number"),
        ({"num_filters": 0}, "num_filters is 0.*positive"),
        ({"normalize": 1}, "normalize is 1.*bool"),
        ({"chunk_length_s": 1.0}, "overlap"),
        ({"model_type": "vocos"}, "vocos.*encodec"),
        ({"streamcodec_default_bandwidth": 5.0}, r"5\.0.*target_bandwidths"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(change, message):
    config, tensors = small_codec().to_huggingface()
    with pytest.raises(ConfigError, match=message):
        codecs.build(SMALL | config | change, tensors, name="bad")


def test_weights_that_do_not_fit_are_named():
    config, tensors = small_codec().to_huggingface()
    tensors = weights.plain(tensors, "small")
    rest = {name: tensor for name, tensor in tensors.items() if name != "encoder.layers.0.conv.bias"}
    with pytest.raises(CheckpointError, match=r"missing encoder\.layers\.0\.conv\.bias; unexpected extra"):
        codecs.build(config, rest | {"extra": torch.zeros(1)}, name="bad")
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.0\.conv\.weight has shape .*needs \[4, 1, 7\]"):
        codecs.build(config, tensors | {"encoder.layers.0.conv.weight": torch.zeros(4, 1, 5)}, name="bad")


@pytest.mark.parametrize("change", [GROUP_NORM, {"normalize": True}])
def test_what_needs_the_whole_signal_cannot_be_streamed(change):
    codec = small_codec(**change)
    for call in (codec.open_encoder, codec.open_decoder):
        with pytest.raises(NotStreamableError, match="whole signal"):
            call()
