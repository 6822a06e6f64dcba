"""Wishes about lists, explanations of scores, lists to files: against the naive loop."""

import json

import numpy as np
import pytest
import scipy.sparse

import sea_jax
from sea_jax import explaining, listing
from sea_jax.control import Control, diversified
from sea_jax.errors import SeaError

USERS, ITEMS = 6, 40


@pytest.fixture
def made(rng):
    users, items = rng.normal(size=(USERS, 6)), rng.normal(size=(ITEMS, 6))
    pairs = np.unique(rng.integers(0, [USERS, ITEMS - 5], size=(50, 2)), axis=0)
    return sea_jax.Recommender.from_vectors(
        users, items, pairs, item_ids=[f"i{n}" for n in range(ITEMS)], categories=[f"c{n % 3}" for n in range(ITEMS)]
    )


def numbers(items):
    return [int(item[1:]) for item in items if item is not None]


def naive(made, user, allowed, boosts=None):
    """All items that may be listed, by score and number."""
    scores = (made.user_vectors[user] @ made.item_vectors.T).astype(np.float64)
    for item, boost in (boosts or {}).items():
        scores[item] += boost * (made.user_vectors[user] @ made.item_vectors.T).std()
    seen = set(made.seen(user).tolist())
    return sorted((n for n in range(ITEMS) if n not in seen and allowed(n)), key=lambda n: (-scores[n], n))


@pytest.mark.parametrize(
    ("control", "allowed", "boosts"),
    [
        (Control(deny=["i3", "i7"]), lambda n: n not in (3, 7), None),
        (Control(categories=["c1", "c2"]), lambda n: n % 3 in (1, 2), None),
        (Control(only_new=True), None, None),
        (Control(boosts={"i5": 3.0, "i9": -2}), lambda n: True, {5: 3.0, 9: -2}),
    ],
)
def test_wishes_are_the_naive_loop(made, control, allowed, boosts):
    unseen = set(range(ITEMS)) - set(made.seen_items.tolist())
    items, _ = made.recommend(range(USERS), 12, control=control)
    for user in range(USERS):
        expected = naive(made, user, allowed or (lambda n: n in unseen), boosts)
        assert numbers(items[user]) == expected[:12]


@pytest.mark.parametrize("trade", [0.0, 0.3, 1.0])
def test_diversity_is_maximal_marginal_relevance(made, rng, trade):
    content = rng.normal(size=(ITEMS, 4))
    items, scores = made.recommend([2], 8, control=Control(diversity=trade, content=content))
    pool = naive(made, 2, lambda n: True)
    worth = made.user_vectors[2] @ made.item_vectors.T
    low, high = worth[pool].min(), worth[pool].max()
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    chosen = []
    while len(chosen) < 8:

        def value(n):
            relevance = (worth[n] - low) / (high - low)
            near = max((unit[n] @ unit[m] for m in chosen), default=0.0)
            return (1 - trade) * relevance - trade * near if chosen else relevance

        chosen.append(max((n for n in pool if n not in chosen), key=value))
    assert numbers(items[0]) == chosen
    np.testing.assert_allclose(scores[0], worth[chosen], rtol=1e-5)
    if trade == 0:
        assert chosen == pool[:8]


def test_diversity_by_sparse_weights_is_that_by_the_same_weights_dense(rng):
    weights = rng.random((ITEMS, ITEMS)) * (rng.random((ITEMS, ITEMS)) < 0.3)
    pairs = np.unique(rng.integers(0, [USERS, ITEMS], size=(40, 2)), axis=0)
    dense, sparse = (
        sea_jax.Recommender.from_item_weights(form(weights), pairs) for form in (np.asarray, scipy.sparse.csr_matrix)
    )
    for trade in (0.3, 0.9):
        expected = dense.recommend(dense.user_ids, 6, control=Control(diversity=trade))
        found = sparse.recommend(sparse.user_ids, 6, control=Control(diversity=trade))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    alike = sea_jax.Recommender.from_item_scores(np.arange(ITEMS), pairs)
    with pytest.raises(SeaError, match=r"one score an item tells no likeness: Control\(content=rows\)"):
        alike.recommend([0], 3, control=Control(diversity=0.5))


def test_items_that_may_not_be_listed_are_never_chosen_for_diversity():
    scores = np.array([3.0, 2.0, -np.inf, -np.inf], np.float32)
    assert diversified(scores, np.ones((4, 2)), 4, 0.9).tolist() == [0, 1, 2, 3]


def test_wishes_that_cannot_be_are_one_sentence(made):
    for wrong, words in (
        (lambda: Control(diversity=2), "diversity=2 must be a number from 0 to 1"),
        (lambda: Control(boosts={"i1": np.nan}), "the boost of item 'i1'"),
        (lambda: Control(boosts=["i1"]), "boosts must map"),
        (lambda: Control(categories="c1"), "must be a list of names"),
        (lambda: Control(only_new=1), "must be true or false"),
        (lambda: made.recommend([0], 3, control=Control(categories=["none"])), "There is no category 'none'"),
        (lambda: made.recommend([0], 3, control=Control(deny=["x"])), "There is no item 'x'"),
        (
            lambda: made.with_categories(None).recommend([0], 3, control=Control(categories=["c1"])),
            "knows no categories",
        ),
    ):
        with pytest.raises(SeaError, match=words):
            wrong()


