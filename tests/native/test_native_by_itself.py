"""Where the library comes with the package, `auto` takes the native executor; else it is asked for by name."""

import shutil
from copy import deepcopy
from pathlib import Path

import dac_models
import pytest
import torch
from codecs_of_tests import CODECS
from oracles import signal, small_codec
from streamcodec_kernels.native import compiler, library

from streamcodec import Codec, native_support

pytestmark = pytest.mark.skipif(compiler.compiler() is None, reason="needs a C++ compiler")
FROM_A_WHEEL = pytest.mark.parametrize("native_by_itself", [True], indirect=True)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Where a wheel has its library; it is empty."""
    monkeypatch.setattr(compiler, "BUILT", tmp_path)
    native_support.by_itself.cache_clear()
    yield tmp_path
    native_support.by_itself.cache_clear()
    library.instruction_sets.cache_clear()


def test_it_runs_by_itself_where_the_package_has_the_library(package: Path) -> None:
    assert compiler.made()  # compiled here, which is no reason
    assert not native_support.by_itself()
    shutil.copy(compiler.made(), package)
    native_support.by_itself.cache_clear()
    assert native_support.by_itself()


def test_a_library_that_does_not_open_is_left_alone(package: Path) -> None:
    (package / compiler.library_file().name).write_text("of another machine")
    library.instruction_sets.cache_clear()
    assert not native_support.by_itself()
    codec = small_codec("24khz", torch.float32)
    assert set(codec.served_by().values()) == {"torch"}
    codec.open_encoder().push(signal(1, 1, 400, 0))


@FROM_A_WHEEL
@pytest.mark.parametrize("name", CODECS)
def test_auto_is_then_native_to_the_bit(name: str, native_by_itself: bool) -> None:
    del native_by_itself
    codec = deepcopy(CODECS[name]()).float()
    by_name = codec.on("native")
    assert codec.on("auto").served_by() == by_name.served_by()
    wav = signal(1, codec.spec.channels, 4 * codec.spec.hop_length, 0)
    codes = [each.open_encoder().push(wav).data for each in (codec.on("auto"), by_name)]
    assert torch.equal(*codes)


@FROM_A_WHEEL
@pytest.mark.parametrize("make", [lambda: small_codec("24khz", torch.float64), lambda: dac_models.small_codec((2, 3))])
def test_what_is_not_float32_runs_in_torch(make, native_by_itself: bool) -> None:
    del native_by_itself
    codec: Codec = deepcopy(make()).double()
    assert set(codec.on("auto").served_by().values()) == {"torch"}
    codec.decode(codec.encode(signal(1, 1, 1200, 0).double()))


@FROM_A_WHEEL
@pytest.mark.parametrize("backend", ["auto", "native"])
@pytest.mark.parametrize("name", [name for name in CODECS if name != "segments"])  # those have no latents alone
def test_gradients_are_those_of_torch(name: str, backend: str, native_by_itself: bool) -> None:
    """The library knows none: what they are asked of runs in torch."""
    del native_by_itself
    codec = deepcopy(CODECS[name]()).float()
    wav = signal(1, codec.spec.channels, 4 * codec.spec.hop_length, 0)
    codes = codec.encode(wav)
    found = []
    for each in (codec.on("torch"), codec.on(backend)):
        each.zero_grad()
        latents = codec.encode_latents(wav).detach().requires_grad_()
        made = each.straight_through(latents)
        (each.decode_latents(made.latents).square().sum() + each.dequantize(codes).square().sum()).backward()
        gradients = {name: tensor.grad.clone() for name, tensor in each.named_parameters() if tensor.grad is not None}
        found.append(gradients | {"latents": latents.grad})
    torch.testing.assert_close(*found)
