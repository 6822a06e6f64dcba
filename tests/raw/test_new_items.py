"""Rows of new items through the encoders that made the dataset: the catalogue's rows again, and nothing of the new ones learnt."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sea_jax
from data_prep.from_tables import source
from sea_jax import bundle as bundles
from sea_jax import files, listing
from sea_jax.errors import SeaError
from sea_jax.raw import encoders, new_items
from sea_jax.raw.demo import make_raw
from sea_jax.raw.encoders import text_tfidf
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe
from sea_jax.recommender import Recommender
from tests.test_readme import commands

pl = pytest.importorskip("polars")
Image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).parents[2]
COLOURS = ("red", "blue", "green", "grey")
THINGS = ("lamp", "sofa", "table", "rug", "vase")
KINDS = ["" if n == 9 else COLOURS[n % 4] for n in range(20)]


def named(n):
    return f"{COLOURS[n % 4].capitalize()} {THINGS[n % 5]}"


def row(n, name=""):
    """An item's row; item 7 has no picture, and item 9 no text."""
    title, blurb = ("", "") if n == 9 else (named(n), f"a {COLOURS[n % 4]} thing &amp; {THINGS[(n + 2) % 5]}")
    return [name or f"i{n}", title, blurb, KINDS[n], "" if n == 7 else f"pics/{n}.png"]


COLUMNS = ["sku", "name", "blurb", "category", "cover"]


def write(path, rows, columns=COLUMNS):
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    {
        ".csv": frame.write_csv,
        ".jsonl": frame.write_ndjson,
        ".parquet": frame.write_parquet,
        ".tsv": lambda where: frame.write_csv(where, separator="\t", quote_style="never"),
    }[path.suffix](path)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """clicks.csv, items.csv and pictures of twenty items."""
    folder, rng = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    (folder / "pics").mkdir()
    for n in range(20):
        pixels = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8) // (n % 4 + 1)
        Image.fromarray(pixels).save(folder / "pics" / f"{n}.png")
    pairs = [(f"u{u}", f"i{i}") for u in range(12) for i in rng.permutation(20)[:9]]
    write(folder / "clicks.csv", pairs, ["user_id", "item_id"])
    write(folder / "items.csv", [row(n) for n in range(20)])
    return folder


def bundle_of(shop, recipe=None, items="items.csv", **arguments):
    skips = Skips()
    found = source(str(shop / "clicks.csv"), str(shop / items), skips=skips, **arguments)
    return prepare(found, recipe or Recipe(), skips)


@pytest.fixture(scope="module")
def bundle(shop):
    return bundle_of(shop)


def catalogue(shop, path, **more):
    """A table of the dataset's own rows under other ids."""
    return write(path, [row(n, f"new{n}") for n in range(20)], **more)


def stored(bundle, name):
    """Rows of i0, i1, ... as the bundle has them, and which of them stand in for what is missing."""
    places = [bundle.item_ids.tolist().index(f"i{n}") for n in range(20)]
    return bundle.features[name][places], bundle.missing.get(name, np.zeros(20, bool))[places]


# TF-IDF.


@pytest.mark.parametrize("count", [300, 40, 5])  # more texts than words, about as many, tiny
def test_a_fit_gives_new_texts_the_rows_of_a_dense_svd(count):
    """Written out: weights by the formula, directions by NumPy's SVD of the whole matrix; the signs drop out of cosines."""
    rng, most = np.random.default_rng(1), 6 if count == 5 else 30
    texts = [" ".join(f"w{word}" for word in rng.integers(0, most, 8)) for _ in range(count)]
    fitted = encoders.get("text", "tfidf", width=8)
    old = fitted.encode(texts).features
    again = encoders.get("text", "tfidf", fitted=fitted.fitted)
    np.testing.assert_allclose(again.encode(texts).features, old, atol=1e-5)

    new = ["w1 w2 w2 w4", "w5 unheard w0 w3"]
    documents = Counter(word for text in texts for word in set(text.split()))
    kept = sorted(word for word in documents if documents[word] > 1)

    def weigh(text):
        times = Counter(text.split())
        counted = [
            (1 + math.log(times[w])) * (1 + math.log((1 + count) / (1 + documents[w]))) if times[w] else 0 for w in kept
        ]
        return np.array(counted) / (np.linalg.norm(counted) or 1)

    matrix = np.stack([weigh(text) for text in texts])
    directions = np.linalg.svd(matrix, full_matrices=False)[2][: old.shape[1]].T
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (
        np.stack([weigh(text) for text in new]) @ directions, matrix @ directions
    )]  # fmt: skip
    np.testing.assert_allclose(again.encode(new).features @ old.T, unit[0] @ unit[1].T, atol=1e-5)
    alone = [again.encode([text]).features[0] for text in new]
    np.testing.assert_array_equal(again.encode(new).features, alone)  # a row depends on its text only


