"""What kills, full disks, damaged files and bad input do: `python benchmarks/faults.py --rounds=10 --json=FILE`.

kills: trainings killed at random moments, also within checkpoints, the first epoch and resuming, beside a reader; each
    then ends as the one that nobody killed, bit for bit, or it counts as `different`.
devices: a tenth as many with four emulated devices. backbones: a quarter as many of the other backbones.
disk: writes that fail, files removed, bytes flipped: told, or harmless, or it counts as `silent`.
input: bad input to every program; what is not one sentence, exit code 1 and nothing written is listed under `wrong`.
soak: memory and open files over 300 epochs.
"""

import json
import os
import platform
import random
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import jax
from absl import flags

from benchmarks import bad_input, disk_faults
from benchmarks.forked import EPOCHS, FOUR, forks, result, run, train
from sea_jax import bundle as bundles
from sea_jax import cli, files
from sea_jax.config import OWN_DEFAULTS
from sea_jax.errors import SeaError
from sea_jax.raw.demo import make_demo
from sea_jax.training import loop, runs, workdir

BLINK = 0.002  # seconds between looks at a folder
CAMPAIGN = ("lightgcn", "sea")  # one of few programs, one with all that a run has
OTHERS = tuple(name for name in OWN_DEFAULTS if name not in CAMPAIGN)


def kills(
    data: Path, folder: Path, rounds: int, jobs: int, minutes: float, seed: int, environment=None, models=CAMPAIGN
) -> dict:
    """Kills `rounds` trainings, or as many as there is time for; after one to six kills a run ends and is compared."""
    expected, seconds, deadline = {}, {}, time.monotonic() + 60 * minutes
    for model in models:  # the first is for the cache of programs
        for name in ("first", "whole"):
            began = time.monotonic()
            assert train(data, folder / f"{name}-{model}", model, environment=environment).end()[0] == 0
            seconds[model] = time.monotonic() - began
        expected[model] = result(folder / f"whole-{model}")
    counts = {"kills": 0, "compared": 0, "different": 0, "failed": 0, "when": {}}
    reader = forks.Process(target=_read, args=(str(data), str(folder)))
    reader.start()

    def one(number):
        draw = random.Random(f"{seed} {number}")
        model, place = models[number % len(models)], folder / f"killed-{number}"
        for _ in range(draw.choice((1, 2, 4, 6))):
            if counts["kills"] >= rounds or time.monotonic() > deadline:
                break
            program, when = train(data, place, model, environment=environment), draw.choice(list(MOMENTS))
            MOMENTS[when](place, draw, seconds[model], program.process)
            if program.process.exitcode is None:
                os.kill(program.process.pid, signal.SIGKILL)
                program.process.join()
                counts["kills"] += 1
                counts["when"][when] = counts["when"].get(when, 0) + 1
        code, _, err = train(data, place, model, environment=environment).end()
        same = code == 0 and result(place) == expected[model]
        counts["compared"] += 1
        counts["failed"] += code != 0
        counts["different"] += code == 0 and not same
        if same:
            shutil.rmtree(place.rename(folder / f"done-{number}"))  # out of the reader's sight at once
        else:
            print(f"{place}: {model}, exit code {code}\n{err}", flush=True)
        print(f"{counts['kills']} kills, {counts['compared']} compared, {counts['different']} different", flush=True)

    with ThreadPoolExecutor(jobs) as threads:
        number = 0
        while counts["kills"] < rounds and time.monotonic() < deadline:
            list(threads.map(one, range(number, number + jobs)))
            number += jobs
    os.kill(reader.pid, signal.SIGTERM)
    reader.join()
    return counts | {"reader": json.loads((folder / "reader.json").read_text())}


def _until(found, seconds: float, process) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.is_alive() and not found():
        time.sleep(BLINK)


def _any_time(place, draw, seconds, process):
    _until(lambda: False, draw.uniform(0, seconds), process)


def _checkpoint(place, draw, seconds, process):
    number = draw.randint(1, EPOCHS)
    _until(lambda: any(place.glob(f"checkpoints/{number}*tmp*")), 4 * seconds, process)
    time.sleep(draw.choice((0, 0.005, 0.02)))


def _first_epoch(place, draw, seconds, process):
    _until((place / workdir.METRICS).exists, 4 * seconds, process)
    time.sleep(draw.uniform(0, 0.2 * seconds))


def _claiming(place, draw, seconds, process):
    _until((place / workdir.LOCK).exists, 4 * seconds, process)
    time.sleep(draw.choice((0, 0.001, 0.003, 0.01)))


def _ending(place, draw, seconds, process):
    _until((place / "checkpoints" / str(EPOCHS)).exists, 4 * seconds, process)
    time.sleep(draw.uniform(0, 0.1 * seconds))


MOMENTS = {
    "at any time": _any_time, "within a checkpoint": _checkpoint, "within the first epoch": _first_epoch,
    "while it claims its folder": _claiming, "at the end": _ending,
}  # fmt: skip


