"""Amazon's reviews of 2014, 2018 and 2023, as made files of the same structure and as the real samples."""

import dataclasses
import gzip
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import from_amazon
from data_prep.from_amazon import source
from sea_jax.errors import SeaError
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe

pytest.importorskip("polars")
SAMPLES = Path(os.environ.get("SEA_JAX_DATA", "")) / "raw_samples"
real = pytest.mark.skipif(not os.environ.get("SEA_JAX_DATA"), reason="SEA_JAX_DATA names no folder of real data")
ASINS = [f"{n:010d}" for n in range(6)] + [f"B00{n:07d}" for n in range(6)]
USERS = [f"A{n:013X}" for n in range(20)]


@pytest.fixture
def rows(rng):
    """(user, asin, rating, seconds) sorted by ASIN, as the files are."""
    found = [
        (user, ASINS[i], float(rng.integers(1, 6)), int(1.3e9 + rng.integers(10**7)))
        for user in USERS
        for i in rng.permutation(12)[:7]
    ]
    return sorted(found, key=lambda row: row[1])


@pytest.fixture
def vectors(tmp_path, rng):
    """McAuley's binary file: all items but the last, the first twice."""
    held = np.zeros(12, from_amazon.VECTOR)
    held["asin"] = [name.encode() for name in [*ASINS[:11], ASINS[0]]]
    held["x"] = rng.normal(size=(12, 4096))
    held.tofile(tmp_path / "image_features_Toys.b")
    return tmp_path / "image_features_Toys.b", held["x"]


def meta_2014(path):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for n, asin in enumerate(ASINS):
            record = {
                "asin": asin,
                "title": f"Toy {n} &amp; Co",
                "brand": "O'Neil",
                "categories": [["Toys", "Blocks"], ["Else"]],
                "description": "It's\nnice",
                "imUrl": f"http://x/{n}.jpg",
                "price": 3.5,
            }
            file.write(repr({key: value for key, value in record.items() if n != 3 or key == "asin"}) + "\n")
        file.write("{'asin': 'B999999999', 'title': open('x')}\n")  # not wanted: never evaluated
        file.write(f"{{'asin': '{ASINS[0]}', 'title': __import__('os')}}\n")  # a call is no literal
        file.write(f"{{'asin': '{ASINS[1]}', 'title': 'again'}}\n")


@pytest.mark.parametrize("order", ["user first", "item first"])
def test_ratings_of_2014_with_metadata_and_vectors(tmp_path, rows, vectors, order):
    path = tmp_path / "ratings_Toys.csv"
    first = [0, 1] if order == "user first" else [1, 0]
    path.write_text("".join(f"{row[first[0]]},{row[first[1]]},{row[2]},{row[3]}\n" for row in rows))
    meta_2014(tmp_path / "meta_Toys.json.gz")
    skips = Skips()
    found = source(str(path), str(tmp_path / "meta_Toys.json.gz"), vectors=str(vectors[0]), skips=skips)
    bundle = prepare(found, Recipe(k_core=(5,), text_encoder="none"), skips)
    assert bundle.name == "Toys"
    assert bundle.item_ids.tolist() == sorted({row[1] for row in rows})  # a number is the rank of the ASIN
    assert bundle.user_ids.tolist() == list(dict.fromkeys(row[0] for row in rows))
    assert bundle.shown["titles"][0] == "Toy 0 & Co"
    assert bundle.shown["pictures"][1] == "http://x/1.jpg"
    np.testing.assert_array_equal(bundle.features["image"][0], vectors[1][11])  # the last of two
    assert bundle.missing["image"].tolist() == [False] * 11 + [True]
    assert {sum(step["interactions"]) for step in bundle.manifest["steps"]} == {280}
    assert any("no Python literal" in note and "line 14" in note for note in bundle.manifest["skipped"])
    assert any("an earlier line has" in note for note in bundle.manifest["skipped"])


def test_the_sentence_of_the_published_features():
    record = {"title": "A", "brand": "B", "categories": [["C", "D"], ["E"]], "description": "F\nG", "price": 1}
    assert from_amazon.texts_of(record, from_amazon.TEXTS) == ("A", "A B C D F G")
    assert from_amazon.texts_of(
        {"title": "var aPageStart = (new Date()).getTime();", "category": ["X"]}, from_amazon.TEXTS
    ) == ("", "X")