def test_words_of_every_script_survive_as_bytes():
    texts = ["caf\u00e9 \u7ea2\u8272\u706f", "CAF\u00c9 \u7ea2\u8272\u706f", "red LED", "red led"]
    fitted = encoders.get("text")
    rows = fitted.encode(texts).features
    assert {name: x.dtype.kind for name, x in fitted.fitted.items()} == {
        "words": "u",
        "weights": "f",
        "projection": "f",
    }
    fit = text_tfidf.Fit.of(fitted.fitted)
    assert fit.words == sorted(
        ["caf\u00e9", "\u7ea2", "\u8272", "\u706f", "\u7ea2\u8272", "\u8272\u706f", "red", "led"]
    )
    np.testing.assert_allclose(
        encoders.get("text", fitted=fitted.fitted).encode(texts[::-1]).features[::-1], rows, atol=1e-6
    )


def test_a_text_of_unknown_words_is_missing_and_a_damaged_fit_is_one_sentence():
    fitted = encoders.get("text")
    fitted.encode(["red lamp", "red sofa", "blue lamp", "blue sofa"])
    again = encoders.get("text", fitted=fitted.fitted)
    encoded = again.encode(["red rug", "unheard", None])
    np.testing.assert_array_equal(encoded.missing, [False, True, True])
    assert encoded.problems["a text without words that the catalogue shares"].example == "unheard"
    for name in ("words", "weights", "projection"):
        for wrong in (fitted.fitted[name][:2], np.array([[[np.nan]]]), np.array(["x"])):
            with pytest.raises(SeaError, match="earlier fit are damaged"):
                encoders.get("text", fitted={**fitted.fitted, name: wrong})
        with pytest.raises(SeaError, match="earlier fit are damaged"):
            encoders.get("text", fitted={key: x for key, x in fitted.fitted.items() if key != name})


# In the bundle.


def test_what_was_learnt_lies_in_the_bundle_hashed_and_without_pickles(bundle, tmp_path):
    bundle.save(tmp_path / "data")
    with np.load(tmp_path / "data" / "encoders.npz", allow_pickle=False) as held:
        assert set(held) == {"text.words", "text.weights", "text.projection"}
        assert not any(x.dtype.hasobject for x in held.values())
        arrays = dict(held)
    found = bundles.load(tmp_path / "data", verify_hashes=True)
    assert set(found.encoders) == {"text"} and bundles.load(tmp_path / "data", ("image",)).encoders == {}
    assert found.select(("image",)).encoders == {}
    assert "encoders.npz" in found.manifest["hashes"] and "encoders.npz" not in found.data_hashes
    for name, x in bundle.encoders["text"].items():
        np.testing.assert_array_equal(found.encoders["text"][name], x)
    for wrong, words in (
        (np.full_like(arrays["text.weights"], np.nan), r"text[.]weights: has values that are not finite"),
        (np.array(["a"]), r"text[.]weights: must hold numbers"),
    ):
        files.write_npz(tmp_path / "data" / "encoders.npz", {**arrays, "text.weights": wrong})
        with pytest.raises(SeaError, match=words):
            bundles.load(tmp_path / "data")
    with pytest.raises(SeaError, match=r"encoders[.]npz is missing or not the file"):
        bundles.load(tmp_path / "data", verify_hashes=True)


