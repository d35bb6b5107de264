"""Runs the blocks of a page in this process, in order, and prints what came of each as a line of JSON.

Standard input: JSON, a list of {"place", "language", "text", "file", "fresh", "background"}. In a shell block whose
lines stand for themselves, plain calls of `streamcodec` are run by `streamcodec.cli.main` here, since importing torch
for each would take most of the time; all else goes to bash. Python blocks share their names, as on a page that is read
from the top, unless a block is `fresh`. A block with a `file` is saved under that name. A `background` block is a
server: it is started, and stopped at the end. After a block that fails the rest is left out.
"""

import contextlib
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from streamcodec.cli import main

PLAIN = re.compile(r"streamcodec [^|&;<>$`*]*")
PIPED = re.compile(r"(cat|streamcodec) [^&;<>$`*]*")
SERVERS: list[subprocess.Popen] = []


def run_line(line: str) -> None:
    code = main(shlex.split(line, comments=True)[1:])
    if code:
        raise RuntimeError(f"{line!r} ended with exit code {code}")


def run_shell(text: str) -> None:
    joined = text.replace("\\\n", " ")
    lines = [line for line in joined.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    calls = [line.split("  #")[0].strip() for line in lines]
    if not all(map(PIPED.fullmatch, calls)):
        run_bash(text)
        return
    for call in calls:
        (run_line if PLAIN.fullmatch(call) else run_bash)(call)


def run_bash(text: str) -> None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, timeout=120)
    print(done.stdout, done.stderr)
    if done.returncode:
        raise RuntimeError(f"bash ended with exit code {done.returncode}")


def start(text: str) -> None:
    with Path("server.log").open("wb") as log:
        SERVERS.append(subprocess.Popen(["bash", "-c", f"exec {text}"], stdout=log, stderr=log))


def stop() -> None:
    for server in SERVERS:
        server.send_signal(signal.SIGTERM)
    for server in SERVERS:
        server.wait(30)


def run(block: dict, names: dict) -> None:
    if block["file"]:
        Path(block["file"]).write_text(block["text"], encoding="utf-8")
    elif block["background"]:
        start(block["text"])
    elif block["language"] == "sh":
        run_shell(block["text"])
    else:
        exec(compile(block["text"], block["place"], "exec"), names)


def one(block: dict, names: dict) -> dict:
    output, error = io.StringIO(), ""
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            run(block, names)
        except (Exception, SystemExit):
            error = traceback.format_exc()
    return {"place": block["place"], "error": error, "output": output.getvalue()[-4000:]}


def run_all(todo: list[dict]) -> None:
    shared = {"__name__": "__main__"}
    for block in todo:
        result = one(block, {"__name__": "__main__"} if block["fresh"] else shared)
        sys.__stdout__.write(json.dumps(result) + "\n")
        sys.__stdout__.flush()
        if result["error"]:
            return


if __name__ == "__main__":
    try:
        run_all(json.load(sys.stdin))
    finally:
        stop()
