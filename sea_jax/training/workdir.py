"""A run's folder: names of its files, the lock of whoever writes it, its record, and when a run may go on in it."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import math
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from sea_jax import config as configs
from sea_jax import files
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.errors import SeaError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "jraph", "numpy", "scipy")
RECORD, FLAGS, METRICS, SUMMARY = "run.json", "config.flags", "metrics.jsonl", "summary.json"
RECOMMENDER, CHECKPOINTS, TRACE, LOCK = "recommender.npz", "checkpoints", "trace", "lock"
DAMAGED = "restore it as it was, or train again in another --workdir"


def versions() -> dict[str, str]:
    """Versions of the packages that a run's numbers may depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def record_of(config: Config, bundle: Bundle) -> dict:
    """What identifies a run: settings, data and versions."""
    return {
        "config": dataclasses.asdict(config),
        "data": bundle.data_hashes or digest(bundle),
        "versions": versions(),
        "python": sys.version.split()[0],
    }


def digest(bundle: Bundle) -> dict[str, str]:
    """Hashes of a bundle in memory, which has none of files."""
    import hashlib

    arrays = {split: getattr(bundle, split) for split in ("train", "valid", "test")} | dict(bundle.features)
    return {name: hashlib.sha256(x.tobytes()).hexdigest() for name, x in arrays.items()}


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds the folder for this process while it writes there; the system lets go when a process ends, however it ends.

    On disks that several hosts share, as far as these pass locks on.

    Raises: SeaError at once, naming the holder, if another process has it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / LOCK, "a+", encoding="utf-8") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            holder = held.read(200).strip() or "another process"
            raise SeaError(
                f"--workdir={workdir} is being written by {holder}; choose another folder or wait."
            ) from None
        held.truncate(0)
        held.write(f"process {os.getpid()} on {socket.gethostname()}")
        held.flush()
        try:
            yield
        finally:
            held.truncate(0)


def check_free(workdir: Path) -> None:
    """Raises SeaError for a folder that holds something else than a run, before anything is written there."""
    if workdir.exists() and not workdir.is_dir():
        raise SeaError(f"--workdir={workdir} is a file; name a folder.")
    if not workdir.is_dir() or (workdir / RECORD).exists():
        return
    if {path.name for path in workdir.iterdir()} - {LOCK} - {path.name for path in unfinished(workdir)}:
        raise SeaError(f"--workdir={workdir} is not empty and holds no run; choose another folder.")


def seed_folders(folder: Path) -> list[Path]:
    """The run folders seed-N that `--seeds` made in a folder, by N."""
    found = {int(path.name[5:]): path for path in folder.glob("seed-*") if path.name[5:].isdecimal() and path.is_dir()}
    return [found[seed] for seed in sorted(found)]


def runs_at(folder: Path) -> list[Path]:
    """The runs that a folder stands for: itself, or where it holds none of its own those of its seeds."""
    return [folder] if (folder / RECORD).is_file() else seed_folders(folder) or [folder]


def unfinished(workdir: Path) -> list[Path]:
    """Files that a process was killed over while it wrote them."""
    return [path for name in (RECORD, FLAGS, METRICS, SUMMARY, RECOMMENDER) for path in workdir.glob(f"tmp.*.{name}")]


def claim(config: Config, bundle: Bundle, workdir: Path, resume: bool = True) -> None:
    """Writes the run's record and flags, or checks that those there are the same; raises SeaError if they differ."""
    record = json.loads(json.dumps(record_of(config, bundle)))
    path = workdir / RECORD
    if path.exists():
        if not resume:
            raise SeaError(f"--workdir={workdir} already holds a run and --noresume was given; choose another folder.")
        old = check_same(workdir, config)
        if old["data"] != record["data"]:
            raise SeaError(
                f"--workdir={workdir} holds a run on other data than {config.data_dir or bundle.name}; "
                "choose another folder."
            )
    for left in unfinished(workdir):
        left.unlink(missing_ok=True)
    files.write_json(path, files.sealed(record))  # first: a folder with anything else and no record is no run
    files.write_text(workdir / FLAGS, configs.flag_lines(config))


def check_same(workdir: Path, config: Config) -> dict:
    """The record of the run in a folder; raises SeaError if it has other settings that define its numbers."""
    old_config, old = read_record(workdir)
    differing = configs.differences(old["config"], config)
    if differing:
        changes = ", ".join(
            f"--{name} was {configs.shown(getattr(old_config, name))} and is {configs.shown(getattr(config, name))}"
            for name in differing
        )
        raise SeaError(f"--workdir={workdir} holds a run of other flags ({changes}); choose another folder.")
    return old