# Tables.


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_the_catalogues_rows_come_out_again(bundle, shop, ending):
    """Under other ids, in whatever format, from a file or a folder: the rows that the bundle holds."""
    path = catalogue(shop, shop / f"again{ending}")
    new = new_items.read(bundle, path)
    assert new.ids == [f"new{n}" for n in range(20)]
    assert new.titles == [row(n)[1] for n in range(20)] and new.categories == KINDS
    for name, alone in (("text", 9), ("image", 7)):
        rows, missing = stored(bundle, name)
        assert np.flatnonzero(missing).tolist() == [alone]
        np.testing.assert_allclose(new.features[name][~missing], rows[~missing], atol=1e-5)
        assert not new.features[name][alone].any()
        assert f"new items, {name}: 1 of 20 lack it, first new{alone}; the catalogue's mean stands in" in new.notes


def test_a_folder_holds_a_table_and_perhaps_features(bundle, shop, tmp_path):
    catalogue(shop, tmp_path / "items.csv")
    np.save(tmp_path / "image_feat.npy", np.tile(np.arange(20)[:, None], bundle.features["image"].shape[1]))
    new = new_items.read(bundle, tmp_path)
    np.testing.assert_array_equal(new.features["image"][:, 3], np.arange(20))
    assert "new items, image: taken from image_feat.npy" in new.notes
    catalogue(shop, tmp_path / "items.tsv")
    with pytest.raises(SeaError, match=r"holds items[.]csv and items[.]tsv; name the one"):
        new_items.read(bundle, tmp_path)


def test_template_layout_roots_and_names_of_files_are_the_datasets(shop, tmp_path):
    (shop / "bare.txt").write_text("".join(";".join(row(n)) + "\n" for n in range(20)))
    (shop / "named").mkdir()
    for n in range(20):
        (shop / "named" / f"i{n}.png").write_bytes((shop / "pics" / f"{n}.png").read_bytes())
        (shop / "named" / f"new{n}.png").write_bytes((shop / "pics" / f"{n}.png").read_bytes())
    roots = {"image": str(shop)}
    for more in (
        {"text_columns": ["3", "2"], "named": {"item_id": "1", "image": "5", "title": "2"}},
        {"template": "{2}: {3}", "named": {"item_id": "1"}, "image_files": "named/{item}.png", "roots": roots},
        {"template": "{2}: {3}", "named": {"item_id": "1"}, "image_files": str(shop / "named" / "{item}.png")},
    ):
        # Columns without a head are called 1, 2, ...; a bare table's layout is part of what is recorded.
        recipe = Recipe(text_template=more.get("template", ""), image_root=more.get("roots", {}).get("image", ""))
        skips = Skips()
        write(tmp_path / "clicks.csv", pl.read_csv(shop / "clicks.csv").rows(), ["1", "2"])
        (tmp_path / "clicks.csv").write_text((tmp_path / "clicks.csv").read_text().partition("\n")[2].replace(",", ";"))
        found = source(
            str(tmp_path / "clicks.csv"), str(shop / "bare.txt"), skips=skips, header=False, delimiter=";",
            **{**more, "named": {"user": "1", "item": "2", "time": "none", **more["named"]}},
        )  # fmt: skip
        made = prepare(found, recipe, skips)
        about = made.manifest["items"]
        assert about["layout"] == {"header": False, "delimiter": ";"} and str(shop) not in json.dumps(about)
        (shop / "later.txt").write_text("".join(";".join(row(n, f"new{n}")) + "\n" for n in range(20)))
        given = {}
        if "image_files" in more:
            given = roots if not Path(more["image_files"]).is_absolute() else {"image": str(shop / "named")}
        new = new_items.read(made, shop / "later.txt", roots=given)
        for name in ("text", "image"):
            rows, missing = stored(made, name)
            np.testing.assert_allclose(new.features[name][~missing], rows[~missing], atol=1e-5)


def test_other_rows_change_nothing_and_lines_that_cannot_be_used_are_told(bundle, tmp_path, shop):
    good = [row(3, "a"), row(5, "b")]
    two = new_items.read(bundle, write(shop / "two.csv", good))
    text = (shop / "two.csv").read_text() + "a,twice,,,\n,nobody,,,\n" + ",".join("123456") + "\n"
    (shop / "more.csv").write_text(text)
    more = new_items.read(bundle, shop / "more.csv")
    assert more.ids == ["a", "b"]
    for name in ("text", "image"):
        np.testing.assert_array_equal(more.features[name], two.features[name])
    told = " ".join(more.notes)
    for words in ("an item that an earlier line has", "no sku", "more than the 5 cells"):
        assert words in told


