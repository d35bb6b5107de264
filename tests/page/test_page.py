"""The page in Debian's Chromium, with a file for a microphone, at the real server."""

import numpy as np
import pytest
import soundfile
import soxr
import torch
from recorded import KEY, SPEECH, Recording

import streamcodec

pytestmark = pytest.mark.slow

TRACK = "streamcodec.live.graph._media.getAudioTracks()[0]"
# At the codec's rate nothing is resampled, and on a busy machine nothing is left out for being late: results are exact.
OWN_RATE = f"key={KEY}&rate=24000&max_delay=60"
# Rounding to 16 bits leaves 70 dB and more of speech. A batch of another size rounds float32 differently, which may
# turn a code whose two nearest entries nearly tie (docs/exactness.md); that costs a frame, not the whole.
EXACT_DB = 40.0


@pytest.fixture(scope="module")
def codec():
    return streamcodec.load()


def through(codec, samples, bandwidth=6.0):
    """samples: [N] at the codec's rate. What the codec makes of them offline."""
    with torch.inference_mode():
        codes = codec.encode(torch.from_numpy(np.array(samples))[None, None], bandwidth=bandwidth)
        return codec.decode(codes)[0, 0].numpy()


def start(page):
    page.evaluate("streamcodec.startRecording()")
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")


HEARD = """() => {
    const { live } = streamcodec;
    if (!live) return document.getElementById("problem").textContent;
    return live.record.received.reduce((sum, { samples }) => sum + samples.length, 0) / live.graph.rate;
}"""


def until(page, expression):
    """Waits until it holds. (Playwright's own `wait_for_function` is refused by the page's policy.)"""
    for _ in range(300):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"in half a minute it did not come to {expression}")


def listen(page, seconds):
    """Waits until so much audio has come; a busy machine takes longer."""
    for _ in range(300):
        heard = page.evaluate(HEARD)
        assert not isinstance(heard, str), f"the run is over: {heard}"
        if heard >= seconds:
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"{heard} s of audio came in a minute; {seconds} s are wanted")


def stop(page):
    """What was sent, received and played since `start`."""
    return Recording(page.evaluate("streamcodec.stopRecording()"))


def assert_equals_the_codec(codec, sent, heard, seconds):
    """What was heard, at least so long, is what the codec makes of what was sent, both at the codec's rate."""
    wanted = through(codec, sent)
    known = heard.places < len(wanted)
    wanted, given = wanted[heard.places[known]], heard.received[known]
    assert len(given) > seconds * 24000
    assert np.abs(sent).max() > 0.1  # the fake microphone speaks
    noise = np.sum((given - wanted) ** 2)
    assert 10 * np.log10(np.sum(wanted**2) / noise) > EXACT_DB


