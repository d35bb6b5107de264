"""What a convolution sees beyond the ends of the signal.

`Padding` is written for a whole signal; the two functions give the rows to put before and after it, from no more of the
signal than a stream still has in hand, so that the offline and the streamed convolution share one definition.

EnCodec's rule (Défossez et al. 2022, `pad1d` of the reference code): a mirrored pad needs more rows than it mirrors,
so a signal that is too short is first extended with zeros on the right, mirrored, and the same count of rows is then
cut from the right end again.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = ["MODES", "Padding", "encodec_padding", "rows_after", "rows_before"]

MODES = ("constant", "reflect", "replicate")


class Padding(NamedTuple):
    """Rows added before and after the signal.

    mode: "constant" (zeros), "reflect" (the end row not repeated) or "replicate"; extend: add up to stride - 1 rows
    more on the right, so that no input row is left out of the last stride.
    """

    left: int = 0
    right: int = 0
    mode: str = "constant"
    extend: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether padding takes rows from the signal, so that the start of a stream has to wait for them."""
        return self.mode != "constant" and self.left > 0

    def rows_needed(self) -> int:
        """Rows of the signal without which the left padding cannot be made."""
        if not self.mirrored:
            return 0
        return self.left + 1 if self.mode == "reflect" else 1

    def right_total(self, length: int, stride: int) -> int:
        """Rows added on the right of a signal of `length` rows."""
        return self.right + (-length % stride if self.extend else 0)


def encodec_padding(kernel: int, stride: int, dilation: int, *, causal: bool, mode: str) -> Padding:
    """EnCodec's padding: kernel extent less stride in all; on the left if causal, else the odd row goes left."""
    if mode not in MODES:
        raise ConfigError(f"pad_mode is {mode!r}; supported are {', '.join(MODES)}")
    total = (kernel - 1) * dilation + 1 - stride
    right = 0 if causal else total // 2
    return Padding(total - right, right, mode, extend=True)


def _shortfall(pad: Padding, length: int, right: int) -> int:
    """Zero rows by which a signal that is too short to be mirrored is extended first."""
    return max(0, max(pad.left, right) - length + 1) if pad.mode == "reflect" else 0


def rows_before(head: Tensor, pad: Padding, length: int, right: int) -> Tensor:
    """The left padding, [B, pad.left, C].

    head: [B, n, C], the first rows of the signal, n >= pad.rows_needed() or the whole signal; length: rows of the
    signal, or any number above both paddings while it is still unknown; right: `Padding.right_total`.
    """
    if pad.mode == "constant" or pad.left == 0:
        return head.new_zeros(head.shape[0], pad.left, head.shape[2])
    if pad.mode == "replicate":
        return head[:, :1].expand(-1, pad.left, -1)
    zeros = head.new_zeros(head.shape[0], _shortfall(pad, length, right), head.shape[2])
    return torch.cat([head, zeros], 1)[:, 1 : pad.left + 1].flip(1)


def rows_after(tail: Tensor, pad: Padding, length: int, right: int) -> Tensor:
    """The right padding, [B, right, C].

    tail: [B, n, C], the last rows of the signal, n > right or the whole signal.
    """
    if pad.mode == "constant" or right == 0:
        return tail.new_zeros(tail.shape[0], right, tail.shape[2])
    if pad.mode == "replicate":
        return tail[:, -1:].expand(-1, right, -1)
    zeros = tail.new_zeros(tail.shape[0], _shortfall(pad, length, right), tail.shape[2])
    extended = torch.cat([tail, zeros], 1)
    return torch.cat([zeros, extended[:, -1 - right : -1].flip(1)], 1)[:, :right]
