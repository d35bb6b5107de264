"""The server starts and ends where the system lacks what Windows lacks, which is taken away here."""

import asyncio
import sys

import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import Talk, hello, wave
from test_ends import Process

from streamcodec.protocol import PcmFormat

TAKEN = """
import asyncio, os, signal, socket, sys

for name in ("resource", "uvloop", "fcntl", "termios", "pwd", "grp"):
    sys.modules[name] = None
for module, names in {
    socket: ("AF_UNIX", "SO_REUSEPORT"),
    signal: ("SIGHUP", "SIGUSR1", "pthread_sigmask"),
    os: ("fork", "memfd_create", "sysconf", "getuid", "geteuid"),
}.items():
    for name in names:
        delattr(module, name)


def refused(self, *arguments):
    raise NotImplementedError


def pair(*arguments):
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


socket.socketpair = pair
asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = refused
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing has to be taken away there")
def test_the_server_serves_and_ends_without_what_windows_lacks(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(TAKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    async def main():
        with Process() as server:
            await server.ready()
            async with Talk(server, hello("encode", pcm=PcmFormat(format="f32le", sample_rate=24000))) as talk:
                await talk.say(wave(0.2, rate=24000))
                await talk.flush()
                assert talk.codes().size
            assert await asyncio.to_thread(server.end, 30) == 0

    asyncio.run(main())