def test_what_an_item_lacks_is_told_and_no_crash(bundle, shop):
    rows = [row(3, "whole"), ["unread", "zzz yyy", "", "", "pics/4.png"], ["lost", "Red lamp", "", "", "pics/none.png"]]
    new = new_items.read(bundle, write(shop / "lacking.csv", [*rows, ["bare", "", "", "", ""]]))
    assert new.ids == ["whole", "unread", "lost"] and new.titles == ["Grey rug", "zzz yyy", "Red lamp"]
    assert [name for name, x in zip(new.ids, new.features["text"], strict=True) if not x.any()] == ["unread"]
    assert [name for name, x in zip(new.ids, new.features["image"], strict=True) if not x.any()] == ["lost"]
    told = "\n".join(new.notes)
    for words in (
        "text: a text without words that the catalogue shares: 1, first in row unread (zzz yyy)",
        "image: a file that is not there: 1, first in row lost",
        "text: 1 of 3 lack it, first unread",
        "image: 1 of 3 lack it, first lost",
        "1 have nothing to know them by and are left out, first bare",
    ):
        assert words in told
    only_text = new_items.read(bundle, write(shop / "texts.csv", [row(3, "t")[:4]], COLUMNS[:4]))
    assert set(only_text.features) == {"text"}
    assert "new items, image: 1 of 1 lack it, first t; the catalogue's mean stands in" in only_text.notes


def test_a_table_that_does_not_fit_is_one_sentence(bundle, shop):
    for rows, columns, words in (
        ([row(3)], COLUMNS, r"line 2: item 'i3' is in the catalogue already \(1 such in all\)"),
        ([["a", "Red lamp"]], ["id", "name"], "has no column sku, which holds the ids .* it has id, name"),
        ([["a", "Red lamp"]], ["sku", "name"], "has no column category, of which .* it has sku, name: add it"),
        ([["a", "x"]], ["sku", "colour"], "no new item has any of image, text"),
        ([["", "x", "y", "z"]], ["sku", "name", "blurb", "category"], "has no rows with an id"),
        (
            [["a", "zzz", "", ""]],
            ["sku", "name", "blurb", "category"],
            "text: tfidf: none of 1 can be encoded .*first a: zzz.*; mend these",
        ),
        (
            [["bare", "", "", "", ""], ["a", "zzz", "", "", "gone.png"]],
            COLUMNS,
            "image: colours: none of 1 can .* not there: 1, first a: .*gone.png.; text: tfidf: none of 1 can",
        ),
    ):
        with pytest.raises(SeaError, match=words) as caught:
            new_items.read(bundle, write(shop / "wrong.csv", rows, columns))
        assert "\n" not in str(caught.value)


def test_a_modality_of_which_nothing_can_be_encoded_counts_as_missing(bundle, shop):
    rows = [["bare", "", "", "", ""], [*row(3, "a")[:4], "gone.png"], [*row(5, "b")[:4], "lost.png"]]
    new = new_items.read(bundle, write(shop / "blind.csv", rows))
    assert new.ids == ["a", "b"] and not new.features["image"].any()
    places = [3, 5]
    np.testing.assert_allclose(new.features["text"], stored(bundle, "text")[0][places], atol=1e-5)
    told = "\n".join(new.notes)
    assert "image: colours: none of 2 can be encoded (a file that is not there: 2, first a: " in told
    assert "image: 2 of 2 lack it, first a; the catalogue's mean stands in" in told
    found, notes = new_items.encode(bundle, {"text": ["zzz", "yyy"], "image": ["", shop / "pics" / "3.png"]})
    assert not found["text"].any() and found["image"].any(axis=1).tolist() == [False, True]
    assert any("text: tfidf: none of 2 can be encoded" in note and "first 0: zzz" in note for note in notes)
    with pytest.raises(SeaError, match="new items: no content gives a row"):
        new_items.encode(bundle, {"text": [None]})


