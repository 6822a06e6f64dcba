"""Every setting: its type, default, meaning and limits, once. Flags, checks and records derive from here."""

import copy
import dataclasses
import math
import numbers
import re
import typing
from typing import Any

from sea_jax.errors import SeaError

METRICS = ("recall", "ndcg", "precision", "map", "hit", "mrr")
LARGEST_INT = 2**31 - 1
SMALLEST_FLOAT, LARGEST_FLOAT = 2.0**-126, 3.4e38  # the normal numbers of float32, in which everything is computed

# Settings whose default is the backbone's own: what its released code does (MMRec's, for all but sea).
OWN_DEFAULTS = {
    "sea": {"layers": 2, "item_layers": 1, "bpr_base": 2.0, "separation": "club", "alignment": "solosim"},
    "mf": {"reg_weight": 1e-2},
    "lightgcn": {"layers": 2, "reg_weight": 1e-3},
    "vbpr": {"reg_weight": 1e-2},
    "freedom": {"layers": 2, "item_layers": 1, "reg_weight": 1e-3, "train_features": True},
    "bm3": {"layers": 1, "reg_weight": 0.1, "train_features": True},
    "pgl": {"layers": 2, "item_layers": 1, "reg_weight": 1e-2, "train_features": True},
    "mgcn": {"layers": 2, "item_layers": 1, "reg_weight": 1e-4, "train_features": True},
    "lgmrec": {"layers": 2, "item_layers": 2, "reg_weight": 1e-6},
    "smore": {"layers": 3, "item_layers": 1, "reg_weight": 1e-4, "train_features": True},
    "dragon": {"layers": 2, "item_layers": 1, "reg_weight": 1e-3, "bpr_base": 2.0},
}
ELSE = {
    "layers": 0, "item_layers": 0, "bpr_base": math.e, "reg_weight": 0.0,
    "separation": "none", "alignment": "none", "train_features": False,
}  # fmt: skip


GROUPS = {  # the first setting of each group that --help shows
    "data_dir": "Paths and time",
    "modalities": "Data",
    "backbone": "Model",
    "ranking_loss": "Loss",
    "learning_rate": "Optimiser",
    "topk": "Evaluation and stopping",
    "precision": "How it is computed",
    "checkpoint_every": "Records",
}


def setting(
    default: Any, help: str, *, numbers: bool = True, argument: bool = False, choices: tuple = (),
    low=None, above=None, high=None,
):  # fmt: skip
    """A field of Config.

    Args:
      default: its value unless told otherwise; None where that is the backbone's own (OWN_DEFAULTS).
      help: one line for `--help`.
      numbers: whether it defines the run's numbers; a resumed run must agree in those that do.
      argument: whether compiled programs take it as an argument, see `arguments`.
      choices: the values allowed, if they are a short list.
      low, above, high: smallest value allowed; value that must be exceeded; largest value allowed.
    """
    limits = {"low": low, "above": above, "high": high}
    metadata = {"help": help, "numbers": numbers, "argument": argument, "choices": choices} | limits
    return dataclasses.field(default=default, metadata=metadata)


