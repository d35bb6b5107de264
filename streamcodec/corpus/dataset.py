"""Tokens as `streamcodec tokenize` wrote them, for torch."""

import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..codecs import Codec
from ..codes import Codes
from ..errors import InputError
from ..scalars import whole
from .folder import Folder, find_shards
from .formats import Shard, open_shard

__all__ = ["TokenBatch", "TokenDataset", "TokenItem"]

OPEN_SHARDS = 8  # that a process keeps open


class TokenItem(NamedTuple):
    """A recording as tokens.

    key: its name; codes: [1, K, T], with scale and length; sample_rate: Hz; silence: the share of its time below -60
    dBFS; fields: the columns of the source; audio: [channels, samples] where the data set was given a codec, else None.
    """

    key: str
    codes: Codes
    sample_rate: int
    silence: float
    fields: dict[str, Any]
    audio: Tensor | None = None


class TokenBatch(NamedTuple):
    """Several items. keys: their names; codes: [B, K, T] int64, filled up at the end; frames: [B], how many are theirs;
    fields: of each."""

    keys: list[str]
    codes: Tensor
    frames: Tensor
    fields: list[dict[str, Any]]


class TokenDataset(Dataset):
    """A folder of tokens. An item is read when it is asked for, in any order: ``dataset[17]``.

    folder: what `streamcodec tokenize` wrote. codec: with it, items come with their audio; it must be the one that made
    them. It goes into a `DataLoader` with any sampler and any number of workers, and into `DistributedSampler`;
    `shard` divides it without one. Raises AudioError where there are no tokens, InputError for another codec.
    """

    def __init__(self, folder: str | Path, codec: Codec | None = None) -> None:
        self.about = Folder.read(Path(folder))
        self.codec = codec
        if codec is not None and codec.fingerprint != self.about.header.fingerprint:
            raise InputError(
                f"{folder} was made by another codec than {codec.spec.name}: load {self.about.header.source!r}"
                if self.about.header.source
                else f"{folder} was made by another codec than {codec.spec.name}: load() without a name"
            )
        self._paths = find_shards(self.about.path)
        self._opened: dict[int, Shard] = {}
        keys: list[str] = []
        frames: list[int] = []
        sizes = []
        for path in self._paths:
            shard = open_shard(path)
            keys += shard.keys
            frames += shard.frames
            sizes.append(len(shard.keys))
            shard.close()
        self.keys, self.frames = keys, frames
        self._starts = [0, *accumulate(sizes)]
        self._rows: Sequence[int] = range(len(keys))

    keys: list[str]
    """Of its items, in order."""
    frames: list[int]
    """Of each item: what a sampler needs to make batches of items of about one length."""

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.about.header.sample_rate

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: SupportsIndex) -> TokenItem:
        place = self._rows[index.__index__()]  # raises IndexError, by which a loop over it ends
        number = bisect.bisect_right(self._starts, place) - 1
        item = self._shard(number).item(place - self._starts[number])
        scale = None if item.scale is None else torch.from_numpy(item.scale)[None]
        codes = Codes(torch.from_numpy(item.codes)[None], scale, item.length)
        audio = None if self.codec is None else self.codec.decode(codes)[0].cpu()
        return TokenItem(item.key, codes, self.sample_rate, item.silence, item.fields, audio)

    def __iter__(self) -> Iterator[TokenItem]:
        return (self[i] for i in range(len(self)))

    def _shard(self, number: int) -> Shard:
        shard = self._opened.pop(number, None) or open_shard(self._paths[number])
        self._opened[number] = shard  # the last used at the end
        while len(self._opened) > OPEN_SHARDS:
            self._opened.pop(next(iter(self._opened))).close()
        return shard

    def __getstate__(self) -> dict[str, Any]:
        """Without open files: a worker opens its own."""
        return self.__dict__ | {"_opened": {}}

    def shard(self, index: SupportsIndex, count: SupportsIndex) -> "TokenDataset":
        """The part of it that the worker or rank `index` of `count` reads: stretches of items that lie together.

        Parts are disjoint and make up the whole; their numbers of items differ by at most one. Raises InputError.
        """
        index, count = whole(index, "index", 0), whole(count, "count")
        if index >= count:
            raise InputError(f"index is {index}; with {count} parts it must be 0 to {count - 1}")
        other = TokenDataset.__new__(TokenDataset)
        other.__dict__.update(self.__getstate__())
        rows = self._rows[len(self) * index // count : len(self) * (index + 1) // count]
        other._rows = rows
        other.keys = self.keys[len(self) * index // count : len(self) * (index + 1) // count]
        other.frames = self.frames[len(self) * index // count : len(self) * (index + 1) // count]
        return other

    @staticmethod
    def collate(items: Sequence[TokenItem], fill: int = 0) -> TokenBatch:
        """Items as one batch, the shorter ones filled up at the end with `fill`: a DataLoader's `collate_fn`."""
        frames = [item.codes.shape[2] for item in items]
        codes = torch.full((len(items), items[0].codes.shape[1], max(frames)), fill)
        for row, item in zip(codes, items, strict=True):
            row[:, : item.codes.shape[2]] = item.codes.data[0]
        return TokenBatch([item.key for item in items], codes, torch.tensor(frames), [item.fields for item in items])
