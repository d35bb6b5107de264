"""What a codec is given, audio and codes and latents: checked, on its device, and how many samples it stands for."""

from torch import Tensor, nn

from ..codes import Codes, CodesLike
from ..errors import CodesError, ShapeError, StreamError
from ..pcm import AudioLike, as_float
from .checks import check_latents, check_scale, checked_data
from .framing import Framing
from .tracked import PRECISIONS, TrackedModule

__all__ = ["CheckedInput"]


class CheckedInput(TrackedModule):
    """The part of a codec that takes in what callers, streams and engines have."""

    framing: Framing
    pad: bool = True
    """Whether a whole signal comes back where frames are floored: zeros at its end fill the last one; see `missing`."""

    def as_rows(self, wav: AudioLike, batch: int | None = None, *, grad: bool = False) -> Tensor:
        """Checked audio [B, channels, n] as rows [B, n, channels] on the codec's device; grad: as for `as_float`."""
        weights = self.quantizer.codebooks
        if weights.dtype not in PRECISIONS:
            self.check_precision()
        pcm = as_float(wav, channels=self.spec.channels, grad=grad)
        if batch is not None and pcm.shape[0] != batch:
            raise ShapeError(f"audio has batch {pcm.shape[0]}, this stream was opened with batch={batch}")
        if weights.dtype != pcm.dtype or weights.device != pcm.device:
            pcm = pcm.to(weights.device, weights.dtype)
        return pcm.transpose(1, 2)

    def checked(self, codes: CodesLike, batch: int | None = None) -> Codes:
        """`codes`, where they can be decoded, the scale with the codec's device and dtype.

        Raises InputError: ShapeError, DtypeError, NonFiniteError, CodesError.
        """
        self.check_precision()
        codes = checked_data(codes, self.spec, batch)
        if codes.length is not None and codes.length < 0:
            raise CodesError(f"codes have length {codes.length!r}; a length is a whole number of samples, at least 0")
        check_scale(codes, self.spec, self.framing.scaled)
        if codes.scale is None:
            return codes
        return Codes(codes.data, codes.scale.to(self.device, self.dtype), codes.length)

    def missing(self, samples: int) -> int:
        """Zeros that a signal of `samples` gets at its end, so that its frames bring all of it back.

        None where there is no signal, where the encoder completes a last frame itself (EnCodec), and where `pad` is
        off.
        """
        return self.framing.missing(samples) if self.pad else 0

    def filled(self, rows: Tensor) -> Tensor:
        """A whole signal, [B, N, channels], with the zeros of `missing` at its end."""
        missing = self.missing(rows.shape[1])
        return nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows

    def covered(self, samples: int, frames: int) -> int:
        """Samples of a whole signal of `samples` that its `frames` frames bring back.

        All of them but where `pad` is off and frames are floored (DAC): what does not fill a last frame is lost then.
        """
        return self.framing.covered(samples, frames)

    def check_follows(self, codes: Codes, short: bool) -> None:
        """Raises StreamError for frames after the end of the audio. short: earlier codes said that it ends there.

        Frames of length 0 belong to it still: they hold what the decoder's last samples need (see `missing`).
        """
        if short and codes.data.shape[2] and (codes.length != 0 or not self.framing.appends):
            raise StreamError("frames after the last ones: the length of earlier codes said that the audio ends there")

    def check_length(self, length: int, frames: int) -> None:
        """Raises CodesError where `frames` frames from the start of a stream cannot stand for `length` samples."""
        room = self.spec.samples(frames)
        if length > room and not self.framing.ends_short(length, frames):
            raise CodesError(f"{frames} frames of {self.spec.name} stand for {room} samples, not for {length}")

    def latents(self, codes: Codes) -> Tensor:
        """Checked codes as latents [B, T, D]."""
        quantizer, data = self.quantizer, codes.data
        if data.device != quantizer.codebooks.device:
            data = data.to(quantizer.codebooks.device)
        return quantizer.decode(data.transpose(1, 2))

    def latent_rows(self, latents: Tensor) -> Tensor:
        """Checked latents [B, D, T] as rows [B, T, D] of the codec's device and dtype."""
        check_latents(latents, self.spec, self.quantizer.dimension)
        return latents.to(self.device, self.dtype).transpose(1, 2)
