"""The library itself: how it is made, what it needs, and what is said where it cannot be made."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sets import HERE, compiled
from streamcodec_kernels.native import compiler, library, memory

import streamcodec
from streamcodec.cli import main
from streamcodec.errors import BackendError


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a process that has not used it yet, with an empty cache: where it will lie."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    if sys.platform == "darwin":
        monkeypatch.setenv("HOME", str(tmp_path))
    forget = (compiler.compiler.cache_clear, library.instruction_sets.cache_clear)
    for clear in forget:
        clear()
    yield compiler.library_file()
    for clear in forget:
        clear()


@compiled
@pytest.mark.slow
def test_it_is_compiled_once_when_it_is_first_asked_for(anew, monkeypatch):
    monkeypatch.setattr(compiler, "flags_of", lambda: {"baseline": ()})  # one instruction set will do
    monkeypatch.setattr(library, "flags_of", compiler.flags_of)
    file = compiler.library_file()
    streamcodec.load()
    assert not file.exists()
    streamcodec.load(backend="native")
    made = file.stat()
    library.instruction_sets.cache_clear()
    streamcodec.load(backend="native")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert [path.name for path in anew.parent.iterdir()] == [file.name]


def test_without_a_compiler_all_but_the_native_executor_runs_and_info_says_why(anew, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BackendError, match=r"there is no C\+\+ compiler. Install one.*ziglang.*backend='auto'"):
        streamcodec.load(backend="native")
    assert main(["info"]) == 0
    told = capsys.readouterr().out
    assert "encoder: torch" in told
    assert told.count("no C++ compiler") == 1
    assert main(["info", "--backend", "native"]) == 2
    assert "no C++ compiler" in capsys.readouterr().err


def test_a_compiler_that_fails_is_quoted(anew, monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -c 'import sys; sys.exit(\"no such option\")'")
    with pytest.raises(BackendError, match="failed: no such option"):
        streamcodec.load(backend="native")
    monkeypatch.setenv("CXX", "/there/is/no/compiler")
    compiler.compiler.cache_clear()
    with pytest.raises(BackendError, match=r"cannot be compiled into .*/there/is/no/compiler"):
        streamcodec.load(backend="native")
    assert list(anew.parent.iterdir()) == []


@compiled
def test_a_cache_that_cannot_be_written_is_named(anew, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    if sys.platform == "darwin":
        pytest.skip("a cache has one place on macOS")
    with pytest.raises(BackendError, match=r"cannot be compiled into .*file"):
        streamcodec.load(backend="native")


@compiled
def test_a_damaged_library_says_how_to_mend_it(anew):
    anew.parent.mkdir(exist_ok=True)
    anew.write_bytes(b"not a library")
    with pytest.raises(BackendError, match=f"cannot be opened.*Delete {re.escape(str(anew))}"):
        streamcodec.load(backend="native")


@compiled
def test_the_instruction_set_is_the_best_unless_one_is_named(monkeypatch, capsys):
    monkeypatch.delenv(library.CHOICE, raising=False)
    assert library.chosen().name == HERE[0]
    for name in HERE:
        monkeypatch.setenv(library.CHOICE, name)
        assert library.chosen().name == name
        assert main(["info"]) == 0
        assert re.search(rf"native executor +{name} \(", capsys.readouterr().out)
    monkeypatch.setenv(library.CHOICE, "sse9")
    with pytest.raises(BackendError, match=r"STREAMCODEC_INSTRUCTION_SET is 'sse9'; this processor has .*baseline"):
        streamcodec.load(backend="native")


# What a step may call: it neither allocates nor locks nor throws. A thread that waits for another's share gives way.
PLAIN = {
    *("memcpy", "memset", "memmove", "strcmp", "sched_yield"),
    *("expf", "logf", "sqrtf", "log", "sqrt", "cos", "sin", "sincos"),
}


@compiled
def test_a_step_neither_allocates_nor_locks():
    if sys.platform != "linux" or not shutil.which("nm"):
        pytest.skip("nm, which lists what a library calls, is not installed (on Debian: apt install binutils)")
    command = ["nm", "--dynamic", "--undefined-only", str(compiler.made())]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    called = {line.split()[-1].partition("@")[0] for line in lines if line.split()[0] == "U"}
    assert called
    assert called - {"__stack_chk_fail"} <= PLAIN


@compiled
def test_an_instruction_set_shares_no_function_with_another(tmp_path):
    """The linker would take one set's for all, and processors that lack its instructions would stop."""
    if sys.platform != "linux" or not shutil.which("nm"):
        pytest.skip("nm, which lists what a library has, is not installed (on Debian: apt install binutils)")
    name, flags = next(iter(compiler.flags_of().items()))
    command = (*compiler.compiler(), *compiler.FLAGS, *flags, f"-DSTREAMCODEC_{name}", "-O0", "-c")
    subprocess.run([*command, str(compiler.SOURCE / "step.cpp"), "-o", str(tmp_path / "step.o")], check=True)
    listed = subprocess.run(
        ["nm", "--defined-only", str(tmp_path / "step.o")], capture_output=True, text=True, check=True
    )
    others = {line.split()[-1] for line in listed.stdout.splitlines() if line.split()[-2] not in "bdrt"}
    assert others
    assert all(each.startswith("streamcodec_") and each.endswith(f"_{name}") for each in others)


@pytest.mark.parametrize("sizes", [[], [0], [5, 0, 16, 3], [100_000, 7, 600_000]])
def test_weights_lie_together_in_order_each_from_a_line_on(sizes):
    tensors = [torch.randn(size, 2).T for size in sizes]
    placed = memory.together(tensors)
    assert all(map(torch.equal, placed, tensors))
    starts = [tensor.data_ptr() for tensor in placed if tensor.numel()]
    assert starts == sorted(starts)
    assert all(start % 64 == 0 for start in starts)
    if starts:
        assert starts[-1] + 4 * tensors[-1].numel() - starts[0] <= sum(4 * tensor.numel() + 63 for tensor in tensors)


@compiled
def test_every_flag_and_line_of_source_makes_another_file(monkeypatch, tmp_path):
    name = compiler.library_file().name
    source = shutil.copytree(compiler.SOURCE, tmp_path / "source")
    monkeypatch.setattr(compiler, "SOURCE", source)
    assert compiler.library_file().name == name
    monkeypatch.setattr(compiler, "FLAGS", (*compiler.FLAGS, "-g"))
    assert compiler.library_file().name != name
    monkeypatch.undo()
    monkeypatch.setattr(compiler, "SOURCE", source)
    (source / "step.cpp").write_text("// another\n" + (source / "step.cpp").read_text())
    assert compiler.library_file().name != name


@compiled
@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path):
    """Addresses and undefined behaviour, over every kind of operation, at starts and ends, on every instruction set."""
    command = compiler.compiler()
    runtime = subprocess.run([*command, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    runtime = Path(runtime.stdout.strip())
    if sys.platform != "linux" or not runtime.is_absolute() or not runtime.exists():
        pytest.skip("the compiler has no address sanitizer of GCC's kind")
    extra = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    path = compiler.compile_into(tmp_path, command, extra)
    environment = os.environ | {
        "LD_PRELOAD": str(runtime), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    script = Path(__file__).parent / "sanitized.py"
    done = subprocess.run(
        [sys.executable, str(script), str(path)], env=environment, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == HERE
