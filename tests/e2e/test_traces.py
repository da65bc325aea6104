"""Traces of the real binary, as a collector of OpenTelemetry sees them."""

import concurrent.futures
import http.server
import json
import threading
import time
import urllib.request

import pytest

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector():
    """Keeps what it is sent; answers with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.server.seen.append((self.path, self.headers["content-type"], json.loads(body)))
            self.send_response(self.server.status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.seen, made.status = [], 200
    made.url = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def spans(collector, count, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = [
            span
            for path, kind, body in list(collector.seen)
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
            if path == "/v1/traces" and kind == "application/json"
        ]
        if len(found) >= count:
            return found
        time.sleep(0.05)
    pytest.fail(f"only {len(found)} spans came: {found}")


def post(server, path, body, **headers):
    ask = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"content-type": "application/json", **headers}
    )
    with urllib.request.urlopen(ask, timeout=60) as answer:
        return json.loads(answer.read())


def attributes(span):
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_a_request_is_a_span_below_its_caller_s(start, collector):
    server = start("--dummy-model", env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    begin = time.time_ns()
    answer = post(
        server,
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "temperature": 0},
        traceparent=f"00-{TRACE}-{SPAN}-01",
        **{"x-request-id": "mine"},
    )
    root, *children = spans(collector, 4)
    assert (root["traceId"], root["parentSpanId"]) == (TRACE, SPAN)
    assert root["name"] == "chat dummy" and root["kind"] == 2
    said = attributes(root)
    assert said["troupe.request.id"] == "mine"
    assert said["gen_ai.operation.name"] == "chat" and said["gen_ai.request.model"] == "dummy"
    assert int(said["gen_ai.usage.input_tokens"]) == answer["usage"]["prompt_tokens"]
    assert int(said["gen_ai.usage.output_tokens"]) == answer["usage"]["completion_tokens"]
    assert [child["name"] for child in children] == ["queue", "prefill", "decode"]
    times = [int(root["startTimeUnixNano"])]
    for child in children:
        assert (child["traceId"], child["parentSpanId"]) == (TRACE, root["spanId"])
        times += [int(child["startTimeUnixNano"]), int(child["endTimeUnixNano"])]
    times.append(int(root["endTimeUnixNano"]))
    # Spans are dated by a clock of their own, so neighbours agree only to the microsecond or so.
    assert all(later - earlier > -50_000 for earlier, later in zip(times, times[1:]))
    assert begin - 1_000_000_000 < times[0] <= times[-1] < time.time_ns() + 1_000_000_000


def test_waiting_for_a_slot_is_told_apart_from_the_work(start, collector):
    server = start("--dummy-model", "--max-rolling-batch-size", "1", "--otlp-endpoint", collector.url)
    ask = {"inputs": "Hi", "parameters": {"max_new_tokens": 4000, "ignore_eos": True}}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: post(server, "/invocations", ask), range(6)))
    found = spans(collector, 24)

    def length(span):
        return int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])

    waits = sorted(length(span) for span in found if span["name"] == "queue")
    work = [length(span) for span in found if span["name"] == "decode"]
    # The last of them waited for all the others.
    assert waits[-1] > sum(sorted(work)[:4]) and waits[0] < min(work)


def test_who_is_not_sampled_is_not_traced(start, collector):
    server = start("--dummy-model", "--otlp-endpoint", collector.url + "/v1/traces")
    ask = {"inputs": "Hi", "parameters": {"max_new_tokens": 2}}
    post(server, "/invocations", ask, traceparent=f"00-{TRACE}-{SPAN}-00")
    post(server, "/invocations", ask, **{"x-request-id": "traced"})
    # What was not sent yet leaves when the server stops.
    assert server.stop() == 0
    found = [span for span in spans(collector, 4) if "attributes" in span]
    assert [attributes(span)["troupe.request.id"] for span in found] == ["traced"]
    assert found[0]["name"] == "text_completion dummy" and "parentSpanId" not in found[0]


def test_a_collector_that_fails_costs_traces_only(start, collector):
    collector.status = 503
    server = start("--dummy-model", "--otlp-endpoint", collector.url)
    for _ in range(3):
        post(server, "/invocations", {"inputs": "Hi", "parameters": {"max_new_tokens": 2}})
    end = time.monotonic() + 15
    while time.monotonic() < end:
        with urllib.request.urlopen(server.url + "/metrics") as page:
            lost = [x for x in page.read().decode().splitlines() if x.startswith("troupe_traces_dropped_total")]
        if lost and float(lost[0].split()[1]) == 3:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"three traces should count as dropped: {lost}")
    assert "traces cannot be sent" in server.output()


def test_an_endpoint_that_is_no_url_is_refused():
    from conftest import BINARY
    import subprocess

    done = subprocess.run(
        [BINARY, "serve", "--dummy-model", "--port", "0", "--otlp-endpoint", "localhost:4318"],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1 and b"http://HOST:PORT" in done.stderr