def test_reviews_of_2023_by_parent_with_milliseconds(tmp_path, rows):
    path, meta = tmp_path / "Toys.jsonl.gz", tmp_path / "meta_Toys.jsonl"
    with gzip.open(path, "wt") as file:
        for user, asin, rating, time in rows:
            file.write(
                json.dumps(
                    {
                        "rating": rating,
                        "title": "t",
                        "asin": "OTHER",
                        "parent_asin": asin,
                        "user_id": user,
                        "timestamp": time * 1000 + 5,
                    }
                )
                + "\n"
            )
    meta.write_text(
        "".join(
            json.dumps(
                {
                    "parent_asin": asin,
                    "title": f"Toy {n}",
                    "categories": ["a"],
                    "description": ["", ""],
                    "images": [{"large": f"http://x/{n}", "variant": "MAIN"}],
                }
            )
            + "\n"
            for n, asin in enumerate(ASINS)
        )
    )
    skips = Skips(strict=True)
    found = source(str(path), str(meta), skips=skips)
    items = found.items(found.interactions.item_ids, None)
    assert items.texts[0] == "Toy 0 a"
    assert items.pictures[1] == "http://x/1"
    np.testing.assert_allclose(found.interactions.times, [row[3] + 0.005 for row in rows], atol=1e-4)


def test_ready_made_splits_with_and_without_a_header(tmp_path):
    head = "user_id,parent_asin,rating,timestamp\n"
    (tmp_path / "T.train.csv").write_text(head + "A1234567890123,B000000001,5.0,1588687728923\n")
    (tmp_path / "T.valid.csv").write_text("A1234567890123,B000000002,5.0,1588687728924\n")
    (tmp_path / "T.test.csv").write_text(
        head.replace("\n", ",history\n") + "A1234567890123,B000000003,5.0,1588687728925,B000000001 B000000002\n"
    )
    files = {label: str(tmp_path / f"T.{name}.csv") for label, name in ((1, "valid"), (2, "test"))}
    table = source(str(tmp_path / "T.train.csv"), held=files, skips=Skips(strict=True)).interactions
    assert table.labels.tolist() == [0, 1, 2]
    assert list(table.item_ids) == ["B000000001", "B000000002", "B000000003"]


def test_texts_of_training_reviews_alone(tmp_path, rows):
    path = tmp_path / "reviews_Toys_5.json"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "reviewerID": u,
                    "asin": i,
                    "overall": r,
                    "unixReviewTime": t,
                    "summary": f"says{u}",
                    "reviewText": f"of{i}",
                }
            )
            + "\n"
            for u, i, r, t in rows
        )
    )
    skips = Skips()
    found = source(str(path), text_from_reviews=True, skips=skips)
    texts = {}
    read = found.items

    def spy(ids, training):
        items = read(ids, training)
        texts.update(zip(ids, items.texts, strict=True))
        return items

    bundle = prepare(dataclasses.replace(found, items=spy), Recipe(), skips)
    for split, inside in (("train", True), ("valid", False), ("test", False)):
        for user, item in getattr(bundle, split).tolist():
            said = f"says{bundle.user_ids[user]} of{bundle.item_ids[item]}"
            assert (said in texts[bundle.item_ids[item]]) == inside
    with pytest.raises(SeaError, match="cannot go with --text_from_reviews"):
        prepare(found, Recipe(require=("text",)), skips)


def test_a_file_of_vectors_that_is_cut(tmp_path, vectors):
    path = vectors[0]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(SeaError, match="no whole records of 16394"):
        from_amazon.image_features(path, ASINS, lambda *_: None)


def test_what_is_no_file_of_reviews(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1}\n')
    with pytest.raises(SeaError, match="no file of reviews"):
        source(str(tmp_path / "x.json"), skips=Skips())
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(SeaError, match="four columns"):
        source(str(tmp_path / "x.csv"), skips=Skips())


@real
def test_the_5_core_of_fashion():
    """3,176 reviews of 406 users and 31 items; 374, 8 and 2,962 after duplicates and the 5-core."""
    skips = Skips(strict=True)
    found = source(str(SAMPLES / "amazon2018_AMAZON_FASHION_5.json.gz"), text_from_reviews=True, skips=skips)
    assert found.interactions.counts() == {"interactions": 3176, "users": 406, "items": 31}
    bundle = prepare(found, Recipe(k_core=(5,)), skips)
    assert bundle.manifest["steps"] == [
        {"step": "the first of duplicates", "interactions": [3176, 3042], "users": [406, 406], "items": [31, 31]},
        {"step": "5-core", "interactions": [3042, 2962], "users": [406, 374], "items": [31, 8]},
    ]
    assert (bundle.num_users, bundle.num_items, sum(bundle.manifest["interactions"].values())) == (374, 8, 2962)


