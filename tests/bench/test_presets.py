"""Random weights that a measurement can trust: codes in use, levels kept."""

import pytest
import torch
from small_presets import SMALL, small

from streamcodec.bench import random_weights
from streamcodec.bench.presets import PRESETS


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_preset_uses_its_codebooks_and_keeps_the_level(name):
    codec = small(name)
    spec = codec.spec
    codes = codec.encode(0.1 * torch.randn(1, spec.channels, 200 * spec.hop_length), spec.bandwidths[-1])
    for stage in codes.data[0]:
        assert len(stage.unique()) > spec.codebook_size // 4
    wav = codec.decode(codes)
    assert wav.isfinite().all()
    assert 1e-3 < float(wav.std()) < 10


def test_a_preset_is_the_same_each_time():
    preset = PRESETS["dac_44khz"]
    preset = preset._replace(config=preset.config | SMALL["dac_44khz"])
    first, second = random_weights.make(preset), random_weights.make(preset)
    assert first.fingerprint == second.fingerprint
    assert random_weights.make(preset, seed=1).fingerprint != first.fingerprint


def test_presets_have_the_published_sizes():
    """As the published configurations state them."""
    rates = {
        "encodec_24khz": 75,
        "encodec_32khz": 50,
        "dac_16khz": 50,
        "dac_24khz": 75,
        "dac_44khz": 44_100 / 512,
        "mimi": 12.5,
        "qwen3_tts_12hz": 12.5,
        "snac_24khz": 24_000 / 2048,
        "snac_44khz": 44_100 / (32 * 384),
    }
    books = {"encodec_24khz": 32, "encodec_32khz": 4, "dac_16khz": 12, "dac_24khz": 32, "dac_44khz": 9, "mimi": 32}
    books |= {"qwen3_tts_12hz": 16, "snac_24khz": 7, "snac_44khz": 60}
    with torch.device("meta"):  # the sizes alone
        for name, rate in rates.items():
            codec = PRESETS[name].build(PRESETS[name].config)
            assert codec.spec.frame_rate == rate
            assert codec.spec.num_codebooks == books[name]
            assert name != "mimi" or codec.spec.hop_length == 1920
