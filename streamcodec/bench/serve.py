"""``streamcodec bench serve``: paced sessions over loopback.

Starts `streamcodec serve` (or measures the one at --url) and sends speech at its own pace, in packets of a few frames,
to be encoded, decoded and sent back. A packet that is back later than the jitter target after its last sample was to be
sent is an underrun: a player with that much in its buffer would have had to stop. Sessions begin and end one after the
other, a packet apart; packets count from some seconds after the last one's beginning to the very end. CPU is counted
from when all sessions are open to when all of their audio has come back: what it takes to open and close them is not in
it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from ..addresses import ServerAddress, server_address
from ..audio import AudioReader
from ..errors import InputError
from ..int16 import rounded
from .paced import LoadError, Paced, apart, drive

__all__ = ["run"]

RECORDING = Path(__file__).parents[1] / "bundled" / "jfk.flac"  # 11 s of speech, public domain
START_AUDIO = 0.2  # seconds
START_SECONDS = 120.0  # for the server to load its codec and warm up
METRICS = {
    "engine": "streamcodec_engine_cpu_seconds",
    "process": "streamcodec_process_cpu_seconds",
    "step_seconds": "streamcodec_engine_step_seconds_sum",
    "steps": "streamcodec_engine_step_seconds_count",
    "step_sessions": "streamcodec_engine_step_sessions_sum",
}


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code: 0, or 1 where any packet was late or lost."""
    if (
        not 0 <= args.warm < args.seconds < float("inf")
        or args.target <= 0
        or min(args.engines, args.packet_frames) < 1
    ):
        raise InputError("--seconds must be above --warm; --target, --engines and --packet-frames positive")
    with contextlib.ExitStack() as stack:
        server = _given(args.url) if args.url else stack.enter_context(_server(args, max(args.sessions)))
        codec = _default_codec(server)
        rate = args.rate or codec["sample_rate"]
        block = max(1, args.packet_frames * codec["hop_length"] * rate // codec["sample_rate"])
        _check_all_live(args, block, rate)
        blocks = _speech(rate, block)
        facts = {
            "codec": codec["name"], "rate": rate, "packet_ms": round(1000 * block / rate, 3), "target_ms": args.target,
            "seconds": args.seconds, "cores": os.cpu_count(), "engines": args.engines,
        }  # fmt: skip
        # The server's clock of its engine moves with the engine's steps: some, so that it has what the start cost.
        _run_loop(
            drive(
                server.socket,
                1,
                START_AUDIO,
                rate=rate,
                blocks=blocks,
                block=block,
                packet_frames=args.packet_frames,
                bandwidth=args.bandwidth,
            )
        )
        rows = [_measured(args, server, count, rate, blocks, block) for count in args.sessions]
    _report(args, facts, rows)
    return int(any(row["underruns"] or row["lost"] for row in rows))


def _check_all_live(args: argparse.Namespace, block: int, rate: int) -> None:
    """Raises InputError unless all sessions are live at once after the warm-up."""
    most = max(args.sessions)
    least = args.warm + (most - 1) * apart(most, block, rate)
    if args.seconds <= least:
        raise InputError(
            f"--seconds {args.seconds:g}: {most} sessions begin one after the other, so with --warm {args.warm:g} not "
            f"all are live at once; it must be above {least:.2f}"
        )


@contextlib.contextmanager
def _server(args: argparse.Namespace, sessions: int) -> Iterator[ServerAddress]:
    """A server of our own."""
    command = [sys.executable, "-m", "streamcodec", "serve", "--port", "0", "--engines", str(args.engines)]
    command += ["--sessions", str(sessions)] + (["--codec", args.codec] if args.codec else [])
    for limit in (f"sessions-per-address={sessions}", f"slots={sessions}", f"connections={2 * sessions + 8}"):
        command += ["--limit", limit]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    try:
        yield _address(process)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _address(process: "subprocess.Popen[str]") -> ServerAddress:
    """Where the server listens, once it is ready; its log tells."""
    url, heard, deadline = "", [], time.monotonic() + START_SECONDS
    assert process.stderr is not None
    for line in process.stderr:
        heard.append(line)
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event.get("event") == "listening":
                url = f"ws://127.0.0.1:{event['port']}"
            elif event.get("event") == "ready":
                return server_address(url)
        if time.monotonic() > deadline:
            break
    raise LoadError(f"the server did not start: {''.join(heard[-5:]).strip()}")


def _given(url: str) -> ServerAddress:
    server = server_address(url)
    if server.secure:
        raise InputError(f"--url {server.socket}: load is measured without TLS; give the server's ws:// address")
    return server


def _get(server: ServerAddress, path: str) -> str:
    address = server.pages + path
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # as the sessions go
    try:
        with direct.open(address, timeout=10) as answer:
            return str(answer.read().decode())
    except (OSError, HTTPException) as error:
        raise LoadError(f"{address} cannot be read: {error}") from error


def _default_codec(server: ServerAddress) -> dict[str, Any]:
    try:
        offered = json.loads(_get(server, "v1/codecs"))
        codecs: list[dict[str, Any]] = offered["codecs"]
        return next(codec for codec in codecs if codec["name"] == offered["default"])
    except (ValueError, LookupError, TypeError, StopIteration) as error:
        raise LoadError(f"{server.pages} is no server of streamcodec: it has no list of codecs") from error


def _figures(server: ServerAddress) -> dict[str, float]:
    """The server's counts so far: seconds of CPU of the engine's thread and of the whole server; steps."""
    text = _get(server, "metrics")
    found = {key: re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE) for key, name in METRICS.items()}
    return {key: sum(map(float, values)) for key, values in found.items()}


