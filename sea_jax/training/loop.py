"""Training with evaluation, early stopping and checkpoints; time is the only thing it adds to the epoch."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sea_jax import data as datas
from sea_jax.bundle import Bundle
from sea_jax.config import Config, modality_pairs, share_programs, with_arguments
from sea_jax.data import Data
from sea_jax.diagnostics import diagnose
from sea_jax.errors import SeaError
from sea_jax.evaluation import RankingData, means, ranking_data, user_counts
from sea_jax.graph import resolve_propagation
from sea_jax.models.backbones import BACKBONES, Backbone
from sea_jax.objective import RANKED_BY_OWN_TERMS
from sea_jax.recommender import Recommender
from sea_jax.training import checkpoints as ckpt
from sea_jax.training import fit_kernel, parallel
from sea_jax.training.state import TrainState, host_data, init_state, make_model

copied = jax.jit(partial(jax.tree.map, jnp.copy))  # arrays of their own, by one program


class NotFinite(SeaError):
    """A loss is not finite: these settings cannot be trained."""


class Progress(NamedTuple):
    """What a checkpoint holds: the state, the best parameters so far, and what early stopping counts.

    best_value: of the monitored validation metric (-inf before the first evaluation). stale: evaluations since.
    """

    state: TrainState
    best_params: Any
    best_epoch: Any
    best_value: Any
    stale: Any


class Training(NamedTuple):
    """A training under way: settings, data on the devices, programs, and the progress so far.

    counts: by split, the users that count and those left out, see `user_counts`. whole: shapes of the undivided state.
    divided: by leaf of the state, whether its rows are divided over the devices. initial: (raw features, seed) -> the
    whole state before the first epoch.
    """

    config: Config
    bundle: Bundle
    model: Backbone
    layout: parallel.Layout
    programs: parallel.Programs
    data: Data
    ranking: RankingData
    counts: dict[str, dict[str, int]]
    whole: TrainState
    divided: TrainState
    initial: Callable
    progress: Progress


def check_fits(config: Config, bundle: Bundle) -> None:
    """Raises SeaError for settings that this dataset cannot have."""
    if config.knn_k > bundle.manifest["knn_k_max"]:
        raise SeaError(
            f"--knn_k={config.knn_k} exceeds the {bundle.manifest['knn_k_max']} nearest items the bundle keeps; "
            "make it again with a larger --knn_k_max."
        )
    if config.knn_weights and len(config.knn_weights) != len(bundle.modalities):
        raise SeaError(
            f"--knn_weights has {len(config.knn_weights)} weights for {len(bundle.modalities)} modalities "
            f"({', '.join(bundle.modalities)}); give one for each, in that order."
        )
    if config.club_fit_pairs == "across_modalities" and len(bundle.modalities) < 2:
        raise SeaError("--club_fit_pairs=across_modalities needs two modalities; the data have one.")
    if config.features == "host" and config.train_features:
        raise SeaError("--features=host is for frozen features; these are trained along (--train_features).")
    if config.backbone in RANKED_BY_OWN_TERMS and (config.ranking_loss != "bpr" or config.negatives > 1):
        name = "ranking_loss" if config.ranking_loss != "bpr" else "negatives"
        raise SeaError(
            f"--{name}={getattr(config, name)} needs a ranking by pairs; --backbone={config.backbone} has its own terms."
        )
    if config.ranking_loss == "softmax" and config.negatives > 1:
        raise SeaError(
            f"--negatives={config.negatives} is of --ranking_loss=bpr; softmax compares with all items, or --ranking_candidates drawn ones."
        )
    for name in ("ranking_candidates", "ranking_masks_seen"):
        if config.ranking_loss == "bpr" and getattr(config, name):
            raise SeaError(f"--{name}={getattr(config, name)} is of --ranking_loss=softmax, and it is bpr.")
    if not BACKBONES[config.backbone].has_modalities:
        for name in ("separation", "alignment"):
            if getattr(config, name) != "none":
                raise SeaError(
                    f"--{name}={getattr(config, name)} needs modalities, which --backbone={config.backbone} does not "
                    f"read; leave it none or choose another backbone."
                )
    modality_pairs(bundle.modalities, config.solosim_pairs)


def resolved(config: Config) -> Config:
    """The settings with what suits this platform written out; raises SeaError for what cannot be had on it."""
    return dataclasses.replace(
        config,
        club_fit=fit_kernel.resolve(config.club_fit, parallel.MATMUL[config.precision]),
        propagation=resolve_propagation(config.propagation),
    )


def prepare(
    bundle: Bundle,
    config: Config,
    start: Callable[[TrainState], TrainState] | None = None,
    like: Training | None = None,
) -> Training:
    """Everything up to the first epoch: graphs and features on the devices, the initial state, the programs.

    Args:
      bundle: the dataset.
      config: the settings.
      start: from the shapes of the whole state to one to start from; drawn from the seed if None.
      like: a training whose data and compiled programs are taken where they serve these settings too, see `serves`.
    """
    bundle = bundle.select(config.modalities)
    check_fits(config, bundle)
    config = resolved(config)
    if like is not None and serves(like, bundle, config):
        arguments = parallel.place_arguments(datas.arguments(config), like.layout)
        run = like._replace(config=config, data=like.data._replace(arguments=arguments))
        run = run._replace(model=make_model(bundle, config, run.layout.parts, run.layout.axis))
        return run._replace(progress=beginning(run, start))
    layout = parallel.layout(config)
    host = host_data(bundle, config)
    data = parallel.place_data(datas.divide(host, config, layout.parts), layout, config.features)
    model = make_model(bundle, config, layout.parts, layout.axis)
    tables = bundle.features if config.train_features else {}

    def initial(features, seed, parts=1, axis=None):
        own = with_arguments(config, {"seed": seed})
        return init_state(make_model(bundle, config, parts, axis), datas.blank(host, config, parts), own, features)

    whole = jax.eval_shape(initial, tables, seed_of(config))
    divided = jax.tree.map(lambda _: False, whole)
    if layout.axis is not None:
        halves = {name: x[: -(-bundle.num_items // 2)] for name, x in tables.items()}
        shapes = parallel.shapes_of(partial(initial, halves, config.seed, 2, layout.axis), 2)
        divided = parallel.differing(whole, shapes)
    splits = bundle.train, bundle.valid, bundle.test
    ranking = ranking_data(
        *splits, bundle.num_users, bundle.num_items,
        parts=layout.parts, mask_valid_at_test=config.mask_valid_at_test,
    )  # fmt: skip
    run = Training(
        config=config,
        bundle=bundle,
        model=model,
        layout=layout,
        programs=parallel.make_programs(model, config, divided, layout),
        data=data,
        ranking=parallel.place_ranking(ranking, layout),
        counts=user_counts(*splits, bundle.num_users),
        whole=whole,
        divided=divided,
        initial=parallel.on_devices(initial, layout._replace(axis=None), None, None),
        progress=None,
    )
    return run._replace(progress=beginning(run, start))


def seed_of(config: Config) -> np.ndarray:
    """The seed as the program that draws the initial state takes it."""
    return np.asarray(config.seed, np.uint32)


def serves(like: Training, bundle: Bundle, config: Config) -> bool:
    """Whether a training's data and programs fit other settings: it differs in seed, weights and the like alone."""
    same = all(getattr(like.bundle, split) is getattr(bundle, split) for split in ("train", "valid", "test"))
    return same and like.bundle.modalities == bundle.modalities and share_programs(like.config, resolved(config))


