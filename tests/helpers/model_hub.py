"""A stand-in for a model hub: as much of huggingface.co's interface as loading and pushing use.

It listens on this machine's loopback address and keeps what it is given in memory.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "x" * 30
MOST = 2**26


class Hub:
    """What the server has.

    Attributes:
        files: of each repository, by their paths.
        private: the repositories that only `TOKEN` may see.
        asked: each request, method and path.
        sizes: what to announce for a file instead of its size.
        answer: a status to answer everything with.
    """

    def __init__(self):
        self.files = {}
        self.private = set()
        self.asked = []
        self.sizes = {}
        self.answer = None
        self.address = ""

    def commit(self, name):
        text = json.dumps({path: len(body) for path, body in sorted(self.files[name].items())})
        return hashlib.sha1(text.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def _send(self, status, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _may(self, name, write):
        """Answer who may not, as the real one does: what nobody may know of is not there."""
        has_token = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if has_token or not (write or name in self.hub.private):
            return True
        self._send(401, {"error": "Invalid username or password."})
        return False

    def _begin(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MOST))
        if self.hub.answer is not None:
            self._send(self.hub.answer, {"error": "no"})
            return None, body
        return path, body

    def do_GET(self):
        path, _ = self._begin()
        if path is None:
            return
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._facts(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups())
        else:
            self._send(404, {"error": "not found"}, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815 - what http.server calls

    def _known(self, name, revision):
        if name not in self.hub.files:
            self._send(401, {"error": "Invalid username or password."}, X_Error_Code="RepoNotFound")
        elif self._may(name, write=False):
            if revision in (None, "main", self.hub.commit(name)):
                return True
            self._send(404, {"error": "no revision"}, X_Error_Code="RevisionNotFound")
        return False

    def _facts(self, name, revision):
        if self._known(name, revision):
            siblings = [
                {"rfilename": path, "size": self.hub.sizes.get(path, len(body))}
                for path, body in self.hub.files[name].items()
            ]
            self._send(200, {"id": name, "sha": self.hub.commit(name), "siblings": siblings})

    def _file(self, name, revision, path):
        if not self._known(name, revision):
            return
        body = self.hub.files[name].get(path)
        if body is None:
            self._send(404, {"error": "no entry"}, X_Error_Code="EntryNotFound")
            return
        self._send(
            200,
            body,
            ETag=f'"{hashlib.sha1(body).hexdigest()}"',
            X_Repo_Commit=self.hub.commit(name),
        )

    def do_POST(self):
        path, body = self._begin()
        if path is None:
            return
        if path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            facts = json.loads(body)
            owner = facts.get("organization") or "me"
            name = f"{owner}/{facts['name'].rpartition('/')[2]}"
            if self._may(name, write=True):
                self.hub.files.setdefault(name, {})
                if facts.get("private") or facts.get("visibility") == "private":
                    self.hub.private.add(name)
                self._send(200, {"url": f"{self.hub.address}/{name}", "name": name})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path):
            name, what = found.groups()
            if self._may(name, write=True):
                (self._preupload if what == "preupload" else self._commit)(name, body)
        else:
            self._send(404, {"error": f"not found: {path}"})

    def _preupload(self, name, body):
        files = [
            {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
            for one in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def _commit(self, name, body):
        for line in body.splitlines():
            row = json.loads(line)
            if row["key"] == "file":
                content = base64.b64decode(row["value"]["content"])
                self.hub.files[name][row["value"]["path"]] = content
        address = f"{self.hub.address}/{name}/commit/{self.hub.commit(name)}"
        self._send(200, {"success": True, "commitUrl": address, "commitOid": self.hub.commit(name)})


@contextlib.contextmanager
def model_hub():
    """Serve a hub; yield it."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
