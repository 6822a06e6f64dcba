"""Lists and similar items against loops over a stable sort, ids, and files: round trips and damage."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy.sparse

from sea_jax import files, recommender, recommender_file
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender, top

USERS, ITEMS = 9, 13
FORMS = ("vectors", "dense weights", "sparse weights", "scores")
NAMES = {"user_ids": [f"Ü{n}" for n in range(USERS)], "item_ids": [f"電影 {n}" for n in range(ITEMS)]}


def make(rng, form="vectors", **about):
    """A recommender with many ties, and its scores and seen items by user."""
    pairs = np.stack([rng.integers(0, USERS - 1, 40), rng.integers(0, ITEMS, 40)], axis=1)  # the last has seen nothing
    seen = [sorted(set(pairs[pairs[:, 0] == user, 1].tolist())) for user in range(USERS)]
    about.setdefault("user_ids", np.arange(USERS) + 100)
    if form == "vectors":
        user, item = rng.integers(-1, 2, (USERS, 2)), rng.integers(-1, 2, (ITEMS, 2))
        return Recommender.from_vectors(user, item, pairs, **about), user @ item.T, seen
    if form == "scores":
        scores = rng.integers(0, 4, ITEMS)
        return Recommender.from_item_scores(scores, pairs, **about), np.tile(scores, (USERS, 1)), seen
    weights = rng.integers(-1, 2, (ITEMS, ITEMS))
    given = scipy.sparse.coo_matrix(weights) if form == "sparse weights" else weights
    scores = np.array([weights[items].sum(axis=0) for items in seen])
    return Recommender.from_item_weights(given, pairs, **about), scores, seen


def naive(scores, left_out, k):
    """One list by a stable sort: items and scores, None and -inf past the end."""
    order = [item for item in np.argsort(-scores, kind="stable").tolist() if item not in left_out][:k]
    short = k - len(order)
    return order + [None] * short, [float(scores[item]) for item in order] + [-np.inf] * short


def same(found, expected):
    items, scores = found
    assert items.tolist() == [row for row, _ in expected]
    assert scores.tolist() == [row for _, row in expected]
    assert scores.dtype == np.float32


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [1, 5, ITEMS, 40])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("candidates", [None, [], [0, 3, 4, 5, 11, 12, 12]])
@pytest.mark.parametrize("block_bytes", [1, 4 * ITEMS * 4, 1 << 20])
def test_lists_equal_the_naive_loop(rng, monkeypatch, form, k, exclude_seen, candidates, block_bytes):
    monkeypatch.setattr(recommender, "BLOCK_BYTES", block_bytes)
    made, scores, seen = make(rng, form)
    users = [3, 8, 3, *range(USERS)]
    barred = set() if candidates is None else set(range(ITEMS)) - set(candidates)
    expected = [naive(scores[user], barred | (set(seen[user]) if exclude_seen else set()), k) for user in users]
    same(made.recommend(np.array(users) + 100, k, exclude_seen, candidates), expected)
    np.testing.assert_array_equal(made.scores(np.arange(USERS) + 100), scores)


@pytest.mark.parametrize("kind", ["ties", "zeros", "-inf", "random", "falling"])
@pytest.mark.parametrize("k", [1, 7, 30])
def test_top_is_a_stable_sort(rng, kind, k):
    scores = {
        "ties": rng.integers(0, 3, (40, 30)),
        "zeros": np.where(rng.random((40, 30)) < 0.1, rng.normal(size=(40, 30)), [0.0, -0.0] * 15),
        "-inf": np.where(rng.random((40, 30)) < 0.5, -np.inf, rng.integers(0, 3, (40, 30))),
        "random": rng.normal(size=(40, 30)),
        "falling": np.tile(-np.arange(30), (40, 1)),
    }[kind].astype(np.float32)
    items, values = top(scores, k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(items, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize("shape", [(7, 3), (300, 64), (2500, 130)])
def test_a_list_does_not_depend_on_who_else_is_asked_for(rng, shape):
    users, items = rng.normal(size=(50, shape[1])), rng.normal(size=shape)
    made = Recommender.from_vectors(users, items, [])
    scores = made.scores(range(50))
    np.testing.assert_allclose(scores, users @ items.T, atol=1e-4)
    for user in range(50):
        np.testing.assert_array_equal(made.scores(user)[0], scores[user])
    np.testing.assert_array_equal(made.scores(range(9, 14)), scores[9:14])


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_basket_is_a_user_with_these_items(rng, form):
    made, _, seen = make(rng, form)
    for exclude_seen in (True, False):
        for candidates in (None, [1, 2, 7]):
            items, scores = made.recommend([100], 6, exclude_seen, candidates)
            found = made.recommend_for(seen[0] + seen[0][:1], 6, exclude_seen, candidates)
            assert found[0].tolist() == items[0].tolist() and found[1].tolist() == scores[0].tolist()


@pytest.mark.parametrize("form", FORMS[:3])
def test_similar_items_are_the_nearest_by_cosine(rng, form):
    made, _, _ = make(rng, form)
    rows = made.item_vectors if form == "vectors" else made.item_weights
    if rows is None:
        pieces = made.weight_values, made.weight_items, made.weight_starts
        rows = scipy.sparse.csr_matrix(pieces, (ITEMS, ITEMS)).toarray()
    zero = [item for item in range(ITEMS) if not rows[item].any()]
    items, scores = made.similar_items(range(ITEMS), ITEMS)
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item and other not in zero and item not in zero]
        assert {one for one in items[item] if one is not None} == set(others)
        for other, score in zip(items[item], scores[item], strict=True):
            if other is not None:
                cosine = rows[item] @ rows[other] / np.linalg.norm(rows[item]) / np.linalg.norm(rows[other])
                assert abs(score - cosine) < 1e-6
        assert (np.diff(scores[item][: len(others)]) <= 0).all()
        alone = made.similar_items(item, 4)
        assert alone[0].tolist() == [items[item][:4].tolist()] and alone[1].tolist() == [scores[item][:4].tolist()]
    assert form != "vectors" or zero  # both kinds are met


def test_similar_items_of_tiny_and_large_rows():
    made = Recommender.from_vectors(np.ones((1, 2)), [[1e-30, 0], [1e15, 0], [0, 1], [0, 0]], [])
    items, scores = made.similar_items([0, 3], 3)
    assert items.tolist() == [[1, 2, None], [None] * 3]
    np.testing.assert_allclose(scores, [[1, 0, -np.inf], [-np.inf] * 3], rtol=1e-6)


def test_scores_know_no_similarity(rng):
    with pytest.raises(SeaError, match="one score an item"):
        make(rng, "scores")[0].similar_items([1], 3)


@pytest.mark.parametrize(
    ("ids", "kinds"),
    [
        ({}, (int, int)),
        (NAMES, (str, str)),
        (
            {"user_ids": np.array(NAMES["user_ids"], object), "item_ids": np.arange(ITEMS, dtype=np.uint8) * 7},
            (str, int),
        ),
        ({"user_ids": [10**15 + n for n in range(USERS)], "item_ids": tuple("abcdefghijklm")}, (int, str)),
    ],
)
def test_ids_come_back_as_they_were_given(rng, ids, kinds):
    about = {"user_ids": None} | ids
    made, scores, seen = make(rng, **about)
    user_ids, item_ids = ids.get("user_ids", range(USERS)), ids.get("item_ids", range(ITEMS))
    for k in (3, 40):
        items, _ = made.recommend(user_ids, k)
        names = {None: None} | {n: item_ids[n] for n in range(ITEMS)}
        assert items.tolist() == [[names[n] for n in naive(scores[u], seen[u], k)[0]] for u in range(USERS)]
        assert {type(one) for one in items.ravel().tolist()} == {kinds[1]} | ({type(None)} if k > ITEMS else set())
    assert type(made.user_ids.tolist()[0]) is kinds[0]
    one = user_ids[4]
    assert made.recommend(one, 3)[0].tolist() == made.recommend([one], 3)[0].tolist()
    assert made.recommend([], 3)[0].shape == (0, 3)


@pytest.mark.parametrize("unknown", ["nobody", -1, 3.5, None, [[100]], b"x", 109, "100"])
def test_unknown_ids_are_named(rng, unknown):
    made = make(rng)[0]
    for call in (
        lambda: made.recommend(unknown, 3),
        lambda: made.scores(unknown),
        lambda: made.similar_items(unknown, 3),
        lambda: made.recommend([100], 3, candidates=[unknown]),
    ):
        with pytest.raises(SeaError, match=r"There is no (user|item) .*; the ids of .* are integers\.$"):
            call()


@pytest.mark.parametrize("k", [0, -1, 2.0, None, "3", True])
def test_k_is_checked(rng, k):
    with pytest.raises(SeaError, match="k="):
        make(rng)[0].recommend([100], k)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"user_vectors": [1, 2]}, "user_vectors"),
        ({"user_vectors": [[1, 2, 3]] * 4}, "item_vectors"),
        ({"user_vectors": [["a", "b"]]}, "user_vectors"),
        ({"user_vectors": [[1], [1, 2]]}, "user_vectors"),
        ({"user_vectors": [[1, np.nan]] * 4}, "user_vectors .*not finite"),
        ({"item_vectors": [[1, -1e16]] * 3}, "item_vectors .*not finite or beyond"),
        ({"item_vectors": [[1, 1e300]] * 3}, "item_vectors .*not finite or beyond"),
        ({"item_vectors": np.ones((0, 2)), "train_pairs": []}, "item_ids is empty"),
        ({"train_pairs": [[0, 3]]}, "item 3"),
        ({"train_pairs": [[-1, 0]]}, "user -1"),
        ({"train_pairs": [[0.0, 1.0]]}, "train_pairs"),
        ({"train_pairs": [[0, 1, 2]]}, "train_pairs"),
        ({"user_ids": ["a", "b", "c"]}, "user_ids must have 4"),
        ({"item_ids": ["a", "b", "a"]}, "item_ids has .'a'. twice"),
        ({"item_ids": ["a", "b", 3]}, "item_ids"),
        ({"item_ids": [1, 2, 2**70]}, "item_ids"),
        ({"item_ids": [1.0, 2.0, 3.0]}, "item_ids"),
        ({"item_ids": [True, 2, 3]}, "item_ids"),
        ({"item_ids": ["a", "a\0", "b"]}, "NUL"),
        ({"titles": ["a"]}, "titles"),
        ({"titles": ["a", 1, "b"]}, "titles"),
        ({"notes": {"a": object()}}, "notes"),
        ({"notes": [1]}, "notes"),
        ({"extras": {"a": np.array([None])}}, "extras"),
    ],
)
def test_what_enters_is_checked(change, named):
    right = {"user_vectors": np.ones((4, 2)), "item_vectors": np.ones((3, 2)), "train_pairs": [[0, 1]]}
    Recommender.from_vectors(**right)
    with pytest.raises(SeaError, match=named):
        Recommender.from_vectors(**right | change)


@pytest.mark.parametrize("weights", [np.ones((3, 2)), scipy.sparse.csr_matrix(np.ones((3, 2)))])
def test_item_weights_are_square(weights):
    with pytest.raises(SeaError, match="item_weights"):
        Recommender.from_item_weights(weights, [[0, 1]])


def test_one_form_scores():
    fields = {name: getattr(Recommender.from_item_scores([1], []), name) for name in ("user_ids", "item_ids")}
    fields |= {"seen_starts": np.zeros(1, np.int64), "seen_items": np.zeros(0, np.int32)}
    with pytest.raises(SeaError, match="form that scores"):
        Recommender(**fields)
    with pytest.raises(SeaError, match="form that scores"):
        Recommender(**fields, item_scores=np.ones(1, np.float32), item_weights=np.ones((1, 1), np.float32))


def saved(rng, path, form="vectors"):
    extras = {"degree": np.arange(ITEMS), "sums": np.asfortranarray(rng.normal(size=(ITEMS, 3)))}
    notes = {"model": "SEA", "metrics": {"recall@20": 0.5}, "für": "電"}
    titles = ["", None, *(f"Film {n} ☂" for n in range(2, ITEMS))]
    made = make(rng, form, **NAMES, titles=titles, notes=notes, extras=extras)[0]
    made.save(path)
    return made


@pytest.mark.parametrize("form", FORMS)
def test_a_file_gives_back_what_was_saved(rng, tmp_path, form):
    made = saved(rng, tmp_path / "file", form)
    read = Recommender.load(str(tmp_path / "file"))
    assert (read.notes, read.titles) == (made.notes, made.titles)
    for name in ("user_ids", "item_ids", *recommender_file.ARRAYS):
        before, after = getattr(made, name), getattr(read, name)
        assert (before is None) == (after is None)
        assert before is None or (before.dtype == after.dtype and before.tobytes() == after.tobytes())
    for name, extra in made.extras.items():
        np.testing.assert_array_equal(read.extras[name], extra)
    for before, after in zip(made.recommend("Ü3", 5), read.recommend("Ü3", 5), strict=True):
        assert before.tolist() == after.tolist()
    read.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again", "file"]


def test_numpy_alone_reads_a_file(rng, tmp_path):
    made = saved(rng, tmp_path / "file.npz")
    with np.load(tmp_path / "file.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["user_vectors"] @ arrays["item_vectors"].T, made.scores(NAMES["user_ids"]))
        assert json.loads(str(arrays["notes"])) == made.notes
        assert arrays["item_ids"].tolist() == NAMES["item_ids"]


def test_a_link_stays_a_link_and_a_failure_leaves_the_old_file(rng, tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    made = saved(rng, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and os.listdir(tmp_path / "far") == ["file"]
    before = (tmp_path / "link").read_bytes()

    def full(file, arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_arrays", full)
    with pytest.raises(OSError, match="No space"):
        made.save(tmp_path / "link")
    assert (tmp_path / "link").read_bytes() == before and os.listdir(tmp_path / "far") == ["file"]


def rewritten(path, hashed=True, **changes):
    """The file with fields changed (None: removed), the hash made right again."""
    with np.load(path) as arrays:
        arrays = dict(arrays) | changes
    arrays = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    if hashed:
        del arrays["sha256"]
        arrays["sha256"] = np.array(recommender_file._sha256(arrays))
    np.savez(path, **arrays)


VECTORS = np.ones((USERS, 2), np.float32)
STARTS = np.arange(USERS + 1)
DAMAGE = {
    "user_vectors removed": ({"user_vectors": None}, "item_vectors"),
    "user_ids removed": ({"user_ids": None}, "no field user_ids"),
    "sha256 removed": ({"sha256": None, "hashed": False}, "no field sha256"),
    "schema removed": ({"schema": None}, "no recommender"),
    "another schema": ({"schema": 2}, "field schema"),
    "schema of another shape": ({"schema": [1, 2]}, "field schema"),
    "unknown field": ({"stray": 1}, "field stray"),
    "wrong shape": ({"user_vectors": VECTORS[1:]}, "field user_vectors"),
    "wrong width": ({"user_vectors": VECTORS[:, :1]}, "field item_vectors"),
    "one axis": ({"user_vectors": VECTORS[:, 0]}, "field user_vectors"),
    "wrong dtype": ({"user_vectors": VECTORS.astype(np.float64)}, "field user_vectors"),
    "wrong byte order": ({"user_vectors": VECTORS.astype(">f4")}, "field user_vectors"),
    "NaN": ({"user_vectors": VECTORS * np.nan}, "field user_vectors"),
    "infinite": ({"item_vectors": np.full((ITEMS, 2), -np.inf, np.float32)}, "field item_vectors"),
    "another value": ({"user_vectors": VECTORS, "hashed": False}, "field sha256"),
    "ids twice": ({"item_ids": ["a"] * ITEMS}, "field item_ids"),
    "ids as bytes": ({"item_ids": np.array(["a"], "S")}, "field item_ids"),
    "ids as floats": ({"item_ids": np.arange(ITEMS) / 2}, "field item_ids"),
    "ids in two axes": ({"item_ids": np.arange(ITEMS)[None]}, "field item_ids"),
    "seen of another user count": ({"seen_starts": STARTS[1:]}, "field seen_starts"),
    "seen past the end": ({"seen_starts": STARTS + 10**6}, "field seen_starts"),
    "seen wraps": (
        {"seen_starts": [0, 2**63 - 1, -(2**63), -1, 0, 0, 0, 0, 0, 0], "seen_items": np.zeros(0, np.int32)},
        "field seen_starts",
    ),
    "seen outside": ({"seen_starts": STARTS, "seen_items": np.full(USERS, ITEMS, np.int32)}, "field seen_items"),
    "seen negative": ({"seen_starts": STARTS, "seen_items": np.full(USERS, -1, np.int32)}, "field seen_items"),
    "seen twice": ({"seen_starts": STARTS * 2, "seen_items": np.zeros(2 * USERS, np.int32)}, "field seen_items"),
    "notes without JSON": ({"notes": "{"}, "field notes"),
    "notes of numbers": ({"notes": np.arange(3)}, "field notes"),
    "basket items of another width": ({"extra_basket_items": VECTORS[:1]}, "field extras..basket_items"),
    "columns that leave some out": (
        {"extra_column_names": np.array(["a"]), "extra_column_ends": np.array([1])}, "field extras..column_ends",
    ),
    "columns without names": ({"extra_column_ends": np.array([2])}, "field extras..column_ends"),
    "too few titles": ({"titles": '["a"]'}, "field titles"),
    "two forms": ({"item_scores": np.ones(ITEMS, np.float32)}, "form that scores"),
    "object array": ({"extra_a": np.array([{}, None]), "hashed": False}, "field extra_a"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_field_is_named(rng, tmp_path, case):
    path = tmp_path / "file.npz"
    saved(rng, path)
    change, named = DAMAGE[case]
    rewritten(path, **change)
    with pytest.raises(SeaError, match=named) as told:
        Recommender.load(path)
    assert str(path) in str(told.value) and str(told.value).count("\n") == 0


def test_any_cut_or_flipped_byte_is_noticed(rng, tmp_path):
    path = tmp_path / "file.npz"
    made = saved(rng, path)
    whole = path.read_bytes()
    for at in {0, 1, 30, *range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:at])
        with pytest.raises(SeaError, match=r"file\.npz"):
            Recommender.load(path)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            read = Recommender.load(path)
        except SeaError as error:
            assert "file.npz" in str(error)
        else:  # a byte of the zip that means nothing, such as a date
            np.testing.assert_array_equal(read.scores(NAMES["user_ids"]), made.scores(NAMES["user_ids"]))


def test_no_memory_is_asked_for_what_a_file_only_promises(rng, tmp_path):
    path = tmp_path / "file.npz"
    saved(rng, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    old, new = b"'shape': (9, 2), }            ", b"'shape': (90000000000, 2), }  "
    wide = members["user_vectors.npy"].replace(old, new)
    assert wide != members["user_vectors.npy"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, wide if name == "user_vectors.npy" else content)
    with pytest.raises(SeaError, match="field user_vectors"):
        Recommender.load(path)


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / "text").write_text("no zip")
    np.savez(tmp_path / "other", a=1)
    for name in ("absent", ".", "text", "other.npz"):
        with pytest.raises(SeaError, match=str(tmp_path)):
            Recommender.load(tmp_path / name)


def test_neither_jax_nor_scipy_is_loaded(rng, tmp_path):
    saved(rng, tmp_path / "file")
    code = (
        "import sys; from sea_jax.recommender import Recommender; made = Recommender.load(sys.argv[1]);"
        "made.recommend(made.user_ids, 5); made.similar_items(made.item_ids[:2], 3);"
        "assert not {'jax', 'absl', 'scipy'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], check=True)