def beginning(run: Training, start: Callable[[TrainState], TrainState] | None = None) -> Progress:
    """The progress before the first epoch; `start` as in `prepare`."""
    tables = run.bundle.features if run.config.train_features else {}
    state = run.initial(tables, seed_of(run.config)) if start is None else start(run.whole)
    return Progress(
        parallel.place_state(state, run.divided, run.layout),
        parallel.place_state(copied(state.params), run.divided.params, run.layout),
        *(np.asarray(0, np.int32), np.asarray(-np.inf, np.float64), np.asarray(0, np.int32)),
    )


def restore(run: Training, directory: Path, warn=lambda message: None) -> Training:
    """The run at its newest readable checkpoint; unchanged if there is none."""
    whole = parallel.host_shapes(run.whole)
    like = Progress(whole, whole.params, *(np.zeros((), dtype) for dtype in (np.int32, np.float64, np.int32)))
    found = ckpt.restore(directory, like, warn)
    if found is None:
        return run
    state = found.state._replace(key=jax.random.wrap_key_data(found.state.key))
    return run._replace(
        progress=found._replace(
            state=parallel.place_state(state, run.divided, run.layout),
            best_params=parallel.place_state(found.best_params, run.divided.params, run.layout),
        )
    )


def save(run: Training, saved) -> None:
    """A checkpoint of the run's progress; arrays are written undivided, whatever the number of devices.

    They are copied before this returns and written while training goes on; `saved.wait` waits for the last.
    Raises: SeaError if the one before could not be written.
    """
    progress, layout = run.progress, run.layout
    progress = progress._replace(
        state=parallel.undivide(progress.state, run.divided, run.whole, layout),
        best_params=parallel.undivide(progress.best_params, run.divided.params, run.whole.params, layout),
    )
    saved.save(int(progress.state.epoch), progress)


