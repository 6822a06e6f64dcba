"""A blend's whole run: finished runs of one dataset opened, their weights chosen on validation, its folder written."""

import dataclasses
import os
import time
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sea_jax import blending, files
from sea_jax import bundle as bundles
from sea_jax.bundle import Bundle
from sea_jax.config import check_monitor, checked, setting
from sea_jax.errors import SeaError
from sea_jax.evaluation import by_user
from sea_jax.recommender import BLOCK_BYTES, Recommender
from sea_jax.training import closed_forms, workdir
from sea_jax.training.runs import Run, open_run

USERS = 20_000  # of validation who choose weights, at most
SCORES_BYTES = 2 << 30  # of their scores under all members, at most
# What a weight is multiplied by (one of 0 counts as 1), one weight after the other, until none improves.
FACTORS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
DIGITS = 4  # of weights that are chosen, which add up to 1


@typing.no_type_check  # as Config: `checked` says in one sentence what may be given
@dataclasses.dataclass(frozen=True)
class Blend:
    """The settings of a blend."""

    runs: tuple[str, ...] = setting(
        (), "folders of the runs; one with seed-N folders stands for all of these, which share its weight"
    )
    data_dir: str = setting("", "folder of the bundle, if it moved since the first was made", numbers=False)
    workdir: str = setting("", "folder this run writes into", numbers=False)
    weights: tuple[float, ...] = setting((), "one a run; empty: chosen on validation", low=0.0)
    topk: tuple[int, ...] = setting((5, 10, 20, 50), "cut-offs of the metrics", low=1)
    monitor: str = setting("recall@20", "validation metric that chooses weights")
    seed: int = setting(0, f"which validation users choose where there are more than {USERS}", low=0, high=2**32 - 1)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        check_monitor(self.monitor, self.topk)
        if self.weights and not any(self.weights):
            raise SeaError("--weights are all 0; one at least must be above.")


def groups_of(settings: Blend) -> list[list[Path]]:
    """The folders of the members by the entry of `runs` that names them: one run, or the seeds of one setting.

    Raises: SeaError for fewer than two members, one that is named twice, or one without a run.
    """
    if not all(settings.runs):
        raise SeaError("--runs has an empty entry; separate folders by one comma.")
    groups = [workdir.runs_at(Path(given)) for given in settings.runs]
    found = [folder for group in groups for folder in group]
    for folder in found:
        if not (folder / workdir.RECORD).is_file():
            raise SeaError(f"--runs names {folder}, which holds no run (no {workdir.RECORD}).")
    if len(found) < 2:
        raise SeaError(f"--runs={','.join(settings.runs)} names fewer than two runs; a blend needs two at least.")
    if len({path.resolve() for path in found}) < len(found):
        raise SeaError("--runs names a run twice; give its weight instead.")
    return groups


def names_of(members: Sequence[Path]) -> list[str]:
    """What members are called: their folders from where they part."""
    places = [path.resolve() for path in members]
    root = os.path.commonpath([path.parent for path in places])
    return [path.relative_to(root).as_posix() for path in places]


def bundle_of(settings: Blend) -> Bundle:
    """The dataset of the first run, with all modalities; raises SeaError if it is not to be found."""
    first = groups_of(settings)[0][0]
    path = _data_dir(settings, first)
    if not path:
        raise SeaError(f"{first / workdir.RECORD} names no dataset on disk; name the bundle with --data_dir.")
    return bundles.load(path, verify_hashes=True)


def _data_dir(settings: Blend, first: Path) -> str:
    return settings.data_dir or workdir.read_origin(first)[0]["data_dir"]


