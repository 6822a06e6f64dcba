"""data_prep/encode.py: tables of every format, columns, folders of pictures, errors in one sentence."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import encode
from sea_jax.errors import SeaError

Image = pytest.importorskip("PIL.Image")
polars = pytest.importorskip("polars")

PROGRAM = Path(encode.__file__)
ITEMS = {
    "asin": ["007", "b, c", "\u00e9t\u00e9", "9223372036854775808"],
    "title": ["Red lamp", "Blue lamp", "Red &amp; blue sofa", None],
    "tags": [["home", "red lamp"], ["home"], [], None],
    "picture": ["red.png|blue.png", "blue.png", "broken.jpg", None],
}


def program(*arguments):
    return subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path):
    for name in ("red", "blue"):
        Image.new("RGB", (20, 20), name).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"<html>")
    lines = [dict(zip(ITEMS, values, strict=True)) for values in zip(*ITEMS.values(), strict=True)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_table_with_texts_and_pictures(folder):
    arguments = [
        f"--items={folder / 'items.jsonl'}",
        "--text_columns=title,tags",
        "--image_column=picture",
        f"--cache={folder / 'cache'}",
        f"--output={folder / 'out'}",
    ]
    done = program(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "the items' ids are taken from the column asin" in done.stdout
    assert "title is empty in 1 of 4, tags is empty in 2 of 4" in done.stdout
    assert "image: a file that is no picture: 1, first in row \u00e9t\u00e9 (broken.jpg)" in done.stdout
    assert (folder / "out" / "items.txt").read_text(encoding="utf-8").splitlines() == ITEMS["asin"]
    text, image = (np.load(folder / "out" / f"{name}_feat.npy") for name in ("text", "image"))
    assert len(text) == len(image) == 4
    np.testing.assert_array_equal(text.any(axis=1), [True, True, True, False])
    np.testing.assert_array_equal(image.any(axis=1), [True, True, False, False])
    record = json.loads((folder / "out" / "encoding.json").read_text(encoding="utf-8"))
    assert record["modalities"]["image"]["missing_items"] == ITEMS["asin"][2:]
    assert record["modalities"]["text"]["encoder"] == "tfidf"
    again = program(*arguments)
    assert "image: found in the cache: 2 of 3" in again.stdout
    np.testing.assert_array_equal(np.load(folder / "out" / "image_feat.npy"), image)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.parquet", "t.jsonl", "t.jsonl.gz"])
def test_every_format_gives_the_same_texts(tmp_path, name):
    columns = {"id": ["007", "12345678901234567890", "NA"], "title": ['a "quoted" one', None, "null"]}
    path = tmp_path / name
    frame = polars.DataFrame(columns)
    plain = {
        "csv": lambda: frame.write_csv().encode(),
        "tsv": lambda: b'id\ttitle\n007\ta "quoted" one\n12345678901234567890\t\nNA\tnull\n',
        "jsonl": lambda: frame.write_ndjson().encode(),
    }
    kind = name.split(".")[1]
    if kind == "parquet":
        frame.write_parquet(path)
    else:
        data = plain[kind]()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert encode.read_table(path) == columns


def test_numbers_and_lists_of_parquet_and_json_are_texts(tmp_path):
    polars.DataFrame({"id": [7, 8], "words": [["a", None], None]}).write_parquet(tmp_path / "t.parquet")
    assert encode.read_table(tmp_path / "t.parquet") == {"id": ["7", "8"], "words": [["a", None], None]}
    (tmp_path / "t.jsonl").write_text('{"id": 7}\n\n{"id": 8, "words": ["a", 1]}\n')
    assert encode.read_table(tmp_path / "t.jsonl") == {"id": ["7", "8"], "words": [None, ["a", "1"]]}


def test_a_folder_of_pictures_without_a_table(folder):
    pictures = folder / "pictures"
    pictures.mkdir()
    for name in ("b.png", "a.png", "a.gif"):
        Image.new("RGB", (9, 9), "green").save(pictures / name)
    done = program(f"--image_root={pictures}", f"--output={folder / 'out'}")
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "items.txt").read_text() == "a\nb\n"
    assert np.load(folder / "out" / "image_feat.npy").shape == (2, 284)


def test_pictures_named_after_the_ids(folder):
    (folder / "t.csv").write_text("id\nred\nblue\nlost\n")
    done = program(f"--items={folder / 't.csv'}", f"--image_root={folder}", f"--output={folder / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "image: no file named: 1, first in row lost" in done.stdout


BAD = {
    "no table": ("--items={folder}/gone.csv --text_columns=a", "gone.csv is not there"),
    "another ending": ("--items={folder}/red.png --text_columns=a", "must end in .csv"),
    "no column": ("--items={folder}/items.jsonl --text_columns=name", "--text_columns=name is no column of the items; there are asin, title"),
    "no id": ("--items={folder}/items.jsonl --id_column=name --text_columns=title", "--id_column=name is no column"),
    "nothing": ("--items={folder}/items.jsonl", "there is nothing to encode"),
    "no items": ("--text_columns=title", "there is nothing to encode"),
    "no folder": ("--image_root={folder}/gone", "is no folder"),
    "no encoder": ("--image_root={folder} --image_encoder=resnet", "'resnet' is no encoder of image"),
    "template": ("--items={folder}/items.jsonl --text_columns=title --text_template={brand}", "may name the columns title"),
    "repeated": ("--items={folder}/twice.csv --text_columns=title", "rows 0 and 1 of the items have the same id a"),
    "empty id": ("--items={folder}/empty.csv --text_columns=title", "row 0 of the items has the id None"),
    "broken json": ("--items={folder}/broken.jsonl --text_columns=title", "line 2: no JSON object"),
    "broken csv": ("--items={folder}/broken.csv --text_columns=title", "line 2: more than the 2 cells"),
    "no ids": ("--items={folder}/other.csv --text_columns=title", "--id_column must name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(folder, name, monkeypatch):
    (folder / "twice.csv").write_text("id,title\na,x\na,y\n")
    (folder / "empty.csv").write_text("id,title\n,x\n")
    (folder / "other.csv").write_text("number,title\n1,x\n")
    (folder / "broken.csv").write_text("id,title\n1,x,y,z\n")
    (folder / "broken.jsonl").write_text('{"id": "1", "title": "x"}\n[1]\n')
    arguments, words = BAD[name]
    line = [each.replace("{folder}", str(folder)) for each in arguments.split()]
    values = dict.fromkeys(
        ["items", "id_column", "text_template", "image_column", "image_root", "audio_column", "audio_root"], ""
    )
    values |= {"text_columns": [], "path_separator": "|", "image_encoder": "colours", "strict": True}
    for each in line:
        key, _, value = each.removeprefix("--").partition("=")
        values[key] = value.split(",") if key == "text_columns" else value
    with pytest.raises(SeaError) as caught:
        ids, columns = encode.collect(type("Values", (), values))
        encode.encoders.get("image", values["image_encoder"])
        assert (ids, columns) is None
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_ends_the_program_with_one_line(tmp_path):
    done = program(f"--items={tmp_path / 'gone.csv'}", "--text_columns=a", f"--output={tmp_path / 'out'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_fits_a_screen():
    done = program("--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) < 40
    assert "--text_columns" in done.stdout


def test_progress_in_a_log_is_a_line_now_and_then(capsys, monkeypatch):
    progress = encode.Progress("image")
    monkeypatch.setattr(progress, "told", -100.0)
    for done in range(1, 4):
        progress(done, 3)
    assert capsys.readouterr().out == "image: 1 of 3\n"
