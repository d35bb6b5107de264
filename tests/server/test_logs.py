"""The log: JSON lines for programs, short lines and a greeting for people on a terminal."""

import contextlib
import io
import json
import logging
import os
import re
import select
import signal
import sys
import time
import warnings

import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import small_codec

from streamcodec.checkpoint import save
from streamcodec.server import greeting, machine
from streamcodec.server.config import Config
from streamcodec.server.line_writer import LineWriter
from streamcodec.server.logs import Log, log_on_stderr


class Pipe:
    """A `LineWriter` that writes to it; `read()` gives what has come, all that was written when it is closed."""

    def __init__(self, **options):
        self.ends = os.pipe()
        self.writer = LineWriter(self.ends[1], **options)

    def read(self):
        return os.read(self.ends[0], 1 << 20).decode()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.writer.close()
        for end in self.ends:
            with contextlib.suppress(OSError):
                os.close(end)


def test_lines_are_written_in_order_and_the_last_ones_before_the_end():
    with Pipe() as pipe:
        for number in range(500):
            pipe.writer.write(f"{number}\n")
        pipe.writer.close()
        assert pipe.read().split() == [str(number) for number in range(500)]
        assert pipe.writer.dropped == 0
        assert pipe.writer.write("too late\n") == 9
        assert pipe.writer.dropped == 1


def test_who_does_not_read_holds_up_nobody_and_is_told_what_was_dropped():
    with Pipe(most=10) as pipe:
        since = time.monotonic()
        for number in range(1000):
            pipe.writer.write(f"{number} {'x' * 1000}\n")
        assert time.monotonic() - since < 5
        dropped = pipe.writer.dropped
        assert 900 <= dropped <= 990  # a pipe of 64 KiB, ten that wait, and one that is being written
        seen, told, numbers = "", 0, []
        since = time.monotonic()
        while (told < dropped or len(numbers) < 1000 - dropped) and time.monotonic() - since < 30:
            seen += pipe.read()  # what is there: the note may come before the lines that waited
            pipe.writer.write("more\n")
            told = sum(map(int, re.findall(r"^(\d+) lines of the log were dropped$", seen, re.MULTILINE)))
            numbers = [int(line.split()[0]) for line in seen.splitlines() if line.endswith("x")]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 1000 - dropped


@pytest.mark.skipif(sys.platform == "win32", reason="no descriptors that are exchanged under a writer")
def test_a_disk_that_was_full_is_written_to_again(tmp_path):
    kept = tmp_path / "log"
    with Pipe() as pipe:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, pipe.ends[1])
        for number in range(5):
            pipe.writer.write(f"{number}\n")
        wait_for(lambda: pipe.writer.dropped == 5)
        file = os.open(kept, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, pipe.ends[1])
        pipe.writer.write("again\n")
        pipe.writer.close()
        os.close(full)
        os.close(file)
    assert kept.read_text() == "5 lines of the log were dropped\nagain\n"


def test_a_reader_that_is_gone_costs_the_lines_alone():
    with Pipe() as pipe:
        os.close(pipe.ends[0])
        pipe.writer.write("nobody reads this\n")
        wait_for(lambda: pipe.writer.dropped == 1)


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_libraries_tell_is_in_the_log_and_keeps_its_form():
    with Pipe() as pipe, contextlib.redirect_stderr(os.fdopen(pipe.ends[1], "w", closefd=False)):
        with log_on_stderr("info", "json") as log:
            try:
                raise ValueError("no loop")
            except ValueError:
                logging.getLogger("asyncio").exception("Task exception was never retrieved")
            logging.getLogger("asyncio").warning("%d slow calls", 3)
            warnings.warn("old", stacklevel=1)
            print("from C or so", file=sys.stderr)
            log("info", "last")
        *lines, text, last = pipe.read().splitlines()
    assert text == "from C or so"
    lines = [json.loads(line) for line in [*lines, last]]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("error", "library"), ("warning", "library"), ("warning", "library"), ("info", "last"),
    ]  # fmt: skip
    assert lines[0]["error"] == "ValueError: no loop"
    assert lines[1]["message"] == "3 slow calls"
    assert "old" in lines[2]["message"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "format", "is_json"),
    [
        (io.StringIO, "auto", True),
        (Terminal, "auto", False),
        (Terminal, "json", True),
        (io.StringIO, "text", False),
    ],
)
def test_the_log_is_json_but_on_a_terminal_or_as_the_option_says(stream, format, is_json):
    stream = stream()
    log = Log("info", stream, format)
    log("info", "opened", session="ab", mode="encode")
    log.say("Hello.")
    log("debug", "unseen")
    if is_json:
        (line,) = map(json.loads, stream.getvalue().splitlines())
        assert abs(line.pop("time") - time.time()) < 60
        assert line == {"level": "info", "event": "opened", "session": "ab", "mode": "encode"}
    else:
        line, sentence = stream.getvalue().splitlines()
        assert line[8:] == "  opened  session ab  mode encode"
        assert time.strptime(line[:8], "%H:%M:%S")
        assert sentence == "Hello."