def check(folder: Path, bundle: Bundle) -> None:
    """Raises SeaError for a run that is not finished, is a blend itself, or was made from other data."""
    _, record = workdir.read_origin(folder)
    if record.get("baseline", {}).get("model") == "blend":
        raise SeaError(f"{folder} is itself a blend; name its runs instead.")
    workdir.read_summary(folder)
    if not (folder / workdir.RECOMMENDER).is_file():
        raise SeaError(f"{folder} has no {workdir.RECOMMENDER}; train there again, which writes it.")
    given, own = record["data"], bundle.manifest.get("hashes", {})
    if not set(given) & set(own):  # one of them was made in memory
        own = workdir.digest(dataclasses.replace(bundle, features={}))
    compared = [name for name in ("interactions.npz", "ids.npz", *bundles.SPLITS) if name in given and name in own]
    if not compared or any(given[name] != own[name] for name in compared):
        raise SeaError(
            f"{folder} was made from other interactions or ids than {bundle.name}; blend runs of one dataset."
        )


def opened(members: Sequence[Path], bundle: Bundle) -> list[Recommender]:
    """The members' recommenders; raises SeaError for one of other users, items or training interactions."""
    found = []
    for folder in members:
        made = open_run(folder).recommender()
        first = found[0] if found else made
        parts = ("user_ids", "item_ids", "seen_starts", "seen_items")
        fits = (len(made.user_ids), len(made.item_ids)) == (bundle.num_users, bundle.num_items)
        if not fits or not all(np.array_equal(getattr(made, name), getattr(first, name)) for name in parts):
            raise SeaError(
                f"{folder} was made from other interactions or ids than {members[0]}; blend runs of one dataset."
            )
        found.append(made)
    return found


