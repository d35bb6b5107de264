"""The quantizers' operations in C++, in float32 on a CPU: as the references in `ops` take them, and with codes that do
not depend on what other rows a call has.
"""

import ctypes
import math

import torch
import torch.nn.functional as F
from streamcodec_kernels.native import library
from streamcodec_kernels.native.library import InstructionSet
from streamcodec_kernels.native.memory import together
from torch import Tensor

from .errors import BackendError
from .native_support import CPU, floats, instruction_set

__all__ = [
    "RVQLookup",
    "RVQSearch",
    "factorised_decode",
    "factorised_encode",
    "in_strips",
    "project",
    "rvq_decode",
    "rvq_encode",
]


def in_strips(entries: Tensor) -> Tensor:
    """Entries [K, N, D] as the search reads them fastest, [K, strips, D, entries of a strip]: from the first number to
    the last. The last strip is filled up with zeros. In float16 where that holds every number to the bit, and the
    instruction set reads it: half the bytes. Raises BackendError.
    """
    here = instruction_set()
    width = _strip(here)
    strips = F.pad(entries, (0, 0, 0, -entries.shape[1] % width)).unflatten(1, (-1, width)).mT
    if here.halves and _are_halves(entries):
        halves = strips.to(torch.float16).contiguous()
        return together([halves.flatten().view(torch.float32)])[0].view(torch.float16).view(halves.shape)
    return together([strips])[0]


def _are_halves(entries: Tensor) -> bool:
    """Whether float16 holds the same bits."""
    again = entries.to(torch.float16).to(torch.float32)
    return torch.equal(again.view(torch.int32), entries.contiguous().view(torch.int32))


def _strip(here: InstructionSet) -> int:
    return here.lanes * here.panel


def rvq_encode(z: Tensor, codebooks: Tensor, half_norms: Tensor, scan: Tensor | None = None) -> Tensor:
    """z [M, D], codebooks [K, N, D], half_norms [K, N], scan [K, D, N] or `in_strips` to codes [M, K].

    Raises BackendError.
    """
    return RVQSearch(codebooks, half_norms, scan)(z)


def rvq_decode(codes: Tensor, codebooks: Tensor) -> Tensor:
    """codes [M, K'], codebooks [K, N, D] to z [M, D]. Raises BackendError."""
    return RVQLookup(codebooks)(codes)


class RVQLookup:
    """`rvq_decode` by these codebooks: codes [..., K'] to z [..., D]. Raises BackendError."""

    def __init__(self, codebooks: Tensor):
        _check(codebooks)
        self._codebooks, self.instruction_set = codebooks.contiguous(), instruction_set()
        self._entries, (_, self._size, self.dimension) = self._codebooks.data_ptr(), codebooks.shape

    def __call__(self, codes: Tensor) -> Tensor:
        codes = codes.contiguous()
        *lead, stages = codes.shape
        out = floats(*lead, self.dimension)
        rows, addresses = math.prod(lead), (self._entries, codes.data_ptr(), out.data_ptr())
        self.instruction_set.lookup(ctypes.byref(library.Lookup(rows, stages, self._size, self.dimension, *addresses)))
        return out

    def of(self, latents: Tensor, codes: Tensor) -> library.Lookup:
        """What the library is asked for, to write the `latents` [T, D] of these codes [T, K']."""
        return library.Lookup(
            *codes.shape, self._size, self.dimension, self._entries, codes.data_ptr(), latents.data_ptr()
        )


def factorised_encode(
    z: Tensor, weight: Tensor, bias: Tensor, scan: Tensor, codebooks: Tensor, cross: Tensor
) -> Tensor:
    """z [M, D] to codes [M, K]; the tables as `ops.factorised_encode` has them. Raises BackendError."""
    return _Search(codebooks, scan, None, cross)(_affine(z, weight, bias))


def factorised_decode(entries: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """entries [M, K * d], weight [K * d, D], bias [D] to latents [M, D]. Raises BackendError."""
    return _affine(entries, weight, bias)


def project(x: Tensor, weight: Tensor) -> Tensor:
    """x [M, D], weight [D, d] to [M, d]. Raises BackendError."""
    return _affine(x, weight, None)


def _check(x: Tensor) -> None:
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise BackendError(
            f"the native quantizers compute in float32 on a CPU; these are {x.dtype} on {x.device}. Use "
            f"backend='auto' or 'torch'"
        )


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    _check(x)
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    out = floats(x.shape[0], weight.shape[1])
    addresses = (None if tensor is None else tensor.data_ptr() for tensor in (x, weight, bias, out))
    instruction_set().affine(ctypes.byref(library.Affine(*x.shape, weight.shape[1], *addresses)))
    return out


class _Search:
    """A search through these tables: values [..., width], which it changes, to codes [..., K]."""

    def __init__(self, codebooks: Tensor, scan: Tensor, half_norms: Tensor | None, cross: Tensor | None):
        self.instruction_set, (stages, size, dimension) = instruction_set(), codebooks.shape
        filled, strip = scan.ndim == 4, _strip(self.instruction_set)
        if filled and (scan.shape[3] != strip or (scan.dtype == torch.float16 and not self.instruction_set.halves)):
            scan, filled = scan.transpose(1, 2).flatten(2)[:, :, :size].float(), False  # of another instruction set
        scan, codebooks = scan.contiguous(), codebooks.contiguous()
        half_norms, cross = (None if table is None else table.contiguous() for table in (half_norms, cross))
        asked = library.Search(stages=stages, size=size, dimension=dimension, step=0 if cross is None else dimension)
        setattr(asked, "halves" if scan.dtype == torch.float16 else "scan", scan.data_ptr())
        asked.scan_stage, asked.line = scan.stride(0), scan.stride(-2)
        asked.filled, asked.strip = filled, scan.stride(1) if filled else strip
        asked.entries = codebooks.data_ptr()
        asked.half_norms = None if half_norms is None else half_norms.data_ptr()
        asked.cross = None if cross is None else cross.data_ptr()
        self._asked, self._stages, self._kept = bytes(asked), stages, (scan, codebooks, half_norms, cross)

    def __call__(self, values: Tensor, given: Tensor | None = None) -> Tensor:
        """given: the values, where they are not to be changed: `values` is room for as many."""
        *lead, width = values.shape
        codes = torch.empty(*lead, self._stages, dtype=torch.int64, device=CPU)
        asked = library.Search.from_buffer_copy(self._asked)  # threads may share this
        asked.rows, asked.width, asked.values, asked.codes = math.prod(lead), width, values.data_ptr(), codes.data_ptr()
        asked.given = None if given is None else given.data_ptr()
        self.instruction_set.search(ctypes.byref(asked))
        return codes


class RVQSearch(_Search):
    """`rvq_encode` by these codebooks: z [..., D], which it leaves as it is, to codes [..., K]. Raises BackendError."""

    def __init__(self, codebooks: Tensor, half_norms: Tensor, scan: Tensor | None):
        _check(codebooks)
        super().__init__(codebooks, codebooks.mT if scan is None else scan, half_norms, None)
        self.dimension = codebooks.shape[2]

    def __call__(self, z: Tensor, given: Tensor | None = None) -> Tensor:
        return super().__call__(floats(*z.shape), z.contiguous())

    def of(self, latents: Tensor, codes: Tensor) -> library.Search:
        """What the library is asked for, to write the `codes` [T, K] of these latents [T, D], which it changes."""
        asked = library.Search.from_buffer_copy(self._asked)
        (asked.rows, asked.width), asked.values, asked.codes = latents.shape, latents.data_ptr(), codes.data_ptr()
        return asked
