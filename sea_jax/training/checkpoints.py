"""Checkpoints: the whole state, written by orbax, restored bit for bit."""

from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from sea_jax.errors import SeaError

KEPT = 2  # the latest, and one before it in case the latest is damaged


def checkpointer(directory: Path) -> ocp.training.Checkpointer:
    """An orbax checkpointer that keeps the latest two; the best parameters travel inside each (see loop.Progress)."""
    return ocp.training.Checkpointer(
        Path(directory).absolute(),
        save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
        preservation_policy=ocp.training.preservation_policies.LatestN(KEPT),
        cleanup_tmp_directories=True,
    )


def restore(saved: ocp.training.Checkpointer, like: Any, warn=lambda message: None) -> Any:
    """The newest checkpoint that can be read, or None if there is none at all.

    Args:
      saved: the checkpointer.
      like: a pytree of jax.ShapeDtypeStruct (with a sharding) and NumPy arrays, of the shapes to restore.
      warn: called with a sentence for each damaged checkpoint that is passed over.
    Raises: SeaError if there are checkpoints and none can be read.
    """
    found = sorted(saved.checkpoints, key=lambda checkpoint: -checkpoint.step)
    for checkpoint in found:
        try:
            return saved.load(checkpoint.step, like)
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            warn(f"checkpoint {checkpoint.step} in {saved.directory} cannot be read ({reason}); trying the one before.")
    if found:
        raise SeaError(
            f"no checkpoint in {saved.directory} can be read for this model and these flags; "
            "choose another --workdir to start anew."
        )
    return None
