"""A whole run, from a dataset to its folder and back: what `sea_jax.fit` and `sea_jax.open_run` are."""

import contextlib
import dataclasses
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sea_jax import bundle as bundles
from sea_jax import evaluation, files
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender
from sea_jax.training import checkpoints, hosts, loop, newcomers, parallel, platform, workdir

# How a run was computed is its writer's matter: whoever reads it chooses for the machine at hand.
READERS_OWN = (
    "features", "propagation", "club_fit", "devices", "parallel", "coordinator_address", "num_processes", "process_id",
    "join_seconds", "deterministic", "compilation_cache_dir", "profile",
)  # fmt: skip


@dataclasses.dataclass(eq=False, repr=False)
class Run:
    """A run that has been trained, in memory or in its folder.

    config: its settings, None of a run without training. summary: as summary.json has it. history: a record for each epoch. notes: sentences worth
    telling. folder: its workdir, or None. training: the parameters on the devices; of a run that was opened, they are
    restored when something needs them. made: the recommender, where it is at hand.
    """

    config: Config | None
    summary: dict
    history: list[dict]
    notes: list[str]
    folder: Path | None = None
    training: loop.Training | None = None
    data_dir: str = ""
    made: Recommender | None = None

    def __repr__(self) -> str:
        where = f" in {self.folder}" if self.folder else ""
        what = self.config.backbone if self.config is not None else self.summary.get("baseline", "a baseline")
        return f"<Run of {what}{where}: {len(self.history)} epochs, {self.metrics.get('test', {})}>"

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Ranking metrics of the best epoch by split, {"valid": {"recall@20": ...}, "test": {...}}."""
        return {split: self.summary[split] for split in ("valid", "test") if split in self.summary}

    def bundle(self) -> Bundle:
        """The dataset that it was trained on."""
        return self.training.bundle if self.training is not None else bundle_of(self.folder, self.data_dir)

    def restored(self) -> loop.Training:
        """The training with its parameters on the device, restored from the newest checkpoint if need be."""
        if self.training is None:
            self.training = restore(self.folder, self.data_dir, self.notes.append)
        return self.training

    def parameters(self, checkpoint: str = "best"):
        """(parameters, epoch) of the "best" or the "latest" epoch."""
        progress = self.restored().progress
        return loop.best(progress) if checkpoint == "best" else loop.latest(progress)

    def embed_items(self, features: dict[str, Any], exclude: Any = (), checkpoint: str = "best") -> np.ndarray:
        """Vectors (n, d) of new items from their features alone, see `newcomers.embed`; no training.

        They compare with `recommender().item_vectors`; `Recommender.with_items` takes them.
        """
        newcomers.check(self.config)
        params, _ = self.parameters(checkpoint)
        return newcomers.embed(self.restored(), params, features, exclude)

    @property
    def masks_valid(self) -> bool:
        """Whether validation items are left out of the lists that test ranks, as its summary was measured."""
        return self.config is not None and self.config.mask_valid_at_test

    def by_user(
        self, topk: tuple[int, ...], checkpoint: str = "best", masks_valid: bool = False
    ) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
        """Every user's metrics at these cut-offs, see `evaluation.by_user`."""
        made, bundle = self.recommender(checkpoint), self.bundle()
        return evaluation.by_user(
            lambda rows: made.scores(made.user_ids[rows]), bundle.train, bundle.valid, bundle.test, bundle.num_users,
            bundle.num_items, topk, masks_valid,
        )  # fmt: skip

    def recommender(self, checkpoint: str = "best") -> Recommender:
        """What recommends: of the best epoch from the run's folder if it is there, else computed."""
        if self.made is not None:
            return self.made
        if checkpoint == "best" and self.folder is not None and (self.folder / workdir.RECOMMENDER).is_file():
            return Recommender.load(self.folder / workdir.RECOMMENDER)
        params, epoch = self.parameters(checkpoint)
        return recommender(self.restored(), params, epoch)


def recommender(training: loop.Training, params, epoch: int) -> Recommender:
    """The Recommender of these parameters, with notes of where they are from."""
    notes = {"dataset": training.bundle.name, "backbone": training.config.backbone, "epoch": epoch}
    return loop.recommender(training, params, notes)


