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
    over time where the speech model gives another number.
    """

    sample_rate: int
    hop_length: int
    padding: tuple[int, int]
    per_frame: int = 1
    stretch: bool = False


class SpeechFeatures(NamedTuple):
    """Samples [B, N, 1] that are the whole recording to the features of the speech model, [B, F, C]; no gradient."""

    speech: SpeechModel
    hearing: Hearing

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        speech, hearing = self
        wav = resample(rows[:, :, 0], hearing.sample_rate, speech.sample_rate)
        wav = F.pad(wav, hearing.padding)
        wanted = -(-rows.shape[1] // hearing.hop_length) * hearing.per_frame
        if hearing.stretch and wanted:  # a row at least, of which the others can be made
            wav = F.pad(wav, (0, max(0, speech.extent - wav.shape[1])))
        features: Tensor = speech(wav)
        if not hearing.stretch or features.shape[1] == wanted:
            return features
        if not wanted:
            return features[:, :0]
        return F.interpolate(features.transpose(1, 2), wanted, mode="linear", align_corners=False).transpose(1, 2)