def embeddings(run: Training, params) -> tuple[np.ndarray, np.ndarray]:
    """Final user (U, d) and item (I, d) embeddings, float32, of parameters as the devices hold them."""
    user, item = run.programs.embed(params, run.data)
    return (
        parallel.whole_rows(user, run.bundle.num_users, run.layout),
        parallel.whole_rows(item, run.bundle.num_items, run.layout),
    )


def measure(run: Training, params) -> dict[str, dict[str, float]]:
    """Ranking metrics of `params` on validation and test: {"valid": {"recall@20": ...}, "test": {...}}."""
    sums = run.programs.rank(params, run.data, run.ranking)
    return means(jax.device_get(sums), run.counts, run.config.topk)


def diagnostics(run: Training, params) -> dict[str, float]:
    """Estimates of mutual information between the parts of all items, see `diagnose`."""
    parts = run.programs.separate(params, run.data)
    return diagnose(jax.tree.map(lambda rows: parallel.whole_rows(rows, run.bundle.num_items, run.layout), parts))


def recommender(run: Training, params, notes: dict | None = None) -> Recommender:
    """What recommending, serving and comparing need of these parameters."""
    bundle, (user, item) = run.bundle, embeddings(run, params)
    texts = {name: bundle.shown[name].tolist() for name in ("titles", "categories") if name in bundle.shown}
    return Recommender.from_vectors(
        user, item, bundle.train, user_ids=bundle.user_ids, item_ids=bundle.item_ids, notes=notes or {},
        extras=extras(run, params), **texts,
    )  # fmt: skip


def extras(run: Training, params) -> dict[str, np.ndarray]:
    """What the recommender holds besides vectors: what items give strangers, and which columns come from where."""
    found, bundle = {}, run.bundle
    rows = run.programs.baskets(params, run.data)
    if rows is not None:
        degrees = np.bincount(np.unique(bundle.train, axis=0)[:, 1], minlength=bundle.num_items)
        rows = parallel.whole_rows(rows, bundle.num_items, run.layout)
        found["basket_items"] = rows / np.sqrt(np.maximum(degrees, 1))[:, None].astype(np.float32)
    columns = run.model.columns()
    if columns:
        found["column_names"] = np.array(list(columns))
        found["column_ends"] = np.array([one.stop for one in columns.values()], np.int64)
    return found


def finished(run: Training) -> bool:
    """Whether the run has used up its epochs or its patience."""
    patience = run.config.patience
    return int(run.progress.state.epoch) >= run.config.epochs or 0 < patience <= int(run.progress.stale)


