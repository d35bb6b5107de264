"""A codec as its streams see it."""

from typing import Literal, Protocol, SupportsFloat, TypeAlias

import torch
from torch import Tensor

from .codes import Codes, CodesLike
from .nn.piece import Core
from .nn.quantize import Quantizer
from .pcm import AudioLike
from .spec import CodecSpec, SemanticWindow

__all__ = ["Start", "Streamed", "WholeAudio", "WholeCodes"]

Start: TypeAlias = Literal["exact", "primed"]
"""How a stream begins; see `Codec.open_encoder`."""


class WholeAudio(Protocol):
    """Pushes of audio of one size; see `codecs.whole_frames`."""

    frames: int
    samples: int

    def push(self, pcm: AudioLike) -> Tensor | None: ...


class WholeCodes(Protocol):
    """Pushes of codes of one shape."""

    frames: int
    samples: int
    last: Codes

    def push(self, codes: CodesLike) -> Tensor | None: ...


class Streamed(Protocol):
    """Each is described at `Codec`."""

    spec: CodecSpec
    quantizer: Quantizer

    noise: int | Literal["off"] | None

    @property
    def fingerprint(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def as_rows(self, wav: AudioLike, batch: int | None = None) -> Tensor: ...
    def checked(self, codes: CodesLike, batch: int | None = None) -> Codes: ...
    def check_follows(self, codes: Codes, short: bool) -> None: ...
    def check_length(self, length: int, frames: int) -> None: ...
    def conceal(self, last: Codes | None, age: int, frames: int, batch: int = 1) -> Codes: ...
    def whole_audio(self, core: Core, codebooks: int, samples: int) -> WholeAudio | None: ...
    def whole_codes(self, core: Core, codes: Codes) -> WholeCodes | None: ...
    def missing(self, samples: int) -> int: ...
    def covered(self, samples: int, frames: int) -> int: ...
    def latents(self, codes: Codes) -> Tensor: ...
    def latent_rows(self, latents: Tensor) -> Tensor: ...
    def encoder_core(self, batch: int, start: Start, window: SemanticWindow | None = None) -> Core: ...
    def decoder_core(self, batch: int, start: Start, bandwidth: SupportsFloat | None = None) -> Core: ...
