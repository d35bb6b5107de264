"""What a press does, and what is sent while one is muted: by the clock, so alone on the machine."""

import base64

import pytest
from recorded import KEY
from test_looks import begin

pytestmark = pytest.mark.slow


def presses(page, key, times):
    """What a keyboard sends while a key is held."""
    for _ in range(times):
        page.keyboard.down(key)
    page.keyboard.up(key)


def test_a_held_key_and_enter_in_a_field_do_one_thing(open_page):
    page = open_page()
    page.focus("#start")
    presses(page, "Enter", 10)
    page.wait_for_selector("#status[data-state=open]")
    page.evaluate("document.activeElement.blur()")
    presses(page, "m", 30)
    assert page.get_attribute("#mute", "aria-pressed") == "true"
    for selector in ("[name=bandwidth]:checked", "#volume", "#key-box summary"):
        page.focus(selector)
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        assert page.get_attribute("#status", "data-state") == "open", selector
    page.focus("#key-box summary")
    page.keyboard.press("Escape")
    page.wait_for_selector("#status[data-state=idle]")


def test_a_double_press_on_start_starts_once(open_page):
    page = open_page()
    page.dblclick("#start")
    page.wait_for_selector("#status[data-state=open]")
    page.dblclick("#mute")
    assert page.get_attribute("#mute", "aria-pressed") == "true"
    page.dblclick("#start")
    page.wait_for_selector("#status[data-state=idle]")
    page.wait_for_timeout(500)  # after which it is not a double press
    page.focus("#start")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status[data-state=open]")


def test_enter_in_a_name_joins_and_an_impossible_room_does_not(open_page):
    page = open_page()
    page.check("[name=mode][value=room]", force=True)
    page.fill("#room", "no spaces")
    page.press("#member", "Enter")
    page.wait_for_timeout(200)
    assert page.inner_text("#status") == "Ready"
    page.fill("#room", "a-room")
    page.press("#member", "Enter")
    page.wait_for_selector("#status[data-state=open]")
    assert page.inner_text("#people-title") == "In room a-room: you alone"
    assert page.is_visible("#alone")


# Muted


def test_muted_is_possible_before_joining_unmissable_and_kept(open_page):
    page = open_page(f"key={KEY}&room=muted")
    page.keyboard.press("m")
    assert page.get_attribute("#mute", "aria-pressed") == "true"
    page.evaluate("streamcodec.startRecording()")
    begin(page)
    for selector, text in (("#muted-sign", "You are muted"), ("#veil", "Muted: nobody hears you"), ("#mute", "Muted")):
        assert page.is_visible(selector), selector
        assert page.inner_text(selector) == text
    assert page.title() == "🔇 Muted · In room muted · streamcodec"
    assert page.inner_text("#member-list small") == "You, muted"
    page.wait_for_timeout(1500)
    sent = base64.b64decode(page.evaluate("streamcodec.stopRecording().sent"))
    assert len(sent) > 24000
    assert not any(sent)
    page.click("#start")
    assert page.is_hidden("#muted-sign")
    begin(page)
    assert page.is_visible("#muted-sign")  # a new start lets nobody listen unasked
    page.click("#mute")
    assert page.is_hidden("#veil")
    assert page.title() == "In room muted · streamcodec"
