"""Interactions from every format; ids survive; broken lines are named, counted, and all that is skipped."""

import contextlib
import gzip
import json
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sea_jax.errors import SeaError
from sea_jax.raw import lines, reader, tables

pl = pytest.importorskip("polars")

ROWS = [
    ("007", "a b", "5.0", "1500000000"),
    ("7", "x,y", "4", "1500000001"),
    ("12345678901234567890123", "日本", "1.5", "1500000002"),
    ("nan", "NULL", "3", "1500000003"),
    ("007", "é", "2", "1500000004"),
]


def read(path, skips=None, roles=("user", "item", "time", "rating"), time_format="", **layout):
    table = tables.layout(path, **layout)
    it = reader.Reader(skips or lines.Skips(), time_format=time_format)
    it.read(table, {role: tables.find(table, role) for role in roles})
    return it.table()


def pairs(table):
    return [(table.user_ids[u], table.item_ids[i]) for u, i in zip(table.users, table.items, strict=True)]


def quoted(cell):
    return f'"{cell}"' if "," in cell else cell


WRITE = {
    "x.csv": lambda p: p.write_text("\n".join(["userId,movieId,rating,timestamp", *(",".join(map(quoted, r)) for r in ROWS)])),
    "x.tsv": lambda p: p.write_text("\n".join(["uid\tiid\trating\ttime", *("\t".join(r) for r in ROWS)]) + "\n"),
    "x.dat": lambda p: p.write_text("\n".join(["user::item::rating::time", *("::".join(r) for r in ROWS)])),
    "x.csv.gz": lambda p: p.write_bytes(
        gzip.compress("\r\n".join(["user;item;rating;time", *(";".join(r) for r in ROWS)]).encode())
    ),
    "x.inter": lambda p: p.write_text(
        "\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *("\t".join(r) for r in ROWS)])
    ),
    "x.jsonl": lambda p: p.write_text(
        "\n\n".join(
            json.dumps({"reviewerID": u, "asin": i, "overall": float(r), "unixReviewTime": int(t)}) for u, i, r, t in ROWS
        )
    ),
    "x.parquet": lambda p: pl.DataFrame(ROWS, schema=["user_id", "item_id", "rating", "timestamp"], orient="row").write_parquet(p),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITE)
def test_every_format_gives_the_same_table(tmp_path, name):
    WRITE[name](tmp_path / name)
    table = read(tmp_path / name)
    assert pairs(table) == [(u, i) for u, i, _, _ in ROWS]
    np.testing.assert_array_equal(table.ratings, [float(r) for _, _, r, _ in ROWS])
    np.testing.assert_array_equal(table.times, [float(t) for _, _, _, t in ROWS])


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pl.Series([2**62 + 1, 3, None, 5]), [str(2**62 + 1), "3", None, "5"]),
        (pl.Series([1.0, 2.0, None, float("nan")]), ["1", "2", None, None]),
        (pl.Series(["a", "b", None, " "]).cast(pl.Categorical), ["a", "b", None, None]),
        (pl.Series([2**64 - 1, 1, 2, 3], dtype=pl.UInt64), [str(2**64 - 1), "1", "2", "3"]),
    ],
)
def test_parquet_ids_of_any_kind(tmp_path, column, ids):
    pl.DataFrame({"user": column, "item": ["i"] * 4}).write_parquet(tmp_path / "x.parquet")
    skips = lines.Skips()
    table = read(tmp_path / "x.parquet", skips, roles=("user", "item"))
    assert [u for u, _ in pairs(table)] == [name for name in ids if name]
    assert skips.count("x.parquet") == ids.count(None)


