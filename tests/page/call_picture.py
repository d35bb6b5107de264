"""Makes docs/page_call.png, a call on a phone: ``python tests/page/call_picture.py``, where nothing else runs."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile
import soxr
from conftest import ARGUMENTS, wait_until_ready
from playwright.sync_api import Page, sync_playwright
from recorded import KEY, ROOT, SPEECH

PICTURE = ROOT / "docs" / "page_call.png"
PHONE = {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5}
CALLED, MUTED = 7, 2  # seconds until one is muted, in which who says nothing is called silent; and after it


def enter(page: Page, address: str, name: str, muted: bool) -> None:
    page.goto(f"{address}#key={KEY}&room=lobby")
    page.wait_for_selector("#start:enabled")
    page.fill("#member", name)
    if muted:
        page.click("#mute")
    page.click("#start")
    page.wait_for_selector("#status[data-state=open]")


def call(address: str, speech: Path) -> None:
    with sync_playwright() as playwright:
        arguments = [*ARGUMENTS, f"--use-file-for-fake-audio-capture={speech}"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        pages = [browser.new_context(permissions=["microphone"], **PHONE).new_page() for _ in range(3)]
        for page, name, muted in zip(pages, ("Ada Lovelace", "Grace", "Jean"), (False, True, False), strict=True):
            enter(page, address, name, muted)
        shown = pages[-1]
        shown.bring_to_front()
        shown.wait_for_selector("#member-list li:nth-child(4)")
        time.sleep(CALLED)
        shown.click("#mute")
        time.sleep(MUTED)
        shown.evaluate("scrollTo(0, 0)")
        shown.screenshot(path=PICTURE)
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        samples, rate = soundfile.read(SPEECH, dtype="float32")
        soundfile.write(folder / "speech.wav", soxr.resample(samples, rate, 48000), 48000, subtype="PCM_16")
        (folder / "key").write_text(KEY)
        key = ["--key-file", str(folder / "key")]
        command = [sys.executable, "-m", "streamcodec"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen([*command, "serve", "--port", "0", *key], stderr=log, cwd=ROOT)
        try:
            port = wait_until_ready(server, folder / "log")
            listens = [
                *command, "connect", f"127.0.0.1:{port}", "--mode", "room", "--room", "lobby", "--role", "listener",
                "--member", "Radia Perlman", "--output", str(folder / "heard.wav"), "--seconds", "60", *key,
            ]  # fmt: skip
            listener = subprocess.Popen(listens, cwd=ROOT)
            call(f"http://127.0.0.1:{port}/", folder / "speech.wav")
            listener.terminate()
            listener.wait()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
