"""`load` and `read`: from a source to a codec, or to its configuration and tensors."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import codecs
from ..codecs import Codec, Noise, Original
from ..codecs.tracked import PRECISION_HINT, PRECISIONS
from ..devices import usable_device
from ..errors import CheckpointError, ConfigError, DtypeError, InputError
from ..ops import check_backend, check_precision
from ..surroundings import built_alone
from . import files, sources, state_dicts, weights

__all__ = ["Checkpoint", "load", "read"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read, of no particular codec family.

    Attributes:
        config: the configuration, Hugging Face style; None for a weight file alone.
        tensors: the weights by name, on the CPU, finite, weight norm merged, half precision widened to float32.
        origin: where it came from, for messages.
        name: a short name for the codec.
        filename: the weight file's own name.
        inside: looks for settings in what the file holds beside its weights; see `files.settings_inside`.
        beside: looks for settings in a YAML file in the weight file's folder; see `files.settings_beside`.
    """

    config: Mapping[str, Any] | None
    tensors: dict[str, Tensor]
    origin: str
    name: str
    filename: str
    inside: Callable[[str], Mapping[str, Any] | None] = lambda name: None
    beside: Callable[[tuple[str, ...]], Mapping[str, Any] | None] = lambda names: None


@built_alone
def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    pad: bool = True,
    noise: Noise | None = None,
    backend: str = "auto",
    precision: str = "float32",
) -> Codec:
    """A codec with its weights, ready to encode and decode.

    Args:
        source: one of

            - nothing, or "streamcodec_24khz": the codec that comes with this package;
            - a directory in Hugging Face layout: config.json with model.safetensors, its shards
              (model.safetensors.index.json), or pytorch_model.bin;
            - a file: an original checkpoint (.th, .pt, .pth, .bin), or a .safetensors beside its config.json;
            - a hub id, "owner/name", or the short name of a published checkpoint ("encodec_24khz").

            A local path wins over a name or a hub id that reads the same.
        device: where the codec's weights go, and where it computes.
        dtype: of the weights and of all computation, torch.float32 or torch.float64. Codes are equal to the published
            models' in float32 (but for near ties) and in float64.
        revision: a branch, tag or commit of the hub repository; default: main.
        pad: bring a recording back whole where a codec's frames are floored (DAC, X-Codec): zeros at its end fill the
            last frame, as the upstream commands and transformers' processors do. False: codes are those of the bare
            models, and what does not fill a last frame is lost. It is `Codec.pad`.
        noise: of a codec whose decoder makes up noise (SNAC): its seed, from 0 to 2**31 - 1, or "off". With the same
            seed the same codes always give the same audio. Default: what the configuration says, else 0.
        backend: what computes the steps of streams and the quantizer: "torch", "native" (C++ on a CPU, in float32, with
            AMX in part as six products of bfloat16 for one, no less exact; compiled when it is first asked for, where
            it did not come with the package), "triton" (kernels for a GPU, in float32), or "auto": what is meant for
            this machine, on a CPU "native" where it came with the package. One asked for by name never falls back to
            another. It is `Codec.backend`; `Codec.on` gives the same codec on another one.
        precision: "float32", or on backend "native", on processors with AMX: "bfloat16x3" of the steps of encoders and
            decoders (three products for one: up to twice as fast, and nearly all codes are the same), or "bfloat16" of
            the steps of decoders (two to three times as fast, 33 dB and more above the difference); on all processors
            "int8" of decoders (of weights: a third of their memory, and half the time of steps of few frames, 29 dB
            and more). On backend "triton" the steps of decoders may be in "bfloat16" or "tf32". In all but the first
            two encoders stay in float32, since they would give other codes.

    Raises:
        InputError: this machine has no such device, or a codec without noise was to have some.
        DtypeError: `dtype` is neither of the two.
        BackendError: there is no such backend, or it or the precision cannot run here.
        UnknownCodecError: `source` is none of the above.
        HubError: the hub is needed and cannot be reached, or has no such repository.
        CheckpointError: the weights cannot be read, are unsafe to read, or do not fit the configuration.
        ConfigError: the configuration is not one that can be run, or there is no such precision.
    """
    if dtype not in PRECISIONS:
        raise DtypeError(f"dtype={dtype}: {PRECISION_HINT}")
    device = usable_device(device)
    check_backend(backend)
    check_precision(backend, precision)
    checkpoint = read(source, revision=revision)
    try:
        codec = _build(checkpoint, noise)
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{checkpoint.origin}: {error}") from error
    if noise is not None and codec.noise is None:
        raise InputError(f"noise={noise!r}: the decoder of {codec.spec.name} makes up no noise; leave noise out")
    codec.pad = pad
    codec.eval()
    if (codec.device, codec.dtype) != (device, dtype):
        codec.to(device=device, dtype=dtype)
    if backend != "auto":
        codec.run_on(backend, precision)
    return codec


def read(source: str | os.PathLike[str] | None = None, *, revision: str | None = None) -> Checkpoint:
    """The configuration and tensors that `load` would build a codec from; arguments and errors as there."""
    found = sources.locate(source, revision)
    config = None if found.config is None else files.read_config(found.config)
    codec = state_dicts.find(files.read_weights(found.weights), str(found.weights))
    return Checkpoint(
        codec.config(config),
        weights.plain(codec.entries, str(found.weights)),
        found.origin,
        found.name,
        Path(found.weights).name,
        partial(files.settings_inside, found.weights, codec.beside),
        partial(files.settings_beside, found.weights),
    )


def _build(checkpoint: Checkpoint, noise: Noise | None) -> Codec:
    config, tensors = checkpoint.config, checkpoint.tensors
    converted = codecs.convert_original(
        Original(tensors, checkpoint.filename, config, checkpoint.inside, checkpoint.beside)
    )
    if converted is not None:
        config, tensors = converted
    if config is None:
        raise CheckpointError(
            "no config.json lies beside these weights, and they are no original of a codec known here (known are "
            f"{', '.join(sorted(codecs.FAMILIES))}); weights in Hugging Face layout need their config.json"
        )
    if noise is not None:
        config = {**config, codecs.NOISE_KEY: noise}
    return codecs.build(config, tensors, name=checkpoint.name)
