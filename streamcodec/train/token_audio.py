"""Training audio out of a data set of tokens: what its own codec makes of them."""

from collections.abc import Iterator
from pathlib import Path, PurePath

import numpy as np
import soxr

from ..checkpoint import load
from ..corpus import TokenDataset
from ..corpus.folder import ABOUT, Folder, find_shards
from ..errors import AudioError, InputError
from ..int16 import rounded
from .pack import Packed

__all__ = ["is_tokens", "read_tokens", "token_files"]


def is_tokens(source: Path) -> bool:
    """Whether `source` is a folder that `streamcodec tokenize` wrote."""
    return source.is_dir() and (source / ABOUT).is_file()


def token_files(source: Path) -> list[Path]:
    """Its shards. Raises AudioError where there are none."""
    files = find_shards(source)
    if not files:
        raise AudioError(f"{source} holds no tokens yet: there is {ABOUT} and no shard")
    return files


def read_tokens(source: Path, sample_rate: int, channels: int) -> Iterator[Packed]:
    """Every item decoded by the codec that made it, at `sample_rate` Hz; its group is the folder in its key.

    Raises InputError where that codec is no longer what `tokens.json` says, and for an item of a hold-out folder;
    AudioError where its channels are neither `channels` nor one of the two is 1.
    """
    codec = load(Folder.read(source).header.source or None)
    given = codec.spec.channels
    if given != channels and 1 not in (given, channels):
        raise AudioError(f"{source} holds audio of {given} channels; the codec that is trained has {channels}")
    for item in TokenDataset(source, codec):
        path = PurePath(item.key)
        if "holdout" in path.parts:
            raise InputError(f"{item.key} of {source} is hold-out audio, kept for evaluation; make tokens without it")
        assert item.audio is not None
        audio = item.audio.double().numpy()
        if given != channels:
            audio = audio.mean(0, keepdims=True) if channels == 1 else np.repeat(audio, channels, 0)
        played = soxr.resample(np.ascontiguousarray(audio.T), item.sample_rate, sample_rate)
        samples = rounded(played)
        if len(samples):
            yield Packed(item.key, path.parent.name, samples)
