"""Tensors in files of bounded size: safetensors shards in a folder, written whole or not at all.

A shard stays under the limit so that a training can be carried over links that refuse large files; a tensor that is
larger than a shard is cut into pieces.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError

__all__ = ["SHARD_BYTES", "newest", "read_folder", "write_folder"]

SHARD_BYTES = 14 * 2**20  # with its header safely below 16 MiB
_CUT = "::"  # between a tensor's name and a piece's number
_STATE = "state.json"


def _pieces(tensors: Mapping[str, Tensor], limit: int) -> Iterator[tuple[str, Tensor]]:
    """Tensors by name, those over the limit flat and in pieces."""
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.nbytes <= limit:
            yield name, plain
            continue
        for number, piece in enumerate(plain.reshape(-1).split(max(1, limit // plain.itemsize))):
            yield f"{name}{_CUT}{number:05d}", piece.clone()


def _shards(tensors: Mapping[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, piece in _pieces(tensors, limit):
        if shard and size + piece.nbytes > limit:
            yield shard
            shard, size = {}, 0
        shard[name] = piece.clone()  # shared memory is refused by safetensors
        size += piece.nbytes
    yield shard


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], limit: int = SHARD_BYTES
) -> None:
    """Write tensors and what JSON can hold to `folder`, replacing nothing until all of it is on disk."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for number, shard in enumerate(_shards(tensors, limit)):
        save_file(shard, part / f"shard-{number:03d}.safetensors")
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    with (part / _STATE).open("w", encoding="utf-8") as file:
        json.dump({"shapes": shapes, "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def read_folder(folder: Path) -> tuple[dict[str, Tensor], Any]:
    """What `write_folder` wrote. Raises CheckpointError if anything of it is missing or damaged."""
    try:
        kept = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        found: dict[str, Tensor] = {}
        for path in sorted(folder.glob("shard-*.safetensors")):
            found |= load_file(path)
        return {name: _whole(name, shape, found) for name, shape in kept["shapes"].items()}, kept["state"]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be read as a training's checkpoint: {error}") from error


def _whole(name: str, shape: list[int], found: Mapping[str, Tensor]) -> Tensor:
    if name in found:
        return found[name].view(shape)
    pieces = [found[key] for key in sorted(found) if key.startswith(name + _CUT)]
    if not pieces:
        raise KeyError(f"{name} is in none of its files")
    return torch.cat(pieces).view(shape)


def newest(run: Path) -> Path | None:
    """The folder of the last complete checkpoint ``run/checkpoints/step-*``, None where there is none."""
    folders = sorted(path for path in (run / "checkpoints").glob("step-*") if (path / _STATE).exists())
    return next((folder for folder in reversed(folders) if not folder.name.endswith(".part")), None)
