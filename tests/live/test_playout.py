"""The speaker's side: exact where it plays, no click where it cannot, and never more delay than needed for long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.live.playout import FADE_SECONDS, FIRST_MARGIN, MORE_MARGIN, Playout, PlayoutEvent
from streamcodec.live.ring import Ring

RATE, BURST, BLOCK = 8000, 160, 40
FADE = round(FADE_SECONDS * RATE)


def playout(capacity: int = 8000) -> Playout:
    return Playout(Ring(capacity, 1), RATE, BURST, 2 * BLOCK)


def tone(count: int, start: int = 0) -> np.ndarray:
    """Slow enough that neighbours differ by less than a thousandth, and never near 0."""
    return (0.6 + 0.2 * np.sin(np.arange(start, start + count) / 500)).astype(np.float32)[:, None]


def pull(player: Playout, count: int) -> np.ndarray:
    out = np.full((count, 1), np.nan, np.float32)
    player.fill(out)
    assert np.isfinite(out).all()
    return out[:, 0]


def assert_as_noted(player: Playout, played: np.ndarray, source: np.ndarray) -> int:
    """What was played is `source` where the events say, but for the fades; returns how much was compared."""
    compared, events = 0, player.events
    ends = [event.position for event in [*events, PlayoutEvent("end", len(played), 0)][1:]]
    for event, end in zip(events, ends, strict=True):
        if event.kind == "stop":
            assert not played[event.position + FADE : end].any()
            continue
        begin = event.position + FADE
        count = max(0, end - begin)
        np.testing.assert_array_equal(played[begin : begin + count], source[event.source + FADE :][:count])
        compared += count
    return compared


@given(calls=st.lists(st.tuples(st.booleans(), st.integers(1, 400)), min_size=1, max_size=80))
def test_what_is_played_is_what_the_events_say(calls):
    player, written, parts = playout(), 0, []
    for writes, n in calls:
        if writes and player.ring.write(tone(n, written)):
            written += n
        else:
            parts.append(pull(player, n))
    played = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    assert player.position == len(played)
    assert_as_noted(player, played, tone(written)[:, 0])
    # No click: the tone moves by 0.0004 a sample, a fade of 40 samples from 0.8 at most by 0.02 more.
    assert np.abs(np.diff(played, prepend=0)).max(initial=0) <= 0.8 / FADE + 0.001


def test_playing_begins_when_the_cushion_is_there():
    player = playout()
    assert player.target == BURST + 2 * BLOCK + round(FIRST_MARGIN * RATE)
    player.ring.write(tone(player.target - 1))
    assert not pull(player, BLOCK).any()
    player.ring.write(tone(1, player.target - 1))
    assert pull(player, BLOCK)[-1] > 0.5
    assert [(event.kind, event.position, event.source) for event in player.events] == [("start", BLOCK, 0)]


def test_steady_bursts_never_run_dry_even_when_late_by_the_margin():
    player, written, rng = playout(), 0, np.random.default_rng(0)
    late = round(FIRST_MARGIN * RATE)
    due = [(i + 1) * BURST + int(rng.integers(0, late + 2 * BLOCK)) for i in range(1000)]
    for now in range(0, 1000 * BURST, BLOCK):
        while due and due[0] <= now:
            player.ring.write(tone(BURST, written))
            written += BURST
            due.pop(0)
        pull(player, BLOCK)
    assert player.underruns == 0
    assert player.drops == 0


def test_an_underrun_is_counted_and_enlarges_the_cushion():
    player = playout()
    before = player.target
    player.ring.write(tone(before))
    played = pull(player, before + 300)
    assert player.underruns == 1
    assert player.silence == 300
    assert player.target == before + round(MORE_MARGIN * RATE)
    assert not played[before + FADE :].any()
    player.ring.write(tone(before, before))
    assert not pull(player, BLOCK).any()  # not enough any more
    for _ in range(200):
        pull(player, BLOCK)
        player.ring.write(tone(1))
    for _ in range(100):  # bounded, whatever happens
        player.ring.write(tone(min(player.target, 7000)))
        pull(player, 8000)
    assert player.target <= BURST + 2 * BLOCK + 0.4 * RATE


def test_a_surplus_that_stays_is_left_out_without_a_click():
    player = playout()
    surplus, written, parts = 1500, 0, []
    player.ring.write(tone(player.target + surplus))
    written = player.target + surplus
    for _ in range(2 * 5 * RATE // BURST):
        for _ in range(BURST // BLOCK):
            parts.append(pull(player, BLOCK))
        player.ring.write(tone(BURST, written))
        written += BURST
    assert player.drops == 1
    assert player.underruns == 0
    assert player.ring.fill <= player.target + BURST
    played = np.concatenate(parts)
    start, drop = player.events
    assert (start.kind, drop.kind) == ("start", "drop")
    left_out = (drop.source - drop.position) - (start.source - start.position)
    assert left_out >= surplus - BURST
    assert assert_as_noted(player, played, tone(written)[:, 0]) == len(played) - 2 * FADE
    cross = played[drop.position : drop.position + FADE]
    assert np.abs(np.diff(cross)).max() < 0.4 / FADE + 0.001


def test_mute_fades_and_loses_no_place():
    player = playout()
    player.ring.write(tone(4000))
    first = pull(player, 1000)
    player.muted = True
    muted = pull(player, 500)
    assert player.muted
    assert np.abs(np.diff(np.concatenate([first[-1:], muted[:FADE]]))).max() < 0.8 / FADE + 0.001
    assert not muted[FADE:].any()
    player.muted = False
    last = pull(player, 500)
    np.testing.assert_array_equal(last[FADE:], tone(4000)[1500 + FADE : 2000, 0])
    assert player.underruns == 0


@pytest.mark.parametrize("channels", [1, 2])
def test_nothing_but_silence_before_the_first_sample(channels):
    out = np.full((64, channels), np.nan, np.float32)
    Playout(Ring(100, channels), RATE, 10, 0).fill(out)
    assert not out.any()