def fit(
    bundle: Any,
    config: Any = None,
    workdir: str | os.PathLike | None = None,
    report: Callable[[dict], None] = lambda record: None,
    *,
    resume: bool = True,
    warn: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    like: Run | None = None,
) -> Run:
    """Trains a model on a dataset; in a folder, it goes on where a run of the same settings stopped there.

    Args:
      bundle: from `sea_jax.build` or `sea_jax.load`.
      config: the settings; the paper's by default.
      workdir: folder for metrics, checkpoints, summary and recommender; nothing is written without one.
      report: called with the record of each epoch: "epoch", "seconds", "loss/...", "valid/...", "test/...".
      resume: whether a run in `workdir` may go on.
      warn: called with sentences worth telling; they stand in the run's `notes` in any case.
      stop: asked after each epoch; training then saves and ends with KeyboardInterrupt.
      like: a run on the same data, from `fit`: its compiled programs serve again where this one differs in seed, learning
        rates, weights, temperatures and when it ends.
    Returns: the run.
    Raises: SeaError for settings or data that cannot be.
    """
    if not isinstance(bundle, Bundle):
        raise SeaError(f"fit needs a Bundle, from build or load; it was given {type(bundle).__name__}.")
    if not isinstance(config, Config | None):
        raise SeaError(f"fit needs a Config, such as Config(epochs=10); it was given {type(config).__name__}.")
    config = dataclasses.replace(config or Config(), workdir="" if workdir is None else str(workdir))
    platform.prepare_platform(config)
    bundle = bundle.select(config.modalities)
    config = dataclasses.replace(config, modalities=bundle.modalities)
    loop.check_fits(config, bundle)
    parallel.device_count(config)
    loop.resolved(config)  # or a run that cannot start would claim the folder
    notes = [*bundle.manifest.get("repairs", [])]

    def tell(message):
        notes.append(message)
        if warn is not None:
            warn(message)

    like = None if like is None else like.training
    if workdir is None:
        return _train(bundle, config, None, report, tell, notes, stop, like)
    folder = Path(workdir)
    with contextlib.ExitStack() as held:
        hosts.first_does(lambda: _claim(config, bundle, folder, resume, held))
        return _train(bundle, config, folder, report, tell, notes, stop, like)


def _claim(config, bundle, folder, resume, held) -> None:
    workdir.check_free(folder)
    held.enter_context(workdir.lock(folder))
    workdir.claim(config, bundle, folder, resume)


def _train(bundle, config, folder, report, tell, notes, stop, like) -> Run:
    """Process 0 writes; the others compute."""
    training, saved, writes = loop.prepare(bundle, config, like=like), None, folder is not None and hosts.is_first()
    for split, counts in training.counts.items():
        if len(getattr(bundle, split)) and not counts["counted"]:
            tell(f"nobody counts in {split}: no user has both training and held-out interactions there.")
    if not training.counts["valid"]["counted"]:
        tell("without users in validation the last epoch counts as the best.")
    records: list[dict] = []
    if folder is not None:
        training = loop.restore(training, folder / workdir.CHECKPOINTS, tell)
        saved = checkpoints.checkpointer(folder / workdir.CHECKPOINTS)
    start = int(training.progress.state.epoch)
    if writes:
        records = workdir.cut_metrics(folder / workdir.METRICS, start)
        if not loop.finished(training):  # what an earlier end left is of no use from here on
            for name in (workdir.SUMMARY, workdir.RECOMMENDER):
                (folder / name).unlink(missing_ok=True)
    if start:
        tell(f"resuming after epoch {start}")
    compiled = platform.compile_seconds()
    trace_dir = str(folder / workdir.TRACE) if folder is not None and config.profile else None
    with open(folder / workdir.METRICS if writes else os.devnull, "a", encoding="utf-8") as log:

        def note(record):
            nonlocal compiled
            record["compile_seconds"] = platform.compile_seconds() - compiled
            compiled = platform.compile_seconds()
            records.append(record)
            log.write(workdir.line_of(record))
            log.flush()
            report(record)

        try:
            training = loop.fit(training, saved, note, trace_dir, stop)
        finally:
            if saved is not None:
                with contextlib.suppress(Exception):  # what went wrong with a checkpoint, `loop.fit` has told
                    saved.close()
    params, epoch = loop.best(training.progress)
    summary = summarise(training, records, params, epoch)
    run = Run(training.config, summary, records, notes, folder, training)
    if folder is not None:
        found = recommender(training, params, epoch)
        if writes:
            found.save(folder / workdir.RECOMMENDER)
            files.write_json(folder / workdir.SUMMARY, files.sealed(summary))
    return run


