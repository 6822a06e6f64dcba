"""The campaign of faults in short: a kill, every kind of damage, the first bad input to each program."""

import pytest

from benchmarks import disk_faults, faults


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_nobody_killed(demo, tmp_path):
    found = faults.kills(demo, tmp_path, rounds=2, jobs=1, minutes=3, seed=1, models=("lightgcn",))
    assert found["kills"] == 2
    assert found["compared"] >= 1
    assert found["different"] == found["failed"] == 0
    assert found["reader"]["errors"] == []


# An echo of failed reads, see cli.unraisable.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_no_damage_is_silent(demo, tmp_path):
    found = disk_faults.damage(demo, tmp_path, flips=1, seed=0)
    for what, counts in found.items():
        assert counts["silent"] == counts["tracebacks"] == [], what
        assert counts["told"] > 0, what


@pytest.mark.slow
def test_bad_input_is_one_sentence(tmp_path):
    found = faults.wrong_input(tmp_path, only=3)
    assert found["cases"] > 40
    assert found["wrong"] == []
