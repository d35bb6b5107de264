"""A file behind an http or https address, read in pieces by range requests (RFC 9110, section 14)."""

import http.client
import io
import re
import urllib.error
import urllib.request
from typing import Any, BinaryIO, cast

from .errors import AudioError

__all__ = ["is_address", "open_address"]

SECONDS = 20.0  # without an answer
PIECE = 2**14  # bytes of a request: some seconds of codes
MOST = 2**21  # and at most
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def is_address(name: object) -> bool:
    """Whether it is an http or https address."""
    return isinstance(name, str) and name.lower().startswith(("http://", "https://"))


def open_address(url: str) -> BinaryIO:
    """The file there, to be read from any place; it may grow. Its `name` is the address without a query.

    Raises AudioError: nothing there, no answer in 20 s, or a server that does not give parts of files.
    """
    raw = _Ranges(url)
    file = io.BufferedReader(raw, PIECE)
    return cast(BinaryIO, file)


class _Ranges(io.RawIOBase):
    """Each read is one request, of at most `MOST` bytes. Nothing is kept but the place and the size."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = url.partition("?")[0].partition("#")[0]
        self._place = self._size = 0
        self._ask(0, 1)  # whether there is such a file, and how long it is

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        """From the end (2), the size is asked for anew: the file may have grown."""
        if whence == 2:
            self._ask(max(0, self._size - 1), 1)
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        data = self._ask(self._place, min(MOST, len(buffer)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _ask(self, offset: int, count: int) -> bytes:
        """So many bytes from `offset` on, fewer where the file ends. Raises AudioError."""
        request = urllib.request.Request(
            self._url, headers={"Range": f"bytes={offset}-{offset + count - 1}", "User-Agent": "streamcodec"}
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return self._taken(answer, offset, count)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the file ends there
                return b""
            raise AudioError(f"{self.name}: the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise AudioError(f"{self.name} cannot be read: {reason}") from error

    def _taken(self, answer: Any, offset: int, count: int) -> bytes:
        if answer.status != 206:
            raise AudioError(
                f"{self.name}: the server does not give parts of files (it answers {answer.status} where 206 is "
                "expected); fetch the whole file first"
            )
        found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != offset:
            raise AudioError(f"{self.name}: the server gives another part of the file than it was asked for")
        self._size = int(found[3])
        data: bytes = answer.read(min(count, int(found[2]) - offset + 1))
        return data
