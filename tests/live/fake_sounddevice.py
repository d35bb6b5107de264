"""A sounddevice module with devices of our choosing, for what goes wrong before any sample flows."""

import types
from typing import Any


class PortAudioError(Exception):
    pass


def device(name: str, inputs: int, outputs: int, rate: float = 44100.0) -> dict[str, Any]:
    return {
        "name": name,
        "hostapi": 0,
        "max_input_channels": inputs,
        "max_output_channels": outputs,
        "default_samplerate": rate,
    }


def sounddevice(devices: list[dict[str, Any]], rates=(44100, 48000), channels=(1, 2), default=(0, 0)) -> Any:
    """The module; its devices take `rates` and `channels`, and its streams open but never call back."""
    module = types.ModuleType("sounddevice")

    def check(device, channels, dtype, samplerate, allowed=channels):
        if samplerate not in rates:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        if channels not in allowed:
            raise PortAudioError("Invalid number of channels [PaErrorCode -9998]")

    class Stream:
        time, latency = 1.0, 0.01

        def __init__(self, **options: Any) -> None:
            module.opened.append(options)

        def start(self) -> None: ...

        def abort(self, ignore_errors: bool = True) -> None: ...

        def close(self, ignore_errors: bool = True) -> None: ...

    module.__dict__.update(
        PortAudioError=PortAudioError,
        query_devices=lambda: devices,
        query_hostapis=lambda index: {"name": "Fake"},
        default=types.SimpleNamespace(device=default),
        check_input_settings=check,
        check_output_settings=check,
        InputStream=Stream,
        OutputStream=Stream,
        opened=[],
        _terminate=lambda: module.opened.append("terminate"),
        _initialize=lambda: None,
        _exit_handler=lambda: None,
    )
    return module
