"""What came and was not yet taken: a bounded queue between the connection and whoever iterates."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """most: items; `put` waits where there are more. Of one event loop."""

    def __init__(self, most: int) -> None:
        self._items: deque[T] = deque()
        self._most = most
        self._discards = self._closed = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T) -> None:
        while len(self._items) >= self._most and not (self._closed or self._discards):
            await self._change()
        if not (self._closed or self._discards):
            self._items.append(item)
            self._changed.set()

    async def get(self) -> T:
        """The oldest. After the end: raises what it was closed with, or StopAsyncIteration."""
        while not self._items:
            if self._closed:
                raise self._error or StopAsyncIteration
            await self._change()
        item = self._items.popleft()
        self._changed.set()
        return item

    def discard(self) -> None:
        """Nobody will take anything any more: what comes is dropped, so that `put` does not wait."""
        self._items.clear()
        self._discards = True
        self._changed.set()

    def close(self, error: BaseException | None) -> None:
        """Nothing more comes. What is there can still be taken."""
        if not self._closed:
            self._closed, self._error = True, error
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
