"""The upstream ``descript-audio-codec`` package, to compare with: its import, and small random models of its class.

It imports descript-audiotools for its `AudioSignal`, which brings torchaudio and thirty packages more. The few methods
that `compress` and `decompress` call are written here instead, from that package's documentation and source (0.7.2),
with scipy's filters for the loudness.
"""

import importlib
import math
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

MODULES = ("dac", "dac.nn", "dac.model", "audiotools", "audiotools.ml")


class AudioSignal:
    """audio_data: [B, C, N]; sample_rate: Hz."""

    def __init__(self, audio_data: Tensor, sample_rate: int):
        self.audio_data, self.sample_rate, self._loudness = audio_data, sample_rate, None

    device = property(lambda self: self.audio_data.device)
    shape = property(lambda self: self.audio_data.shape)
    signal_length = property(lambda self: self.audio_data.shape[-1])
    signal_duration = property(lambda self: self.signal_length / self.sample_rate)

    def clone(self) -> "AudioSignal":
        return AudioSignal(self.audio_data.clone(), self.sample_rate)

    def __getitem__(self, key: Any) -> "AudioSignal":
        return AudioSignal(self.audio_data[key], self.sample_rate)

    def resample(self, rate: int) -> None:
        if rate != self.sample_rate:
            import soxr

            rows = [soxr.resample(row.T.numpy(), self.sample_rate, rate).T for row in self.audio_data]
            self.audio_data, self.sample_rate = torch.from_numpy(np.stack(rows)), rate

    def zero_pad(self, before: int, after: int) -> "AudioSignal":
        self.audio_data = nn.functional.pad(self.audio_data, (before, after))
        return self

    def ensure_max_of_audio(self) -> None:
        self.audio_data = self.audio_data / self.audio_data.abs().amax(-1, keepdim=True).clamp_min(1)

    def normalize(self, db: Any) -> None:
        gain = 10 ** ((torch.as_tensor(db) - self.loudness()) / 20)
        self.audio_data = self.audio_data * gain.to(self.audio_data)[:, None, None]

    def loudness(self) -> Tensor:
        """BS.1770-4 of each of the batch, kept once measured."""
        if self._loudness is None:
            self._loudness = torch.tensor([loudness(row.double().numpy(), self.sample_rate) for row in self.audio_data])
        return self._loudness


def loudness(pcm: np.ndarray, rate: int) -> float:
    """LUFS of [C, N], as the meter of descript-audiotools 0.7.2 has it."""
    pyloudnorm = pytest.importorskip("pyloudnorm", reason="the loudness oracle needs pyloudnorm")
    scipy_signal = pytest.importorskip("scipy.signal", reason="the loudness oracle needs scipy")
    pcm = np.pad(pcm, ((0, 0), (0, max(0, int(0.5 * rate - pcm.shape[1])))))
    for stage in pyloudnorm.Meter(rate)._filters.values():
        pcm = stage.passband_gain * scipy_signal.lfilter(stage.b, stage.a, pcm)
    size, step = int(0.4 * rate), int(0.4 * rate * 0.25)
    blocks = math.ceil((pcm.shape[1] - size) / step) + 1
    pcm = np.pad(pcm, ((0, 0), (0, (blocks - 1) * step + size - pcm.shape[1])))
    power = np.array([np.square(pcm[:, i * step : i * step + size]).sum() for i in range(blocks)]) / (0.4 * rate)
    with np.errstate(divide="ignore"):
        level = -0.691 + 10 * np.log10(power)
        gate = -0.691 + 10 * np.log10(power[level > -70].mean()) - 10 if (level > -70).any() else 0
        kept = power[(level > -70) & (level > gate)]
        return max(-70.0, -0.691 + 10 * math.log10(kept.mean())) if len(kept) else -70.0


class BaseModel(nn.Module):
    device = property(lambda self: next(self.parameters()).device)


def import_dac() -> ModuleType:
    """The package's ``dac.model.dac`` module, its `DACFile` beside; skips where it is not installed.

    The packages around it are stood in for during the import, and taken away again.
    """
    found = importlib.util.find_spec("dac")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the upstream descript-audio-codec package is not installed", allow_module_level=True)
    pytest.importorskip("einops", reason="the upstream descript-audio-codec package needs einops")
    (root,) = found.submodule_search_locations
    before = {name: sys.modules.get(name) for name in MODULES}
    for name in MODULES:
        sys.modules[name] = ModuleType(name)
        if name.startswith("dac"):
            sys.modules[name].__path__ = [str(Path(root, *name.split(".")[1:]))]
    sys.modules["audiotools"].AudioSignal = AudioSignal
    sys.modules["audiotools.ml"].BaseModel = BaseModel
    try:
        module = importlib.import_module("dac.model.dac")
        module.DACFile = importlib.import_module("dac.model.base").DACFile
        return module
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("dac", "audiotools")]:
            del sys.modules[name]
        sys.modules.update({name: old for name, old in before.items() if old is not None})


def small_kwargs(rates: tuple[int, ...], rate: int) -> dict[str, Any]:
    return {
        "encoder_dim": 2,
        "encoder_rates": list(rates),
        "latent_dim": 8,
        "decoder_dim": 4 * 2 ** len(rates),
        "decoder_rates": list(reversed(rates)),
        "n_codebooks": 3,
        "codebook_size": 16,
        "codebook_dim": 4,
        "sample_rate": rate,
    }


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Weights that keep the level, alphas around 1, and an output well inside of ±1."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("alpha"):
            parameter.copy_(0.5 + 0.5 * values.abs())
        elif name.endswith("bias"):
            parameter.copy_(0.1 * values)
        elif name.endswith("weight_g"):
            parameter.copy_(0.7 + 0.1 * values.abs())
        else:
            parameter.copy_(values)
    model.decoder.model[-2].weight_g.mul_(0.2)


def small_model(rates: tuple[int, ...] = (2, 4, 5, 8), rate: int = 16000) -> nn.Module:
    """An upstream DAC in float64 with random weights.

    kwargs: those that it was made with; saved: its state dict. Weight norm is merged in float32, as ours is.
    """
    torch.manual_seed(0)
    kwargs = small_kwargs(rates, rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's weight_norm has a successor
        model = import_dac().DAC(**kwargs).eval()
    randomise(model)
    model.kwargs, model.saved = kwargs, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for module in model.modules():
        if hasattr(module, "weight_g"):
            nn.utils.remove_weight_norm(module)
    return model.double()
