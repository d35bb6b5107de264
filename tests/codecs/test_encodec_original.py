"""The original EnCodec files against the upstream package that wrote them, and against transformers."""

import itertools
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from encodec_package import config_of, converted, import_encodec, small_model
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel

from streamcodec.checkpoint import load
from streamcodec.checkpoint.weights import plain
from streamcodec.codecs import Original, encodec_original
from streamcodec.errors import CheckpointError

yaml = pytest.importorskip("yaml", reason="audiocraft's configuration is YAML")
import_encodec()


def convert(
    tensors: dict[str, Tensor], config: dict[str, Any] | None = None, **inside: Any
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    return encodec_original.convert(Original(tensors, "model.th", config, inside.get))


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
    result = convert(merged)
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
def test_the_bandwidth_reaches_every_codebook_and_no_more(stereo: bool, num_codebooks: int) -> None:
    config, tensors = converted(
        small_model(stereo, num_codebooks=num_codebooks, codebook_size=1024, ratios=[20, 16], n_filters=2, dimension=2)
    )
    (bandwidth,) = config["target_bandwidths"]
    parsed = EncodecConfig(**{k: v for k, v in config.items() if not k.startswith("streamcodec_")})
    assert parsed.num_quantizers == num_codebooks
    assert math.floor(bandwidth * 1000 / (parsed.frame_rate * parsed.codebook_nbits)) == num_codebooks
    assert config["streamcodec_default_bandwidth"] == bandwidth
    assert len([name for name in tensors if name.endswith("codebook.embed")]) == num_codebooks


def test_another_familys_state_dict_is_not_recognised() -> None:
    model = small_model()
    tensors = plain(model.state_dict(), "model.th")
    assert convert({}) is None
    assert convert({"encoder.block.0.weight": torch.zeros(1)}) is None
    assert convert({name: tensors[name] for name in tensors if name.startswith("encoder.")}) is None
    assert convert({name: tensors[name] for name in tensors if name.startswith("quantizer.")}) is None
    assert convert(converted(model)[1]) is None


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
        convert(tensors)


@pytest.mark.parametrize("extra", ["decoder.model.0.conv.conv.gain", "loss.weight", "encoder.model.x.lstm.w"])
def test_unknown_entry_is_named(extra: str) -> None:
    tensors = plain(small_model().state_dict(), "model.th") | {extra: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=f"unknown entry '{extra}'"):
        convert(tensors)


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 0), (4, 1, 7, 1)])
def test_wrong_dimensions_are_named(shape: tuple[int, ...]) -> None:
    tensors = plain(small_model().state_dict(), "model.th")
    tensors["encoder.model.0.conv.conv.weight"] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.0\.conv\.weight.*3 dimensions"):
        convert(tensors)


def test_an_odd_strided_kernel_is_named() -> None:
    tensors = plain(small_model().state_dict(), "model.th")
    tensors["encoder.model.3.conv.conv.weight"] = torch.zeros(8, 4, 1)
    with pytest.raises(CheckpointError, match=r"encoder\.layers\.3\.conv\.weight' has kernel size 1"):
        convert(tensors)


def test_absurd_layer_numbers_are_refused_at_once() -> None:
    """Names come out of a file that anybody may have written."""
    tensors = plain(small_model().state_dict(), "model.th")
    lstms = {name: tensor for name, tensor in tensors.items() if ".lstm." in name}
    for number in ("999", "9" * 20, "9" * 5000):
        renamed = {name: tensor for name, tensor in tensors.items() if name not in lstms}
        renamed |= {name.replace("model.7.", f"model.{number}."): tensor for name, tensor in lstms.items()}
        with pytest.raises(CheckpointError, match=r"unknown entry|that is none of"):
            convert(renamed)


def test_a_model_without_lstm_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"LSTMs at \[\]"):
        converted(small_model(lstm=0))


PUBLISHED_SIZES: dict[str, Any] = {"ratios": [8, 5, 4, 2], "codebook_size": 1024}
BOOKS = {False: 32, True: 16}

# Every way in which a model's sizes can show that it is not a published one.
OTHER_SIZES: dict[str, dict[str, Any]] = {
    "upsampling_ratios": {"ratios": [8, 5, 4, 4]},
    "codebook_size": {"codebook_size": 2048},
    "codebooks": {"num_codebooks": 8},
    "use_conv_shortcut": {"true_skip": True},
    "kernel_size": {"kernel_size": 5},
    "last_kernel_size": {"last_kernel_size": 3},
    "residual_kernel_size": {"residual_kernel_size": 5},
    "num_residual_layers": {"n_residual_layers": 2},
    "compress": {"compress": 4},
    "num_lstm_layers": {"lstm": 1},
}