# What is recorded.


def changed(bundle, **notes):
    return dataclasses.replace(bundle, manifest={**bundle.manifest, **notes})


def test_a_bundle_of_before_is_one_sentence(bundle, shop, rng):
    path = write(shop / "one.csv", [row(3, "a")])
    old = {key: bundle.manifest["items"][key] for key in ("text_columns", "template")}
    with pytest.raises(SeaError, match=r"does not record which columns .* items[.]txt"):
        new_items.read(changed(bundle, items=old), path)
    with pytest.raises(SeaError, match=r"does not hold what tfidf learnt of its text \(no encoders[.]npz\)"):
        new_items.read(dataclasses.replace(bundle, encoders={}), path)
    # Rows that stand alone need nothing but their encoder's name.
    rows, _ = new_items.encode(dataclasses.replace(bundle, encoders={}), {"image": [shop / "pics" / "3.png"]})
    np.testing.assert_allclose(rows["image"][0], stored(bundle, "image")[0][3], atol=1e-6)
    with pytest.raises(SeaError, match="came as ready-made features"):
        new_items.encode(changed(bundle, encoders={}), {"text": ["red lamp"]})
    with pytest.raises(SeaError, match="has no modality 'sound'; it has image, text"):
        new_items.encode(bundle, {"sound": ["x.wav"]})


def test_another_encoder_is_refused(bundle, shop):
    other = {"image": {**bundle.manifest["encoders"]["image"], "version": "0"}}
    with pytest.raises(
        SeaError, match="encoded by colours in version 0, and colours here is 1, whose rows do not compare"
    ):
        new_items.encode(changed(bundle, encoders=other), {"image": [shop / "pics" / "3.png"]})
    other = {"text": {**bundle.manifest["encoders"]["text"], "encoder": "minilm:/no/such/folder"}}
    with pytest.raises(SeaError, match="was encoded by minilm:/no/such/folder: "):
        new_items.encode(changed(bundle, encoders=other), {"text": ["red lamp"]})
    for contents, words in (
        ({}, "must have a modality at least"),
        ({"text": ["a", "b"], "image": ["a"]}, "an entry for each item in each"),
    ):
        with pytest.raises(SeaError, match=words):
            new_items.encode(bundle, contents)
    with pytest.raises(SeaError, match="ids names 2 items"):
        new_items.encode(bundle, {"text": ["red lamp"]}, ids=["a", "b"])


def test_an_encoder_that_has_moved_is_named_and_known_by_its_weights(shop, tmp_path):
    pytest.importorskip("tokenizers")
    pytest.importorskip("safetensors.numpy")
    from tests.raw.test_encoders_minilm import make_model

    made = bundle_of(shop, Recipe(text_encoder=f"minilm:{make_model(tmp_path / 'tiny')}"))
    assert made.encoders == {} and made.manifest["encoders"]["text"]["encoder"] == "minilm:tiny"
    (tmp_path / "tiny").rename(tmp_path / "moved")
    path = catalogue(shop, shop / "again.csv")
    new = new_items.read(made, path, specs={"text": f"minilm:{tmp_path / 'moved'}"})
    rows, missing = stored(made, "text")
    np.testing.assert_allclose(new.features["text"][~missing], rows[~missing], atol=1e-5)
    other = make_model(tmp_path / "other", pooling="cls")
    with pytest.raises(SeaError, match="whose rows do not compare; name the same model by --text_encoder"):
        new_items.read(made, path, specs={"text": f"minilm:{other}"})
    with pytest.raises(SeaError, match="say where it is by --text_encoder=minilm:FOLDER"):
        new_items.read(made, path)


def test_ready_made_modalities_are_told(shop):
    np.savez(
        shop / "given.npz", ids=[f"i{n}" for n in range(20)], features=np.random.default_rng(0).normal(size=(20, 4))
    )
    made = bundle_of(shop, features=[f"image={shop / 'given.npz'}"])
    new = new_items.read(made, write(shop / "one.csv", [row(3, "a")]))
    assert set(new.features) == {"text"}
    assert any("(ready-made in the dataset; image_feat.npy gives it)" in note for note in new.notes)