def summarise(training: loop.Training, records: list[dict], params, epoch: int) -> dict:
    """The run's result, measured from the parameters of its best epoch."""
    device = jax.devices()[0]
    return {
        "best_epoch": epoch,
        "epochs": int(training.progress.state.epoch),
        "monitor": training.config.monitor,
        **loop.measure(training, params),
        "users": training.counts,
        "compile_seconds": platform.compile_seconds(),
        "median_seconds_per_epoch": statistics.median(workdir.seconds_of(records[1:] or records) or [0.0]),
        "device": f"{training.layout.parts} x {device.device_kind}",
        "computed_by": {
            name: getattr(training.config, name) for name in ("precision", "propagation", "club_fit", "features")
        },
        "versions": workdir.versions(),
        "seed": training.config.seed,
    }


def open_run(path: str | os.PathLike, data_dir: str = "") -> Run:
    """The run in a folder, finished or going on; nothing is computed or changed before something asks for it.

    Args:
      path: its workdir.
      data_dir: folder of its bundle, if it moved since training.
    Raises: SeaError if there is no run.
    """
    folder = Path(path)
    _, record = workdir.read_origin(folder)
    config = None if "baseline" in record else workdir.read_record(folder)[0]
    summary = workdir.read_summary(folder) if (folder / workdir.SUMMARY).is_file() else {}
    return Run(config, summary, workdir.read_metrics(folder / workdir.METRICS), [], folder, data_dir=data_dir)


def readers(config: Config) -> Config:
    """The settings of a run as whoever opens it needs them: what defines its numbers, computed as suits this machine."""
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    return dataclasses.replace(config, **{name: fields[name] for name in READERS_OWN})


def bundle_of(folder: Path, data_dir: str = "") -> Bundle:
    """The dataset that the run in a folder was trained on; raises SeaError if it is another or not to be found."""
    origin, record = workdir.read_origin(folder)
    path = data_dir or origin["data_dir"]
    if not path:
        raise SeaError(f"{folder / workdir.RECORD} names no dataset on disk; name the bundle with --data_dir.")
    bundle = bundles.load(path, modalities=origin["modalities"], verify_hashes=True)
    if record["data"] not in (bundle.data_hashes, workdir.digest(bundle)):
        raise SeaError(f"{path} is not the data this run was trained on; name those with --data_dir.")
    return bundle


def restore(folder: Path, data_dir: str = "", warn: Callable[[str], None] = lambda message: None) -> loop.Training:
    """The run in a folder at its newest checkpoint, on one device of this machine."""
    config = readers(workdir.read_record(folder)[0])
    platform.prepare_platform(config)
    training = loop.prepare(bundle_of(folder, data_dir), config)
    training = loop.restore(training, folder / workdir.CHECKPOINTS, warn)
    if int(training.progress.state.epoch) == 0:
        raise SeaError(f"--workdir={folder} has no checkpoint yet.")
    return training


def describe(summary: dict) -> str:
    """The summary as a table."""
    head = (
        f"best epoch {summary['best_epoch']} of {summary['epochs']} by valid {summary['monitor']}, "
        f"{summary['median_seconds_per_epoch']:.2f} s per epoch on {summary['device']}, "
        f"compiled in {summary['compile_seconds']:.1f} s"
    )
    metrics = {split: summary[split] for split in ("valid", "test") if split in summary}
    return f"{head}\n{metric_table(metrics, summary['users'])}".rstrip()


def metric_table(metrics: dict[str, dict[str, float]], users: dict[str, dict[str, int]]) -> str:
    """Metrics of validation and test as a table, with the users counted and left out."""
    lines = []
    for split, values in metrics.items():
        kinds = dict.fromkeys(name.partition("@")[0] for name in values)
        cuts = dict.fromkeys(name.partition("@")[2] for name in values)
        lines.append(f"{split:10s}" + "".join(f"{'@' + cut:>10s}" for cut in cuts))
        for kind in kinds:
            lines.append(f"  {kind:10s}"[:12] + "".join(f"{values[f'{kind}@{cut}']:10.4f}" for cut in cuts))
        counted = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in users[split].items())
        lines.append(f"  users: {counted}")
    return "\n".join(lines)


def embeddings(run: Run, checkpoint: str = "best") -> tuple[np.ndarray, np.ndarray]:
    """Final user (U, d) and item (I, d) embeddings of a run, float32."""
    params, _ = run.parameters(checkpoint)
    return loop.embeddings(run.restored(), params)
