"""A model hub of our own on localhost: the few routes that huggingface_hub asks for when it downloads a file."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

__all__ = ["Hub", "serve"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# The codes by which the real hub tells its refusals apart (huggingface_hub.utils.hf_raise_for_status).
REFUSALS = {"gated": (403, "GatedRepo"), "private": (401, "RepoNotFound"), "missing": (404, "RepoNotFound")}


class Hub(NamedTuple):
    """A running hub: its address, and the (method, path) of every request so far."""

    endpoint: str
    requests: list[tuple[str, str]]


@contextmanager
def serve(repositories: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """Serve `repositories`: "owner/name" to its files at revision main; owners in REFUSALS are refused so."""
    requests: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            requests.append((self.command, self.path))
            owner, name, _, revision, filename = (*self.path.lstrip("/").split("/", 4), *[""] * 5)[:5]
            files = repositories.get(f"{owner}/{name}")
            if owner in REFUSALS:
                self.refuse(*REFUSALS[owner])
            elif files is None:
                self.refuse(*REFUSALS["missing"])
            elif revision not in ("main", COMMIT):
                self.refuse(404, "RevisionNotFound")
            elif filename not in files:
                self.refuse(404, "EntryNotFound")
            else:
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(files[filename]).hexdigest()}"')
                self.send_header("Content-Length", str(len(files[filename])))
                self.end_headers()
                if body:
                    self.wfile.write(files[filename])

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            if code == "EntryNotFound":
                self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_address[1]}", requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
