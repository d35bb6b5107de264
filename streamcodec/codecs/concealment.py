"""What stands for frames that are missing: the last frame that was heard, on its way to silence.

Sound goes on for a while, so the frame before a gap is the best guess for the frames in it; the longer the gap, the
less is known. So the last frame's latents are repeated, and move to those of silence within `FADE_SECONDS`. Prediction
by an entropy model was tried and was worse (docs/log.md).
"""

from typing import Protocol

import torch
from torch import Tensor

from ..codes import Codes
from ..nn.quantize import Quantizer
from ..nn.split import TranslatingQuantizer
from ..spec import CodecSpec

__all__ = ["FADE_SECONDS", "concealed", "fade_frames", "silent_frame"]

FADE_SECONDS = 0.16
SILENT_FRAMES, SILENT_FRAME = 32, 16  # of silence that is encoded, and the one that is taken: away from the edges


class Concealing(Protocol):
    """What of a codec this needs."""

    spec: CodecSpec
    quantizer: Quantizer

    def silence(self, frames: int, bandwidth: float | None = None) -> Codes: ...
    def silent_frame(self) -> Codes: ...
    def latents(self, codes: Codes) -> Tensor: ...


def silent_frame(codec: Concealing) -> Codes:
    """One frame of silence, [1, K, 1], K all codebooks, from the middle of some."""
    with torch.inference_mode():
        silence = codec.silence(SILENT_FRAMES, codec.spec.bandwidths[-1])
    middle = slice(SILENT_FRAME, SILENT_FRAME + 1)
    return Codes(
        silence.data[:, :, middle].clone(), None if silence.scale is None else silence.scale[:, middle].clone()
    )


def fade_frames(spec: CodecSpec) -> int:
    """Frames from the first that is missing to the first that is silence."""
    return max(1, round(FADE_SECONDS * spec.frame_rate))


def concealed(codec: Concealing, last: Codes | None, age: int, frames: int, batch: int = 1) -> Codes:
    """Codes [B, K, frames] for frames that are missing.

    last: the last frame that was heard, [B, K, 1], with its scale where the codec has scales; None where there was
    none, and then it is silence for `batch` signals. age: missing frames before these.
    """
    silent = _expanded(codec.silent_frame(), batch if last is None else last.data.shape[0])
    if last is None:
        last, age = silent, fade_frames(codec.spec)
    count, fade = last.data.shape[1], fade_frames(codec.spec)
    silent = Codes(silent.data[:, :count].to(last.data.device), silent.scale)
    shares = torch.arange(age, age + frames).clamp(max=fade) / fade  # of silence
    kept, between = int((shares == 0).sum()), int(((shares > 0) & (shares < 1)).sum())
    parts = [last.data.expand(-1, -1, kept)]
    if between:
        parts.append(_blended(codec, last, silent, shares[kept : kept + between]))
    parts.append(silent.data.expand(-1, -1, frames - kept - between))
    scale = None
    if last.scale is not None and silent.scale is not None:
        share = shares.to(last.scale)
        scale = last.scale * (1 - share) + silent.scale.to(last.scale) * share
    return Codes(torch.cat(parts, 2), scale)


def _expanded(codes: Codes, batch: int) -> Codes:
    return Codes(codes.data.expand(batch, -1, -1), None if codes.scale is None else codes.scale.expand(batch, -1))


def _blended(codec: Concealing, last: Codes, silent: Codes, shares: Tensor) -> Tensor:
    """The codes of latents between both, [B, K, n]; of a quantizer that does not find again what its codes stand for,
    the codes of the nearer one.
    """
    if isinstance(codec.quantizer, TranslatingQuantizer):
        return torch.where(shares.to(last.data.device) < 0.5, last.data, silent.data)
    with torch.inference_mode():
        heard, quiet = codec.latents(last), codec.latents(silent)  # [B, 1, D]
        share = shares.to(heard)[None, :, None]
        codes = codec.quantizer.encode(heard * (1 - share) + quiet * share, last.data.shape[1])
    return codes.transpose(1, 2).to(last.data.device, copy=True)