def drawn(bundle: Bundle, members: int, seed: int) -> Int[np.ndarray, " n"]:
    """The users who choose weights: those who count in validation, drawn where there are too many; rising."""
    users = np.intersect1d(bundle.valid[:, 0], bundle.train[:, 0])
    most = max(1, min(USERS, SCORES_BYTES // (4 * bundle.num_items * members)))
    if len(users) > most:
        users = np.sort(np.random.default_rng(seed).choice(users, most, replace=False))
    return users


def scores_of(made: Recommender, users: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n items"]:
    """Standardised scores of a member, in blocks of users."""
    found = np.empty((len(users), len(made.item_ids)), np.float32)
    block = max(1, BLOCK_BYTES // (4 * found.shape[1]))
    for at in range(0, len(users), block):
        some = slice(at, at + block)
        found[some] = blending.standardised(made.scores(made.user_ids[users[some]]))
    return found


def choose(
    groups: Sequence[Sequence[Recommender]], bundle: Bundle, settings: Blend, report: Callable[[tuple, dict], None]
) -> tuple[float, ...]:
    """The weights of groups, which add up to 1, of the highest monitored metric on validation that `search` finds.

    Args:
      groups: the members; those of one group have one weight together, and each one's scores are computed once.
      bundle: the data, of whose test nothing is read.
      settings: with the metric and the seed of the users.
      report: called with the weights and the validation metrics of each trial.
    Raises: SeaError if nobody counts in validation.
    """
    users = drawn(bundle, len(groups), settings.seed)
    if not len(users):
        raise SeaError("nobody counts in validation; give --weights.")
    train, valid = (pairs[np.isin(pairs[:, 0], users)] for pairs in (bundle.train, bundle.valid))
    train, valid = (np.stack([np.searchsorted(users, x[:, 0]), x[:, 1]], axis=1) for x in (train, valid))
    parts = [sum(scores_of(one, users) for one in group) / np.float32(len(group)) for group in groups]
    tried: dict[tuple, float] = {}

    def value(weights: tuple[float, ...]) -> float:
        if weights not in tried:
            used = [(part, weight) for part, weight in zip(parts, weights, strict=True) if weight]

            def scores(rows):
                return blending.blended([part[rows] for part, _ in used], np.array([weight for _, weight in used]))

            _, found = by_user(scores, train, valid, closed_forms.NOBODY, len(users), bundle.num_items, settings.topk)
            metrics = {name: float(of.sum()) / len(users) for name, of in found["valid"].items()}
            tried[weights] = metrics[settings.monitor]
            report(weights, metrics)
        return tried[weights]

    return search(value, len(groups))


def search(value: Callable[[tuple[float, ...]], float], members: int) -> tuple[float, ...]:
    """Weights that add up to 1, up to rounding, of the highest value found; the first of those that tie.

    From equal weights, and from the best member alone: one weight after the other times `FACTORS`, until none improves.
    """
    alone = [tuple(float(n == m) for n in range(members)) for m in range(members)]
    starts = [_normal([1.0] * members), max(alone, key=value)]
    return max([_climbed(value, start) for start in starts], key=value)


def _climbed(value: Callable, best: tuple[float, ...]) -> tuple[float, ...]:
    while True:
        before = best
        for m in range(len(best)):
            changed = [[*best[:m], factor * (best[m] or 1.0), *best[m + 1 :]] for factor in FACTORS]
            best = max([best, *(_normal(weights) for weights in changed if any(weights))], key=value)
        if best == before:
            return best


def _normal(weights: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(weight / sum(weights), DIGITS) for weight in weights)


def run(bundle: Bundle, settings: Blend, report: Callable[[dict], None] = lambda record: None) -> Run:
    """Blends runs of a dataset: chooses weights, measures, and writes into its workdir (nowhere if that is empty).

    A finished one of the same settings, data and recommenders of the members is read, not made again.

    Args:
      bundle: the dataset of all of them, see `bundle_of`.
      settings: which runs, and how.
      report: called with the record of each trial: "epoch" (its number), "weight/...", "seconds", "valid/...".
    Raises: SeaError for runs that cannot be blended, or a folder that holds something else.
    """
    groups = groups_of(settings)
    if settings.weights and len(settings.weights) != len(groups):
        raise SeaError(
            f"--weights has {len(settings.weights)} numbers and --runs {len(groups)} entries; give one each."
        )
    members = [folder for group in groups for folder in group]
    for folder in members:
        check(folder, bundle)
    names = names_of(members)
    hashes = [
        str(files.read_npz(path / workdir.RECOMMENDER, ["sha256"], workdir.DAMAGED)["sha256"]) for path in members
    ]
    runs = tuple(str(Path(given)) for given in settings.runs)
    settings = dataclasses.replace(settings, runs=runs, data_dir=_data_dir(settings, members[0]))
    return closed_forms.kept(
        bundle,
        settings,
        lambda note: _work(bundle, settings, groups, names, note),
        report,
        model="blend",
        modalities=bundle.modalities,
        members=dict(zip(names, hashes, strict=True)),
    )


def _work(bundle, settings, groups, names, note) -> tuple[str, dict, Recommender]:
    found = iter(opened([folder for group in groups for folder in group], bundle))
    made = [[next(found) for _ in group] for group in groups]
    entries, began, count = names_of([Path(given) for given in settings.runs]), time.perf_counter(), 0

    def trial(weights, metrics):
        nonlocal began, count
        count, now = count + 1, time.perf_counter()
        values = {f"weight/{name}": weight for name, weight in zip(entries, weights, strict=True)}
        note({"epoch": count, **values, "seconds": now - began, **{f"valid/{name}": x for name, x in metrics.items()}})
        began = now

    weights = settings.weights or choose(made, bundle, settings, trial)
    members = [one for group in made for one in group]
    shares = [weight / len(group) for group, weight in zip(made, weights, strict=True) for _ in group]
    used = [n for n, share in enumerate(shares) if share]  # the others would change nothing
    notes = {"dataset": bundle.name, "baseline": "blend", "members": {names[n]: shares[n] for n in used}}
    whole = Recommender.from_members(
        [members[n] for n in used], [shares[n] for n in used], [names[n] for n in used], notes
    )
    return "blend", dict(zip(entries, weights, strict=True)), whole
