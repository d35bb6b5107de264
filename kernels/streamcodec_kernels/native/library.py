"""The library as Python sees it: its structures, and what it offers on this processor."""

import ctypes
import functools
import os
from collections.abc import Callable, Mapping
from ctypes import c_float, c_int, c_int64, c_void_p
from typing import Any, NamedTuple

from .compiler import CannotCompileError, flags_of, made

__all__ = [
    "ACTIVATIONS",
    "CHOICE",
    "KINDS",
    "OVER",
    "PADDINGS",
    "WAITING",
    "Affine",
    "Buffer",
    "Call",
    "Given",
    "InstructionSet",
    "Int8",
    "Leaf",
    "Length",
    "Lookup",
    "Made",
    "Operation",
    "Plan",
    "Push",
    "Search",
    "Segment",
    "Source",
    "Target",
    "Tiles",
    "chosen",
    "instruction_sets",
]

CHOICE = "STREAMCODEC_INSTRUCTION_SET"  # the environment variable that names one

# As in source/plan.h.
KINDS = {
    name: number
    for number, name in enumerate(
        (
            *("copy", "product", "dot", "depthwise", "normalise", "lstm"),
            *("band_features", "band_gains", "layer_norm", "attention", "low_product"),
            *("gated_silu", "noise", "local_attention", "lapped", "overlap_add", "int8_product"),
        )
    )
}
ACTIVATIONS: Mapping[str | None, int] = {
    kind: number
    for number, kind in enumerate((None, "elu", "tanh", "silu", "snake", "gelu", "leaky_relu", "gelu_tanh", "hardtanh"))
}
OVER, WAITING = 0xFFFFFFFF, 0xFFFFFFFE  # turns of a step that is done, and of one that has not begun
PADDINGS = {"constant": 0, "reflect": 1, "replicate": 2}


def _fields(numbers: str = "", pointers: str = "") -> list[tuple[str, Any]]:
    return [(name, c_int64) for name in numbers.split()] + [(name, c_void_p) for name in pointers.split()]


class Buffer(ctypes.Structure):
    """As in source/plan.h, and so are the others."""

    _fields_ = [
        *_fields(pointers="memory"),
        *_fields("rows history channels stream rate lag length padding left right extend stride halved"),
    ]


class Leaf(ctypes.Structure):
    _fields_ = [*_fields(pointers="before after room"), *_fields("stream count offset halved first last")]


class Length(ctypes.Structure):
    _fields_ = _fields("source up add down extend")


class Segment(ctypes.Structure):
    _fields_ = [*_fields(pointers="first"), *_fields("row stream width halved")]


class Source(ctypes.Structure):
    _fields_ = [*_fields(pointers="first"), *_fields("stream channels stride taps dilation halved")]


class Target(ctypes.Structure):
    _fields_ = [*_fields(pointers="first"), *_fields("row stream buffer activation halved", "alpha inverse")]


class Operation(ctypes.Structure):
    _fields_ = [
        *_fields("kind rows columns"),
        *(*_fields(pointers="segments"), *_fields("segment_count")),
        *(*_fields(pointers="targets"), *_fields("target_count")),
        *_fields(pointers="weights bias int8_weights start"),
        *_fields("start_row start_stream"),
        *(*_fields(pointers="add"), *_fields("add_row add_stream")),
        *_fields("taps tap", "recurrent int8_recurrent gates hidden cell"),
        *_fields("heads reach keys values looks", "heard frequencies angles turned scores"),
        *_fields("lag rate seed inner outer", "row bands"),
        *_fields("band_count", "low_weights int8_tiles recurrent_tiles"),
        *_fields("terms halves_term halves_rows", "sources"),
        *_fields("source_count"),
        ("numbers", c_float * 4),
    ]


class Plan(ctypes.Structure):
    _fields_ = [
        *_fields("batch"),
        *(*_fields(pointers="operations"), *_fields("operation_count")),
        *(*_fields(pointers="buffers"), *_fields("buffer_count")),
        *(*_fields(pointers="leaves"), *_fields("leaf_count")),
        *_fields(pointers="lengths signal"),
        *_fields("length_count out"),
    ]


class Call(ctypes.Structure):
    _fields_ = [
        *_fields("batch", "x"),
        *_fields("x_row x_stream", "state"),
        *_fields("state_stream", "places"),
        *_fields("keeps", "position length out halves"),
        *_fields("shared turn done", "spent"),
    ]


