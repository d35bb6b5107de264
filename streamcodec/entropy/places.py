"""Where the entropy model of a codec lies, where nobody says."""

import os
from importlib import resources
from pathlib import Path

from ..errors import CheckpointError
from .model import EntropyModel

__all__ = ["FILE", "find_model"]

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
    if codec is None or (codec == BUNDLED and not Path(codec).exists()):
        with resources.as_file(resources.files("streamcodec") / "bundled" / BUNDLED / FILE) as bundled:
            return EntropyModel.read(bundled)
    if not (beside := Path(codec) / FILE).is_file():
        raise CheckpointError(
            f"no entropy model lies beside the codec {codec}, as {FILE}: name one, or train it with "
            "`streamcodec train entropy`"
        )
    return EntropyModel.read(beside)
