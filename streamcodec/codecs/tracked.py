"""A module that notices when its weights change or move, and forgets then what it had made of them."""

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from .. import stamps
from ..errors import DtypeError
from ..nn.quantize import Quantizer
from ..spec import CodecSpec

__all__ = ["NOISE_KEY", "PRECISIONS", "PRECISION_HINT", "Noise", "TrackedModule"]

Noise: TypeAlias = int | Literal["off"]
"""Of a decoder that makes up noise: its seed, or "off"."""
NOISE_KEY = "streamcodec_noise"  # of that in a config.json

T = TypeVar("T")
M = TypeVar("M", bound="TrackedModule")

# In fewer bits half of the codes are others, and a stream's are not the offline call's.
PRECISIONS = (torch.float32, torch.float64)
PRECISION_HINT = (
    "codecs compute in torch.float32 or torch.float64, since in fewer bits a stream's codes are not those of encode()"
)
# Where torch's quantised layers are at home. They stand for float ones, which streams would look for in vain.
QUANTISED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torchao")


class TrackedModule(nn.Module):
    """The weights of a codec: their type and device, what changes them, and what is kept until they change."""

    spec: CodecSpec
    config: dict[str, Any]
    quantizer: Quantizer
    noise: Noise | None = None
    """The seed of the noise that the decoder makes up (SNAC), or "off"; None where it makes none. See `load`."""

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, Any] = {}
        self._cached_for: stamps.Stamp | None = None
        self._sampler, self._sampled = stamps.Sampler(), list[Tensor]()

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made from the weights: a copy makes its own, and so does a process that gets the codec."""
        return {**self.__dict__, "_cache": {}, "_cached_for": None, "_sampler": stamps.Sampler()}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.quantizer.codebooks.device

    @property
    def dtype(self) -> torch.dtype:
        """The element type of weights and state."""
        return self.quantizer.codebooks.dtype

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "TrackedModule":
        super()._apply(fn, recurse)
        self._sampler, self._sampled = stamps.Sampler(), []
        return self

    def refresh(self) -> None:
        """Notice weights that were written in a way that torch does not count: through `.data`, or a NumPy view.

        Such a write is noticed by itself where it changes weights throughout, as training does, when a stream opens
        or something is encoded. Call this after writing a few values only: streams, saved states and the fingerprint
        would go on with the weights as they were. All other writes (`load_state_dict`, `copy_`, an optimizer's step,
        `parameter.data = ...`) are noticed, however small.
        """
        stamps.count_write(self._looked_at())
        self.note_weights()

    def note_weights(self) -> None:
        """What was made of the weights is up to date: `notice_writes` compares with what they are now."""
        self._sampled = self._sample()

    def notice_writes(self) -> None:
        """`refresh` where a sample of the weights is not what it was when this was last called, or they were noted.

        Raises DtypeError where layers were quantised or have another element type than the codec.
        """
        self.check_layers()
        now = self._sample()
        if len(now) != len(self._sampled) or not all(map(torch.equal, now, self._sampled)):
            self.refresh()

    def twin(self: M) -> M:
        """A module of its own with the same submodules and weights."""
        other = copy.copy(self)
        other._modules = self._modules.copy()
        other._sampler = stamps.Sampler()
        return other

    def _sample(self) -> list[Tensor]:
        return self._sampler.sample(self._looked_at())

    def _looked_at(self) -> list[Tensor]:
        return stamps.weights(stamps.modules(self))

    def check_layers(self) -> None:
        """Raises DtypeError where layers were quantised or have another element type than the codec."""
        modules = stamps.modules(self)
        for kind in {*map(type, modules)}:
            if kind.__module__.startswith(QUANTISED):
                name = f"{kind.__module__}.{kind.__name__}"
                raise DtypeError(f"{self.spec.name} has quantised layers ({name}); {PRECISION_HINT}: load it again")
        others = {parameter.dtype for parameter in stamps.weights(modules, buffers=False)} - {self.dtype}
        if others:
            raise DtypeError(
                f"{self.spec.name} is {self.dtype}, but has weights of {', '.join(sorted(map(str, others)))}; "
                "convert the whole codec: codec.float() or codec.double()"
            )

    def check_precision(self) -> None:
        """Raises DtypeError for a codec that was converted to an element type in which codes would be others."""
        if self.dtype not in PRECISIONS:
            raise DtypeError(f"{self.spec.name} is {self.dtype} now; {PRECISION_HINT}: codec.float() and load again")

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """`make()`, kept until the weights change or move."""
        stamp = stamps.stamp(self._looked_at())
        if stamp != self._cached_for:
            self._cache.clear()
            self._cached_for = stamp
        if key not in self._cache:
            self._cache[key] = make()
        value: T = self._cache[key]
        return value

    @property
    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights, but not `noise`: what codes and saved states are bound to."""
        self.notice_writes()
        return self.cached("fingerprint", self._fingerprint)

    def _fingerprint(self) -> str:
        config = {name: value for name, value in self.config.items() if name != NOISE_KEY}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
