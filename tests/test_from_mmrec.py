"""MMRec folders become bundles; bad ones become one sentence."""

import numpy as np
import pytest

from data_prep.from_mmrec import convert
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError


def test_convert_save_load(mmrec, tmp_path):
    bundle = convert(mmrec)
    bundles.save(bundle, tmp_path / "out")
    loaded = bundles.load(tmp_path / "out", verify_hashes=True)
    assert loaded.modalities == ("image", "text")
    assert (loaded.num_users, loaded.num_items) == (6, 9)
    assert [len(x) for x in (loaded.train, loaded.valid, loaded.test)] == [18, 6, 6]
    assert loaded.user_ids.tolist() == [f"u{n}" for n in range(6)]
    assert loaded.item_ids[3] == "B003"
    np.testing.assert_array_equal(loaded.features["image"], np.load(mmrec / "image_feat.npy").astype(np.float32))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adjacency.npz", "features.npz", "ids.npz", "interactions.npz", "item_graph.npz", "item_neighbours.npz",
        "manifest.json",
    ]  # fmt: skip


def test_any_modalities_in_the_order_named(mmrec, rng):
    np.save(mmrec / "audio_feat.npy", rng.normal(size=(9, 3)))
    assert convert(mmrec).modalities == ("image", "audio", "text")
    assert convert(mmrec, ("text", "audio")).modalities == ("text", "audio")


def test_rating_and_timestamp_are_optional(mmrec):
    path = mmrec / "toys.inter"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    before = convert(mmrec).train
    path.write_text("\n".join("\t".join((row[3], row[1], row[0])) for row in rows) + "\n")
    np.testing.assert_array_equal(convert(mmrec).train, before)


def test_duplicates_keep_the_training_one(mmrec):
    path = mmrec / "toys.inter"
    first = path.read_text().splitlines()[1].split("\t")
    with open(path, "a") as file:
        file.write("\t".join((*first[:3], "2")) + "\n" + "\t".join(first) + "\n")
    bundle = convert(mmrec)
    assert "toys.inter: 2 duplicate interactions dropped" in bundle.manifest["repairs"]
    assert len(bundle.train) == 18
    assert len(bundle.test) == 6


def test_unusable_rows_become_the_mean_and_are_reported(mmrec):
    features = np.load(mmrec / "image_feat.npy")
    features[2], features[5, 1] = 0, np.nan
    np.save(mmrec / "image_feat.npy", features)
    bundle = convert(mmrec)
    good = np.delete(features, [2, 5], axis=0).astype(np.float32)
    for row in (2, 5):
        np.testing.assert_allclose(bundle.features["image"][row], good.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert any("1 rows not finite" in note for note in bundle.manifest["repairs"])
    assert any("1 rows all zeros" in note for note in bundle.manifest["repairs"])


def rewrite(folder, old, new, count=-1):
    path = folder / "toys.inter"
    path.write_text(path.read_text().replace(old, new, count))


BAD = {
    "no inter file": (lambda f: (f / "toys.inter").unlink(), "exactly one .inter"),
    "wrong columns": (lambda f: rewrite(f, "itemID", "item"), "lacks the column itemID"),
    "empty inter file": (lambda f: (f / "toys.inter").write_text(""), "lacks the column"),
    "label 3": (lambda f: rewrite(f, "\t2\n", "\t3\n", 1), "x_label is 3"),
    "negative id": (lambda f: rewrite(f, "\n0\t", "\n-1\t", 1), "must not be negative"),
    "a word for a number": (lambda f: rewrite(f, "\n0\t", "\nzero\t", 1), "line 2"),
    "item without features": (lambda f: np.save(f / "image_feat.npy", np.ones((3, 2))), "differ in their number of rows"),
    "item beyond the rows": (lambda f: rewrite(f, "\n0\t", "\n0\t9\t1\t0\n0\t", 1), "itemID 9 has no row"),
    "no test split": (lambda f: rewrite(f, "\t2\n", "\t1\n"), "test split"),
    "no training data": (lambda f: rewrite(f, "\t0\n", "\t1\n"), "train split"),
    "no features": (lambda f: [path.unlink() for path in f.glob("*.npy")], "no MODALITY_feat.npy"),
    "one-dimensional": (lambda f: np.save(f / "text_feat.npy", np.ones(9)), "shape (items, width)"),
    "strings": (lambda f: np.save(f / "text_feat.npy", np.full((9, 2), "a")), "must hold numbers"),
    "truncated": (lambda f: (f / "text_feat.npy").write_bytes((f / "text_feat.npy").read_bytes()[:90]), "text_feat.npy is damaged"),
    "objects": (lambda f: np.save(f / "text_feat.npy", np.array([[{}]]), allow_pickle=True), "text_feat.npy holds Python objects"),
    "id map": (lambda f: (f / "i_id_mapping.csv").write_text("asin\titemID\nB0\t0\n"), "names no asin"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(mmrec, name):
    damage, message = BAD[name]
    damage(mmrec)
    with pytest.raises(SeaError) as caught:
        convert(mmrec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_modality(mmrec):
    with pytest.raises(SeaError, match="names video"):
        convert(mmrec, ("video",))