@real
def test_real_lines_of_2014_and_2023():
    skips = Skips(strict=True)
    assert (
        len(source(str(SAMPLES / "amazon2014_reviews_Sports_and_Outdoors_5.sample11.json"), skips=skips).interactions)
        == 11
    )
    table = source(str(SAMPLES / "amazon2023_review.sample1.jsonl"), skips=skips).interactions
    assert table.times.tolist() == [1523090000]
    wanted = ["0000191639", "0005069491"]
    records = from_amazon.metadata(SAMPLES / "amazon2014_meta.sample5.json", wanted, skips, lambda *_: None)
    titles = {record["asin"]: record.get("title") for _, record in records}
    assert titles["0005069491"] == "Nursery Rhymes Felt Book"
    assert len(titles) == 5
    assert sum(title is not None for title in titles.values()) == 2


@real
def test_a_file_as_large_and_tangled_as_baby_gives_the_published_numbers(tmp_path):
    """The published degrees, the published ASINs, a file sorted by ASIN; below the core, noise of one rating each."""
    inter = np.loadtxt(SAMPLES.parent / "baby_interactions" / "baby.inter", np.int64, skiprows=1, usecols=(0, 1))
    with gzip.open(SAMPLES / "mmrec_baby_i_id_mapping.csv.gz", "rt") as file:
        asins = [line.split("\t")[0] for line in file.read().splitlines()[1:]]
    rows = [(f"A{user:013X}", asins[item], n) for n, (user, item) in enumerate(inter.tolist())]
    rows += [(f"A9{n:012X}", f"B9{n:08d}", n) for n in range(20_000)]
    rows.sort(key=lambda row: row[1])
    (tmp_path / "ratings_Baby.csv").write_text("".join(f"{u},{i},5.0,{10**9 + n}\n" for u, i, n in rows))
    np.savez(tmp_path / "image.npz", ids=np.array(asins), features=np.arange(2.0 * len(asins)).reshape(-1, 2) + 1)
    skips = Skips(strict=True)
    found = source(str(tmp_path / "ratings_Baby.csv"), features=[f"image={tmp_path / 'image.npz'}"], skips=skips)
    bundle = prepare(found, Recipe(k_core=(5,)), skips)
    assert (bundle.num_users, bundle.num_items) == (19_445, 7_050)
    assert [len(getattr(bundle, split)) for split in ("train", "valid", "test")] == [118_551, 20_559, 21_682]
    code = hashlib.sha256("\n".join(bundle.item_ids.tolist()).encode()).hexdigest()
    assert code == "7222ef7fae909f3833479febab928896add4233fdc5fde85d5b266baaa93f3b8"  # of the published map


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)
KEYS = ["asin", "parent_asin", "title", "categories", "description", "imUrl", "images", "image", "imageURL", "brand"]
RECORDS = st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=5)
LINES = st.one_of(
    RECORDS.map(repr),
    RECORDS.map(json.dumps),
    st.text(max_size=12),
    st.sampled_from(
        ["{'asin': '0000000000', 'title': open('x')}", "{'asin': 'a\\d'}", "{" * 500, "{'asin': 1e999}", "\x00"]
    ),
)


@settings(max_examples=80, deadline=None)
@given(found=st.lists(LINES, max_size=5), kind=st.sampled_from([repr, json.dumps]))
def test_fuzz_metadata(tmp_path_factory, found, kind):
    """Whatever stands in the metadata: the known item is found, or one sentence tells why not."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "r.csv").write_text("A1234567890123,0000000001,5.0,1588687728\n")
    known = kind({"asin": "0000000001", "title": "known"})
    body = [known, *(line.replace("\n", " ").replace("\r", " ") for line in found)]
    (folder / "meta.json").write_bytes("\n".join(body).encode("utf-8", "surrogatepass"))
    source_of = source(str(folder / "r.csv"), str(folder / "meta.json"), skips=Skips())
    items = source_of.items(["0000000001"], None)
    assert items.titles == ["known"]
    assert items.rows >= 1
    "".join([*items.texts, *items.pictures]).encode()
