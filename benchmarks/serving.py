"""Times the service and throws nonsense at it: `python benchmarks/serving.py --json=FILE`.

For each catalogue of --shapes, random vectors, it starts experiments/serve.py in a process of its own and asks it over loopback
from this one, for --seconds each: requests a second and milliseconds of the median and of one in a hundred, with one client and
with four, for a user's list, a basket's, similar items, explained and diverse lists. At the first shape --malformed
requests that make no sense follow, none of which may bring a status of 500 or more; then kill -9 while it is asked, and
the same answers from a service started again.
"""

import contextlib
import http.client
import json
import os
import random
import re
import signal
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from absl import flags

from sea_jax import cli, files
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender

ROOT = Path(__file__).parent.parent
SHAPES = {"tiktok": (9_308, 6_710, 128), "million": (10_000, 1_000_000, 128)}  # users, items, columns
SEEN = 7  # items a user
JSON = {"content-type": "application/json"}
Request = tuple[str, str, str | bytes | None, dict]  # method, address, body, headers


def recommender(users: int, items: int, columns: int, seed: int = 0) -> Recommender:
    """Random vectors; each user has seen SEEN items."""
    rng = np.random.default_rng(seed)
    pairs = np.stack([np.repeat(np.arange(users), SEEN), rng.integers(0, items, users * SEEN)], axis=1)
    vectors = (rng.normal(size=(count, columns)).astype(np.float32) for count in (users, items))
    return Recommender.from_vectors(*vectors, pairs)


class Service:
    """A service in a process of its own, on a port that is free."""

    def __init__(self, path: Path):
        began = time.perf_counter()
        program = [sys.executable, "experiments/serve.py", f"--recommender={path}", "--port=0"]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.process.stdout.readline())
        if found is None:
            raise SeaError("the service did not start; run experiments/serve.py by hand to see why.")
        self.port = int(found[1])
        self.answer("GET", "/recommend?user=0")
        self.first_answer_s = round(time.perf_counter() - began, 2)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def answer(self, *request) -> tuple[int, bytes]:
        """Status and body, over a connection of its own."""
        with contextlib.closing(self.connection()) as opened:
            return ask(opened, *request)

    def resident_mb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024

    def end(self, how: signal.Signals) -> int:
        """Sends the signal; the exit code."""
        self.process.send_signal(how)
        self.process.stdout.close()
        return self.process.wait(timeout=60)


def ask(opened: http.client.HTTPConnection, method: str, address: str, body=None, headers=None) -> tuple[int, bytes]:
    opened.request(method, address, body, headers or {})
    answer = opened.getresponse()
    return answer.status, answer.read()


def asked_for(kind: str, users: int, items: int, draw: random.Random) -> Request:
    """A request that makes sense."""
    user, basket = draw.randrange(users), [draw.randrange(items) for _ in range(5)]
    return {
        "user": ("GET", f"/recommend?user={user}&k=20", None, {}),
        "basket": ("POST", "/recommend", json.dumps({"items": basket, "k": 20}), JSON),
        "similar": ("GET", f"/similar?item={basket[0]}&k=20", None, {}),
        "explained": ("GET", f"/recommend?user={user}&k=20&explain=true", None, {}),
        "diverse": ("GET", f"/recommend?user={user}&k=20&diversity=0.3", None, {}),
    }[kind]


def load(service: Service, request: Callable[[random.Random], Request], clients: int, seconds: float) -> dict:
    """Requests a second and milliseconds, of clients that each ask again as soon as they are answered."""
    took: list[list[float]] = [[] for _ in range(clients)]
    failed: list[int] = []

    def client(number: int) -> None:
        draw = random.Random(number)
        with contextlib.closing(service.connection()) as opened:
            while time.perf_counter() < until:
                began = time.perf_counter()
                status, _ = ask(opened, *request(draw))
                took[number].append(time.perf_counter() - began)
                if status != 200:
                    failed.append(status)

    started = time.perf_counter()
    until = started + seconds
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SeaError(f"a request that makes sense was answered {failed[0]}.")
    every = np.concatenate(took)
    p50, p99 = np.percentile(every, (50, 99)) * 1e3
    rate = len(every) / (time.perf_counter() - started)
    return {"clients": clients, "per_second": round(rate, 1), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}