def advance(run: Training) -> tuple[Training, dict[str, Any]]:
    """One epoch, with evaluation where it is due.

    Returns: the run after it, and its record: epoch, seconds, `loss/...`, `valid/...`, `test/...`.
    Raises: NotFinite if a loss is not finite; the run given is then used up (its arrays were donated).
    """
    config, progress = run.config, run.progress
    began = time.perf_counter()
    state, losses = run.programs.train_epoch(progress.state, run.data)
    losses = {f"loss/{name}": float(value) for name, value in jax.device_get(losses).items()}
    number = int(state.epoch)
    record = {"epoch": number, "seconds": time.perf_counter() - began, **losses}
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if broken:
        raise NotFinite(
            f"{broken[0]} is {losses[broken[0]]} in epoch {number}; the last good checkpoint is kept, "
            f"try a smaller --learning_rate than {config.learning_rate}."
        )
    progress = progress._replace(state=state)
    due = number % config.eval_every == 0
    if due or number >= config.epochs:
        began = time.perf_counter()
        metrics = measure(run, state.params)
        record["eval_seconds"] = time.perf_counter() - began
        record |= {f"{split}/{name}": value for split, of in metrics.items() for name, value in of.items()}
        if due and "valid" in metrics:  # one that is not due would make a resumed run choose otherwise
            progress = select(progress, metrics["valid"][config.monitor])
    if config.diagnose_every and number % config.diagnose_every == 0:
        record |= diagnostics(run, progress.state.params)
    return run._replace(progress=progress), record


def select(progress: Progress, value: float) -> Progress:
    """Keeps the parameters if the monitored validation metric is better than ever, else counts."""
    if not value > float(progress.best_value):
        return progress._replace(stale=np.asarray(progress.stale + 1, np.int32))
    return progress._replace(
        best_params=copied(progress.state.params),  # the state's own are donated to the next epoch
        best_epoch=np.asarray(progress.state.epoch, np.int32),
        best_value=np.asarray(value, np.float64),
        stale=np.asarray(0, np.int32),
    )


def best(progress: Progress) -> tuple[Any, int]:
    """Parameters and number of the best epoch; of the latest where validation has chosen none."""
    if int(progress.best_epoch) == 0:
        return latest(progress)
    return progress.best_params, int(progress.best_epoch)


def latest(progress: Progress) -> tuple[Any, int]:
    """Parameters and number of the latest epoch."""
    return progress.state.params, int(progress.state.epoch)


def fit(
    run: Training,
    saved=None,
    report: Callable[[dict], None] = lambda record: None,
    trace_dir: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Training:
    """Trains until the epochs or the patience are used up.

    Args:
      run: from `prepare`, perhaps restored.
      saved: a checkpointer, or None to write no checkpoints.
      report: called with the record of each epoch.
      trace_dir: where to write a profiler's trace of this call's second epoch (its first one compiles), or of the
        first if there is no other to come; none if None.
      stop: asked after each epoch; if it says yes, the progress is saved and KeyboardInterrupt raised.
    Returns: the run at its end; `measure(run, best(run.progress)[0])` gives its result.
    """
    start = int(run.progress.state.epoch)
    traced = min(start + 1, run.config.epochs - 1)
    while not finished(run):
        wanted = trace_dir is not None and int(run.progress.state.epoch) == traced
        with jax.profiler.trace(trace_dir) if wanted else contextlib.nullcontext():
            run, record = advance(run)
        report(record)
        number = int(run.progress.state.epoch)
        stopped = stop() and not finished(run)
        if saved is not None and (number % run.config.checkpoint_every == 0 or stopped or finished(run)):
            save(run, saved)
        if stopped:
            if saved is not None:
                saved.wait()
            raise KeyboardInterrupt(f"stopped after epoch {number}; the same command resumes.")
    if saved is not None:
        saved.wait()
    return run
