"""What runs where: the executors of a network's step, and the kernels of the quantizers' operations.

A *backend* is chosen by name. ``"torch"`` is the reference, which takes any dtype and device. ``"auto"`` is the first
other one that is meant for what it is asked to run, else torch. Any other name is that one or a BackendError: a backend
asked for by name never falls back.

Triton kernels are imported here alone, and only to be run: without Triton everything works in torch. So it does where
nothing can compile the native executor, which is the other part of streamcodec_kernels.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native_executor, native_quantizers, native_support, triton_executor
from .errors import BackendError, ConfigError, DtypeError, InputError, ShapeError
from .executors import Executor
from .install import how_to_install
from .native_weights import TERMS
from .precisions import PRECISIONS
from .program import Program
from .torch_executor import TorchExecutor

__all__ = [
    "arranged",
    "arranges",
    "backend_of",
    "backends",
    "check_backend",
    "check_precision",
    "executor",
    "factorised_decode",
    "factorised_encode",
    "lacking",
    "project",
    "runner",
    "rvq_decode",
    "rvq_encode",
    "rvq_half_norms",
    "rvq_lookup",
    "rvq_search",
    "serving",
]


class Kernel(NamedTuple):
    """One kernel of an operation. Both functions take the operation's arguments as its reference does.

    run: the implementation, which raises BackendError where it cannot run.
    auto: may `auto` pick it for these arguments? Called at every step of a stream, so it must be cheap.
    scan: of a search, entries [K, N, D] as it reads them fastest, [K, ...]; None: [K, D, N], as the reference does.
    bind: makes what takes the first argument alone, [..., D] of any shape, given all those after it; None: these are
        passed at every call.
    """

    run: Callable[..., Tensor]
    auto: Callable[..., bool]
    scan: Callable[[Tensor], Tensor] | None = None
    bind: Callable[..., Callable[[Tensor], Tensor]] | None = None


class Bound(NamedTuple):
    """An operation bound to its tables.

    check: raises InputError for an argument that does not suit them; run: the operation, as its kernel has it.
    """

    check: Callable[[Tensor], None]
    run: Callable[[Tensor], Tensor]

    def __call__(self, argument: Tensor) -> Tensor:
        self.check(argument)
        return self.run(argument)


class Runner(NamedTuple):
    """One executor.

    make: it, for a program and a precision (one of `PRECISIONS`) that it has; lacks: the first thing in a program that
    it cannot run, or None; auto: may `auto` pick it for a program that it can run?
    """

    make: Callable[[Program, str], Executor]
    lacks: Callable[[Program], str | None]
    auto: Callable[[Program], bool]


# In order of preference; torch, which runs everything, is the last. Triton's is taken where it is asked for.
_EXECUTORS: dict[str, Runner] = {
    "native": Runner(native_executor.NativeExecutor, native_executor.lacks, lambda program: native_support.by_itself()),
    "triton": Runner(triton_executor.TritonExecutor, triton_executor.lacks, lambda program: False),
    "torch": Runner(lambda program, _: TorchExecutor(program), lambda program: None, lambda program: True),
}


def runner(program: Program, backend: str) -> str:
    """The name of the executor that runs `program`: `backend`, or the one that suits.

    Raises BackendError for a name that nothing has, and for an executor asked for by name that cannot run it.
    """
    check_backend(backend)
    if backend in _EXECUTORS:
        if lack := _EXECUTORS[backend].lacks(program):
            raise BackendError(f"backend {backend!r} cannot run this codec: it has no {lack}. Use 'auto' or 'torch'")
        return backend
    return next(name for name, one in _EXECUTORS.items() if one.auto(program) and not one.lacks(program))


def lacking(program: Program, backend: str) -> str | None:
    """The first thing in `program` that the executor `backend` cannot run, or None."""
    return _EXECUTORS[backend].lacks(program)


def check_precision(backend: str, precision: str) -> None:
    """Raises ConfigError for a precision that there is not, and BackendError for one that `backend` has not here."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    if precision != "float32" and backend not in PRECISIONS[precision]:
        having = " and ".join(map(repr, PRECISIONS[precision]))
        raise BackendError(f"precision {precision!r} is one of backend {having}; the backend is {backend!r}")
    if precision in TERMS and backend == "native":
        native_support.check_tiles(precision)


