"""Reads configurations and weights out of single files, without running anything that a file holds."""

import hashlib
import io
import json
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from ..install import how_to_install
from . import tflite

__all__ = [
    "INDEX_SUFFIX",
    "PICKLE_SUFFIXES",
    "SAFETENSORS",
    "read_config",
    "read_weights",
    "settings_beside",
    "settings_inside",
    "shard_names",
    "verify_hash",
]

SAFETENSORS = ".safetensors"
PICKLE_SUFFIXES = (".th", ".pt", ".pth", ".bin", ".ckpt")
INDEX_SUFFIX = ".index.json"

_YAML_LIMIT = 1 << 16  # bytes; the published files have under 4,000
_YAML_DEPTH = 16  # the published files have 4; the parser's time grows with the square of the depth
_ZIP_MAGIC = b"PK\x03\x04"  # by which torch tells its files from those of before 1.6, too


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a ``config.json``; CheckpointError unless it is one.

    A model_type must be a string; there is none in the snac package's.
    """
    config = _read_json_object(path)
    if not isinstance(config.get("model_type", ""), str):
        raise CheckpointError(f'{path}: no "model_type" (a string such as "encodec") in this configuration')
    return config


def read_weights(path: Path) -> Mapping[Any, Any]:
    """The entries of a weight file, unchecked: ``.safetensors``, an index of shards, a torch file, or a ``.tflite``
    with those that lie beside it.

    Raises CheckpointError: not there, truncated, not of the format its suffix names, or a pickle with code in it.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return _read_shards(path)
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    if path.suffix in PICKLE_SUFFIXES:
        return _read_torch(path)
    if path.suffix == tflite.SUFFIX:
        return tflite.read_folder(path.parent)
    allowed = ", ".join((SAFETENSORS, *PICKLE_SUFFIXES, tflite.SUFFIX))
    raise CheckpointError(f"{path}: weights are read from files whose names end in {allowed}")