@typing.no_type_check  # annotations say what fields become; `checked` says what may be given, in one sentence
@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. Defaults follow the paper; raises SeaError for a value that cannot be.

    A setting that is None takes the backbone's own value. Lists are taken where tuples are meant.
    """

    data_dir: str = setting("", "folder of the bundle that data_prep wrote", numbers=False)
    workdir: str = setting("", "folder this run writes into", numbers=False)
    epochs: int = setting(1000, "passes over the training interactions, at most", numbers=False, low=1)
    seed: int = setting(999, "seed of every random number", low=0, high=2**32 - 1)

    modalities: tuple[str, ...] = setting((), "modalities to use, in this order; empty: all, in the bundle's order")
    knn_k: int = setting(10, "nearest items in the item graph, the item itself included", low=1)
    knn_weights: tuple[float, ...] = setting(
        (), "weight of each modality's neighbours; empty: image 0.1, text 0.9 for that pair, else equal", low=0.0
    )

    backbone: str = setting("sea", "the recommender that carries the separation", choices=tuple(OWN_DEFAULTS))
    split: str = setting(
        "input",
        "what is split into generic and unique: the item map (as released) or the backbone's representation",
        choices=("input", "representation"),
    )
    embedding_dim: int = setting(64, "width of a user or item in one modality", low=2)
    layers: int | None = setting(None, "propagation layers on the user-item graph", low=0)
    item_layers: int | None = setting(None, "propagation layers on the item graphs", low=0)
    train_features: bool | None = setting(None, "whether the raw features are trained along")
    vbpr_biases: bool = setting(False, "VBPR: the item biases of its paper")
    freedom_edge_dropout: float = setting(
        0.8, "FREEDOM: share of training pairs left out of the graph in each epoch", low=0.0, high=1.0
    )
    bm3_dropout: float = setting(0.3, "BM3: share of each target's entries that are zero", low=0.0, high=1.0)
    bm3_contrast_weight: float = setting(2.0, "BM3: weight of the modalities' terms", argument=True, low=0.0)
    pgl_kept: float = setting(0.3, "PGL: share of training pairs in the graph of each epoch", low=0.0, high=1.0)
    pgl_dropout: float = setting(0.2, "PGL: share of entries that are zero in a copy of a row", low=0.0, high=1.0)
    pgl_temperature: float = setting(0.2, "PGL: temperature of its contrast", argument=True, low=1e-4)
    mgcn_contrast_weight: float = setting(0.01, "MGCN: weight of the contrast with content", argument=True, low=0.0)
    lgmrec_hyperedges: int = setting(4, "LGMRec: hyperedges of each modality", low=1)
    lgmrec_hyper_layers: int = setting(1, "LGMRec: rounds through the hyperedges", low=1)
    lgmrec_keep_rate: float = setting(0.5, "LGMRec: share of hyperedges kept in training", above=0.0, high=1.0)
    lgmrec_alpha: float = setting(
        0.3, "LGMRec: weight of the hyperedges' part in the final rows", argument=True, low=0.0
    )
    lgmrec_contrast_weight: float = setting(
        1e-4, "LGMRec: weight of the contrast between modalities", argument=True, low=0.0
    )
    smore_knn_k: tuple[int, ...] = setting(
        (), "SMORE: nearest items of each modality; empty: image 10, text 15 for that pair, else knn_k", low=1
    )
    smore_dropout: float = setting(0.1, "SMORE: share of the preferences dropped in training", low=0.0, high=0.99)
    smore_contrast_weight: float = setting(0.01, "SMORE: weight of the contrast with content", argument=True, low=0.0)
    dragon_user_neighbours: int = setting(40, "DRAGON: nearest users of each user", low=1)

    ranking_loss: str = setting(
        "bpr",
        "loss of the ranking: a pair of items, or a user's direction against all items (they are then ranked by direction)",
        choices=("bpr", "softmax"),
    )
    negatives: int = setting(1, "negatives that BPR compares each positive with", low=1)
    ranking_temperature: float = setting(0.15, "temperature of the softmax ranking", argument=True, low=1e-4)
    ranking_candidates: int = setting(
        0, "items drawn in each step as rivals in the softmax ranking, with logQ correction; 0: all", low=0
    )
    ranking_masks_seen: bool = setting(
        False, "whether the user's other training items are no rivals in the softmax ranking"
    )
    bpr_base: float | None = setting(None, "base of the logarithm in BPR", above=1.0)
    reg_weight: float | None = setting(None, "weight of the backbone's own penalty", argument=True, low=0.0)
    alignment: str | None = setting(
        None,
        "loss between generic parts of different modalities",
        choices=("solosim", "infonce_symmetric", "cosine", "none"),
    )
    alpha: float = setting(0.012, "weight of the alignment", argument=True, low=0.0)
    temperature: float = setting(0.2, "temperature of Solosim", argument=True, low=1e-4)
    solosim_pairs: tuple[str, ...] = setting(
        (), "pairs anchor:candidate, such as text:image; empty: each later modality against each earlier one"
    )
    solosim_candidates: int = setting(
        0, "candidates drawn in each step where all items (0) are too many, with logQ correction", low=0
    )
    separation: str | None = setting(
        None,
        "loss between generic and unique part of one modality",
        choices=("club", "club_all_pairs", "l1out", "orthogonal", "subtraction", "negative_l2", "none"),
    )
    ureg: float = setting(0.006, "weight of the separation", argument=True, low=0.0)
    club_steps: int = setting(50, "Adam steps of the conditional q in each training step", low=0)
    club_fit_pairs: str = setting(
        "within_modality",
        "pairs q is fitted on: those evaluated, or the released code's (which give no bound)",
        choices=("within_modality", "across_modalities"),
    )

    learning_rate: float = setting(1e-4, "Adam's learning rate for the model", argument=True, above=0.0)
    club_learning_rate: float = setting(1e-4, "Adam's learning rate for the conditional q", argument=True, above=0.0)
    batch_size: int = setting(2048, "interactions in a step", low=1)

    topk: tuple[int, ...] = setting((5, 10, 20, 50), "cut-offs of the metrics", low=1)
    monitor: str = setting("recall@20", "validation metric that chooses the best epoch")
    patience: int = setting(20, "stop after this many evaluations without a better one; 0: never", low=0)
    eval_every: int = setting(1, "epochs between evaluations", low=1)
    mask_valid_at_test: bool = setting(False, "leave validation items out of the lists that test ranks")

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

    checkpoint_every: int = setting(10, "epochs between checkpoints", numbers=False, low=1)
    diagnose_every: int = setting(0, "epochs between estimates of mutual information; 0: never", numbers=False, low=0)
    compilation_cache_dir: str = setting("", "folder that keeps compiled programs between runs", numbers=False)
    profile: bool = setting(
        False, "write a trace of this run's second epoch (of a single one: that) into workdir/trace", numbers=False
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        for name, value in (ELSE | OWN_DEFAULTS[self.backbone]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        check_monitor(self.monitor, self.topk)
        if self.devices != "all" and not re.fullmatch(r"[1-9]\d{0,8}", self.devices):
            raise SeaError(f"--devices={self.devices} must be a positive number or all.")


def check_monitor(monitor: str, topk: tuple[int, ...]) -> None:
    """Raises SeaError for a metric that is none, or whose cut-off is not measured."""
    name, _, k = monitor.partition("@")
    if name not in METRICS or not re.fullmatch(r"[1-9]\d*", k):
        raise SeaError(f"--monitor={monitor} is no metric; write one of {', '.join(METRICS)}, @ and a cut-off.")
    if int(k) not in topk:
        raise SeaError(f"--monitor={monitor} needs --topk to contain {k}; it is {shown(topk)}.")


def kind_of(field: dataclasses.Field) -> tuple[type, bool]:
    """(type of a setting or of one of its entries, whether it has entries)."""
    if typing.get_origin(field.type) is tuple:
        return typing.get_args(field.type)[0], True
    named = [kind for kind in typing.get_args(field.type) or (field.type,) if kind is not type(None)]
    return named[0], False


def checked(field: dataclasses.Field, value: Any) -> Any:
    """The value as the field's type has it; raises SeaError if it is of another kind or beyond the limits."""
    kind, several = kind_of(field)
    if value is None and field.default is None:
        return None
    if not several:
        return _one(field, kind, value)
    if not isinstance(value, tuple | list):
        raise SeaError(f"--{field.name}={value!r} must be a list.")
    return tuple(_one(field, kind, entry) for entry in value)


NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _one(field, kind, value):
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, numbers.Integral) and not isinstance(value, bool),
        float: isinstance(value, numbers.Real) and not isinstance(value, bool),
        str: isinstance(value, str),
    }[kind]
    if field.name == "devices" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not fits:
        raise SeaError(f"--{field.name}={value!r} must be {NAMES[kind]}.")
    value, limits = kind(value), field.metadata
    if limits["choices"] and value not in limits["choices"]:
        raise SeaError(f"--{field.name}={value} is not one of {', '.join(limits['choices'])}.")
    if kind is float and (not math.isfinite(value) or (value and not SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT)):
        raise SeaError(f"--{field.name}={value} must be a finite number that float32 can hold.")
    if limits["low"] is not None and not value >= limits["low"]:
        raise SeaError(f"--{field.name}={value} must be at least {limits['low']}.")
    if limits["above"] is not None and not value > limits["above"]:
        raise SeaError(f"--{field.name}={value} must be above {limits['above']}.")
    high = LARGEST_INT if kind is int and limits["high"] is None else limits["high"]
    if high is not None and value > high:
        raise SeaError(f"--{field.name}={value} must be at most {high}.")
    if kind is str and re.search(r"[\n\r\0]", value):
        raise SeaError(f"--{field.name}={value!r} must be one line.")
    return value


