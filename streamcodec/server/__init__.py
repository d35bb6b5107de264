"""The live server: many sessions of the protocol of docs/protocol.md over one port. docs/server.md tells how to run it.

`app.Server` is the whole; `config.Config` are its options. The engine runs in a thread of its own (`engine_thread`),
all else in one event loop.
"""

from .config import Config

__all__ = ["Config"]
