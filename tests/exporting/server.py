"""Serves a SavedModel as TensorFlow Serving's REST interface does.

    python -I server.py NAME SAVED_MODEL

Prints its port, then answers `GET /v1/models/NAME/metadata` and
`POST /v1/models/NAME:predict` on the loopback, each in a thread of its own,
with nothing but TensorFlow: this library and Keras are blocked.
"""

import http.server
import json
import sys

if __name__ == "__main__":
    # `None` in the place of a module makes its import fail.
    sys.modules.update(dict.fromkeys(("aw_keras", "keras", "tf_keras")))

import tensorflow as tf  # noqa: E402


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        file = self.server.model.metadata.asset_path
        metadata = json.loads(tf.io.read_file(file).numpy())
        self._answer("/metadata", lambda: metadata)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(":predict", lambda: self._predict(json.loads(body)))

    def _predict(self, request):
        signature = self.server.model.signatures["serving_default"]
        ((name, spec),) = signature.structured_input_signature[1].items()
        instances = tf.constant(request["instances"], spec.dtype)
        (outputs,) = signature(**{name: instances}).values()
        return {"predictions": outputs.numpy().tolist()}

    def _answer(self, suffix, respond):
        status, content = 404, {"error": f"Unknown path: {self.path}"}
        if self.path == f"/v1/models/{self.server.name}{suffix}":
            try:
                status, content = 200, respond()
            except Exception as error:
                status, content = 400, {"error": str(error)}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.name, path = sys.argv[1:]
    server.model = tf.saved_model.load(path)
    print(server.server_port, flush=True)
    server.serve_forever()
