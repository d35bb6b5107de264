"""`save`: a codec as a directory that `load` and transformers read."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..codecs import Codec
from ..errors import CheckpointError
from . import hub

__all__ = ["save", "write_directory"]


def save(codec: Codec, directory: str | os.PathLike[str]) -> Path:
    """Write `codec` to `directory` (made if need be) as config.json and model.safetensors; returns the directory.

    Each file is written beside its place and then renamed into it, the configuration last: an interrupted call
    leaves no half-written file, and in a new directory no config.json.

    Raises CheckpointError when the directory cannot be written.
    """
    return write_directory(Path(directory), *codec.to_huggingface())


def write_directory(target: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """`save` of what a codec's `to_huggingface` gave."""
    # Clones: safetensors refuses tensors that share memory, such as views of one buffer.
    plain = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    try:
        target.mkdir(parents=True, exist_ok=True)
        _replace(target / hub.WEIGHTS[0], lambda path: save_file(plain, path, metadata={"format": "pt"}))
        _replace(target / hub.CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as scratch:
        part = Path(scratch) / path.name
        write(part)
        part.chmod(0o644)  # safetensors leaves its files readable by their owner alone
        part.replace(path)
