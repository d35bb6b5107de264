"""Rows that wait to be run."""

from collections import deque

from torch import Tensor

__all__ = ["Queue"]


class Queue:
    """Rows [n, width], oldest first, in the pieces in which they came; widths may differ from piece to piece."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, Tensor]] = deque()  # how many rows each has, which a tensor is slow to tell
        self.rows = 0

    def put(self, piece: Tensor) -> None:
        if count := piece.shape[0]:
            self._pieces.append((count, piece))
            self.rows += count

    def peek(self, rows: int) -> list[Tensor]:
        """The first `rows` rows, or all if there are fewer, in pieces. They stay in the queue until dropped."""
        found: list[Tensor] = []
        for count, piece in self._pieces:
            if rows <= 0:
                break
            found.append(piece if count <= rows else piece[:rows])
            rows -= count
        return found

    def drop(self, rows: int) -> None:
        """Let go of the first `rows` rows, or of all if there are fewer."""
        while rows > 0 and self._pieces:
            count, piece = self._pieces.popleft()
            self.rows -= min(rows, count)
            if count > rows:
                self._pieces.appendleft((count - rows, piece[rows:]))
            rows -= count