def shown(value: Any) -> str:
    """A setting's value as a flag has it."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def from_dict(values: dict) -> Config:
    """A Config from a record of one; raises SeaError that names what this version does not know."""
    unknown = set(values) - {field.name for field in dataclasses.fields(Config)}
    if unknown:
        raise SeaError(f"the record has settings this version does not know: {', '.join(sorted(map(str, unknown)))}.")
    return Config(**values)


def flag_lines(config: Config) -> str:
    """The settings as a flagfile that replays the run."""
    lines = []
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, bool):
            lines.append(f"--{name}" if value else f"--no{name}")
        else:
            lines.append(f"--{name}={shown(value)}")
    return "\n".join(lines) + "\n"


def differences(old: dict, new: Config) -> list[str]:
    """Names of the settings that define a run's numbers and differ between a record of old settings and new ones."""
    was = from_dict(old)
    defining = (field.name for field in dataclasses.fields(Config) if field.metadata["numbers"])
    return [name for name in defining if getattr(was, name) != getattr(new, name)]


def arguments(config: Config) -> dict[str, float]:
    """Learning rates, weights and temperatures, which compiled programs take as arguments: runs that differ in these share one.

    A temperature below 1/30, at which logits must be searched for their largest, is built into the program instead.
    """
    named = (field.name for field in dataclasses.fields(Config) if field.metadata["argument"])
    return {name: x for name in named if (x := getattr(config, name)) >= 1 / 30 or not name.endswith("temperature")}


def with_arguments(config: Config, values: dict[str, Any]) -> Config:
    """The settings with some replaced by arrays of a program that is being traced; nothing is checked."""
    found = copy.copy(config)
    for name, value in values.items():
        object.__setattr__(found, name, value)
    return found


PROGRAMS_KNOW_NOT = (
    "data_dir", "workdir", "epochs", "seed", "monitor", "patience", "eval_every", "join_seconds", "checkpoint_every",
    "diagnose_every", "compilation_cache_dir", "profile",
)  # fmt: skip


def share_programs(one: Config, other: Config) -> bool:
    """Whether runs of both settings on the same data may use the same compiled programs and graphs."""
    free = {*PROGRAMS_KNOW_NOT, *arguments(one)}
    names = (field.name for field in dataclasses.fields(Config) if field.name not in free)
    same = all(getattr(one, name) == getattr(other, name) for name in names)
    return same and arguments(one).keys() == arguments(other).keys()


def modality_pairs(modalities: tuple[str, ...], named: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """(anchor, candidate) of each alignment term; by default each later modality against each earlier one."""
    if not named:
        return tuple((later, earlier) for n, later in enumerate(modalities) for earlier in modalities[:n])
    pairs = tuple(tuple(pair.split(":")) for pair in named)
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(modalities):
            raise SeaError(f"--solosim_pairs={':'.join(pair)} must name two of the modalities {', '.join(modalities)}.")
    return pairs
