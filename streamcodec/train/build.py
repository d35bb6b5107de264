"""From a codec's configuration and a folder of audio to a trainer, and from a trainer to a codec on disk."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ..checkpoint import load
from ..codecs import Codec
from ..codecs.encodec import EncodecCodec
from ..errors import CheckpointError, ConfigError
from .data import AudioCache, Crops
from .loop import TrainConfig, Trainer, install, read_checkpoint

__all__ = ["DEFAULT_CONFIG", "build_trainer", "export_run", "write_half"]

# EnCodec 24 kHz (Défossez et al. 2022) with a sixth of its weights, small enough to ship with the package: half the
# filters and latent dimensions, one LSTM layer, identity shortcuts; zero padding lets a stream start at once.
DEFAULT_CONFIG: dict[str, Any] = {
    "target_bandwidths": [1.5, 3.0, 6.0],
    "sampling_rate": 24000,
    "audio_channels": 1,
    "normalize": False,
    "chunk_length_s": None,
    "overlap": None,
    "hidden_size": 64,
    "num_filters": 16,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 5, 4, 2],
    "norm_type": "weight_norm",
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "use_causal_conv": True,
    "pad_mode": "constant",
    "compress": 2,
    "num_lstm_layers": 1,
    "trim_right_ratio": 1.0,
    "codebook_size": 1024,
    "codebook_dim": 64,
    "use_conv_shortcut": False,
    "streamcodec_default_bandwidth": 6.0,
}


def _codec(out: Path, config: Path | None, start: str | None, seed: int) -> Codec:
    """The codec to train: of an earlier run in `out`, of `start`, of `config`, or the default one."""
    if start is not None:
        return load(start)
    kept = out / "config.json"
    source = kept if kept.exists() else config
    try:
        values = DEFAULT_CONFIG if source is None else json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source} cannot be read as a codec's config.json: {error}") from error
    torch.manual_seed(seed)
    return EncodecCodec(values)


def build_trainer(
    data: str | Path,
    out: Path,
    settings: dict[str, Any],
    config: Path | None = None,
    shares: Mapping[str, float] | None = None,
    start: str | None = None,
) -> Trainer:
    """A trainer for the audio of `data` that keeps its files in `out`, and goes on where an earlier one there stopped.

    settings: fields of `TrainConfig`. config: a codec's config.json (EnCodec). shares: see `Crops`.
    start: a codec (directory or hub id) whose weights and codebooks the training begins with.
    Raises ConfigError, AudioError, InputError, CheckpointError.
    """
    wanted = TrainConfig.from_dict(settings)
    codec = _codec(out, config, start, wanted.seed)
    if codec.spec.channels != 1:
        raise ConfigError(f"{codec.spec.name} has {codec.spec.channels} channels; training is for mono codecs")
    cache = AudioCache.build(data, out / "cache", codec.spec.sample_rate)
    crops = Crops(cache, wanted.crop_samples, shares or {}, np.random.default_rng(wanted.seed))
    trainer = Trainer(codec, crops, wanted)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(codec.to_huggingface()[0], indent=2) + "\n", encoding="utf-8")
    if (out / "checkpoint.pt").exists():
        trainer.load(out / "checkpoint.pt")
    elif start is not None:
        trainer.keep_codebooks()
    else:
        trainer.initialise()
    return trainer


def write_half(codec: Codec, directory: Path) -> Path:
    """Write `codec` for `load` and transformers, its weights rounded to float16 but marked to be computed in float32.

    That halves the file; both libraries then compute with the same rounded numbers.
    """
    config, tensors = codec.to_huggingface()
    half = {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}
    if bad := sorted(name for name, tensor in half.items() if not tensor.isfinite().all()):
        raise CheckpointError(f"float16 cannot hold the weights {bad}; save them with streamcodec.checkpoint.save")
    directory.mkdir(parents=True, exist_ok=True)
    save_file(half, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)  # safetensors leaves it readable by its owner alone
    text = json.dumps({**config, "dtype": "float32"}, indent=2, sort_keys=True) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")
    return directory


def export_run(run: Path, directory: Path) -> Path:
    """Write the codec of the newest checkpoint in a training's folder, which may still be running.

    Raises CheckpointError if there is none.
    """
    state = read_checkpoint(run / "checkpoint.pt")
    codec = _codec(run, None, None, 0)
    install(codec, state["averages"], state["learner"]["codebooks"])
    return write_half(codec, directory)
