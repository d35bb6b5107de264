"""The import table of docs/design.md, held to; and what `import streamcodec` must do without."""

import ast
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import streamcodec

ROOT = Path(__file__).parent.parent
SOURCES = {"streamcodec": ROOT / "streamcodec", "streamcodec_kernels": ROOT / "kernels" / "streamcodec_kernels"}


def table() -> dict[str, set[str]]:
    """The rows `| layer | may import |` of docs/design.md: layers to the names that they may import."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows: dict[str, set[str]] = {}
    inside = False
    for line in text.splitlines():
        cells = [cell.strip(" `") for cell in line.strip().strip("|").split("|")]
        if cells == ["layer", "may import"]:
            inside = True
        elif inside and not line.strip().startswith("|"):
            break
        elif inside and not set(cells[0]) <= set("-: "):
            for layer in re.findall(r"\w+", cells[0]):
                rows[layer] = set(re.findall(r"\w+", cells[1]))
    return rows


def layer_of(path: Path) -> str:
    """The top-level module of the package that a file belongs to."""
    if SOURCES["streamcodec_kernels"] in path.parents:
        return "streamcodec_kernels"
    return path.relative_to(SOURCES["streamcodec"]).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every import of a file, those inside functions and for type checkers too, as (line, name in the table)."""
    for line, names in imported(path):
        yield line, table_name(names)


