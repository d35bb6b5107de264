"""What one session may cost."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """The bounds of one session; the server's settings. Those marked * are told to the client in `welcome`.

    message_bytes*: of a binary message. The default holds 0.68 s of 48 kHz stereo in float32.
    text_bytes*: of a text message.
    messages_per_second*, burst*: the rate of a client's messages, and how many may come at once after a pause.
    unacknowledged_bytes*: of numbered messages that either end may send before the other acknowledges. A sender keeps
        them for a resume; the default is 2.7 s of 48 kHz stereo in float32, and minutes of codes.
    acknowledge_every*: numbered messages after which, at the latest, the receiver acknowledges.
    handshake_seconds, idle_seconds*, resume_seconds*: without a hello; without any message; without a connection.
    refused_messages: in one session, before it ends.
    gap_seconds*: the longest stretch that a client may leave out.
    peak*: the greatest magnitude of a sample in float32; full scale is 1. 8 leaves 18 dB for what a client may clip
        itself, and refuses whole numbers sent as floats.
    frames_per_packet*: the most that a client may ask for.
    redundancy: what is agreed of a client's: "off", nothing; "fixed", what it asks for; "auto", also by measured loss.
    """

    message_bytes: int = 262_144
    text_bytes: int = 8_192
    messages_per_second: float = 200.0
    burst: int = 400
    unacknowledged_bytes: int = 1_048_576
    acknowledge_every: int = 16
    handshake_seconds: float = 10.0
    idle_seconds: float = 60.0
    resume_seconds: float = 30.0
    refused_messages: int = 100
    gap_seconds: float = 10.0
    peak: float = 8.0
    frames_per_packet: int = 150
    min_rate: int = 8_000
    max_rate: int = 48_000
    redundancy: str = "auto"