def claim_baseline(settings: dict, flag_lines: str, bundle: Bundle, workdir: Path) -> None:
    """As `claim`, for a run without training: its settings stand under "baseline" in the record."""
    record = {
        "baseline": settings,
        "data": bundle.data_hashes or digest(bundle),
        "versions": versions(),
        "python": sys.version.split()[0],
    }
    record = json.loads(json.dumps(record))
    if (workdir / RECORD).exists():
        _, old = read_origin(workdir)
        place = {"workdir": "", "data_dir": ""}
        same = old.get("baseline") and {**old["baseline"], **place} == {**record["baseline"], **place}
        if not same or old["data"] != record["data"]:
            raise SeaError(f"--workdir={workdir} holds another run; choose another folder.")
    for left in unfinished(workdir):
        left.unlink(missing_ok=True)
    files.write_json(workdir / RECORD, files.sealed(record))
    files.write_text(workdir / FLAGS, flag_lines)


def record_path(workdir: Path) -> Path:
    """Where a run's record lies; raises SeaError if there is none."""
    path = workdir / RECORD
    if not path.is_file():
        if found := seed_folders(workdir):
            raise SeaError(f"--workdir={workdir} holds runs of {len(found)} seeds; name one, such as {found[0]}.")
        raise SeaError(f"--workdir={workdir} holds no run (no {RECORD}); train one with experiments/train.py.")
    return path


def read_origin(workdir: Path) -> tuple[dict, dict]:
    """("data_dir" and "modalities", the record) of whatever ran in a folder; raises SeaError if nothing did."""
    path = record_path(workdir)
    record = files.read_json(path, DAMAGED)
    if "baseline" not in record:
        config, record = read_record(workdir)
        return {"data_dir": config.data_dir, "modalities": config.modalities}, record
    settings = record["baseline"]
    fits = isinstance(settings, dict) and isinstance(record.get("data"), dict)
    if not fits or not isinstance(settings.get("data_dir"), str) or not isinstance(settings.get("modalities"), list):
        raise SeaError(f"{path}: field baseline is missing or no object; {DAMAGED}.")
    origin = {"data_dir": settings["data_dir"], "modalities": tuple(settings["modalities"])}
    return origin, files.unsealed(record, path, DAMAGED)


def read_record(workdir: Path) -> tuple[Config, dict]:
    """The settings and the record of the training in a folder; raises SeaError if there is none or it makes no sense."""
    path = record_path(workdir)
    record = files.read_json(path, DAMAGED)
    if "baseline" in record:
        raise SeaError(
            f"--workdir={workdir} holds a run without training, which has no checkpoints; name a trained one."
        )
    for field in ("config", "data"):
        if not isinstance(record.get(field), dict):
            raise SeaError(f"{path}: field {field} is missing or no object; {DAMAGED}.")
    try:
        config = configs.from_dict(record["config"])
    except SeaError as error:
        raise SeaError(f"{path}: {str(error).rstrip('.')}; {DAMAGED}.") from error
    return config, files.unsealed(record, path, DAMAGED)


def read_metrics(path: Path, epoch: int | None = None) -> list[dict]:
    """The records of metrics.jsonl up to an epoch, as far as they make sense: one object a line, epochs in a row."""
    records: list[dict] = []
    if not path.exists():
        return records
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            break  # a line cut short by a kill, or edited by hand
        number = record.get("epoch") if isinstance(record, dict) else None
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            break
        if (records and number != records[-1]["epoch"] + 1) or (epoch is not None and number > epoch):
            break
        if not all(isinstance(x, int | float | None) for x in record.values()):
            break
        records.append(record)
    return records


def cut_metrics(path: Path, epoch: int) -> list[dict]:
    """Drops the lines of metrics.jsonl after the restored epoch (a killed run wrote them); returns the rest."""
    records = read_metrics(path, epoch)
    if path.exists():
        files.write_text(path, "".join(line_of(record) for record in records))
    return records


def line_of(record: dict) -> str:
    """A record as a line of metrics.jsonl; numbers that are not finite are null."""
    cleaned = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(cleaned) + "\n"


def read_summary(workdir: Path) -> dict:
    """The summary of a finished run; raises SeaError if there is none."""
    path = workdir / SUMMARY
    if not path.is_file():
        raise SeaError(f"--workdir={workdir} holds no finished run (no {SUMMARY}).")
    return files.unsealed(files.read_json(path, DAMAGED), path, DAMAGED)


def seconds_of(records: list[dict]) -> list[float]:
    """Seconds of each epoch in the records that tell them."""
    return [record["seconds"] for record in records if isinstance(record.get("seconds"), int | float)]