def imported(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Every import of a file as (line, the parts of the full name); a string that names a module of ours is one."""
    package = "streamcodec_kernels" if SOURCES["streamcodec_kernels"] in path.parents else "streamcodec"
    inside = path.relative_to(SOURCES[package]).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            base = [package, *inside][: len(inside) + 2 - node.level] if node.level else []
            names = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                yield node.lineno, [*names, alias.name]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and OURS.fullmatch(node.value):
            names = node.value.rstrip(".").split(".")
            if table_name(names) != "streamcodec":  # that would be a logger, or a protocol on the wire
                yield node.lineno, names
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and not OURS.fullmatch(name.value) and not name.value.startswith("."):
                yield node.lineno, name.value.split(".")


OURS = re.compile(r"streamcodec(_kernels\.|\.)(\w+(\.\w+)*)?")


def table_name(names: list[str]) -> str:
    """The layer for a module of the package, "streamcodec" for what is taken from the package itself, else the root."""
    if names[0] != "streamcodec" or len(names) == 1:
        return names[0]
    top = SOURCES["streamcodec"] / names[1]
    return names[1] if top.is_dir() or top.with_suffix(".py").is_file() else "streamcodec"


FILES = sorted(path for root in SOURCES.values() for path in root.rglob("*.py"))


def allowed(layer: str, name: str, rows: dict[str, set[str]]) -> bool:
    if name in sys.stdlib_module_names or name in ("tomllib", layer):  # tomllib: in the library from Python 3.11 on
        return True
    return name in rows[layer]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_those_of_the_table(path):
    if path.parent == SOURCES["streamcodec"] and path.name in ("__init__.py", "__main__.py"):
        return  # the package's face: public names, and the command line's entry
    rows, layer = table(), layer_of(path)
    assert layer in rows, f"{layer} has no row in the import table of docs/design.md"
    wrong = [f"line {line}: {name}" for line, name in imports(path) if not allowed(layer, name, rows)]
    assert not wrong, f"{layer} may import {', '.join(sorted(rows[layer]))}; but {'; '.join(wrong)}"


def test_the_table_has_no_row_for_what_does_not_exist():
    layers = {layer_of(path) for path in FILES}
    assert set(table()) <= layers


def module_of(names: list[str]) -> str | None:
    """The module of ours that `names` is taken from: itself, or the one that it is a name of. None for others'."""
    if names[0] not in SOURCES:
        return None
    path = SOURCES[names[0]]
    for count, part in enumerate(names[1:], 1):
        if not (path / part).is_dir():
            found = (path / part).with_suffix(".py").is_file()
            return ".".join(names[: count + found])
        path = path / part
    return ".".join(names)


def module_at(path: Path) -> str:
    name, root = next((name, root) for name, root in SOURCES.items() if root in path.parents)
    return ".".join([name, *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules each of which imports every other one, directly or by way of others."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, waiting = set[str](), [start]
        while waiting:
            new = graph.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        reached[start] = seen
    found = [{other for other in reached[name] if name in reached[other]} for name in graph if name in reached[name]]
    return [circle for number, circle in enumerate(found) if circle not in found[:number]]


def test_no_module_imports_one_that_imports_it():
    graph = {
        module_at(path): {found for _, names in imported(path) if (found := module_of(names))} - {module_at(path)}
        for path in FILES
    }
    # The package's face has the public names of all layers; what is taken from it is the version.
    del graph["streamcodec"]
    assert circles(graph) == []


def test_circles_are_found_however_long_they_are():
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]


def test_lazy_imports_those_for_type_checkers_and_those_by_a_string_count(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "streamcodec", tmp_path)
    (tmp_path / "nn").mkdir()
    (tmp_path / "state.py").touch()
    file = tmp_path / "nn" / "file.py"
    code = """
        import os.path, torch
        from typing import TYPE_CHECKING
        from . import sibling
        from .. import state as other, __version__
        from ..errors import Error
        if TYPE_CHECKING:
            import hidden
        else:
            import shown
        def function():
            from numpy.lib import stride_tricks
            importlib.import_module("sounddevice")
            importlib.import_module(f"streamcodec_kernels.{name}")
            module = "streamcodec.state"
            text, logger = "streamcodec. A sentence", "streamcodec.other"
            class Inner:
                import soxr
    """
    file.write_text(textwrap.dedent(code))
    (tmp_path / "errors.py").touch()
    names = [name for _, name in imports(file)]
    seen = "errors hidden nn numpy os shown sounddevice soxr state state streamcodec streamcodec_kernels torch typing"
    assert sorted(names) == seen.split()


def test_every_public_name_exists():
    assert streamcodec.__all__ == sorted(streamcodec.__all__, key=lambda name: (name.islower(), name))
    for name in streamcodec.__all__:
        assert hasattr(streamcodec, name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_all_are_defined(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    names = {name for value in public for name in ast.literal_eval(value)}
    body = [part for node in tree.body for part in ([node, *node.body] if isinstance(node, ast.If) else [node])]
    defined = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    if "__getattr__" in defined:
        return  # resolved when asked for: see test_every_public_name_exists
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    assert names <= defined


BLOCKED = [
    "triton",
    "sounddevice",
    "transformers",
    "soundfile",
    "soxr",
    "huggingface_hub",
    "tqdm",
    "pystoi",
    "matplotlib",
]
SCRIPT = """
    import sys

    # None is how Python knows that a module is not there; torch looks for Triton by itself.
    sys.modules.update(dict.fromkeys({blocked}))
    import torch
    import streamcodec

    torch.manual_seed(0)
    from streamcodec.codecs.encodec import EncodecCodec
    sizes = dict(num_filters=2, hidden_size=4, upsampling_ratios=[2, 2], codebook_size=4)
    codec = EncodecCodec(dict(sizes, sampling_rate=400, target_bandwidths=[0.4]))
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    codes = [encoder.push(torch.zeros(1, 1, 50)), encoder.flush()]
    assert sum(decoder.push(part).shape[2] for part in codes) + decoder.flush().shape[2] == 50
    assert streamcodec.load().spec.name
    assert all(sys.modules[name] is None for name in {blocked})
"""


# tests/package has the same for a clean environment; this one needs no index.
WITHOUT_TORCH = """
    import sys

    blocked = ("torch", "safetensors", "huggingface_hub")
    sys.modules.update(dict.fromkeys(blocked))
    import streamcodec
    import streamcodec.client
    import streamcodec.cli.connect
    import streamcodec.cli.ends
    import streamcodec.containers
    import streamcodec.scalars
    import streamcodec.tokens
    from streamcodec.audio import AudioReader, AudioWriter
    from streamcodec.codesfile import CodesBlock, CodesHeader, CodesReader, CodesWriter, kind_of
    from streamcodec.codesfile.scx import ScxReader, ScxWriter, cut, join
    from streamcodec.live import Playout, Ring, SoundHost, describe_devices
    from streamcodec.server import Config
    from streamcodec.cli.parser import build_parser

    build_parser(["connect"])
    build_parser(["serve"])
    for arguments in (["--version"], ["--help"], ["connect", "--help"], ["-q", "serve", "--help"]):
        try:
            streamcodec.cli.main(arguments)
        except SystemExit as ended:
            assert not ended.code, arguments
        else:
            raise AssertionError(arguments)
    assert streamcodec.cli.main(["-q", "completion", "bash"]) == 0
    assert all(sys.modules[name] is None for name in blocked)
    for package, name in (
        (streamcodec, "load"),
        (streamcodec, "load_codes"),
        (streamcodec.codesfile, "DacReader"),
        (streamcodec.live, "RoundTrip"),
    ):
        try:
            getattr(package, name)
        except ImportError as error:
            assert isinstance(error, streamcodec.StreamcodecError) and "pip install '.[torch]'" in str(error), error
        else:
            raise AssertionError("no error without torch")
    sys.exit(streamcodec.cli.main(["roundtrip"]))
"""


def test_what_promises_to_work_without_torch_does_and_the_rest_says_how_to_get_it():
    command = [sys.executable, "-c", textwrap.dedent(WITHOUT_TORCH)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("streamcodec: error: torch is missing"), done.stderr
    assert done.stderr.count("\n") == 1


def test_the_package_works_without_its_optional_libraries():
    script = textwrap.dedent(SCRIPT).format(blocked=BLOCKED)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


TELLING = """
    import sys
    import streamcodec.cli

    try:
        assert streamcodec.cli.main(sys.argv[1:]) == 0
    except SystemExit as ended:
        assert not ended.code
    assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    "words",
    ["--help", "--version", "serve --help", "connect --help", "bench --help", "bench speed --help", "completion zsh"],
)
def test_what_tells_of_commands_does_not_import_torch(words):
    if words.startswith("completion"):
        pytest.importorskip("shtab", reason="completion is written by the package shtab")
    command = [sys.executable, "-c", textwrap.dedent(TELLING), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


# What a round trip does without. To import the other codecs took as long as to load its own.
OTHER_CODECS = ("dac", "encodec", "higgs", "lyra", "mimi", "pocket_tts", "qwen_tts", "semantic", "snac", "xcodec")
OTHER_PARTS = ("bench", "client", "codesfile", "corpus", "engine", "evaluate", "live", "packet", "server", "train")
OTHER_PACKAGES = ("huggingface_hub", "soxr", "torch._dynamo", "transformers", "triton", "websockets", "yaml")
ROUND_TRIP = """
    import sys
    import streamcodec.cli

    assert streamcodec.cli.main(["-q", "roundtrip", "--json", *sys.argv[1:]]) == 0
    print(*sys.modules)
"""


def test_a_round_trip_imports_no_other_codec_and_nothing_of_other_commands(tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros(480), 24_000)
    command = [sys.executable, "-c", textwrap.dedent(ROUND_TRIP), tmp_path / "in.wav", tmp_path / "out.wav"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    ours = {f"streamcodec.codecs.{name}" for name in OTHER_CODECS} | {f"streamcodec.{name}" for name in OTHER_PARTS}
    assert ours <= {module_at(path) for path in FILES}
    assert "streamcodec.codecs.spectral" in imported
    assert not imported & (ours | set(OTHER_PACKAGES))


def test_no_two_files_of_tests_have_one_name():
    """They are modules without a package: of two with one name pytest collects neither."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []
