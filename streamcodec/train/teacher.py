"""A teacher: a codec whose latents the encoder learns, and whose answers to the codes the decoder learns.

A recording holds more than a few codes can say, and a decoder that learns it by regression gives the average of what
it might have been: harmonics blur. What a teacher's decoder makes of the codes' latents is a function of the codes:
nothing is left to average. (Knowledge distillation: Hinton et al. 2015.) The teacher is in no codec that is exported.
"""

import torch
from torch import Tensor, nn

from ..codecs import Codec
from ..errors import ConfigError

__all__ = ["Teacher", "resampled"]


def resampled(audio: Tensor, length: int) -> Tensor:
    """[B, N] of one duration in `length` samples, by its Fourier transform: no lag, and periodic at the ends."""
    spectrum = torch.fft.rfft(audio.float())
    bins = length // 2 + 1
    if spectrum.shape[1] > bins:
        spectrum = spectrum[:, :bins]
    return torch.fft.irfft(spectrum, n=length) * (length / audio.shape[1])


def _latent_channels(codec: Codec) -> int:
    silence = torch.zeros(1, 1, codec.spec.hop_length, device=codec.device, dtype=codec.dtype)
    with torch.no_grad():
        return codec.encode_latents(silence).shape[1]


class Teacher(nn.Module):
    """`codec` as the teacher of `student`; latents are [B, T, D].

    What the student sees of the latents is (latents - mean) / scale, of about unit variance; `measure` sets these two.
    Raises ConfigError where the frames of the two do not go together.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, codec: Codec, student: Codec):
        super().__init__()
        self.codec, self.rate = codec.requires_grad_(False), student.spec.sample_rate
        own, spec = codec.spec, student.spec
        if student.segments is not None:
            raise ConfigError(
                f"{spec.name} works on segments, each with a level of its own, which no teacher's latents have; leave "
                "teacher.codec out"
            )
        if (own.channels, spec.channels) != (1, 1) or codec.segments is not None or own.frame_rate != spec.frame_rate:
            raise ConfigError(
                f"teacher.codec {own.name} has {own.frame_rate:g} frames a second; a mono codec can teach another, "
                f"with as many as {spec.name} has, {spec.frame_rate:g}"
            )
        channels, wanted = _latent_channels(codec), _latent_channels(student)
        if channels != wanted:
            raise ConfigError(
                f"teacher.codec {own.name} has latents of {channels} channels; set codec.hidden_size = {channels}, "
                f"which is {wanted}"
            )
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def measure(self, audio: Tensor) -> None:
        """Learn mean and scale of the latents of audio [B, N]."""
        latents = self._latents(audio)
        self.mean.copy_(latents.mean((0, 1)))
        self.scale.copy_((latents - self.mean).square().mean().sqrt().clamp_min(1e-6))

    def _latents(self, audio: Tensor) -> Tensor:
        length = audio.shape[1] * self.codec.spec.sample_rate // self.rate
        return self.codec.encode_latents(resampled(audio, length)[:, None]).transpose(1, 2).float()

    @torch.no_grad()
    def latents(self, audio: Tensor) -> Tensor:
        """What the encoder has to make of audio [B, N]."""
        return (self._latents(audio) - self.mean) / self.scale

    @torch.no_grad()
    def answer(self, latents: Tensor, audio: Tensor) -> Tensor:
        """What the decoder has to make of `latents`, [B, N]: of `audio`, only what lies above the teacher's band."""
        given = latents * self.scale + self.mean
        length = audio.shape[1] * self.codec.spec.sample_rate // self.rate
        heard = self.codec.decode_latents(given.transpose(1, 2))[:, 0, :length].float()
        heard = nn.functional.pad(heard, (0, length - heard.shape[1]))
        above = audio - resampled(resampled(audio, length), audio.shape[1])
        return resampled(heard, audio.shape[1]) + above
