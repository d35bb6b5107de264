"""The server's tests need the extra `server`."""
