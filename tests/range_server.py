"""An http server that gives parts of files, or fails to."""

import http.server
import re
import threading


class RangeServer:
    """Serves `data`, which may grow, by ranges; asked: (first byte, bytes) of each request."""

    def __init__(self, data=b"", ranges=True, status=None, shift=0):
        self.data, self.asked = data, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
                outer.asked.append((first, last + 1 - first))
                data = outer.data
                if status or not ranges or first >= len(data):
                    self.send_response(status or (416 if ranges else 200))
                    self.end_headers()
                    return
                body = data[first : last + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first + shift}-{first + len(body) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args): ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/a.scx?key=secret"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
