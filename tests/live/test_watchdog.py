"""The watchdog, on a clock of its own."""

from streamcodec.live.watchdog import Watchdog


def test_a_side_without_callbacks_is_named_after_two_seconds():
    dog = Watchdog()
    dog.opened(100.0)
    dog.called("input", 101.5)
    assert dog.silent(101.9) == []
    assert dog.silent(102.0) == ["output"]
    assert dog.silent(103.5) == ["input", "output"]


def test_opening_again_gives_both_sides_their_time():
    dog = Watchdog()
    dog.opened(0.0)
    assert dog.silent(2.5) == ["input", "output"]
    dog.opened(2.5)
    assert dog.silent(4.4) == []
    dog.called("input", 1.0)  # an old time does not take it back
    assert dog.silent(4.4) == []


def test_it_gives_up_after_three_failures_in_a_row_only():
    dog = Watchdog()
    dog.opened(0.0)
    assert [dog.failed() for _ in range(4)] == [False, False, False, True]
    dog = Watchdog()
    dog.opened(0.0)
    assert not any(dog.failed() for _ in range(3))
    for now in range(1, 7):
        dog.called("input", float(now))
        dog.called("output", float(now))
        assert dog.silent(now + 0.5) == []
    assert not dog.failed()
