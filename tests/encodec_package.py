"""The upstream ``encodec`` package, to compare with: its import, and small random models of its classes."""

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from streamcodec.checkpoint import weights
from streamcodec.codecs import Original, encodec_original


def import_encodec() -> ModuleType:
    """The package's ``encodec.model`` module; skips the test (or the test module) where it is not installed.

    ``encodec`` imports torchaudio only to resample and to read files, which no test does. An empty module stands in
    for it during the import and is then taken away again, because transformers asks whether torchaudio is there.
    """
    pytest.importorskip("einops", reason="the upstream encodec package needs einops")
    before = sys.modules.get("torchaudio")
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        return importlib.import_module("encodec.model")
    except ModuleNotFoundError as error:
        if error.name != "encodec":
            raise
        pytest.skip("the upstream encodec package is not installed", allow_module_level=True)
    finally:
        if before is None:
            del sys.modules["torchaudio"]
        else:
            sys.modules["torchaudio"] = before


def small_model(
    stereo: bool = False, *, num_codebooks: int = 3, codebook_size: int = 16, seed: int = 0, **sizes: Any
) -> nn.Module:
    """An upstream EncodecModel with random weights: like the 24 kHz one, or (`stereo`) like the 48 kHz one.

    Built as its ``EncodecModel._get_model`` does, with `sizes` for both SEANet halves (n_filters, dimension, ratios,
    n_residual_layers, kernel_size, last_kernel_size, residual_kernel_size, compress, lstm, true_skip).
    """
    upstream = import_encodec()
    torch.manual_seed(seed)
    common = {"n_filters": 4, "dimension": 16, "ratios": [5, 4], **sizes}
    channels, norm, causal = (2, "time_group_norm", False) if stereo else (1, "weight_norm", True)
    encoder = upstream.m.SEANetEncoder(channels=channels, norm=norm, causal=causal, **common)
    decoder = upstream.m.SEANetDecoder(channels=channels, norm=norm, causal=causal, **common)
    quantizer = upstream.qt.ResidualVectorQuantizer(dimension=encoder.dimension, n_q=num_codebooks, bins=codebook_size)
    model: nn.Module = upstream.EncodecModel(
        encoder,
        decoder,
        quantizer,
        target_bandwidths=[],
        sample_rate=48_000 if stereo else 24_000,
        channels=channels,
        normalize=stereo,
        segment=1.0 if stereo else None,
    )
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms start as zeros and ones: any mix-up would be hidden
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("embed"):
                buffer.copy_(0.3 * torch.randn_like(buffer))
    return model.eval()


def config_of(model: nn.Module) -> dict[str, Any]:
    """What no weight of an upstream model tells, as a config.json."""
    stereo = model.channels == 2
    return {
        "model_type": "encodec",
        "sampling_rate": model.sample_rate,
        "use_causal_conv": not stereo,
        "pad_mode": "reflect",
        "normalize": model.normalize,
        "chunk_length_s": model.segment,
        "overlap": model.overlap if stereo else None,
    }


def original(model: nn.Module, *, told: bool = True) -> Original:
    """An upstream model's state dict as loaded from a file; told: with a config.json beside it."""
    return Original(weights.plain(model.state_dict(), "model.th"), "model.th", config_of(model) if told else None)


def converted(model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of an upstream model in Hugging Face's layout."""
    result = encodec_original.convert(original(model))
    assert result is not None
    return result
