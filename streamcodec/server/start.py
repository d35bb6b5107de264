"""Starting a server: its codecs, its event loop, its log."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import torch

from ..checkpoint import DEFAULT_CODEC, load
from ..codecs import Codec
from ..entropy import EntropyModel, model_beside
from ..errors import InputError
from .app import Server, run
from .config import Config
from .engine_process import settle
from .logs import log_on_stderr

__all__ = ["find_models", "load_codecs", "run_loop", "serve"]

Result = TypeVar("Result")


def serve(config: Config, check: Callable[[], None] = lambda: None) -> int:
    """Run a server until it is told to stop; the exit code.

    check: called before it listens; raises where a signal has told it to stop already, and got lost.
    """
    torch.set_num_threads(1)  # this process computes next to nothing
    with log_on_stderr(config.log_level, config.log_format) as log:
        log.say(f"Loading {', '.join(config.codec or (DEFAULT_CODEC,))} ...")
        codecs = load_codecs(config)
        server = Server(config, codecs, log=log, models=find_models(config, codecs))
        settle()
        check()
        try:
            return run_loop(run(server))
        finally:
            gc.unfreeze()  # libraries that look for what is left at the end of a process would tell of it


def load_codecs(config: Config) -> dict[str, Codec]:
    """The codecs on offer, by the names that clients use. Raises InputError, CheckpointError."""
    codecs: dict[str, Codec] = {}
    for entry in config.codec or (DEFAULT_CODEC,):
        name, equals, source = entry.rpartition("=")
        if equals and not name:
            raise InputError(f"--codec {entry}: give it a name before the =, or leave that out")
        codec = load(
            source if config.codec else None, device=config.device, backend=config.backend, precision=config.precision
        )
        name = name or codec.spec.name
        if name in codecs:
            raise InputError(f"two codecs have the name {name!r}; give one another with --codec NAME=SOURCE")
        codecs[name] = codec
    return codecs


def find_models(config: Config, codecs: dict[str, Codec]) -> dict[str, EntropyModel]:
    """The entropy models that lie beside the codecs, by the codecs' names. Raises CheckpointError for a damaged one."""
    models: dict[str, EntropyModel] = {}
    for name, entry in zip(codecs, config.codec or (DEFAULT_CODEC,), strict=True):
        model = model_beside(entry.rpartition("=")[2] if config.codec else None)
        if model is not None:
            models[name] = model
    return models


def run_loop(main: Coroutine[Any, Any, Result]) -> Result:
    """asyncio.run, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    uvloop.install()
    return asyncio.run(main)
