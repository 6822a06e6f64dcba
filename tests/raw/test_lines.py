"""Blocks of whole lines, whatever they are packed in; cells; what is skipped is counted."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sea_jax.errors import SeaError
from sea_jax.raw import lines


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("packed", [False, True])
def test_blocks_put_together_are_the_file(tmp_path, size, packed):
    text = "a,b\n\né,2\r\nlast line without an end"
    path = tmp_path / "x.csv"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = list(lines.blocks(path, size=size))
    assert b"".join(block for _, block in found) == text.encode()
    assert all(block.endswith(b"\n") for _, block in found[:-1])
    number = 1
    for first, block in found:
        assert first == number
        number += block.count(b"\n")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
@pytest.mark.parametrize("size", [1, 64])
def test_encodings(tmp_path, encoding, size):
    path = tmp_path / "x.csv"
    path.write_bytes("user,item\né,2\n".encode(encoding))
    known = "" if encoding in ("utf-8-sig", "utf-16") else encoding
    if size == 1 and not known:
        return  # a mark is looked for in the first block
    assert b"".join(block for _, block in lines.blocks(path, encoding=known, size=size)) == "user,item\né,2\n".encode()


def test_each_numbers_lines_and_leaves_out_blank_ones(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"a\r\n\n  \nb")
    assert list(lines.each(path)) == [(1, b"a"), (4, b"b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04....", "packed by zip"),
        (b"BZh91AY", "packed by bzip2"),
        (gzip.compress(b"a,b\n" * 1000)[:-20], "cut off after about"),
        (b"\x1f\x8b\x08\x00garbage" * 9, "damaged or cut off"),
    ],
)
def test_what_is_no_plain_text_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(SeaError, match=message):
        list(lines.blocks(path))


def test_unknown_and_wrong_encodings(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\xfea")
    with pytest.raises(SeaError, match="--encoding=klingon is unknown"):
        list(lines.blocks(path, encoding="klingon"))
    with pytest.raises(SeaError, match="not in the encoding UTF-16"):
        list(lines.blocks(path))
    with pytest.raises(SeaError, match="is a folder"):
        list(lines.blocks(tmp_path))


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n\x00", blacklist_categories=("Cs",))), min_size=1))
def test_cells_read_what_csv_writes(row):
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(row)
    assert lines.cells(written.getvalue(), ",", True) == row or row == [""]


@given(st.text('ab",', max_size=20))
def test_cells_never_lose_a_letter(text):
    found = lines.cells(text, ",", True)
    assert found is None or sum(map(len, found)) + len(found) - 1 <= len(text)
    assert ",".join(lines.cells(text, ",", False)) == text


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ('1,"a,b",c', ["1", "a,b", "c"]),
        ('"say ""hi""",2', ['say "hi"', "2"]),
        ('5" pipe,x', ['5" pipe', "x"]),
        ('1,"open', None),
        ('1,"shut"x,2', None),
        (",", ["", ""]),
        ("", [""]),
    ],
)
def test_quotes(line, cells):
    assert lines.cells(line, ",", True) == cells


def test_skips_count_by_kind_and_remember_the_first():
    skips = lines.Skips()
    for line in (3, 5):
        skips.add("folder/a.csv", "no user", line)
    skips.add("folder/a.csv", "no item", 4)
    assert skips.sentences() == [
        "a.csv: 2 skipped, no user (first: line 3)",
        "a.csv: 1 skipped, no item (first: line 4)",
    ]
    assert skips.count("a.csv") == 3
    with pytest.raises(SeaError, match=r"a\.csv, line 3: no user; mend it"):
        lines.Skips(strict=True).add("a.csv", "no user", 3)
