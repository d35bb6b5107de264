"""A call that the session's mode never answers raises at once, and the session goes on."""

import asyncio

import numpy as np
import pytest
from talk import RATE, served, wave
from wires import collect

from streamcodec.client import Flushed, connect
from streamcodec.errors import InputError

SAMPLES = wave(0.2)[0]
CODES = np.zeros((4, 20), np.int64)
CALLS = {
    "send": lambda session: session.send(SAMPLES),
    "send_codes": lambda session: session.send_codes(CODES),
    "marker": lambda session: session.marker(),
    "set_bandwidth": lambda session: session.set_bandwidth(0.8),
    "flush": lambda session: session.flush(),
    "flush with a length": lambda session: session.flush(100),
    "packets": lambda session: anext(session.packets()),
    "pcm": lambda session: anext(session.pcm()),
}
# Ways to open a session: what it takes, what it gives, and calls that are beside that.
OPENINGS = [
    ({"mode": "encode"}, "PCM", "codes", {"send_codes", "flush with a length", "pcm"}),
    ({"mode": "decode"}, "codes", "PCM", {"send", "set_bandwidth"}),
    ({"mode": "roundtrip"}, "PCM", "PCM", {"send_codes", "flush with a length"}),
    ({"mode": "room", "role": "speaker"}, "PCM", "no audio", {"send_codes", "flush with a length", "packets", "pcm"}),
    ({"mode": "room", "role": "listener"}, "nothing", "PCM", set(CALLS) - {"packets", "pcm"}),
    (
        {"mode": "room", "role": "listener", "receive": "codes"},
        "nothing",
        "codes",
        set(CALLS) - {"packets", "set_bandwidth"},
    ),
    ({"mode": "room", "send": "codes", "receive": "codes"}, "codes", "codes", {"send", "pcm"}),
]


def opened(server, **options):
    room = {"room": "r"} if options["mode"] == "room" else {}
    return connect(f"127.0.0.1:{server.port}", sample_rate=RATE, pcm_format="f32le", **room, **options)


async def answered(session, call):
    await asyncio.wait_for(CALLS[call](session), 10)


@pytest.mark.parametrize(("options", "takes", "gives", "wrong"), OPENINGS)
def test_what_the_mode_never_gives_is_refused_at_once_and_named(options, takes, gives, wrong):
    async def run():
        async with served() as server, opened(server, **options) as session:
            for call in sorted(wrong):
                with pytest.raises(InputError) as caught:
                    await answered(session, call)
                text = str(caught.value)
                assert text.startswith(call.split()[0])
                assert f"mode {options['mode']}" in text
                assert options.get("role", "") in text
                assert f"takes {takes}" in text
                assert f"gives {gives}" in text
            for call in ("send", "send_codes", "marker", "set_bandwidth", "flush"):
                if call not in wrong:
                    await answered(session, call)
            counts = await asyncio.wait_for(session.statistics(), 10)
            assert counts.refused_messages == 0

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["encode", "decode", "roundtrip"])
def test_a_session_gives_all_of_its_stream_after_a_wrong_call(mode):
    async def run():
        async with served() as server, opened(server, mode=mode) as session:
            wrong, right = ("send", CODES) if mode == "decode" else ("send_codes", SAMPLES)
            with pytest.raises(InputError):
                await answered(session, wrong)
            await (session.send_codes(right) if mode == "decode" else session.send(right))
            await session.flush()
            events = [packet async for packet in session.packets()]
            whole = {"encode": 40, "decode": 800, "roundtrip": SAMPLES.size}[mode]
            assert collect(events).shape[mode == "encode"] == whole
            assert isinstance(await session.__anext__(), Flushed)

    asyncio.run(run())


@pytest.mark.parametrize("call", [*CALLS, "statistics", "iteration"])
def test_a_session_that_is_not_open_says_how_it_is_opened(call):
    calls = {**CALLS, "statistics": lambda s: s.statistics(), "iteration": lambda s: anext(s)}

    async def run():
        session = connect("ws://127.0.0.1:1", "roundtrip")
        with pytest.raises(InputError, match="async with"):
            await asyncio.wait_for(calls[call](session), 10)

    asyncio.run(run())


def test_every_call_of_a_session_is_tried_here():
    """A call that is new is one that somebody can make in a mode that does not have it."""
    from streamcodec.client import Session

    public = {name for name in vars(Session) if not name.startswith("_") and callable(getattr(Session, name))}
    assert public == {*CALLS, "statistics", "close"} - {"flush with a length"}
