"""The prose of the repository as data: its pages, and the code blocks in them with what is said of each."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ("api.md", "command_line.md")  # by docs/generate.py
TABLES = ("formats.md",)  # by tests/formats_table.py
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# A comment right above a block: CI and tests/test_readme.py run README's two commands.
ELSEWHERE = ("<!-- roundtrip -->", "<!-- tests -->")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
BACKGROUND = "<!-- background -->"  # a server, which runs until the page is done
FILE = re.compile(r"<!-- file: (?P<name>\S+) -->")  # saved under that name
RUN_BY = re.compile(r"<!-- run by (?P<path>\S+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its fence. note: the HTML comment right above it, or nothing."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    note, opened, inside = "", None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        stripped = line.strip()
        if opened is not None:
            if stripped == "```":
                found.append(Block(page, opened[0], opened[1], "\n".join(inside) + "\n", opened[2]))
                opened, note = None, ""
            else:
                inside.append(line.removeprefix(opened[3]))
        elif stripped.startswith("```"):
            opened, inside = (number, stripped[3:], note, line[: len(line) - len(line.lstrip())]), []
        elif stripped:
            note = stripped if stripped.startswith("<!--") else ""
    return found


def prose(page: Path) -> list[tuple[int, str]]:
    """The lines of a page outside fenced blocks, with their numbers."""
    lines, fenced = [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            lines.append((number, line))
    return lines


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page, and those set by hand."""
    names = set()
    for _, line in prose(page):
        if line.startswith("#"):
            text = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            names.add(text.replace(" ", "-"))
        names |= set(re.findall(r'<a (?:id|name)="([^"]+)"', line))
    return names
