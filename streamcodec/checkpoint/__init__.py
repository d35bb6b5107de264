"""From a name, a directory or a file to a codec, and back to a directory.

This package knows the published checkpoints by name and no family's layers: it finds files, checks them, and hands a
configuration and plain tensors to `streamcodec.codecs`. Nothing that a weight file holds is ever executed.

``sources`` decides what a source means, ``hub`` fetches, ``files`` reads, ``weights`` checks and merges weight norm,
``loading`` and ``saving`` are the public calls.
"""

from .loading import Checkpoint, load, read
from .saving import save, write_directory
from .sources import ALIASES, DEFAULT_CODEC

__all__ = ["ALIASES", "DEFAULT_CODEC", "Checkpoint", "load", "read", "save", "write_directory"]
