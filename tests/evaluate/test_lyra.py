"""Lyra's networks are not in this package, so small stand-ins take their places here."""

from pathlib import Path

import numpy as np
import pytest

from streamcodec.errors import InputError
from streamcodec.evaluate import lyra
from streamcodec.evaluate.lyra import FILES, HOP, STAGES, Lyra
from streamcodec.evaluate.recording import Recording


class Network:
    """Rows in, rows out, and a past: each frame adds what the one before it left."""

    def __init__(self, size: int, function: object):
        self.size, self.function, self.past = size, function, 0.0

    def get_input_details(self) -> list[dict[str, object]]:
        return [{"index": 0, "shape": (1, self.size)}]

    def get_output_details(self) -> list[dict[str, object]]:
        return [{"index": 1}]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert value.shape == (1, self.size)
        self.row = value[0]

    def invoke(self) -> None:
        self.result = self.function(self.row) + self.past
        self.past = 1.0

    def get_tensor(self, index: int) -> np.ndarray:
        return self.result


class Quantizer:
    """46 stages of 16 steps, each 0.7 times as fine as the one before it; the first number of the latents alone."""

    steps = 0.5 * 0.7 ** np.arange(46)

    def get_signature_runner(self, name: str) -> object:
        return getattr(self, name)

    def encode(self, input_frames: np.ndarray, num_quantizers: np.int32) -> dict[str, np.ndarray]:
        left, codes = float(input_frames[0, 0, 0]), []
        for step in self.steps[:num_quantizers]:
            codes.append(int(np.clip(round(left / step) + 8, 0, 15)))
            left -= (codes[-1] - 8) * step
        return {"output_0": np.array(codes)[:, None, None]}

    def decode(self, encoding_indices: np.ndarray) -> dict[str, np.ndarray]:
        codes = encoding_indices[:, 0, 0]
        value = sum((code - 8) * step for code, step in zip(codes, self.steps, strict=True) if code >= 0)
        return {"output_0": np.full((1, 1, 64), value, np.float32)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    networks = {
        lyra.ENCODER: lambda: Network(HOP, lambda row: np.full(64, row.mean(), np.float32)),
        lyra.QUANTIZER: Quantizer,
        lyra.DECODER: lambda: Network(64, lambda row: np.full(HOP, row[0] - 1.5, np.float32)),
    }
    monkeypatch.setattr(Lyra, "_load", lambda self, name, delegates=True: networks[name]())
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def test_each_bitrate_sends_its_stages_and_more_of_them_are_closer(folder: Path) -> None:
    levels = np.random.default_rng(0).uniform(-0.4, 0.4, 11)
    audio = np.repeat(levels, HOP)[: 10 * HOP + 100].astype(np.float32)
    results = list(Lyra(folder)(Recording("speech", "one", lyra.RATE, audio)))
    assert [result.system for result in results] == ["Lyra 3.2", "Lyra 6", "Lyra 9.2"]
    assert [result.bits for result in results] == [11 * stages * 4 for stages in STAGES.values()]
    assert all(result.audio.shape == audio.shape for result in results)
    # The networks' past: 1 is added to every frame but the first, by the encoder and by the decoder, so 2 - 1.5.
    errors = [float(np.abs(result.audio[HOP : 10 * HOP] - 0.5 - audio[HOP : 10 * HOP]).max()) for result in results]
    assert errors[0] > 1e-3 > errors[1]
    assert errors[2] <= errors[1]


def test_a_recording_of_another_rate_comes_back_as_long_as_it_was(folder: Path) -> None:
    audio = np.zeros(24001, np.float32)
    for result in Lyra(folder)(Recording("speech", "one", 24000, audio)):
        assert result.audio.shape == audio.shape
        assert result.audio.dtype == np.float32


def test_a_folder_without_the_networks_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILES[0]).touch()
    with pytest.raises(InputError, match=r"lacks quantizer.tflite, lyragan.tflite; .* lyra/model_coeffs"):
        Lyra(tmp_path)


def test_files_that_are_no_networks_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="Lyra needs ai-edge-litert (extra lyra)")
    for name in FILES:
        (tmp_path / name).write_bytes(b"no network" * 100)
    with pytest.raises(InputError, match=r"quantizer.tflite is no network of Lyra's"):
        Lyra(tmp_path)
