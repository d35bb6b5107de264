"""The pipe to an engine's process: whatever is sent comes, in order, however it is cut; and its end is told."""

import asyncio
import random
import socket
import threading

import numpy as np
import pytest

from streamcodec.server.engine_pipe import InnerPipe, Messages, OuterPipe, Samples, framed, from_plain, to_plain
from streamcodec.server.voice import Frames, Output


@pytest.mark.parametrize("seed", range(5))
def test_messages_come_out_whole_for_any_cut(seed):
    rng = random.Random(seed)
    sent = [[rng.randbytes(rng.choice([0, 1, 5, 300, 70_000])), n] for n in range(20)]
    data = b"".join(map(framed, sent))
    messages, got, place = Messages(), [], 0
    while place < len(data):
        step = rng.choice([1, 3, 4, 5, 1000, 100_000])
        got += messages.add(data[place : place + step])
        place += step
    assert got == sent


@pytest.mark.parametrize("kind", [np.int16, np.float32])
@pytest.mark.parametrize("shape", [(1, 0), (1, 96), (2, 7)])
def test_samples_come_out_as_they_went_in_between_other_messages(kind, shape):
    audio = np.random.default_rng(0).standard_normal(shape[::-1]).astype(kind).T  # not in the order of memory
    sent = [Samples(7, audio), ["other"], Samples(2**32 - 1, audio, 2**40)]
    data = b"".join(map(framed, sent))
    for cut in range(len(data)):
        messages = Messages()
        got = messages.add(data[:cut]) + messages.add(data[cut:])
        assert got[1] == sent[1]
        for there, here in ((got[0], sent[0]), (got[2], sent[2])):
            assert (there.number, there.taken, there.audio.dtype) == (here.number, here.taken, kind)
            np.testing.assert_array_equal(there.audio, here.audio)
            assert there.audio.flags.writeable  # torch warns of arrays that are not


def same(one: Output, other: Output) -> None:
    assert (one.taken, one.length, one.answers, one.error) == (other.taken, other.length, other.answers, other.error)
    assert (one.audio is None) == (other.audio is None)
    if one.audio is not None:
        np.testing.assert_array_equal(one.audio, other.audio)
    assert len(one.frames) == len(other.frames)
    for left, right in zip(one.frames, other.frames, strict=True):
        np.testing.assert_array_equal(left.codes, right.codes)
        assert left.codes.dtype == right.codes.dtype
        assert (left.scale is None) == (right.scale is None)
        if left.scale is not None:
            np.testing.assert_array_equal(left.scale, right.scale)


def outputs():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1024, (8, 3)).astype(np.uint16)
    yield Output()
    yield Output(taken=5, answers=[("mark", "x", 3), ("flushed", (1, 2), 9)])
    yield Output(frames=[Frames(codes), Frames(codes[:2], np.ones(3, np.float32))], length=960)
    yield Output(audio=rng.standard_normal((2, 640)).astype(np.float32)[:, ::2])
    yield Output(audio=np.zeros((1, 0), np.float32))


@pytest.mark.parametrize("output", list(outputs()))
def test_outputs_and_arrays_come_back(output):
    got = from_plain(Output, Messages().add(framed(to_plain(output)))[0])
    same(got, output)
    if got.audio is not None:
        assert got.audio.flags.writeable  # torch warns of arrays that are not
    assert to_plain("x") == "x"
    assert from_plain(np.ndarray, None) is None


def test_both_ways_at_once_with_more_than_the_systems_buffers_hold():
    """Neither end waits for the other, although both send megabytes before they read."""
    here, there = socket.socketpair()
    sent = [[n, bytes(200_000)] for n in range(40)]

    def echo():
        pipe, left = InnerPipe(there), len(sent)
        while left:
            for message in pipe.receive(None):
                pipe.send(message)
                left -= 1
        there.close()

    async def main():
        got, gone = [], asyncio.Event()
        pipe = OuterPipe(got.append, gone.set)
        for message in sent[:2]:
            pipe.send(message)  # before it is open
        await pipe.open(here)
        for message in sent[2:]:
            pipe.send(message)
        await asyncio.wait_for(gone.wait(), 30)
        pipe.send("nobody hears this")
        return got

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    assert asyncio.run(main()) == sent
    thread.join(10)


def test_the_inner_end_sees_that_the_server_is_gone_and_does_not_wait_unless_told():
    here, there = socket.socketpair()
    pipe = InnerPipe(there)
    assert pipe.receive(0) == []
    here.sendall(framed("one") + framed("two") + framed("three")[:5])
    assert pipe.receive(None) == ["one", "two"]
    here.sendall(framed("three")[5:])
    assert pipe.receive(None) == ["three"]
    here.close()
    with pytest.raises(EOFError):
        pipe.receive(None)
    there.close()
