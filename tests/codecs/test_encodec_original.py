"""The original EnCodec files against the upstream package that wrote them, and against transformers."""

import itertools
import math
from typing import Any

import pytest
import torch
from encodec_package import import_encodec, small_model
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel

from streamcodec.checkpoint.weights import plain
from streamcodec.codecs.encodec_original import convert
from streamcodec.errors import CheckpointError

import_encodec()

SIZES: dict[str, dict[str, Any]] = {
    "small": {},
    "odd ratios": {"ratios": [3, 2, 5], "n_filters": 3, "dimension": 7},
    "two residual layers": {"n_residual_layers": 2, "residual_kernel_size": 5, "compress": 4},
    "other kernels": {"kernel_size": 5, "last_kernel_size": 3, "lstm": 1},
    "identity shortcut": {"true_skip": True, "lstm": 3},
    "many codebooks": {"num_codebooks": 11, "codebook_size": 32},
    # 7 codebooks at 1,143 frames a second are 32.004 kbps, which in floating point falls short of 7 by an ulp.
    "bandwidth that rounds down": {"ratios": [7, 3], "num_codebooks": 7},
}


def converted(model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    result = convert(plain(model.state_dict(), "model.th"), "model.th")
    assert result is not None
    return result


def transformers_model(config: dict[str, Any], tensors: dict[str, Tensor]) -> EncodecModel:
    """transformers' model of this configuration, with weight norm folded away and then exactly these tensors."""
    model = EncodecModel(EncodecConfig(**{k: v for k, v in config.items() if not k.startswith("streamcodec_")}))
    for module in model.modules():
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            nn.utils.parametrize.remove_parametrizations(module, "weight")
    model.double().load_state_dict(tensors, strict=True)
    return model.eval()


@pytest.mark.parametrize("stereo", [False, True], ids=["24kHz", "48kHz"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_converted_model_computes_what_upstream_computes(stereo: bool, sizes: dict[str, Any]) -> None:
    upstream = small_model(stereo, **sizes).double()
    ours = transformers_model(*converted(upstream))
    hop = math.prod(upstream.encoder.ratios)
    # Longer than one segment at 48 kHz, so that segment length and overlap are compared too.
    length = 50_000 if stereo else 40 * hop + 1
    wav = torch.randn(1, 2 if stereo else 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = upstream.encode(wav)
        actual = ours.encode(wav, bandwidth=ours.config.target_bandwidths[-1])
        assert len(expected) == len(actual.audio_codes)
        for (codes, scale), our_codes, our_scale in zip(expected, actual.audio_codes, actual.audio_scales, strict=True):
            assert torch.equal(codes, our_codes[..., : codes.shape[-1]])
            assert (scale is None) == (our_scale is None)
            if scale is not None:
                torch.testing.assert_close(our_scale, scale)
        decoded = ours.decode(
            actual.audio_codes, actual.audio_scales, last_frame_pad_length=actual.last_frame_pad_length
        )
        # The two overlap-add in the same order; 1e-9 is far above float64 rounding and far below any wrong weight.
        torch.testing.assert_close(decoded.audio_values, upstream.decode(expected), rtol=0, atol=1e-9)


PUBLISHED = {
    "encodec_model_24khz": EncodecConfig(),
    "encodec_model_48khz": EncodecConfig(
        target_bandwidths=[3.0, 6.0, 12.0, 24.0],
        sampling_rate=48_000,
        audio_channels=2,
        normalize=True,
        chunk_length_s=1.0,
        overlap=0.01,
        norm_type="time_group_norm",
        use_causal_conv=False,
    ),
}


@pytest.mark.parametrize(("factory", "published"), PUBLISHED.items(), ids=PUBLISHED.keys())
def test_full_size_configuration_is_the_published_one(factory: str, published: EncodecConfig) -> None:
    with torch.device("meta"):  # shapes are all that a configuration is read from
        upstream = getattr(import_encodec().EncodecModel, factory)(pretrained=False)
        expected = EncodecModel(published).state_dict()
    merged = {
        name.removesuffix("_v"): tensor for name, tensor in upstream.state_dict().items() if not name.endswith("_g")
    }
    result = convert(merged, "model.th")
    assert result is not None
    config, tensors = result
    for field in EncodecConfig.__annotations__:
        want = getattr(published, field)
        assert config[field] == (list(want) if isinstance(want, (list, tuple)) else want), field
    assert config["model_type"] == "encodec"
    assert config["streamcodec_default_bandwidth"] == 24.0
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name.replace("parametrizations.weight.original1", "weight"): tensor.shape
        for name, tensor in expected.items()
        if not name.endswith("original0")
    }


@pytest.mark.parametrize(("stereo", "num_codebooks"), list(itertools.product([False, True], [1, 2, 3, 5, 8, 13, 31])))
def test_bandwidths_reach_every_codebook_and_no_more(stereo: bool, num_codebooks: int) -> None:
    config, tensors = converted(
        small_model(stereo, num_codebooks=num_codebooks, codebook_size=1024, ratios=[20, 16], n_filters=2, dimension=2)
    )
    bandwidths = config["target_bandwidths"]
    parsed = EncodecConfig(**{k: v for k, v in config.items() if not k.startswith("streamcodec_")})
    bits_per_second = parsed.frame_rate * parsed.codebook_nbits
    assert parsed.num_quantizers == num_codebooks
    used = [math.floor(bandwidth * 1000 / bits_per_second) for bandwidth in bandwidths]
    assert used[-1] == num_codebooks
    assert used[0] >= 1
    assert used == sorted(set(used))
    assert set(bandwidths[:-1]) <= {1.5, 3.0, 6.0, 12.0, 24.0}
    assert config["streamcodec_default_bandwidth"] == bandwidths[-1]
    assert len([name for name in tensors if name.endswith("codebook.embed")]) == num_codebooks


def test_another_familys_state_dict_is_not_recognised() -> None:
    tensors = plain(small_model().state_dict(), "model.th")
    assert convert({}, "x.th") is None
    assert convert({"encoder.block.0.weight": torch.zeros(1)}, "x.th") is None
    assert convert({name: tensors[name] for name in tensors if name.startswith("encoder.")}, "x.th") is None
    assert convert({name: tensors[name] for name in tensors if name.startswith("quantizer.")}, "x.th") is None
    huggingface = convert(tensors, "x.th")
    assert huggingface is not None
    assert convert(huggingface[1], "x.th") is None


@pytest.mark.parametrize(
    "missing",
    [
        "encoder.model.0.conv.conv.weight",
        "encoder.model.4.block.1.conv.conv.weight",
        "encoder.model.3.conv.conv.weight",
        "encoder.model.6.conv.conv.weight",
        "encoder.model.9.conv.conv.weight",
        "quantizer.vq.layers.0._codebook.embed",
    ],
)
def test_missing_entry_is_reported(missing: str) -> None:
    tensors = plain(small_model().state_dict(), "model.th")
    assert missing in tensors
    del tensors[missing]
    with pytest.raises(CheckpointError, match=r"^model\.th: an EnCodec state dict"):
        convert(tensors, "model.th")


@pytest.mark.parametrize("extra", ["decoder.model.0.conv.conv.gain", "loss.weight", "encoder.model.x.lstm.w"])
def test_unknown_entry_is_named(extra: str) -> None:
    tensors = plain(small_model().state_dict(), "model.th") | {extra: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=f"unknown entry '{extra}'"):
        convert(tensors, "model.th")


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 0), (4, 1, 7, 1)])
def test_wrong_dimensions_are_named(shape: tuple[int, ...]) -> None:
    tensors = plain(small_model().state_dict(), "model.th")
    tensors["encoder.model.0.conv.conv.weight"] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.0\.conv\.weight.*3 dimensions"):
        convert(tensors, "model.th")


