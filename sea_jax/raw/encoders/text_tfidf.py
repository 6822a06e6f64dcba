"""Text without any weights: TF-IDF and a truncated SVD (latent semantic analysis), by SciPy alone. The default.

A row depends on the whole table: fit it on all items at once. Deterministic bit for bit on one machine.
"""

import html
import inspect
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from sea_jax.errors import SeaError
from sea_jax.raw.encoders.base import Encoder, Result, unit

TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
# Scripts that write no spaces: each character stands for itself, and pairs of neighbours are words.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]+|(?:(?![{UNSPACED}])\w)+")
STARTS_UNSPACED = re.compile(rf"[{UNSPACED}]")


class Tfidf(Encoder):
    """Rows of unit length. A text is missing if it shares no word with another item's, or only words that hardly occur.

    Args:
      width: at most; for a small catalogue half the number of items or of different words, whichever is less.
      max_words: the most frequent words that are kept.
    """

    modality = "text"
    alone = False

    def __init__(self, *, width: int = 256, max_words: int = 100_000):
        if width < 1 or max_words < 1:
            raise SeaError(f"tfidf: width {width} and max_words {max_words} must be at least 1.")
        self.name = "tfidf"
        self.version = f"1-width{width}-words{max_words}"
        self.most, self.max_words = width, max_words

    def transform(self, contents: Iterable[tuple[int, str]]) -> Iterator[Result]:
        keys, counts = [], []
        for key, text in contents:
            keys.append(key)
            counts.append(Counter(words(text)))
        if not keys:
            return
        rows = embed(weigh(counts, self.max_words), self.most)
        for key, row in zip(keys, rows, strict=True):
            if row.any():
                yield Result(key, row)
            else:
                yield Result(key, problem="a text whose words are too rare to compare")


def words(text: str) -> list[str]:
    """The words of a text in lower case: runs of Unicode letters, digits and underscores, without HTML."""
    text = unicodedata.normalize("NFKC", html.unescape(TAG.sub(" ", html.unescape(text)))).lower()
    found = []
    for run in WORD.findall(text):
        if STARTS_UNSPACED.match(run):
            found += [*run, *(run[place : place + 2] for place in range(len(run) - 1))]
        else:
            found.append(run)
    return found


def weigh(counts: list[Counter], max_words: int) -> scipy.sparse.csr_matrix:
    """(1 + ln tf) (1 + ln((1 + n) / (1 + df))), rows of unit length, float64 (texts, words in alphabetical order).

    Words of a single text say nothing about its neighbours and are left out, unless there are no others.
    """
    documents = Counter(word for text in counts for word in text)
    kept = [word for word, frequency in documents.items() if frequency > 1] or list(documents)
    kept = sorted(sorted(kept), key=lambda word: -documents[word])[:max_words]
    number = {word: place for place, word in enumerate(sorted(kept))}
    starts, columns, values = [0], [], []
    for text in counts:
        known = sorted((number[word], count) for word, count in text.items() if word in number)
        columns += [column for column, _ in known]
        values += [count for _, count in known]
        starts.append(len(columns))
    frequency = np.array([documents[word] for word in sorted(kept)], np.float64)
    columns = np.array(columns, np.int32)
    data = (1 + np.log(np.array(values, np.float64))) * (1 + np.log((1 + len(counts)) / (1 + frequency)))[columns]
    matrix = scipy.sparse.csr_matrix((data, columns, np.array(starts)), shape=(len(counts), len(kept)))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    return scipy.sparse.csr_matrix(scipy.sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ matrix)


def embed(matrix: scipy.sparse.csr_matrix, width: int) -> np.ndarray:
    """Rows of unit length in the space of the largest singular values, float32 (n, at most width).

    The sign of a direction is fixed by its largest word; directions of no weight are left out.
    """
    rows, columns = matrix.shape
    if columns == 0:
        return np.zeros((rows, 1), np.float32)
    size = min(rows, columns)
    width = min(width, size, max(16, size // 2))
    gram = (lambda x: matrix @ (matrix.T @ x)) if rows <= columns else (lambda x: matrix.T @ (matrix @ x))
    if size <= 64:
        values, vectors = np.linalg.eigh(gram(np.eye(size)))
    else:
        operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=gram, matmat=gram, dtype=np.float64)
        rng = np.random.default_rng(0)
        # Since SciPy 1.17 ARPACK restarts from a generator, which would otherwise be another in every run.
        seeded = {"rng": rng} if "rng" in inspect.signature(scipy.sparse.linalg.eigsh).parameters else {}
        values, vectors = scipy.sparse.linalg.eigsh(operator, k=width, v0=rng.standard_normal(size), **seeded)
    order = np.argsort(-values, kind="stable")[:width]
    order = order[values[order] > 1e-12 * values[order[0]]]
    vectors = vectors[:, order]
    loadings = matrix.T @ vectors if rows <= columns else vectors  # (words, width)
    scores = vectors * np.sqrt(values[order]) if rows <= columns else matrix @ vectors
    largest = np.abs(loadings).argmax(axis=0)
    scores = scores * np.sign(loadings[largest, np.arange(len(order))])
    weight = np.linalg.norm(scores, axis=1, keepdims=True)
    return unit(np.where(weight > 1e-6, scores, 0)).astype(np.float32)
