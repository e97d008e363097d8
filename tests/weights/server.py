"""Web servers of this machine that can fail in the ways that servers do.

One behaves like the Hugging Face hub: it says of a file which hash it has, and
sends those who want it to another server.
"""

import contextlib
import hashlib
import http.server
import re
import threading

COMMIT = "0123456789" * 4


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, and notes the `Range` of every request in `ranges`.

    Attributes:
        files: Dict from a path to its content.
        redirects: Dict from a path to the headers of an answer that sends
            somewhere else.
        tokens: The `Authorization` of every request.
        cuts: After how many bytes the next connections end, one each.
        with_ranges: Whether it understands `Range`.
        with_lengths: Whether it says how long a file is.
        status: Status of all answers that is not a success, or `None`.
        statuses: Those of the next answers, one each.
        failure: Headers of answers that are not a success.
        gate: `threading.Event` that answers wait for.
    """

    daemon_threads = True

    def __init__(self, handler=None):
        super().__init__(("127.0.0.1", 0), handler or _Handler)
        self.files, self.redirects, self.failure = {}, {}, {}
        self.cuts, self.ranges, self.tokens, self.statuses = [], [], [], []
        self.with_ranges = self.with_lengths = True
        self.status = None
        self.gate = threading.Event()
        self.gate.set()

    @property
    def root(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self):
        return f"{self.root}/weights"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        self.server.gate.wait()
        content = self._answer(wanted)
        if self.server.cuts:
            content = content[: self.server.cuts.pop(0)]
        self.wfile.write(content)

    def _answer(self, wanted=None):
        """Sends the headers; returns what has to follow."""
        server = self.server
        server.tokens.append(self.headers.get("Authorization"))
        content = server.files.get(self.path)
        status = server.statuses.pop(0) if server.statuses else server.status
        if not status and self.path in server.redirects:
            self._head(302, server.redirects[self.path])
            return b""
        if content is None or status:
            self._head(status or 404, server.failure)
            return b""
        start, headers = 0, {}
        if wanted and server.with_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                self._head(416, {})
                return b""
            end = f"{len(content) - 1}/{len(content)}"
            headers["Content-Range"] = f"bytes {start}-{end}"
        if server.with_lengths:
            headers["Content-Length"] = str(len(content) - start)
        self._head(206 if start else 200, headers)
        return content[start:]

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments):
        """Says nothing."""


@contextlib.contextmanager
def serving(kind=Server):
    """A `Server` that answers until the end of the context."""
    with kind() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def put_on_hub(hub, store, repository, content, commit=COMMIT):
    """Adds the file of a repository to a server that is like the hub.

    Args:
        hub: `Server` that is asked for the file.
        store: `Server` that it sends to.
        repository: Name of the repository.
        content: Content of its `model.safetensors`.
        commit: Commit that has it, now the newest.

    Returns:
        The headers of the hub's answers, to change.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    store.files[f"/{sha256}?signature=1"] = content
    headers = {
        "Location": f"{store.root}/{sha256}?signature=1",
        "X-Linked-ETag": f'"{sha256}"',
        "X-Linked-Size": str(len(content)),
        "X-Repo-Commit": commit,
        "Content-Length": "0",
    }
    for revision in ("main", commit):
        path = f"/{repository}/resolve/{revision}/model.safetensors"
        hub.redirects[path] = headers
    return headers