# Why.


def test_shares_by_columns_add_up_to_the_score(made):
    extras = {"column_names": np.array(["image", "text"]), "column_ends": np.array([2, 6])}
    made = sea_jax.Recommender.from_vectors(
        made.user_vectors, made.item_vectors, [[0, 4], [0, 6], [1, 2]], extras=extras
    )
    items, scores = made.recommend([0], 4)
    for why, score in zip(explaining.explain(made, 0, items[0]), scores[0], strict=True):
        assert abs(sum(why.parts.values()) - score) < 1e-5
        own = made.user_vectors[0, :2] @ made.item_vectors[why.item, :2]
        assert abs(why.parts["image"] - own) < 1e-5
        cosine = {
            n: made.item_vectors[n] @ made.item_vectors[why.item]
            / np.linalg.norm(made.item_vectors[n]) / np.linalg.norm(made.item_vectors[why.item])
            for n in (4, 6)
        }  # fmt: skip
        assert [one for one, _ in why.nearest] == sorted(cosine, key=lambda n: -cosine[n])
        np.testing.assert_allclose([x for _, x in why.nearest], sorted(cosine.values(), reverse=True), rtol=1e-4)


@pytest.mark.parametrize("sparse", [False, True])
def test_shares_of_weights_are_the_users_own_items(rng, sparse):
    import scipy.sparse

    weights = rng.normal(size=(9, 9)) * (rng.random((9, 9)) < 0.6)
    made = sea_jax.Recommender.from_item_weights(
        scipy.sparse.csr_matrix(weights) if sparse else weights, [[0, n] for n in (1, 2, 5, 7)]
    )
    score = float(made.scores([0])[0, 3])
    (why,) = explaining.explain(made, 0, [3], nearest=2)
    order = sorted((1, 2, 5, 7), key=lambda n: -weights[n, 3])
    assert [one for one, _ in why.nearest] == order[:2]
    np.testing.assert_allclose([x for _, x in why.nearest], weights[order[:2], 3], rtol=1e-5)
    assert abs(sum(why.parts.values()) - score) < 1e-5 and abs(why.score - score) < 1e-5
    (stranger,) = explaining.explain_for(made, [1, 2, 5, 7], [3], nearest=2)
    assert stranger == why


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ({"backbone": "sea"}, ["image", "text"]),
        (
            {"backbone": "sea", "split": "representation"},
            ["image generic", "image unique", "text generic", "text unique"],
        ),
        ({"backbone": "sea", "split": "representation", "separation": "subtraction"}, ["image", "text"]),
        ({"backbone": "vbpr"}, ["id", "content"]),
        ({"backbone": "mf"}, ["score"]),
    ],
)
def test_a_trained_models_shares_add_up(demo, backbone, names):
    config = sea_jax.Config(epochs=1, club_steps=1, embedding_dim=8, learning_rate=0.01, **backbone)
    made = sea_jax.fit(sea_jax.load(demo), config).recommender()
    user = made.user_ids[3]
    items, scores = made.recommend([user], 5)
    for why, score in zip(explaining.explain(made, user, items[0]), scores[0], strict=True):
        assert list(why.parts) == names
        assert abs(sum(why.parts.values()) - score) < 1e-5


# Files.


def test_lists_in_three_formats_say_the_same(made, tmp_path):
    polars = pytest.importorskip("polars")
    wish = listing.Wish(5, explained=True)
    rows = list(listing.of_users(made, [0, 1, 2], wish))
    items, scores = made.recommend([0, 1, 2], 5)
    assert [row[2] for row in rows] == items.ravel().tolist()
    for ending in ("csv", "jsonl", "parquet"):
        listing.write(str(tmp_path / f"lists.{ending}"), iter(rows), True)
    lines = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == items.ravel().tolist()
    np.testing.assert_allclose([line["score"] for line in lines], scores.ravel())
    assert all(abs(sum(line["parts"].values()) - line["score"]) < 1e-5 for line in lines)
    frame = polars.read_parquet(tmp_path / "lists.parquet")
    table = polars.read_csv(tmp_path / "lists.csv")
    assert frame["item"].to_list() == table["item"].to_list() == items.ravel().tolist()
    assert frame["why"].to_list() == table["why"].to_list()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists.csv", "lists.jsonl", "lists.parquet"]


def test_where_lists_cannot_be_written_is_told_at_once(tmp_path):
    for name, words in (
        ("a.txt", "a.txt must end in .csv, .jsonl or .parquet"),
        ("lists", "must end in"),
        ("", "no file to write to"),
        ("none/a.csv", "does not exist; make it first"),
    ):
        with pytest.raises(SeaError, match=words):
            listing.check_output(str(tmp_path / name) if name else "")
    listing.check_output(str(tmp_path / "a.csv"))
    listing.check_output("/dev/null")
    assert not list(tmp_path.iterdir())