class Search(ctypes.Structure):
    _fields_ = [
        *_fields("rows stages size dimension", "given values"),
        *_fields("width step", "scan halves"),
        *_fields("scan_stage strip line filled", "half_norms entries cross codes"),
    ]


class Int8(ctypes.Structure):
    _fields_ = _fields("rows columns line", "matrix numbers scales")


class Tiles(ctypes.Structure):
    _fields_ = _fields("rows columns parts", "numbers scales packed")


class Affine(ctypes.Structure):
    _fields_ = _fields("rows inputs outputs", "x weight bias out")


class Lookup(ctypes.Structure):
    _fields_ = _fields("rows stages size dimension", "entries codes out")


class Given(ctypes.Structure):
    _fields_ = [*_fields(pointers="first"), *_fields("stream rows row width column")]


class Made(ctypes.Structure):
    _fields_ = [*_fields(pointers="first"), *_fields("int16")]


class Push(ctypes.Structure):
    _fields_ = [
        *_fields("batch frames samples", "given"),
        *_fields("given_count", "made state"),
        *_fields("state_stream state_count", "places position length rows latents codes search lookup"),
    ]


_STRUCTURES = (
    *(Buffer, Leaf, Length, Segment, Target, Operation, Plan, Call, Search, Affine, Lookup, Source, Int8, Tiles),
    *(Push, Given, Made),
)


class InstructionSet(NamedTuple):
    """What the library has for one kind of processor. lanes: floats of a vector; panel: vectors of a panel of weights;
    tiles: whether it multiplies in bfloat16; int8: the most rows that it multiplies with weights in int8; halves:
    whether it searches entries in half precision; step: runs a `Call` of a `Plan`, given pointers to both; help: takes
    shares of it beside the thread that runs it, with room of its own for values in bfloat16, and returns how many;
    keep: given what a step was given, writes the states that it has left, where it did not do so itself; push: given
    these and a `Push`, runs that, and returns whether it may be; search, affine, lookup: run what they are given a
    pointer to, and so does in_tiles where there are tiles; in_int8: whether there is what an `Int8` asks for.
    """

    name: str
    lanes: int
    panel: int
    tiles: bool
    int8: int
    halves: bool
    step: Callable[[Any, Any], None]
    help: Callable[[Any, Any, Any], int]
    keep: Callable[[Any, Any], None]
    push: Callable[[Any, Any, Any], int]
    in_int8: Callable[[Any], int]
    search: Callable[[Any], None]
    affine: Callable[[Any], None]
    lookup: Callable[[Any], None]
    in_tiles: Callable[[Any], None]


@functools.cache
def instruction_sets() -> dict[str, InstructionSet]:
    """Those that this processor has, the best first. Raises CannotCompileError."""
    path = made()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise CannotCompileError(
            f"the library cannot be opened: {error}. Delete {path}, and it is made anew"
        ) from error
    sizes = (c_int64 * len(_STRUCTURES))()
    library.streamcodec_sizes(sizes)
    assert [ctypes.sizeof(each) for each in _STRUCTURES] == list(sizes), "the structures are not those of plan.h"
    library.streamcodec_has.restype = c_int
    names = [name for name in flags_of() if library.streamcodec_has(name.encode())]
    return {name: _open(library, name) for name in names}


def _open(library: ctypes.CDLL, name: str) -> InstructionSet:
    sizes = (c_int64 * 5)()
    library[f"streamcodec_panel_{name}"](sizes)
    names = ("step", "help", "keep", "push", "int8", "search", "affine", "lookup", "tiles")
    step, help_, keep, push, find, *others = (library[f"streamcodec_{does}_{name}"] for does in names)
    for function in (step, keep):
        function.restype, function.argtypes = None, [c_void_p] * 2
    for function in (help_, push):
        function.restype, function.argtypes = c_int64, [c_void_p] * 3
    find.restype, find.argtypes = c_int64, [c_void_p]
    for function in others:
        function.restype, function.argtypes = None, [c_void_p]
    lanes, panel, tiles, int8, halves = sizes
    return InstructionSet(name, lanes, panel, bool(tiles), int8, bool(halves), step, help_, keep, push, find, *others)


def chosen() -> InstructionSet:
    """The one that CHOICE names, else the best. Raises CannotCompileError where there is no such, or no library."""
    sets, name = instruction_sets(), os.environ.get(CHOICE)
    if not name:
        return next(iter(sets.values()))
    if name not in sets:
        raise CannotCompileError(f"{CHOICE} is {name!r}; this processor has {', '.join(sets)}")
    return sets[name]