def test_parquet_ids_that_are_fractions_or_lists_are_refused(tmp_path):
    for column in ([1.5, 2.0], [["a"], ["b"]]):
        pl.DataFrame({"user": column, "item": ["i", "j"]}).write_parquet(tmp_path / "x.parquet")
        with pytest.raises(SeaError, match="column user: ids are"):
            read(tmp_path / "x.parquet", roles=("user", "item"))
    (tmp_path / "y.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(SeaError, match="damaged"):
        read(tmp_path / "y.parquet")


def test_blanks_around_ids_do_not_make_another_id(tmp_path):
    (tmp_path / "x.csv").write_text("user,item\n a ,1\na, 1\n\ta,1 \n")
    table = read(tmp_path / "x.csv", roles=("user", "item"))
    assert list(table.user_ids) == ["a"]
    assert list(table.item_ids) == ["1"]


def test_what_is_skipped_is_counted_with_its_first_line(tmp_path):
    (tmp_path / "x.csv").write_bytes(
        b"user,item,time\n"
        b"a,1,100\n"
        b"\n"
        b",2,100\n"  # line 4
        b"b\n"  # 5
        b'c,"open,100\n'  # 6
        b"d,4,100,extra\n"  # 7
        b"\xff,5,100\n"  # 8
        b"e,6,never\n"  # 9
        b"f\x01g,7,100\n"  # 10
        b",8,100\n"  # 11
        b"g,9,nan\n"  # 12
        b"h,10,200\n"
    )
    skips = lines.Skips()
    table = read(tmp_path / "x.csv", skips, roles=("user", "item", "time"))
    assert pairs(table) == [("a", "1"), ("h", "10")]
    assert skips.sentences() == [
        "x.csv: 2 skipped, no user (first: line 4)",
        "x.csv: 1 skipped, no item (first: line 5)",
        "x.csv: 1 skipped, a quote that is not closed (first: line 6)",
        "x.csv: 1 skipped, more than the 3 cells of its first line (first: line 7)",
        "x.csv: 1 skipped, no UTF-8 (byte 0xff); perhaps --encoding=latin-1 (first: line 8)",
        "x.csv: 2 skipped, no time in time (first: line 9)",
        "x.csv: 1 skipped, a user of over 512 or with unprintable characters (first: line 10)",
    ]
    with pytest.raises(SeaError, match=r"x\.csv, line 4: no user"):
        read(tmp_path / "x.csv", lines.Skips(strict=True), roles=("user", "item", "time"))
    latin = read(tmp_path / "x.csv", encoding="latin-1", roles=("user", "item", "time"))
    assert pairs(latin) == [("a", "1"), ("ÿ", "5"), ("h", "10")]


def test_broken_json_lines(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"user": "a", "item": 1}\n{"user": "b", "item": \n[1]\n\n5\n{"user": null, "item": "x"}\n'
        '{"user": ["l"], "item": "x"}\n{"user": 1e3, "item": true}\n' + "[" * 100_000 + "\n"
    )
    skips = lines.Skips()
    table = read(tmp_path / "x.jsonl", skips, roles=("user", "item"))
    assert pairs(table) == [("a", "1"), ("1000", "true")]
    assert skips.sentences() == [
        "x.jsonl: 2 skipped, no JSON (first: line 2)",
        "x.jsonl: 2 skipped, no JSON object (first: line 3)",
        "x.jsonl: 2 skipped, no user (first: line 6)",
    ]


CELL = st.sampled_from(
    ["a", "b b", "", " ", "é", '"', '"q"', '"q,r"', '"a""b"', 'x"y', "7", "007", "1e3", "\x01", "日本", "a;b"]
)
LINE = st.one_of(
    st.lists(CELL, min_size=1, max_size=4).map(lambda cells: ",".join(cells).encode()),
    st.sampled_from([b"", b"  ", b",,", b"\xff,a,1", b"a,b,1\r", b"\xe9", b'"']),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(rows=[b'a,a,",x"y'], size=1, delimiter=b",")
@example(rows=[b",,", b"a,a,a,a"], size=10**6, delimiter=b",")
@given(
    rows=st.lists(LINE, max_size=12),
    size=st.sampled_from([1, 5, 10**6]),
    delimiter=st.sampled_from([b",", b"\t", b"|"]),
)
def test_fuzz_text_nothing_is_lost_unseen(tmp_path_factory, rows, size, delimiter):
    """Every line that is not blank is a row or is counted; both ways of reading agree."""
    path = tmp_path_factory.mktemp("fuzz") / "x.csv"
    rows = [row.replace(b",", delimiter) for row in rows]
    path.write_bytes((b"user,item,rating\n" + b"\n".join([*rows, b"last,line,1\n"])).replace(b",", delimiter))
    found = []
    for quick in (True, False):
        skips = lines.Skips()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "BLOCK", size)
            if not quick:
                patch.setattr(reader, "_quick_text", lambda *_: None)
            table = read(path, skips, roles=("user", "item"))
        assert len(table) + skips.count(path) == sum(bool(row.strip()) for row in rows) + 1
        found.append((pairs(table), sum(skips.found[key][0] for key in skips.found)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("block", "well"),
    [
        (b'a,"b,c"\n"d",e', True), (b'a,b"c\n', False), (b'"a"b,c\n', False), (b'"a""b",""\r\n', True), (b'"a\nb",c', False),
        (b"a,b\n\n", True), (b'""a,b\n', False),
    ],
)  # fmt: skip
def test_well_quoted(block, well):
    assert reader.well_quoted(block, ",") == well


def test_many_quoted_lines_are_looked_at_in_little_time_and_memory():
    assert reader.well_quoted(b'"abc","d,ef",5\n' * 200_000, ",")
    assert not reader.well_quoted(b'"abc","d,ef",5\n' * 200_000 + b'"', ",")


VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**25),
    st.text(max_size=4),
    st.floats(),
    st.lists(st.integers(0, 1), max_size=1),
)
RECORD = st.one_of(
    st.dictionaries(st.sampled_from(["user", "item", "x"]), VALUE, max_size=3).map(json.dumps),
    st.sampled_from(
        ['{"user": "a"', "[1]", "null", "7", "{}", '{"user": "a", "item": "b"} x', '{"user":"\\ud800","item":"b"}']
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(RECORD, max_size=8))
def test_fuzz_json_nothing_is_lost_unseen(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("fuzz") / "x.jsonl"
    path.write_text("\n".join(['{"user": "first", "item": "line"}', *rows]), encoding="utf-8")
    found = []
    for quick in (True, False):
        skips = lines.Skips()
        with pytest.MonkeyPatch.context() as patch:
            if not quick:
                patch.setattr(reader, "_quick_json", lambda *_: None)
            table = read(path, skips, roles=("user", "item"), columns=("user", "item"))
        assert len(table) + skips.count(path) == len(rows) + 1
        found.append(pairs(table))
    assert len(found[0]) == len(found[1])


@settings(max_examples=60, deadline=None)
@given(
    content=st.binary(max_size=200), name=st.sampled_from(["x.csv", "x.tsv", "x.jsonl", "x.parquet", "x.csv.gz", "x"])
)
def test_fuzz_any_bytes_give_a_table_or_one_sentence(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(SeaError):
            read(path, roles=("user", "item"))


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["1400000000", "1400000001"], [1400000000, 1400000001]),
        (["1588687728923", "1588687728924"], [1588687728.923, 1588687728.924]),
        (["1588687728923000"], [1588687728.923]),
        (["1588687728923000000"], [1588687728.923]),
        (["1.52309e+12"], [1523090000]),
        (["2014-01-02", "2014-01-03"], [1388620800, 1388707200]),
        (["2014-01-02 00:00:05", "2014-01-02T00:00:06"], [1388620805, 1388620806]),
        (["2014-01-02T01:00:00+01:00"], [1388620800]),
        (["01 2, 2014"], [1388620800]),
    ],
)
def test_times_of_every_kind(cells, seconds):
    times = reader.Times("x")
    found = times.of(pl.Series(cells))
    found = times.seconds(found[np.isfinite(found)])
    np.testing.assert_allclose(found, seconds, rtol=0, atol=1e-3)


