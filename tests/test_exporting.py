"""Exports are read back by other means and give the same lists."""

import jax
import numpy as np
import pytest

import sea_jax
from sea_jax import exporting
from sea_jax.errors import SeaError


@pytest.fixture
def made(rng):
    users, items = rng.normal(size=(7, 5)), rng.normal(size=(300, 5))
    pairs = np.unique(rng.integers(0, [7, 300], size=(40, 2)), axis=0)
    return sea_jax.Recommender.from_vectors(
        users, items, pairs, item_ids=[f"i{n}" for n in range(300)], titles=[f"Item {n}" for n in range(300)]
    )


def test_npz(made, tmp_path):
    assert exporting.write(made, "npz", str(tmp_path / "x.npz")) == [tmp_path / "x.npz"]
    with np.load(tmp_path / "x.npz") as held:
        np.testing.assert_array_equal(held["item_embedding"], made.item_vectors)
        assert held["item_ids"].tolist() == made.item_ids.tolist()


def test_parquet(made, tmp_path):
    polars = pytest.importorskip("polars")
    exporting.write(made, "parquet", str(tmp_path / "out"))
    items, users = (polars.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("items", "users"))
    assert items.schema["vector"] == polars.List(polars.Float32)
    np.testing.assert_array_equal(np.array(items["vector"].to_list(), np.float32), made.item_vectors)
    assert items["id"].to_list() == made.item_ids.tolist() and items["title"].to_list() == made.titles
    assert users["id"].to_list() == made.user_ids.tolist()


def test_the_scoring_function_runs_from_its_bytes_and_is_lowered_for_three_platforms(made, tmp_path):
    exporting.write(made, "jax", str(tmp_path / "scoring.bin"), k=6)
    program = jax.export.deserialize(bytearray((tmp_path / "scoring.bin").read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    for some in ([0], [1, 4, 6]):
        seen = np.full((len(some), 40), 300, np.int32)
        for row, user in enumerate(some):
            own = made.seen(user)
            seen[row, : len(own)] = own
        scores, numbers = program.call(made.user_vectors[some], made.item_vectors, seen)
        items, expected = made.recommend(some, 6)
        np.testing.assert_array_equal(made.item_ids[np.asarray(numbers)], items)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_faiss_index_finds_what_exact_search_finds(made, tmp_path):
    faiss = pytest.importorskip("faiss")
    exporting.write(made, "faiss", str(tmp_path / "items.faiss"))
    index = faiss.read_index(str(tmp_path / "items.faiss"))
    index.nprobe = index.nlist  # every cell: exact
    _, rows = index.search(made.user_vectors, 10)
    with np.load(tmp_path / "items.faiss.ids.npz") as held:
        found = held["item_ids"][rows]
    expected, _ = made.recommend(range(7), 10, exclude_seen=False)
    assert [set(a) for a in found] == [set(b) for b in expected]


def test_an_index_looks_into_as_many_cells_as_its_lists_need(rng):
    """Lengths differ widely, which makes inner products and distances disagree."""
    pytest.importorskip("faiss")
    items = (rng.normal(size=(3000, 8)) * np.exp(rng.normal(size=(3000, 1)))).astype(np.float32)
    users = rng.normal(size=(150, 8)).astype(np.float32)
    index = exporting.faiss_index(items, users)
    expected = np.argsort(-(users @ items.T), axis=1, kind="stable")[:, :20]

    def recall():
        _, found = index.search(users, 20)
        return np.mean([len(set(a) & set(b)) / 20 for a, b in zip(found, expected, strict=True)])

    assert 1 < index.nprobe < index.nlist == 3000 // 39
    assert recall() >= 0.99
    index.nprobe //= 2
    assert recall() < 0.99


def test_an_index_of_few_items_is_exact_and_silent(rng, capfd):
    pytest.importorskip("faiss")
    items = rng.normal(size=(5, 3)).astype(np.float32)
    _, found = exporting.faiss_index(items, items[:1]).search(items[:1], 5)
    assert found[0].tolist() == np.argsort(-items @ items[0], kind="stable").tolist()
    assert capfd.readouterr() == ("", "")


def test_weights_cannot_be_exported(tmp_path):
    made = sea_jax.Recommender.from_item_scores([1.0, 2.0], [[0, 1]])
    with pytest.raises(SeaError, match="Exports are of vectors"):
        exporting.write(made, "npz", str(tmp_path / "x.npz"))
    assert not list(tmp_path.iterdir())
