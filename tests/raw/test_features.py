"""Features are aligned by id or row; what is missing is filled by the mean or by what resembles it."""

import numpy as np
import pytest

from sea_jax.errors import SeaError
from sea_jax.raw import features


def test_align_by_ids(tmp_path, rng):
    x = rng.normal(size=(3, 2))
    np.savez(tmp_path / "x.npz", ids=np.array(["b", "a ", "c"]), features=x)
    found, absent = features.align(tmp_path / "x.npz", ["a", "zz", "b"], np.full(3, -1), 0)
    np.testing.assert_array_equal(found[[0, 2]], x[[1, 0]])
    assert absent.tolist() == [False, True, False]


def test_align_by_rows_of_the_table_or_by_whole_numbers(tmp_path, rng):
    x = rng.normal(size=(4, 2))
    np.save(tmp_path / "x.npy", x)
    found, absent = features.align(tmp_path / "x.npy", ["p", "q", "r"], np.array([3, -1, 0]), 4)
    np.testing.assert_array_equal(found[[0, 2]], x[[3, 0]])
    assert absent.tolist() == [False, True, False]
    found, _ = features.align(tmp_path / "x.npy", ["2", "0"], np.full(2, -1), 0)
    np.testing.assert_array_equal(found, x[[2, 0]])


@pytest.mark.parametrize(
    ("ids", "places", "rows", "message"),
    [
        (["a"], [0], 5, "has 4 rows and the item table 5"),
        (["a"], [-1], 0, "items are no whole numbers"),
        (["4"], [-1], 0, "an item is called 4"),
        (["a"], [-1], 4, "has none of the 1 items"),
    ],
)
def test_what_does_not_fit(tmp_path, ids, places, rows, message):
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    with pytest.raises(SeaError, match=message):
        features.align(tmp_path / "x.npy", ids, np.array(places), rows)


def test_an_id_twice_and_files_of_other_things(tmp_path):
    np.savez(tmp_path / "x.npz", ids=np.array(["a", "a"]), features=np.ones((2, 2)))
    with pytest.raises(SeaError, match="names a twice, in rows 0 and 1"):
        features.align(tmp_path / "x.npz", ["a"], np.array([-1]), 0)
    np.savez(tmp_path / "y.npz", features=np.ones((2, 2)))
    with pytest.raises(SeaError, match="must hold ids"):
        features.read(tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz", ids=np.array([1]), features=np.ones((2, 2)))
    with pytest.raises(SeaError, match="1 ids and 2 rows"):
        features.read(tmp_path / "z.npz")


def test_repair_counts_each_kind_once():
    x = np.array([[1.0, 2], [0, 0], [np.nan, 1], [3, 4], [0, 0]])
    filled, missing, notes = features.repair(x, np.array([False, False, False, False, True]))
    np.testing.assert_array_equal(filled[[1, 2, 4]], [[2, 3]] * 3)
    assert missing.tolist() == [False, True, True, False, True]
    assert [note.split(",")[0] for note in notes] == ["1 rows absent", "1 rows not finite", "1 rows all zeros"]


def test_neighbours_stand_in_by_what_the_item_has(rng):
    """Two groups of items alike in text: a missing image becomes the mean of its own group's images."""
    group = np.arange(20) % 2
    text = np.eye(2)[group] + 0.01 * rng.normal(size=(20, 2))
    image = np.where(group[:, None] == 0, 5.0, -5.0) + 0.01 * rng.normal(size=(20, 3))
    absent = np.zeros(20, bool)
    absent[[4, 7]] = True
    filled, missing, _ = features.repair(image, absent)
    parts = {"image": filled, "text": text.astype(np.float32)}
    for block in (1, 1024):
        made, notes = features.from_neighbours(parts, {"image": missing}, nearest=5, block=block)
        np.testing.assert_allclose(made["image"][[4, 7]], [[5] * 3, [-5] * 3], atol=0.05)
        np.testing.assert_array_equal(np.delete(made["image"], [4, 7], 0), np.delete(filled, [4, 7], 0))
        assert notes == ["image: 2 of them replaced by the mean of the 5 items most like them"]
    exact = np.argsort(-(text / np.linalg.norm(text, axis=1)[:, None])[~absent] @ text[4] / np.linalg.norm(text[4]))[:5]
    np.testing.assert_allclose(made["image"][4], filled[~absent][exact].mean(axis=0), rtol=1e-5)


def test_an_item_with_nothing_keeps_the_mean(rng):
    x = rng.normal(size=(6, 2)).astype(np.float32)
    missing = {"image": np.arange(6) == 1, "text": np.arange(6) < 2}
    made, _ = features.from_neighbours({"image": x, "text": x.copy()}, missing)
    np.testing.assert_array_equal(made["image"][1], x[1])
    np.testing.assert_array_equal(made["text"][1], x[1])
    assert (made["text"][0] != x[0]).any()
    alone, notes = features.from_neighbours({"image": x}, {"image": missing["image"]})
    np.testing.assert_array_equal(alone["image"], x)
    assert not notes
