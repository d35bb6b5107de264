"""Training in bfloat16: measured before it begins, and left where the processor is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from train_small import run_of

from streamcodec.nn.conv import Conv1d, ConvTranspose1d
from streamcodec.train.trainer import Trainer

BFLOAT16 = {"run": {"precision": "bfloat16"}}


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].flip(1)


def broken(layer: type, spoil: Callable[[Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """`layer.forward` of a processor whose strided convolutions are wrong in bfloat16."""
    right = layer.forward

    def forward(self: Any, x: Tensor) -> Tensor:
        y: Tensor = right(self, x)
        return spoil(y) if torch.is_autocast_enabled("cpu") and self.stride > 1 else y

    return forward


def trainer(recordings: Path, folder: Path, **sections: Any) -> Trainer:
    return run_of(recordings, folder, **(BFLOAT16 | sections)).trainer


def test_bfloat16_is_used_where_it_is_right(recordings: Path, tmp_path: Path) -> None:
    found = trainer(recordings, tmp_path)
    assert found.warning is None
    assert found.networks.bfloat16


@pytest.mark.slow
@pytest.mark.parametrize("layer", [Conv1d, ConvTranspose1d])
@pytest.mark.parametrize("spoil", [lambda y: y.flip(1), WrongGradient.apply], ids=["output", "gradient"])
def test_a_layer_that_is_wrong_in_bfloat16_means_float32_and_a_word(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: type, spoil: Any
) -> None:
    right = run_of(recordings, tmp_path / "float32").trainer
    monkeypatch.setattr(layer, "forward", broken(layer, spoil))
    found = trainer(recordings, tmp_path / "bfloat16")
    assert found.warning is not None
    assert "float32" in found.warning
    assert f"({layer.__name__}," in found.warning
    assert found.step() == right.step()


def test_measuring_changes_nothing(recordings: Path, tmp_path: Path) -> None:
    random = torch.get_rng_state()
    one, two = trainer(recordings, tmp_path / "one"), trainer(recordings, tmp_path / "two")
    two._check_bfloat16()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in two.parameters.values())
    assert one.step() == two.step()