def _speech(rate: int, block: int) -> list[bytes]:
    with AudioReader(RECORDING, rate, 1, block) as reader:
        parts = [part for part in reader if part.shape[1] == block]
    return [rounded(part[0]).astype("<i2").tobytes() for part in parts]


def _measured(
    args: argparse.Namespace, server: ServerAddress, sessions: int, rate: int, blocks: list[bytes], block: int
) -> dict[str, Any]:
    looks: list[tuple[float, dict[str, float]]] = []  # CPU of this process, and the server's figures
    results = _run_loop(
        drive(
            server.socket,
            sessions,
            args.seconds,
            rate=rate,
            blocks=blocks,
            block=block,
            packet_frames=args.packet_frames,
            bandwidth=args.bandwidth,
            look=lambda: looks.append((time.process_time(), _figures(server))),
        )
    )
    (own_before, before), (own_after, after) = looks
    did = {key: after[key] - before[key] for key in METRICS}
    rest, steps, each = did["process"] - did["engine"], did["steps"] or float("nan"), args.seconds * sessions
    return _row(args, results, block, rate) | {
        "engine_cpu": did["engine"] / each,
        "rest_cpu": rest / each,
        "rest_of_engine": rest / did["engine"] if did["engine"] else float("nan"),
        "step_ms": 1000 * did["step_seconds"] / steps,
        "step_sessions": did["step_sessions"] / steps,
        "server_cores": did["process"] / args.seconds,
        "driver_cores": (own_after - own_before) / args.seconds,
    }


def _row(args: argparse.Namespace, results: list[Paced], block: int, rate: int) -> dict[str, Any]:
    counted = np.array([late for result in results for place, late in result.latencies if place > args.warm])
    late = [sum(late > args.target / 1000 for place, late in r.latencies if place > args.warm) for r in results]
    packets = max(1, len(counted))
    p50, p99, worst = np.percentile(counted, [50, 99, 100]) if len(counted) else [float("nan")] * 3
    return {
        "sessions": len(results),
        "packets": packets,
        "underruns": sum(late),
        "sessions_with_underruns": sum(count > 0 for count in late),
        "lost": sum(result.sent - result.samples // block for result in results),
        "failures": sorted({result.failure for result in results if result.failure}),
        "p50_ms": 1000 * float(p50),
        "p99_ms": 1000 * float(p99),
        "worst_ms": 1000 * float(worst),
    }


def _run_loop(main: Any) -> list[Paced]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)  # type: ignore[no-any-return]
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main)  # type: ignore[no-any-return]
    finally:
        loop.close()


HEADS = (
    "sessions", "underruns", "lost", "p50, ms", "p99, ms", "worst, ms", "engine, ms of CPU a second and live session",
    "server and wire", "server and wire / engine", "step, ms", "sessions a step", "server, cores", "driver, cores",
)  # fmt: skip


def _report(args: argparse.Namespace, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    if args.json:
        print(json.dumps(facts | {"rows": rows}))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print("\n| " + " | ".join(HEADS) + " |")
    print("|---" * len(HEADS) + "|")
    for row in rows:
        cells = [
            row["sessions"], row["underruns"], row["lost"], f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}",
            f"{row['worst_ms']:.1f}", f"{1000 * row['engine_cpu']:.1f}", f"{1000 * row['rest_cpu']:.1f}",
            f"{row['rest_of_engine']:.0%}", f"{row['step_ms']:.1f}", f"{row['step_sessions']:.1f}",
            f"{row['server_cores']:.2f}", f"{row['driver_cores']:.2f}",
        ]  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |")
    for row in rows:
        for failure in row["failures"]:
            print(f"{row['sessions']} sessions: {failure}")
