"""The walk over rows: what is missing, averaged, repeated, reported; the registry; joined columns; paths."""

import os
import subprocess
import sys

import numpy as np
import pytest

from sea_jax import errors
from sea_jax.errors import SeaError
from sea_jax.raw import encoders
from sea_jax.raw.encoders import base, rows


class Lengths(base.Encoder):
    """A text's length and vowels; "bad" cannot be encoded, "nan" gives numbers that are not finite."""

    name, version = "lengths", "1"

    def __init__(self, modality="text"):
        self.modality, self.seen = modality, []

    def transform(self, contents):
        pairs = list(contents)
        for key, content in reversed(pairs):  # any order will do
            self.seen.append(content)
            if content in ("bad", b"bad"):
                yield base.Result(key, problem="a bad content")
            else:
                row = [len(content), np.nan if content == "nan" else 1.0]
                yield base.Result(key, np.array(row), cut=len(content) > 5)


def test_texts_that_cannot_be_encoded_are_counted_by_kind_with_the_first():
    texts = ["red lamp", None, "bad", " ", float("nan"), "bad", "nan", 7]
    encoded = Lengths().encode(texts)
    np.testing.assert_array_equal(encoded.missing, [False, True, True, True, True, True, True, False])
    assert encoded.problems == {
        "no text": base.Problem(3, 1, ""),
        "a bad content": base.Problem(2, 2, "bad"),
        "encoded to numbers that are not finite": base.Problem(1, 6, "nan"),
    }
    np.testing.assert_array_equal(encoded.features[[0, 7]], [[8, 1], [1, 1]])
    assert not encoded.features[encoded.missing].any()
    assert encoded.features.dtype == np.float32
    assert encoded.cut == 1
    assert encoded.sentences(list("abcdefgh"))[1:3] == ["cut because too long: 1", "no text: 3, first in row b"]
    assert encoded.record()["problems"]["a bad content"] == {"count": 2, "row": 2, "example": "bad"}


def test_a_text_that_repeats_is_encoded_once_and_progress_ends_at_all():
    encoder, calls = Lengths(), []
    encoded = encoder.encode(["one", "two", "one", None, "one"], lambda done, total: calls.append((done, total)))
    assert sorted(encoder.seen) == ["one", "two"]
    assert encoded.contents == 2
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize("texts", [[], [None, ""], ["bad"]])
def test_nothing_to_encode_is_one_sentence(texts):
    with pytest.raises(SeaError, match=r"no rows to encode|none of the"):
        Lengths().encode(texts)


