"""What a convolution sees beyond the ends of a whole signal."""

import torch
from torch import Tensor

from ..errors import ConfigError
from ..program import MODES, Padding

__all__ = ["encodec_padding", "rows_outside"]


def encodec_padding(kernel: int, stride: int, dilation: int, *, causal: bool, mode: str) -> Padding:
    """EnCodec's padding: kernel extent less stride in all; on the left if causal, else the odd row goes left."""
    if mode not in MODES:
        raise ConfigError(f"pad_mode is {mode!r}; supported are {', '.join(MODES)}")
    total = (kernel - 1) * dilation + 1 - stride
    right = 0 if causal else total // 2
    return Padding(total - right, right, mode, extend=True)


def rows_outside(x: Tensor, padding: Padding, stride: int) -> tuple[Tensor, Tensor]:
    """The rows to put before and after a signal [B, T, C], T > 0, for windows `stride` rows apart."""
    length = torch.tensor(x.shape[1], device=x.device)
    after = padding.right_total(x.shape[1], stride)

    def rows(first: int, count: int) -> Tensor:
        index = torch.arange(first, first + count, device=x.device)
        source, zero = padding.source(index, length, stride)
        return x.index_select(1, source.clamp(0, x.shape[1] - 1)).masked_fill(zero[:, None], 0)

    return rows(-padding.left, padding.left), rows(x.shape[1], after)
