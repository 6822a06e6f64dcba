"""TF-IDF and SVD: words, weights against a plain computation, the space against a dense SVD, determinism."""

import gzip
import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sea_jax.errors import SeaError
from sea_jax.raw import encoders
from sea_jax.raw.encoders import text_tfidf


def catalogue(count=300, seed=0):
    """Titles of two kinds, with words of their own and words of all."""
    rng = np.random.default_rng(seed)
    titles = []
    for item in range(count):
        own = rng.choice(40, 6) + 100 * (item % 2)
        titles.append(" ".join([*(f"w{word}" for word in own), *(f"all{word}" for word in rng.choice(30, 4))]))
    return titles


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Tom &amp; Jerry's CAF\u00c9 2x", ["tom", "jerry", "s", "caf\u00e9", "2x"]),
        ("<b>Bold</b><br/>a < b > c &lt;i&gt;x&lt;/i&gt;", ["bold", "a", "b", "c", "x"]),
        ("\u041c\u0438\u0440 \uff21\uff22", ["\u043c\u0438\u0440", "ab"]),
        ("\u7ea2\u8272\u706f LED", ["\u7ea2", "\u8272", "\u706f", "\u7ea2\u8272", "\u8272\u706f", "led"]),
        ("... !", []),
    ],
)
def test_words(text, words):
    assert text_tfidf.words(text) == words


def test_weights_equal_a_plain_computation():
    texts = ["a a a b", "a c c", "b c d", "e"]
    counts = [Counter(text.split()) for text in texts]
    matrix = text_tfidf.weigh(counts, 100).toarray()
    documents = {"a": 2, "b": 2, "c": 2}  # d and e are of one text each
    for text, row in zip(counts, matrix, strict=True):
        plain = [
            (1 + math.log(text[word])) * (1 + math.log(5 / (1 + documents[word]))) if text[word] else 0
            for word in documents
        ]
        norm = math.sqrt(sum(value * value for value in plain)) or 1
        np.testing.assert_allclose(row, np.array(plain) / norm, rtol=1e-12)


def test_the_most_frequent_words_are_kept_ties_in_alphabetical_order():
    counts = [Counter(text.split()) for text in ("d a b c", "d a b", "d c")]
    assert text_tfidf.weigh(counts, 2).shape == (3, 2)
    kept = text_tfidf.weigh(counts, 2).toarray() != 0
    np.testing.assert_array_equal(kept, [[True, True], [True, True], [False, True]])  # a, d


@pytest.mark.parametrize("count", [300, 40, 5])  # sparse with fewer words, dense, tiny
def test_rows_span_the_largest_singular_directions(count):
    counts = [Counter(text_tfidf.words(text)) for text in catalogue(count)]
    matrix = text_tfidf.weigh(counts, 10**6)
    rows = text_tfidf.embed(matrix, 10)
    width = min(10, count)
    assert rows.shape == (count, width)
    left, values, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
    dense = left[:, :width] * values[:width]
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    np.testing.assert_allclose(rows @ rows.T, dense @ dense.T, atol=1e-5)  # signs and ties apart


def test_more_words_than_texts_and_the_other_way_round_agree():
    matrix = text_tfidf.weigh([Counter(text_tfidf.words(text)) for text in catalogue(100)], 10**6)
    wide = text_tfidf.embed(matrix, 5)
    padded = text_tfidf.scipy.sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(100, 1000))
    np.testing.assert_allclose(wide, text_tfidf.embed(padded, 5), atol=1e-5)


def test_items_of_a_kind_are_near():
    rows = encoders.get("text", "tfidf", width=16).encode(catalogue()).features
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    similar = rows @ rows.T
    kind = np.arange(300) % 2
    same = kind[:, None] == kind
    assert similar[same].mean() > similar[~same].mean() + 0.2


def test_a_text_without_a_shared_word_is_missing():
    encoded = encoders.get("text").encode(["red lamp", "blue lamp", "zzz", None, "red sofa", "..."])
    np.testing.assert_array_equal(encoded.missing, [False, False, True, True, False, True])
    assert encoded.problems["a text whose words are too rare to compare"].count == 2


@pytest.mark.parametrize("texts", [["a"], ["a", "a"], ["a", "b"], ["same words"] * 100, ["a b"] * 70 + ["c d"] * 70])
def test_tiny_and_repeating_catalogues(texts):
    encoded = encoders.get("text").encode(texts)
    assert not encoded.missing.any()
    rows = encoded.features
    for row, text in zip(rows, texts, strict=True):
        np.testing.assert_allclose(row, rows[texts.index(text)], atol=1e-4)


def test_no_words_at_all_is_one_sentence():
    with pytest.raises(SeaError, match="too rare"):
        encoders.get("text").encode(["...", "!!!"])


def test_width_must_be_positive():
    with pytest.raises(SeaError, match="at least 1"):
        encoders.get("text", "tfidf", width=0)


def test_bits_do_not_depend_on_the_run():
    texts = catalogue() + ["same words"] * 50 + [None]
    first, again = (encoders.get("text").encode(texts).features.tobytes() for _ in range(2))
    assert first == again
    code = (
        "import hashlib; from tests.raw.test_encoders_tfidf import catalogue, encoders; "
        "texts = catalogue() + ['same words'] * 50 + [None]; "
        "print(hashlib.sha256(encoders.get('text').encode(texts).features.tobytes()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "7"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, env=environment
    )
    assert out.stdout.strip() == hashlib.sha256(first).hexdigest()


@pytest.mark.skipif("SEA_JAX_DATA" not in os.environ, reason="needs the real datasets")
def test_titles_of_a_real_catalogue_tell_what_their_own_picture_space_tells():
    folder = Path(os.environ["SEA_JAX_DATA"]) / "scientific"
    with gzip.open(folder / "titles.tsv.gz", "rt", encoding="utf-8") as file:
        titles = dict(line.rstrip("\n").split("\t") for line in list(file)[1:])
    ids = [line.split("\t") for line in (folder / "i_id_mapping.csv").read_text().splitlines()]
    asin, number = ids[0].index("asin"), ids[0].index("itemID")
    order = [row[asin] for row in sorted(ids[1:], key=lambda row: int(row[number]))]
    rows = encoders.get("text").encode([titles.get(each) for each in order]).features
    given = np.load(folder / "text_feat.npy")
    given = given / np.linalg.norm(given, axis=1, keepdims=True)

    def nearest(x):
        similar = x @ x.T
        np.fill_diagonal(similar, -2)
        return np.argsort(-similar, axis=1)[:, :10]

    ours, theirs = nearest(rows), nearest(given)
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ours, theirs, strict=True)])
    assert shared > 0.25  # by chance 0.006
