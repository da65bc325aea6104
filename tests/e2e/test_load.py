"""troupe-load against the real server, and what its command line promises."""

import csv
import http.server
import json
import pathlib
import re
import signal
import subprocess
import threading
import time

import pytest

from conftest import BINARY, MODEL

LOAD = BINARY.parent / "troupe-load"
QUICK = "ttft=2ms,itl=500us"


def load(*arguments, code=0, **keywords):
    done = subprocess.run(
        [str(LOAD), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        **keywords,
    )
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def report_of(*arguments, code=0):
    return json.loads(load(*arguments, "--json", "-", "--quiet", code=code).stdout)


@pytest.fixture(scope="module")
def dummy():
    from conftest import Server

    running = Server("--dummy-model")
    yield running.url
    assert running.stop() == 0, running.output()


@pytest.mark.parametrize("dialect", ["openai-chat", "openai", "lmi"])
@pytest.mark.parametrize("more", [(), ("--no-stream",)])
def test_each_dialect_of_the_real_server(dummy, dialect, more):
    report = report_of(
        dummy, "--dialect", dialect, *more,
        "--users", 4, "--requests", 40, "--input-tokens", 90, "--output-tokens", 12,
    )
    assert report["requests"]["completed"] == 40
    assert sum(report["errors"].values()) == 0
    assert report["output_tokens"] == 40 * 12
    assert report["prompt_tokens"] == 40 * 90
    assert report["ttft_ms"]["count"] == (0 if more else 40)
    assert report["e2e_ms"]["count"] == 40


def test_lmi_as_events(dummy):
    report = report_of(
        dummy, "--dialect", "lmi", "--lmi-format", "sse", "--requests", 10, "--output-tokens", 6
    )
    assert report["itl_ms"]["count"] == 10 * 5


def test_the_default_model(server):
    report = report_of(
        server.url, "--users", 2, "--requests", 4, "--input-tokens", 60, "--output-tokens", 8,
        "--tokenizer", MODEL,
    )
    assert report["requests"]["completed"] == 4
    # The server counts the tokens of the rendered chat, and finds as many as were asked for.
    assert report["prompt_tokens"] == 4 * 60
    assert report["output_tokens"] == 4 * 8
    assert 0 < report["ttft_ms"]["p50"] <= report["e2e_ms"]["p50"]


def test_conversations_carry_their_history(server):
    report = report_of(
        server.url, "--users", 1, "--requests", 3, "--turns", 3, "--input-tokens", 50,
        "--output-tokens", 5,
    )
    assert report["requests"]["completed"] == 3
    assert report["prompt_tokens"] > 3 * 50 + 3 * 5


def test_an_open_loop_keeps_its_rate(dummy):
    report = report_of(
        dummy, "--rate", 200, "--arrivals", "constant", "--duration", "1s", "--output-tokens", 4
    )
    assert report["requests"]["measured"] == 200
    assert report["load"] == "open loop, constant, 200 requests/s"


def test_a_trace_is_replayed(dummy, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,64,3\n0.05,80,5\n0.1,96,7\n")
    report = report_of(dummy, "--trace", trace)
    assert report["requests"]["completed"] == 3
    assert report["prompt_tokens"] == 64 + 80 + 96
    assert report["output_tokens"] == 3 + 5 + 7


def test_tls_and_unix_socket(start, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )
    secure = start(
        "--dummy-model", "-o", "inference_address=https://127.0.0.1:0",
        "-o", f"certificate_file={certificate}", "-o", f"private_key_file={key}", wait=False,
    )
    end = time.monotonic() + 60
    while not (found := re.search(r"https://127\.0\.0\.1:[1-9]\d*", secure.output())):
        assert time.monotonic() < end and secure.process.poll() is None, secure.output()
        time.sleep(0.02)
    url = found.group(0)
    for trust in [("--insecure",), ("--ca-file", certificate)]:
        report = report_of(url, *trust, "--requests", 20, "--output-tokens", 5)
        assert report["requests"]["completed"] == 20
    refused = load(url, "--requests", 2, "--json", "-", "--quiet", code=1)
    assert "certificate" in refused.stdout and "--insecure" in refused.stdout

    path = tmp_path / "socket"
    local = subprocess.Popen(
        [str(BINARY), "serve", "--dummy-model", "-o", f"inference_address=unix:{path}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < end and local.poll() is None
            time.sleep(0.02)
        report = report_of(f"unix:{path}", "--requests", 20, "--output-tokens", 5)
        assert report["requests"]["completed"] == 20
    finally:
        local.terminate()
        local.wait(40)


def test_key_and_headers_are_sent_and_not_shown(tmp_path):
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            seen.append(dict(self.headers))
            self.rfile.read(int(self.headers["content-length"]))
            body = b'[{"label": "A", "score": 1.0}]'
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = load(
            f"http://127.0.0.1:{server.server_port}", "--dialect", "task", "--requests", 5,
            "--api-key", "secret-1", "--header", "X-Team: blue", "--json", "-", "--quiet",
        )
    finally:
        server.shutdown()
        server.server_close()
    posts = [h for h in seen if "Authorization" in h]
    assert len(posts) >= 5
    assert all(h["Authorization"] == "Bearer secret-1" and h["X-Team"] == "blue" for h in posts)
    assert "secret-1" not in done.stdout + done.stderr


@pytest.mark.parametrize("behaviour", ["cancel:3", "half-close:2", "slow-reader:2000", "storm:200"])
def test_behaviours_leave_the_server_alive_and_idle(dummy, behaviour):
    done = load(
        dummy, "--behaviour", behaviour, "--duration", "1s", "--output-tokens", 40, "--timeout", "20s",
        *([] if behaviour.startswith("storm") else ["--users", 8]),
    )
    assert f"behaviour {behaviour}: " in done.stdout
    assert re.search(r"the server .* after answers within", done.stdout)
    assert "shows nothing running" in done.stdout


@pytest.mark.parametrize(
    "arguments, names",
    [
        (["--bogus"], ["--bogus"]),
        ([], ["URL"]),
        (["ftp://h"], ["ftp://h", "http://HOST:PORT"]),
        (["--mock", "--users", "0"], ["--users", '"0"', "1 to 1000000"]),
        (["--mock", "--rate", "x"], ["--rate", '"x"']),
        (["--mock", "--dialect", "soap"], ["--dialect", '"soap"', "openai-chat, openai, lmi"]),
        (["--mock", "--arrivals", "odd"], ["--arrivals", '"odd"', "poisson"]),
        (["--mock", "--arrivals", "constant"], ["--arrivals", "--rate"]),
        (["--mock", "--rate", "5", "--ramp-up", "1s"], ["--ramp-up", "--rate"]),
        (["--mock", "--duration", "5 parsecs"], ["--duration", "5 parsecs", "ms"]),
        (["--mock", "--output-tokens", "many"], ["--output-tokens", '"many"', "uniform:LOW:HIGH"]),
        (["--mock", "--input-tokens", "0"], ["--input-tokens 0", "next number that works"]),
        (["--mock", "--slo", "ttft=1"], ["--slo", "ttft"]),
        (["--mock", "--users", "1", "--rate", "2"], ["--users", "--rate"]),
        (["--mock", "--search"], ["--search", "--slo"]),
        (["--mock", "--search", "9:1", "--slo", "ttft_p99=1s"], ["--search", '"9:1"', "LOW:HIGH"]),
        (["--mock", "--behaviour", "shout"], ["--behaviour", '"shout"', "cancel:K"]),
        (["--mock", "--prompts", "/nowhere"], ["--prompts", "/nowhere"]),
        (["--mock", "--trace", "/nowhere"], ["--trace", "/nowhere"]),
        (["--mock", "--tokenizer", "/nowhere"], ["--tokenizer", "/nowhere"]),
        (["--mock", "--extra-body", "[1]"], ["--extra-body", "[1]"]),
        (["--mock", "ttft=fast"], ["ttft=fast", "TIME"]),
        (["--mock", "--header", "nocolon"], ["--header", "nocolon"]),
        (["mock", "x=1"], ["x=1"]),
        (["compare", "/nowhere", "/nowhere"], ["/nowhere"]),
    ],
)
def test_a_wrong_flag_names_itself_the_value_and_what_is_allowed(arguments, names):
    done = load(*arguments, code=2)
    for name in names:
        assert name in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_teaches():
    text = load("--help").stdout
    for word in ["--users", "--slo", "Examples:", "Exit codes:", "compare", "mock"]:
        assert word in text


def test_exit_code_1_for_what_went_wrong():
    common = ["--users", 4, "--requests", 20, "--output-tokens", 3]
    load("--mock", QUICK, *common, "--slo", "e2e_p50=10s")
    missed = load("--mock", QUICK, *common, "--slo", "e2e_p50=1us", code=1)
    assert "MISSED" in missed.stdout
    failed = load("--mock", QUICK + ",errors=1:500", *common, code=1)
    assert "an error that was ordered" in failed.stdout
    gone = load("http://127.0.0.1:1", code=1)
    assert "cannot connect to 127.0.0.1:1: Connection refused" in gone.stderr


def test_interrupted_runs_still_report(tmp_path):
    out = tmp_path / "out.json"
    process = subprocess.Popen(
        [str(LOAD), "--mock", QUICK, "--users", "4", "--duration", "100s", "--json", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    assert "interrupted" in stderr
    report = json.loads(out.read_text())
    assert report["requests"]["completed"] > 10
    assert report["measured_s"] < 10


def test_reports(tmp_path):
    files = {k: tmp_path / f"report.{k}" for k in ["json", "csv", "html"]}
    each = tmp_path / "requests.csv"
    load(
        "--mock", QUICK, "--sweep-users", "1,4", "--repeats", 2, "--requests", 20, "--output-tokens", 4,
        "--slo", "ttft_p99=5s", "--requests-csv", each,
        *[word for k, f in files.items() for word in (f"--{k}", f)],
    )
    report = json.loads(files["json"].read_text())
    assert report["kind"] == "sweep" and len(report["points"]) == 2
    assert [p["users"] for p in report["points"]] == [1, 4]
    assert len(report["points"][0]["repeats"]) == 2
    assert len(list(csv.DictReader(files["csv"].open()))) == 2
    rows = list(csv.DictReader(each.open()))
    assert len(rows) == 2 * 2 * 20
    assert {r["outcome"] for r in rows} == {"ok"}
    html = files["html"].read_text()
    assert "<svg" in html
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)


def test_the_same_seed_sends_the_same_load(tmp_path):
    lengths = []
    for seed in [5, 5, 6]:
        each = tmp_path / "each.csv"
        load("--mock", QUICK, "--rate", 100, "--requests", 30, "--seed", seed, "--quiet",
             "--input-tokens", "uniform:20:200", "--output-tokens", "uniform:1:9",
             "--requests-csv", each)
        lengths.append([(r["scheduled_ms"], r["prompt_tokens"], r["output_tokens"])
                        for r in csv.DictReader(each.open())])
    assert lengths[0] == lengths[1] != lengths[2]


def test_search_finds_a_rate_and_compare_tells_servers_apart(tmp_path):
    # Beside so long a wait a busy machine's lateness is no reason to distrust the run.
    report = report_of(
        "--mock", "ttft=1s,itl=1ms", "--search", "50:200", "--slo", "e2e_p99=5s", "--duration", "300ms",
        "--output-tokens", 3,
    )
    assert report["search"]["highest"] == 200
    assert [p["rate"] for p in report["points"]] == [50, 100, 200]
    files = []
    for itl in ["1ms", "3ms", "3ms"]:
        files.append(tmp_path / f"{len(files)}.json")
        load("--mock", f"ttft=2ms,itl={itl}", "--users", 4, "--requests", 60, "--output-tokens", 8,
             "--repeats", 3, "--quiet", "--json", files[-1])
    different = load("compare", files[0], files[1]).stdout
    assert re.search(r"itl_ms\.p50.*", different), different
    assert "real" in different


def test_mock_serves_by_itself():
    process = subprocess.Popen(
        [str(LOAD), "mock", QUICK, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        url = re.search(r"http://\S+?:\d+", process.stdout.readline()).group(0)
        report = report_of(url, "--dialect", "tgi", "--requests", 10, "--output-tokens", 5)
        assert report["requests"]["completed"] == 10
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
