"""Choosing devices, and what is said where that cannot be done."""

import sys

import pytest
from fake_sounddevice import device, sounddevice
from oracles import small_codec

from streamcodec.errors import DeviceError, StreamcodecError
from streamcodec.live import host as host_module
from streamcodec.live.devices import Device, choose, describe_devices
from streamcodec.live.host import SoundHost

DEVICES = [
    device("Laptop", 2, 2),
    device("USB Microphone", 1, 0, 48000),
    device("USB Headset", 1, 2),
    device("HDMI", 0, 8),
]


@pytest.fixture
def install(monkeypatch):
    def put(*arguments, **options):
        module = sounddevice(*arguments, **options)
        monkeypatch.setitem(sys.modules, "sounddevice", module)
        return module

    return put


@pytest.fixture
def spec():
    return small_codec("24khz").spec  # 600 Hz, mono


@pytest.mark.parametrize(
    ("choice", "index"), [(None, 0), ("1", 1), ("USB Headset", 2), ("headset", 2), ("microphone", 1), ("lap", 0)]
)
def test_an_index_a_name_or_a_part_of_one_finds_a_device(install, spec, choice, index):
    install(DEVICES)
    assert choose("input", choice, spec).index == index


@pytest.mark.parametrize(
    ("kind", "choice", "message"),
    [
        ("input", "usb", r"several input devices fit 'usb': 1 \(USB Microphone\), 2 \(USB Headset\); give the index"),
        ("input", "HDMI", r"no input device fits 'HDMI'; there are: 0 \(Laptop\), 1 \(USB Microphone\), 2"),
        ("output", "1", r"no output device fits '1'; there are: 0 \(Laptop\), 2 \(USB Headset\), 3 \(HDMI\)"),
        ("input", "99", r"no input device fits '99'"),
    ],
)
def test_a_choice_that_does_not_fit_is_told_what_there_is(install, spec, kind, choice, message):
    install(DEVICES)
    with pytest.raises(DeviceError, match=message):
        choose(kind, choice, spec)


@pytest.mark.parametrize(("kind", "word"), [("input", "microphone"), ("output", "speaker")])
def test_no_device_at_all(install, spec, kind, word):
    install([], default=(-1, -1))
    with pytest.raises(DeviceError, match=rf"PortAudio finds no {word} .* \(0 devices in all\)"):
        choose(kind, None, spec)


def test_no_default_device(install, spec):
    install(DEVICES, default=(-1, -1))
    with pytest.raises(DeviceError, match=r"no default output device; name one of: 0 \(Laptop\)"):
        choose("output", None, spec)


def test_the_codecs_rate_comes_first_and_the_devices_own_second(install, spec):
    install(DEVICES, rates=(600, 44100))
    assert choose("input", "0", spec) == Device("input", 0, "Laptop", 600, 1)
    install(DEVICES, rates=(48000,))
    assert choose("input", "1", spec).rate == 48000
    install(DEVICES, rates=(600, 32000))
    assert choose("input", "1", spec, 32000).rate == 32000


def test_a_device_without_mono_is_opened_in_stereo(install, spec):
    install(DEVICES, channels=(2,))
    assert choose("output", "0", spec).channels == 2


def test_a_rate_that_is_refused_is_told_which_are_not(install, spec):
    install(DEVICES)
    with pytest.raises(DeviceError, match=r"does not take 8000 Hz \(Invalid sample rate.*it takes 44100 Hz, 48000 Hz"):
        choose("input", "0", spec, 8000)
    install(DEVICES, rates=())
    with pytest.raises(DeviceError, match=r"600 Hz or 44100 Hz .*in use by another program"):
        choose("input", "0", spec)


def test_the_list_marks_the_default(install):
    install(DEVICES, default=(1, 3))
    lines = describe_devices()
    assert lines[0] == "   0  Laptop  (Fake; 2 in, 2 out; 44100 Hz)"
    assert [line[0] for line in lines] == [" ", "*", " ", "*"]


def test_sounddevice_is_missing(monkeypatch, spec):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceError, match=r"pip install '\.\[live\]'") as caught:
        choose("input", None, spec)
    assert isinstance(caught.value, StreamcodecError)


def test_portaudio_is_missing(monkeypatch, spec, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeviceError, match=r"PortAudio library not found.*apt install libportaudio2"):
        describe_devices()


def pair() -> tuple[Device, Device]:
    return Device("input", 0, "Laptop", 48000, 1), Device("output", 3, "HDMI", 44100, 2)


def test_each_device_has_a_stream_of_its_own(install):
    module = install(DEVICES)
    host = SoundHost(*pair(), input_block=240, output_block=220)
    host.open(print, print)
    microphone, speaker = module.opened
    assert (microphone["device"], microphone["samplerate"], microphone["blocksize"]) == (0, 48000, 240)
    assert (speaker["device"], speaker["channels"], speaker["blocksize"]) == (3, 2, 220)
    host.close()
    host.open(print, print)
    assert module.opened[2] == "terminate"  # so that a device that was plugged in again is found
    host.close()


def test_a_device_that_does_not_open_is_explained(install):
    module = install(DEVICES)

    def refuse(**options):
        raise module.PortAudioError("Device unavailable [PaErrorCode -9985]")

    module.OutputStream = refuse
    with pytest.raises(DeviceError, match=r"cannot open Laptop and HDMI: Device unavailable .*unplugged"):
        SoundHost(*pair(), input_block=0, output_block=0).open(print, print)


def test_a_stream_that_does_not_close_is_left_alone(install, monkeypatch):
    import threading

    module, never = install(DEVICES), threading.Event()
    monkeypatch.setattr(host_module, "CLOSING", 0.05)
    host = SoundHost(*pair(), input_block=0, output_block=0)
    host.open(print, print)
    monkeypatch.setattr(module.InputStream, "abort", lambda self, ignore_errors=True: never.wait(5))
    host.close()
    assert host.abandoned == 2
    never.set()


@pytest.mark.parametrize("stamp", [0.0, 1e6])
def test_times_that_make_no_sense_are_replaced_by_the_latency(install, stamp):
    import time
    import types

    module, calls = install(DEVICES), []
    host = SoundHost(*pair(), input_block=0, output_block=0)
    host.open(lambda *call: calls.append(call), lambda *call: calls.append(call))
    times = types.SimpleNamespace(inputBufferAdcTime=stamp, outputBufferDacTime=stamp)
    now = time.monotonic()
    for options in module.opened:
        options["callback"]([], 0, times, 0)
    assert calls[0][1] == pytest.approx(now - 0.01, abs=0.05)
    assert calls[0][1] < now < calls[1][1]
    plausible = types.SimpleNamespace(inputBufferAdcTime=1.0 - 0.25, outputBufferDacTime=1.0 + 0.25)
    for options in module.opened:
        options["callback"]([], 0, plausible, 1)
    assert calls[3][1] - calls[2][1] == pytest.approx(0.5, abs=0.01)
    assert [call[2] for call in calls] == [False, False, True, True]
