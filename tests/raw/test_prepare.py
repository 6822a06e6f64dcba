"""From tables to a bundle: order of the steps, their record, ids, missing content, the same bytes twice."""

import dataclasses
import json

import numpy as np
import pytest

from data_prep.from_tables import source
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe

pytest.importorskip("polars")
IDS = ["007", "7", "ünï, códe", "12345678901234567890123", "a b", "日本", "x'y", "-1", "1e3", "NaN", "null", "B000 0"]


@pytest.fixture
def own(tmp_path, rng):
    """Interactions of 30 users with 12 items of odd ids; texts, one without; ready-made images with ids, two without."""
    lines = ["userId,itemId,rating,timestamp"]
    for user in range(30):
        for item in rng.permutation(12)[:7]:
            lines.append(f'"user, {user:02d}","{IDS[item]}",{rng.integers(1, 6)},{1.5e9 + rng.integers(0, 1000):.0f}')
    lines.append(lines[-1])
    (tmp_path / "i.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = [
        "itemId\ttitle\tdescription",
        *(f"{name}\ttitle {n}\t{'red' if n % 2 else 'blue'} thing" for n, name in enumerate(IDS[:-1])),
    ]
    (tmp_path / "items.tsv").write_text("\n".join(words) + "\n", encoding="utf-8")
    np.savez(tmp_path / "image.npz", ids=np.array(IDS[2:]), features=rng.normal(size=(10, 5)).astype(np.float32))
    return tmp_path


def made(own, recipe=None, **arguments):
    skips = Skips()
    tables = {
        "items": str(own / "items.tsv"),
        "features": [f"image={own / 'image.npz'}"],
        "also": ("time", "rating"),
        **arguments,
    }
    return prepare(source(str(own / "i.csv"), skips=skips, **tables), recipe or Recipe(text_encoder="none"), skips)


def test_odd_ids_and_titles_survive(own):
    bundle = made(own)
    bundle.save(own / "out")
    loaded = bundles.load(own / "out", verify_hashes=True)
    assert sorted(loaded.item_ids) == sorted(IDS)
    assert sorted(loaded.user_ids) == [f"user, {n:02d}" for n in range(30)]
    title = dict(zip(loaded.item_ids, loaded.shown["titles"], strict=True))
    assert title["007"] == "title 0"
    assert title["B000 0"] == ""
    lacking = {name for name, mask in zip(loaded.item_ids, loaded.missing["image"], strict=True) if mask}
    assert lacking == {"007", "7"}
    assert loaded.manifest["honour_missing"] is True
    assert {split: len(x) for split, x in loaded.times.items()} == {"train": 150, "valid": 30, "test": 30}
    x = np.load(own / "image.npz")
    for name, row in zip(x["ids"], x["features"], strict=True):
        np.testing.assert_array_equal(loaded.features["image"][list(loaded.item_ids).index(name)], row)
    absent = [list(loaded.item_ids).index(name) for name in ("007", "7")]
    indices = loaded.neighbours["image"][0]
    assert set(np.delete(indices, absent, 0).ravel()).isdisjoint(absent)


def test_the_steps_are_recorded_in_their_order(own):
    recipe = Recipe(
        text_encoder="none", min_rating=2, since="2017-07-14", until="2020-01-01", require=("image",), max_history=6,
        k_core=(3, 2), split="leave_last_out",
    )  # fmt: skip
    bundle = made(own, recipe)
    steps = [step["step"] for step in bundle.manifest["steps"]]
    assert steps == [
        "ratings of 2 and more", "from 2017-07-14 and before 2020-01-01", "items with image", "the first of duplicates",
        "the latest 6 of a user", "core of 3 for users and 2 for items",
    ]  # fmt: skip
    for before, after in zip(bundle.manifest["steps"], bundle.manifest["steps"][1:], strict=False):
        assert all(before[kind][1] == after[kind][0] for kind in ("interactions", "users", "items"))
    assert bundle.manifest["steps"][-1]["interactions"][1] == sum(bundle.manifest["interactions"].values())
    assert "007" not in bundle.item_ids
    assert bundle.manifest["split"]["kind"] == "leave_last_out"
    json.dumps(bundle.manifest, allow_nan=False)
    assert "items with image: interactions" in bundles.describe(bundle)