def test_an_odd_strided_kernel_is_named() -> None:
    tensors = plain(small_model().state_dict(), "model.th")
    tensors["encoder.model.3.conv.conv.weight"] = torch.zeros(8, 4, 1)
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.3\.conv\.weight' has kernel size 1"):
        convert(tensors, "model.th")


def test_absurd_layer_numbers_are_refused_at_once() -> None:
    """Names come out of a file that anybody may have written."""
    tensors = plain(small_model().state_dict(), "model.th")
    lstms = {name: tensor for name, tensor in tensors.items() if ".lstm." in name}
    for number in ("999", "9" * 20, "9" * 5000):
        renamed = {name: tensor for name, tensor in tensors.items() if name not in lstms}
        renamed |= {name.replace("model.7.", f"model.{number}."): tensor for name, tensor in lstms.items()}
        with pytest.raises(CheckpointError, match=r"unknown entry|that is none of"):
            convert(renamed, "model.th")


def test_a_model_without_lstm_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"LSTMs at \[\]"):
        converted(small_model(lstm=0))


def test_a_kind_that_was_never_published_is_refused() -> None:
    stereo, mono = (plain(small_model(flag).state_dict(), "m.th") for flag in (True, False))
    stereo["encoder.model.0.conv.conv.weight"] = mono["encoder.model.0.conv.conv.weight"]
    with pytest.raises(CheckpointError, match=r"1 channel.*group norm.*config\.json"):
        convert(stereo, "m.th")
