"""The sound devices of this machine: the list, the choice, and what to do where there is none."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError
from ..install import how_to_install

if TYPE_CHECKING:
    from ..codecs import CodecSpec

__all__ = ["Device", "choose", "describe_devices", "portaudio"]

COMMON_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)  # Hz; what a refusal is tried against
MOST_CHANNELS = 32  # of one device: a driver that claims thousands (dmix, pulse) means "any"


@dataclass(frozen=True)
class Device:
    """A device as it will be opened. kind: "input" or "output"; index, name: PortAudio's; rate: Hz."""

    kind: str
    index: int
    name: str
    rate: int
    channels: int


def portaudio(extra: str = "live") -> Any:
    """The sounddevice module. Raises DeviceError where it or PortAudio is missing, with what to do.

    extra: the one that brings it, as the caller's users have it.
    """
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise DeviceError(
            f"live audio needs the package sounddevice ({error}); install it with: {how_to_install(extra)}"
        ) from error
    except OSError as error:  # its shared library is not found: only on Linux, where no wheel brings it
        raise DeviceError(
            f"the PortAudio library cannot be loaded ({error}); install it: 'apt install libportaudio2' on Debian and "
            "Ubuntu, 'dnf install portaudio' on Fedora, 'brew install portaudio' on macOS"
        ) from error


def describe_devices() -> list[str]:
    """One line for each device: index, name, host API, channels and rate; * is the default. Raises DeviceError."""
    sd = portaudio()
    defaults = {_default(sd, kind) for kind in ("input", "output")}
    lines = []
    for index, info in enumerate(_query(sd)):
        api = sd.query_hostapis(info["hostapi"])["name"]
        mark = "*" if index in defaults else " "
        channels = f"{info['max_input_channels']} in, {info['max_output_channels']} out"
        lines.append(f"{mark}{index:3d}  {info['name']}  ({api}; {channels}; {info['default_samplerate']:.0f} Hz)")
    return lines


def choose(kind: str, choice: str | None, spec: "CodecSpec", rate: int | None = None) -> Device:
    """The device for `kind`, "input" or "output", with a rate and a channel count that it takes.

    choice: an index, a name, or a part of a name that fits one device; None is the system's default.
    rate: Hz; None is the codec's own, or else what the device prefers, and the line resamples.
    Raises DeviceError: no such device, none at all, or one that takes no such rate, with what there is.
    """
    sd = portaudio()
    devices = _query(sd)
    usable = [index for index, info in enumerate(devices) if info[f"max_{kind}_channels"] > 0]
    if not usable:
        what = "microphone or other input" if kind == "input" else "speaker or other output"
        raise DeviceError(
            f"PortAudio finds no {what} device ({len(devices)} devices in all); connect one, check that the sound "
            "server runs and that this user may use it, then see 'streamcodec mic --list-devices'"
        )
    index = _default(sd, kind) if choice is None else _find(devices, usable, kind, choice)
    if index not in usable:
        raise DeviceError(f"there is no default {kind} device; name one of: {_names(devices, usable)}")
    info = devices[index]
    found_rate, channels = _settings(sd, kind, index, info, spec, rate)
    return Device(kind, index, str(info["name"]), found_rate, channels)


def _query(sd: Any) -> list[Any]:
    try:
        return list(sd.query_devices())
    except sd.PortAudioError as error:
        raise DeviceError(f"PortAudio cannot list the sound devices: {error}") from error


def _default(sd: Any, kind: str) -> int:
    return int(sd.default.device[0 if kind == "input" else 1])


def _find(devices: list[Any], usable: list[int], kind: str, choice: str) -> int:
    names = {index: str(devices[index]["name"]) for index in usable}
    if choice.isdecimal() and int(choice) in names:
        return int(choice)
    exact = [index for index, name in names.items() if name == choice]
    close = [index for index, name in names.items() if choice.lower() in name.lower()]
    if choice.isdecimal() and not exact:
        close = []
    if len(exact) == 1 or len(close) == 1:
        return (exact or close)[0]
    if close:
        raise DeviceError(f"several {kind} devices fit {choice!r}: {_names(devices, close)}; give the index of one")
    raise DeviceError(f"no {kind} device fits {choice!r}; there are: {_names(devices, usable)}")


def _names(devices: list[Any], indices: list[int]) -> str:
    return ", ".join(f"{index} ({devices[index]['name']})" for index in indices)


def _settings(sd: Any, kind: str, index: int, info: Any, spec: "CodecSpec", rate: int | None) -> tuple[int, int]:
    """Rate and channels: the codec's own first, for nothing is then changed about the samples."""
    most = min(int(info[f"max_{kind}_channels"]), MOST_CHANNELS)
    channels = [count for count in dict.fromkeys([spec.channels, 1, 2, most]) if count <= most]
    rates = [rate] if rate is not None else list(dict.fromkeys([spec.sample_rate, round(info["default_samplerate"])]))
    reason = ""
    for wanted in rates:
        for count in channels:
            refusal = _refusal(sd, kind, index, wanted, count)
            if not refusal:
                return wanted, count
            reason = reason or refusal
    works = [f"{known} Hz" for known in COMMON_RATES if not _refusal(sd, kind, index, known, channels[0])]
    asked = " or ".join(f"{wanted} Hz" for wanted in rates)
    offer = f"it takes {', '.join(works)} (see --rate)" if works else "it may be in use by another program"
    raise DeviceError(f"the {kind} device {index} ({info['name']}) does not take {asked} ({reason}); {offer}")


def _refusal(sd: Any, kind: str, index: int, rate: int, channels: int) -> str:
    check = sd.check_input_settings if kind == "input" else sd.check_output_settings
    try:
        check(device=index, channels=channels, dtype="float32", samplerate=rate)
    except (sd.PortAudioError, ValueError) as error:
        return str(error)
    return ""