@pytest.mark.parametrize("stereo", [False, True], ids=["24kHz", "48kHz"])
def test_a_bare_state_dict_of_published_sizes_is_the_published_model(stereo: bool) -> None:
    model = small_model(stereo, num_codebooks=BOOKS[stereo], **PUBLISHED_SIZES)
    told, bare = converted(model), convert(plain(model.state_dict(), "model.th"))
    assert bare is not None
    assert bare[0]["target_bandwidths"] == [*([] if stereo else [1.5]), 3.0, 6.0, 12.0, 24.0]
    for name in config_of(model):
        assert bare[0][name] == told[0][name], name


@pytest.mark.parametrize("stereo", [False, True], ids=["24kHz", "48kHz"])
@pytest.mark.parametrize("other", OTHER_SIZES)
def test_a_bare_state_dict_of_any_other_size_is_refused_with_what_to_give(stereo: bool, other: str) -> None:
    model = small_model(stereo, **{"num_codebooks": BOOKS[stereo]} | PUBLISHED_SIZES | OTHER_SIZES[other])
    with pytest.raises(CheckpointError, match=rf"it has .*\b{other} .*sample rate.*causal.*config\.json"):
        convert(plain(model.state_dict(), "model.th"))


def test_a_kind_that_was_never_published_is_refused() -> None:
    stereo, mono = (plain(small_model(flag).state_dict(), "m.th") for flag in (True, False))
    stereo["encoder.model.0.conv.conv.weight"] = mono["encoder.model.0.conv.conv.weight"]
    with pytest.raises(CheckpointError, match=r"norm_type time_group_norm for weight_norm.*config\.json"):
        convert(stereo)
    mono["encoder.model.0.conv.conv.weight"] = torch.zeros(4, 3, 7)
    with pytest.raises(CheckpointError, match=r"it has 3 channels.*config\.json"):
        convert(mono)


@pytest.mark.parametrize("missing", ["sampling_rate", "use_causal_conv", "pad_mode", "model_type"])
def test_a_configuration_must_say_what_no_size_tells(missing: str) -> None:
    model = small_model()
    config = {name: value for name, value in config_of(model).items() if name != missing}
    with pytest.raises(CheckpointError, match=missing):
        convert(plain(model.state_dict(), "model.th"), config)


# -- audiocraft ----------------------------------------------------------------------------------------------------


def audiocraft_config(**changes: Any) -> dict[str, Any]:
    """`config/model/encodec/default.yaml` of audiocraft, references and all. changes: by path, dots as underscores."""
    config: dict[str, Any] = {
        "sample_rate": 32_000,
        "channels": 1,
        "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": "${sample_rate}",
            "channels": "${channels}",
            "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "causal": "${encodec.causal}",
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": "weight_norm",
            "dilation_base": 2,
            "pad_mode": "constant",
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
            "encoder": {},
        },
    }
    for path, value in changes.items():
        *inner, last = path.split("__")
        part = config
        for name in inner:
            part = part[name]
        if value is ...:
            del part[last]
        else:
            part[last] = value
    return config


AUDIOCRAFT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "MusicGen's 32 kHz": ({}, {}),
    "reflect": ({"seanet__pad_mode": "reflect"}, {"pad_mode": "reflect"}),
    "AudioGen's 16 kHz": ({"sample_rate": 16_000}, {"sampling_rate": 16_000}),
    "causal": ({"encodec__causal": True}, {"use_causal_conv": True}),
    "trimmed on both sides": (
        {"encodec__causal": True, "seanet__decoder__trim_right_ratio": 0.5},
        {"use_causal_conv": True, "trim_right_ratio": 0.5},
    ),
    "dilated": ({"seanet__dilation_base": 3}, {"dilation_growth_rate": 3, "num_residual_layers": 2}),
    "normalised": ({"encodec__renormalize": True}, {"normalize": True}),
}


def audiocraft_model(**changes: Any) -> EncodecModel:
    """transformers' model with MusicGen's sizes but for its widths."""
    torch.manual_seed(3)
    sizes = {"num_filters": 4, "hidden_size": 8, "codebook_size": 64, "upsampling_ratios": [5, 4]}
    kind = {"sampling_rate": 32_000, "use_causal_conv": False, "use_conv_shortcut": False, "pad_mode": "constant"}
    config = EncodecConfig(**sizes | kind | changes)
    config.target_bandwidths = [4 * config.frame_rate * config.codebook_nbits / 1000]
    model = EncodecModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for stage in model.quantizer.layers:
            stage.codebook.embed.normal_(std=0.3)
    return model


