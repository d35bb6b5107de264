"""The tables by which the native library runs a lapped transform (source/lapped.h): those of a few short Fourier
transforms in the place of a matrix of 4 * hop * hop numbers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["divided", "room", "tables"]


def divided(hop: int, lanes: int) -> tuple[int, int]:
    """The two factors of `hop` by which it is fastest, (inner, outer): vectors lie along the inner one."""

    def work(inner: int) -> int:
        return -(-inner // lanes) * (hop // inner) * (inner + hop // inner)

    inner = min((i for i in range(1, hop + 1) if hop % i == 0), key=work)
    return inner, hop // inner


def room(hop: int, lanes: int) -> int:
    """Floats that it needs beside the tables."""
    inner, outer = divided(hop, lanes)
    return 4 * (hop + lanes) + 2 * outer * (inner + lanes) + 2 * hop + lanes


def tables(hop: int, lanes: int) -> Tensor:
    """All of them one after the other, real parts and then imaginary ones, the lines filled up to whole vectors.

    With y_t the samples under the window, bin k is the sum over t < 2 hop of
    ``y_t exp(-i pi (k + 1/2) (t + 1/2 + hop / 2) / hop)``. For even k the sample t + hop counts as sample t times -i.
    The odd bins are conjugates of even ones beyond the last, since samples are real. So the bins 2m, and from hop on
    the bins 2 hop - 1 - 2m instead, come of one Fourier transform of hop values.
    """
    inner, outer = divided(hop, lanes)
    time = torch.arange(hop, dtype=torch.float64)
    window = torch.sin(math.pi / (2 * hop) * (torch.arange(2 * hop, dtype=torch.float64) + 0.5)) * math.sqrt(2 / hop)
    shift = _turned(time / (4 * hop))
    near, far = window[:hop] * shift, window[hop:] * shift * -1j
    bins = torch.where(2 * time < hop, 2 * time, 2 * (hop - time) - 1)
    turn = _turned((bins + 0.5) * (1 + hop) / (4 * hop))
    turn = torch.where(2 * time < hop, turn, turn.conj())
    a, b = torch.arange(inner, dtype=torch.float64), torch.arange(outer, dtype=torch.float64)
    small, large = _turned(torch.outer(a, a) / inner), _turned(torch.outer(b, b) / outer)
    twiddle = _turned(torch.outer(b, a) / hop)
    lines = [_filled(each, lanes) for each in (near, far, turn, small, twiddle)]
    return torch.cat([part.flatten() for each in (*lines, large) for part in (each.real, each.imag)]).float()


def _turned(turns: Tensor) -> Tensor:
    """exp(-2 pi i turns)."""
    return torch.polar(torch.ones_like(turns), -2 * math.pi * turns.remainder(1))


def _filled(rows: Tensor, lanes: int) -> Tensor:
    return F.pad(rows, (0, -rows.shape[-1] % lanes))
