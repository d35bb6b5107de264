"""The processes of a server: one, or several that share the port."""

import asyncio
import contextlib
import dataclasses
import math
import multiprocessing
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..checkpoint import DEFAULT_CODEC, load
from ..codecs import Codec
from ..errors import InputError, StreamcodecError
from .app import Server, run
from .certificates import certified
from .children import leaving_ctrl_c
from .config import Config
from .engine_process import settle
from .logs import log_on_stderr
from .peers import Peers

__all__ = ["load_codecs", "run_loop", "serve"]

FAILED = 2  # the exit code after an error that was explained, in a sentence or in the log

Result = TypeVar("Result")


def serve(config: Config) -> int:
    """Run a server until it is told to stop; the exit code."""
    if config.workers > 1:
        with log_on_stderr(config.log_level, config.log_format) as log, certified(config, log) as shared:
            return _serve_many(shared)  # one certificate for all
    return _serve_one(config, None)


def _serve_one(config: Config, peers: Peers | None) -> int:
    torch.set_num_threads(1)  # a step is too little work to share; `threads` shares its sessions
    who = {} if peers is None else {"worker": peers.worker}
    with log_on_stderr(config.log_level, config.log_format, **who) as log:
        if peers is None or peers.worker == 0:
            log.say(f"Loading {', '.join(config.codec or (DEFAULT_CODEC,))} ...")
        server = Server(config, load_codecs(config), log=log, peers=peers)
        settle()
        return 0 if run_loop(run(server)) else FAILED


def _serve_many(config: Config) -> int:
    """Processes that listen at one port; the kernel shares out the connections (SO_REUSEPORT)."""
    if not sys.platform.startswith("linux"):
        raise InputError(f"--workers {config.workers}: only Linux shares a port's connections; use --workers 1 here")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="streamcodec-") as folder, _reserved(config) as port:
        share = dataclasses.replace(
            config, port=port, sessions=math.ceil(config.sessions / config.workers),
            slots=math.ceil(config.slots / config.workers), connections=math.ceil(config.connections / config.workers),
        )  # fmt: skip
        # Pipes, since a queue has a lock, which takes a file in /dev/shm.
        here, there = zip(*(context.Pipe(duplex=False) for _ in range(config.workers)), strict=True)
        processes = [
            context.Process(target=_work, args=(share, number, config.workers, folder, end), name=f"worker {number}")
            for number, end in enumerate(there)
        ]
        told = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
        with leaving_ctrl_c():
            for process in processes:
                process.start()
        for end in there:
            end.close()  # the workers have theirs: what is read here ends with them
        code = _watch(processes, told)
        if said := _said(here):
            raise StreamcodecError(said)
        return code


def _said(pipes: "tuple[Connection, ...]") -> str | None:
    """Why a worker has failed. One for all: the others mostly fail for the same reason."""
    for pipe in pipes:
        with pipe, contextlib.suppress(EOFError):
            return str(pipe.recv())
    return None


def _watch(processes: list[Any], told: threading.Event) -> int:
    """Until all have ended. One that ends by itself takes the others with it: who runs the server starts it anew."""
    while not told.wait(0.1) and all(process.is_alive() for process in processes):
        pass
    for process in processes:
        if process.is_alive():
            process.terminate()  # SIGTERM: each drains
    for process in processes:
        process.join()
    # One that was told before it was ready has no orderly end yet: SIGTERM itself has ended it.
    fine = (0, -signal.SIGTERM) if told.is_set() else (0,)
    return max((0 if process.exitcode in fine else FAILED) for process in processes)


@contextlib.contextmanager
def _reserved(config: Config) -> Any:
    """The port, held but not listened at, so that all processes get the same one."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((config.host, config.port))
            yield held.getsockname()[1]
    except (OSError, UnicodeError) as error:
        raise InputError(f"cannot listen at {config.host} port {config.port}: {error}") from error


def _work(config: Config, number: int, workers: int, folder: str, said: "Connection") -> None:
    try:
        sys.exit(_serve_one(config, Peers(number, workers, Path(folder))))
    except StreamcodecError as error:
        said.send(str(error))
        sys.exit(FAILED)


def load_codecs(config: Config) -> dict[str, Codec]:
    """The codecs on offer, by the names that clients use. Raises InputError, CheckpointError."""
    codecs: dict[str, Codec] = {}
    for entry in config.codec or (DEFAULT_CODEC,):
        name, equals, source = entry.rpartition("=")
        if equals and not name:
            raise InputError(f"--codec {entry}: give it a name before the =, or leave that out")
        codec = load(source if config.codec else None, device=config.device, backend=config.backend)
        name = name or codec.spec.name
        if name in codecs:
            raise InputError(f"two codecs have the name {name!r}; give one another with --codec NAME=SOURCE")
        codecs[name] = codec
    return codecs


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