def test_nothing_is_said_where_only_errors_are_wanted():
    stream = io.StringIO()
    log = Log("error", stream, "text")
    log.say("Hello.")
    log("info", "opened")
    assert stream.getvalue() == ""
    log("error", "engine", error="it broke")
    assert stream.getvalue()[8:] == '  error: engine  error "it broke"\n'


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x9b1m", "\u202eabc", "a b", "", "x" * 10_000])
def test_what_a_stranger_sent_does_not_command_the_terminal(text):
    stream = io.StringIO()
    Log("info", stream, "text")("info", "refused", code=text, worker=0)
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert line.endswith("  worker 0")
    assert len(line) < 600


def hosts(**options):
    lines = greeting.greeting(Config(no_key=True, **options), 9000, ["small"], False)
    urls = [word for line in lines for word in line.split() if "/" in word]
    return [url.removeprefix("http://").removesuffix(":9000/") for url in urls]


def test_the_greeting_has_the_addresses_where_the_server_listens(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "addresses", lambda: ["192.168.1.5", "fd00::2"])
    monkeypatch.setattr(machine, "names", lambda: ["box", "box.local"])
    assert hosts() == ["127.0.0.1"]
    assert hosts(host="::1") == ["[::1]"]
    assert hosts(host="192.168.1.5") == ["192.168.1.5"]
    assert hosts(host="0.0.0.0") == ["127.0.0.1", "192.168.1.5"]
    assert hosts(host="::") == ["[::1]", "[fd00::2]"]
    # Under a name a page gets in only with the key, or where all may.
    assert hosts(host="0.0.0.0", origin=("any",)) == ["127.0.0.1", "192.168.1.5", "box", "box.local"]


def test_the_greeting_says_what_a_browser_needs_and_what_is_on_offer():
    plain = "\n".join(greeting.greeting(Config(), 80, ["a", "b"], False))
    assert "Codecs: a (clients get it unless they ask), b." in plain
    assert "microphone only to pages at localhost or with https" in plain
    assert "Ctrl-C" in plain
    assert "key" not in plain
    secure = "\n".join(greeting.greeting(Config(key_file="k"), 443, ["a"], True))
    assert "https://127.0.0.1:443/" in secure
    assert "the key in k" in secure
    assert "only to pages" not in secure


def test_this_machines_names_and_addresses_are_ones_that_others_can_use():
    for text in machine.addresses():
        assert machine.is_address(text)
        assert not text.startswith(("127.", "169.254.", "fe80", "::1"))
    assert all(name.isascii() and not machine.is_address(name) for name in machine.names())


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal_the_server_greets_and_ctrl_c_ends_it(tmp_path):
    import pty

    save(small_codec(), tmp_path / "small")
    command = [sys.executable, "-m", "streamcodec", "serve", "--port", "0", "--codec", "streamcodec_24khz"]
    command += ["--codec", f"small={tmp_path / 'small'}"]
    pid, terminal = pty.fork()  # a terminal of its own, so that Ctrl-C reaches all processes, as it does for people
    if pid == 0:
        os.execv(sys.executable, command)
    try:
        seen = read_until(terminal, "Ctrl-C ends the server.")
        assert "{" not in seen
        port = seen.split("http://127.0.0.1:")[1].split("/")[0]
        assert f"port {port}" in seen
        assert "Codecs: streamcodec_24khz (clients get it unless they ask), small." in seen
        os.write(terminal, b"\x03")
        rest = read_until(terminal, None)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pid = 0
        assert "stopped" in rest
        assert "Traceback" not in rest
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal, text, seconds=120):
    """What comes up to `text`, or all of it."""
    seen, deadline = "", time.monotonic() + seconds
    while text is None or text not in seen:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], seen
        with contextlib.suppress(OSError):  # Linux: the other end is closed
            data = os.read(terminal, 65_536)
            seen += data.decode()
            if data:
                continue
        assert text is None, seen
        break
    return seen
