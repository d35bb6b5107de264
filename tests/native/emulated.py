"""The library for another processor, under qemu, called from here as if it were this one's.

Both sides have memory of their own. So what a call points to is copied to a file, which is the other side's memory,
with every pointer changed to where its target lies there; and what the call wrote is copied back. How long targets are
is known from `Tensor.data_ptr`, which all pointers to them come from, and which is watched.
"""

import bisect
import ctypes
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from streamcodec_kernels.native import compiler, library
from streamcodec_kernels.native.library import InstructionSet
from torch import Tensor

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
WHY = "" if shutil.which(COMPILER) and shutil.which(EMULATOR) else (
    "no processor of ARM's is emulated here (on Debian: apt install g++-aarch64-linux-gnu qemu-user)"
)  # fmt: skip
FUNCTIONS = ("step", "search", "affine", "lookup", "panel", "sizes", "int8", "keep", "push")
BASE = 1 << 32  # as in emulated.cpp
HEAD, ANSWER, LINE = 64, 32, 64  # bytes
# Pointers to arrays of structures, and what says how many there are; all others are to tensors.
ARRAYS: dict[tuple[Any, str], tuple[Any, str | None, int]] = {
    (library.Plan, "operations"): (library.Operation, "operation_count", 0),
    (library.Plan, "buffers"): (library.Buffer, "buffer_count", 0),
    (library.Plan, "leaves"): (library.Leaf, "leaf_count", 0),
    (library.Plan, "lengths"): (library.Length, "length_count", 0),
    (library.Call, "places"): (ctypes.c_int64, "batch", 0),
    (library.Operation, "segments"): (library.Segment, "segment_count", 0),
    (library.Operation, "targets"): (library.Target, "target_count", 0),
    (library.Operation, "bands"): (ctypes.c_int64, "band_count", 1),
    (library.Push, "given"): (library.Given, "given_count", 0),
    (library.Push, "made"): (library.Made, "batch", 0),
    (library.Push, "places"): (ctypes.c_int64, "batch", 0),
    (library.Push, "position"): (ctypes.c_int64, "batch", 0),
    (library.Push, "length"): (ctypes.c_int64, "batch", 0),
    (library.Push, "search"): (library.Search, None, 1),
    (library.Push, "lookup"): (library.Lookup, None, 1),
}


