"""Layouts are found, columns guessed or named, rows of items read one by one."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sea_jax.errors import SeaError
from sea_jax.raw import lines, tables

pytest.importorskip("polars")


@pytest.mark.parametrize(
    ("names", "role", "found"),
    [
        ("userId,movieId,rating", "user", "userId"),
        ("USER_ID,x", "user", "USER_ID"),
        ("reviewerID,asin", "item", "asin"),
        ("asin,parent_asin", "item", "parent_asin"),
        ("a,t_dat", "time", "t_dat"),
        ("user_id:token,item_id:token", "item", "item_id"),
    ],
)
def test_usual_names(tmp_path, names, role, found):
    (tmp_path / "x.csv").write_text(names + "\n1,2,3\n")
    assert tables.find(tables.layout(tmp_path / "x.csv"), role) == found


def test_columns_that_cannot_be_guessed_are_asked_for(tmp_path):
    (tmp_path / "x.csv").write_text("who,what\na,b\n")
    table = tables.layout(tmp_path / "x.csv")
    with pytest.raises(SeaError, match=r"usual name for the user; it has who, what: say which by --user_column"):
        tables.find(table, "user")
    assert tables.find(table, "user", "who") == "who"
    assert tables.find(table, "time", needed=False) is None
    with pytest.raises(SeaError, match="no column when"):
        tables.find(table, "time", "when")


def test_without_a_header_columns_are_numbers(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,5\n")
    table = tables.layout(tmp_path / "x.csv", header=False)
    assert table.columns == ("1", "2", "3")
    assert tables.find(table, "user", "2") == "2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "is empty"),
        ("x.json", '[{"a": 1}]', "one JSON array"),
        ("x.csv", "user,user\na,b\n", "two columns called user"),
    ],
)
def test_what_is_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(SeaError, match=message):
        tables.layout(tmp_path / name)


CELL = st.text(st.characters(blacklist_characters="\r\x00", blacklist_categories=("Cs",)), max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELL, CELL, CELL).filter(lambda row: any(cell.strip() for cell in row)), max_size=6))
def test_records_read_what_csv_writes(tmp_path_factory, rows):
    """Cells with commas, quotes and line breaks; blank lines within a cell may go."""
    path = tmp_path_factory.mktemp("x") / "x.csv"
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b", "c"), *rows])
    path.write_text(written.getvalue(), encoding="utf-8", newline="")
    skips = lines.Skips()
    found = [list(record.values()) for _, record in tables.records(tables.layout(path), skips)]
    squeeze = lambda cell: [line for line in cell.split("\n") if line.strip()]  # noqa: E731
    assert [[squeeze(cell) for cell in row] for row in found] == [[squeeze(cell) for cell in row] for row in rows]
    assert not skips.found


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path):
    (tmp_path / "x.csv").write_text('item,title\n1,"two\nlines"\n2,"open\n3,c\n4,"d",e\n5,f\n')
    skips = lines.Skips()
    found = list(tables.records(tables.layout(tmp_path / "x.csv"), skips))
    assert [record and record["item"] for _, record in found] == ["1", None, "3", None, "5"]
    assert skips.sentences() == [
        "x.csv: 1 skipped, a quote that is not closed (first: line 4)",
        "x.csv: 1 skipped, more than the 2 cells of its first line (first: line 6)",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (float("nan"), ""), (" a\n b ", "a b"), (["a", None, ["b"]], "a b"), ({"k": "v", "n": 1}, "v 1"),
        (3.5, "3.5"), ([""], ""),
    ],
)  # fmt: skip
def test_text_of(value, text):
    assert tables.text_of(value) == text


@pytest.mark.parametrize(
    ("value", "paths"),
    [("a.png", ("a.png",)), ("a.png| b.png |", ("a.png", "b.png")), (None, ()), (["a", None, ""], ("a",)), (3, ())],
)
def test_paths_of(value, paths):
    assert tables.paths_of(value) == paths
