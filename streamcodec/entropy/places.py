"""Where the entropy model of a codec lies, where nobody says."""

import os
from importlib import resources
from pathlib import Path

from ..errors import CheckpointError
from .model import EntropyModel

__all__ = ["FILE", "find_model", "model_beside"]

FILE = "entropy.safetensors"
BUNDLED = "streamcodec_24khz"


def find_model(
    path: "str | os.PathLike[str] | None" = None, codec: "str | os.PathLike[str] | None" = None
) -> EntropyModel:
    """The model in the file `path`; where that is None, the one that lies beside a codec's config.json.

    codec: what `streamcodec.load` was given: None or "streamcodec_24khz" for the codec in this package, or a folder.
    Raises CheckpointError where there is none, or it is damaged.
    """
    if path is not None:
        return EntropyModel.read(path)
    if (model := model_beside(codec)) is None:
        raise CheckpointError(
            f"no entropy model lies beside {'the codec in this package' if codec is None else codec}, as {FILE}: name "
            "one, or train it with `streamcodec train entropy`"
        )
    return model


def model_beside(codec: "str | os.PathLike[str] | None") -> EntropyModel | None:
    """As `find_model` without a path; None where there is no such file."""
    if codec is None or (codec == BUNDLED and not Path(codec).exists()):
        with resources.as_file(resources.files("streamcodec") / "bundled" / BUNDLED / FILE) as bundled:
            return EntropyModel.read(bundled) if bundled.is_file() else None
    beside = Path(codec) / FILE
    return EntropyModel.read(beside) if beside.is_file() else None