@contextmanager
def watched() -> Iterator[dict[int, torch.UntypedStorage]]:
    """The memory of all tensors that are asked for their address, by where it begins. It is kept, so that nothing else
    comes to lie there.
    """
    known: dict[int, torch.UntypedStorage] = {}
    data_ptr = Tensor.data_ptr

    def watch(tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        start = storage.data_ptr()
        known[start] = max(storage, known.get(start, storage), key=torch.UntypedStorage.nbytes)
        return data_ptr(tensor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "data_ptr", watch)
        yield known


class Image:
    """The other side's memory for one call, which may point to any of `known`."""

    def __init__(self, known: Mapping[int, torch.UntypedStorage]) -> None:
        self.memory = bytearray(HEAD)
        self.regions = sorted((start, storage.nbytes()) for start, storage in known.items())
        self.placed: dict[int, tuple[int, int]] = {}  # by address here: where it lies there, and how long it is

    def add(self, data: bytes) -> int:
        """Where it lies."""
        self.memory.extend(bytes(-len(self.memory) % LINE))
        self.memory.extend(data)
        return len(self.memory) - len(data)

    def tensor(self, pointer: int) -> int:
        """Where the other side finds what `pointer` points to."""
        start, size = self.regions[bisect.bisect(self.regions, (pointer, float("inf"))) - 1]
        assert start <= pointer <= start + size, "a pointer to no tensor"
        if start not in self.placed:
            self.placed[start] = self.add(ctypes.string_at(start, size)), size
        return BASE + self.placed[start][0] + pointer - start

    def structures(self, kind: Any, address: int, count: int) -> int:
        """Copies of an array's structures, with their pointers changed."""
        copies = (kind * count).from_buffer_copy(ctypes.string_at(address, ctypes.sizeof(kind) * count))
        for each in copies if issubclass(kind, ctypes.Structure) else ():
            for name, type_ in kind._fields_:
                if type_ is ctypes.c_void_p and (pointer := getattr(each, name)):
                    setattr(each, name, self.pointed(each, name, pointer))
        return BASE + self.add(bytes(copies))

    def pointed(self, structure: Any, name: str, pointer: int) -> int:
        if (type(structure), name) not in ARRAYS:
            return self.tensor(pointer)
        kind, count, more = ARRAYS[type(structure), name]
        return self.structures(kind, pointer, more if count is None else getattr(structure, count) + more)

    def take_back(self, data: bytes) -> None:
        """Write to the tensors here what has changed there."""
        for start, (place, size) in self.placed.items():
            if data[place : place + size] != self.memory[place : place + size]:
                ctypes.memmove(start, data[place : place + size], size)


class Emulated:
    """The library of one instruction set, running. known: as `watched` gives it."""

    def __init__(
        self, folder: Path, name: str, flags: Sequence[str], known: Mapping[int, torch.UntypedStorage]
    ) -> None:
        self.known = known
        self.called: Counter[str] = Counter()
        program, self.file = folder / "emulated", folder / "memory"
        command = (COMPILER, *compiler.FLAGS, *flags)
        parts = [
            compiler.SOURCE / "library.cpp",
            compiler.SOURCE / "step.cpp",
            Path(__file__).with_name("emulated.cpp"),
        ]
        options = (f"-DSTREAMCODEC_{name}", f"-DSET={name}", "-static", "-o", str(program), "-lm")
        subprocess.run([*command, *map(str, parts), *options], check=True, timeout=200)
        self.process = subprocess.Popen(
            [EMULATOR, str(program), str(self.file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        sizes = torch.zeros(5, dtype=torch.int64)
        self.call("panel", sizes)
        lanes, panel, _, int8, halves = sizes.tolist()
        self.set = InstructionSet(
            name, lanes, panel, tiles=False, int8=int8, halves=bool(halves), help=lambda *_: 0,
            step=partial(self.call, "step"), in_int8=partial(self.call, "int8"), search=partial(self.call, "search"),
            affine=partial(self.call, "affine"), lookup=partial(self.call, "lookup"), keep=partial(self.call, "keep"),
            push=partial(self.call, "push"), in_tiles=lambda _: None,
        )  # fmt: skip

    def call(self, function: str, *arguments: Any) -> int:
        """arguments: tensors, or structures by reference. Returns what the function does, 0 for nothing."""
        self.called[function] += 1
        addresses = [each.data_ptr() if isinstance(each, Tensor) else ctypes.addressof(each._obj) for each in arguments]
        image = Image(self.known)
        pointers = [
            image.tensor(address) if isinstance(each, Tensor) else image.structures(type(each._obj), address, 1)
            for each, address in zip(arguments, addresses, strict=True)
        ]
        head = [FUNCTIONS.index(function), *pointers]
        image.memory[: 8 * len(head)] = bytes((ctypes.c_int64 * len(head))(*head))
        self.file.write_bytes(image.memory)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b".")
        self.process.stdin.flush()
        assert self.process.stdout.read(1) == b".", f"the emulated library ended: {self.process.wait(10)}"
        data = self.file.read_bytes()
        image.take_back(data)
        return int.from_bytes(data[ANSWER : ANSWER + 8], "little")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@contextmanager
def emulated(folder: Path, name: str) -> Iterator[Emulated]:
    """What is made inside runs on that instruction set of ARM's."""
    with watched() as known, pytest.MonkeyPatch.context() as patch:
        one = Emulated(folder, name, compiler.SETS["aarch64"][name], known)
        try:
            patch.setattr(library, "instruction_sets", lambda: {name: one.set})
            patch.delenv(library.CHOICE, raising=False)
            yield one
        finally:
            one.close()
