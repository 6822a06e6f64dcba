"""The ranking and its metrics against a naive loop over users and against trec_eval."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from ir_measures import AP, RR, P, R, Success, iter_calc, nDCG

from sea_jax.evaluation import above, by_user, factors, means, metric_names, metric_sums, ranking_data, user_counts

TOPK = (1, 3, 5, 40)


@partial(jax.jit, static_argnums=3)
def ranked(user, item, data, topk):
    return metric_sums(factors(user, item, len(item)), len(item), data, topk)


def naive(scores, masked, held_out, users, topk):
    """Metrics by their definitions, one user at a time."""
    found = {}
    for k in topk:
        per_user = []
        for user in users:
            order = sorted(range(scores.shape[1]), key=lambda item: (-scores[user, item], item))
            listed = [item for item in order if item not in masked[user]][:k]
            hits = [item in held_out[user] for item in listed]
            relevant = len(held_out[user])
            dcg = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
            ideal = sum(1 / math.log2(place + 2) for place in range(min(k, relevant, scores.shape[1])))
            precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
            per_user.append(
                {
                    "recall": sum(hits) / relevant,
                    "ndcg": dcg / ideal,
                    "precision": sum(hits) / k,
                    "map": sum(precisions) / min(k, relevant),
                    "hit": float(any(hits)),
                    "mrr": next((1 / (place + 1) for place, hit in enumerate(hits) if hit), 0.0),
                }
            )
        for name in per_user[0]:
            found[f"{name}@{k}"] = float(np.mean([values[name] for values in per_user]))
    return found


def dataset(rng, users=23, items=17):
    """Splits in which users 0 and 1 lack training and 2, 3 held-out interactions; scores have ties."""
    pairs = {"train": [], "valid": [], "test": []}
    for user in range(users):
        chosen = rng.permutation(items)
        if user > 1:
            pairs["train"] += [(user, item) for item in chosen[: rng.integers(1, 6)]]
        if user not in (2, 3):
            pairs["valid"] += [(user, item) for item in chosen[6 : 6 + rng.integers(1, 3)]]
            pairs["test"] += [(user, item) for item in chosen[9 : 9 + rng.integers(1, 5)]]
    return {name: np.array(value, np.int32) for name, value in pairs.items()}


def items_of(pairs, users):
    return [set(pairs[pairs[:, 0] == user, 1].tolist()) for user in range(users)]


def evaluate(user, item, splits, topk, parts=1, **options):
    """Metrics of both splits, from the sums of each device's users."""
    shares = ranking_data(*splits, len(user), len(item), parts=parts, **options)
    rows = -(-len(user) // parts)
    sums = [
        ranked(np.resize(user[n * rows : (n + 1) * rows], (rows, user.shape[1])), item, share, topk)
        for n, share in enumerate(shares)
    ]
    return means(jax.tree.map(lambda *values: sum(values), *sums), user_counts(*splits, len(user)), topk)


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("block_bytes", [1, 4 * 17 * 5, 1 << 20])
@pytest.mark.parametrize("mask_valid_at_test", [False, True])
def test_equals_the_naive_loop(rng, block_bytes, mask_valid_at_test, parts):
    users, items = 23, 17
    splits = dataset(rng)
    user = rng.integers(-1, 2, size=(users, 2)).astype(np.float32)
    item = rng.integers(-1, 2, size=(items, 2)).astype(np.float32)
    scores = user @ item.T
    found = evaluate(
        user, item, splits.values(), TOPK, parts, mask_valid_at_test=mask_valid_at_test, block_bytes=block_bytes
    )

    train, valid, test = (items_of(splits[name], users) for name in ("train", "valid", "test"))
    counted = [u for u in range(users) if train[u] and test[u]]
    assert counted == list(range(4, users))
    masked_at_test = [a | b for a, b in zip(train, valid, strict=True)] if mask_valid_at_test else train
    for split, masked, held_out in (("valid", train, valid), ("test", masked_at_test, test)):
        expected = naive(scores, masked, held_out, counted, TOPK)
        assert found[split].keys() == expected.keys()
        for name, value in expected.items():
            assert found[split][name] == pytest.approx(value, abs=1e-6), (split, name)
    assert user_counts(*splits.values(), users)["test"] == {
        "counted": users - 4,
        "without_training": 2,
        "without_held_out": 2,
    }


def test_an_item_of_training_never_counts_as_a_hit():
    train = np.array([[0, 0]], np.int32)
    held_out = np.array([[0, 0], [0, 1]], np.int32)
    splits = train, held_out, held_out
    found = evaluate(np.ones((1, 1), np.float32), np.array([[2.0], [1.0]], np.float32), splits, (2,))
    assert found["valid"]["recall@2"] == 0.5
    assert found["valid"]["mrr@2"] == 1.0


def test_a_pair_listed_twice_counts_once():
    train = np.array([[0, 0]], np.int32)
    held_out = np.array([[0, 2], [0, 1], [0, 2]], np.int32)
    item = np.array([[9.0], [1.0], [3.0], [2.0]], np.float32)  # ranked 2, 3, 1
    found = evaluate(np.ones((1, 1), np.float32), item, (train, held_out, held_out), (2,))
    assert found["valid"]["recall@2"] == 0.5
    assert found["valid"]["map@2"] == 0.5


@pytest.mark.usefixtures("either_platform")
def test_counting_equals_sorting(rng):
    scores = rng.integers(-3, 3, size=(9, 31)).astype(np.float32)  # many are equal
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    rows, items = np.divmod(rng.permutation(scores.size)[:100], 31)
    padding = np.full(5, 9)
    found = above(jax.numpy.asarray(scores), np.append(rows, padding), np.append(items, padding))
    # A stable sort leaves items of equal score in the order of their numbers.
    place = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    np.testing.assert_array_equal(found[: len(rows)], place[rows, items])
    assert found.shape == (105,)


def test_values_of_every_user(rng):
    """By any score function on the host; users who do not count in a split have 0 there."""
    splits = dataset(rng)
    scores = rng.integers(-2, 3, size=(23, 17)).astype(np.float32)
    users, values = by_user(lambda rows: scores[rows], *splits.values(), 23, 17, TOPK)
    assert users.tolist() == list(range(4, 23))
    train, test = (items_of(splits[name], 23) for name in ("train", "test"))
    assert list(values["test"]) == metric_names(TOPK)
    for place, user in enumerate(users):
        expected = naive(scores, train, test, [user], TOPK)
        for name, value in expected.items():
            assert values["test"][name][place] == pytest.approx(value, abs=1e-6), (user, name)


@pytest.mark.parametrize("k", [1, 5, 10, 200])
def test_every_users_metrics_are_those_of_trec_eval(rng, k):
    """By ir-measures, whose AP divides by all n held-out items and ours by min(n, k)."""
    users, items = 60, 120
    scores = rng.permuted(np.tile(np.arange(items, dtype=np.float32), (users, 1)), axis=1)  # no two are equal
    train = np.unique(rng.integers(0, [users, items], size=(300, 2)), axis=0).astype(np.int32)
    test = np.unique(rng.integers(0, [users, items], size=(800, 2)), axis=0).astype(np.int32)
    test = test[~(test[:, None] == train).all(-1).any(-1)]
    counted, values = by_user(lambda rows: scores[rows], train, test[:0], test, users, items, (k,))
    held_out, seen = items_of(test, users), items_of(train, users)
    wanted = {str(user): {str(item): 1 for item in held_out[user]} for user in counted}
    ranked = {
        str(user): {str(item): float(scores[user, item]) for item in range(items) if item not in seen[user]}
        for user in counted
    }
    assert len(counted) > 50
    measures = {"recall": R, "ndcg": nDCG, "precision": P, "map": AP, "hit": Success, "mrr": RR}
    found = {
        (one.query_id, str(one.measure)): one.value
        for one in iter_calc([m @ k for m in measures.values()], wanted, ranked)
    }
    for place, user in enumerate(counted.tolist()):
        n = len(held_out[user])
        for name, measure in measures.items():
            expected = found[str(user), str(measure @ k)] * (n / min(n, k) if name == "map" else 1)
            assert values["test"][f"{name}@{k}"][place] == pytest.approx(expected, abs=1e-6), (user, name)


def test_splits_and_metrics_come_in_one_order(rng):
    splits = dataset(rng)
    user, item = rng.normal(size=(23, 2)).astype(np.float32), rng.normal(size=(17, 2)).astype(np.float32)
    found = evaluate(user, item, splits.values(), (3, 1))
    assert list(found) == ["valid", "test"]
    assert list(found["test"])[:3] == ["recall@3", "recall@1", "ndcg@3"]


def test_a_split_in_which_nobody_counts_is_left_out(rng):
    splits = dataset(rng) | {"valid": np.zeros((0, 2), np.int32)}
    user, item = rng.normal(size=(23, 2)).astype(np.float32), rng.normal(size=(17, 2)).astype(np.float32)
    found = evaluate(user, item, splits.values(), (3,))
    assert list(found) == ["test"]
