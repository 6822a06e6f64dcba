"""Text without any weights: TF-IDF and a truncated SVD (latent semantic analysis), by SciPy alone. The default.

A row depends on the whole table: fit it on all items at once. What was learnt of them (`Tfidf.fitted`) gives a new text the
row that it would have by the same words, weights and directions. Deterministic bit for bit on one machine.
"""

import html
import inspect
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Float

from sea_jax.errors import SeaError
from sea_jax.raw.encoders.base import Encoder, Result, unit

TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
# Scripts that write no spaces: each character stands for itself, and pairs of neighbours are words.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]+|(?:(?![{UNSPACED}])\w)+")
STARTS_UNSPACED = re.compile(rf"[{UNSPACED}]")


class Fit(NamedTuple):
    """What is learnt of a catalogue: words in alphabetical order, how much each counts, the directions of the space.

    weights: (words,) float64, 1 + ln((1 + n) / (1 + df)). projection: (words, width) float32.
    """

    words: list[str]
    weights: np.ndarray
    projection: np.ndarray

    def rows(self, counts: list[Counter]) -> Float[np.ndarray, "texts width"]:
        """Rows of unit length, float32; zeros for a text without any of the words, or of hardly any weight."""
        return _unit_or_zero(weighted(counts, self.words, self.weights) @ self.projection.astype(np.float64))

    def arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays; the words as bytes, divided by line ends, which no word has."""
        spelt = "\n".join(self.words).encode("utf-8", "surrogatepass")
        return {
            "words": np.frombuffer(spelt, np.uint8),
            "weights": np.asarray(self.weights, np.float64),
            "projection": self.projection,
        }

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> "Fit":
        """The fit that `arrays` gave; raises SeaError if they do not fit together."""
        try:
            spelt, weights, projection = (np.asarray(arrays[name]) for name in ("words", "weights", "projection"))
            words = spelt.tobytes().decode("utf-8", "surrogatepass").split("\n")
            fits = weights.shape == projection.shape[:1] == (len(words),) and projection.ndim == 2
            right = fits and spelt.dtype == np.uint8 and len(set(words)) == len(words)
            right = right and bool(np.isfinite(weights).all() and np.isfinite(projection).all())
        except (KeyError, ValueError, TypeError):
            right = False
        if not right:
            raise SeaError(
                "tfidf: words, weights and projection of the earlier fit are damaged; make the bundle again."
            )
        return cls(words, weights, projection)


class Tfidf(Encoder):
    """Rows of unit length. A text is missing if it shares no word with another item's, or only words that hardly occur.

    Args:
      width: at most; for a small catalogue half the number of items or of different words, whichever is less.
      max_words: the most frequent words that are kept.
      fitted: of an earlier encoder; texts then get the rows that its fit gives, and nothing is learnt of them.
    """

    modality = "text"
    alone = False

    def __init__(self, *, width: int = 256, max_words: int = 100_000, fitted: Mapping[str, np.ndarray] | None = None):
        if width < 1 or max_words < 1:
            raise SeaError(f"tfidf: width {width} and max_words {max_words} must be at least 1.")
        self.name = "tfidf"
        self.version = f"1-width{width}-words{max_words}"
        self.most, self.max_words = width, max_words
        self.fit = None if fitted is None else Fit.of(fitted)
        self.fitted = dict(fitted or {})

    def transform(self, contents: Iterable[tuple[int, str]]) -> Iterator[Result]:
        keys, counts = [], []
        for key, text in contents:
            keys.append(key)
            counts.append(Counter(words(text)))
        if not keys:
            return
        if self.fit is None:
            kept, weights = vocabulary(counts, self.max_words)
            rows, projection = space(weighted(counts, kept, weights), self.most)
            self.fitted = Fit(kept, weights, projection).arrays()
            problem = "a text whose words are too rare to compare"
        else:
            rows, problem = self.fit.rows(counts), "a text without words that the catalogue shares"
        for key, row in zip(keys, rows, strict=True):
            yield Result(key, row) if row.any() else Result(key, problem=problem)


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
    """(1 + ln tf) (1 + ln((1 + n) / (1 + df))), rows of unit length, float64 (texts, words in alphabetical order)."""
    return weighted(counts, *vocabulary(counts, max_words))


def vocabulary(counts: list[Counter], max_words: int) -> tuple[list[str], np.ndarray]:
    """The words that are kept, in alphabetical order, and (words,) float64 1 + ln((1 + n) / (1 + df)).

    Words of a single text say nothing about its neighbours and are left out, unless there are no others.
    """
    documents = Counter(word for text in counts for word in text)
    kept = [word for word, frequency in documents.items() if frequency > 1] or list(documents)
    kept = sorted(sorted(sorted(kept), key=lambda word: -documents[word])[:max_words])
    frequency = np.array([documents[word] for word in kept], np.float64)
    return kept, 1 + np.log((1 + len(counts)) / (1 + frequency))


def weighted(counts: list[Counter], words: list[str], weights: np.ndarray) -> scipy.sparse.csr_matrix:
    """(texts, words) float64: (1 + ln tf) times the words' weights, rows of unit length; other words are left out."""
    number = {word: place for place, word in enumerate(words)}
    starts, columns, values = [0], [], []
    for text in counts:
        known = sorted((number[word], count) for word, count in text.items() if word in number)
        columns += [column for column, _ in known]
        values += [count for _, count in known]
        starts.append(len(columns))
    columns = np.array(columns, np.int32)
    data = (1 + np.log(np.array(values, np.float64))) * weights[columns]
    matrix = scipy.sparse.csr_matrix((data, columns, np.array(starts)), shape=(len(counts), len(words)))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1))).ravel()
    return scipy.sparse.csr_matrix(scipy.sparse.diags_array(1 / np.where(norms > 0, norms, 1)) @ matrix)


def embed(matrix: scipy.sparse.csr_matrix, width: int) -> np.ndarray:
    """Rows of unit length in the space of the largest singular values, float32 (n, at most width); see `space`."""
    return space(matrix, width)[0]


def space(matrix: scipy.sparse.csr_matrix, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of unit length, float32 (n, at most width), and the directions that give them, float32 (words, width).

    A row is that of `matrix` times the right singular vectors of the largest singular values. The sign of a direction is
    fixed by its largest word; directions of no weight are left out.
    """
    rows, columns = matrix.shape
    if columns == 0:
        return np.zeros((rows, 1), np.float32), np.zeros((0, 1), np.float32)
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
    signs = np.sign(loadings[largest, np.arange(len(order))])
    lengths = np.sqrt(values[order]) if rows <= columns else 1.0
    return _unit_or_zero(scores * signs), (loadings * (signs / lengths)).astype(np.float32)


def _unit_or_zero(scores: np.ndarray) -> np.ndarray:
    weight = np.linalg.norm(scores, axis=1, keepdims=True)
    return unit(np.where(weight > 1e-6, scores, 0)).astype(np.float32)
