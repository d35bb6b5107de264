"""The processes of a server."""

import asyncio
import sys
from typing import Any

import torch

from ..checkpoint import load
from ..codecs import Codec
from ..errors import InputError
from .app import Server, run
from .config import Config

__all__ = ["load_codecs", "run_loop", "serve"]


def serve(config: Config) -> int:
    """Run a server until it is told to stop; the exit code."""
    torch.set_num_threads(1)  # a step is too little work to share; `threads` shares its sessions
    server = Server(config, load_codecs(config))
    run_loop(run(server))
    return 0


def load_codecs(config: Config) -> dict[str, Codec]:
    """The codecs on offer, by the names that clients use. Raises InputError, CheckpointError."""
    codecs: dict[str, Codec] = {}
    for entry in config.codec or (None,):
        name, equals, source = ("", "", None) if entry is None else entry.rpartition("=")
        codec = load(source or None, device=config.device)
        name = name if equals else codec.spec.name
        if name in codecs:
            raise InputError(f"two codecs have the name {name!r}; give one another with --codec NAME=SOURCE")
        codecs[name] = codec
    return codecs


def run_loop(main: Any) -> None:
    """asyncio.run, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
        return
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
    else:
        uvloop.install()
        asyncio.run(main)