def test_the_same_tables_give_the_same_bytes(own):
    for name in ("one", "two"):
        made(own, Recipe(text_encoder="none", split="mmrec", seed=5)).save(own / name)
    first, second = (json.loads((own / name / "manifest.json").read_text()) for name in ("one", "two"))
    assert first["hashes"] == second["hashes"]


def test_rows_of_features_follow_the_table_that_names_them(own, rng):
    x = rng.normal(size=(11, 3))
    np.save(own / "image.npy", x)
    bundle = made(own, features=[f"image={own / 'image.npy'}"])
    np.testing.assert_array_equal(
        bundle.features["image"][list(bundle.item_ids).index(IDS[4])], x[4].astype(np.float32)
    )


def test_a_mean_and_neighbours_for_what_is_missing(own, rng):
    ready = {"features": [f"image={own / 'image.npz'}", f"sound={own / 'sound.npz'}"]}
    np.savez(own / "sound.npz", ids=np.array(IDS), features=rng.normal(size=(12, 4)))
    mean, near = (made(own, Recipe(text_encoder="none", missing=way), **ready) for way in ("mean", "neighbours"))
    rows = mean.missing["image"]
    np.testing.assert_allclose(
        mean.features["image"][rows], mean.features["image"][~rows].mean(axis=0)[None].repeat(2, 0), atol=1e-6
    )
    assert any("2 of them replaced by the mean of the 10 items" in note for note in near.manifest["repairs"])
    assert near.manifest["missing"] == "neighbours"


def test_what_cannot_be(own):
    with pytest.raises(SeaError, match="no modality"):
        made(own, features=())
    with pytest.raises(SeaError, match="must be MODALITY=FILE"):
        made(own, features=["image"])
    with pytest.raises(SeaError, match="cannot be called 'a:b'"):
        made(own, features=["a:b=x.npy"])
    with pytest.raises(SeaError, match="no interaction is left"):
        made(own, Recipe(k_core=(500,)))
    with pytest.raises(SeaError, match="--split_column"):
        made(own, Recipe(split="given", text_encoder="none"))
    with pytest.raises(SeaError, match="has none of the"):
        made(own, named={"item_id": "title"})
    for field, value in (
        ("k_core", (1, 2, 3)),
        ("require", ("colour",)),
        ("split", "guess"),
        ("seed", 2**32),
        ("min_rating", float("nan")),
    ):
        with pytest.raises(SeaError, match=f"--{field}"):
            Recipe(**{field: value})


def test_split_from_takes_the_labels_of_another_file(own):
    bundle = made(own)
    order = {split: getattr(bundle, split) for split in bundles.SPLITS}
    rows = [(u, i, label) for label, split in enumerate(("test", "valid", "train")) for u, i in order[split].tolist()]
    (own / "x.inter").write_text("userID\titemID\tx_label\n" + "\n".join("\t".join(map(str, row)) for row in rows))
    again = made(own, Recipe(text_encoder="none", split_from=str(own / "x.inter")))
    assert {tuple(pair) for pair in again.train.tolist()} == {tuple(pair) for pair in bundle.test.tolist()}
    assert again.manifest["split"]["from"] == "x.inter"
    maps = own / "theirs"
    maps.mkdir()
    shuffled = np.random.default_rng(1).permutation(12)
    (maps / "x.inter").write_text(
        "userID\titemID\tx_label\n" + "\n".join(f"{u}\t{shuffled[i]}\t{label}" for u, i, label in rows)
    )
    (maps / "i_id_mapping.csv").write_text(
        "asin\titemID\n" + "".join(f"{name}\t{shuffled[n]}\n" for n, name in enumerate(bundle.item_ids))
    )
    mapped = made(own, Recipe(text_encoder="none", split_from=str(maps / "x.inter")))
    np.testing.assert_array_equal(mapped.train, again.train)
    (own / "x.inter").write_text("userID\titemID\tx_label\n0\t0\t0\n99\t0\t1\n")
    with pytest.raises(SeaError, match="and the interactions differ"):
        made(own, Recipe(text_encoder="none", split_from=str(own / "x.inter")))


def test_required_content_is_counted_before_the_core(own):
    recipe = dataclasses.replace(Recipe(text_encoder="none"), require=("text", "image"))
    bundle = made(own, recipe)
    assert set(bundle.item_ids) == set(IDS[2:-1])
    assert not bundle.missing
