"""How the page stands on screens of six sizes, and what it says."""

import pytest
from recorded import KEY

pytestmark = pytest.mark.slow

SIZES = [(320, 568), (390, 844), (844, 390), (768, 1024), (1280, 800), (1920, 1080)]
LONG = "https://example.org/a/rather/long/profile/address/without/spaces"  # 64 characters

# What is wrong with the page as it stands, with `wanted` (selectors) to be wholly in sight and uncovered.
FAULTS = """(wanted) => {
    const faults = [], { clientWidth, scrollWidth } = document.documentElement;
    if (scrollWidth > clientWidth) faults.push(`it scrolls sideways: ${scrollWidth} of ${clientWidth}`);
    for (const selector of wanted) {
        const element = document.querySelector(selector), box = element.getBoundingClientRect();
        if (box.top < 0 || box.left < 0 || box.bottom > innerHeight || box.right > innerWidth || !box.height)
            faults.push(`${selector} is not in sight: ${JSON.stringify(box)}`);
        const top = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
        if (!element.contains(top)) faults.push(`${selector} is covered by ${top?.outerHTML.slice(0, 80)}`);
    }
    const inputs = "[type=text], [type=password], [type=range]";
    const targets = `button, select, summary, .segments label, .check, .drop, ${inputs}`;
    for (const element of document.querySelectorAll(targets)) {
        const { width, height } = element.getBoundingClientRect();
        if (element.offsetParent && (width < 44 || height < 44))
            faults.push(`${element.id || element.className || element.textContent} is ${width} x ${height}`);
    }
    return faults;
}"""