def test_several_files_of_an_item_are_averaged_and_broken_ones_left_out(tmp_path):
    for name, content in (("a", b"1"), ("b", b"333"), ("same", b"1"), ("broken", b"bad"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
    encoder = Lengths("image")
    cells = [["a", "b"], "b", ["broken", "a"], None, ["broken", "empty", "gone"], [], ["same", None]]
    calls = []
    encoded = encoder.encode(cells, lambda *done: calls.append(done), root=tmp_path)
    np.testing.assert_array_equal(encoded.features[:, 0], [2, 3, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(encoded.missing, [False, False, False, True, True, True, False])
    assert encoder.seen.count(b"1") == 1  # `a` and `same` are one content
    assert calls[-1] == (6, 6)
    assert encoded.problems == {
        "a bad content": base.Problem(2, 2, "broken"),
        "no file named": base.Problem(2, 3, ""),
        "an empty file": base.Problem(1, 4, "empty"),
        "a file that is not there": base.Problem(1, 4, "gone"),
    }


def test_paths_stay_within_the_root(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "good").write_bytes(b"good")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "circle").symlink_to(root / "circle")
    cells = [
        "good",
        "../secret",
        str(tmp_path / "secret"),
        "link",
        "circle",
        "a\0b",
        ".",
        "http://a.b/c.jpg",
        "x" * 5000,
    ]
    encoded = Lengths("image").encode(cells, root=root)
    np.testing.assert_array_equal(encoded.missing, [False] + [True] * 8)
    assert {kind: problem.count for kind, problem in encoded.problems.items()} == {
        "a path that leaves the root folder": 3,
        "a file that is not there": 4,
        "an address of the web, not a file; download the files first": 1,
    }


def test_a_name_in_composed_characters_finds_a_file_in_decomposed_ones(tmp_path):
    (tmp_path / "cafe\u0301.png").write_bytes(b"good")
    assert not Lengths("image").encode(["caf\u00e9.png"], root=tmp_path).missing.any()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_counted(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "b").chmod(0)
    assert "a file that cannot be read" in Lengths("image").encode(["a", "b"], root=tmp_path).problems


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "LARGEST_FILE", 3)
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"22222")
    assert "a file larger than 1 GiB" in Lengths("image").encode(["a", "b"], root=tmp_path).problems


@pytest.mark.parametrize(
    ("modality", "spec", "words"),
    [
        ("video", "", "text, image, audio"),
        ("text", "word2vec", "tfidf, minilm"),
        ("image", "tfidf", "colours, torchvision"),
        ("text", "tfidf:x", "nothing after its name"),
        ("text", "minilm:", "FOLDER"),
    ],
)
def test_an_unknown_encoder_is_one_sentence_with_those_there_are(modality, spec, words):
    with pytest.raises(SeaError, match=words):
        encoders.get(modality, spec)


@pytest.mark.parametrize(
    ("modality", "spec", "package", "extra"),
    [
        ("text", "minilm", "tokenizers", "encode"),
        ("text", "minilm", "safetensors", "encode"),
        ("text", "sentence-transformers:a/b", "sentence_transformers", "text"),
        ("text", "clip", "torch", "image"),
        ("image", "clip:a/b", "torch", "image"),
        ("image", "torchvision:resnet50", "torch", "image"),
        ("audio", "logmel", "soundfile", "audio"),
    ],
)
def test_a_missing_package_is_one_sentence_with_its_extra(monkeypatch, modality, spec, package, extra):
    real = errors.importlib.import_module

    def without(name, *rest):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest)

    monkeypatch.setattr(errors.importlib, "import_module", without)
    for other in {"safetensors": ["tokenizers"], "sentence_transformers": ["torch"]}.get(package, []):
        pytest.importorskip(other)  # what the encoder asks for before it
    with pytest.raises(
        SeaError, match=rf'needs {package}, which is not installed; run pip install "sea_jax\[{extra}\]"'
    ):
        encoders.get(modality, spec)


def test_the_package_imports_no_optional_package():
    code = (
        "import sys; from sea_jax.raw import encoders; encoders.get('text'); "
        "print([name for name in ('torch', 'tokenizers', 'safetensors', 'soundfile', 'PIL', 'jax') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_columns_are_joined_by_a_space_or_a_template():
    columns = {
        "title": ["Tom &amp; Jerry", None, "  a\n b ", ""],
        "tags": [["x", " ", "y"], ["z"], None, []],
        "brand": ["Acme", None, float("nan"), " "],
    }
    texts, empty = rows.join_columns(columns)
    assert texts == ["Tom & Jerry x y Acme", "z", "a b", None]
    assert empty == {"title": 2, "tags": 2, "brand": 3}
    assert rows.join_columns(columns, "{title}. By {brand}")[0] == ["Tom & Jerry. By Acme", ". By", "a b. By", None]


@pytest.mark.parametrize("template", ["{nothing}", "{}", "{title", "{title.x}"])
def test_a_template_must_name_columns(template):
    with pytest.raises(SeaError, match="may name the columns title"):
        rows.join_columns({"title": ["a"]}, template)


def test_columns_must_be_of_one_length():
    with pytest.raises(SeaError, match="one length"):
        rows.join_columns({"a": ["x"], "b": []})


def test_paths_in_a_cell_and_files_by_name(tmp_path):
    assert rows.split_paths(["a.jpg| b.jpg", None, ["c|d"]]) == [["a.jpg", "b.jpg"], None, ["c|d"]]
    for name in ("b.png", "a.jpg", "a.png", ".hidden", "sub/7.x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = rows.files_by_name(tmp_path)
    assert found == {"a": ["a.jpg", "a.png"], "b": ["b.png"], "sub/7.x": ["sub/7.x.jpg"]}
    with pytest.raises(SeaError, match="is no folder"):
        rows.files_by_name(tmp_path / "gone")