def nonsense(draw: random.Random) -> Request:
    """A request that makes no sense: an address, fields, a body or a method that are wrong in one or several ways."""
    letters = "".join(draw.choices(string.printable + "é\x00日😀\ud800", k=draw.randrange(1, 30)))
    value = draw.choice(
        [letters, "-1", "0", "1e9", "nan", "inf", "9" * 40, "null", "[]", "true", "../../etc/passwd", ""]
    )
    field = draw.choice(["user", "uid", "k", "item", "exclude", "explain", "diversity", "stranger", "search", letters])
    path = draw.choice([
        "/recommend", "/similar", "/items", "/items/..", "/users/", "/pictures/", "/pictures/../../etc/passwd", "/metrics/x",
        "/page.js/..", "//", "/" + letters,
    ])  # fmt: skip
    named = [field, *draw.sample(["k", "user"], draw.randrange(3))]
    fields = "&".join(f"{quote(name, errors='replace')}={quote(value, errors='replace')}" for name in named)
    odd = draw.choice([None, True, -1, 1e300, 10**30, letters, [], {}, [[]], {"a": {}}, [None] * 20_000, "x" * 5000])
    key = draw.choice(["user", "items", "k", "allow", "deny", "boosts", "categories", "diversity", "weights", letters])
    # On an address that answers, something must be wrong: a user who is unknown is, whatever stands beside.
    whole = json.dumps({"user": f"nobody {letters}", key: odd})
    body = draw.choice([
        whole, whole[: draw.randrange(len(whole))], "[" * 100_000, "{" * 9, letters.encode("utf-8", "replace"), b"\xff\xfe\x00",
        '{"user": NaN}', '{"user": 1, "user": 2}', '{"k": 1' + "0" * 6000 + "}", "x" * (1 << 20) + "xx", b"", "null", "7",
    ])  # fmt: skip
    body = body.encode("utf-8", "replace") if isinstance(body, str) else body
    if draw.random() < 0.5:
        return (
            "POST",
            "/recommend",
            body,
            draw.choice([JSON, {}, {"content-type": letters.encode("utf-8", "replace").hex()}]),
        )
    method = draw.choice(["GET", "GET", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
    address = quote(path, safe="/.%", errors="replace")
    return method, f"{address}?user=nobody&user=nobody&{fields}", None, {}


def attacked(service: Service, count: int) -> dict:
    """How often each status answered `count` requests that make no sense."""
    draw, statuses, opened = random.Random(0), Counter(), service.connection()
    for _ in range(count):
        try:
            status, _ = ask(opened, *nonsense(draw))
        except (http.client.HTTPException, ConnectionError):  # the service hung up on a body that it did not read
            opened.close()
            opened, status = service.connection(), "hung up"
        statuses[str(status)] += 1
    opened.close()
    return dict(sorted(statuses.items()))


def killed(path: Path, service: Service, users: int) -> dict:
    """Kills the service while it is asked and starts it again; the answers must be the same."""
    addresses = [f"/recommend?user={user}&k=20" for user in range(min(50, users))]
    before = [service.answer("GET", address) for address in addresses]

    def client():
        with (
            contextlib.suppress(http.client.HTTPException, OSError),
            contextlib.closing(service.connection()) as opened,
        ):
            while True:
                ask(opened, "GET", addresses[0])

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    code = service.end(signal.SIGKILL)
    for thread in threads:
        thread.join()
    with running(path) as again:
        after = [again.answer("GET", address) for address in addresses]
        return {
            "exit": code,
            "same_answers": before == after,
            "compared": len(before),
            "first_answer_s": again.first_answer_s,
        }


@contextlib.contextmanager
def running(path: Path) -> Iterator[Service]:
    """A service that is stopped at the end, unless it has been."""
    service = Service(path)
    try:
        yield service
    finally:
        if service.process.poll() is None and service.end(signal.SIGTERM) != 0:
            raise SeaError("the service did not stop gracefully.")


def measure(shape: tuple[int, int, int], seconds: float, malformed: int) -> dict:
    """The numbers of one catalogue; without `malformed` requests, neither these nor the kill."""
    users, items, columns = shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recommender.npz"
        recommender(*shape).save(path)
        with running(path) as service:
            found: dict = {"users": users, "items": items, "columns": columns, "first_answer_s": service.first_answer_s}
            for kind in ("user", "basket", "similar", "explained", "diverse"):
                request = lambda draw, kind=kind: asked_for(kind, users, items, draw)  # noqa: E731
                service.answer(*request(random.Random(0)))  # what is computed once, is computed
                found[kind] = [load(service, request, clients, seconds) for clients in (1, 4)]
            found["resident_mb"] = service.resident_mb()
            if malformed:
                found["malformed"] = attacked(service, malformed)
                found["killed"] = killed(path, service, users)
    return found


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    results: dict = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")}
    for number, name in enumerate(values.shapes):
        results[name] = measure(SHAPES[name], values.seconds, values.malformed if number == 0 else 0)
        print(json.dumps({name: results[name]}, indent=1), flush=True)
    if values.json:
        files.write_json(values.json, results)
    first = results[values.shapes[0]]
    wrong = [status for status in first.get("malformed", {}) if status.startswith(("2", "5"))]
    if wrong:
        raise SeaError(f"a request that makes no sense was answered {wrong[0]}.")
    if values.malformed and not first["killed"]["same_answers"]:
        raise SeaError("after kill -9 and another start the answers are others.")
    return 0


if __name__ == "__main__":
    flags.DEFINE_multi_enum("shapes", list(SHAPES), list(SHAPES), "catalogues, once for each")
    flags.DEFINE_float("seconds", 5.0, "how long each kind of request is timed", lower_bound=0.1)
    flags.DEFINE_integer("malformed", 10_000, "requests that make no sense; 0 for none, and no kill", lower_bound=0)
    flags.DEFINE_string("json", "", "file to write")
    cli.run(main)
