"""docs/formats.md: every file of it is read as it says, and it is what the script makes."""

from pathlib import Path

import formats_table
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "formats.md"


@pytest.fixture(scope="module", autouse=True)
def _small_pieces():
    with formats_table.small_pieces():
        yield


@pytest.mark.parametrize("variant", formats_table.variants(), ids=lambda variant: "-".join(variant[:3]))
def test_a_file_is_read_as_the_page_says(tmp_path, variant):
    grade, message = formats_table.read(variant, tmp_path)
    assert grade == variant.grade, message


def test_the_page_is_what_the_script_prints():
    assert PAGE.read_text(encoding="utf-8") == formats_table.page()
