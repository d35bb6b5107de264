"""What of a module is looked at for writes."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import streamcodec
from streamcodec import stamps


def ids(items: object) -> list[int]:
    return sorted(map(id, items))  # type: ignore[call-overload]


def same_as_torch(root: nn.Module) -> None:
    found = stamps.modules(root)
    assert ids(found) == ids(root.modules())
    assert ids(stamps.weights(found)) == ids([*root.parameters(), *root.buffers()])
    assert ids(stamps.weights(found, buffers=False)) == ids(root.parameters())


def test_modules_and_weights_are_torchs() -> None:
    same_as_torch(streamcodec.load())


def test_each_is_there_once_whatever_is_shared() -> None:
    shared = nn.Linear(3, 3)
    root = nn.Sequential(
        shared, nn.ModuleDict({"again": shared, "norm": nn.BatchNorm1d(3)}), weight_norm(nn.Linear(3, 3))
    )
    root.register_module("none", None)
    root.register_buffer("empty", None)
    root.register_buffer("tied", shared.weight.detach())
    root.register_parameter("weight", shared.weight)
    same_as_torch(root)


def test_a_weight_put_in_another_place_is_seen() -> None:
    root = nn.Sequential(nn.Linear(3, 3))
    before = stamps.stamp(stamps.weights(stamps.modules(root)))
    root[0].weight = nn.Parameter(torch.zeros(3, 3))
    assert stamps.stamp(stamps.weights(stamps.modules(root))) != before
