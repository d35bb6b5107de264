"""Published sizes end to end: upstream's results offline, streams equal to offline, in float32 and in float64.

What `python tests/exactness_table.py` prints as the table of docs/exactness.md, held to its rule on less noise.
"""

import importlib.util
import os

import pytest
import torch
from encodec_package import import_encodec
from exactness_table import PAIRS, ROWS, Extent


def extent_of(name: str) -> Extent:
    """Of the noise a second of three, a little more where segments of a second overlap, so that two do; half of the
    heavy families'. And the highest bandwidth: how others follow from it does not depend on sizes (tests/codecs).
    """
    if name in ("bundled codec", "Lyra v2"):
        return Extent()
    return Extent(2 / 5 if "48 kHz" in name else 1 / 2 if name in PAIRS else 1 / 3, 1 / 8, all_bandwidths=False)


# What takes longest is left to `-m long`; small ones of the same families are in tests/codecs.
LONG = "Higgs Audio v2", "SNAC 32 kHz", "Mimi", "Qwen3-TTS, 12.5 Hz"
NAMES = [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in ROWS]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_published_sizes(name):
    if "`.th`" in name:
        import_encodec()  # or skip
    if name == "Lyra v2" and "LYRA_MODEL_COEFFS" not in os.environ:
        pytest.skip("LYRA_MODEL_COEFFS names no folder model_coeffs of google/lyra")
    for package, named in (("snac", "SNAC"), ("qwen_tts", "Qwen")):
        if name.startswith(named) and importlib.util.find_spec(package) is None:
            pytest.skip(f"pip install --no-deps {package}")
    with torch.no_grad():
        row = ROWS[name](extent_of(name))
    assert row.wrong == 0
    assert row.stream_wrong == 0
    assert row.stream_differ_double == 0
    assert row.pcm < 1e-5
    assert row.stream_pcm < 1e-5
    assert row.differ <= max(32, row.compared // 20)  # a near tie changes all later codebooks of its frame
    assert row.stream_differ <= max(32, row.compared // 20)
