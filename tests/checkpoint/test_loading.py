"""From every kind of source to a codec that computes what the published implementation computes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from encodec_package import small_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import EncodecConfig, EncodecModel

from streamcodec.checkpoint import DEFAULT_CODEC, load, save, sources
from streamcodec.errors import CheckpointError, ConfigError, DtypeError, UnknownCodecError
from streamcodec.nn.transducer import Network

KINDS: dict[str, dict[str, Any]] = {
    "24kHz": {},
    "32kHz": {"use_causal_conv": False, "use_conv_shortcut": False},
    "48kHz": {
        "audio_channels": 2,
        "normalize": True,
        "chunk_length_s": 0.05,
        "overlap": 0.01,
        "norm_type": "time_group_norm",
        "use_causal_conv": False,
    },
}


def random_model(kind: str = "24kHz") -> EncodecModel:
    torch.manual_seed(0)
    sizes = {"num_filters": 4, "hidden_size": 8, "upsampling_ratios": [5, 4], "codebook_size": 16}
    # 24,000 / 20 frames a second of 4 bits: 4.8 kbps a codebook.
    model = EncodecModel(EncodecConfig(**sizes, target_bandwidths=[4.8, 14.4], **KINDS[kind])).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("codebook.embed"):
                tensor.normal_(std=0.5)
    return model


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    random_model().save_pretrained(tmp_path / "codec")
    return tmp_path / "codec"


def rewrite(directory: Path, *, config: dict[str, Any] | None = None, **tensors: torch.Tensor | None) -> None:
    """Change entries of a saved codec; None removes one."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    stored = load_file(directory / "model.safetensors") | tensors
    save_file({name: tensor for name, tensor in stored.items() if tensor is not None}, directory / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_transformers_directory_gives_transformers_codes(tmp_path: Path, kind: str) -> None:
    model = random_model(kind)
    model.save_pretrained(tmp_path / kind)
    codec = load(tmp_path / kind, dtype=torch.float64)
    assert codec.spec.name == kind
    assert not codec.training
    model = model.double()
    wav = torch.randn(2, model.config.audio_channels, 1200, dtype=torch.float64)
    for bandwidth in model.config.target_bandwidths:
        with torch.inference_mode():
            expected = model.encode(wav, bandwidth=bandwidth).audio_codes
        actual = codec.encode(wav, bandwidth=bandwidth).data
        assert torch.equal(actual, torch.cat(list(expected), dim=-1)[..., : actual.shape[-1]])


@pytest.mark.parametrize("stereo", [False, True], ids=["24kHz", "48kHz"])
def test_an_original_file_gives_the_upstream_codes(tmp_path: Path, stereo: bool) -> None:
    sizes = {"ratios": [8, 5, 4, 2], "num_codebooks": 16 if stereo else 32, "codebook_size": 1024}  # the published ones
    upstream = small_model(stereo, **sizes)
    torch.save(upstream.state_dict(), tmp_path / "mine.th")
    codec = load(tmp_path / "mine.th", dtype=torch.float64)
    assert codec.spec.name == "mine"
    assert codec.spec.sample_rate == upstream.sample_rate
    assert codec.spec.default_bandwidth == codec.spec.bandwidths[-1]
    wav = torch.randn(1, upstream.channels, 2000, dtype=torch.float64)
    with torch.inference_mode():
        ((codes, _),) = upstream.double().encode(wav)
    assert torch.equal(codec.encode(wav).data, codes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_codec_loads_again_here_and_in_transformers(tmp_path: Path, kind: str) -> None:
    model = random_model(kind)
    model.save_pretrained(tmp_path / "first")
    codec = load(tmp_path / "first")
    again = load(save(codec, tmp_path / "second"))
    assert again.state_dict().keys() == codec.state_dict().keys()
    for name, tensor in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    theirs, report = EncodecModel.from_pretrained(tmp_path / "second", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    wav = torch.randn(1, model.config.audio_channels, 900)
    with torch.inference_mode():
        expected, actual = (m.eval()(wav, bandwidth=14.4).audio_values for m in (model, theirs))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_dtype_reaches_every_weight(directory: Path) -> None:
    for dtype in (torch.float32, torch.float64):
        codec = load(directory, dtype=dtype)
        assert {p.dtype for p in codec.parameters()} | {b.dtype for b in codec.buffers() if b.is_floating_point()} == {
            dtype
        }
    with pytest.raises(DtypeError, match=r"torch\.int64"):
        load(directory, dtype=torch.int64)


def test_missing_unexpected_and_misshapen_entries_are_named_with_the_file(directory: Path) -> None:
    original = load_file(directory / "model.safetensors")
    bias = "encoder.layers.0.conv.bias"
    for changes, name in (
        ({bias: None}, bias),
        ({"encoder.layers.99.conv.bias": torch.ones(1)}, "encoder.layers.99.conv.bias"),
        ({bias: torch.ones(7)}, bias),
    ):
        rewrite(directory, **{**dict(original), **changes})
        with pytest.raises(CheckpointError) as caught:
            load(directory)
        assert name in str(caught.value)
        assert str(directory) in str(caught.value)
        save_file(original, directory / "model.safetensors")


def test_an_unknown_model_type_is_answered_with_the_known_ones(directory: Path) -> None:
    rewrite(directory, config={"model_type": "vits"})
    with pytest.raises((CheckpointError, ConfigError), match=r"vits.*encodec"):
        load(directory)


def test_a_configuration_without_a_model_type_is_answered_with_the_known_ones(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    del config["model_type"]
    (directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=rf"{directory}: model_type is None; supported are dac, encodec"):
        load(directory)


def test_an_invalid_configuration_is_reported_with_the_file(directory: Path) -> None:
    rewrite(directory, config={"sampling_rate": -1})
    with pytest.raises(ConfigError, match=f"{directory}.*sampling_rate"):
        load(directory)


def test_weights_that_no_family_knows_are_reported(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.th")
    with pytest.raises(CheckpointError, match=r"linear\.th.*config\.json"):
        load(tmp_path / "linear.th")


def test_a_truncated_published_layout_is_reported_before_anything_is_built(tmp_path: Path) -> None:
    state = small_model().state_dict()
    del state["encoder.model.0.conv.conv.weight_v"]
    torch.save(state, tmp_path / "cut.th")
    with pytest.raises(CheckpointError, match=r"cut\.th.*weight_v"):
        load(tmp_path / "cut.th")


def test_a_bundled_codec_that_is_missing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEFAULT_CODEC", "absent")
    with pytest.raises(CheckpointError, match=r"absent.*bundled"):
        load()


def test_nothing_means_the_bundled_codec() -> None:
    codec = load()
    assert codec.spec.name == DEFAULT_CODEC
    codes = codec.encode(torch.zeros(1, codec.spec.channels, codec.spec.hop_length * 8))
    assert codes.data.shape[-1] == 9  # and one by which its decoder lags


def test_the_bundled_codec_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DEFAULT_CODEC == "streamcodec_24khz"  # documented
    bundled = load()
    named = load(DEFAULT_CODEC)
    assert (named.spec, named.fingerprint) == (bundled.spec, bundled.fingerprint)
    with pytest.raises(UnknownCodecError, match=DEFAULT_CODEC):
        load("no_such_codec")
    # As with every name, what lies there wins; nothing always means the codec of the package.
    random_model().save_pretrained(tmp_path / DEFAULT_CODEC)
    monkeypatch.chdir(tmp_path)
    assert load(DEFAULT_CODEC).fingerprint != bundled.fingerprint
    assert load().fingerprint == bundled.fingerprint


def test_from_a_file_to_a_first_push_each_network_is_laid_out_once(monkeypatch):
    """That multiplies weights with the factors of their channels: it takes new memory for all of them."""
    laid_out, lay_out = list[Network](), Network._lowered
    monkeypatch.setattr(Network, "_lowered", lambda network: laid_out.append(network) or lay_out(network))
    codec = load(backend="torch")
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    decoder.push(encoder.push(torch.zeros(1, 1, 480)))
    assert laid_out == list(codec.framing.networks)