def _read(data: str, folder: str) -> None:
    """Reads every killed run's newest checkpoint, record and metrics over and over until it is told to end."""
    cli.quieten(debug=False)
    counts, going = {"read": 0, "not there yet": 0, "errors": []}, [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    while going:
        for place in Path(folder).glob("killed-*/"):
            try:
                config, _ = workdir.read_record(place)
                workdir.read_metrics(place / workdir.METRICS)
                training = (
                    loop.prepare(bundles.load(data), runs.readers(config)) if config.backbone not in LIKE else None
                )
                training = LIKE.setdefault(config.backbone, training)
                restored = loop.restore(training, place / workdir.CHECKPOINTS)
                counts["read" if int(restored.progress.state.epoch) else "not there yet"] += 1
            except (SeaError, OSError) as error:
                if place.exists() and "no run.json" not in str(error):
                    counts["errors"].append(str(error))
                counts["not there yet"] += 1
        time.sleep(0.5)
    Path(folder, "reader.json").write_text(json.dumps(counts))


LIKE: dict[str, loop.Training] = {}


def wrong_input(folder: Path, only: int = 0) -> dict:
    """Every case of `bad_input`, or the first `only` of each program; what was not one sentence, and what was written."""
    cases = bad_input.cases(folder, lambda *given: run(*given, said=folder / "said"))
    wrong, by_program = [], {}
    for case in cases:
        number = by_program[case.program] = by_program.get(case.program, 0) + 1
        if only and number > only:
            continue
        case.prepare()
        before = bad_input.listing(case.kept)
        code, _, err = run(case.program, *case.arguments, said=folder / "said", cwd=case.cwd)
        shutil.rmtree(folder / "given" / "out", ignore_errors=True)
        written = bad_input.listing(case.kept) ^ before
        if code != 1 or not bad_input.one_sentence(err) or written:
            wrong.append({"case": case.name, "code": code, "stderr": err[-400:], "written": sorted(map(str, written))})
            print(f"{case.name}: exit code {code}, {err[-400:]}, written {sorted(map(str, written))}", flush=True)
    return {"cases": sum(min(n, only or n) for n in by_program.values()), "by program": by_program, "wrong": wrong}


def soak(data: Path, epochs: int) -> dict:
    """Memory and open files after a tenth of the epochs and at the end, and the most open ones."""
    seen = []

    def look(record):
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        seen.append((rss, len(os.listdir("/proc/self/fd"))))

    from sea_jax.config import Config

    with tempfile.TemporaryDirectory() as place:
        config = Config(
            batch_size=64,
            club_steps=2,
            topk=(5, 20),
            patience=0,
            epochs=epochs,
            checkpoint_every=1,
            backbone="lightgcn",
        )
        runs.fit(bundles.load(data), config, place, look)
    rss, handles = zip(*seen, strict=True)
    early = epochs // 5
    return {
        "epochs": epochs, "rss_mb_early": max(rss[:early]), "rss_mb_end": rss[-1],
        "handles_early": max(handles[:early]), "handles_late": max(handles[early:]),
    }  # fmt: skip


def main(argv: list[str]) -> int:
    del argv
    values, results = (
        cli.FLAGS,
        {"date": str(date.today()), "python": platform.python_version(), "jax": jax.__version__},
    )
    results |= {"machine": f"{os.cpu_count()} x {_processor()}", "seed": values.seed}
    with tempfile.TemporaryDirectory(prefix="faults") as name:
        folder, data = Path(name), Path(name) / "data"
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{name}/programs")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        make_demo(data, num_users=60, num_items=50, mean_interactions=7.0, factors=2, seed=1)
        parts = {
            "kills": lambda at: kills(data, at, values.rounds, values.jobs, values.minutes, values.seed),
            "devices": lambda at: kills(
                data, at, max(values.rounds // 10, 1), values.jobs, values.minutes, values.seed, FOUR
            ),
            "backbones": lambda at: kills(
                data, at, max(values.rounds // 4, 1), values.jobs, values.minutes, values.seed, models=OTHERS
            ),
            "disk": lambda at: (
                {"failing writes": disk_faults.failing_writes(data, at)}
                | disk_faults.damage(data, at, values.flips, values.seed)
            ),
            "input": lambda at: wrong_input(at),
            "soak": lambda at: soak(data, 300),
        }
        for part in values.parts:
            (folder / part).mkdir()
            began = time.monotonic()
            results[part] = parts[part](folder / part) | {"seconds": round(time.monotonic() - began)}
            print(f"{part}: {json.dumps(results[part])}", flush=True)
            if values.json:
                files.write_json(values.json, results)
    return 0


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 10, "kills of the first part", lower_bound=1)
    flags.DEFINE_float("minutes", 1e4, "for the kills of a part, at most", lower_bound=0.0)
    flags.DEFINE_integer("jobs", 1, "trainings at a time", lower_bound=1)
    flags.DEFINE_integer("flips", 10, "bytes flipped in each file", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the moments and places", lower_bound=0, upper_bound=2**32 - 1)
    flags.DEFINE_list("parts", ["kills", "devices", "backbones", "disk", "input", "soak"], "which")
    flags.DEFINE_string("json", "", "file the results are written to")
    cli.run(main)