def assert_played_what_came(recording):
    """Apart from fades and silence, the played blocks are in what was received, sample for sample."""
    blocks = recording.played[: len(recording.played) // 128 * 128].reshape(-1, 128)
    loud = [block for block in blocks if np.all(block != 0)]
    places = {recording.received[at : at + 12].tobytes(): at for at in range(len(recording.received) - 128)}
    found = [(block, places.get(block[:12].tobytes(), -1)) for block in loud]
    same = [at >= 0 and np.array_equal(block, recording.received[at : at + 128]) for block, at in found]
    # An underrun costs the blocks of two fades, 5 ms each; this leaves room for two a second. And those of the sound
    # that goes on.
    assert len(loud) > 200
    assert same.count(False) < 0.1 * len(same) + 1.2 * recording.concealed / 128


def test_round_trip_equals_the_codec(open_page, codec):
    page = open_page(OWN_RATE)
    start(page)
    listen(page, 2.5)
    figures, heard = page.evaluate("streamcodec.figures()"), stop(page)
    assert heard.rate == 24000
    assert heard.places[0] == 0
    assert_equals_the_codec(codec, heard.sent, heard, 2)
    assert_played_what_came(heard)
    assert (figures["bitrate"], figures["codebooks"], figures["lost"]) == (6, 12, 0)
    assert figures["measured"]
    assert 30 < figures["delay"] < 5000


def test_at_the_browsers_rate_the_page_sends_at_the_codecs(open_page, codec, speech):
    page = open_page(f"key={KEY}&max_delay=60")
    start(page)
    listen(page, 2.5)
    session = "streamcodec.live.session"
    contexts_rate, size = page.evaluate(f"[streamcodec.live.graph.rate, {session}.sentBytes / {session}._indexOut]")
    heard = stop(page)
    assert contexts_rate in (44100, 48000)
    assert heard.rate == 24000
    assert 2 < size < 2.4  # bytes a sample, headers and acknowledgements among them
    assert_equals_the_codec(codec, heard.sent, heard, 2)
    assert_played_what_came(heard)
    assert likeness(heard.sent, soxr.resample(soundfile.read(speech, dtype="float32")[0], 48000, 24000)) > 0.98


def likeness(part, whole):
    """The greatest correlation of `part` with a stretch of `whole`, which is played again and again."""
    part = part[np.flatnonzero(part)[0] :][:48000]
    size = 2 ** int(np.ceil(np.log2(3 * len(whole))))
    again = np.tile(whole, 2)
    products = np.fft.irfft(np.fft.rfft(again, size) * np.conj(np.fft.rfft(part, size)), size)[: len(whole)]
    energy = np.cumsum(np.concatenate([[0], again.astype(np.float64) ** 2]))
    energies = energy[len(part) : len(part) + len(whole)] - energy[: len(whole)]
    return (products / np.sqrt(energies * np.sum(part**2) + 1e-9)).max()


def test_nothing_is_lost_over_a_broken_connection(open_page, codec):
    page = open_page(OWN_RATE)
    start(page)
    listen(page, 1)
    page.evaluate("streamcodec.cut()")
    page.wait_for_selector("#status[data-state=wait]")
    page.wait_for_selector("#status[data-state=open]")
    listen(page, 2.5)
    # What could not be sent meanwhile marks the tile for ten seconds, with the cause; its title has the counts then.
    tile = "document.querySelector('#lost').closest('div')"
    until(page, f"/1 resumed/.test({tile}.title + {tile}.innerText)")
    heard = stop(page)
    np.testing.assert_array_equal(heard.places, np.arange(len(heard.places)))
    assert_equals_the_codec(codec, heard.sent, heard, 2)


def test_call_between_two_tabs(open_page, codec):
    first, second = (open_page(f"{OWN_RATE}&room=tabs") for _ in range(2))
    first.fill("#member", "Ada")
    second.fill("#member", "Grace")
    start(first)
    start(second)
    first.wait_for_selector("#member-list li:nth-child(2)")
    assert [text.split("\n") for text in first.locator("#member-list li").all_inner_texts()] == [
        ["Ada", "You"],
        ["Grace"],
    ]
    listen(first, 2.5)
    listen(second, 2.5)
    for who in (1, 2):
        until(
            first,
            f"document.querySelector('#member-list li:nth-child({who}) .face').style.getPropertyValue('--level') > 0.2",
        )
    at_first, at_second = stop(first), stop(second)
    for heard, said in ((at_first, at_second), (at_second, at_first)):
        assert len(heard.streams) == 1  # the other's, not one's own
        assert_equals_the_codec(codec, said.sent, heard, 2)
        assert_played_what_came(heard)
    second.close(run_before_unload=False)
    first.wait_for_selector("#member-list:not(:has(li:nth-child(2)))")


def test_another_bandwidth_in_mid_run(open_page):
    page = open_page()
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    page.check("[name=bandwidth][value='1.5']", force=True)
    page.wait_for_selector("#bitrate:text-is('1.5')")
    assert page.evaluate("streamcodec.figures().codebooks") == 3


LOSES_PACKETS = """() => {
  const { live } = streamcodec, take = live._packet.bind(live);
  let count = 0, gap = 0;
  live._packet = (packet) => {
    if (++count % 20 === 0) gap += packet.samples.length;
    else [, gap] = [take({ ...packet, gap: packet.gap + gap }), 0];
  };
}"""


def test_what_the_server_leaves_out_is_concealed_and_told(open_page):
    page = open_page()
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    page.evaluate(LOSES_PACKETS)
    until(page, "streamcodec.live.report.concealed > 0")
    until(page, "/\\d+ frames?; \\d+ ms concealed/.test(document.querySelector('#lost').closest('div').title)")
    report, figures = page.evaluate("[streamcodec.live.report, streamcodec.figures()]")
    assert 0 < report["concealed"] <= report["missing"] + 0.07 * 24000 * report["underruns"] + 1
    assert report["missing"] < report["received"] / 10
    assert figures["concealed"] > 0
    assert figures["lost"] > 0


def test_a_file_is_played_through_the_codec(open_page, codec, tmp_path):
    samples, rate = soundfile.read(SPEECH, dtype="int16", frames=3 * 24000)
    assert rate == 24000
    soundfile.write(tmp_path / "short.wav", samples, rate, subtype="PCM_16")
    page = open_page(OWN_RATE)
    page.check("[name=mode][value=file]", force=True)
    assert page.is_disabled("#start")
    page.set_input_files("#file", tmp_path / "short.wav")
    page.uncheck("#loop")
    start(page)
    listen(page, 1)
    heard = stop(page)
    # On a busy machine what is sent may begin before the file does: with silence, and nothing but.
    lead = int(np.flatnonzero(heard.sent)[0]) - int(np.flatnonzero(samples)[0])
    assert 0 <= lead < rate
    assert not heard.sent[:lead].any()
    sent = heard.sent[lead:]
    # Chromium divides positive samples by 32767 when it reads the file, which is undone but for the last bit.
    np.testing.assert_allclose(sent, samples[: len(sent)] / 32768, atol=1.01 / 32768, rtol=0)
    assert_equals_the_codec(codec, heard.sent, heard, 0.5)
    page.check("[name=listen][value=original]", force=True)
    page.wait_for_timeout(300)
    graph = "streamcodec.live.graph"
    assert page.evaluate(f"{graph}._codec.gain.value") < 0.01
    assert page.evaluate(f"{graph}._original.gain.value") > 0.99
    assert 0.03 < page.evaluate(f"{graph}._held.delayTime.value") < 5  # as late as the codec's
    page.wait_for_selector("text=The file is over")
    assert page.inner_text("#start") == "Start"


def test_keyboard_alone(open_page):
    page = open_page()
    seen = []

    def focus(selector):
        for _ in range(40):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached: {seen}")

    focus("[name=mode]")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#room")
    page.keyboard.press("ArrowLeft")
    focus("[name=bandwidth]")
    page.keyboard.press("ArrowLeft")
    # What has the focus shows it: the control itself, or the part of it that is painted.
    assert page.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle") == "solid"
    focus("#start")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("#status[data-state=open]")
    assert page.evaluate("streamcodec.figures().bandwidth") == 3
    page.keyboard.press("m")
    assert page.get_attribute("#mute", "aria-pressed") == "true"
    page.keyboard.press("m")
    assert page.get_attribute("#mute", "aria-pressed") == "false"
    page.keyboard.press("Escape")
    page.wait_for_selector("#status[data-state=idle]")
    assert page.evaluate("streamcodec.live") is None


def test_microphone_refused(open_page):
    page = open_page(microphone=False)
    page.click("#start")
    page.wait_for_selector("#problem:visible")
    assert "was not allowed to use the microphone" in page.inner_text("#problem")
    assert page.inner_text("#start") == "Start"
    assert page.is_enabled("#start")


def test_microphone_gone(open_page):
    page = open_page()
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    page.evaluate(f"{TRACK}.dispatchEvent(new Event('ended'))")
    page.wait_for_selector("#problem:visible")
    assert page.inner_text("#problem").startswith("The microphone is gone.")
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")


def test_microphone_muted_by_the_system(open_page):
    page = open_page()
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    mute = f"""(muted) => {{
        Object.defineProperty({TRACK}, "muted", {{ value: muted, configurable: true }});
        {TRACK}.dispatchEvent(new Event(muted ? "mute" : "unmute"));
    }}"""
    page.evaluate(mute, True)
    page.wait_for_selector("#notice:visible:text('muted the microphone')")
    page.evaluate(mute, False)
    page.wait_for_selector("#notice", state="hidden")
    assert page.get_attribute("#status", "data-state") == "open"


def test_sound_paused_by_the_system_goes_on(open_page):
    """As by a call on a phone: the browser refuses to go on for a while."""
    page = open_page()
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    until(page, "streamcodec.live.report?.playing")
    context = "streamcodec.live.graph.context"
    page.evaluate(f"() => {{ {context}.resume = () => Promise.reject(new Error('a call')); {context}.suspend(); }}")
    page.wait_for_selector("#notice:visible:text('paused the sound')")
    page.wait_for_timeout(2500)
    assert page.get_attribute("#status", "data-state") == "open"
    page.evaluate(f"() => {{ delete {context}.resume; }}")  # the call is over
    page.wait_for_selector("#notice", state="hidden")
    before = page.evaluate("streamcodec.live.session.sentBytes")
    until(page, f"streamcodec.live.session.sentBytes > {before} + 50_000")
    until(page, "streamcodec.live.report.playing && streamcodec.live.report.rms > 0")


# Start and Stop, whatever is under way

# Prompts that are answered late: `slow` ms, as set when Start is pressed; and every track that was given out.
PROMPTS = """() => {
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    Object.assign(window, { slow: 0, tracks: [] });
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        await new Promise((go) => setTimeout(go, window.slow));
        const stream = await ask(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
    };
}"""
OPEN_TRACKS = "tracks.filter((track) => track.readyState === 'live').length"


def test_what_plays_is_what_was_chosen_and_stop_lets_go_of_the_microphone(open_page, speech):
    page = open_page()
    page.evaluate(PROMPTS)
    page.evaluate("slow = 800")
    page.click("#start")
    page.click("#start")  # given up while the browser asks
    page.check("[name=mode][value=file]", force=True)
    page.set_input_files("#file", speech)
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    until(page, "tracks.length === 1")  # the prompt is answered after all
    assert page.evaluate("Boolean(streamcodec.live.graph._file)")
    assert page.evaluate(OPEN_TRACKS) == 0
    page.click("#start")
    page.check("[name=mode][value=roundtrip]", force=True)
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    assert page.evaluate(OPEN_TRACKS) == 1
    assert not page.evaluate("Boolean(streamcodec.live.graph._file)")
    page.click("#start")
    assert page.evaluate(OPEN_TRACKS) == 0


def test_a_server_that_is_away_at_start_is_named(open_page):
    page = open_page()
    gone = "() => { AudioWorklet.prototype.addModule = () => Promise.reject(new DOMException('gone', 'AbortError')); }"
    page.evaluate("() => { window.load = AudioWorklet.prototype.addModule; }")
    page.evaluate(gone)
    page.click("#start")
    page.wait_for_selector("#problem:visible")
    assert "The server does not answer" in page.inner_text("#problem")
    page.evaluate("() => { AudioWorklet.prototype.addModule = load; }")
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    assert page.is_hidden("#problem")


def test_page_of_an_insecure_address(open_page):
    page = open_page(host="elsewhere.test", microphone=False)
    page.click("#start")
    page.wait_for_selector("#problem:visible")
    assert "https:// or localhost" in page.inner_text("#problem")


def test_wrong_key(open_page):
    page = open_page("")
    page.click("#start")
    page.wait_for_selector("#problem:visible")
    assert "access key" in page.inner_text("#problem")
    page.fill("#key", KEY)
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")
    assert page.is_hidden("#problem")


def test_names_for_screen_readers(open_page):
    """Every control has a name, and what changes is told."""
    page = open_page()
    page.click("#settings summary")
    for role, name in [
        ("radio", "Hear yourself"), ("radio", "Call"), ("radio", "A file"), ("combobox", "Codec"), ("radio", "6"),
        ("combobox", "Microphone"), ("slider", "Volume"), ("button", "Start"), ("button", "Mute"),
        ("meter", "Input level"), ("meter", "Output level"),
    ]:  # fmt: skip
        assert page.get_by_role(role, name=name, exact=True).count() == 1, name
    assert page.get_by_role("status").inner_text() == "Ready"
    assert page.get_by_role("img", name="Spectrogram of the input").count() == 1


# The fewest colours of a canvas. (The browser complains of whoever reads a canvas itself more than once.)
COLOURS = """Math.min(...[...document.querySelectorAll('canvas')].map((canvas) => {
    const { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return new Set(new Uint32Array(copy.getImageData(0, 0, width, height).data.buffer)).size;
}))"""


def test_a_running_page_draws_both_scopes_in_many_colours(open_page, picture):
    """For people to look at; here only that something is drawn, however the page is changed while it runs."""
    page = open_page(color_scheme="dark", viewport={"width": 1440, "height": 900})
    start(page)
    listen(page, 3)
    until(page, f"{COLOURS} > 50")
    picture(page, "page")
    for name, media, size in (
        ("page-light", {"color_scheme": "light"}, (1440, 900)),
        ("page-reduced-motion", {"color_scheme": "dark", "reduced_motion": "reduce"}, (1024, 768)),
    ):
        page.emulate_media(**media)
        page.set_viewport_size(dict(zip(("width", "height"), size, strict=True)))
        page.wait_for_timeout(500)  # until it is drawn anew
        until(page, f"{COLOURS} > 50")
        picture(page, name)


def test_a_phone_draws_both_scopes_in_many_colours(open_page, picture):
    page = open_page(color_scheme="dark", viewport={"width": 390, "height": 844}, device_scale_factor=2)
    start(page)
    listen(page, 1.5)
    until(page, f"{COLOURS} > 50")
    picture(page, "page-phone")
