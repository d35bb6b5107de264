"""A sound card without hardware: PipeWire with a virtual microphone and a null sink as the speaker.

Everything runs under a HOME and an XDG_RUNTIME_DIR of its own, so that no sound server of the user is touched.
(PulseAudio's own null sinks were seen to stall; PipeWire's do not.)
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

RATE = 48000
PACKAGES = Path(__file__).parents[2] / ".ci" / "packages"
# What the packages of .ci/packages bring; each is called below, or by the sound library.
PROGRAMS = ("dbus-daemon", "pipewire", "wireplumber", "pipewire-pulse", "pactl", "pw-cat", "pw-link")
ALSA_TO_PIPEWIRE = "/usr/share/alsa/alsa.conf.d/99-pipewire-default.conf"
MICROPHONE, SPEAKER = "virtual_microphone", "virtual_speaker"


def missing() -> str:
    """Why there can be no virtual card here; empty if there can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if not Path(ALSA_TO_PIPEWIRE).exists():
        absent.append("pipewire-alsa")
    return f"needs {', '.join(absent)}: install the Debian packages in .ci/packages" if absent else ""


class VirtualCard:
    """The card, as a context manager. `environment` is for programs that are to use it."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="card"))  # short: a socket's path has 108 characters at most
        runtime = self._home / "run"
        runtime.mkdir(mode=0o700)
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "PULSE_", "PIPEWIRE_"))}
        self.environment = {
            **keep,
            "HOME": str(self._home),
            "XDG_RUNTIME_DIR": str(runtime),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime / 'bus'}",
        }
        self._started: list[subprocess.Popen[bytes]] = []
        self._count = 0

    def __enter__(self) -> "VirtualCard":
        try:
            bus = self.environment["DBUS_SESSION_BUS_ADDRESS"]
            self.start("dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={bus}")
            runtime = Path(self.environment["XDG_RUNTIME_DIR"])
            _wait("dbus", (runtime / "bus").exists)
            self.start("pipewire")
            _wait("pipewire", (runtime / "pipewire-0").exists)
            self.start("wireplumber")
            self.start("pipewire-pulse")
            _wait("pipewire-pulse", lambda: self._ask("pactl", "info") is not None)
            self._load(f"sink_name={SPEAKER}", "channel_map=mono")
            self._load(f"sink_name={MICROPHONE}", "channel_map=mono", "media.class=Audio/Source/Virtual")
            _wait("ports", lambda: {f"{SPEAKER}:playback_MONO", f"{MICROPHONE}:capture_MONO"} <= self._ports())
            # wireplumber sets up what it links by itself a moment after the ports are there.
            _wait("default sink", lambda: self._ask("pactl", "set-default-sink", SPEAKER) is not None)
            _wait("default source", lambda: self._ask("pactl", "set-default-source", MICROPHONE) is not None)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._started):
            stop(process)
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """A program on the card, ended with it; what it prints goes to a file."""
        log = self._home / f"{len(self._started)}-{Path(command[0]).name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                urgent(*command), env=self.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
        self._started.append(process)
        return process

    def play(self, path: Path) -> "subprocess.Popen[bytes]":
        """Play a mono file into the microphone."""
        name = self._name("player")
        # Target 0 leaves it unconnected: left to itself it would go to the speaker.
        process = self.start("pw-cat", "-p", "--target", "0", "-P", f"{{ node.name={name} }}", str(path))
        self._link(f"{name}:output_MONO", f"{MICROPHONE}:input_MONO")
        return process

    def record(self, path: Path) -> "subprocess.Popen[bytes]":
        """Record what the microphone gives (channel 0) and what the speaker gets (1), sample by sample; `stop` it."""
        name = self._name("recorder")
        form = ("--rate", str(RATE), "--channels", "2", "--format", "f32")
        process = self.start("pw-cat", "-r", "--target", "0", "-P", f"{{ node.name={name} }}", *form, str(path))
        self._link(f"{MICROPHONE}:capture_MONO", f"{name}:input_FL")
        self._link(f"{SPEAKER}:monitor_MONO", f"{name}:input_FR")
        return process

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _load(self, *arguments: str) -> None:
        assert self._ask("pactl", "load-module", "module-null-sink", f"rate={RATE}", *arguments) is not None

    def _ports(self) -> set[str]:
        return set(re.findall(r"^\s*(\S+:\S+)", self._ask("pw-link", "-io") or "", re.MULTILINE))

    def _link(self, source: str, target: str) -> None:
        _wait(f"the ports {source} and {target}", lambda: {source, target} <= self._ports())
        assert self._ask("pw-link", source, target) is not None, f"cannot link {source} to {target}"

    def _ask(self, *command: str) -> str | None:
        """What a program prints, or None where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=10, check=False)
        return done.stdout if done.returncode == 0 else None


def urgent(*command: str) -> tuple[str, ...]:
    """The command at real-time priority, as a desktop's sound server has it (from rtkit), where that is allowed."""
    chrt = ("chrt", "--rr", "20")
    allowed = shutil.which("chrt") and subprocess.run([*chrt, "true"], capture_output=True, check=False).returncode == 0
    return (*chrt, *command) if allowed else command


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a program as Ctrl-C or a service manager would, and by force if that does not help."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(what: str, ready: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come up within {seconds:g} s")
        time.sleep(0.05)