def test_a_boost_is_a_part_of_the_score(made):
    wish = listing.Wish(ITEMS, explained=True, control=Control(boosts={"i7": 2.0}))
    rows = {row[2]: row for row in listing.of_users(made, [1], wish)}
    assert "boost" in rows["i7"][4].parts and sum("boost" in row[4].parts for row in rows.values()) == 1
    spread = (made.user_vectors[1] @ made.item_vectors.T).std()
    assert rows["i7"][4].parts["boost"] == pytest.approx(2 * spread, rel=1e-4)
    assert all(abs(sum(row[4].parts.values()) - row[3]) < 1e-5 for row in rows.values())


def test_parquet_of_several_parts_and_of_none(made, tmp_path, monkeypatch):
    polars = pytest.importorskip("polars")
    monkeypatch.setattr(listing, "PART", 7)
    rows = list(listing.of_users(made, list(range(USERS)), listing.Wish(5)))
    listing.write(str(tmp_path / "lists.parquet"), iter(rows), False)
    assert polars.read_parquet(tmp_path / "lists.parquet")["item"].to_list() == [row[2] for row in rows]
    listing.write(str(tmp_path / "none.parquet"), iter([]), False)
    assert polars.read_parquet(tmp_path / "none.parquet").shape == (0, 4)


def test_baskets_from_a_file(made, tmp_path):
    path = tmp_path / "baskets.csv"
    path.write_text('\ufeffUser,ITEM,Weight\n"a, b",i3,2\n"a, b",i5,\nc,none,1\n')
    baskets, notes = listing.read_baskets(str(path), made)
    assert baskets == {"a, b": (["i3", "i5"], [2.0, 1.0])}
    assert len(notes) == 2 and "'none' in line 4" in notes[0] and "1 users have no known item" in notes[1]
    rows = list(listing.of_baskets(made, baskets, listing.Wish(4)))
    items, scores = made.recommend_for(["i3", "i5"], 4, weights=[2.0, 1.0])
    assert [row[2] for row in rows] == items.tolist() and [row[3] for row in rows] == scores.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,thing\na,i1\n", "has the columns user, thing; it must have user, item"),
        ("user,item\na,x\n", "names no item that the dataset knows"),
        ("user,item,weight\na,i1,-1\n", "line 2: the weight is -1 and must be above 0"),
        ("user,item,weight\na,i1,much\n", "line 2: the weight is 'much'"),
        ("user,item\na\n", "line 2: 1 entries where the head has 2"),
        ("", "has the columns none"),
    ],
)
def test_baskets_that_cannot_be_are_one_sentence(made, tmp_path, text, words):
    path = tmp_path / "baskets.csv"
    path.write_text(text)
    with pytest.raises(SeaError, match=words):
        listing.read_baskets(str(path), made)


def test_new_items_from_a_folder(made, tmp_path):
    np.save(tmp_path / "text_feat.npy", np.ones((2, 3)))
    for text, words in (
        (None, "must hold items.txt"),
        ("n1\nn1\n", "an id twice"),
        ("n1\n", "has 2 rows and items.txt 1"),
    ):
        if text is not None:
            (tmp_path / "items.txt").write_text(text)
        with pytest.raises(SeaError, match=words):
            listing.read_new_items(str(tmp_path), made, ("image", "text"))
    (tmp_path / "items.txt").write_text("n1\nn2\n")
    (tmp_path / "titles.txt").write_text("One\nTwo\n")
    new = listing.read_new_items(str(tmp_path), made, ("image", "text"))
    assert new.ids == ["n1", "n2"] and new.titles == ["One", "Two"] and new.features["text"].shape == (2, 3)
    np.save(tmp_path / "text_feat.npy", np.array([[np.nan] * 3, [1.0] * 3]))
    new = listing.read_new_items(str(tmp_path), made, ("image", "text"))
    assert new.ids == ["n2"] and new.titles == ["Two"] and new.features["text"].tolist() == [[1.0] * 3]
    assert new.notes[0] == "new items: 1 have nothing to know them by and are left out, first n1"
    np.save(tmp_path / "text_feat.npy", np.zeros((2, 3)))
    with pytest.raises(SeaError, match="nothing is known of any new item"):
        listing.read_new_items(str(tmp_path), made, ("image", "text"))
    (tmp_path / "text_feat.npy").unlink()
    with pytest.raises(SeaError, match=r"it needs image_feat[.]npy or text_feat[.]npy"):
        listing.read_new_items(str(tmp_path), made, ("image", "text"))


def test_boosts_and_categories_from_files(made, tmp_path):
    (tmp_path / "b.csv").write_text("item,boost\ni4,1.5\n")
    (tmp_path / "c.csv").write_text("item,category\ni4,toys\n")
    assert listing.read_boosts(str(tmp_path / "b.csv"), made) == {"i4": 1.5}
    categories = listing.read_categories(str(tmp_path / "c.csv"), made)
    assert categories[4] == "toys" and not any(categories[:4])
    items, _ = made.with_categories(categories).recommend(
        [0], 2, exclude_seen=False, control=Control(categories=["toys"])
    )
    assert items[0].tolist() == ["i4", None]
