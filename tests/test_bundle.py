"""Bundles survive a round trip; damaged ones are refused in one sentence; saving leaves nothing half-written."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse

from data_prep.from_mmrec import convert
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError


@pytest.fixture
def saved(mmrec, tmp_path):
    path = tmp_path / "bundle"
    bundles.save(convert(mmrec), path)
    return path


def test_round_trip(mmrec, saved):
    before, after = convert(mmrec), bundles.load(saved, verify_hashes=True)
    for split in bundles.SPLITS:
        np.testing.assert_array_equal(getattr(before, split), getattr(after, split))
    assert abs(before.adjacency - after.adjacency).nnz == 0
    assert abs(before.item_graph - after.item_graph).nnz == 0
    assert bundles.load(saved, modalities=("text",)).modalities == ("text",)
    assert "6 users, 9 items, 30 interactions" in bundles.describe(after)


def test_sparse_files_are_scipys(saved):
    assert scipy.sparse.load_npz(saved / "adjacency.npz").shape == (15, 15)


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
    "newer schema": (lambda f: edit_manifest(f, schema=2), "schema is 2"),
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
        bundles.save(dataclasses.replace(bundle), saved)
    assert sorted(saved.parent.iterdir()) == before
    bundles.load(saved, verify_hashes=True)


def test_saving_replaces_a_bundle_but_nothing_else(mmrec, saved, tmp_path):
    bundles.save(convert(mmrec, ("text",)), saved)
    assert bundles.load(saved).modalities == ("text",)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("important")
    with pytest.raises(SeaError, match="is no bundle"):
        bundles.save(convert(mmrec), other)
    assert (other / "thesis.txt").read_text() == "important"
