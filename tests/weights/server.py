"""A web server of this machine that can fail in the ways that servers do."""

import contextlib
import http.server
import re
import threading


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, and notes the `Range` of every request in `ranges`.

    Attributes:
        files: Dict from a path to its content.
        cuts: After how many bytes the next connections end, one each.
        with_ranges: Whether it understands `Range`.
        status: Status of all answers that is not a success, or `None`.
        gate: `threading.Event` that answers wait for.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cuts, self.ranges = {}, [], []
        self.with_ranges, self.status = True, None
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/weights"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        self.server.gate.wait()
        content = self.server.files.get(self.path)
        if content is None or self.server.status:
            self.send_error(self.server.status or 404)
            return
        start = 0
        if wanted and self.server.with_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            end = f"{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        else:
            self.send_response(200)
        content = content[start:]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.cuts:
            content = content[: self.server.cuts.pop(0)]
        self.wfile.write(content)

    def log_message(self, *arguments):
        """Says nothing."""


@contextlib.contextmanager
def serving():
    """A `Server` that answers until the end of the context."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
