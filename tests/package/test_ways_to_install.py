"""Nobody is told to type what cannot work: the package is on no index, and one function has the way to install it."""

import re
from pathlib import Path

import pytest

from streamcodec.install import how_to_install

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SOURCES = sorted(path for top in ("streamcodec", "kernels") for path in (ROOT / top).rglob("*.py"))
PROSE = [
    *ROOT.glob("*.md"),
    *(path for top in ("docs", "streamcodec") for path in sorted((ROOT / top).rglob("*.md"))),
    *sorted((ROOT / "demos").glob("*.py")),
    *(path for path in sorted((ROOT / "tests").rglob("*.py")) if path.parent != HERE),
]


def lines(paths: list[Path], pattern: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]


def extras() -> set[str]:
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    return set(re.findall(r"^([\w-]+) = \[", section.partition("\n[")[0], re.MULTILINE))


def test_nothing_says_to_install_from_an_index_by_name() -> None:
    assert lines(SOURCES + PROSE, r"streamcodec\\?\[[a-z]|pip install (-\S+ )*['\"]?streamcodec['\"]?(\s|$)") == []


def test_the_package_spells_the_way_in_one_place() -> None:
    found = lines(SOURCES, r"['\"]\.\[|\.whl\[")
    assert len(found) == 1
    assert found[0].startswith("streamcodec/install.py:")


def test_every_extra_that_is_named_exists() -> None:
    found = {
        (path.name, name)
        for path in [*PROSE, ROOT / ".ci" / "run"]
        for names in re.findall(r"['\"]\.\[([a-z,-]+)\]['\"]", path.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert len(found) > 10
    assert [(path, name) for path, name in sorted(found) if name not in extras()] == []
    asked = {name for path in SOURCES for name in re.findall(r"how_to_install\(['\"]([\w-]+)['\"]\)", path.read_text())}
    assert {"client", "server", "torch"} <= asked <= extras()


@pytest.mark.parametrize("extra", ["torch", "client"])
def test_the_way_is_for_a_checkout_and_for_a_wheel(extra: str) -> None:
    assert f"pip install '.[{extra}]'" in how_to_install(extra)
    assert f"FILE.whl[{extra}]" in how_to_install(extra)
