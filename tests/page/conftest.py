"""The real server, and Debian's Chromium with a file for a microphone."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
import soxr
from recorded import KEY, ROOT, SPEECH

SECONDS = 90  # for the server to start on a busy machine

# Chromium as root, headless, and silent towards the network; a microphone that plays a file.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
]


@pytest.fixture(scope="session")
def speech(tmp_path_factory):
    """A WAV file of the bundled speech, 48 kHz."""
    samples, rate = soundfile.read(SPEECH, dtype="float32")
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, soxr.resample(samples, rate, 48000), 48000, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a server that asks for KEY."""
    pytest.importorskip("websockets", reason="websockets is not installed; the server needs it")
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed; the server needs it")
    folder = tmp_path_factory.mktemp("server")
    (folder / "key").write_text(KEY)
    command = [sys.executable, "-m", "streamcodec", "serve", "--port", "0", "--key-file", str(folder / "key")]
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        yield f"http://127.0.0.1:{wait_until_ready(process, log)}/"
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(process, log):
    """The server's port, from its log."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        if any(line["event"] == "ready" for line in lines):
            return next(line["port"] for line in lines if line["event"] == "listening")
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text()}")


# Of a module, no longer: a loop runs in this thread as long as it lives, and other tests run loops of their own.
@pytest.fixture(scope="module")
def browser(speech):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed: apt install chromium, or set CHROMIUM to its path")
    arguments = [*ARGUMENTS, f"--use-file-for-fake-audio-capture={speech}"]
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page: open_page(fragment, **options of the browser's context). No page may complain at the end."""
    contexts, complaints = [], []

    def complain(text):
        if not text.startswith("The Cross-Origin-Opener-Policy header has been ignored"):  # over http it is
            complaints.append(text)

    def open_it(fragment=f"key={KEY}", microphone=True, host="127.0.0.1", **options):
        context = browser.new_context(permissions=["microphone"] if microphone else [], **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda line: line.type in ("error", "warning") and complain(line.text))
        page.on(
            "request", lambda request: KEY in request.url.split("#")[0] and complaints.append("the key is in a URL")
        )
        # What breaks the Content-Security-Policy is an error on the console too; this names the directive.
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('policy', event.violatedDirective))"
        )
        page.goto(f"{server.replace('127.0.0.1', host)}#{fragment}")
        page.wait_for_selector("#start:enabled")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []


# Where screenshots go, for people to look at. CI keeps the folder that CI_ARTIFACTS names.
PICTURES = Path(os.environ.get("CI_ARTIFACTS") or ROOT / "build")
taken = []


@pytest.fixture
def picture():
    """Takes a screenshot: picture(page, name)."""
    PICTURES.mkdir(parents=True, exist_ok=True)

    def take(page, name):
        path = PICTURES / f"{name}.png"
        page.screenshot(path=path, full_page=True)
        taken.append(path)

    return take


def pytest_terminal_summary(terminalreporter):
    for path in taken:
        terminalreporter.write_line(f"screenshot: {path}")