def settings_inside(path: Path, beside: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """The mapping `name` in what the weight file `path` holds beside its weights; None where it has none.

    It may be written out as YAML, as audiocraft does: then the rules and errors are those of `settings_beside`.
    """
    value = beside.get(name)
    if isinstance(value, str):
        return _parse_yaml(value.encode(errors="replace"), f"{name!r} in {path}")
    return value if isinstance(value, Mapping) else None


def settings_beside(path: Path, names: tuple[str, ...]) -> Mapping[str, Any] | None:
    """The mapping in a YAML file in the folder of `path`: the first of `names` that is there, else the only one.

    None where there is no such file. Only plain values are read. Raises CheckpointError: not a mapping, too large,
    too deep, damaged, or with aliases, by which a few bytes can stand for any number of values.
    """
    found = next((path.parent / name for name in names if (path.parent / name).is_file()), None)
    others = [] if found else sorted(file for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml"))
    if found is None and len(others) != 1:
        return None
    return _read_yaml(found or others[0])


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            return _parse_yaml(file.read(_YAML_LIMIT + 1), str(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def _parse_yaml(text: bytes, origin: str) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise CheckpointError(f"{origin}: reading it needs PyYAML: {how_to_install('xcodec')}") from error
    if len(text) > _YAML_LIMIT:
        raise CheckpointError(f"{origin}: larger than {_YAML_LIMIT} bytes; a model's configuration is not")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # one by one: what is refused is read no further
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise CheckpointError(f"{origin}: refused: it has YAML aliases (*name); write the values out")
            if depth > _YAML_DEPTH:
                raise CheckpointError(
                    f"{origin}: refused: mappings or lists more than {_YAML_DEPTH} deep in each other"
                )
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{origin}: not YAML ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{origin}: a YAML mapping is expected, this is a {type(value).__name__}")
    return value


def shard_names(index: Path) -> dict[str, str]:
    """Entry name to shard file name, from ``*.index.json``; shards lie beside the index."""
    weight_map = _read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f'{index}: no "weight_map" (an object: entry name to shard file) in this index')
    for name, shard in weight_map.items():
        # A shard name with a path in it would let a downloaded index read files elsewhere on this machine.
        if not isinstance(shard, str) or shard != Path(shard).name or not shard.endswith((SAFETENSORS, ".bin")):
            raise CheckpointError(f"{index}: {name!r} is mapped to {shard!r}, which is no shard file beside the index")
    return weight_map


def verify_hash(path: Path, expected: str) -> None:
    """Raise CheckpointError unless the file's SHA-256 begins with the hexadecimal digits `expected`."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    actual = digest.hexdigest()[: len(expected)]
    if actual != expected:
        raise CheckpointError(
            f"{path}: the SHA-256 of this file begins with {actual}, its name says {expected}: the download was cut "
            "short or the file was altered; download it again (or rename it if you changed it yourself)"
        )


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise CheckpointError(f"{path}: not JSON{_what_it_is(path)} ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, this is a {type(value).__name__}")
    return value


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file: truncated or damaged{_what_it_is(path)} ({error})"
        ) from error


def _read_torch(path: Path) -> Mapping[Any, Any]:
    try:
        # X-Codec's originals have some in-memory files among their weights. Making one runs no code of the file's.
        with torch.serialization.safe_globals([io.BytesIO]):
            entries = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:
        # The restricted unpickler meets arbitrary bytes: besides its own errors anything from EOFError to
        # IndexError comes out. Its text is not passed on, since it advises to load the file unrestricted.
        code = _code_in(path, str(error))
        if code is not None:
            raise CheckpointError(
                f"{path}: refused: it is a pickle that would run code while loading ({code}), which was not executed. "
                f"Only plain tensors are read; {_advice(code)}"
            ) from error
        raise CheckpointError(f"{path}: not a whole torch file: truncated or damaged{_what_it_is(path)}") from error
    if not isinstance(entries, Mapping):
        raise CheckpointError(
            f"{path}: a state dict is expected, names to tensors; this is of type {type(entries).__name__}"
        )
    return entries


def _code_in(path: Path, message: str) -> str | None:
    """What a torch file that the restricted unpickler turned down would have called, or None if it is just broken."""
    if "TorchScript" in message:
        return "a TorchScript program"
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if _head(path).startswith(_ZIP_MAGIC):
        return named[1] if named else None
    called = _names_called(path)
    if named:  # a name that the end of the file cut off is no call
        return named[1] if named[1] in called else None
    return next((name for name in called if name.split(".")[0] not in ("_io", "collections", "torch")), None)


def _advice(code: str) -> str:
    if code.startswith("omegaconf."):  # audiocraft's training checkpoints hold their configuration as an object
        return "audiocraft.utils.export.export_encodec makes a file of it whose configuration is text"
    return "ask its author for a safetensors file or a plain state dict"


def _names_called(path: Path) -> list[str]:
    """The functions and classes that the pickles at the head of `path` name, disassembled and not run."""
    names: list[str] = []
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            while file.peek(1):  # torch's files from before 1.6 are five pickles and then raw data
                for opcode, argument, _ in pickletools.genops(file):
                    if opcode.name in ("GLOBAL", "INST"):
                        names.append(str(argument).replace(" ", "."))
                    elif opcode.name == "STACK_GLOBAL":  # joins the module and the name that were pushed as strings
                        names.append(".".join(strings[-2:]))
                    elif isinstance(argument, str):
                        strings.append(argument)
    except Exception:  # the raw data, or a damaged pickle: genops raises whatever its decoders raise
        return names
    return names


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _what_it_is(path: Path) -> str:
    """A hint for the two files that are most often found in the place of a checkpoint."""
    head = _head(path).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "; it is a git-lfs pointer, run `git lfs pull` for the real file"
    if head.startswith((b"<!doctype html", b"<html")):
        return "; it is a web page, not the file behind the link"
    return ""


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = shard_names(index)
    shards: dict[str, Mapping[Any, Any]] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.parent / shard
        if not path.is_file():
            raise CheckpointError(f"{path}: not there, but {index.name} says that weights are in it")
        shards[shard] = read_weights(path)
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise CheckpointError(f"{index.parent / shard}: no entry {name!r}, but {index.name} says it is there")
    return {name: shards[shard][name] for name, shard in weight_map.items()}
