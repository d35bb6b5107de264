"""``streamcodec info``."""

import re

import pytest
from commands import RATE


def test_info_is_the_specification(cli, result, tiny):
    facts = result("info", tiny)
    assert (facts["name"], facts["sample_rate"], facts["channels"], facts["hop_length"]) == ("tiny", RATE, 1, 320)
    assert facts["codebooks"] == {"0.9": 2, "1.8": 4}
    assert (facts["bits_per_code"], facts["algorithmic_delay"]) == (6, 320)
    assert facts["prefill_ms"] == pytest.approx(facts["prefill_frames"] * 320 / 24)
    assert facts["bytes_per_stream"] == facts["encoder_bytes"] + facts["decoder_bytes"] > 0
    code, out, err = cli("info", tiny)
    assert (code, err) == (0, "")
    assert re.search(r"^algorithmic delay +320 samples, 13\.3 ms", out, re.MULTILINE)
    assert re.search(r"^1\.8 kbps +codebooks: 4$", out, re.MULTILINE)
    assert re.search(r"^0\.9 kbps +codebooks: 2 \(default\)$", out, re.MULTILINE)
    encoder, decoder = facts["gflops"]["encoder"], facts["gflops"]["decoder"]
    assert 0 < encoder < 1
    assert re.search(rf"^GFLOP a second of audio +encoder {encoder:.2f}, decoder {decoder:.2f}$", out, re.MULTILINE)
    assert re.search(rf"^memory per stream +{facts['bytes_per_stream'] / 1024:.1f} KiB", out, re.MULTILINE)


def test_info_has_the_segments_of_a_codec_that_has_them(cli, stereo):
    assert re.search(
        r"^segment +4000 samples, 1000\.0 ms, every 3960 samples, 990\.0 ms$", cli("info", stereo)[1], re.M
    )
