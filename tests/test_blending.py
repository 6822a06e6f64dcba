"""Blends against sums by hand in float64 NumPy: scores, baskets, similar items, reasons, files; the run that makes one."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

import sea_jax
from sea_jax import blending, exporting, recommender_file
from sea_jax.baselines import Baseline
from sea_jax.errors import SeaError
from sea_jax.explaining import explain, explain_for
from sea_jax.recommender import Recommender
from sea_jax.serving.answers import Answers, Question
from sea_jax.training import blends, closed_forms, runs
from sea_jax.training.blends import Blend

ROOT = Path(__file__).parents[1]
USERS, ITEMS, WIDTH = 7, 11, 3
WEIGHTS = [0.5, 0.25, 2.0, 1.5]
NAMES = ["factors", "closed form", "neighbours", "popular"]


@pytest.fixture
def arrays(rng):
    """What the four members are made of; user 6 has seen nothing."""
    pairs = np.unique(np.stack([rng.integers(0, USERS - 1, 25), rng.integers(0, ITEMS, 25)], axis=1), axis=0)
    sparse = np.where(rng.random((ITEMS, ITEMS)) < 0.4, rng.normal(size=(ITEMS, ITEMS)), 0)
    sparse[4] = 0
    found = {
        "pairs": pairs, "user": rng.normal(size=(USERS, WIDTH)), "item": rng.normal(size=(ITEMS, WIDTH)),
        "dense": rng.normal(size=(ITEMS, ITEMS)), "sparse": sparse, "popular": np.arange(ITEMS)[::-1] ** 2.0,
    }  # fmt: skip
    found["item"][4] = found["dense"][4] = 0
    return {name: x if name == "pairs" else x.astype(np.float32) for name, x in found.items()}


@pytest.fixture
def members(arrays):
    about = {"item_ids": [f"電{n}" for n in range(ITEMS)], "user_ids": range(100, 100 + USERS)}
    extras = {"basket_items": arrays["item"] * 2}
    return [
        Recommender.from_vectors(arrays["user"], arrays["item"], arrays["pairs"], extras=extras, titles=["t"] * ITEMS, **about),
        Recommender.from_item_weights(arrays["dense"], arrays["pairs"], **about),
        Recommender.from_item_weights(scipy.sparse.csr_matrix(arrays["sparse"]), arrays["pairs"], **about),
        Recommender.from_item_scores(arrays["popular"], arrays["pairs"], notes={"baseline": "popularity"}, **about),
    ]  # fmt: skip


@pytest.fixture
def made(members):
    return Recommender.from_members(members, WEIGHTS, NAMES, {"baseline": "blend"})


def z(row):
    """One row of scores, standardised by hand."""
    row = np.asarray(row, np.float64)
    mean = sum(row) / len(row)
    spread = (sum((x - mean) ** 2 for x in row) / len(row)) ** 0.5
    return (row - mean) / spread if spread > 1e-9 else 0 * row


def parts_by_hand(arrays, user):
    """Each member's weighted share of each item's score, (4, items)."""
    seen = arrays["pairs"][arrays["pairs"][:, 0] == user, 1]
    rows = [
        arrays["item"].astype(np.float64) @ arrays["user"][user],
        arrays["dense"].astype(np.float64)[seen].sum(axis=0),
        arrays["sparse"].astype(np.float64)[seen].sum(axis=0),
        arrays["popular"],
    ]
    return np.array([weight * z(row) for weight, row in zip(WEIGHTS, rows, strict=True)])


def test_standardised_rows(rng):
    scores = (rng.normal(size=(5, 40)) * np.array([[1e-6], [1], [1e6], [0], [3]]) + 0.1).astype(np.float32)
    found = blending.standardised(scores)
    for n, row in enumerate(scores):
        np.testing.assert_allclose(found[n], z(row), rtol=1e-3, atol=2e-2 if n == 0 else 1e-5)
        np.testing.assert_array_equal(blending.standardised(scores[n : n + 1])[0], found[n])
    assert not found[3].any() and found.dtype == np.float32


def test_scores_are_the_weighted_sum_of_standardised_ones(arrays, made):
    for user in range(USERS):
        expected = parts_by_hand(arrays, user).sum(axis=0)
        np.testing.assert_allclose(made.scores(100 + user)[0], expected, rtol=1e-4, atol=1e-4)
        items, scores = made.recommend(100 + user, 4)
        seen = arrays["pairs"][arrays["pairs"][:, 0] == user, 1].tolist()
        order = [f"電{n}" for n in np.argsort(-expected, kind="stable").tolist() if n not in seen]
        assert items[0].tolist() == order[:4]
        np.testing.assert_allclose(scores[0], sorted(np.delete(expected, seen))[::-1][:4], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(made.scores(range(100, 100 + USERS))[3], made.scores(103)[0])  # alone or not
    assert made.titles == ["t"] * ITEMS


def test_a_basket_is_scored_by_each_member(arrays, made):
    basket, weights = [2, 5, 9], np.array([1.0, 3.0, 0.5])
    vector = weights @ (2.0 * arrays["item"][basket]) / np.sqrt(weights.sum())
    rows = [arrays["item"] @ vector, weights @ arrays["dense"][basket], weights @ arrays["sparse"][basket]]
    expected = sum(w * z(row) for w, row in zip(WEIGHTS, [*rows, arrays["popular"]], strict=True))
    ids = [f"電{n}" for n in basket]
    items, scores = made.recommend_for(ids, ITEMS, exclude_seen=False, weights=weights.tolist())
    assert items.tolist() == [f"電{n}" for n in np.argsort(-expected)]
    np.testing.assert_allclose(scores, np.sort(expected)[::-1], rtol=1e-4, atol=1e-4)
    for why in explain_for(made, ids, items[:3].tolist(), weights=weights.tolist()):
        place = items.tolist().index(why.item)
        assert why.score == pytest.approx(sum(why.parts.values())) == pytest.approx(scores[place], rel=1e-4)
    with pytest.raises(SeaError, match="basket is empty"):
        made.recommend_for([], 3)


def test_similar_items_by_the_weighted_mean_of_cosines(arrays, made, members):
    """Item 4 has no row in any member; popularity has no say."""
    expected = np.zeros((ITEMS, ITEMS))
    for weight, name in zip(WEIGHTS, ("item", "dense", "sparse"), strict=False):
        rows = arrays[name].astype(np.float64)
        norms = np.linalg.norm(rows, axis=1)
        for i in range(ITEMS):
            for j in range(ITEMS):
                cosine = rows[i] @ rows[j] / (norms[i] * norms[j]) if norms[i] * norms[j] > 0 else 0.0
                expected[i, j] += weight * cosine / sum(WEIGHTS[:3])
    items, scores = made.similar_items("電3", ITEMS)
    others = [n for n in range(ITEMS) if n not in (3, 4)]
    order = sorted(others, key=lambda n: -expected[3, n])
    assert items[0].tolist() == [f"電{n}" for n in order] + [None] * 2
    np.testing.assert_allclose(scores[0][: len(order)], expected[3, order], rtol=1e-4, atol=1e-5)
    assert made.similar_items("電4", 2)[0].tolist() == [[None, None]]
    alike = Recommender.from_members([members[3], members[3]], [1, 2])
    with pytest.raises(SeaError, match="Similar items need"):
        alike.similar_items("電3", 2)


def test_an_item_that_one_member_knows_nothing_of(arrays, members):
    rows = arrays["item"].copy()
    rows[4] = 1.0
    full = Recommender.from_vectors(
        arrays["user"], rows, arrays["pairs"], user_ids=members[0].user_ids, item_ids=members[0].item_ids
    )
    both = Recommender.from_members([full, members[1]], [1.0, 3.0])
    items, scores = both.similar_items("電4", 1)
    cosines = rows @ rows[4] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[4])
    cosines[4] = -np.inf
    assert items[0, 0] == f"電{cosines.argmax()}" and scores[0, 0] == pytest.approx(cosines.max() / 4, rel=1e-5)


def test_reasons_are_the_members_shares(arrays, made, members):
    shares = parts_by_hand(arrays, 2)
    for why, item in zip(explain(made, 102, ["電1", "電8"]), (1, 8), strict=True):
        assert why.parts == pytest.approx(dict(zip(NAMES, shares[:, item], strict=True)), rel=1e-3, abs=1e-4)
        assert why.score == pytest.approx(made.scores(102)[0, item], rel=1e-4)
        own = made.seen(2).tolist()
        likeness = made.cosines(np.array([item]))[0]
        named = sorted((n for n in own if likeness[n] > -np.inf), key=lambda n: -likeness[n])[:3]
        assert [one for one, _ in why.nearest] == [f"電{n}" for n in named]
        assert [x for _, x in why.nearest] == pytest.approx([likeness[n] for n in named])
    assert list(explain(Recommender.from_members(members, WEIGHTS), 102, "電1")[0].parts) == ["0", "1", "2", "3"]


def test_a_file_gives_back_a_blend(made, tmp_path):
    made.save(tmp_path / "file.npz")
    read = Recommender.load(tmp_path / "file.npz")
    users = range(100, 100 + USERS)
    np.testing.assert_array_equal(read.scores(users), made.scores(users))
    assert (read.notes, read.titles) == ({"baseline": "blend"}, ["t"] * ITEMS)
    assert read.members[3].notes == {"baseline": "popularity"}
    assert read.recommend_for(["電1"], 3)[0].tolist() == made.recommend_for(["電1"], 3)[0].tolist()
    read.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "file.npz").read_bytes()
    with np.load(tmp_path / "file.npz", allow_pickle=False) as held:
        assert int(held["schema"]) == 2 and held["member_weights"].tolist() == WEIGHTS
        np.testing.assert_array_equal(held["member0_item_vectors"], made.members[0].item_vectors)
    made.members[0].save(tmp_path / "one.npz")
    with np.load(tmp_path / "one.npz", allow_pickle=False) as held:
        assert int(held["schema"]) == 1 and not any(name.startswith("member") for name in held)


DAMAGE = {
    "a weight of 0": ({"member_weights": np.array([1, 0, 1, 1], np.float32)}, "member_weights must be above 0"),
    "a weight too few": ({"member_weights": np.ones(3, np.float32)}, "members must be 3"),
    "no weights": ({"member_weights": None}, "form that scores"),
    "no scores of a member": ({"member3_item_scores": None}, "form that scores"),
    "a member's ids": ({"member0_item_ids": np.arange(ITEMS)}, "member0_item_ids is none of a recommender"),
    "a member of a member": (
        {"member0_member0_item_scores": np.ones(ITEMS, np.float32)},
        "member0_member0_item_scores",
    ),
    "a stray field": ({"member0_stray": np.ones(3)}, "member0_stray is none"),
    "notes without JSON": ({"member2_notes": np.array("{")}, "member2_notes is no JSON"),
    "not finite": ({"member3_item_scores": np.full(ITEMS, np.nan, np.float32)}, "item_scores has values"),
    "names twice": ({"extra_member_names": np.array(["a", "a", "b", "c"])}, "extras..member_names"),
    "pickled": ({"member0_notes": np.array([{}, None])}, "member0_notes"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_told(made, tmp_path, case):
    path, (change, named) = tmp_path / "file.npz", DAMAGE[case]
    made.save(path)
    with np.load(path) as held:
        fields = {name: array for name, array in (dict(held) | change).items() if array is not None}
    del fields["sha256"]
    if case != "pickled":
        fields["sha256"] = np.array(recommender_file._sha256(fields))
    np.savez(path, **fields)
    with pytest.raises(SeaError, match=named) as told:
        Recommender.load(path)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_what_cannot_be_is_told(made, members, arrays, tmp_path):
    fewer = Recommender.from_item_scores(arrays["popular"], arrays["pairs"][1:], user_ids=members[0].user_ids,
                                         item_ids=members[0].item_ids)  # fmt: skip
    for wrong, words in (
        (lambda: made.basket_vector(["電1"]), "needs a recommender of vectors"),
        (lambda: made.with_items(["new"], np.ones((1, WIDTH))), "New items need"),
        (lambda: exporting.write(made, "npz", str(tmp_path / "x.npz")), "Exports are of vectors"),
        (lambda: Recommender.from_members([made, members[0]], [1, 1]), "itself a blend"),
        (lambda: Recommender.from_members([members[0], fewer], [1, 1]), r"members\[1\] has other seen"),
        (lambda: Recommender.from_members(members, [1, 1]), "members must be 2"),
        (lambda: Recommender.from_members(members[:2], [1, -1]), "member_weights must be above 0"),
        (lambda: Recommender.from_members(members[:2], [1, np.inf]), "member_weights has values"),
        (lambda: Recommender.from_members([], []), "needs members"),
        (lambda: Recommender.from_members(members[:2], [1, 1], ["a"]), "member_names"),
    ):
        with pytest.raises(SeaError, match=words):
            wrong()


def test_the_service_answers_from_a_blend(made):
    said = Answers(made)
    listed = said.recommend(Question(user=101, k=3, explain=True, diversity=0.4))["items"]
    assert all(sum(one["why"]["parts"].values()) == pytest.approx(one["score"], rel=1e-3) for one in listed)
    popular = said.recommend(Question(user=7, k=2, stranger="popular"))["items"]
    assert popular[0]["score"] == np.bincount(made.seen_items).max()
    assert len(said.similar("電1", 2)["items"]) == 2


def test_a_blend_needs_no_jax(made, tmp_path):
    made.save(tmp_path / "file.npz")
    code = (
        "import sys; sys.modules['jax'] = sys.modules['scipy'] = None; from sea_jax.recommender import Recommender;"
        "made = Recommender.load(sys.argv[1]); made.recommend(made.user_ids, 5); made.similar_items(made.item_ids[:2], 3)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "file.npz")], check=True, cwd=ROOT)


def test_the_search_climbs_and_takes_the_first_of_ties():
    best = np.array([0.6, 0.0, 0.4])
    tried = []

    def value(weights):
        tried.append(weights)
        return -float(np.abs(np.array(weights) - best).sum())

    found = blends.search(value, 3)
    assert np.abs(np.array(found) - best).max() < 0.08 and found[1] == 0
    assert {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.3333, 0.3333, 0.3333)} <= set(tried)
    assert all(abs(sum(weights) - 1) < 1e-3 and min(weights) >= 0 for weights in tried)
    assert blends.search(lambda weights: 0.0, 3) == (0.3333, 0.3333, 0.3333)
    assert blends.search(lambda weights: weights[1], 2) == (0.0, 1.0)


SMALL = {"batch_size": 64, "club_steps": 2, "learning_rate": 1e-2, "epochs": 3}


@pytest.fixture(scope="module")
def folders(demo, tmp_path_factory):
    """Two baselines, and a folder with two seeds of a training."""
    bundle, place = sea_jax.load(demo), tmp_path_factory.mktemp("runs")
    for model in ("item_knn", "popularity"):
        given = {"neighbours": 9, "shrinkage": 1.0} if model == "item_knn" else {}
        closed_forms.run(bundle, Baseline(model=model, data_dir=str(demo), workdir=str(place / model), **given))
    for seed in (1, 2):
        config = sea_jax.Config(data_dir=str(demo), seed=seed, **SMALL)
        sea_jax.fit(bundle, config, workdir=place / "trained" / f"seed-{seed}")
    return place


def settings(folders, workdir, *names, **more):
    names = names or ("item_knn", "trained", "popularity")
    return Blend(runs=tuple(str(folders / name) for name in names), workdir=str(workdir), **more)


def recall_by_hand(made, bundle, split, k=20):
    found, pairs = [], getattr(bundle, split)
    for user in np.unique(pairs[:, 0]):
        seen = set(bundle.train[bundle.train[:, 0] == user, 1].tolist())
        held_out = set(pairs[pairs[:, 0] == user, 1].tolist())
        order = np.argsort(-made.scores(made.user_ids[[user]])[0], kind="stable").tolist()
        listed = [item for item in order if item not in seen][:k]
        if seen:
            found.append(len(held_out & set(listed)) / len(held_out))
    return float(np.mean(found))


def test_a_blend_of_runs_is_a_run(folders, demo, tmp_path):
    bundle, given = sea_jax.load(demo), settings(folders, tmp_path / "blend")
    run = blends.run(blends.bundle_of(given), given)
    assert list(run.summary["chosen"]) == ["item_knn", "trained", "popularity"]
    opened = sea_jax.open_run(tmp_path / "blend")
    assert opened.metrics == run.metrics and opened.bundle().num_items == bundle.num_items
    made = opened.recommender()
    for split in ("valid", "test"):
        assert run.metrics[split]["recall@20"] == pytest.approx(recall_by_hand(made, bundle, split), rel=1e-5)
    shares = {name: run.summary["chosen"][name] for name in ("item_knn", "popularity")}
    shares |= {f"trained/seed-{n}": run.summary["chosen"]["trained"] / 2 for n in (1, 2)}
    rows = {name: runs.open_run(folders / name).recommender().scores(made.user_ids[[4]])[0] for name in shares}
    expected = sum(share * z(rows[name]) for name, share in shares.items())
    np.testing.assert_allclose(made.scores(made.user_ids[[4]])[0], expected, rtol=1e-3, atol=1e-3)
    # The records of the trials: what was chosen is the best of them, and no worse than a member or equal weights.
    lines = [json.loads(line) for line in (tmp_path / "blend" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1)) and opened.history == lines
    assert not any(name.startswith("test") for line in lines for name in line)
    weights = [{name: line[f"weight/{name}"] for name in run.summary["chosen"]} for line in lines]
    values = [line["valid/recall@20"] for line in lines]
    assert max(values) == values[weights.index(run.summary["chosen"])]
    assert run.metrics["valid"]["recall@20"] == pytest.approx(max(values), rel=1e-5)  # measured on the same users
    assert sum(sorted(one.values())[-1] == 1 for one in weights) == 3
    # A finished one is read; another is refused.
    assert blends.run(bundle, given).metrics == run.metrics
    with pytest.raises(SeaError, match="holds another run"):
        blends.run(bundle, settings(folders, tmp_path / "blend", "item_knn", "popularity"))


def test_weights_are_chosen_without_test(folders, demo, tmp_path, rng):
    bundle = sea_jax.load(demo)
    made = [[runs.open_run(folders / name).recommender()] for name in ("item_knn", "trained/seed-1")]
    found = []
    for test in (
        bundle.test,
        bundle.test[:0],
        np.stack([bundle.test[:, 0], rng.permutation(bundle.test[:, 1])], axis=1),
    ):
        other = dataclasses.replace(bundle, test=test)
        found.append(blends.choose(made, other, Blend(), lambda weights, metrics: None))
    assert len(set(found)) == 1


def test_few_users_choose_where_memory_is_short(folders, demo, monkeypatch):
    bundle = sea_jax.load(demo)
    everybody = blends.drawn(bundle, 2, 0)
    monkeypatch.setattr(blends, "SCORES_BYTES", 4 * bundle.num_items * 2 * 9)
    few = blends.drawn(bundle, 2, 0)
    assert len(few) == 9 and set(few) < set(everybody) and (np.diff(few) > 0).all()
    assert few.tolist() == blends.drawn(bundle, 2, 0).tolist() != blends.drawn(bundle, 2, 1).tolist()
    made = [runs.open_run(folders / name).recommender() for name in ("item_knn", "trained/seed-1")]
    monkeypatch.setattr(blends, "BLOCK_BYTES", 1)
    expected = [z(row) for row in made[0].scores(made[0].user_ids[few])]
    np.testing.assert_allclose(blends.scores_of(made[0], few), expected, rtol=1e-3, atol=1e-4)
    said = []
    blends.choose(
        [[one] for one in made], bundle, Blend(), lambda weights, metrics: said.append((weights, metrics["recall@20"]))
    )
    held_out = {user: bundle.valid[bundle.valid[:, 0] == user, 1].tolist() for user in few.tolist()}
    for weights, value in said[:3]:  # each member alone and both: recall over the nine users by hand
        used = [(m, w) for m, w in zip(made, weights, strict=True) if w]
        one = Recommender.from_members([m for m, _ in used], [w for _, w in used])
        lists = one.recommend(one.user_ids[few], 20)[0].tolist()
        numbers = [set(one.numbers("item", items).tolist()) for items in lists]
        recall = [
            len(own & set(held_out[user])) / len(held_out[user])
            for own, user in zip(numbers, few.tolist(), strict=True)
        ]
        assert value == pytest.approx(np.mean(recall), rel=1e-5)


def test_given_weights_are_kept(folders, demo, tmp_path):
    bundle = sea_jax.load(demo)
    names = ("item_knn", "trained/seed-1", "trained/seed-2")
    run = blends.run(bundle, settings(folders, tmp_path / "blend", *names, weights=(1.0, 0.0, 0.5)))
    assert run.summary["chosen"] == {"item_knn": 1.0, "trained/seed-1": 0.0, "trained/seed-2": 0.5}
    made = run.recommender()
    assert len(made.members) == 2 and made.extras["member_names"].tolist() == ["item_knn", "trained/seed-2"]
    assert (tmp_path / "blend" / "metrics.jsonl").read_text() == ""


def test_seeds_of_one_setting_share_its_weight(folders, demo, tmp_path):
    """Each standardised, their mean weighed: of seeds alone, and beside another run whose weight is chosen."""
    bundle, said = sea_jax.load(demo), []
    seeds = [runs.open_run(folders / "trained" / f"seed-{n}").recommender() for n in (1, 2)]
    other, users = runs.open_run(folders / "item_knn").recommender(), seeds[0].user_ids[:5]
    mean = sum(np.array([z(row) for row in one.scores(users)]) for one in seeds) / 2
    alone = blends.run(bundle, settings(folders, tmp_path / "seeds", "trained"))
    assert alone.summary["chosen"] == {"trained": 1.0}
    np.testing.assert_allclose(alone.recommender().scores(users), mean, rtol=1e-3, atol=1e-4)
    both = blends.run(bundle, settings(folders, tmp_path / "both", "trained", "item_knn"), said.append)
    weights = both.summary["chosen"]
    best = max(record["valid/recall@20"] for record in said)
    assert both.metrics["valid"]["recall@20"] == pytest.approx(best, abs=1e-6)
    shares = [weights["trained"] / 2] * 2 + [weights["item_knn"]]
    assert both.recommender().member_weights.tolist() == pytest.approx([share for share in shares if share])
    expected = weights["trained"] * mean + weights["item_knn"] * np.array([z(row) for row in other.scores(users)])
    np.testing.assert_allclose(both.recommender().scores(users), expected, rtol=1e-3, atol=1e-3)


def test_runs_that_cannot_be_blended(folders, demo, tmp_path, rng):
    bundle = sea_jax.load(demo)
    (tmp_path / "empty").mkdir()
    blends.run(bundle, settings(folders, tmp_path / "blend", "item_knn", "popularity", weights=(1.0, 1.0)))
    pairs = [bundle.train[:-1], bundle.valid, bundle.test]
    other = sea_jax.build(
        "other", train=pairs[0], valid=pairs[1], test=pairs[2], features=bundle.features,
        user_ids=range(bundle.num_users), item_ids=range(bundle.num_items),
    )  # fmt: skip
    closed_forms.run(other, Baseline(model="popularity", workdir=str(tmp_path / "foreign")))
    unfinished = tmp_path / "unfinished"
    closed_forms.run(bundle, Baseline(model="popularity", data_dir=str(demo), workdir=str(unfinished)))
    (unfinished / "summary.json").unlink()

    def of(*names, **more):
        return blends.run(bundle, settings(folders, tmp_path / "out", *names, **more))

    for wrong, words in (
        (lambda: of("item_knn"), "names fewer than two runs"),
        (lambda: of("item_knn", "item_knn"), "names a run twice"),
        (lambda: of("item_knn", tmp_path / "empty"), "empty, which holds no run"),
        (lambda: of("item_knn", tmp_path / "blend"), "itself a blend"),
        (lambda: of("item_knn", tmp_path / "foreign"), "other interactions or ids"),
        (lambda: of("item_knn", unfinished), "no finished run"),
        (lambda: of("item_knn", "trained", weights=(1.0, 2.0, 3.0)), "3 numbers and --runs 2 entries"),
        (lambda: Blend(weights=(0.0, 0.0)), "--weights are all 0"),
        (lambda: Blend(weights=(-1.0, 1.0)), "--weights=-1.0 must be at least 0"),
        (lambda: Blend(monitor="recall@7"), "--monitor=recall@7 needs --topk"),
        (lambda: blends.bundle_of(Blend(runs=("", "x"))), "empty entry"),
    ):
        with pytest.raises(SeaError, match=words):
            wrong()
    assert not (tmp_path / "out").exists()
    nobody = sea_jax.build("n", train=bundle.train, features=bundle.features, user_ids=range(bundle.num_users),
                           item_ids=range(bundle.num_items))  # fmt: skip
    with pytest.raises(SeaError, match="nobody counts in validation; give --weights"):
        blends.choose([[runs.open_run(folders / "item_knn").recommender()]] * 2, nobody, Blend(), lambda *given: None)


def test_the_programs_read_a_blend(folders, demo, tmp_path):
    def program(name, *flags):
        command = [sys.executable, f"experiments/{name}.py", *map(str, flags)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)

    blend, out = tmp_path / "blend", tmp_path / "lists.jsonl"
    done = program("blend", f"--runs={folders / 'item_knn'},{folders / 'trained'}", f"--workdir={blend}")
    assert done.returncode == 0, done.stderr
    assert "weights of item_knn, trained:" in done.stderr
    table = done.stdout[done.stdout.index("valid") :]
    again = program("evaluate", f"--workdir={blend}")
    assert again.returncode == 0 and again.stdout[again.stdout.index("valid") :] == table
    done = program("recommend", f"--workdir={blend}", "--k=3", "--explain", f"--output={out}")
    assert done.returncode == 0, done.stderr
    made = sea_jax.open_run(blend).recommender()
    first = json.loads(out.read_text().splitlines()[0])
    assert first["item"] == made.recommend(first["user"], 1)[0][0, 0]
    assert sum(first["parts"].values()) == pytest.approx(first["score"], rel=1e-3)
    done = program("compare", f"--first={blend}", f"--second={folders / 'item_knn'}")
    assert done.returncode == 0 and "difference" in done.stdout, done.stderr
    done = program("report", f"--workdir={blend}", f"--output={tmp_path / 'report'}")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "report" / "MODEL_CARD.md").read_text()
    assert "trained" in card and "chosen by recall@20 on validation" in card
    new = tmp_path / "new"
    new.mkdir()
    (new / "items.txt").write_text("new-1\n")
    np.save(new / "image_feat.npy", np.ones((1, sea_jax.load(demo).features["image"].shape[1])))
    for name, *flags in (
        ("blend", f"--runs={folders / 'item_knn'}", f"--workdir={tmp_path / 'x'}"),
        ("blend", f"--runs={folders / 'item_knn'},{folders / 'trained'}"),
        ("blend", f"--runs={folders / 'item_knn'},{folders / 'trained'}", f"--workdir={folders / 'item_knn'}"),
        ("evaluate", f"--workdir={blend}", f"--export={tmp_path / 'x.npz'}"),
        ("export", f"--workdir={blend}", f"--output={tmp_path / 'x.npz'}"),
        ("recommend", f"--workdir={blend}", f"--new_items={new}", f"--output={tmp_path / 'x.csv'}"),
    ):
        done = program(name, *flags)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "new items need a trained run of one model, as closed forms and blends" in done.stderr
    for path in (blend, folders / "item_knn"):
        with pytest.raises(SeaError, match="new items need a trained run of one model"):
            sea_jax.open_run(path).embed_items({"image": np.ones((1, 2))})