def executor(program: Program, backend: str = "auto", precision: str = "float32") -> Executor:
    """What runs `program` (see `runner` and `check_precision`)."""
    check_precision(backend, precision)
    return _EXECUTORS[runner(program, backend)].make(program, precision)


def backends() -> tuple[str, ...]:
    """The names that may be asked for."""
    names = {*_EXECUTORS, *(name for operation in _TABLE.values() for name in operation.kernels)}
    return ("auto", *sorted(names))


def check_backend(backend: str) -> None:
    """Raises BackendError for a name that neither an executor nor a kernel has, and for one that cannot run here."""
    if backend not in backends():
        raise BackendError(f"backend is {backend!r}; it must be one of {', '.join(backends())}")
    if backend == "native":
        native_support.instruction_set()
    if backend == "triton" and not _has_triton():
        raise BackendError(
            f"backend is 'triton', and Triton is not installed. Use 'auto' or 'torch', or install it (on Linux) with: "
            f"{how_to_install('triton')}"
        )


def backend_of(operation: str, backend: str, *tensors: Tensor) -> str:
    """The backend by which `operation` runs on such tensors where a codec was asked to run by `backend`.

    Torch where it has no such. On a CPU, `auto` is native where that runs by itself; but never for gradients, of which
    the native kernels know nothing.
    """
    kernels = _TABLE[operation].kernels
    if backend not in kernels and backend != "auto":
        return "torch"
    if "native" in kernels and (backend == "native" or (backend == "auto" and _suits_native(tensors))):
        needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        return "torch" if needs_gradient else "native"
    return backend


def _suits_native(tensors: Sequence[Tensor]) -> bool:
    fits = all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in tensors)
    return fits and native_support.by_itself()


def serving(operation: str, backend: str, *arguments: Any) -> str:
    """The name of what `operation` would run on, for such arguments as its reference takes."""
    named = backend_of(operation, backend, *arguments)
    if named != "auto":
        return named
    kernels = _TABLE[operation].kernels.items()
    suited = (name for name, kernel in kernels if (operation, name) not in _failed and kernel.auto(*arguments))
    return next(suited, "torch")


class Operation(NamedTuple):
    """One row of the table: the torch reference, and the kernels by name in order of preference."""

    reference: Callable[..., Tensor]
    kernels: Mapping[str, Kernel]


def _dispatch(name: str, backend: str, *arguments: Any) -> Tensor:
    """Run operation `name` on `arguments`. Raises BackendError where a backend asked for by name cannot run."""
    operation = _TABLE[name]
    if backend == "torch":
        return operation.reference(*arguments)
    if backend == "auto":
        for kernel_name, kernel in operation.kernels.items():
            if (name, kernel_name) not in _failed and kernel.auto(*arguments):
                try:
                    return kernel.run(*arguments)
                except BackendError as error:
                    _failed.add((name, kernel_name))
                    warnings.warn(f"{name} runs in torch from now on. {error}", RuntimeWarning, stacklevel=3)
        return operation.reference(*arguments)
    if backend not in operation.kernels:
        raise BackendError(f"{name} has no backend {backend!r}; use one of auto, torch, {', '.join(operation.kernels)}")
    return operation.kernels[backend].run(*arguments)


# Kernels that `auto` tried once and that could not run: it does not try them again.
_failed: set[tuple[str, str]] = set()


