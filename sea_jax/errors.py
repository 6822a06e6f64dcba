"""SeaError: one sentence for a person. What is not installed is one, too."""

import importlib


class SeaError(Exception):
    """One sentence: what is wrong, in which file and field, and what to do."""


def require(module: str, extra: str, what: str):
    """Imports an optional package that `what` needs; raises SeaError naming the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        reason = "is not installed" if getattr(error, "name", None) == package else f"cannot be imported ({error})"
        raise SeaError(f'{what} needs {package}, which {reason}; run pip install "sea_jax[{extra}]".') from error
