"""Every setting: its type, default, meaning and limits, once. Flags, checks and records derive from here."""

import dataclasses
import re
from typing import Any

from sea_jax.errors import SeaError


def setting(default: Any, help: str, *, numbers: bool = True, choices: tuple = (), low=None, above=None):
    """A field of Config.

    Args:
      default: its value unless told otherwise.
      help: one line for `--help`.
      numbers: whether it defines the run's numbers; a resumed run must agree in those that do.
      choices: the values allowed, if they are a short list.
      low, above: smallest value allowed; value that must be exceeded.
    """
    metadata = {"help": help, "numbers": numbers, "choices": choices, "low": low, "above": above}
    return dataclasses.field(default=default, metadata=metadata)


METRICS = ("recall", "ndcg", "precision", "map", "hit", "mrr")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. Defaults follow the paper; raises SeaError for a value that cannot be."""

    # Paths and time
    data_dir: str = setting("", "folder of the bundle that data_prep wrote", numbers=False)
    workdir: str = setting("", "folder this run writes into", numbers=False)
    epochs: int = setting(1000, "passes over the training interactions, at most", numbers=False, low=1)
    seed: int = setting(999, "seed of every random number", low=0)

    # Data
    modalities: tuple[str, ...] = setting((), "modalities to use, in this order; empty: all, in the bundle's order")
    knn_k: int = setting(10, "nearest items in the item graph, the item itself included", low=1)
    knn_weights: tuple[float, ...] = setting(
        (), "weight of each modality's neighbours; empty: image 0.1, text 0.9 for that pair, else equal", low=0.0
    )

    # Model
    backbone: str = setting("sea", "the recommender that carries the separation", choices=("sea", "vbpr"))
    split: str = setting(
        "input",
        "what is split into generic and unique: the item map (as released) or the graph's representation",
        choices=("input", "representation"),
    )
    embedding_dim: int = setting(64, "width of a user or item in one modality", low=2)
    layers: int = setting(2, "propagation layers on the user-item graph", low=0)

    # Loss
    bpr_base: float = setting(2.0, "base of the logarithm in BPR", above=1.0)
    alignment: str = setting(
        "solosim",
        "loss between generic parts of different modalities",
        choices=("solosim", "infonce_symmetric", "cosine", "none"),
    )
    alpha: float = setting(0.012, "weight of the alignment", low=0.0)
    temperature: float = setting(0.2, "temperature of Solosim", above=0.0)
    solosim_pairs: tuple[str, ...] = setting(
        (), "pairs anchor:candidate, such as text:image; empty: each later modality against each earlier one"
    )
    solosim_candidates: int = setting(
        0, "candidates drawn in each step where all items (0) are too many, with logQ correction", low=0
    )
    separation: str = setting(
        "club",
        "loss between generic and unique part of one modality",
        choices=("club", "club_all_pairs", "l1out", "orthogonal", "subtraction", "negative_l2", "none"),
    )
    ureg: float = setting(0.006, "weight of the separation", low=0.0)
    club_steps: int = setting(50, "Adam steps of the conditional q in each training step", low=0)
    club_fit_pairs: str = setting(
        "within_modality",
        "pairs q is fitted on: those evaluated, or the released code's (which give no bound)",
        choices=("within_modality", "across_modalities"),
    )

    # Optimiser
    learning_rate: float = setting(1e-4, "Adam's learning rate for the model", above=0.0)
    club_learning_rate: float = setting(1e-4, "Adam's learning rate for the conditional q", above=0.0)
    batch_size: int = setting(2048, "interactions in a step", low=1)

    # Evaluation and stopping
    topk: tuple[int, ...] = setting((5, 10, 20, 50), "cut-offs of the metrics", low=1)
    monitor: str = setting("recall@20", "validation metric that chooses the best epoch")
    patience: int = setting(20, "stop after this many evaluations without a better one; 0: never", low=0)
    eval_every: int = setting(1, "epochs between evaluations", low=1)
    mask_valid_at_test: bool = setting(False, "leave validation items out of the lists that test ranks")

    # How it is computed
    precision: str = setting("float32", "matrix products", choices=("float32", "tf32", "bfloat16"))
    features: str = setting(
        "device", "where the features stay: on the device, or on the host, fetched in each step (one device)",
        choices=("device", "host"), numbers=False,
    )  # fmt: skip
    propagation: str = setting(
        "auto", "sparse product: csr (fast on CPU), jraph (portable) or the platform's best",
        choices=("auto", "csr", "jraph"), numbers=False,
    )  # fmt: skip
    club_fit: str = setting(
        "auto", "CLUB's inner fit: plain, as one GPU kernel a round, or the kernel where it works",
        choices=("auto", "plain", "kernel"), numbers=False,
    )  # fmt: skip
    devices: str = setting("1", "number of devices, or all", numbers=False)
    parallel: str = setting(
        "auto", "single: plain jit; pmap: over the devices", choices=("auto", "single", "pmap"), numbers=False
    )
    coordinator_address: str = setting("", "host:port of process 0, for a run of several processes", numbers=False)
    num_processes: int = setting(0, "processes of the run; 0: one, or as the cluster says", numbers=False, low=0)
    process_id: int = setting(-1, "number of this process, from 0", numbers=False, low=-1)
    join_seconds: float = setting(300.0, "how long to wait for all processes to join", numbers=False, above=0.0)
    deterministic: bool = setting(False, "bitwise repeatable on a GPU too, at some cost", numbers=False)

    # Records
    checkpoint_every: int = setting(10, "epochs between checkpoints", numbers=False, low=1)
    diagnose_every: int = setting(0, "epochs between estimates of mutual information; 0: never", numbers=False, low=0)
    compilation_cache_dir: str = setting("", "folder that keeps compiled programs between runs", numbers=False)
    profile: bool = setting(
        False, "write a trace of this run's second epoch (of a single one: that) into workdir/trace", numbers=False
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check(field, getattr(self, field.name))
        name, _, k = self.monitor.partition("@")
        if name not in METRICS or not re.fullmatch(r"[1-9]\d*", k):
            raise SeaError(
                f"--monitor={self.monitor} is no metric; write one of {', '.join(METRICS)}, @ and a cut-off."
            )
        if int(k) not in self.topk:
            raise SeaError(f"--monitor={self.monitor} needs --topk to contain {k}; it is {self.topk}.")
        if self.devices != "all" and not re.fullmatch(r"[1-9]\d*", self.devices):
            raise SeaError(f"--devices={self.devices} must be a positive number or all.")
        if self.backbone == "vbpr" and self.split == "representation" and self.embedding_dim < 2:
            raise SeaError("--embedding_dim must be at least 2 to split a representation.")


def check(field: dataclasses.Field, value: Any) -> None:
    """Raises SeaError unless `value` lies within the field's limits."""
    limits = field.metadata
    for number in value if isinstance(value, tuple) else (value,):
        if limits["choices"] and number not in limits["choices"]:
            raise SeaError(f"--{field.name}={number} is not one of {', '.join(limits['choices'])}.")
        if limits["low"] is not None and not number >= limits["low"]:
            raise SeaError(f"--{field.name}={number} must be at least {limits['low']}.")
        if limits["above"] is not None and not number > limits["above"]:
            raise SeaError(f"--{field.name}={number} must be above {limits['above']}.")


def differences(old: dict, new: dict) -> list[str]:
    """Names of the settings that define a run's numbers and differ between two `dataclasses.asdict` records."""
    defining = (field.name for field in dataclasses.fields(Config) if field.metadata["numbers"])
    return [name for name in defining if _plain(old.get(name)) != _plain(new.get(name))]


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def modality_pairs(modalities: tuple[str, ...], named: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(anchor, candidate) of each alignment term; by default each later modality against each earlier one."""
    if not named:
        return tuple((later, earlier) for n, later in enumerate(modalities) for earlier in modalities[:n])
    pairs = tuple(tuple(pair.split(":")) for pair in named)
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(modalities):
            raise SeaError(f"--solosim_pairs={':'.join(pair)} must name two of the modalities {', '.join(modalities)}.")
    return pairs
