"""How the signal of a codec is cut for coding: frame by frame, in windows of a speech model, or in segments.

What depends on that, and on nothing else, is asked here: delays, memory of a stream, lengths, and the cores of streams.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from torch import Tensor

from ..codes import Codes
from ..nn.piece import Core, Piece
from ..nn.transducer import Network, Transducer
from ..spec import SemanticWindow
from ..stream import Start

__all__ = ["AnalyseEach", "Framing", "Primed", "Rowwise", "SynthesiseEach"]

# Gives a transducer of batch 1 on that network that has heard its prefill frames of silence.
Primed: TypeAlias = Callable[[Network], Transducer]
# Rows [B, n, ...] to as many others, each by itself: a quantizer's `encode` or `decode`.
Rowwise: TypeAlias = Callable[[Tensor], Tensor]
# Signals [N, channels] of any lengths to `quantize` of what `analyse` gives of each alone, [T, ...]. Arguments: the
# signals; their lengths with the zeros that follow them; frames that are computed at a time; `quantize`.
AnalyseEach: TypeAlias = Callable[[Sequence[Tensor], Sequence[int], int, Rowwise], list[Piece]]
# Codes of batch 1, with as many codebooks each, to what `synthesise` gives of each alone, [N, channels]. Arguments: the
# codes; lengths of the audio; frames that are computed at a time; `dequantize`.
SynthesiseEach: TypeAlias = Callable[[Sequence[Codes], Sequence[int], int, Rowwise], list[Tensor]]


class Framing(Protocol):
    """`Framed`, `Windowed` and `Segmented` are the three.

    networks: those that run frame by frame; delays: samples by which encoder and decoder trail a frame's own last one;
    prefills: frames for which each waits in a stream with an exact start; scaled: whether frames have a gain, so that
    codes need a scale; appends: whether frames of length 0 may follow the end of the audio; analyse_each,
    synthesise_each: `analyse` and `synthesise` a piece at a time, or None where a signal is only heard as a whole.
    """

    @property
    def networks(self) -> tuple[Network, ...]: ...

    delays: tuple[int, int]
    prefills: tuple[int, int]
    scaled: bool
    appends: bool

    @property
    def analyse_each(self) -> AnalyseEach | None: ...

    @property
    def synthesise_each(self) -> SynthesiseEach | None: ...

    def stream_bytes(self, itemsize: int) -> tuple[int, int]:
        """Memory of one encoder stream and of one decoder stream, for weights of `itemsize` bytes a value."""

    def multiply_adds(self) -> tuple[int, int]:
        """Of a frame, in the networks of encoder and decoder (`Program.multiply_adds`); a speech model is left out."""

    def analyse(self, rows: Tensor) -> Piece:
        """A whole signal, [B, N, channels], to the latents that are quantized, [B, T, D], with their scale."""

    def synthesise(self, latents: Tensor, scale: Tensor | None, length: int) -> Tensor:
        """The whole signal, [B, at least `length` if there is as much, channels], of latents [B, T, D]."""

    def missing(self, samples: int) -> int:
        """Zeros that a signal of `samples` needs at its end, so that its frames bring all of it back."""

    def covered(self, samples: int, frames: int) -> int:
        """Samples of a whole signal of `samples` that its `frames` frames bring back."""

    def ends_short(self, length: int, frames: int) -> bool:
        """Whether a signal of `length` samples makes `frames` frames, though as many whole ones stand for fewer."""

    def check_streamable(self, name: str) -> None:
        """Raises NotStreamableError where nothing can come out before the end. name: the codec's, to tell."""

    def check_latents_suffice(self, name: str, call: str) -> None:
        """Raises InputError where latents alone do not say what the signal is. call: what was called, to tell."""

    def encoder_core(
        self, batch: int, start: Start, window: SemanticWindow | None, like: Tensor, primed: Primed
    ) -> Core:
        """The moving part of an `EncoderStream`. like: any tensor of the codec's element type, on its device."""

    def decoder_core(self, batch: int, start: Start, like: Tensor, primed: Primed) -> Core:
        """The moving part of a `DecoderStream`."""
