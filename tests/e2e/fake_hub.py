"""A hub of the tests' own: serves folders as repositories, the way the Hugging Face hub does."""

import hashlib
import http.server
import json
import threading
import urllib.parse

COMMIT = hashlib.sha1(b"one commit").hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def blob_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class FakeHub:
    """Weights are large files: they are named by their SHA-256 and come from another place (/cdn)."""

    def __init__(self, repositories, token=None):
        self.repositories = repositories  # id -> {path: bytes}
        self.token = token
        self.cut_after = {}  # path -> bytes after which its next download breaks off, once
        self.lists_checksums = True
        self.spoiled = set()  # paths whose content arrives changed
        self.requests = []  # (method, path, Range, whether a token came)
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                hub.answer(self, True)

            def do_HEAD(self):
                hub.answer(self, False)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        # The content network is another host as clients see it: another port.
        self.cdn = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.cdn.daemon_threads = True
        self.cdn_url = f"http://127.0.0.1:{self.cdn.server_address[1]}"
        for one in (self.server, self.cdn):
            threading.Thread(target=one.serve_forever, daemon=True).start()

    def close(self):
        for one in (self.server, self.cdn):
            one.shutdown()
            one.server_close()

    def downloads(self):
        return [r for r in self.requests if r[0] == "GET" and not r[1].startswith("/api/")]

    def answer(self, request, with_body):
        path = urllib.parse.urlsplit(request.path).path
        has_token = "authorization" in request.headers
        self.requests.append((request.command, path, request.headers.get("range"), has_token))
        if path.startswith("/cdn/"):
            return self.send_file(request, path.removeprefix("/cdn/"), with_body)
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return self.send(request, 401, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self.send_listing(request, "/".join(parts[2:4]), parts[5], with_body)
        if len(parts) >= 5 and parts[2] == "resolve":
            return self.send_resolved(request, "/".join(parts[:2]), "/".join(parts[4:]), with_body)
        return self.send(request, 404, b"", {}, with_body)

    def send(self, request, status, body, headers, with_body):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if "Content-Length" not in headers:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if with_body:
            request.wfile.write(body)

    def send_listing(self, request, repository, revision, with_body):
        files = self.repositories.get(repository)
        if files is None or revision not in ("main", COMMIT):
            return self.send(request, 404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        siblings = []
        for path, content in files.items():
            entry = {"rfilename": path}
            if self.lists_checksums:
                entry.update(size=len(content), blobId=blob_id(content))
                if path.endswith(".safetensors"):
                    entry["lfs"] = {"sha256": sha256(content), "size": len(content)}
            siblings.append(entry)
        body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
        self.send(request, 200, body, {"Content-Type": "application/json"}, with_body)

    def send_resolved(self, request, repository, path, with_body):
        content = self.repositories.get(repository, {}).get(path)
        if content is None:
            return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
        if not path.endswith(".safetensors"):
            return self.send_file(request, f"{repository}/{path}", with_body)
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{sha256(content)}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.cdn_url}/cdn/{repository}/{path}",
        }
        self.send(request, 302, b"", headers, with_body)

    def send_file(self, request, name, with_body):
        organisation, repository, path = name.split("/", 2)
        content = self.repositories[f"{organisation}/{repository}"][path]
        etag = sha256(content) if path.endswith(".safetensors") else blob_id(content)
        if path in self.spoiled:
            content = bytes([content[0] ^ 1]) + content[1:]
        begin = 0
        if given := request.headers.get("range"):
            begin = int(given.removeprefix("bytes=").split("-")[0])
        body = content[begin:]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if with_body and path in self.cut_after:
            body = body[: self.cut_after.pop(path)]
            request.close_connection = True
        self.send(request, 206 if begin else 200, body, headers, with_body)
