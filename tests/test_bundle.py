"""Bundles survive a round trip; damaged ones are refused in one sentence; saving leaves nothing half-written."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse
import scipy.stats

from data_prep.from_mmrec import convert
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError


@pytest.fixture
def saved(mmrec, tmp_path):
    path = tmp_path / "bundle"
    convert(mmrec).save(path)
    return path


def test_round_trip(mmrec, saved):
    before, after = convert(mmrec), bundles.load(saved, verify_hashes=True)
    for split in bundles.SPLITS:
        np.testing.assert_array_equal(getattr(before, split), getattr(after, split))
    assert abs(before.adjacency - after.adjacency).nnz == 0
    assert bundles.load(saved, modalities=("text",)).modalities == ("text",)
    assert "6 users, 9 items, 30 interactions" in bundles.describe(after)


def test_sparse_files_are_scipys(mmrec, saved):
    assert scipy.sparse.load_npz(saved / "adjacency.npz").shape == (15, 15)
    graph = scipy.sparse.load_npz(saved / "item_graph.npz").toarray()  # image .1, text .9, of 9 neighbours each
    np.testing.assert_allclose(graph, np.full((9, 9), 1 / 9), rtol=1e-6)


def test_a_bundle_of_schema_1_still_loads(mmrec, saved):
    for extra in ("missing.npz", "times.npz", "shown.npz"):
        assert not (saved / extra).exists()
    edit_manifest(saved, schema=1)
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest["honour_missing"], manifest["sha256"]
    (saved / "manifest.json").write_text(json.dumps(manifest))
    found = bundles.load(saved)
    assert found.item_ids.tolist() == [f"B00{n}" for n in range(9)]
    assert found.missing == found.times == found.shown == {}


@pytest.mark.parametrize("honoured", [True, False])
def test_nearest_by_standardised_columns(rng, tmp_path, honoured):
    """By hand: z-scores over the items that have the modality, the others neither neighbours nor with any."""
    x = rng.normal(size=(30, 5)) * np.logspace(-1, 1, 5) + 50
    lacking = np.arange(30) % 7 == 3
    x[lacking] = x[~lacking].mean(axis=0)
    z = scipy.stats.zscore(x[~lacking])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    numbers = np.flatnonzero(~lacking)
    expected = numbers[np.argsort(-(z @ z.T), axis=1)[:, :4]]

    def made(**settings):
        pairs = {"train": np.array([[0, 1], [1, 2]])}
        missing = {"text": lacking}
        return bundles.build(
            "small", pairs, 2, 30, {"text": x}, knn_k_max=4, missing=missing, honour_missing=honoured, **settings
        )

    made(similarity="standardised").save(tmp_path / "small")
    found = bundles.load(tmp_path / "small")
    np.testing.assert_array_equal(found.neighbours["text"][0][numbers], expected)
    np.testing.assert_array_equal(
        found.neighbours["text"][0][lacking], np.repeat(np.flatnonzero(lacking)[:, None], 4, 1)
    )
    np.testing.assert_array_equal(found.features["text"], x.astype(np.float32))
    assert "nearest items by standardised columns" in bundles.describe(found)
    assert (made().neighbours["text"][0][numbers] != expected).any()
    with pytest.raises(SeaError, match="--similarity=euclid is not one of cosine, standardised"):
        made(similarity="euclid")


def test_what_schema_2_adds_survives(tmp_path, rng):
    pairs = {"train": np.array([[0, 1], [1, 2]]), "valid": np.array([[0, 2]]), "test": np.zeros((0, 2), int)}
    lacking = np.array([False, True, False])
    bundle = bundles.build(
        "small", pairs, 2, 3, {"file": rng.normal(size=(3, 2)), "allow_pickle": rng.normal(size=(3, 4))},
        user_ids=np.array([7, 2**40]), item_ids=np.array(["a, b", "ü", " 007"]),
        missing={"file": lacking, "allow_pickle": np.zeros(3, bool)},
        times={"train": np.array([5, 6]), "valid": np.array([7]), "test": np.zeros(0, int)},
        shown={"titles": np.array(["one", "", "three"])},
    )  # fmt: skip
    bundle.save(tmp_path / "small")
    found = bundles.load(tmp_path / "small", verify_hashes=True)
    assert found.modalities == ("file", "allow_pickle")
    assert found.user_ids.tolist() == [7, 2**40]
    assert found.item_ids.tolist() == ["a, b", "ü", " 007"]
    assert list(found.missing) == ["file"]
    np.testing.assert_array_equal(found.missing["file"], lacking)
    assert found.times["train"].tolist() == [5, 6]
    assert found.shown["titles"].tolist() == ["one", "", "three"]
    assert found.select(("allow_pickle",)).missing == {}


BAD = {
    "no features": ({"features": {}}, "features is empty"),
    "one column": ({"features": {"text": np.zeros(3)}}, "shape (3, width)"),
    "rows": ({"features": {"text": np.zeros((4, 2))}}, "shape (3, width)"),
    "words": ({"features": {"text": np.array([["a", "b"]] * 3)}}, "must be numbers"),
    "a comma": ({"features": {"im,age": np.ones((3, 2))}}, "cannot be called 'im,age'"),
    "a colon": ({"features": {"im:age": np.ones((3, 2))}}, "cannot be called"),
    "a slash": ({"features": {"../x": np.ones((3, 2))}}, "cannot be called"),
    "no name": ({"features": {"": np.ones((3, 2))}}, "cannot be called ''"),
    "pairs": ({"splits": {"train": np.zeros((2, 3), int)}}, "train must be whole numbers of shape (n, 2)"),
    "one pair": ({"splits": {"train": np.zeros(2, int)}}, "shape (n, 2)"),
    "floats": ({"splits": {"train": np.zeros((2, 2))}}, "whole numbers"),
    "no train": ({"splits": {"valid": np.zeros((2, 2), int)}}, "splits must be train"),
    "outside": ({"splits": {"train": np.array([[0, 3]])}}, "train names item 3, which is outside 0 to 2"),
    "beyond int32": ({"splits": {"train": np.array([[2**40, 0]])}}, "names user 1099511627776"),
    "count": ({"num_users": 0}, "num_users=0"),
    "float count": ({"num_items": 3.0}, "num_items=3.0"),
    "knn": ({"knn_k_max": 0}, "knn_k_max=0"),
    "ids twice": ({"item_ids": np.array(["a", "b", "a"])}, "names a twice"),
    "ids short": ({"item_ids": np.array(["a", "b"])}, "must have 3 entries"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_odd_arguments_are_one_sentence(name):
    changes, message = BAD[name]
    given = {
        "splits": {"train": np.array([[0, 1]])},
        "num_users": 2,
        "num_items": 3,
        "features": {"text": np.ones((3, 2))},
    }
    with pytest.raises(SeaError) as caught:
        bundles.build("odd", **(given | changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "data_prep" not in str(caught.value)  # the advice fits where the data came from


def edit(path, **changes):
    with np.load(path) as arrays:
        values = dict(arrays) | changes
    np.savez(path, **{name: x for name, x in values.items() if x is not None})


def edit_manifest(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text()) | changes
    (folder / "manifest.json").write_text(json.dumps(manifest))


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


DAMAGE = {
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    "manifest cut": (lambda f: cut(f / "manifest.json"), "manifest.json is damaged"),
    "manifest a list": (lambda f: (f / "manifest.json").write_text("[]"), "manifest.json is damaged"),
    "newer schema": (lambda f: edit_manifest(f, schema=3), "schema is 3"),
    "no counts": (lambda f: edit_manifest(f, num_users=None), "field num_users"),
    "missing file": (lambda f: (f / "features.npz").unlink(), "features.npz is missing"),
    "truncated file": (lambda f: cut(f / "features.npz"), "features.npz is damaged"),
    "missing field": (lambda f: edit(f / "interactions.npz", valid=None), "no field valid"),
    "user outside": (
        lambda f: edit(f / "interactions.npz", test=np.full((6, 2), 6, np.int32)), "field test: user 6 is outside"
    ),
    "negative item": (
        lambda f: edit(f / "interactions.npz", test=np.array([[0, -1]] * 6, np.int32)), "item -1 is outside"
    ),
    "empty split": (
        lambda f: edit(f / "interactions.npz", train=np.zeros((0, 2), np.int32)), "field train: has no interactions"
    ),
    "rows missing": (lambda f: edit(f / "interactions.npz", test=np.zeros((1, 2), np.int32)), "manifest says 6"),
    "wrong dtype": (lambda f: edit(f / "interactions.npz", test=np.zeros((6, 2))), "must be int32"),
    "features' shape": (lambda f: edit(f / "features.npz", text=np.zeros((9, 4), np.float32)), "must be float32 (9, 5)"),
    "features' dtype": (lambda f: edit(f / "features.npz", text=np.zeros((9, 5))), "must be float32"),
    "not finite": (
        lambda f: edit(f / "features.npz", text=np.full((9, 5), np.nan, np.float32)), "field text: has values"
    ),
    "adjacency's size": (
        lambda f: scipy.sparse.save_npz(f / "adjacency.npz", scipy.sparse.eye(3, format="csr")), "must be (15, 15)"
    ),
    "no CSR matrix": (lambda f: edit(f / "adjacency.npz", indices=np.array([99])), "no valid CSR"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_sentence(saved, name):
    damage, message = DAMAGE[name]
    damage(saved)
    with pytest.raises(SeaError) as caught:
        bundles.load(saved)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_changed_file_is_noticed_by_its_hash(saved):
    edit(saved / "features.npz", text=np.zeros((9, 5), np.float32))
    with pytest.raises(SeaError, match="not the file that was written"):
        bundles.load(saved, verify_hashes=True)


def test_a_full_disk_leaves_nothing_behind(mmrec, saved, monkeypatch):
    bundle = convert(mmrec)
    before = sorted(saved.parent.iterdir())

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scipy.sparse, "save_npz", full)
    with pytest.raises(OSError, match="No space left"):
        dataclasses.replace(bundle).save(saved)
    assert sorted(saved.parent.iterdir()) == before
    bundles.load(saved, verify_hashes=True)


def test_saving_replaces_a_bundle_but_nothing_else(mmrec, saved, tmp_path):
    convert(mmrec, ("text",)).save(saved)
    assert bundles.load(saved).modalities == ("text",)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("important")
    with pytest.raises(SeaError, match="is no bundle"):
        convert(mmrec).save(other)
    assert (other / "thesis.txt").read_text() == "important"
