"""The live server: many sessions of the protocol of docs/protocol.md over one port. docs/server.md tells how to run it.

`app.Server` is the whole; `config.Config` are its options. Engines run in processes of their own (`engine_process`);
all else is one event loop.
"""

from .config import Config

__all__ = ["Config"]
