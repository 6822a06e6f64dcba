"""The service's benchmark runs: every kind of request is answered, nonsense is refused, a kill loses nothing."""

import random

import pytest

from benchmarks import serving

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


def test_a_small_catalogue_is_measured():
    found = serving.measure((50, 60, 8), seconds=0.1, malformed=300)
    for kind in ("user", "basket", "similar", "explained", "diverse"):
        assert [one["clients"] for one in found[kind]] == [1, 4]
        assert all(0 < one["p50_ms"] <= one["p99_ms"] for one in found[kind])
    assert sum(found["malformed"].values()) == 300
    assert all(status.startswith("4") or status == "hung up" for status in found["malformed"])
    assert found["killed"]["same_answers"] and found["killed"]["exit"] == -9


def test_nonsense_repeats_and_varies():
    first, second = ([serving.nonsense(draw) for _ in range(200)] for draw in (random.Random(1), random.Random(1)))
    assert first == second
    assert len({str(one) for one in first}) > 150
