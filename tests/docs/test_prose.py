"""The prose: links lead somewhere, lines are short, every code block says what it is in."""

import re
from pathlib import Path

import pytest
from pages import BACKGROUND, ELSEWHERE, FILE, GENERATED, NOT_RUN, PAGES, ROOT, RUN_BY, TABLES, anchors, blocks, prose

WIDTH = 100
CODE_WIDTH = 120
LANGUAGES = {"sh", "python", "console", "text", "toml", "json", "html", "dockerfile", "haproxy", "nginx", "caddy"}
RUN = {"sh", "python"}


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_link_of_a_page_leads_somewhere(page):
    wrong = []
    for number, line in prose(page):
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            path, _, anchor = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            target = page if not path else (page.parent / path)
            if not target.exists():
                wrong.append(f"line {number}: {link}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                wrong.append(f"line {number}: {link} (no such heading)")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_lines_of_prose_are_no_longer_than_100_columns(page):
    """Tables, links and pictures may be: they cannot be wrapped."""
    if page.name in (*GENERATED, *TABLES):
        return
    free = re.compile(r"^\s*(\||!\[|<|\[!\[)|^\s*([-*] )?\[?`?\S+$")
    long = [number for number, line in prose(page) if len(line) > WIDTH and not free.match(line)]
    assert not long, f"lines {long} of {names(page)}: wrap them"
    code = [block for block in blocks(page) if block.language in RUN and block.note not in ELSEWHERE]
    wide = [block.place for block in code if max(map(len, block.text.split("\n"))) > CODE_WIDTH]
    assert not wide


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_block_of_code_names_its_language(page):
    wrong = [block.place for block in blocks(page) if block.language not in LANGUAGES]
    assert not wrong, f"{wrong}: begin the fence with one of {', '.join(sorted(LANGUAGES))}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_no_command_hides_in_an_indented_block(page):
    lines = prose(page)
    wrong = [
        number
        for (number, line), (_, before) in zip(lines[1:], lines, strict=False)
        if re.match(r" {4}(streamcodec|python|pip|\$) ", line) and not before.strip()
    ]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_a_block_that_is_run_elsewhere_is_known_there(page):
    for block in blocks(page):
        match = RUN_BY.fullmatch(block.note)
        if match is not None:
            text = (ROOT / match["path"]).read_text(encoding="utf-8")
            assert page.name in text, f"{block.place}: {match['path']} does not read {page.name}"
        elif block.language in RUN and block.note:
            known = (
                block.note in (*ELSEWHERE, BACKGROUND) or NOT_RUN.fullmatch(block.note) or FILE.fullmatch(block.note)
            )
            assert known, f"{block.place}: {block.note}"


def test_the_index_names_every_page():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES if page.parent == ROOT / "docs" and f"({page.name}" not in text]
    assert missing == ["index.md"]
