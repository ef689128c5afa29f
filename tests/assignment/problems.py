"""Assignment problems of every kind that is hard for some solver, by number."""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32] | NDArray[np.float64]


def gaussian(generator: np.random.Generator, n: int) -> Scores:
    """Independent entries."""
    return generator.normal(size=(n, n))


def integers(generator: np.random.Generator, n: int) -> Scores:
    """Few different numbers: ties everywhere."""
    return generator.integers(0, generator.integers(2, 10), (n, n)).astype(float)


def rank_one(generator: np.random.Generator, n: int) -> Scores:
    """All rows agree which column is the best."""
    return np.outer(generator.normal(size=n), generator.normal(size=n))


def low_rank(generator: np.random.Generator, n: int) -> Scores:
    """Inner products of features with a power-law spectrum and log-normal norms."""
    d = 1 + n // 4
    a, b = (generator.normal(size=(n, d)) * np.exp(generator.normal(size=(n, 1)) / 2) for _ in "ab")
    return (a / (1 + np.arange(d))) @ b.T


def duplicates(generator: np.random.Generator, n: int) -> Scores:
    """Rows and columns that occur several times."""
    scores = generator.normal(size=(n, n))
    rows, columns = generator.integers(0, 1 + n // 2, (2, n))
    return scores[rows][:, columns]


def dead(generator: np.random.Generator, n: int) -> Scores:
    """A third of the rows and of the columns is 0."""
    return gaussian(generator, n) * (generator.random(n) > 1 / 3) * (generator.random((n, 1)) > 1 / 3)


def constant(generator: np.random.Generator, n: int) -> Scores:
    """One number everywhere."""
    return np.full((n, n), generator.normal())


def planted(generator: np.random.Generator, n: int) -> Scores:
    """A permutation that stands out."""
    scores = gaussian(generator, n)
    scores[np.arange(n), generator.permutation(n)] += generator.choice([1.0, 3.0, 9.0])
    return scores


def negative(generator: np.random.Generator, n: int) -> Scores:
    """Only losses."""
    return -np.exp(generator.normal(size=(n, n)))


def uneven(generator: np.random.Generator, n: int) -> Scores:
    """Rows of very different size."""
    return generator.normal(size=(n, n)) * 10.0 ** generator.integers(-6, 6, (n, 1))


KINDS = (gaussian, integers, rank_one, low_rank, duplicates, dead, constant, planted, negative, uneven)
SIZES = (1, 2, 3, 5, 8, 13, 23, 24, 25, 31, 40, 64, 65, 100, 127, 150, 260)
"""Below and above every size at which the kernel looks at rows in another way; 513 and more by `problem(..., n)`."""


def problem(seed: int, n: int | None = None) -> Scores:
    """One problem: kind, size, scale and precision are drawn from the seed."""
    generator = np.random.default_rng(seed)
    size = int(generator.choice(SIZES)) if n is None else n
    scores = KINDS[seed % len(KINDS)](generator, size) * generator.choice([1.0, 1.0, 1e-30, 1e30, 1e-6])
    return scores.astype(generator.choice([np.float32, np.float64]))


def moved(scores: Scores, generator: np.random.Generator) -> Scores:
    """A similar problem: every score a little different, and now and then a row exchanged."""
    noise = generator.choice([1e-3, 1e-2, 0.1]) * scores.astype(np.float64).std() * generator.normal(size=scores.shape)
    result = (scores + noise).astype(scores.dtype)
    if generator.random() < 1 / 3 and len(scores):
        result[generator.integers(len(scores))] = generator.permutation(result[0])
    return result
