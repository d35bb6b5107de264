"""The original X-Codec files: their names, the YAML file beside them, and what is refused."""

import io
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from dac_models import Block, Decoder, Snake1d, normed, randomise, units
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

pytest.importorskip("transformers", reason="X-Codec's speech model comes from transformers")

from xcodec_models import double, fit, noise, transformers_model

from streamcodec import Codes, codecs
from streamcodec.checkpoint import load, save
from streamcodec.codecs.xcodec import XcodecCodec
from streamcodec.codecs.xcodec_original import convert, yaml_name
from streamcodec.errors import CheckpointError, ConfigError
from streamcodec.install import how_to_install

yaml = pytest.importorskip("yaml", reason="the originals' configuration is YAML")

# The base models' numbers of heads and groups, which no weight tells, want multiples of 12 and 16.
SPEECH = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
}
ACOUSTIC: dict[str, Any] = {"encoder_hidden_size": 2, "decoder_hidden_size": 32, "hidden_size": 8}
SETTINGS: dict[str, Any] = {
    "name": "SoundStream",
    "config": {
        "n_filters": 32,
        "D": 8,
        "target_bandwidths": [0.2, 0.4, 0.8],
        "ratios": [8, 5, 4, 2],
        "sample_rate": 16000,
        "bins": 16,
        "semantic_techer": "hubert_base",
    },
}


class Wrapped(nn.Module):
    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv


class Branch(nn.Module):
    """The semantic encoder or decoder of the original: transformers', its convolutions in wrappers."""

    def __init__(self, half: nn.Module):
        super().__init__()
        for name, child in half.named_children():
            if isinstance(child, nn.Conv1d):
                setattr(self, name, Wrapped(child))
            elif isinstance(child, nn.ModuleList):
                setattr(self, name, nn.ModuleList([Branch(item) for item in child]))


class Layers(nn.Module):
    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Codebooks(nn.Module):
    def __init__(self, quantizers: nn.ModuleList):
        super().__init__()
        self.vq = Layers([])
        for stage in quantizers:
            layer = nn.Module()
            layer._codebook = stage.codebook
            self.vq.layers.append(layer)