def test_a_table_and_vectors_are_told_apart(bundle, shop, tmp_path):
    made = Recommender.from_vectors(np.ones((2, 3)), np.ones((20, 3)), [[0, 1]], item_ids=bundle.item_ids)
    catalogue(shop, tmp_path / "items.csv")
    assert len(listing.new_items_of(str(tmp_path), made, bundle, roots={"image": str(shop)}).ids) == 20
    (tmp_path / "items.txt").write_text("n1\n")
    np.save(tmp_path / "text_feat.npy", np.ones((1, 3)))
    assert listing.new_items_of(str(tmp_path), made, bundle).ids == ["n1"]
    with pytest.raises(SeaError, match=r"must hold items[.]txt, .* or a table of new items"):
        listing.new_items_of(str(shop / "pics"), made, bundle)
    numbered = Recommender.from_vectors(np.ones((2, 3)), np.ones((20, 3)), [[0, 1]])
    with pytest.raises(SeaError, match="must hold whole numbers"):
        listing.new_items_of(str(write(shop / "one.csv", [row(3, "a")])), numbered, bundle)


# The whole way.


def run(program, *flags):
    command = [sys.executable, program, *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    """The raw demo without six items, a run trained on it, and new.csv with those six."""
    folder = tmp_path_factory.mktemp("late")
    make_raw(folder / "raw", num_users=60, num_items=60)
    raw, held = folder / "raw", [f"item{n}" for n in range(0, 60, 10)]
    items, clicks = pl.read_parquet(raw / "items.parquet"), pl.read_csv(raw / "interactions.csv")
    items.filter(pl.col("item_id").is_in(held)).write_csv(raw / "new.csv")
    items.filter(~pl.col("item_id").is_in(held)).write_parquet(raw / "old.parquet")
    clicks.filter(~pl.col("item_id").is_in(held)).write_csv(raw / "clicks.csv")
    for program, *flags in (
        ("data_prep/from_tables.py", f"--interactions={raw / 'clicks.csv'}", f"--items={raw / 'old.parquet'}",
         f"--output={folder / 'data'}"),
        ("experiments/train.py", f"--data_dir={folder / 'data'}", f"--workdir={folder / 'run'}", "--epochs=1",
         "--embedding_dim=8", "--club_steps=1"),
    ):  # fmt: skip
        done = run(program, *flags)
        assert done.returncode == 0, done.stderr
    return folder, held


def test_held_out_rows_of_the_raw_demo_are_recommended(late):
    """By the README's command, but for its places; and what does not fit ends with one line and exit code 1."""
    folder, held = late
    given = f"--workdir={folder / 'run'}", f"--output={folder / 'new.csv'}"
    command = next(line for line in commands("New items, new users") if "--new_items=arrivals.csv" in line)
    places = dict(
        zip(command[2:], (given[0], f"--new_items={folder / 'raw' / 'new.csv'}", "--only_new", given[1]), strict=True)
    )
    assert {word.partition("=")[0] for word in places} == {word.partition("=")[0] for word in places.values()}
    done = run(command[1], *places.values(), "--k=6")
    assert done.returncode == 0, done.stderr
    assert "new items, text: tfidf: 6 of 6 rows" in done.stderr
    lists = pl.read_csv(folder / "new.csv")
    assert len(lists) == 60 * 6 and set(lists["item"]) == set(held)
    assert lists.group_by("user").agg(pl.col("item").n_unique())["item"].to_list() == [6] * 60

    def fails(words, *flags):
        done = run("experiments/recommend.py", *given, *flags)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert words in done.stderr

    fails("item 'item1' is in the catalogue already", f"--new_items={folder / 'raw' / 'old.parquet'}")
    (folder / "strange.csv").write_text("sku,title\na,b\n")
    fails("has no column item_id", f"--new_items={folder / 'strange.csv'}")
    (folder / "gone.csv").write_text("item_id,title,description,image\na,,,no/such.png\n")
    fails(
        "image: colours: none of 1 can be encoded (a file that is not there: 1, first a:",
        f"--new_items={folder / 'gone.csv'}",
    )
    (folder / "words.csv").write_text("item_id,title,description,image\na,qqq,,\n")
    fails("a text without words that the catalogue shares", f"--new_items={folder / 'words.csv'}")
    fails("no such file or directory", f"--new_items={folder / 'nowhere.csv'}")
    fails("--image_root says how new items are read", "--image_root=raw")
    fails("'text' is no encoder of text", f"--new_items={folder / 'raw' / 'new.csv'}", "--text_encoder=text")
    new = f"--new_items={folder / 'raw' / 'new.csv'}"
    fails("--save says how new items are read or kept", f"--save={folder / 'x.npz'}")
    fails("must end in .csv, .jsonl or .parquet", new, f"--output={folder / 'lists.txt'}")
    fails("name one file", new, f"--save={folder / 'new.csv'}")
    fails("lies in the run's folder", new, f"--save={folder / 'run' / 'x.npz'}")
    (folder / "exclude.txt").write_text("item1\nitem0\n")
    fails("names item 'item0' in line 2", new, f"--exclude={folder / 'exclude.txt'}")
    assert not (folder / "x.npz").exists()


def test_a_recommender_with_new_items_is_kept(late):
    """With --save alone no lists are written; the file recommends what `embed_items` gives."""
    folder, held = late
    (folder / "exclude.txt").write_text("item1\n\nitem2\n")
    done = run(
        "experiments/recommend.py", f"--workdir={folder / 'run'}", f"--new_items={folder / 'raw' / 'new.csv'}",
        f"--save={folder / 'grown.npz'}", f"--exclude={folder / 'exclude.txt'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote a recommender of 60 items to {folder / 'grown.npz'}\n"
    made, opened = Recommender.load(folder / "grown.npz"), sea_jax.open_run(folder / "run")
    assert made.item_ids.tolist()[-6:] == held
    new = new_items.read(opened.bundle(), folder / "raw" / "new.csv")
    expected = opened.embed_items(new.features, exclude=["item1", "item2"])
    np.testing.assert_allclose(made.item_vectors[-6:], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected - opened.embed_items(new.features)).max() > 1e-4


def test_a_run_opens_with_its_bundle_made_before_or_after_encoders_were_kept(late):
    folder, _ = late
    before = folder / "before"
    shutil.copytree(folder / "data", before)
    (before / "encoders.npz").unlink()
    manifest = json.loads((before / "manifest.json").read_text())
    del manifest["sha256"], manifest["hashes"]["encoders.npz"], manifest["items"]["columns"]
    (before / "manifest.json").write_text(json.dumps(manifest))
    given = f"--workdir={folder / 'run'}", f"--data_dir={before}", f"--output={folder / 'lists.csv'}"
    assert run("experiments/recommend.py", *given).returncode == 0
    assert sea_jax.open_run(folder / "run", str(before)).bundle().encoders == {}
    done = run("experiments/recommend.py", *given, f"--new_items={folder / 'raw' / 'new.csv'}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "does not record which columns its items were read from" in done.stderr


CELL = st.one_of(
    st.sampled_from(["a", "a", "i3", "", '"', "red lamp", "pics/3.png", "pics", "/", "../x|y", "\ufeff", "1e3"]),
    st.text(max_size=4),
)
LINES = st.lists(st.one_of(st.lists(CELL, max_size=6).map(",".join), CELL), max_size=5)
HEADS = st.one_of(st.just(",".join(COLUMNS)), st.permutations(COLUMNS).map(",".join), LINES.map(",".join))


@settings(max_examples=100, deadline=None)
@given(
    head=HEADS,
    lines=LINES,
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ""]),
    raw=st.binary(max_size=6),
)
def test_whatever_the_table_is_it_is_read_or_refused_in_a_sentence(bundle, shop, head, lines, ending, raw):
    path = shop / f"whatever{ending}"
    path.write_bytes("\n".join([head, *lines]).encode("utf-8", "replace") + raw)
    try:
        new = new_items.read(bundle, path)
    except SeaError as error:
        assert "\n" not in str(error).replace(head, "")
        return
    assert len(set(new.ids)) == len(new.ids) and not set(new.ids) & set(bundle.item_ids.tolist())
    for name, x in new.features.items():
        assert x.shape == (len(new.ids), bundle.features[name].shape[1]) and np.isfinite(x).all()
