"""MMRec folders become bundles; bad ones become one sentence."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sea_jax import adjacency
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError
from sea_jax.raw.mmrec import convert, read_interactions


def test_convert_save_load(mmrec, tmp_path):
    bundle = convert(mmrec)
    bundle.save(tmp_path / "out")
    loaded = bundles.load(tmp_path / "out", verify_hashes=True)
    assert loaded.modalities == ("image", "text")
    assert (loaded.num_users, loaded.num_items) == (6, 9)
    assert [len(x) for x in (loaded.train, loaded.valid, loaded.test)] == [18, 6, 6]
    assert loaded.user_ids.tolist() == [f"u{n}" for n in range(6)]
    assert loaded.item_ids[3] == "B003"
    np.testing.assert_array_equal(loaded.features["image"], np.load(mmrec / "image_feat.npy").astype(np.float32))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adjacency.npz", "features.npz", "ids.npz", "interactions.npz", "item_graph.npz", "item_neighbours.npz",
        "manifest.json",
    ]  # fmt: skip


def test_the_similarity_asked_for_is_the_bundles(mmrec, tmp_path):
    command = [sys.executable, "data_prep/from_mmrec.py", f"--source={mmrec}", f"--output={tmp_path / 'out'}"]
    subprocess.run([*command, "--similarity=standardised"], check=True, capture_output=True)
    found = bundles.load(tmp_path / "out")
    assert found.manifest["similarity"] == "standardised"
    expected = adjacency.nearest_items(scipy.stats.zscore(np.load(mmrec / "text_feat.npy").astype(np.float64)), 20)
    np.testing.assert_array_equal(found.neighbours["text"][0], expected[0])


def test_any_modalities_in_the_order_named(mmrec, rng):
    np.save(mmrec / "audio_feat.npy", rng.normal(size=(9, 3)))
    assert convert(mmrec).modalities == ("image", "audio", "text")
    assert convert(mmrec, ("text", "audio")).modalities == ("text", "audio")


def test_rating_and_timestamp_are_optional(mmrec):
    path = mmrec / "toys.inter"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    before = convert(mmrec).train
    path.write_text("\n".join("\t".join((row[3], row[1], row[0])) for row in rows) + "\n")
    np.testing.assert_array_equal(convert(mmrec).train, before)


def test_duplicates_keep_the_training_one(mmrec):
    path = mmrec / "toys.inter"
    first = path.read_text().splitlines()[1].split("\t")
    with open(path, "a") as file:
        file.write("\t".join((*first[:3], "2")) + "\n" + "\t".join(first) + "\n")
    bundle = convert(mmrec)
    assert "toys.inter: 2 duplicate interactions dropped" in bundle.manifest["repairs"]
    assert len(bundle.train) == 18
    assert len(bundle.test) == 6


def test_unusable_rows_become_the_mean_and_are_reported(mmrec):
    features = np.load(mmrec / "image_feat.npy")
    features[2], features[5, 1] = 0, np.nan
    np.save(mmrec / "image_feat.npy", features)
    bundle = convert(mmrec)
    good = np.delete(features, [2, 5], axis=0).astype(np.float32)
    for row in (2, 5):
        np.testing.assert_allclose(bundle.features["image"][row], good.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert any("1 rows not finite" in note for note in bundle.manifest["repairs"])
    assert any("1 rows all zeros" in note for note in bundle.manifest["repairs"])


def rewrite(folder, old, new, count=-1):
    path = folder / "toys.inter"
    path.write_text(path.read_text().replace(old, new, count))


BAD = {
    "no inter file": (lambda f: (f / "toys.inter").unlink(), "exactly one .inter"),
    "wrong columns": (lambda f: rewrite(f, "itemID", "item"), "lacks the column itemID"),
    "empty inter file": (lambda f: (f / "toys.inter").write_text(""), "lacks the column"),
    "label 3": (lambda f: rewrite(f, "\t2\n", "\t3\n", 1), "x_label is 3"),
    "negative id": (lambda f: rewrite(f, "\n0\t", "\n-1\t", 1), "must not be negative"),
    "a word for a number": (lambda f: rewrite(f, "\n0\t", "\nzero\t", 1), "line 2"),
    "item without features": (lambda f: np.save(f / "image_feat.npy", np.ones((3, 2))), "differ in their number of rows"),
    "item beyond the rows": (lambda f: rewrite(f, "\n0\t", "\n0\t9\t1\t0\n0\t", 1), "itemID 9 has no row"),
    "no test split": (lambda f: rewrite(f, "\t2\n", "\t1\n"), "test split"),
    "no training data": (lambda f: rewrite(f, "\t0\n", "\t1\n"), "train split"),
    "no features": (lambda f: [path.unlink() for path in f.glob("*.npy")], "no MODALITY_feat.npy"),
    "one-dimensional": (lambda f: np.save(f / "text_feat.npy", np.ones(9)), "shape (items, width)"),
    "strings": (lambda f: np.save(f / "text_feat.npy", np.full((9, 2), "a")), "must hold numbers"),
    "truncated": (lambda f: (f / "text_feat.npy").write_bytes((f / "text_feat.npy").read_bytes()[:90]), "text_feat.npy is damaged"),
    "objects": (lambda f: np.save(f / "text_feat.npy", np.array([[{}]]), allow_pickle=True), "text_feat.npy holds Python objects"),
    "id map": (lambda f: (f / "i_id_mapping.csv").write_text("asin\titemID\nB0\t0\n"), "names no asin"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(mmrec, name):
    damage, message = BAD[name]
    damage(mmrec)
    with pytest.raises(SeaError) as caught:
        convert(mmrec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_modality(mmrec):
    with pytest.raises(SeaError, match="names video"):
        convert(mmrec, ("video",))


def map_lines(folder, *lines, file="u_id_mapping.csv"):
    head = (folder / file).read_text().splitlines()[0]
    (folder / file).write_text("\n".join([head, *lines]) + "\n")


FAULTS = {
    "one id for two numbers": (lambda f: map_lines(f, "a\t0", "b\t1", "a\t2"), "lines 2 and 4: both name user_id a"),
    "one number twice": (lambda f: map_lines(f, "a\t0", "b\t1", "c\t0"), "lines 2 and 4: both name userID 0"),
    "ids alike but for blanks": (lambda f: map_lines(f, "a\t0", " a \t1"), "lines 2 and 3: both name user_id a"),
    "no id": (lambda f: map_lines(f, "a\t0", " \t1"), "line 3: names no user_id for userID 1"),
    "a number beyond": (lambda f: map_lines(f, "a\t0", "b\t6"), "line 3: userID 6 is outside 0 to 5"),
    "a word in the map": (lambda f: map_lines(f, "a\tx"), "line 2: column userID must hold whole numbers"),
    "Latin-1": (lambda f: (f / "toys.inter").write_bytes((f / "toys.inter").read_bytes() + b"\xe9\t1\t1\t0\n"), "line 32: byte 0xe9 is no UTF-8"),
    "gzip": (lambda f: (f / "toys.inter").write_bytes(gzip.compress((f / "toys.inter").read_bytes())), "gzip"),
    "UTF-16": (lambda f: (f / "toys.inter").write_bytes((f / "toys.inter").read_text().encode("utf-16")), "UTF-16"),
    "a map in Latin-1": (lambda f: (f / "u_id_mapping.csv").write_bytes(b"user_id\tuserID\n\xe9\t0\n"), "line 2: byte 0xe9"),
    "over int32": (lambda f: rewrite(f, "\n0\t", "\n3000000000\t", 1), "line 2: 3000000000 is too large"),
    "over int64": (lambda f: rewrite(f, "\n0\t", f"\n{10**30}\t", 1), "is too large"),
    "over any": (lambda f: rewrite(f, "\n0\t", f"\n{'9' * 5000}\t", 1), "line 2"),
    "a fraction": (lambda f: rewrite(f, "\n0\t", "\n0.0\t", 1), "line 2: userID, itemID, x_label must be whole numbers"),
    "signs of other scripts": (lambda f: rewrite(f, "\n0\t", "\n٣\t", 1), "line 2"),
    "underscores": (lambda f: rewrite(f, "\n0\t", "\n1_0\t", 1), "line 2"),
    "a gap of two thousand millions": (lambda f: rewrite(f, "\n5\t", "\n2000000000\t", 1), "userID goes up to 2000000000 and 7 users"),
    "a comma in a modality": (lambda f: (f / "text_feat.npy").rename(f / "te,xt_feat.npy"), "cannot be called 'te,xt'"),
    "a colon in a modality": (lambda f: (f / "text_feat.npy").rename(f / "te:xt_feat.npy"), "cannot be called 'te:xt'"),
    "no name of a modality": (lambda f: (f / "text_feat.npy").rename(f / "_feat.npy"), "cannot be called ''"),
    "a header that claims 40 GB": (lambda f: claim(f / "text_feat.npy", (100_000, 99_000)), "claims 39600000000 bytes"),
    "a header of negative size": (lambda f: claim(f / "text_feat.npy", (-1, 5)), "text_feat.npy"),
}  # fmt: skip


def claim(path, shape):
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.write(b"\0" * 64)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_one_sentence(mmrec, name):
    damage, message = FAULTS[name]
    damage(mmrec)
    with pytest.raises(SeaError) as caught:
        convert(mmrec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_odd_but_right_is_read(mmrec):
    before = convert(mmrec)
    text = (mmrec / "toys.inter").read_text().splitlines()
    text = [f"{line}\t{'long ' * 40_000 if n == 3 else 'é'}" for n, line in enumerate(text)]
    text[0] = text[0].replace("é", "note")
    (mmrec / "toys.inter").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*text[:5], "", *text[5:]]).encode())
    for name in ("u_id_mapping.csv", "i_id_mapping.csv"):
        lines = (mmrec / name).read_text().splitlines()
        lines = [lines[0], *(f" {line.split()[0]} \t {line.split()[1]} " for line in lines[1:])]
        (mmrec / name).write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    after = convert(mmrec)
    for split in bundles.SPLITS:
        np.testing.assert_array_equal(getattr(after, split), getattr(before, split))
    assert after.user_ids.tolist() == before.user_ids.tolist()
    assert after.item_ids.tolist() == before.item_ids.tolist()


def test_modalities_of_names_that_numpy_minds(mmrec, tmp_path):
    (mmrec / "text_feat.npy").rename(mmrec / "allow_pickle_feat.npy")
    (mmrec / "image_feat.npy").rename(mmrec / "file_feat.npy")
    convert(mmrec).save(tmp_path / "out")
    assert bundles.load(tmp_path / "out").modalities == ("allow_pickle", "file")


def test_numbers_of_nobody_are_said(mmrec):
    rewrite(mmrec, "\n5\t", "\n500000\t")
    (mmrec / "u_id_mapping.csv").unlink()
    bundle = convert(mmrec)
    assert "toys.inter: 499995 of 500001 userIDs occur in no row" in bundle.manifest["repairs"]
    assert "1 items that no interaction names" in bundles.describe(bundle)


def test_rows_that_say_nothing_are_recorded_and_weighed_as_asked(mmrec):
    clean = convert(mmrec)
    features = np.load(mmrec / "image_feat.npy")
    features[2] = 0
    np.save(mmrec / "image_feat.npy", features)
    plain = convert(mmrec)
    assert plain.manifest["honour_missing"] is False
    assert np.flatnonzero(plain.missing["image"]).tolist() == [2]
    assert not clean.missing
    for way in ("mean", "neighbours"):
        honoured = convert(mmrec, missing=way)
        assert honoured.manifest["honour_missing"] is True
        assert 2 not in np.delete(honoured.neighbours["image"][0], 2, axis=0)
        np.testing.assert_array_equal(
            np.delete(honoured.features["image"], 2, 0), np.delete(plain.features["image"], 2, 0)
        )
    np.testing.assert_array_equal(convert(mmrec, missing="mean").features["image"], plain.features["image"])
    with pytest.raises(SeaError, match="--missing=guess"):
        convert(mmrec, missing="guess")


@pytest.mark.parametrize("output", ["", "file", "full"])
def test_outputs_that_cannot_be(mmrec, tmp_path, output, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeaError, match="--output"):
        convert(mmrec).save(output)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_program_tells_in_one_line(mmrec, tmp_path):
    (tmp_path / "empty").mkdir()
    program = [sys.executable, str(Path(__file__).parents[1] / "data_prep" / "from_mmrec.py"), f"--source={mmrec}"]
    run = lambda *flags: subprocess.run([*program, *flags], capture_output=True, text=True, cwd=tmp_path / "empty")  # noqa: E731
    done = run("--output=.")
    assert (done.returncode, done.stderr) == (0, "")
    assert bundles.load(tmp_path / "empty", verify_hashes=True).num_users == 6
    rewrite(mmrec, "\n0\t", "\n-1\t", 1)
    done = run(f"--output={tmp_path / 'out'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


INTER = st.one_of(
    st.lists(st.sampled_from(["0", "1", "2", " 3", "-1", "", "x", "9" * 30, "1.0", "٣"]), max_size=4)
    .map("\t".join)
    .map(str.encode),
    st.binary(max_size=8),
)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(INTER, max_size=6),
    head=st.sampled_from([b"userID\titemID\tx_label", b"x_label:float\titemID:token\tuserID:token\tz", b""]),
)
def test_fuzz_inter(tmp_path_factory, rows, head):
    """A table, each of whose rows stood in the file, or one sentence."""
    path = tmp_path_factory.mktemp("fuzz") / "x.inter"
    path.write_bytes(b"\n".join([head, *rows]))
    try:
        found = read_interactions(path)
    except SeaError as error:
        assert str(path) in str(error)
        return
    assert len(found) == sum(any(map(bytes.strip, row.split(b"\t"))) for row in rows)
    assert found.min() >= 0
    assert found[:, 2].max() <= 2
