"""Rows that wait to be run."""

from collections import deque

from torch import Tensor

__all__ = ["Queue"]


class Queue:
    """Rows [n, width], oldest first, in the pieces in which they came; widths may differ from piece to piece."""

    def __init__(self) -> None:
        self._pieces: deque[Tensor] = deque()
        self.rows = 0

    def put(self, piece: Tensor) -> None:
        if piece.shape[0]:
            self._pieces.append(piece)
            self.rows += piece.shape[0]

    def peek(self, rows: int) -> list[Tensor]:
        """The first `rows` rows, or all if there are fewer, in pieces. They stay in the queue until dropped."""
        found: list[Tensor] = []
        for piece in self._pieces:
            if rows <= 0:
                break
            found.append(piece if piece.shape[0] <= rows else piece[:rows])
            rows -= piece.shape[0]
        return found

    def drop(self, rows: int) -> None:
        """Let go of the first `rows` rows, or of all if there are fewer."""
        while rows > 0 and self._pieces:
            piece = self._pieces.popleft()
            self.rows -= min(rows, piece.shape[0])
            if piece.shape[0] > rows:
                self._pieces.appendleft(piece[rows:])
            rows -= piece.shape[0]
