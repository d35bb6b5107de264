"""The codec that is measured, as a system, and how evenly it uses its codebooks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..train.quantizer import perplexity
from .recording import Decoded, Recording

__all__ = ["MeasuredCodec", "Usage", "usage_line"]

USE_WANTED = 0.6  # of a codebook's entries, as perplexity: below it bits are wasted


@dataclass(frozen=True)
class Usage:
    """Perplexity of each codebook (entries in effective use) of `entries` on the codes of some recordings."""

    frames: int
    entries: int
    perplexities: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the entries."""
        return tuple(value / self.entries for value in self.perplexities)


class MeasuredCodec:
    """A codec at each of its bandwidths; it counts codes by the way. A mono codec hears the channels' mean.

    Codecs run offline here. Streams give the same (docs/exactness.md).
    """

    def __init__(self, codec: Any):
        self.codec = codec
        self.counts = torch.zeros(codec.spec.num_codebooks, codec.spec.codebook_size, dtype=torch.float64)

    def __call__(self, recording: Recording) -> Iterator[Decoded]:
        """One for each bandwidth."""
        spec = self.codec.spec
        wav = torch.from_numpy(recording.audio)[None, None].expand(1, spec.channels, -1)
        bits_per_code = (spec.codebook_size - 1).bit_length()
        for bandwidth in spec.bandwidths:
            codes = self.codec.encode(wav, bandwidth)
            if bandwidth == spec.bandwidths[-1]:
                for k, used in enumerate(codes.data[0]):
                    self.counts[k] += torch.bincount(used.cpu(), minlength=spec.codebook_size)
            audio = self.codec.decode(codes)[0].mean(0).cpu().numpy()
            yield Decoded(f"codec {bandwidth:g}", audio[: len(recording.audio)], codes.data.numel() * bits_per_code)

    def usage(self) -> Usage:
        """Of the codebooks, over all recordings so far."""
        return Usage(int(self.counts[0].sum()), self.counts.shape[1], tuple(perplexity(self.counts).tolist()))


def usage_line(usage: Usage) -> str:
    """A sentence on the codebooks, and a warning where one is hardly used."""
    shown = ", ".join(f"{share:.0%}" for share in usage.shares)
    low = [str(k) for k, share in enumerate(usage.shares) if share <= USE_WANTED]
    if usage.frames < 4 * usage.entries:
        verdict = "too few frames to judge"
    else:
        verdict = f"not above {USE_WANTED:.0%}: codebook {', '.join(low)}" if low else f"all above {USE_WANTED:.0%}"
    return f"Codebook use (perplexity over {usage.entries} entries, {usage.frames} frames): {shown}; {verdict}."
