"""From settings and audio to a run, and from a run to a codec on disk."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import load, write_directory
from ..checkpoint.weights import SCALE
from ..codecs import Codec
from ..codecs.dac import DacCodec
from ..codecs.encodec import EncodecCodec
from ..codecs.spectral import SpectralCodec
from ..errors import CheckpointError, ConfigError
from .config import Settings, read_settings, to_toml
from .data import AudioCache, Crops
from .distributed import World
from .loop import Run
from .model import install
from .shards import newest, read_folder
from .trainer import Trainer

__all__ = ["SETTINGS_FILE", "build_run", "data_of", "export_run", "write_small"]

SETTINGS_FILE = "train.toml"

# Families that can be made with random weights, by `model_type`.
_FRESH: Mapping[str, Callable[[Mapping[str, Any]], Codec]] = {
    "dac": DacCodec,
    "encodec": EncodecCodec,
    "streamcodec_spectral": SpectralCodec,
}


def _source(name: str) -> str | None:
    """What `load` takes for `codec.init_from`."""
    return None if name == "bundled" else name


def _codec(settings: Settings) -> Codec:
    """A codec to begin with: the one of `codec.init_from`, or a fresh one."""
    if settings.codec.init_from:
        return load(_source(settings.codec.init_from))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.run.seed)
        config = settings.codec_config()
        return _FRESH[config["model_type"]](config)


def _kept_codec(folder: Path) -> Codec:
    """The codec that a run trains, with weights still to be filled in. Raises CheckpointError."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no training's folder: its config.json cannot be read: {error}") from error
    if values.get("model_type") in _FRESH:
        return _FRESH[values["model_type"]](values)
    # Families that take no random weights are filled from the codec that the run began with, by its own settings.
    return _codec(read_settings(folder / SETTINGS_FILE))


def build_run(data: str | Path, folder: Path, settings: Settings, world: World | None = None) -> Run:
    """A run on the audio of `data` that keeps its files in `folder`, and goes on where an earlier one there stopped.

    data: a folder of audio, a text file with one path a line, a pack, or tokens of `streamcodec tokenize`. Raises
    ConfigError, AudioError, InputError, CheckpointError.
    """
    world = world or World()
    resumes = newest(folder) is not None
    codec = _kept_codec(folder) if resumes else _codec(settings)
    spec = codec.spec
    _check_crops(settings, codec)
    if max(settings.quantizer.books) > spec.num_codebooks or min(settings.quantizer.books) < 1:
        raise ConfigError(
            f"quantizer.books is {list(settings.quantizer.books)}; {spec.name} has {spec.num_codebooks} codebooks"
        )
    cache = _cache(data, folder, codec, world)
    crops = Crops(
        cache,
        settings.data.crop_samples,
        settings.data.shares,
        settings.augment,
        spec.sample_rate,
        settings.run.seed,
    )
    if world.leads:
        config = json.dumps(codec.to_huggingface()[0], indent=2) + "\n"
        (folder / "config.json").write_text(config, encoding="utf-8")
        (folder / SETTINGS_FILE).write_text(to_toml(settings), encoding="utf-8")
        (folder / "data.json").write_text(json.dumps(str(Path(data).resolve())) + "\n", encoding="utf-8")
    teacher = load(_source(settings.teacher.codec)) if settings.teacher.codec else None
    trainer = Trainer(codec, crops, settings, world, teacher)
    return Run(trainer, folder, trainer.keep_codebooks if settings.codec.init_from else trainer.initialise)


def _check_crops(settings: Settings, codec: Codec) -> None:
    samples, hop = settings.data.crop_samples, codec.spec.hop_length
    if samples % hop:
        raise ConfigError(
            f"data.crop_samples is {samples}; it must be a multiple of the codec's hop length, {hop} samples"
        )
    segment = None if codec.segments is None else codec.segments.length
    if segment not in (None, samples):
        raise ConfigError(
            f"data.crop_samples is {samples}; {codec.spec.name} works on segments of {segment} samples, and a crop "
            f"must be one of them: set data.crop_samples = {segment}"
        )
    given = codec.framing.covered(samples, samples // hop)
    used = settings.discriminator.windows if settings.adversarial else ()
    longest = max(*settings.loss.windows, *used, 1)
    if given < longest:
        raise ConfigError(
            f"data.crop_samples is {samples}, of which {codec.spec.name} gives back {given}, since its decoder lags; "
            f"that must hold the longest window of the losses, {longest} samples"
        )


def data_of(folder: Path) -> str:
    """What the run of `folder` hears. Raises CheckpointError if there is no run."""
    try:
        return str(json.loads((folder / "data.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no training's folder: its data.json cannot be read: {error}") from error


def _cache(data: str | Path, folder: Path, codec: Codec, world: World) -> AudioCache:
    """The audio of `data`, read by the first process of each machine, then mapped by all."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (codec.spec.sample_rate, codec.spec.channels)
    # Machines may share a disk: then all but the leading one find what it has written.
    for turn in (world.leads, not world.leads and world.local_rank == 0):
        if turn:
            AudioCache.build(data, folder / "cache", *wanted)
        world.wait()
    return AudioCache.build(data, folder / "cache", *wanted)


def write_small(codec: Codec, directory: Path) -> Path:
    """Write `codec` for `load` and transformers, its weights rounded to float16 but marked to be computed in float32.

    That halves the file; both libraries then compute with the same rounded numbers. The products of a spectral codec,
    which transformers does not know, are rounded to int8, with a float16 scale for each output: a quarter.
    """
    config, tensors = codec.to_huggingface()
    if isinstance(codec, SpectralCodec):
        products = [name for name in tensors if tensors[name].ndim == 3 and tensors[name].shape[0] == 1]
        tensors = tensors | dict(item for name in products for item in _int8(name, tensors[name]).items())
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    if bad := sorted(name for name, tensor in half.items() if not tensor.isfinite().all()):
        raise CheckpointError(f"float16 cannot hold the weights {bad}; save them with streamcodec.checkpoint.save")
    return write_directory(directory, {**config, "dtype": "float32"}, half)


def _int8(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A weight as whole numbers of at most 127 and what a step of each of its last dimension is worth."""
    scale = (weight.abs().amax(tuple(range(weight.ndim - 1))) / 127).half()
    steps = (weight / scale.float().clamp_min(torch.finfo(torch.float16).tiny)).round().clamp(-127, 127)
    return {name: steps.to(torch.int8), name + SCALE: scale}


def export_run(folder: Path, directory: Path) -> Path:
    """Write the codec of the newest checkpoint in a training's folder, which may still be running.

    Raises CheckpointError if there is none.
    """
    found = newest(folder)
    if found is None:
        raise CheckpointError(f"{folder} holds no checkpoint yet; one is written every run.save_minutes")
    tensors, _ = read_folder(found)
    codec = _kept_codec(folder)
    averages = {name.removeprefix("averages."): value for name, value in tensors.items() if name.startswith("averages")}
    install(codec, averages, tensors["learner.codebooks"])
    return write_small(codec, directory)
