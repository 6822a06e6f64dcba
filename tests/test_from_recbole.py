"""RecBole's atomic files: typed headers, sequences, splits in three files."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.from_recbole import source, types
from sea_jax.errors import SeaError
from sea_jax.raw import new_items
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe

pytest.importorskip("polars")
DATA = os.environ.get("SEA_JAX_DATA")


@pytest.fixture
def folder(tmp_path, rng):
    rows = [f"{u}\t{i}\t4\t{rng.integers(10**9)}" for u in range(8) for i in rng.permutation(6)[:4]]
    (tmp_path / "toy.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(rows)
    )
    items = [f'{i}\t"Toy {i}\tred blue\t{i}.5' for i in range(6)]
    (tmp_path / "toy.item").write_text(
        "item_id:token\ttitle:token_seq\tclass:token_seq\tprice:float\n" + "\n".join(items)
    )
    vectors = [f"{i}\t{i} 1 0.5" for i in range(5)] + ["5\t1 2"]
    (tmp_path / "toy.ent").write_text("item_id:token\timage_emb:float_seq\n" + "\n".join(vectors))
    return tmp_path


def test_texts_and_vectors(folder):
    skips = Skips()
    found, given = source(str(folder), skips=skips)
    assert not given
    bundle = prepare(found, Recipe(text_encoder="none"), skips)
    assert bundle.name == "toy"
    place = list(bundle.item_ids).index("3")
    np.testing.assert_array_equal(bundle.features["image"][place], [3, 1, 0.5])
    assert bundle.shown["titles"][place] == '"Toy 3'
    assert bundle.missing["image"].sum() == 1
    assert bundle.manifest["skipped"] == ["toy.ent: 1 skipped, image_emb is no list of 3 numbers (first: line 7)"]
    assert found.items(["2"], None).texts == ['"Toy 2 red blue']


def test_new_items_come_as_the_same_file(folder):
    skips = Skips()
    bundle = prepare(source(str(folder), skips=skips)[0], Recipe(), skips)
    text = (folder / "toy.item").read_text().splitlines()
    (folder / "new.item").write_text("\n".join([text[0], *(f"new{line}" for line in text[1:])]))
    new = new_items.read(bundle, folder / "new.item")
    order = [bundle.item_ids.tolist().index(name.removeprefix("new")) for name in new.ids]
    np.testing.assert_allclose(new.features["text"], bundle.features["text"][order], atol=1e-5)
    assert new.titles == bundle.shown["titles"][order].tolist()


def test_three_files_give_the_split(folder):
    text = (folder / "toy.inter").read_text().splitlines()
    (folder / "toy.inter").unlink()
    for name, part in (("train", text[1:20]), ("valid", text[20:25]), ("test", text[25:])):
        (folder / f"toy.{name}.inter").write_text("\n".join([text[0], *part]))
    skips = Skips(strict=False)
    found, given = source(str(folder), skips=skips)
    assert given
    bundle = prepare(found, Recipe(text_encoder="none", split="given"), skips)
    assert [len(bundle.train), len(bundle.valid), len(bundle.test)] == [19, 5, 8]


def test_histories_are_training_interactions_but_for_what_is_held_out(tmp_path):
    head = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    for name, lines in (
        ("train", "u\ta b\tc\nv\tb\td\n"), ("valid", "u\ta b c\td\n"), ("test", "u\ta b c d\te\n"),
    ):  # fmt: skip
        (tmp_path / f"toy.{name}.inter").write_text(head + lines)
    said = []
    found, given = source(str(tmp_path), skips=Skips(strict=True), say=said.append)
    assert given and "item_id_list is read as earlier interactions" in said[-1]
    features = np.eye(5, dtype=np.float32)
    np.savez(tmp_path / "x.npz", ids=np.array(list("abcde")), features=features)
    found = dataclasses.replace(found, features={"image": str(tmp_path / "x.npz")})
    bundle = prepare(found, Recipe(text_encoder="none", split="given"), Skips())
    pairs = {
        split: sorted((str(bundle.user_ids[u]), str(bundle.item_ids[i])) for u, i in getattr(bundle, split))
        for split in ("train", "valid", "test")
    }
    assert pairs == {
        "train": [("u", "a"), ("u", "b"), ("u", "c"), ("v", "b"), ("v", "d")], "valid": [("u", "d")], "test": [("u", "e")],
    }  # fmt: skip


def test_headers_without_types_and_folders_without_files(folder):
    (folder / "toy.inter").write_text("user_id\titem_id\n1\t2\n")
    with pytest.raises(SeaError, match="has no type"):
        source(str(folder), skips=Skips())
    (folder / "toy.inter").unlink()
    with pytest.raises(SeaError, match=r"one \.inter file"):
        source(str(folder), skips=Skips())
    with pytest.raises(SeaError, match="is no folder"):
        source(str(folder / "nowhere"), skips=Skips())


@pytest.mark.skipif(not DATA, reason="SEA_JAX_DATA names no folder of real data")
def test_the_first_lines_of_ml_100k(tmp_path):
    samples = Path(DATA) / "raw_samples"
    for ending, lines in ((".inter", 300), (".item", 200)):
        (tmp_path / f"ml-100k{ending}").write_bytes((samples / f"recbole_ml-100k.head{lines}{ending}").read_bytes())
    found, _ = source(str(tmp_path), skips=Skips(strict=True))
    assert found.interactions.counts() == {"interactions": 299, "users": 152, "items": 232}
    items = found.items(["1", "2"], None)
    assert items.titles == ["Toy Story", "GoldenEye"]
    assert types(samples / "recbole_Games-6k.valid.head200.inter")["item_id_list"] == "token_seq"
