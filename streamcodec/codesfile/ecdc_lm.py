"""EnCodec's language model (encodec 0.1.1, `model.py` and `modules/transformer.py`), which ``.ecdc`` files may use.

From the codes so far it gives the probabilities of the next frame's, of all codebooks at once. It is a causal
Transformer; its state is a value (`LmState`). Its floats decide the bits of a file, so every operation is the one of
torch that upstream calls, on arrays of the same shapes: what is kept are the inputs of each layer, and keys and values
are computed from them anew in every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..codecs.tensors import layers_for
from ..errors import CheckpointError, CodesError
from .ecdc_coder import LEAST, TOTAL, RangeDecoder, RangeEncoder

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = ["PAST_SECONDS", "EncodecLM", "LmDecoder", "LmEncoder", "LmState", "check_lm"]

HEADS = 8
LONGEST_PERIOD = 10_000
PAST_SECONDS = 3.5  # that a layer sees
ROUNDED = 1e-8  # to which probabilities are rounded down
MOST_LAYERS, MOST_WIDTH = 64, 8192
PREFIX = "transformer."


@dataclass(frozen=True)
class LmState:
    """What the model remembers of a stream. frames: so far; inputs: of each layer for the last of them, [1, n, D]."""

    frames: int
    inputs: tuple[Tensor, ...]


class _Layer(nn.Module):
    """A layer of `nn.TransformerEncoder` that also sees the frames before; its parameters have the same names."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: the frame, [1, 1, D]; seen: those before it and itself, [1, n, D]."""
        nothing_hidden = torch.zeros(1, seen.shape[1], dtype=torch.bool, device=x.device)
        heard = self.self_attn(x, seen, seen, attn_mask=nothing_hidden, need_weights=False)[0]
        x = self.norm1(x + heard)
        changed: Tensor = self.norm2(x + self.linear2(functional.gelu(self.linear1(x))))
        return changed


class EncodecLM(nn.Module):
    """The model of a checkpoint's tensors, by upstream's names; `EncodecLM.load` reads a file.

    codebooks: for how many it gives probabilities; entries: of each. Raises CheckpointError for other tensors.
    """

    def __init__(self, tensors: Mapping[Any, Any], path: object = "the language model") -> None:
        super().__init__()
        named = {str(name).removeprefix(PREFIX): value for name, value in tensors.items()}
        width, hidden, layers, self.codebooks, self.entries = _sizes(named, path)
        with layers_for(named):
            self.norm_in = nn.LayerNorm(width)
            self.layers = nn.ModuleList(_Layer(width, hidden) for _ in range(layers))
            self.emb = nn.ModuleList(nn.Embedding(self.entries + 1, width) for _ in range(self.codebooks))
            self.linears = nn.ModuleList(nn.Linear(width, self.entries) for _ in range(self.codebooks))
        try:
            self.load_state_dict({name: value.float().contiguous() for name, value in named.items()}, assign=True)
        except RuntimeError as error:
            raise CheckpointError(f"{path} is not a language model of EnCodec's: {error}") from None
        self.requires_grad_(False).eval()

    @staticmethod
    def load(path: "str | os.PathLike[str]") -> "EncodecLM":
        """From a file, such as upstream's encodec_lm_24khz-1608e3c0.th. Nothing in it is run."""
        from ..checkpoint.files import read_weights

        return EncodecLM(read_weights(Path(path)), path)

    def start(self) -> LmState:
        """Before the first frame: upstream's layers see one frame of zeros then."""
        width = self.norm_in.normalized_shape[0]
        return LmState(0, tuple(torch.zeros(1, 1, width) for _ in self.layers))

    def step(self, before: Tensor | None, codebooks: int, past: int, state: LmState) -> tuple[Tensor, LmState]:
        """Probabilities of a frame's codes, [K, entries], and the state after it.

        before: the codes of the frame before, [K] int64; None for the first. past: frames that a layer sees before it.
        """
        with torch.inference_mode():
            chosen = torch.zeros(codebooks, dtype=torch.int64) if before is None else 1 + before
            x = sum(embedding(chosen[k : k + 1, None]) for k, embedding in enumerate(self._first(self.emb, codebooks)))
            x = self.norm_in(x) + self._place(state.frames)
            inputs = []
            for layer, earlier in zip(self.layers, state.inputs, strict=True):
                seen = torch.cat([earlier, x], 1)
                inputs.append(seen[:, -past:])
                x = layer(x, seen)
            logits = torch.stack([linear(x) for linear in self._first(self.linears, codebooks)], 1)
            # Along this dimension of this layout, since other loops add in another order.
            shares = torch.softmax(logits.permute(0, 3, 1, 2), 1)
            return shares[0, :, :, 0].T, LmState(state.frames + 1, tuple(inputs))

    @staticmethod
    def _first(modules: nn.ModuleList, count: int) -> list[nn.Module]:
        return list(modules)[:count]

    def _place(self, frame: int) -> Tensor:
        """Cosines and sines of the frame's number, [1, 1, D]."""
        half = self.norm_in.normalized_shape[0] // 2
        phase = torch.full((1, 1, 1), frame) / LONGEST_PERIOD ** (torch.arange(half).view(1, 1, -1) / (half - 1))
        return torch.cat([torch.cos(phase), torch.sin(phase)], -1)


