"""Own tables: columns guessed and said, or named; formats mixed; split columns and files; pictures by name."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.from_tables import source
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe

pl = pytest.importorskip("polars")


@pytest.fixture
def own(tmp_path, rng):
    rows = [
        (f"u{u}", f"i{i}", int(1.6e9) + n)
        for n, (u, i) in enumerate((u, i) for u in range(12) for i in rng.permutation(10)[:6])
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(tmp_path / "i.parquet")
    text = "sku|name|blurb|cover\n" + "".join(
        f"i{n}|Thing {n}|a {'red' if n % 2 else 'blue'} thing, no {n}|pics/{n}.png\n" for n in range(10)
    )
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def made(own, recipe=None, interactions="i.parquet", **arguments):
    skips = Skips()
    said = []
    found = source(str(own / interactions), str(own / "items.csv.gz"), skips=skips, say=said.append, **arguments)
    return prepare(found, recipe or Recipe(), skips), said


def test_columns_are_guessed_and_said(own):
    bundle, said = made(own, named={"image": "none"})
    assert said[0].endswith("i.parquet: user is user_id, item is item_id, time is timestamp")
    assert said[1].endswith("items.csv.gz: item is sku, text is name")
    assert bundle.manifest["encoders"]["text"]["encoder"] == "tfidf"
    assert set(bundle.manifest["sources"]) == {"i.parquet", "items.csv.gz"}


def test_a_column_of_categories_is_kept_for_lists(own):
    text = "sku,name,genre\n" + "".join(f"i{n},Thing {n},{['tea ', '', 'pots'][n % 3]}\n" for n in range(9))
    (own / "with.csv").write_text(text)
    categories = {}
    for column in ("", "name", "none"):
        skips = Skips()
        found = source(str(own / "i.parquet"), str(own / "with.csv"), skips=skips, named={"category": column})
        categories[column] = prepare(found, Recipe(require=("text",)), skips).shown.get("categories")
        if column == "":
            names = prepare(found, Recipe(), skips).item_ids.tolist()
            kept = prepare(found, Recipe(), skips).shown["categories"]
    assert dict(zip(names, kept.tolist(), strict=True)) == {
        f"i{n}": ["tea", "", "pots"][n % 3] if n < 9 else "" for n in range(10)
    }
    assert set(categories[""].tolist()) == {"tea", "", "pots"} and len(categories[""]) == 9
    assert set(categories["name"].tolist()) == {f"Thing {n}" for n in range(9)}
    assert categories["none"] is None


def test_columns_and_a_template_are_named(own):
    bundle, said = made(own, named={"image": "none", "item_id": "sku"}, text_columns=["blurb", "name"])
    assert said[1].endswith("text is blurb+name")
    assert bundle.manifest["items"]["text_columns"] == ["blurb", "name"]
    found = source(str(own / "i.parquet"), str(own / "items.csv.gz"), skips=Skips(), template="{name}: {blurb}")
    assert found.items(["i1"], None).texts == ["Thing 1: a red thing, no 1"]
    with pytest.raises(SeaError, match="has no column colour"):
        made(own, template="{colour}")
    with pytest.raises(SeaError, match="--text_template names blurb, and the columns of texts are name"):
        made(own, template="{blurb}", text_columns=["name"])
    with pytest.raises(SeaError, match="has no column colour"):
        made(own, text_columns=["colour"])


def test_pictures_are_found_beside_the_table_or_by_the_item(own):
    Image = pytest.importorskip("PIL.Image")
    (own / "pics").mkdir()
    for n in range(8):
        Image.new("RGB", (8, 8), (n * 20, 0, 0)).save(own / "pics" / f"{n}.png")
        Image.new("RGB", (8, 8), (0, n * 20, 0)).save(own / "pics" / f"i{n}.png")
    (own / "pics" / "3.png").write_bytes(b"no picture")
    bundle, _ = made(own)
    lacking = {name for name, mask in zip(bundle.item_ids, bundle.missing["image"], strict=True) if mask}
    assert lacking == {"i3", "i8", "i9"}
    rooted, _ = made(own, Recipe(image_root=str(own)), roots={"image": str(own)})
    np.testing.assert_array_equal(rooted.features["image"], bundle.features["image"])
    by_name, _ = made(own, named={"image": "none"}, image_files=str(own / "pics" / "{item}.png"))
    lacking = {name for name, mask in zip(by_name.item_ids, by_name.missing["image"], strict=True) if mask}
    assert lacking == {"i8", "i9"}
    with pytest.raises(SeaError, match="no such file for any item"):
        made(own, image_files=str(own / "elsewhere" / "{item}.png"))
    with pytest.raises(SeaError, match=r"must contain \{item\}"):
        made(own, image_files=str(own / "x.png"))


def test_a_split_by_files_and_by_a_column(own):
    frame = pl.read_parquet(own / "i.parquet")
    for name, part in (("train", frame[:50]), ("valid", frame[50:60]), ("test", frame[60:])):
        part.write_csv(own / f"{name}.csv")
    held = {1: str(own / "valid.csv"), 2: str(own / "test.csv")}
    text = {"named": {"image": "none"}}
    by_files, _ = made(own, Recipe(split="given"), "train.csv", held=held, **text)
    assert [len(getattr(by_files, split)) for split in bundles.SPLITS] == [50, 10, 12]
    labels = ["train"] * 50 + ["valid"] * 10 + ["test"] * 12
    frame.with_columns(pl.Series("x_label", labels)).write_ndjson(own / "all.jsonl")
    by_column, _ = made(own, Recipe(split="given"), "all.jsonl", also=("time", "split"), **text)
    for split in bundles.SPLITS:
        np.testing.assert_array_equal(getattr(by_column, split), getattr(by_files, split))


def test_encoded_contents_are_kept(own, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    (own / "pics").mkdir()
    for n in range(10):
        Image.new("RGB", (8, 8), (n * 20, 0, 0)).save(own / "pics" / f"{n}.png")
    recipe = Recipe(encoder_cache=str(tmp_path / "cache"))
    first, _ = made(own, recipe)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("rows-*.npy")}
    second, _ = made(own, recipe)
    np.testing.assert_array_equal(first.features["image"], second.features["image"])
    assert kept
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("rows-*.npy")}
    assert first.manifest == second.manifest


def test_the_program_tells_in_one_line(own):
    def run(*flags):
        program = [
            sys.executable,
            "data_prep/from_tables.py",
            f"--interactions={own / 'i.parquet'}",
            f"--output={own / 'out'}",
            *flags,
        ]
        return subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[1])

    for flags, message in (
        (["--items=nowhere.csv"], "no such file or directory: nowhere.csv"),
        ([f"--items={own / 'items.csv.gz'}", "--k_core=many"], "--k_core"),
        ([f"--items={own / 'items.csv.gz'}", "--split=guess"], "split"),
        ([f"--items={own / 'items.csv.gz'}", "--text_encoder=guess", "--image_column=none"], "no encoder of text"),
        ([f"--items={own / 'items.csv.gz'}", "--user_column=x"], "has no column x"),
        (["--features=image"], "must be MODALITY=FILE"),
        (
            ["--split=global_time", "--valid_from=soon", f"--items={own / 'items.csv.gz'}"],
            "--valid_from=soon is no date",
        ),
    ):
        done = run(*flags)
        assert done.returncode == 1, flags
        assert message in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert not (own / "out").exists()
    done = run(f"--items={own / 'items.csv.gz'}", "--image_column=none", "--split=leave_last_out", "--k_core=2,3")
    assert (done.returncode, done.stderr) == (0, "")
    assert bundles.load(own / "out", verify_hashes=True).num_users == 12


CELL = st.one_of(st.none(), st.sampled_from(["i1", "i2", " i3 ", "", '"', "a\nb", "é", "1e3"]), st.text(max_size=4))
ITEM_LINES = st.one_of(
    st.lists(CELL.map(lambda cell: cell or ""), max_size=4).map(",".join),
    st.lists(CELL.map(lambda cell: '"' + (cell or "").replace('"', '""') + '"'), max_size=4).map(",".join),
)


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(ITEM_LINES, max_size=8))
def test_fuzz_items(tmp_path_factory, rows):
    """Whatever stands in the items' table, the one before and the one after it are found."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "i.csv").write_text("user,item\nu,first\nu,last\n")
    rows = [row.encode("utf-8", "surrogatepass") for row in rows]
    (folder / "items.csv").write_bytes(b"item,title,text\nfirst,one,x\n" + b"\n".join(rows) + b"\nlast,two,y\n")
    skips = Skips()
    items = source(str(folder / "i.csv"), str(folder / "items.csv"), skips=skips).items(["first", "last"], None)
    assert items.titles[0] == "one"
    # A cell may open a quote that the last line's own text does not close: then only that line is left out.
    assert items.titles[1] == "two"
