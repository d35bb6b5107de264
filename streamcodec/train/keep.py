"""What a codec can already do well, and is to keep while its training goes on with other recordings.

A training on recordings gives speech back less sharp than one on a teacher's answers (see `teacher`): a recording is
no function of its codes. So for some folders the target is what a codec makes of the recording with as many codebooks:
a function of codes, which the codec being trained meets exactly when it begins there. (Learning without forgetting:
Li and Hoiem 2016.)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..codecs import Codec
from ..errors import ConfigError
from .model import Networks

__all__ = ["Keeper"]


class Keeper:
    """Gives the targets of the crops from `folders`, as `codec` makes them; it is for the training of `student`.

    Raises ConfigError where the two codecs' audio does not compare sample by sample.
    """

    def __init__(self, codec: Codec, student: Codec, folders: Sequence[str], device: torch.device, bfloat16: bool):
        own, spec = codec.spec, student.spec
        frames = 64
        samples = frames * spec.hop_length
        same = (own.sample_rate, own.channels, own.hop_length) == (spec.sample_rate, spec.channels, spec.hop_length)
        if not same or codec.framing.covered(samples, frames) != student.framing.covered(samples, frames):
            raise ConfigError(
                f"keep.codec {own.name} has {own.channels} x {own.sample_rate} Hz in frames of {own.hop_length} "
                f"samples; its output must compare with that of {spec.name}: {spec.channels} x {spec.sample_rate} Hz, "
                f"frames of {spec.hop_length}, and as late"
            )
        if own.num_codebooks < spec.num_codebooks:
            raise ConfigError(
                f"keep.codec {own.name} has {own.num_codebooks} codebooks; {spec.name} has {spec.num_codebooks}, and "
                "what is kept must be had at each number of them"
            )
        self.folders = frozenset(folders)
        self.networks = Networks(codec.requires_grad_(False), device, bfloat16)

    @torch.no_grad()
    def output(self, audio: Tensor, books: Tensor) -> Tensor:
        """What the codec makes of audio [B * C, N] with books [B] codebooks: [B * C, N'], from its first sample on."""
        quantizer = self.networks.codec.quantizer
        codes = quantizer.encode(self.networks.encode(audio).values, int(books.max()))
        used = torch.arange(codes.shape[2], device=books.device) < books[:, None]
        return self.networks.decode((quantizer.stages(codes) * used[:, None, :, None]).sum(2))

    def targets(self, audio: Tensor, books: Tensor, groups: Sequence[str]) -> Tensor:
        """The targets of recordings [B * C, N] of these groups [B]; those of other folders stay themselves."""
        kept = torch.tensor([group in self.folders for group in groups], device=audio.device)
        if not kept.any():
            return audio
        rows = kept.repeat_interleave(len(audio) // len(kept))
        output = self.output(audio[rows], books[kept])
        target = audio[:, : output.shape[1]].clone()
        target[rows] = output
        return target
