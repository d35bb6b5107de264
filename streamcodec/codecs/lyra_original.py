"""Lyra v2's own files, three TensorFlow Lite networks, in our terms.

They are ``lyra/model_coeffs`` of github.com/google/lyra, read by `checkpoint.tflite`. Part of their weights is stored
in int8; they are taken as the numbers that they stand for, and all is computed in float32. (TensorFlow Lite computes
those layers in int8, and rounds what passes between them: about 24 dB below the signal.)
"""

import re
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .lyra import BANDWIDTHS
from .original import Original

__all__ = ["convert"]

HALVES = {"soundstream_encoder": "encoder", "lyragan": "decoder"}
_CONV = re.compile(r"(soundstream_encoder|lyragan)\.(\d+)\.(conv|depthwise|transposed)\.(weight|bias)")
JOINED = (4, 2, 1, 1)  # transposed convolutions whose groups are networks' operators of their own


def convert(original: Original) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of Lyra's three files under our names. Returns None when these are not Lyra's.

    Raises CheckpointError where one of the three, or a table in it, is missing.
    """
    if not any(name.startswith(f"{network}.") for name in original.tensors for network in HALVES):
        return None
    for network in (*HALVES, "quantizer"):
        if not any(name.startswith(f"{network}.") for name in original.tensors):
            raise CheckpointError(f"{network}.tflite is not beside {original.filename}; Lyra v2 is three files")
    tensors = {"quantizer.codebooks": _codebooks(original)}
    for network, half in HALVES.items():
        for place, (weight, bias) in enumerate(_convolutions(original, network)):
            tensors |= {f"{half}.{place}.weight": weight, f"{half}.{place}.bias": bias}
    return {"model_type": "lyra_v2"}, tensors


def _codebooks(original: Original) -> Tensor:
    """[K, N, D]: the quantizer's tables, whose names end in their stage."""
    names = [f"quantizer.transpose{f'_{stage}' if stage else ''}" for stage in range(max(BANDWIDTHS.values()))]
    missing = [name for name in names if name not in original.tensors]
    if missing:
        raise CheckpointError(f"quantizer.tflite lacks {', '.join(missing[:4])}; it is no quantizer of Lyra v2's")
    tables = [original.tensors[name] for name in names]
    if len({table.shape for table in tables}) > 1:
        raise CheckpointError("quantizer.tflite has tables of different sizes; it is no quantizer of Lyra v2's")
    return torch.stack(tables)


def _convolutions(original: Original, network: str) -> list[tuple[Tensor, Tensor]]:
    """Weight in torch's layout and bias of each, in the order in which they run."""
    found: dict[int, dict[str, Tensor]] = {}
    kinds: dict[int, str] = {}
    for name, tensor in original.tensors.items():
        match = _CONV.fullmatch(name)
        if match and match[1] == network:
            found.setdefault(int(match[2]), {})[match[4]] = tensor
            kinds[int(match[2])] = match[3]
    made: list[tuple[Tensor, Tensor]] = []
    waiting: list[tuple[Tensor, Tensor]] = []
    joined = list(JOINED)
    for place in sorted(found):
        weight, bias = found[place].get("weight"), found[place].get("bias")
        if weight is None or bias is None or weight.ndim != 4:
            raise CheckpointError(f"{network}.tflite: convolution {place} lacks its weight or its bias")
        made.append((_in_torchs_layout(weight, kinds[place]), bias))
        if kinds[place] == "transposed":
            waiting.append(made.pop())
            if joined and len(waiting) == joined[0]:
                made.append((torch.cat([weight for weight, _ in waiting]), torch.cat([bias for _, bias in waiting])))
                waiting, joined = [], joined[1:]
    return [*made, *waiting]


def _in_torchs_layout(weight: Tensor, kind: str) -> Tensor:
    if kind == "depthwise":  # [1, kernel, 1, C]
        return weight[0, :, 0].T[:, None].contiguous()
    plain = weight[:, :, 0]  # [out, kernel, in / groups]
    return (plain.permute(2, 0, 1) if kind == "transposed" else plain.permute(0, 2, 1)).contiguous()