def _run_triton(module: str, function: str, *arguments: Any) -> Tensor:
    """Call streamcodec_kernels.<module>.<function>; what keeps it from running becomes a BackendError."""
    try:
        kernels = importlib.import_module(f"streamcodec_kernels.{module}")
    except ImportError as error:
        raise BackendError(
            f"the Triton kernel {function} cannot be imported: {error}. Use backend='auto' or 'torch', or install "
            f"Triton (on Linux) with: {how_to_install('triton')}"
        ) from error
    try:
        return getattr(kernels, function)(*arguments)
    except torch.OutOfMemoryError:
        raise  # the reference needs more memory, not less
    except Exception as error:  # refused arguments, no C compiler, too little shared memory, a driver too old, ...
        raise BackendError(
            f"the Triton kernel {function} cannot run here: {error}. Use backend='auto' or 'torch'"
        ) from error


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def arranged(operation: str, backend: str, entries: Tensor) -> Tensor:
    """What a search looks through, [K, N, D], as `backend` reads it: the operation's argument `scan`, [K, ...]."""
    if arranges(operation, backend):
        scan = _TABLE[operation].kernels[backend].scan
        assert scan is not None
        return scan(entries)
    return entries.mT.contiguous()


def arranges(operation: str, backend: str) -> bool:
    """Whether `backend` reads what it looks through in an arrangement of its own."""
    kernel = _TABLE[operation].kernels.get(backend)
    return kernel is not None and kernel.scan is not None


def rvq_half_norms(codebooks: Tensor) -> Tensor:
    """``|e|^2 / 2`` of every code vector: codebooks [K, N, D] to [K, N]. Compute it once and hand it to rvq_encode."""
    return codebooks.square().sum(-1) * 0.5