def acoustic_halves() -> tuple[nn.Module, nn.Module]:
    """The original's encoder and decoder, weight-normed as there."""
    width, layers = ACOUSTIC["encoder_hidden_size"], []
    for rate in SETTINGS["config"]["ratios"]:
        down = normed(width, 2 * width, 2 * rate, stride=rate, padding=-(-rate // 2))
        layers.append(Block(*units(width), Snake1d(width), down))
        width *= 2
    first, last = normed(1, ACOUSTIC["encoder_hidden_size"], 7, padding=3), normed(width, 8, 3, padding=1)
    encoder = Block(first, *layers, Snake1d(width), last)
    width, layers = ACOUSTIC["decoder_hidden_size"], []
    for rate in SETTINGS["config"]["ratios"]:
        up = nn.ConvTranspose1d(
            width, width // 2, 2 * rate, stride=rate, padding=-(-rate // 2), output_padding=rate % 2
        )
        layers.append(Block(Snake1d(width), weight_norm(up), *units(width // 2)))
        width //= 2
    ends = normed(8, ACOUSTIC["decoder_hidden_size"], 7, padding=3), normed(width, 1, 7, padding=3)
    return encoder, Decoder(ends[0], *layers, Snake1d(width), ends[1])


class Original(nn.Module):
    """The modules of an original X-Codec under its names; all but the acoustic halves are a transformers model's."""

    def __init__(self, theirs: Any):
        super().__init__()
        self.encoder, self.decoder_2 = theirs.acoustic_encoder, theirs.acoustic_decoder
        self.encoder_semantic, self.decoder_semantic = Branch(theirs.encoder_semantic), Branch(theirs.decoder_semantic)
        self.semantic_model = theirs.semantic_model
        self.quantizer = Codebooks(theirs.quantizer.quantizers)
        self.fc_prior, self.fc_post1, self.fc_post2 = theirs.fc, theirs.fc1, theirs.fc2


@cache
def oracle(kind: str) -> tuple[Any, dict[str, Tensor]]:
    """transformers' model around original acoustic halves, in float64, and its weights with the original's names."""
    model = transformers_model(
        kind,
        acoustic_model_config=ACOUSTIC,
        semantic_model_config=SPEECH | {"model_type": kind},
    )
    model.acoustic_encoder, model.acoustic_decoder = acoustic_halves()
    randomise(model.acoustic_encoder)
    randomise(model.acoustic_decoder)
    last = model.acoustic_decoder.model[-1]
    parametrize.remove_parametrizations(last, "weight")
    fit(model, last)
    state = {name: tensor.clone() for name, tensor in Original(model).state_dict().items()}
    return double(model), state


def write(
    folder: Path, state: dict[str, Any], teacher: str = "hubert_base", name: str = "config_hubert.yaml", **others: Any
) -> Path:
    settings = SETTINGS | {"config": SETTINGS["config"] | {"semantic_techer": teacher}}
    (folder / name).write_text(yaml.safe_dump({"generator": settings, "seed": 1} | others))
    torch.save(state, folder / "xcodec.pth")
    return folder / "xcodec.pth"


@pytest.mark.parametrize(
    ("kind", "teacher"), [("hubert", "hubert_base"), ("wavlm", "wavlm_base_plus"), ("hubert", "hubert_base_general")]
)
def test_an_original_file_is_the_model_that_it_was_saved_from(tmp_path, kind, teacher):
    model, state = oracle(kind)
    assert "quantizer.vq.layers.0._codebook.embed" in state
    assert "encoder_semantic.conv_blocks.0.res_units.1.conv2.conv.weight" in state
    codec = load(write(tmp_path, state | {"scratch": io.BytesIO(b"anything")}, teacher), dtype=torch.float64)
    assert isinstance(codec, XcodecCodec)
    assert (codec.spec.name, codec.spec.sample_rate, codec.spec.bandwidths) == ("xcodec", 16_000, (0.2, 0.4, 0.8))
    assert codec.config["semantic_model_config"]["model_type"] == kind
    for samples in (320 * 9, 320 * 9 + 100):
        wav = noise(2, samples)
        with torch.no_grad():
            expected = model.encode(wav).audio_codes
            audio = model.decode(expected).audio_values
        assert torch.equal(codec.encode(wav).data, expected)
        assert all(len(stage.unique()) > 4 for stage in expected.transpose(0, 1))
        torch.testing.assert_close(codec.decode(expected), audio, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("scale", "factor"), [(0.5, 0.5), (1, 1.0), (1.5, 1.0)])
def test_the_scale_in_the_yaml_file_is_applied_as_upstreams_command_does(tmp_path, scale, factor):
    """`if config.audio_norm_scale < 1.0: wav = wav * config.audio_norm_scale`, before encoding and not after."""
    model, state = oracle("hubert")
    codec = load(write(tmp_path, state, audio_norm_scale=scale), dtype=torch.float64)
    wav = noise(1, 320 * 9)
    with torch.no_grad():
        expected = model.encode(wav * factor).audio_codes
        assert scale > 1 or factor == 1 or not torch.equal(expected, model.encode(wav).audio_codes)
    assert torch.equal(codec.encode(wav).data, expected)
    stream = codec.open_encoder()
    parts = [stream.push(wav[..., :1000]), stream.push(wav[..., 1000:]), stream.flush()]
    assert torch.equal(Codes.cat(parts).data, codec.encode_windowed(wav).data)
    again = load(save(codec, tmp_path / "saved"), dtype=torch.float64)
    assert torch.equal(again.encode(wav).data, expected)


def test_a_scale_that_is_no_factor_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="audio_norm_scale"):
        load(write(tmp_path, oracle("hubert")[1], audio_norm_scale="loud"))


def test_the_yaml_file_is_found_by_the_published_name_or_alone(tmp_path):
    state = oracle("hubert")[1]
    write(tmp_path, state, name="any.yml")
    load(tmp_path / "xcodec.pth")
    write(tmp_path, state, teacher="wavlm_base_plus", name="other.yaml")
    with pytest.raises(CheckpointError, match=r"put the YAML file .*config_hubert\.yaml.* into the same folder"):
        load(tmp_path / "xcodec.pth")
    load(write(tmp_path, state))  # config_hubert.yaml, by its name
    write(tmp_path, state, teacher="none", name="xcodec.yaml")  # named after the file itself: before all others
    with pytest.raises(CheckpointError, match="semantic_techer: 'none'; known are hubert_base,"):
        load(tmp_path / "xcodec.pth")


@pytest.mark.parametrize(
    ("filename", "published"),
    [
        ("xcodec_speech_hubert_librispeech.pth", "config_hubert.yaml"),
        ("xcodec_speech_wavlm_mls.pth", "config_wavlm.yaml"),
        ("xcodec_speech_wavlm_more_data.pth", "config_wavlm.yaml"),
        ("xcodec_hubert_general_audio.pth", "config_hubert_general.yaml"),
        ("xcodec_hubert_general_audio_v2.pth", "config_hubert_general.yaml"),
    ],
)
def test_the_published_names(filename, published):
    assert yaml_name(filename) == published


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping is expected, this is a NoneType"),
        ("- 1", "mapping is expected, this is a list"),
        ("generator: [", "not YAML"),
        ("generator: 1", "no mapping generator.config"),
        ("generator: {config: {D: 8}}", "lacks ratios, target_bandwidths"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: !!python/object/apply:os.system [true]", "not YAML"),
        ("[" * 60_000, "more than 16 deep"),
        ("#" * 70_000, "larger than"),
    ],
)
def test_yaml_that_says_nothing_is_refused(tmp_path, text, message):
    path = write(tmp_path, oracle("hubert")[1])
    (tmp_path / "config_hubert.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load(path)


@pytest.mark.parametrize(
    "change",
    [{"ratios": 8}, {"D": "8"}, {"target_bandwidths": {}}, {"sample_rate": 1.5}, {"bins": -1}, {"semantic_techer": []}],
)
def test_values_that_make_no_model_are_refused(tmp_path, change):
    path = write(tmp_path, oracle("hubert")[1])
    settings = {"generator": {"config": SETTINGS["config"] | change}}
    (tmp_path / "config_hubert.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises((ConfigError, CheckpointError), match=r"xcodec\.pth"):
        load(path)


@pytest.mark.parametrize(
    "extra", ["encoder.block.9.weight", "decoder_2.model.1.block.9.weight", "quantizer.vq.layers.0._codebook.gain"]
)
def test_an_unknown_entry_is_named(tmp_path, extra):
    state = oracle("hubert")[1] | {extra: torch.zeros(1)}
    with pytest.raises(CheckpointError, match=f"unknown entry '{extra}'"):
        load(write(tmp_path, state))


def test_missing_weights_are_named_and_entries_of_no_part_left_out(tmp_path):
    state = oracle("hubert")[1]
    load(write(tmp_path, state | {"discriminator.weight": torch.zeros(1)}))
    for name in ("semantic_model.encoder.layer_norm.weight", "fc_post2.bias"):
        rest = {key: tensor for key, tensor in state.items() if key != name}
        with pytest.raises((CheckpointError, ConfigError), match=r"xcodec\.pth"):
            load(write(tmp_path, rest))


def test_another_familys_state_dict_is_not_recognised():
    assert convert(codecs.Original({}, "f")) is None
    assert convert(codecs.Original({"fc_prior.weight": torch.zeros(1)}, "f")) is None


def test_code_beside_the_weights_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    with pytest.raises(CheckpointError, match="refused"):
        load(write(tmp_path, oracle("hubert")[1] | {"trap": Trap()}))
    assert not (tmp_path / "executed").exists()


def test_without_pyyaml_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path, oracle("hubert")[1])
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(CheckpointError, match=re.escape(how_to_install("xcodec"))):
        load(path)
