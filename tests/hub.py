"""A stand-in of the Hugging Face hub, as far as models are shared by it.

It has what `huggingface_hub` asks for to read and write a repository of models,
and keeps everything in memory.
"""

import base64
import collections
import contextlib
import hashlib
import http.server
import json
import re

import pytest

from tests.weights.server import Server, serving

#: What the hub keeps apart from the repositories, as it does with large files.
_LARGE = (".h5", ".keras", ".safetensors")

TOKEN = "hf_secret"


class Hub(Server):
    """Serves and takes repositories.

    Attributes:
        repositories: Maps the name of each to a dict from paths to contents.
        commits: Maps it to the number of its commits.
        objects: Maps hashes to the contents of large files.
        gated: Names of those that need the token to be read.
    """

    def __init__(self):
        super().__init__(_Handler)
        self.repositories = collections.defaultdict(dict)
        self.commits = collections.Counter()
        self.objects, self.gated = {}, set()

    def commit(self, name):
        """Hash of the newest commit of a repository."""
        return hashlib.sha1(f"{name} {self.commits[name]}".encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._get()

    def do_GET(self):
        self.wfile.write(self._get())

    def do_PUT(self):
        content = self._body()
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.objects[oid] = content
        self._send(200, b"")

    def do_POST(self):
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.wfile.write(self._refuse(401, "Invalid username or password."))
            return
        for pattern, answer in _POSTS.items():
            if match := re.fullmatch(pattern, self.path):
                self.wfile.write(
                    self._json(answer(self, body, *match.groups()))
                )
                return
        self.send_error(404)

    def _get(self):
        server = self.server
        if match := re.fullmatch(r"/large/(\w+)", self.path):
            return self._send(200, server.objects[match[1]])
        for pattern, answer in _GETS.items():
            if match := re.fullmatch(pattern, self.path):
                name = match[1]
                allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                if name in server.gated and not allowed:
                    return self._refuse(
                        403, "Access is restricted", "GatedRepo"
                    )
                if name in server.repositories:
                    return answer(self, *match.groups())
        return self._refuse(404, "Repository not found", "RepoNotFound")

    def _create(self, body):
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        self.server.repositories[name].setdefault(".gitattributes", b"")
        return {"url": f"{self.server.root}/{name}"}

    def _validate(self, body):
        return {"errors": [], "warnings": []}

    def _modes(self, body, name):
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs"
                    if file["path"].endswith(_LARGE)
                    else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
        }

    def _batch(self, body, name):
        upload = f"{self.server.root}/large"
        return {
            "transfer": "basic",
            "objects": [
                wanted
                | {"actions": {"upload": {"href": f"{upload}/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ],
        }

    def _commit(self, body, name):
        files = self.server.repositories[name]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        self.server.commits[name] += 1
        commit = self.server.commit(name)
        url = f"{self.server.root}/{name}/commit/{commit}"
        return {"commitOid": commit, "commitUrl": url, "success": True}

    def _about(self, name, revision):
        sha = self.server.commit(name)
        return self._json({"id": name, "modelId": name, "sha": sha})

    def _tree(self, name, revision):
        return self._json(
            [
                {
                    "type": "file",
                    "path": path,
                    "size": len(content),
                    "oid": hashlib.sha1(content).hexdigest(),
                }
                | _large(path, content)
                for path, content in self.server.repositories[name].items()
            ]
        )

    def _file(self, name, revision, path):
        content = self.server.repositories[name].get(path)
        if content is None:
            return self._refuse(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": self.server.commit(name)}
        if not (large := _large(path, content)):
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self._send(200, content, ETag=etag, **headers)
        oid = large["lfs"]["oid"]
        self.server.objects[oid] = content
        headers |= {
            # By another name of this machine: another server, for clients.
            "Location": f"{self.server.root}/large/{oid}".replace(
                "127.0.0.1", "localhost"
            ),
            "X-Linked-ETag": f'"{oid}"',
            "X-Linked-Size": str(len(content)),
        }
        return self._send(302, b"", **headers)

    def _body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _json(self, content):
        kind = {"Content-Type": "application/json"}
        return self._send(200, json.dumps(content).encode(), **kind)

    def _refuse(self, status, message, code=""):
        headers = {"X-Error-Message": message, "X-Error-Code": code}
        return self._send(status, b"", **headers)

    def _send(self, status, content, **headers):
        """Sends the headers; returns what has to follow."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *arguments):
        """Says nothing."""


_NAME = r"([\w-]+/[\w.-]+)"
_POSTS = {
    "/api/repos/create": _Handler._create,
    "/api/validate-yaml": _Handler._validate,
    f"/api/models/{_NAME}/preupload/main": _Handler._modes,
    f"/{_NAME}.git/info/lfs/objects/batch": _Handler._batch,
    f"/api/models/{_NAME}/commit/main": _Handler._commit,
}
_GETS = {
    rf"/api/models/{_NAME}/revision/(\w+)": _Handler._about,
    rf"/api/models/{_NAME}/tree/(\w+)(?:\?.*)?": _Handler._tree,
    rf"/{_NAME}/resolve/(\w+)/(.+)": _Handler._file,
}


def _large(path, content):
    if not path.endswith(_LARGE):
        return {}
    sha256 = hashlib.sha256(content).hexdigest()
    return {"lfs": {"oid": sha256, "size": len(content), "pointerSize": 130}}


@contextlib.contextmanager
def sharing(folder):
    """A `Hub` that `huggingface_hub` takes for the one, with an empty cache.

    That package reads the environment when it is imported, so that nothing but
    its own constants can be changed afterwards.

    Args:
        folder: `pathlib.Path` of the cache.
    """
    theirs = pytest.importorskip(
        "huggingface_hub.constants", reason="pip install 'aw-keras[hub]'"
    )
    with serving(Hub) as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.root)
        patch.setenv("HF_HUB_CACHE", str(folder))
        patch.setenv("HF_TOKEN", TOKEN)
        for name, value in {
            "ENDPOINT": hub.root,
            "HUGGINGFACE_CO_URL_TEMPLATE": (
                f"{hub.root}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            ),
            "HF_HUB_CACHE": str(folder),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            patch.setattr(theirs, name, value)
        yield hub