def original_names(model: EncodecModel) -> dict[str, Tensor]:
    """A transformers model's weights under the original's names, weight norm in its older spelling."""
    turned = {name for name, module in model.named_modules() if isinstance(module, nn.ConvTranspose1d)}
    found = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("quantizer."):
            name = name.replace("quantizer.layers", "quantizer.vq.layers").replace(".codebook.", "._codebook.")
        else:
            module = name.partition(".conv.")[0] + ".conv"
            kind = "convtr.convtr." if module in turned else "conv.conv."
            name = name.replace(".layers.", ".model.", 1).replace(".conv.", f".{kind}", 1)
        for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
            name = name.replace(f"parametrizations.weight.{new}", old)
        found[name] = tensor
    return found


@pytest.mark.parametrize(("changes", "settings"), AUDIOCRAFT.values(), ids=AUDIOCRAFT.keys())
def test_audiocrafts_file_is_read_with_the_configuration_that_it_holds(
    tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    model = audiocraft_model(**settings)
    exported = {"best_state": original_names(model), "xp.cfg": yaml.safe_dump(audiocraft_config(**changes))}
    torch.save(exported | {"version": "1.0", "exported": True}, tmp_path / "compression_state_dict.bin")
    # MusicGen's folder has a config.json too: what the file itself says goes before it.
    (tmp_path / "config.json").write_text('{"model_type": "musicgen"}')
    codec = load(tmp_path / "compression_state_dict.bin", dtype=torch.float64)
    config = model.config
    assert (codec.spec.sample_rate, codec.spec.num_codebooks) == (config.sampling_rate, 4)
    assert codec.spec.codebooks(codec.spec.default_bandwidth) == 4
    for module in model.modules():
        if nn.utils.parametrize.is_parametrized(module, "weight"):
            nn.utils.parametrize.remove_parametrizations(module, "weight")  # merged in float32, as the file was
    model.double()
    wav = torch.randn(1, 1, 20 * 60 + 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model.encode(wav, bandwidth=config.target_bandwidths[-1])
        audio = model.decode(expected.audio_codes, expected.audio_scales).audio_values
    codes = codec.encode(wav)
    assert torch.equal(codes.data, expected.audio_codes[0])
    torch.testing.assert_close(codec.decode(codes), audio[..., : wav.shape[2]], rtol=0, atol=1e-9)


REFUSED_BY_AUDIOCRAFT: dict[str, tuple[dict[str, Any], str]] = {
    "no causality": ({"seanet__causal": ...}, r"lacks seanet\.causal"),
    "a reference to nothing": ({"encodec__causal": "${nothing.here}"}, r"lacks seanet\.causal"),
    "a reference to itself": ({"sample_rate": "${sample_rate}"}, r"lacks encodec\.sample_rate"),
    "another activation": ({"seanet__activation": "Snake"}, r"seanet\.activation is 'Snake'"),
    "another alpha": ({"seanet__activation_params": {"alpha": 0.5}}, r"seanet\.activation_params"),
    "a last activation": ({"seanet__decoder__final_activation": "Tanh"}, r"final_activation is 'Tanh'"),
    "another norm": ({"seanet__norm": "layer_norm"}, r"seanet\.norm is 'layer_norm'"),
    "halves that differ": ({"seanet__encoder__causal": True}, r"seanet\.encoder\.causal"),
    "no quantizer": ({"encodec__quantizer": "no_quant"}, r"encodec\.quantizer is 'no_quant'"),
    "a sample rate in words": ({"sample_rate": "fast"}, "sampling_rate is 'fast'"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED_BY_AUDIOCRAFT.values(), ids=REFUSED_BY_AUDIOCRAFT.keys())
def test_an_audiocraft_configuration_that_cannot_be_run_is_refused(changes: dict[str, Any], message: str) -> None:
    tensors = plain(original_names(audiocraft_model()), "model.th")
    assert convert(tensors, **{"xp.cfg": audiocraft_config()}) is not None
    with pytest.raises(CheckpointError, match=message):
        convert(tensors, **{"xp.cfg": audiocraft_config(**changes)})


def test_a_configuration_that_is_an_object_of_omegaconf_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """audiocraft's training checkpoints hold one; its class here stands for OmegaConf's."""
    config = type("DictConfig", (), {"__module__": "omegaconf.dictconfig", "__qualname__": "DictConfig"})
    module = ModuleType("omegaconf.dictconfig")
    module.DictConfig = config
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
        patch.setitem(sys.modules, "omegaconf.dictconfig", module)
        torch.save({"best_state": {"model": {}}, "xp.cfg": config()}, tmp_path / "checkpoint.th")
    with pytest.raises(CheckpointError, match=r"refused.*omegaconf.*export_encodec"):
        load(tmp_path / "checkpoint.th")
