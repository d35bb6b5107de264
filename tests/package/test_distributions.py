"""The wheel and the source distribution hold what they should, and say what they are."""

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import torch
from streamcodec_kernels.native import compiler

import streamcodec

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PACKAGES = {"streamcodec": ROOT / "streamcodec", "streamcodec_kernels": ROOT / "kernels" / "streamcodec_kernels"}


@pytest.fixture
def wheel(distributions: dict[str, Path]) -> zipfile.ZipFile:
    return zipfile.ZipFile(distributions["wheel"])


@pytest.fixture
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def files(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_wheel_has_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name} - {*libraries(wheel)}
    expected = {f"{package}/{name}" for package, root in PACKAGES.items() for name in files(root)}
    assert inside == expected
    for name in ("bench/__init__.py", "py.typed", "server/page/index.html", "bundled/streamcodec_24khz/config.json"):
        assert f"streamcodec/{name}" in inside  # the comparison is not of two empty sets


def libraries(wheel: zipfile.ZipFile) -> list[str]:
    """The native executor's, where a compiler was there."""
    return [name for name in wheel.namelist() if name.startswith("streamcodec_kernels/native/built/")]


def tag(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL"))
    return email.message_from_bytes(wheel.read(name))


def test_a_wheel_with_the_native_library_is_for_this_platform_and_any_python(wheel: zipfile.ZipFile) -> None:
    if compiler.compiler() is None:
        pytest.skip("there is no C++ compiler")
    assert libraries(wheel) == [f"streamcodec_kernels/native/built/{compiler.library_file().name}"]
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert tag(wheel)["Tag"] == f"py3-none-{platform}"
    assert tag(wheel)["Root-Is-Purelib"] == "false"


def test_a_wheel_that_is_made_without_a_compiler_is_for_all(distributions: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(distributions["sdist"]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    out = tmp_path / "out"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    environment = os.environ | {"CXX": f"{sys.executable} -c 'raise SystemExit(1)'"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the native executor's library is not in this wheel" in done.stdout + done.stderr
    (made,) = map(zipfile.ZipFile, out.iterdir())
    assert libraries(made) == []
    assert tag(made)["Tag"] == "py3-none-any"
    assert tag(made)["Root-Is-Purelib"] == "true"


def test_a_source_distribution_has_every_file_of_the_repository(distributions: dict[str, Path]) -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no git, or no clone: what belongs to the repository is not known")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    tracked = {name for name in listed if (ROOT / name).exists() and not name.startswith("shared/")}
    with tarfile.open(distributions["sdist"]) as archive:
        inside = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert tracked - inside == set()
    added = {name for name in inside - tracked if ".egg-info/" not in name}
    assert added <= {"PKG-INFO", "setup.cfg"}


def test_the_metadata_names_the_version_the_licence_and_every_extra(metadata: Message, wheel: zipfile.ZipFile) -> None:
    assert metadata["Version"] == streamcodec.__version__
    assert metadata["License-Expression"] == "MIT"
    kept = {name.partition("/licenses/")[2] for name in wheel.namelist()} - {""}
    assert kept == set(metadata.get_all("License-File")) == {"LICENSE", "streamcodec/bundled/streamcodec_24khz/NOTICE"}
    assert {"torch", "client", "server", "live", "train"} <= set(metadata.get_all("Provides-Extra"))


def test_torch_is_in_every_extra_for_users_but_the_client(metadata: Message) -> None:
    needs: dict[str, list[str]] = {}
    for text in metadata.get_all("Requires-Dist"):
        requirement, _, marker = text.partition(";")
        extra = re.search(r'extra == "([\w-]+)"', marker)
        needs.setdefault(extra[1] if extra else "", []).append(requirement.strip())
    with_torch = {extra for extra, names in needs.items() if "streamcodec[torch]" in names}
    for extra, names in needs.items():  # and those that are made of such
        made_of = [name[len("streamcodec[") : -1].split(",") for name in names if name.startswith("streamcodec[")]
        with_torch |= {extra for parts in made_of if set(parts) <= with_torch}
    assert set(needs) - with_torch == {"", "torch", "client", "lint", "page", "release"}
    for extra in ("", "client"):
        assert not [name for name in needs[extra] if re.match("torch|safetensors|huggingface|streamcodec", name)]


def test_the_description_needs_nothing_beside_it(metadata: Message) -> None:
    """An index shows it alone: a link into the checkout would lead nowhere."""
    text = str(metadata.get_payload())
    assert text.startswith("# streamcodec")
    assert "```python" in text
    assert [target for target in re.findall(r"\]\(([^)]*)\)", text) if not target.startswith("https://")] == []
    assert "<img" not in text


def test_the_descriptions_python_runs_and_equals_the_offline_run(metadata: Message) -> None:
    found = re.search(r"```python\n(.*?)```", str(metadata.get_payload()), re.DOTALL)
    assert found is not None
    pcm = torch.randn(1, 1, 5000, generator=torch.Generator().manual_seed(0)) * 0.1
    heard: list[torch.Tensor] = []

    class Speaker:
        write = staticmethod(heard.append)

    exec(compile(found[1], "DESCRIPTION.md", "exec"), {"microphone": pcm.split(777, -1), "speaker": Speaker})
    codec, streamed = streamcodec.load(), torch.cat(heard, -1)
    assert streamed.shape[2] > 4000
    whole = codec.decode(codec.encode(pcm))
    torch.testing.assert_close(streamed, whole[:, :, : streamed.shape[2]], rtol=0, atol=1e-5)


def test_every_extra_of_the_description_exists(metadata: Message) -> None:
    rows = [line.split("|")[1] for line in str(metadata.get_payload()).splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall("`([^`]+)`", row)]
    assert len(named) >= 8
    assert set(named) <= set(metadata.get_all("Provides-Extra"))


def test_twine_finds_nothing_to_object_to(distributions: dict[str, Path]) -> None:
    pytest.importorskip("twine", reason="twine is not installed: the extra `release` has it")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_its_command_runs_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}  # before any installed streamcodec
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "CXX": "/no/compiler"}
    script = (
        "import sys, streamcodec, streamcodec.bench, streamcodec_kernels; from streamcodec.cli import main; "
        "print(streamcodec.__file__, streamcodec_kernels.__file__, file=sys.stderr); "
        "sys.exit(main(['info', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(str(tmp_path / "installed")) == 2
    assert "24000 Hz" in done.stdout  # the bundled codec's
    assert f"encoder: {'native' if libraries(wheel) else 'torch'}" in done.stdout
