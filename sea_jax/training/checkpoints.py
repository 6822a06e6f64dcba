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


def wait(saved: ocp.training.Checkpointer) -> None:
    """Returns when the last checkpoint is on disk; raises SeaError if it could not be written."""
    try:
        saved.wait()
    except Exception as error:  # orbax and tensorstore raise many kinds for a full disk or a lost folder
        raise SeaError(
            f"a checkpoint could not be written to {saved.directory} ({_reason(error)}); make room there and give the "
            "same command again, it goes on from the last good one."
        ) from error


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
            warn(
                f"checkpoint {checkpoint.step} in {saved.directory} cannot be read ({_reason(error)}); "
                "trying the one before."
            )
    if found:
        raise SeaError(
            f"no checkpoint in {saved.directory} can be read for this model and these flags; "
            "choose another --workdir to start anew."
        )
    return None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