def assert_stands(page, *wanted):
    """At every size, wherever the page is scrolled to."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for place in (0, 100_000):
            page.evaluate("(y) => scrollTo(0, y)", place)
            assert page.evaluate(FAULTS, list(wanted)) == [], (width, height, place)


def begin(page):
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")


def refuse_microphone(page):
    page.evaluate(
        """() => { const ask = navigator.mediaDevices.getUserMedia;
        navigator.mediaDevices.getUserMedia = async () => {
            navigator.mediaDevices.getUserMedia = ask;
            throw new DOMException('', 'NotAllowedError');
        }; }"""
    )


def test_start_and_stop_are_in_reach_at_every_size(open_page):
    page = open_page()
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    for mode in ("file", "room", "roundtrip"):
        page.check(f"[name=mode][value={mode}]", force=True)
        assert_stands(page, "#start", "#status", *(["#mute"] if mode != "file" else []))
    begin(page)
    page.click("#mute")
    assert_stands(page, "#start", "#mute", "#status", "#muted-sign")


def test_what_went_wrong_is_on_the_screen_with_a_button_that_tries_again(open_page):
    page = open_page()
    refuse_microphone(page)
    page.click("#start")
    page.wait_for_selector("#problem:visible")
    assert_stands(page, "#problem", "#again", "#dismiss", "#start")
    page.click("#again")
    page.wait_for_selector("#status[data-state=open]")
    assert page.is_hidden("#problem")


def test_a_message_can_be_closed_and_comes_back_when_it_is_true_again(open_page):
    page = open_page()
    for _ in range(2):
        refuse_microphone(page)
        page.click("#start")
        page.wait_for_selector("#problem:visible")
        page.click("#dismiss")
        assert page.is_hidden("#problem")


def test_a_server_that_is_not_there_can_be_tried_again(open_page):
    page = open_page()
    page.add_init_script("if (!sessionStorage.back) window.fetch = () => Promise.reject(new TypeError('no network'))")
    page.reload()
    page.wait_for_selector("#again:visible")
    assert page.inner_text("#status") == "No server"
    assert page.is_disabled("#start")
    page.evaluate("sessionStorage.back = 1")
    page.click("#again")
    page.wait_for_selector("#start:enabled")


def test_long_names_break_nothing(open_page):
    page, guest = (open_page(f"key={KEY}&room={'r' * 64}") for _ in range(2))
    guest.fill("#member", LONG)
    begin(guest)
    page.evaluate("(name) => { document.querySelector('#codec option').textContent = name.repeat(2); }", LONG)
    page.evaluate("(name) => { document.getElementById('settings-text').textContent = name; }", LONG)
    page.evaluate("(name) => { document.getElementById('file-name').textContent = name.repeat(2); }", LONG)
    begin(page)
    page.wait_for_selector("#member-list li:nth-child(2)")
    assert_stands(page, "#start", "#mute")
    page.click("#settings summary")
    assert_stands(page, "#start", "#mute")


def test_type_of_twice_the_size_fits_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 844})
    before = page.evaluate("document.getElementById('start').offsetHeight")
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert page.evaluate("document.getElementById('start').offsetHeight") > 1.9 * before
    assert page.evaluate(FAULTS, ["#start", "#mute"]) == []


def test_plots_use_a_wide_screen(open_page):
    page = open_page(viewport={"width": 1920, "height": 1080})
    width, bottom = page.evaluate(
        """() => {
            const box = (selector) => document.querySelector(selector).getBoundingClientRect();
            return [box('canvas').width, box('.budget').bottom];
        }"""
    )
    assert width > 0.7 * 1920
    assert bottom < 1080  # all of it on one screen
    page.set_viewport_size({"width": 1280, "height": 800})
    assert page.evaluate("document.documentElement.scrollHeight") == 800


# Figures


def test_a_figure_past_its_bound_is_marked_and_names_the_cause(open_page):
    page = open_page()
    begin(page)
    assert page.get_attribute("#tiles", "data-idle") is None
    parts = [{"name": name, "ms": ms, "what": ""} for name, ms in zip("abcdW", (20, 20, 20, 60, 2923), strict=True)]
    parts[-1]["name"] = "Waiting"
    page.evaluate("(parts) => { streamcodec.live.delay = () => ({ parts, measured: true }); }", parts)
    page.wait_for_selector("div[data-level=bad]:has(#delay)")
    assert page.inner_text("#delay-more") == "link or server too slow"
    assert page.inner_text("div:has(> dd > #delay)").split()[1:3] == ["3043", "ms"]
    page.evaluate("() => { delete streamcodec.live.delay; }")
    page.click("#start")
    page.wait_for_selector("#tiles[data-idle]:not(:has([data-level]))")


# What a phone and a second visit need


def test_room_name_mode_and_volume_are_remembered_and_the_key_is_not(open_page):
    page = open_page()
    page.check("[name=mode][value=room]", force=True)
    page.fill("#room", "a-room")
    page.fill("#member", "Ada")
    page.fill("#volume", "0.4")
    page.click("#key-box summary")
    page.fill("#key", "another-key")
    page.press("#key", "Tab")
    page.goto(page.url.split("#")[0] + "?")
    page.wait_for_selector("#start:enabled")
    for selector, value in (("#room", "a-room"), ("#member", "Ada"), ("#volume", "0.4"), ("#key", "")):
        assert page.input_value(selector) == value
    assert page.is_checked("[name=mode][value=room]")
    assert page.inner_text("#volume-text") == "40 %"
    assert page.evaluate("Object.keys(JSON.parse(localStorage.streamcodec)).sort()") == [
        "member",
        "mode",
        "room",
        "volume",
    ]


@pytest.mark.parametrize(
    "kept", ["nonsense", "[]", '"text"', '{"room": "no spaces", "mode": "x", "volume": 7, "member": 3}']
)
def test_what_is_remembered_may_be_anything(open_page, kept):
    page = open_page()
    page.evaluate("(kept) => localStorage.setItem('streamcodec', kept)", kept)
    page.reload()
    page.wait_for_selector("#start:enabled")
    assert (page.input_value("#room"), page.input_value("#volume")) == ("lobby", "1")
    assert page.is_checked("[name=mode][value=roundtrip]")


def test_the_screen_stays_on_during_a_run(open_page):
    page = open_page()
    page.evaluate(
        """() => { window.locks = [];
        const lock = () => Object.assign(new EventTarget(), {
            release() { window.locks.push('released'); this.dispatchEvent(new Event('release')); } });
        navigator.wakeLock.request = async (kind) => (window.locks.push(kind), lock()); }"""
    )
    begin(page)
    assert page.evaluate("locks") == ["screen"]
    page.click("#start")
    assert page.evaluate("locks") == ["screen", "released"]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_colour_of_the_browser_is_that_of_the_page(open_page, scheme):
    page = open_page(color_scheme=scheme)
    colours = page.evaluate(
        """() => {
            const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
            const metas = [...document.querySelectorAll('[name=theme-color]')];
            const meta = metas.find((one) => matchMedia(one.media).matches);
            return [meta.content, getComputedStyle(document.documentElement).backgroundColor].map((colour) => {
                context.fillStyle = colour;
                context.fillRect(0, 0, 1, 1);
                return [...context.getImageData(0, 0, 1, 1).data];
            });
        }"""
    )
    assert max(abs(one - other) for one, other in zip(*colours, strict=True)) <= 2


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing(open_page, scheme):
    """Contrast, names, roles and structure: the rules of WCAG 2.2 A and AA, and axe's best practice."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = open_page(f"key={KEY}&room=axe", color_scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")

    def violations():
        found = axe.Axe().run(page).response["violations"]
        return [(one["id"], [node["target"] for node in one["nodes"]]) for one in found]

    assert violations() == []
    begin(page)
    page.click("#mute")
    page.evaluate("for (const one of document.querySelectorAll('.tiles > div')) one.dataset.level = 'warn'")
    assert violations() == []
    page.evaluate("streamcodec.live.graph._media.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    page.wait_for_selector("#problem:visible")
    assert violations() == []
