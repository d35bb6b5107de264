"""A codec's entries are found wherever a file holds them, and give the plain checkpoint's codes; two are refused."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dac_models import transformers_model
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel

from streamcodec import Codec
from streamcodec.checkpoint import load, state_dicts
from streamcodec.errors import CheckpointError

NAMES = ("encoder.conv.weight", "decoder.conv.weight", "quantizer.layers.0.codebook.embed")
STATE = {name: torch.full((2,), float(i)) for i, name in enumerate(NAMES)}


def found(entries: Any) -> state_dicts.Found:
    return state_dicts.find(entries, "some.file")


def is_state(entries: Any) -> bool:
    return entries.keys() == STATE.keys() and all(entries[name] is tensor for name, tensor in STATE.items())


def under(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


parts = st.sampled_from(["module", "generator", "model", "audio_encoder", "_orig_mod", "codec", "ema"])
keys = st.sampled_from(["state_dict", "model", "generator", "best_state", "ema", "codec_model", "net"])


@given(st.lists(parts, max_size=4), st.lists(keys, max_size=4), st.booleans())
def test_any_prefix_and_any_wrapping_come_off(prefix: list[str], path: list[str], others: bool) -> None:
    start = "".join(f"{part}." for part in prefix)
    entries: dict[Any, Any] = under(start)
    if start and others:  # of another model, beside the codec's
        entries |= {"text_encoder.weight": torch.zeros(1), f"discriminator.{start}x": torch.zeros(1)}
    for key in path:
        entries = {key: entries, "epoch": 3} if others else {key: entries}
    codec = found(entries)
    assert is_state(codec.entries)
    assert codec.prefix == start
    assert codec.beside == ({"epoch": 3} if others and path else {})


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_of_parts_come_off_too(wrapper: str) -> None:
    inner = {name.replace(".", f".{wrapper}.", 1): tensor for name, tensor in STATE.items()}
    assert is_state(found(inner).entries)
    assert is_state(found(under("model.", inner)).entries)
    with pytest.raises(CheckpointError, match=r"'encoder\.conv\.weight' is there twice"):
        found(inner | STATE)


def test_what_lies_around_is_kept_the_innermost_first() -> None:
    inner = {"state_dict": STATE, "epoch": 2, "metadata": {"kwargs": {}}}
    assert found({"best": inner, "epoch": 1, "xp.cfg": "a: 1"}).beside == {
        "epoch": 2,
        "metadata": {"kwargs": {}},
        "xp.cfg": "a: 1",
    }


def test_a_codec_within_a_codec_is_part_of_it() -> None:
    entries = STATE | under("acoustic_model.")
    assert found(entries).entries.keys() == entries.keys()
    assert found(under("module.", entries)).entries.keys() == entries.keys()


def test_halves_with_a_quantizer_each_are_one_codec() -> None:
    halves = under("encoder.") | under("decoder.")
    for prefix in ("", "codec."):
        codec = found(under(prefix, halves))
        assert codec.prefix == prefix
        assert codec.entries.keys() == halves.keys()


TWO: dict[str, tuple[dict[str, Any], str]] = {
    "two dicts": ({"model": STATE, "ema": {n: t.clone() for n, t in STATE.items()}}, r"ema/\*, model/\*"),
    "two prefixes": (under("generator.") | under("generator_ema."), r"generator\.\*, generator_ema\.\*"),
    "best and last": ({"best_state": {"model": STATE}, "model": dict(STATE)}, r"best_state/model/\*, model/\*"),
}


@pytest.mark.parametrize(("entries", "places"), TWO.values(), ids=TWO.keys())
def test_two_codecs_are_refused_with_their_places(entries: dict[str, Any], places: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^some\.file: there is more than one codec in this file: {places};"):
        found(entries)


def test_one_dict_under_two_names_is_one_codec() -> None:
    assert is_state(found({"model": STATE, "ema": STATE}).entries)


def test_dicts_within_each_other_without_end_take_no_time() -> None:
    loop: dict[str, Any] = {"epoch": 1}
    for i in range(200):
        loop[f"again{i}"] = loop
    many: dict[str, Any] = dict(STATE)
    for _ in range(100):  # 4 to the power of 100 paths
        many = dict.fromkeys("abcd", many)
    with pytest.raises(CheckpointError, match="no state dict of a codec"):
        found(loop)
    with pytest.raises(CheckpointError, match="no state dict of a codec"):
        found(many)


def test_a_file_that_only_names_a_codec_is_shown() -> None:
    with pytest.raises(
        CheckpointError, match=r"it holds 'pretrained' \('facebook/encodec_32khz'\), 'exported' \(bool\)"
    ):
        found({"pretrained": "facebook/encodec_32khz", "exported": True})


def test_files_in_memory_are_left_out_and_what_else_is_no_tensor_stays_to_be_named() -> None:
    assert is_state(found({"state_dict": STATE | {"x": io.BytesIO()}}).entries)
    assert found(STATE | {"epoch": 3}).entries["epoch"] == 3
    linear = nn.Linear(2, 2).state_dict()
    assert found(linear).entries.keys() == linear.keys()


# -- loaded --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["encodec", "dac"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers saves it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "dac":
        transformers_model(downsampling_ratios=[2, 3], n_codebooks=3, sampling_rate=1000).save_pretrained(path)
        return path
    sizes = {"num_filters": 4, "hidden_size": 8, "upsampling_ratios": [5, 4], "codebook_size": 16}
    model = EncodecModel(EncodecConfig(**sizes, target_bandwidths=[4.8, 14.4]))
    for stage in model.quantizer.layers:
        stage.codebook.embed.normal_(std=0.5)
    model.save_pretrained(path)
    return path


WRAPPED: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "module.": lambda state: under("module.", state),
    "_orig_mod.": lambda state: under("_orig_mod.", state),
    "model.": lambda state: under("model.", state),
    "generator. with a discriminator": lambda state: under("generator.", state) | {"discriminator.w": torch.zeros(1)},
    "audio_encoder. in MusicGen": lambda state: under("audio_encoder.", state) | {"decoder.w": torch.zeros(1)},
    "module._orig_mod.model.": lambda state: under("module._orig_mod.model.", state),
    "{'state_dict'} of Lightning": lambda state: {"state_dict": under("generator.", state), "epoch": 3, "loops": {}},
    "{'model'} with an optimizer": lambda state: {"model": state, "optimizer": {"state": {0: {"avg": torch.ones(1)}}}},
    "{'generator'}": lambda state: {"generator": under("module.", state), "steps": 10},
    "{'best_state': {'model'}}": lambda state: {"best_state": {"model": state}},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_a_wrapped_checkpoint_gives_the_plain_ones_codes(
    folder: Path, tmp_path: Path, wrap: Callable[[dict[str, Tensor]], dict[str, Any]]
) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(wrap(load_file(folder / "model.safetensors")), tmp_path / "pytorch_model.bin")
    assert_same(load(tmp_path), load(folder))


def test_a_codec_in_a_larger_model_has_its_part_of_the_configuration(folder: Path, tmp_path: Path) -> None:
    config = {"model_type": "musicgen", "audio_encoder": json.loads((folder / "config.json").read_text())}
    (tmp_path / "config.json").write_text(json.dumps(config | {"text_encoder": {"model_type": "t5"}}))
    state = under("audio_encoder.model.", load_file(folder / "model.safetensors"))
    save_file(state | {"text_encoder.shared.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert_same(load(tmp_path), load(folder))


def test_entries_of_nothing_known_beside_the_codecs_own_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(load_file(folder / "model.safetensors") | {"foo.bar": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected foo\.bar"):
        load(tmp_path)


def assert_same(codec: Codec, plain: Codec) -> None:
    wav = torch.randn(1, 1, 40 * plain.spec.hop_length, generator=torch.Generator().manual_seed(0))
    codes = plain.encode(wav, plain.spec.bandwidths[-1])
    assert codec.spec.sample_rate == plain.spec.sample_rate
    assert torch.equal(codec.encode(wav, plain.spec.bandwidths[-1]).data, codes.data)
    assert torch.equal(codec.decode(codes), plain.decode(codes))
