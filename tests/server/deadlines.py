"""`asyncio.timeout`, which came with Python 3.11; before it the package async-timeout has the same."""

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

__all__ = ["timeout"]
