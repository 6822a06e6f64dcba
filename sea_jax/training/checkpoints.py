"""Checkpoints: the whole state, written by orbax, restored bit for bit. Whoever reads writes and deletes nothing."""

import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from sea_jax.errors import SeaError

KEPT = 2  # the latest, and one before it in case the latest is damaged
LISTINGS = 5  # how often a reader lists again when the checkpoints change under it


class Writer:
    """Writes the checkpoints of a run, one after the other, each while training goes on.

    saved: an orbax checkpointer.
    """

    def __init__(self, saved: Any):
        self.saved, self.pending = saved, None

    def save(self, step: int, tree: Any) -> None:
        """Begins to write a pytree of host arrays, with a checksum of its content: orbax has none of the numbers.

        Raises: SeaError if the one before could not be written.
        """
        self.wait()
        about = {"crc32": checksum(tree)}
        self.pending = self.saved.save_async(step, tree, overwrite=True, custom_metadata=about)

    def wait(self) -> None:
        """Returns when the last checkpoint is on disk; raises SeaError if it could not be written."""
        pending, self.pending = self.pending, None
        try:
            if pending is not None:
                pending.result()  # its thread and open files stay until it is asked
            self.saved.wait()
        except Exception as error:  # orbax and tensorstore raise many kinds for a full disk or a lost folder
            raise SeaError(
                f"a checkpoint could not be written to {self.saved.directory} ({_reason(error)}); make room there and "
                "give the same command again, it goes on from the last good one."
            ) from error

    def close(self) -> None:
        """Lets go of the folder."""
        self.saved.close()


def checkpointer(directory: Path) -> Writer:
    """The one writer of a run; it keeps the latest two checkpoints.

    The best parameters travel inside each checkpoint (see loop.Progress). Only the writer may have one: it deletes what
    a killed run left unfinished, which beside another writer would be that writer's own.
    """
    return Writer(
        ocp.training.Checkpointer(
            Path(directory).absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(KEPT),
            cleanup_tmp_directories=True,
        )
    )


def checksum(tree: Any) -> int:
    """CRC-32 over the bytes of all arrays."""
    with ThreadPoolExecutor() as threads:
        found = threads.map(
            lambda x: zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8)), jax.tree.leaves(tree)
        )
        return zlib.crc32(np.array(list(found), np.uint32))


def steps(directory: Path) -> list[int]:
    """Epochs of the checkpoints in a folder, newest first; unfinished ones have other names."""
    if not Path(directory).is_dir():
        return []
    return sorted((int(path.name) for path in Path(directory).iterdir() if path.name.isdigit()), reverse=True)


def restore(directory: Path, like: Any, warn=lambda message: None) -> Any:
    """The newest checkpoint that can be read, or None if there is none at all.

    Args:
      directory: of the checkpoints; nothing in it is changed.
      like: a pytree of host arrays, of the shapes to restore.
      warn: called with a sentence for each damaged checkpoint that is passed over.
    Raises: SeaError if there are checkpoints and none can be read, or one has other shapes.
    """
    directory, told = Path(directory).absolute(), []
    for _ in range(LISTINGS):
        found = steps(directory)
        for step in found:
            try:
                restored = ocp.load(directory / str(step), like)
                written = (ocp.metadata(directory / str(step)).custom_metadata or {}).get("crc32")
                if written is not None and written != checksum(restored):
                    raise ValueError("its numbers are not those that were written")
            except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
                told.append(
                    f"checkpoint {step} in {directory} cannot be read ({_reason(error)}); trying the one before."
                )
            else:
                check_shapes(restored, like, directory / str(step))
                for message in told:
                    warn(message)
                return restored
        if found == steps(directory):
            break
        told.clear()  # a run that goes on replaced them while they were read
    if found:
        raise SeaError(
            f"no checkpoint in {directory} can be read for this model and these flags; "
            "choose another --workdir to start anew."
        )
    return None


def check_shapes(restored: Any, like: Any, where: Path) -> None:
    """Raises SeaError naming the first array of another shape or type: orbax restores those without a word."""
    wanted = dict(jax.tree_util.tree_leaves_with_path(like))
    for path, x in jax.tree_util.tree_leaves_with_path(restored):
        expected = wanted[path]
        if np.shape(x) != np.shape(expected) or np.asarray(x).dtype != np.asarray(expected).dtype:
            raise SeaError(
                f"{where} is of other settings than run.json says: {jax.tree_util.keystr(path, simple=True, separator='/')} "
                f"is {np.shape(x)} there and {np.shape(expected)} by the settings; restore run.json as it was."
            )


REASONS = {
    "RESOURCE_EXHAUSTED": "no space is left there", "No space left": "no space is left there",
    "File too large": "no file may be so large", "Read-only file system": "it is read-only",
    "PERMISSION_DENIED": "permission is denied", "Permission denied": "permission is denied",
}  # fmt: skip


def _reason(error: Exception) -> str:
    known = next((words for sign, words in REASONS.items() if sign in str(error)), "")
    lines = str(error).strip().splitlines()
    return known or (lines[0][:200] if lines else type(error).__name__)
