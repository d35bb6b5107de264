"""The library made from its source: by any C++ compiler that is there, once, into the user's cache.

A wheel for one platform has it already (setup.py). The file's name has a digest of the source and of the flags in it.
So a change of either makes another file, and nothing is ever out of date.
"""

import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = [
    "BUILT",
    "CannotCompileError",
    "compile_into",
    "compiler",
    "flags_of",
    "library_file",
    "made",
    "ready",
    "shipped",
]

SOURCE = Path(__file__).parent / "source"
BUILT = Path(__file__).parent / "built"  # in wheels for one platform
SECONDS = 300  # for one object; it takes about three

# No exceptions and no C++ library: what it needs of the system is C's. The compiler fuses no products by itself, for
# it would do so in some places and not in others.
FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror"),
)
_AVX512 = ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma")
# The instruction sets of each kind of processor, the best first, and the flags by which compilers know them. `amx` is
# avx512 with tiles, for which the source asks the compiler function by function.
SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "amx": (*_AVX512, "-DSTREAMCODEC_avx512"),
        "avx512": _AVX512,
        "avx2": ("-mavx2", "-mfma", "-mf16c"),
        "baseline": (),
    },
    "aarch64": {"neon": (), "baseline": ()},
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # other names of theirs


class CannotCompileError(Exception):
    """There is no compiler, or it failed; the message says which and what would help."""


def flags_of() -> dict[str, tuple[str, ...]]:
    """The instruction sets for this kind of processor, the best first, with the flags of each."""
    machine = platform.machine().lower()
    return SETS.get(MACHINES.get(machine, machine), {"baseline": ()})


@functools.cache
def compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler: what CXX says, the system's, else the one of the package ziglang; None: none."""
    if named := os.environ.get("CXX"):
        return tuple(shlex.split(named))
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found:
        return (found,)
    return (sys.executable, "-m", "ziglang", "cc") if importlib.util.find_spec("ziglang") else None


def library_file() -> Path:
    """Where the library is in the user's cache, or will be once it is made."""
    digest = hashlib.sha256(repr((FLAGS, flags_of(), sys.platform)).encode())
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    ending = {"win32": "dll", "darwin": "dylib"}.get(sys.platform, "so")
    return _cache() / f"native-{digest.hexdigest()[:16]}.{ending}"


def _cache() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "streamcodec"


def shipped() -> Path | None:
    """The library as the package has it; None where the package came without."""
    target = BUILT / library_file().name
    return target if target.exists() else None


def ready() -> Path | None:
    """The library as the package has it, or as it was compiled before; None where it is still to be made."""
    target = library_file()
    return shipped() or (target if target.exists() else None)


def made() -> Path:
    """The library, compiled first where it is not there yet. Raises CannotCompileError."""
    if found := ready():
        return found
    target = library_file()
    command = compiler()
    if command is None:
        raise CannotCompileError(
            "it is compiled when it is first used, and there is no C++ compiler. Install one (on Debian: apt install "
            "g++), or the one from PyPI: pip install ziglang"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            # At the end by one renaming: two processes may be at it, and neither sees half a file.
            compile_into(Path(folder), command).replace(target)
    except OSError as error:
        raise CannotCompileError(f"it cannot be compiled into {target.parent}: {error}") from error
    return target


def compile_into(folder: Path, command: tuple[str, ...], extra: tuple[str, ...] = ()) -> Path:
    """Compile the library in `folder`, with `extra` flags, on all cores. Raises CannotCompileError."""
    sources: dict[str, tuple[str, tuple[str, ...]]] = {
        name: ("step.cpp", (*flags, f"-DSTREAMCODEC_{name}", *extra)) for name, flags in flags_of().items()
    }
    sources["library"] = "library.cpp", extra

    def compiled(name: str) -> Path:
        return _object(folder / f"{name}.o", command, *sources[name])

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        objects = list(threads.map(compiled, sources))
    library = folder / "library"
    _run((*command, "-shared", *extra, *map(str, objects), "-o", str(library)))
    return library


def _object(target: Path, command: tuple[str, ...], source: str, flags: tuple[str, ...]) -> Path:
    _run((*command, *FLAGS, *flags, "-c", str(SOURCE / source), "-o", str(target)))
    return target


def _run(command: tuple[str, ...]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotCompileError(f"{shlex.join(command)} took longer than {SECONDS} s") from error
    if done.returncode:
        raise CannotCompileError(f"{shlex.join(command)} failed: {(done.stderr or done.stdout).strip()[:2000]}")
