"""Published sizes end to end: upstream's results offline, streams equal to offline, in float32 and in float64.

What `python tests/exactness_table.py` prints as the table of docs/exactness.md, held to its rule.
"""

import pytest
import torch
from encodec_package import import_encodec
from exactness_table import ROWS


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_published_sizes(name, more_threads):
    if "`.th`" in name:
        import_encodec()  # or skip
    with torch.no_grad():
        row = ROWS[name]()
    assert row.wrong == 0
    assert row.stream_wrong == 0
    assert row.stream_differ_double == 0
    assert row.pcm < 1e-5
    assert row.stream_pcm < 1e-5
    assert row.differ <= max(32, row.compared // 20)  # a near tie changes all later codebooks of its frame
    assert row.stream_differ <= max(32, row.compared // 20)
