"""What the GPU benchmarks share: Troupe's server and load client, the peer, notes."""

import glob
import json
import os
import pathlib
import random
import re
import select
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PROGRAMS = HERE  # What gather made.
OUT = pathlib.Path(os.environ.get("OUT", "/tmp/troupe-gpu/out"))
OUT.mkdir(parents=True, exist_ok=True)
BEGIN = time.perf_counter()
FLAGS = []  # Further flags of troupe serve.


def elapsed():
    return time.perf_counter() - BEGIN


def note(text):
    print(f"[{elapsed():6.1f} s] {text}", flush=True)


def system_libraries():
    """Where gather's packed libraries lie, unpacked once."""
    packed = PROGRAMS / "system.tar.xz"
    folder = pathlib.Path(f"/tmp/troupe-gpu/system-{packed.stat().st_mtime_ns}")
    if not folder.exists():
        aside = folder.with_suffix(f".{os.getpid()}")
        aside.mkdir(parents=True)
        with tarfile.open(packed) as archive:
            archive.extractall(aside, filter="data")
        aside.rename(folder)
    return folder


def environment():
    """Ours beside the system's own libraries; torch's Python keeps its own environment."""
    e = dict(os.environ)
    e["LD_LIBRARY_PATH"] = f"{system_libraries()}:{e.get('LD_LIBRARY_PATH', '')}"
    e["TROUPE_CUDA_LIBRARY"] = str(PROGRAMS / "lib/libtroupe_cuda.so")
    e["TROUPE_GOLDEN_DIR"] = str(PROGRAMS / "golden")
    if "TROUPE_CUBLASLT" not in e:
        for place in sys.path:
            found = sorted(glob.glob(f"{place}/nvidia/**/libcublasLt.so.13", recursive=True))
            if found:
                e["TROUPE_CUBLASLT"] = found[0]
                break
    return e


def poisson(rate, seconds, seed=1):
    """Seconds at which requests come."""
    generator = random.Random(seed)
    times, at = [], generator.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += generator.expovariate(rate)
    return times


def steady(server, batch, seconds=1.5, **options):
    """What the server says of itself while `batch` streams decode and nothing else happens."""
    done = {}
    loader = threading.Thread(target=lambda: done.update(server.load(streams=batch, **options)))
    loader.start()
    try:
        time.sleep(1.5)  # All first tokens are out, and what is to be recorded is.
        a = server.metrics()
        time.sleep(seconds)
        b = server.metrics()
    except OSError as reason:
        note(f"/metrics: {reason}")
        return {}
    finally:
        loader.join()
    change = {name: b[name] - a.get(name, 0) for name in b}
    steps = change.get("troupe_steps_total", 0)

    def mean(name):
        return change.get(name + "_sum", 0) / max(1, change.get(name + "_count", 0))

    return {"steps": steps, "busy": change.get("troupe_device_seconds_sum", 0) / change["wall"],
            "turnaround_us": mean("troupe_turnaround_seconds") * 1e6, "tick_us": mean("troupe_tick_seconds") * 1e6,
            "device_ms": mean("troupe_device_seconds") * 1e3,
            "decode_tokens_per_s": done.get("decode_tokens_per_s", 0),
            "cpu_us_per_token": done.get("cpu_us_per_token", 0), "threads": done.get("threads", {})}


def guarded(name, f, *arguments):
    """One part's failure must not lose the others'."""
    try:
        return f(*arguments)
    except Exception as reason:
        note(f"{name} failed: {type(reason).__name__}: {reason}")
        return None


class Peer:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, HERE / "peer.py"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=open(OUT / "peer.log", "a"), text=True)
        self.about = json.loads(self.process.stdout.readline() or "{}")
        if not self.about:
            sys.exit("the peer did not start; see peer.log")

    def __call__(self, do, within=150, **job):
        """The job's answer; {"error": ...} where it failed, took longer than `within` seconds, or ended the peer."""
        answer = {"error": "the peer has ended"}
        if self.process.poll() is None:
            self.process.stdin.write(json.dumps({"do": do, **job}) + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], within)[0]:
                answer = {"error": f"no answer within {within} s"}
                self.process.kill()
            elif line := self.process.stdout.readline():
                answer = json.loads(line)
        if "error" in answer:
            note(f"peer, {do}: {answer['error']}")
        return answer

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Troupe:
    def __init__(self, name, folder, *arguments):
        self.log = open(OUT / f"serve-{name}.log", "w")
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [PROGRAMS / "bin/troupe", "serve", str(folder), "--port", "0", "--served-model-name", "m",
             *map(str, arguments), *FLAGS],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
        self.port, self.seen = None, ""
        for line in self.process.stdout:
            self.seen += line
            self.log.write(line)
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        self.ready_s = time.perf_counter() - self.begin
        if self.port is None:
            note(f"troupe did not start:\n{self.seen[-1500:]}")
            return
        os.set_blocking(self.process.stdout.fileno(), False)

    def load(self, **options):
        command = [PROGRAMS / "bin/stream_client", "--port", str(self.port), "--model", "m", "--timeout", "120"]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        cpu, threads = self.cpu(), self.threads()
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=180)
        try:
            answer = json.loads(done.stdout)
        except json.JSONDecodeError:
            note(f"{' '.join(map(str, command))} failed: {done.stdout[-300:]}{done.stderr[-600:]}")
            return {}
        if answer["failed"]:
            note(f"{answer['failed']} of {answer['streams']} streams failed: {done.stderr[-400:]}")
        answer["cpu_us_per_token"] = (self.cpu() - cpu) / max(1, answer["tokens"]) * 1e6
        spent = {name: ticks - threads.get(name, 0) for name, ticks in self.threads().items()}
        answer["threads"] = {name: ticks for name, ticks in sorted(spent.items(), key=lambda x: -x[1])[:6] if ticks}
        return answer

    def metrics(self):
        """Sums and counts of /metrics by name, and `wall`, the second at which they were read."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = {"wall": time.perf_counter()}
        for name, value in re.findall(r'^(troupe_\w+)(?:\{[^}]*\})? ([-+.\deE]+)$', text, re.M):
            if not name.endswith("_bucket"):
                found[name] = found.get(name, 0) + float(value)
        return found

    def ask(self, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads(self):
        """Ticks of 10 ms that each thread has run."""
        result = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                name, fields = (task / "stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
            except OSError:
                continue
            fields = fields.split()
            result[f"{name} {task.name}"] = int(fields[11]) + int(fields[12])
        return result

    def memory_of_gpu(self):
        text = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                              capture_output=True, text=True).stdout
        return text.split()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                note("troupe did not end within 40 s of SIGTERM")
                self.process.kill()
        try:
            self.log.write(self.process.stdout.read() or "")
        except (TypeError, ValueError):
            pass
        self.log.close()
