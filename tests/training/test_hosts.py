"""Two processes on one machine are one run: the same metrics, who is missing is named, who dies is noticed."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import hosts

ROOT = Path(__file__).parent.parent.parent
SETTINGS = ["--batch_size=64", "--club_steps=5", "--topk=5,20", "--checkpoint_every=1", "--quiet"]


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def started():
    """Processes of a test; none outlives it."""
    processes = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(started, demo, workdir, *more):
    """A training process."""
    command = [sys.executable, "experiments/train.py", f"--data_dir={demo}", f"--workdir={workdir}", *SETTINGS, *more]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started.append(subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes))
    return started[-1]


def start_two(started, demo, workdir, *more):
    address = f"--coordinator_address=localhost:{free_port()}"
    several = (address, "--num_processes=2", "--devices=all", "--join_seconds=120", *more)
    return [start(started, demo, workdir, *several, f"--process_id={number}") for number in (0, 1)]


def end(process):
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def records(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_two_processes_train_to_the_metrics_of_one_and_a_killed_one_is_noticed(started, demo, tmp_path):
    code, _, err = end(start(started, demo, tmp_path / "one", "--epochs=3"))
    assert code == 0, err

    processes = start_two(started, demo, tmp_path / "two", "--epochs=1000")
    deadline = time.monotonic() + 300
    while len(records(tmp_path / "two")) < 2 and time.monotonic() < deadline:
        assert processes[0].poll() is None, end(processes[0])
        time.sleep(0.1)
    processes[1].kill()
    code, _, err = end(processes[0])
    assert code == 1
    assert "error: process 1 ended before the run did; start all processes again, the run resumes." in err

    for process in start_two(started, demo, tmp_path / "two", "--epochs=3"):
        code, _, err = end(process)
        assert code == 0, err
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [record["epoch"] for record in two][: len(one)] == [1, 2, 3]
    for a, b in zip(one, two, strict=False):
        for name in a:
            if "seconds" not in name:
                assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-3), (a["epoch"], name)


def test_roll_call_names_who_is_missing():
    port = free_port()
    results = {}

    def call(number):
        try:
            results[number] = hosts.roll_call(f"localhost:{port}", 3, number, 2.0)
        except SeaError as error:
            results[number] = str(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0].startswith("process 1 of 3 did not join within 2 s")
    assert "process 0 did not complete the run" in results[2]


def test_a_complete_roll_call_connects_all():
    port = free_port()
    results = {}

    def call(number):
        results[number] = hosts.roll_call(f"localhost:{port}", 3, number, 20.0)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results[0]) == [1, 2]
    assert list(results[1]) == list(results[2]) == [0]
    for connections in results.values():
        for connection in connections.values():
            connection.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coordinator_address": "localhost:1"}, "go together"),
        ({"coordinator_address": "localhost:1", "num_processes": 2, "process_id": 2}, "must be from 0 to 1"),
        ({"coordinator_address": "localhost", "num_processes": 2, "process_id": 1}, "must be host:port"),
    ],
)
def test_settings_that_contradict(settings, message):
    with pytest.raises(SeaError, match=message):
        hosts.join(Config(**settings), print)


def test_one_process_has_nothing_to_join():
    hosts.join(Config(), print)()
    np.testing.assert_array_equal(hosts.all_rows(np.ones((2, 3))), np.ones((2, 3)))
