"""What the speech model of a codec with a semantic branch hears, and what it makes of that."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .semantic_model import SpeechModel, resample

__all__ = ["Hearing", "SpeechFeatures"]


@dataclass(frozen=True)
class Hearing:
    """How the speech model hears the codec's samples.

    sample_rate: the codec's; hop_length: samples per frame; padding: zeros before and after the samples, at the speech
    model's rate; per_frame: rows of features per frame; stretch: give exactly that many rows by linear interpolation
    over time where the speech model gives another number; every: of the speech model's rows only each so many-th is
    heard; filter: cut-off and zero crossings of the resampler (see `resample`).
    """

    sample_rate: int
    hop_length: int
    padding: tuple[int, int]
    per_frame: int = 1
    stretch: bool = False
    every: int = 1
    filter: tuple[float, int] = (0.95, 24)


class SpeechFeatures(NamedTuple):
    """Samples [B, N, 1] that are the whole recording to the features of the speech model, [B, F, C]; no gradient."""

    speech: SpeechModel
    hearing: Hearing

    def rows(self, samples: int) -> int:
        """Rows of features for so many samples, where they are not stretched."""
        speech, hearing = self
        heard = -(-samples * speech.sample_rate // hearing.sample_rate) + sum(hearing.padding)
        return -(-speech.rows(heard) // hearing.every)

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        speech, hearing = self
        wav = resample(rows[:, :, 0], hearing.sample_rate, speech.sample_rate, *hearing.filter)
        wav = F.pad(wav, hearing.padding)
        wanted = -(-rows.shape[1] // hearing.hop_length) * hearing.per_frame
        if hearing.stretch and wanted:  # a row at least, of which the others can be made
            wav = F.pad(wav, (0, max(0, speech.extent - wav.shape[1])))
        features: Tensor = speech(wav)[:, :: hearing.every]
        if not hearing.stretch or features.shape[1] == wanted:
            return features
        if not wanted:
            return features[:, :0]
        return F.interpolate(features.transpose(1, 2), wanted, mode="linear", align_corners=False).transpose(1, 2)
