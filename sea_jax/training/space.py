"""What a search may choose from: a YAML file of settings' names with ranges or choices, checked."""

import dataclasses
import os
from typing import Any, NamedTuple

from sea_jax import files
from sea_jax.config import Config, checked, kind_of, shown
from sea_jax.errors import SeaError, require

NOT_SEARCHED = {
    "backbone": "it decides which settings there are",
    "seed": "a lucky seed is no setting",
    "modalities": "every trial must see the same data",
    "topk": "it changes what is measured",
    "monitor": "every trial must be measured by the same metric",
    "mask_valid_at_test": "it changes what is measured",
}


class Dimension(NamedTuple):
    """One setting's range or choices.

    low, high, log, step: of a range, both ends included; step 0: any number. choices: as flags have them, () of a range.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0
    choices: tuple[str, ...] = ()


Space = dict[str, Dimension]


def read_space(path: str | os.PathLike, config: Config) -> Space:
    """The space of a YAML file, such as `learning_rate: {low: 1e-4, high: 1e-2, log: true}` and `knn_k: [5, 10, 20]`.

    Args:
      path: the file.
      config: the settings that a search starts from, which the space must hold.
    Raises: SeaError naming the file and the setting for anything that cannot be searched.
    """
    yaml = require("yaml", "search", "a search")
    try:
        found = yaml.safe_load(files.read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SeaError(f"{path}{where} is no YAML; write a line such as learning_rate: [1e-4, 1e-3].") from error
    except RecursionError as error:
        raise SeaError(f"{path} is nested too deep; write a setting's range or choices on each line.") from error
    if not isinstance(found, dict) or not found:
        raise SeaError(f"{path} must name settings, each with a range or a list of choices.")
    try:
        return {name: dimension(name, of, config) for name, of in found.items()}
    except SeaError as error:
        raise SeaError(f"{path}: {error}") from error


def dimension(name: Any, of: Any, config: Config) -> Dimension:
    """One setting's dimension; raises SeaError for what cannot be."""
    fields = {field.name: field for field in dataclasses.fields(Config) if field.metadata["numbers"]}
    if name not in fields or name in NOT_SEARCHED or fields[name].name in NOT_SEARCHED:
        why = NOT_SEARCHED.get(name, "no setting that defines a run's numbers has this name")
        raise SeaError(f"{name} cannot be searched: {why}.")
    field = fields[name]
    if isinstance(of, list) and of:
        found = Dimension(choices=tuple(dict.fromkeys(shown(value_of(field, one)) for one in of)))
    elif isinstance(of, dict) and {"low", "high"} <= set(of) <= {"low", "high", "log", "step"}:
        found = _range(field, of)
    else:
        raise SeaError(f"{name} must be a list of choices, or have low and high and perhaps log and step.")
    if not holds(found, getattr(config, name)):
        raise SeaError(
            f"{name} does not hold {shown(getattr(config, name))}, which the search starts from; widen it, or give "
            f"--{name} another value."
        )
    return found


def _range(field: dataclasses.Field, of: dict) -> Dimension:
    kind, several = kind_of(field)
    if several or kind not in (int, float):
        raise SeaError(f"{field.name} has no range; give it a list of choices.")
    low, high = (value_of(field, of[end]) for end in ("low", "high"))
    log, step = of.get("log", False), _number(of.get("step", 0), kind)
    if not isinstance(log, bool) or not isinstance(step, int | float) or isinstance(step, bool) or step < 0:
        raise SeaError(f"{field.name}: log must be true or false, and step a number above 0.")
    if not low < high or (log and (step or low <= 0)):
        raise SeaError(f"{field.name}: low must be below high; with log it must be above 0, and there is no step.")
    return Dimension(low, high, log, step or (1 if kind is int and not log else 0))


def _number(value: Any, kind: type) -> Any:
    """YAML takes 1e-4 for a text."""
    try:
        return kind(value) if isinstance(value, str) else value
    except ValueError:
        return value


def value_of(field: dataclasses.Field, value: Any) -> Any:
    """A value as YAML or a choice's text gives it as the setting has it; raises SeaError if it cannot be."""
    kind, several = kind_of(field)
    if several:
        entries = value if isinstance(value, list) else [one for one in str(value).split(",") if one]
        return checked(field, tuple(_number(one, kind) for one in entries))
    if kind is bool and value in ("True", "False"):
        return value == "True"
    return checked(field, _number(value, kind))


def holds(of: Dimension, value: Any) -> bool:
    """Whether the dimension has this value."""
    if of.choices:
        return shown(value) in of.choices
    steps = (value - of.low) / of.step if of.step else 0
    return of.low <= value <= of.high and abs(steps - round(steps)) < 1e-6


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """A trial's values (Optuna's `Trial.suggest_...`) as settings."""
    fields, found = {field.name: field for field in dataclasses.fields(Config)}, {}
    for name, of in space.items():
        field = fields[name]
        if of.choices:
            found[name] = value_of(field, trial.suggest_categorical(name, list(of.choices)))
        elif kind_of(field)[0] is int:
            found[name] = trial.suggest_int(name, int(of.low), int(of.high), log=of.log, step=int(of.step) or 1)
        else:
            found[name] = trial.suggest_float(name, of.low, of.high, log=of.log, step=of.step or None)
    return found


def values(config: Config, space: Space) -> dict[str, Any]:
    """The settings' values in the space, as Optuna stores them."""
    return {name: shown(getattr(config, name)) if of.choices else getattr(config, name) for name, of in space.items()}
