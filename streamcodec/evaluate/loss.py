"""Which packets are lost: the same ones for every system."""

import zlib
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

__all__ = ["BURST", "Loss", "lost_packets"]

BURST = 4.0  # packets of a burst, on average: 80 ms


@dataclass(frozen=True)
class Loss:
    """A share of the packets, 0 to 1; burst: how many are lost together on average, 1: each by itself."""

    share: float
    burst: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 0.5 or not 1 <= self.burst <= 50:
            raise InputError(
                f"a loss of {100 * self.share:g}% in bursts of {self.burst:g}; it must be 0 to 50%, 1 to 50"
            )

    @property
    def name(self) -> str:
        return f"{100 * self.share:g}%{' in bursts' if self.burst > 1 else ''}"


def lost_packets(count: int, loss: Loss, name: str) -> np.ndarray:
    """[count] bool: which packets are lost, `loss.share` of them, rounded. name: of the recording, so that each has
    losses of its own, and they are the same again.

    Bursts have geometric lengths and stand at random places, never side by side.
    """
    random = np.random.default_rng(zlib.crc32(f"{name} {loss.share} {loss.burst}".encode()))
    total = round(loss.share * count)
    lengths: list[int] = []
    while sum(lengths) < total:
        lengths.append(min(int(random.geometric(1 / loss.burst)), total - sum(lengths)))
    # Each burst comes behind another packet that is received; the first packet always is.
    behind = np.sort(random.choice(count - total, len(lengths), replace=False))
    lost = np.zeros(count, bool)
    place = 0
    for burst, after in zip(lengths, behind, strict=True):
        begin = after + 1 + place
        lost[begin : begin + burst] = True
        place += burst
    return lost
