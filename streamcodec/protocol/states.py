"""The states of a session and what moves it from one to another. Nothing else changes a state."""

from enum import Enum

__all__ = ["CLIENT", "SERVER", "Cause", "State", "after"]


class State(Enum):
    """Where a session stands."""

    START = "start"  # client: nothing sent yet
    HANDSHAKE = "handshake"  # server: waits for hello or resume; client: for welcome or resumed
    ADMISSION = "admission"  # server: the host decides whether to accept
    OPEN = "open"
    DETACHED = "detached"  # without a connection; can be resumed
    CLOSING = "closing"  # the last message is written; the connection is to be closed
    CLOSED = "closed"


class Cause(Enum):
    """What happens to a session."""

    ASKED = "a hello or resume was sent or received"
    ACCEPTED = "welcome or resumed was sent or received"
    LOST = "the connection is gone, and the session can be resumed"
    GONE = "the connection is gone, and the session with it"
    ENDED = "an error of scope session, or a goodbye"
    EXPIRED = "nobody resumed it in time"


Table = dict[State, dict[Cause, State]]

SERVER: Table = {
    State.HANDSHAKE: {
        Cause.ASKED: State.ADMISSION,
        Cause.ENDED: State.CLOSING,
        Cause.GONE: State.CLOSED,
    },
    State.ADMISSION: {
        Cause.ACCEPTED: State.OPEN,
        Cause.ENDED: State.CLOSING,
        Cause.GONE: State.CLOSED,
    },
    State.OPEN: {
        Cause.ACCEPTED: State.OPEN,  # resumed before the old connection was seen to be gone
        Cause.LOST: State.DETACHED,
        Cause.ENDED: State.CLOSING,
        Cause.GONE: State.CLOSED,
    },
    State.DETACHED: {
        Cause.ACCEPTED: State.OPEN,
        Cause.LOST: State.DETACHED,
        Cause.ENDED: State.CLOSING,
        Cause.EXPIRED: State.CLOSED,
    },
    State.CLOSING: {Cause.GONE: State.CLOSED},
    State.CLOSED: {Cause.GONE: State.CLOSED},
}

CLIENT: Table = {
    State.START: {
        Cause.ASKED: State.HANDSHAKE,
        Cause.GONE: State.CLOSED,
    },
    State.HANDSHAKE: {
        Cause.ACCEPTED: State.OPEN,
        Cause.LOST: State.DETACHED,
        Cause.ENDED: State.CLOSING,
        Cause.GONE: State.CLOSED,
    },
    State.OPEN: {
        Cause.LOST: State.DETACHED,
        Cause.ENDED: State.CLOSING,
        Cause.GONE: State.CLOSED,
    },
    State.DETACHED: {
        Cause.ASKED: State.HANDSHAKE,
        Cause.LOST: State.DETACHED,
        Cause.GONE: State.CLOSED,
    },
    State.CLOSING: {
        Cause.ENDED: State.CLOSING,
        Cause.GONE: State.CLOSED,
    },
    State.CLOSED: {Cause.GONE: State.CLOSED},
}


def after(table: Table, state: State, cause: Cause) -> State:
    """The next state. A KeyError is a mistake of the caller's: what a peer may do is checked before."""
    return table[state][cause]
