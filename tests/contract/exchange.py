"""Sends the requests of the examples and of the relations between them, and keeps the answers."""

import http.client
import json
import re
import urllib.parse
from dataclasses import dataclass

import pattern

JSON = {"content-type": "application/json"}


def with_model(value, model):
    """`value` with the name of the served model in the place of the word MODEL."""
    if isinstance(value, str):
        return re.sub(r"\bMODEL\b", lambda _: model, value)
    if isinstance(value, list):
        return [with_model(one, model) for one in value]
    if isinstance(value, dict):
        return {key: with_model(one, model) for key, one in value.items()}
    return value


@dataclass
class Answer:
    """One whole answer; `headers` has names in lower case."""

    status: int
    headers: dict
    text: str

    @property
    def json(self):
        return pattern.parse_json(self.text)

    def records(self, kind, terminator=None):
        """The records of a stream, parsed."""
        asked = {"$stream": kind} | ({"terminator": terminator} if terminator else {})
        return pattern.stream_records(asked, self.text)

    def mismatches(self, response):
        """What of the `response` part of an example isn't so."""
        wrong = []
        if self.status != response["status"]:
            wrong.append(f"status {self.status} is not {response['status']}")
        wrong += pattern.match_headers(response["headers"], self.headers)
        if "body" in response:
            wrong += pattern.match_body(
                response["body"], self.text, self.headers.get("content-type", "")
            )
        return wrong


def envelope_mismatches(request, answer):
    """What is wrong with the headers that every answer has, whatever its example names."""
    wrong = pattern.match_headers(
        {
            "x-request-id": "<nonempty>",
            "pragma": "no-cache",
            "cache-control": "no-cache; no-store, must-revalidate, private",
            "expires": "Thu, 01 Jan 1970 00:00:00 UTC",
            "connection": "close" if answer.status >= 400 else "<nonempty>",
        },
        answer.headers,
    )
    chunked = answer.headers.get("transfer-encoding") == "chunked"
    length = answer.headers.get("content-length")
    if chunked == (length is not None):
        wrong.append("there should be either a content-length or chunks")
    if not chunked and length != str(len(answer.text.encode())):
        wrong.append(f"content-length {length} is not that of the body")
    managed = request["path"].startswith("/models?")
    generated = request["method"] == "POST" and answer.status == 200 and not managed
    if generated and answer.headers.get("requestid") != answer.headers["x-request-id"]:
        wrong.append("requestId is not x-request-id")
    return wrong


class Client:
    """Talks to one server, each request on a connection of its own."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url).netloc
        self.model = json.loads(self.get("/v1/models").text)["data"][0]["id"]

    def open(self, request, seconds=60):
        """Sends `request` and returns the connection, with the answer still to be read."""
        connection = http.client.HTTPConnection(self.address, timeout=seconds)
        body = request.get("body")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        connection.request(
            request["method"],
            with_model(request["path"], self.model),
            body=None if body is None else body.encode(),
            headers=request.get("headers", {}),
        )
        return connection

    def send(self, request):
        connection = self.open(request)
        try:
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read().decode())
        finally:
            connection.close()

    def get(self, path):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return Answer(answer.status, {}, answer.read().decode())
        finally:
            connection.close()

    def post(self, path, body):
        return self.send({"method": "POST", "path": path, "headers": JSON, "body": body})

    def gauge(self, name):
        """The value of a metric that has one line only."""
        found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(found[1])