def test_times_of_a_format_that_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("user,item,time\na,1,31.12.2020\nb,1,1.2.2021\n")
    with pytest.raises(SeaError, match="no usable row"):
        read(tmp_path / "x.csv", roles=("user", "item", "time"))
    table = read(tmp_path / "x.csv", roles=("user", "item", "time"), time_format="%d.%m.%Y")
    np.testing.assert_array_equal(table.times, [1609372800, 1612137600])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2014-01-02", 1388620800), ("1388620800", 1388620800), ("1388620800000", 1388620800), ("", None)],
)
def test_moments(text, seconds):
    assert reader.moment(text, "--since") == seconds


def test_a_moment_that_is_none():
    with pytest.raises(SeaError, match="--since=soon is no date"):
        reader.moment("soon", "--since")


def test_several_files_share_their_ids_and_carry_labels(tmp_path):
    it = reader.Reader(lines.Skips())
    for label, text in ((0, "a,1\nb,2\n"), (2, "b,1\nc,3\n")):
        path = tmp_path / f"{label}.csv"
        path.write_text("user,item\n" + text)
        it.read(tables.layout(path), {"user": "user", "item": "item"}, label)
    table = it.table()
    assert pairs(table) == [("a", "1"), ("b", "2"), ("b", "1"), ("c", "3")]
    np.testing.assert_array_equal(table.labels, [0, 0, 2, 2])


def test_a_column_of_splits(tmp_path):
    (tmp_path / "x.csv").write_text("user,item,split\na,1,train\na,2,Valid\na,3,2\na,4,other\n")
    skips = lines.Skips()
    table = read(tmp_path / "x.csv", skips, roles=("user", "item", "split"))
    np.testing.assert_array_equal(table.labels, [0, 1, 2])
    assert skips.sentences() == ["x.csv: 1 skipped, no split in split (first: line 5)"]


def test_lists(tmp_path):
    (tmp_path / "x.txt").write_text("0 5 6\n1\n2\t5\n\n")
    skips = lines.Skips()
    it = reader.Reader(skips)
    it.read_lists(tmp_path / "x.txt")
    assert pairs(it.table()) == [("0", "5"), ("0", "6"), ("2", "5")]
    assert skips.sentences() == ["x.txt: 1 skipped, a user without items (first: line 2)"]
