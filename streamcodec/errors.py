"""Every error that streamcodec raises on purpose.

::

    StreamcodecError
    ├── ConfigError            a codec configuration that cannot be run (ValueError)
    ├── CheckpointError        weights that cannot be read, or do not fit the configuration
    │   ├── UnknownCodecError  a name that is no file, no directory, no hub id and no known codec
    │   └── HubError           the hub cannot be reached, or has no such repository
    ├── AudioError             an audio or codes file that cannot be read or written
    ├── InputError             a value that a call cannot take (ValueError)
    │   ├── ShapeError         wrong number of dimensions, channels, batch rows or codebooks
    │   ├── DtypeError         a dtype that is not allowed (also a TypeError)
    │   ├── NonFiniteError     NaN or infinity among the samples
    │   ├── SampleRateError    audio at another rate than the codec's
    │   ├── CodesError         a code outside the codebook
    │   ├── BandwidthError     a bandwidth that the codec does not offer
    │   └── PacketError        bytes that are no packet (defined in `streamcodec.packet`)
    ├── StreamError            a stream that cannot go on as asked
    │   ├── StreamClosedError  push or flush after flush
    │   ├── NotStreamableError the checkpoint needs the whole signal at once
    │   └── QueueFullError     a session of an engine is fed faster than it runs
    ├── EngineFullError        every slot of an engine is taken
    ├── StateError             saved state of another codec, another version, or damaged
    ├── ProtocolError          a peer that broke the protocol (defined in `streamcodec.protocol`)
    ├── SessionError           a client's session that was refused or is over (defined in `streamcodec.client`)
    ├── MissingPackageError    a package of an extra that is not installed (ImportError)
    ├── DeviceError            no PortAudio, or no sound device that takes what is asked
    └── BackendError           a backend asked for by name that cannot run here

A message says what came, what is allowed and, where it helps, what to do. A call that raises leaves the stream
as it was: the next valid call continues as if the bad one had not been made.
"""

__all__ = [
    "AudioError",
    "BackendError",
    "BandwidthError",
    "CheckpointError",
    "CodesError",
    "ConfigError",
    "DeviceError",
    "DtypeError",
    "EngineFullError",
    "HubError",
    "InputError",
    "MissingPackageError",
    "NonFiniteError",
    "NotStreamableError",
    "QueueFullError",
    "SampleRateError",
    "ShapeError",
    "StateError",
    "StreamClosedError",
    "StreamError",
    "StreamcodecError",
    "UnknownCodecError",
]


class StreamcodecError(Exception):
    """The root: catches every error of this package and none of anyone else's."""


class ConfigError(StreamcodecError, ValueError):
    """A codec configuration holds a value that is invalid or not supported."""


class CheckpointError(StreamcodecError):
    """Weights are missing, unexpected, truncated, of the wrong shape, or unsafe to read."""


class UnknownCodecError(CheckpointError):
    """The codec asked for is not a file, a directory, a hub id or a known name."""


class HubError(CheckpointError):
    """The model hub cannot be reached, or does not hold what was asked for."""


class AudioError(StreamcodecError):
    """An audio or codes file cannot be read or written."""


class InputError(StreamcodecError, ValueError):
    """An argument cannot be taken."""


class ShapeError(InputError):
    """Wrong number of dimensions, channels, batch rows or codebooks."""


class DtypeError(InputError, TypeError):
    """A dtype that is not allowed."""


class NonFiniteError(InputError):
    """NaN or infinity among the samples."""


class SampleRateError(InputError):
    """Audio at another sample rate than the codec's."""


class CodesError(InputError):
    """A code outside the codebook."""


class BandwidthError(InputError):
    """A bandwidth that the codec does not offer."""


class StreamError(StreamcodecError):
    """A stream cannot go on as asked."""


class StreamClosedError(StreamError):
    """The stream was flushed; open a new one."""


class NotStreamableError(StreamError):
    """The checkpoint needs the whole signal at once and cannot be streamed."""


class QueueFullError(StreamError):
    """More was fed to a session of an engine than may wait for a step."""


class EngineFullError(StreamcodecError):
    """Every slot of an engine is taken."""


class StateError(StreamcodecError):
    """Saved state belongs to another codec or version, or is damaged."""


class MissingPackageError(StreamcodecError, ImportError):
    """What was asked for needs a package that is not installed; the message has the command that installs it."""


class DeviceError(StreamcodecError):
    """Sound devices or the library for them are missing, or cannot do what is asked."""


class BackendError(StreamcodecError):
    """A backend was asked for by name and cannot run here."""