def _sizes(tensors: Mapping[str, Any], path: object) -> tuple[int, int, int, int, int]:
    """Width, hidden width, layers, codebooks and entries, by the shapes."""

    def shape(name: str) -> tuple[int, int]:
        value = tensors.get(name)
        if not isinstance(value, Tensor) or value.ndim != 2 or not value.is_floating_point():
            raise CheckpointError(f"{path} is not a language model of EnCodec's: it has no weights {name}")
        return value.shape[0], value.shape[1]

    entries, width = shape("emb.0.weight")
    hidden, _ = shape("layers.0.linear1.weight")
    layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    codebooks = sum(name.startswith("emb.") for name in tensors)
    if not (4 <= width <= MOST_WIDTH and width % HEADS == 0 and hidden <= MOST_WIDTH and layers <= MOST_LAYERS):
        raise CheckpointError(
            f"{path} has {layers} layers of {width} and {hidden}; this is no language model of EnCodec's"
        )
    if any(not isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"{path} has entries that are no weights; give a bare state dict")
    return width, hidden, layers, codebooks, entries - 1


class _Coder:
    """What both ends have: the tables of each frame, one segment after the other. past: frames that a layer sees."""

    def __init__(self, lm: EncodecLM, codebooks: int, past: int) -> None:
        self._lm, self._codebooks, self._past = lm, codebooks, past
        self._restart()

    def _restart(self) -> None:
        self._before: Tensor | None = None
        self._state = self._lm.start()

    def _tables(self) -> list[list[int]]:
        """Cumulative frequencies for each codebook's next code: upstream's sums, which end below 2**24."""
        shares, self._state = self._lm.step(self._before, self._codebooks, self._past, self._state)
        rounded = (shares / ROUNDED).floor() * ROUNDED
        spread = 1 - LEAST * self._lm.entries / TOTAL
        counts = ((spread * TOTAL) * rounded).floor().long() + LEAST
        tables: list[list[int]] = counts.cumsum(-1).tolist()
        return tables


class LmEncoder(_Coder):
    """Frames of codes to bytes, with the calls of a `BitPacker`: `flush` ends a segment."""

    def __init__(self, lm: EncodecLM, codebooks: int, past: int) -> None:
        super().__init__(lm, codebooks, past)
        self._coder = RangeEncoder()

    def push(self, rows: NDArray[np.uint16]) -> bytes:
        """rows: [n, K]."""
        data = []
        for row in rows.astype(np.int64):
            for code, table in zip(row.tolist(), self._tables(), strict=True):
                self._coder.push(code, table)
            self._before = torch.from_numpy(row)
            data.append(self._coder.take())
        return b"".join(data)

    def flush(self) -> bytes:
        self._restart()
        return self._coder.flush()


class LmDecoder(_Coder):
    """The inverse, for one segment. read: gives the next byte."""

    def __init__(self, lm: EncodecLM, codebooks: int, past: int, read: "Callable[[], int]") -> None:
        super().__init__(lm, codebooks, past)
        self._coder = RangeDecoder(read)

    def pull(self) -> NDArray[np.uint16]:
        """The next frame's codes, [K]. Raises CodesError."""
        row = [self._coder.pull(table) for table in self._tables()]
        self._before = torch.tensor(row)
        return np.array(row, np.uint16)


def check_lm(lm: EncodecLM, codebooks: int, entries: int, what: object) -> None:
    """Raises CodesError where the model has no probabilities for such codes."""
    if lm.entries != entries or lm.codebooks < codebooks:
        raise CodesError(
            f"{what} has {codebooks} codebooks of {entries} entries, and the language model is for {lm.codebooks} of "
            f"{lm.entries}; give the one of this model"
        )
