"""What a session's mode takes and gives, and what is said to a caller who asks for something else."""

from ..errors import InputError
from ..protocol import Hello, directions

__all__ = ["check_gives", "check_makes_codes", "check_takes"]

MEDIA = {"pcm": "PCM", "codes": "codes"}
CALLS = {"pcm": "send", "codes": "send_codes"}


def check_takes(hello: Hello, call: str, *kinds: str) -> None:
    """Raises InputError unless the session takes one of these: "pcm", "codes". call: what the caller asked for."""
    if directions(hello)[0] not in kinds:
        raise InputError(_facts(hello, call))


def check_gives(hello: Hello, call: str, *kinds: str) -> None:
    """Raises InputError unless the session gives one of these."""
    if directions(hello)[1] not in kinds:
        raise InputError(_facts(hello, call))


def check_makes_codes(hello: Hello, call: str) -> None:
    """Raises InputError where the server makes no codes, and so has no bandwidth."""
    takes, gives = directions(hello)
    if takes != "pcm" and gives != "codes":
        raise InputError(_facts(hello, call))


def _facts(hello: Hello, call: str) -> str:
    takes, gives = directions(hello)
    role = f" as a {hello.room.role}" if hello.room and hello.room.role != "both" else ""
    takes = f"{MEDIA[takes]} ({CALLS[takes]})" if takes else "nothing"
    gives = f"{MEDIA[gives]} ({'packets, pcm' if gives == 'pcm' else 'packets'})" if gives else "no audio and no codes"
    return f"{call} cannot work here: a session in mode {hello.mode}{role} takes {takes} and gives {gives}"