def rvq_encode(
    z: Tensor,
    codebooks: Tensor,
    half_norms: Tensor | None = None,
    scan: Tensor | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    """Residual vector quantization: z [..., D], codebooks [K, N, D] to codes [..., K] int64.

    Each stage picks the code vector nearest to what the stages before it left over (Zeghidour et al., SoundStream,
    2021, algorithm 1), the lowest index on ties. The nearest e to r maximises ``r.e - |e|^2 / 2``.

    half_norms: [K, N], from `rvq_half_norms`; scan: [K, D, N], ``codebooks.mT.contiguous()``, or what `arranged` gives
    for this backend: it is read fastest. Both are computed where absent. No gradient flows to z.

    Raises ShapeError, DtypeError or InputError where the arguments do not fit together, BackendError where a backend
    asked for by name cannot run.
    """
    return rvq_search(codebooks, half_norms, scan, backend=backend)(z)


def rvq_search(
    codebooks: Tensor, half_norms: Tensor | None = None, scan: Tensor | None = None, *, backend: str = "auto"
) -> Bound:
    """`rvq_encode` by these codebooks: a function of z alone, for streams, which search at every step.

    Arguments and errors as for `rvq_encode`; the codebooks must not change while it is used.
    """
    stages, _, dimension = _codebook_shape(codebooks)
    if not codebooks.is_floating_point():
        raise DtypeError(f"codebooks are {codebooks.dtype}; they must be of a floating dtype")
    if half_norms is None:
        with torch.no_grad():
            half_norms = rvq_half_norms(codebooks)
    else:
        if half_norms.shape != codebooks.shape[:2]:
            raise ShapeError(f"half_norms is {list(half_norms.shape)}; it must be {list(codebooks.shape[:2])}")
        _check_like_codebooks("half_norms", half_norms, codebooks)
    if scan is not None:
        _check_scan("rvq_encode", backend, scan, codebooks)
    kernel = _TABLE["rvq_encode"].kernels.get(backend)
    if kernel is not None and kernel.bind is not None:
        find = kernel.bind(codebooks, half_norms, scan)
    else:

        @torch.no_grad()
        def find(z: Tensor) -> Tensor:
            codes = _dispatch("rvq_encode", backend, z.reshape(-1, dimension), codebooks, half_norms, scan)
            return codes.view(*z.shape[:-1], stages)

    def check(z: Tensor) -> None:
        if z.ndim == 0 or z.shape[-1] != dimension:
            raise ShapeError(f"z is {list(z.shape)}; its last dimension must be the codebooks' {dimension}")
        _check_like_codebooks("z", z, codebooks)

    return Bound(check, find)


def rvq_decode(codes: Tensor, codebooks: Tensor, *, backend: str = "auto") -> Tensor:
    """The sum of the chosen code vectors: codes [..., K'], codebooks [K, N, D] to z [..., D], with K' <= K.

    Stages are added one by one from the first, beginning at 0.0, so every backend gives the same bits. Codes are not
    checked: one outside 0..N-1 gives a wrong vector or an IndexError. Gradients flow to the codebooks (in torch).

    Raises ShapeError, DtypeError or InputError where the arguments do not fit together, BackendError where a backend
    asked for by name cannot run.
    """
    return rvq_lookup(codebooks, backend=backend)(codes)


def rvq_lookup(codebooks: Tensor, *, backend: str = "auto") -> Bound:
    """`rvq_decode` by these codebooks: a function of the codes alone, for streams, which look up at every step.

    Errors as for `rvq_decode`; the codebooks must not change while it is used.
    """
    stages, _, dimension = _codebook_shape(codebooks)
    kernel = _TABLE["rvq_decode"].kernels.get(backend)
    if kernel is not None and kernel.bind is not None:
        find = kernel.bind(codebooks)
    else:

        def find(codes: Tensor) -> Tensor:
            z = _dispatch("rvq_decode", backend, codes.reshape(-1, codes.shape[-1]), codebooks)
            return z.view(*codes.shape[:-1], dimension)

    def check(codes: Tensor) -> None:
        if codes.ndim == 0 or not 1 <= codes.shape[-1] <= stages:
            raise ShapeError(f"codes are {list(codes.shape)}; their last dimension must be 1 to {stages} codebooks")
        if codes.dtype != torch.int64:
            raise DtypeError(f"codes are {codes.dtype}; they must be torch.int64")
        if codes.device != codebooks.device:
            raise InputError(f"codes are on {codes.device}, the codebooks on {codebooks.device}; move one to the other")

    return Bound(check, find)


def factorised_encode(
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    scan: Tensor,
    codebooks: Tensor,
    cross: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Factorised residual quantization without leaving the projected space: z [..., D] to codes [..., K] int64.

    Every stage's projection of z comes from one product. Stage i takes the entry whose direction is nearest to its own
    projection, and what that choice means for the later stages is subtracted from theirs (Kumar et al. 2023, section
    3.2, whose stages go up to D and down again instead). The lowest index on ties; no gradient flows to z.

    weight: [D, K * d], the projections side by side; bias: [K * d]; scan: [K, d, N], the entries' directions (length
    1), or what `arranged` makes of them; codebooks: [K, N, d]; cross: [K, d, K * d], stage j's way up and every stage's
    way down again, 0 up to stage j itself. The first K' stages alone take the leading parts of all five.

    Raises ShapeError, DtypeError or InputError where the arguments do not fit together, BackendError where a backend
    asked for by name cannot run.
    """
    stages, _, dimension = _codebook_shape(codebooks)
    width = stages * dimension
    if z.ndim == 0 or weight.ndim != 2 or z.shape[-1] != weight.shape[0]:
        raise ShapeError(
            f"z is {list(z.shape)} and weight is {list(weight.shape)}; they must be [..., D] and [D, {width}]"
        )
    if not codebooks.is_floating_point():
        raise DtypeError(f"codebooks are {codebooks.dtype}; they must be of a floating dtype")
    _check_like_codebooks("z", z, codebooks)
    for name, tensor, shape in (
        ("weight", weight, (z.shape[-1], width)),
        ("bias", bias, (width,)),
        ("cross", cross, (stages, dimension, width)),
    ):
        if tensor.shape != shape:
            raise ShapeError(f"{name} is {list(tensor.shape)}; with these codebooks it must be {list(shape)}")
        _check_like_codebooks(name, tensor, codebooks)
    _check_scan("factorised_encode", backend, scan, codebooks)
    with torch.no_grad():
        rows = z.reshape(-1, z.shape[-1])
        codes = _dispatch("factorised_encode", backend, rows, weight, bias, scan, codebooks, cross)
    return codes.view(*z.shape[:-1], stages)


def factorised_decode(entries: Tensor, weight: Tensor, bias: Tensor, *, backend: str = "auto") -> Tensor:
    """The sum of the stages' projections: entries [..., K * d], those of each stage side by side, to z [..., D].

    weight: [K * d, D], the projections one below the other; bias: [D], the sum of theirs. Gradients flow in torch.

    Raises ShapeError where the arguments do not fit together, BackendError where a backend asked for by name cannot
    run.
    """
    if entries.ndim == 0 or weight.ndim != 2 or entries.shape[-1] != weight.shape[0] or bias.shape != weight.shape[1:]:
        raise ShapeError(
            f"entries are {list(entries.shape)}, weight is {list(weight.shape)} and bias {list(bias.shape)}; they must "
            "be [..., K * d], [K * d, D] and [D]"
        )
    z = _dispatch("factorised_decode", backend, entries.reshape(-1, weight.shape[0]), weight, bias)
    return z.view(*entries.shape[:-1], weight.shape[1])


def project(x: Tensor, weight: Tensor, *, backend: str = "auto") -> Tensor:
    """The product before or after a quantizer's stages: x [..., D], weight [D, d] to [..., d]. Gradients flow in torch.

    Raises ShapeError where the arguments do not fit together, BackendError where a backend asked for by name cannot
    run.
    """
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[0]:
        raise ShapeError(f"x is {list(x.shape)} and weight is {list(weight.shape)}; they must be [..., D] and [D, d]")
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        backend = "torch"
    y = _dispatch("project", backend, x.reshape(-1, weight.shape[0]), weight)
    return y.view(*x.shape[:-1], weight.shape[1])


def _codebook_shape(codebooks: Tensor) -> tuple[int, int, int]:
    if codebooks.ndim != 3 or 0 in codebooks.shape:
        raise ShapeError(f"codebooks are {list(codebooks.shape)}; they must be [codebooks, codebook_size, dimension]")
    stages, size, dimension = codebooks.shape
    return stages, size, dimension


def _check_scan(operation: str, backend: str, scan: Tensor, codebooks: Tensor) -> None:
    stages, size, dimension = codebooks.shape
    own = scan.ndim == 4 and arranges(operation, backend) and scan.shape[::2] == (stages, dimension)
    if scan.shape != codebooks.mT.shape and not (own and scan.shape[1] * scan.shape[3] >= size):
        raise ShapeError(
            f"scan is {list(scan.shape)}; with these codebooks it must be {list(codebooks.mT.shape)}, or what "
            f"arranged({operation!r}, {backend!r}, ...) makes of them"
        )
    if not (own and scan.dtype == torch.float16 and scan.device == codebooks.device):
        _check_like_codebooks("scan", scan, codebooks)


def _check_like_codebooks(name: str, tensor: Tensor, codebooks: Tensor) -> None:
    if tensor.dtype != codebooks.dtype:
        raise DtypeError(f"{name} is {tensor.dtype} and the codebooks are {codebooks.dtype}; they must be the same")
    if tensor.device != codebooks.device:
        raise InputError(f"{name} is on {tensor.device}, the codebooks on {codebooks.device}; move one to the other")


def _rvq_encode_torch(z: Tensor, codebooks: Tensor, half_norms: Tensor, scan: Tensor | None = None) -> Tensor:
    """z [M, D] to codes [M, K]. As few torch calls as it takes: in a live loop of one frame each costs microseconds."""
    residual = z
    codes: list[Tensor] = []
    stages, columns = codebooks.unbind(), (codebooks.mT if scan is None else scan).unbind()
    for stage, half_norm in enumerate(half_norms.unbind()):
        if stage > 0:
            residual = residual - stages[stage - 1].index_select(0, codes[-1])
        scores = torch.addmm(half_norm, residual, columns[stage], beta=-1)
        codes.append(scores.argmax(1))  # documented to return the first of several maxima
    return torch.stack(codes, 1)


def _rvq_decode_torch(codes: Tensor, codebooks: Tensor) -> Tensor:
    """codes [M, K'] to z [M, D]. An embedding bag adds its rows in the order given, in one call for all stages."""
    size = codebooks.shape[1]
    first = torch.arange(0, codes.shape[1] * size, size, device=codes.device)
    return F.embedding_bag(codes + first, codebooks.flatten(0, 1), mode="sum")


def _rvq_encode_triton(z: Tensor, codebooks: Tensor, half_norms: Tensor, scan: Tensor | None = None) -> Tensor:
    return _run_triton("rvq", "rvq_encode", z, codebooks, half_norms, scan)


def _rvq_encode_suits_triton(z: Tensor, *_: Tensor | None) -> bool:
    return z.is_cuda and z.dtype == torch.float32 and _has_triton()


def _rvq_decode_triton(codes: Tensor, codebooks: Tensor) -> Tensor:
    return _run_triton("rvq", "rvq_decode", codes, codebooks)


def _rvq_decode_suits_triton(codes: Tensor, codebooks: Tensor) -> bool:
    needs_gradient = codebooks.requires_grad and torch.is_grad_enabled()
    return codes.is_cuda and codebooks.dtype == torch.float32 and not needs_gradient and _has_triton()


# Rows whose scores are made at once: of an hour of audio they would fill gigabytes, and 256 stay in the cache.
_FACTORISED_ROWS = 256


def _factorised_encode_torch(
    z: Tensor, weight: Tensor, bias: Tensor, scan: Tensor, codebooks: Tensor, cross: Tensor
) -> Tensor:
    """z [M, D] to codes [M, K]. The length of a projection does not change which direction is nearest to it."""
    if z.shape[0] > _FACTORISED_ROWS:
        blocks = z.split(_FACTORISED_ROWS)
        return torch.cat([_factorised_encode_torch(rows, weight, bias, scan, codebooks, cross) for rows in blocks])
    projected = torch.addmm(bias, z, weight)
    codes: list[Tensor] = []
    # Views: each stage's columns hold what the earlier stages have left of them by the time they are read.
    stages = zip(projected.split(codebooks.shape[2], 1), scan.unbind(), strict=True)
    entries, later = codebooks.unbind(), cross.unbind()
    for stage, (own, directions) in enumerate(stages):
        if stage > 0:
            projected.addmm_(entries[stage - 1].index_select(0, codes[-1]), later[stage - 1], alpha=-1)
        codes.append(torch.mm(own, directions).argmax(1))  # documented to return the first of several maxima
    return torch.stack(codes, 1)


def _factorised_encode_triton(
    z: Tensor, weight: Tensor, bias: Tensor, scan: Tensor, codebooks: Tensor, cross: Tensor
) -> Tensor:
    return _run_triton("factorised", "factorised_encode", torch.addmm(bias, z, weight), scan, codebooks, cross)


# streamcodec_kernels.factorised.DIMENSION, said here too: asked for more, the kernel would refuse, and `auto` would not
# try it again for any codec.
_FACTORISED_DIMENSION = 32


def _factorised_encode_suits_triton(z: Tensor, *tables: Tensor) -> bool:
    fits = tables[3].shape[2] <= _FACTORISED_DIMENSION
    return z.is_cuda and z.dtype == torch.float32 and fits and _has_triton()


def _factorised_decode_torch(entries: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, entries, weight)


def _never(*_: Tensor | None) -> bool:
    return False


_TABLE: Mapping[str, Operation] = {
    "factorised_encode": Operation(
        _factorised_encode_torch,
        {
            "triton": Kernel(_factorised_encode_triton, _factorised_encode_suits_triton),
            "native": Kernel(native_quantizers.factorised_encode, _never, native_quantizers.in_strips),
        },
    ),
    "factorised_decode": Operation(
        _factorised_decode_torch, {"native": Kernel(native_quantizers.factorised_decode, _never)}
    ),
    "project": Operation(torch.mm, {"native": Kernel(native_quantizers.project, _never)}),
    "rvq_encode": Operation(
        _rvq_encode_torch,
        {
            "triton": Kernel(_rvq_encode_triton, _rvq_encode_suits_triton),
            "native": Kernel(
                native_quantizers.rvq_encode, _never, native_quantizers.in_strips, native_quantizers.RVQSearch
            ),
        },
    ),
    "rvq_decode": Operation(
        _rvq_decode_torch,
        {
            "triton": Kernel(_rvq_decode_triton, _rvq_decode_suits_triton),
            "native": Kernel(native_quantizers.rvq_decode, _never, bind=native_quantizers.RVQLookup),
        },
    ),
}
