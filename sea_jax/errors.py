"""The one error that is meant for a person to read."""


class SeaError(Exception):
    """One sentence: what is wrong, in which file and field, and what to do."""
