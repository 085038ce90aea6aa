"""The claims of BADGE, against the gradients written out in full."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from nextmask.selection import badge
from nextmask.selection.badge import _Gradients


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _pool(
    samples: int, dims: int = 6, classes: int = 3, seed: int = 0, offset: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = _rng(seed)
    embeddings = rng.normal(size=(samples, dims)) + offset
    probabilities = rng.dirichlet(np.ones(classes), samples)
    return embeddings, probabilities - np.eye(classes)[probabilities.argmax(axis=1)]


def _written_out(embeddings: np.ndarray, residual: np.ndarray) -> np.ndarray:
    return np.einsum("ic,id->icd", residual.astype(float), embeddings.astype(float)).reshape(len(embeddings), -1)


def _naive(gradients: np.ndarray, labeled: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
    """The same draws, refused ones too, on the gradients and one plain sum over all bounds."""
    rows = [int(np.argmax(np.where(labeled, -1, (gradients**2).sum(axis=1))))]
    exact = bound = np.where(labeled, 0, np.inf)
    refused = 0
    while len(rows) < n:
        exact = np.minimum(exact, ((gradients - gradients[rows[-1]]) ** 2).sum(axis=1))
        bound = exact.copy() if len(rows) == 1 else bound
        while bound.any():
            row = int(np.searchsorted(np.cumsum(bound), rng.random() * bound.sum(), side="right"))
            old, bound[row] = bound[row], exact[row]
            if rng.random() * old < exact[row]:
                break
            refused += 1
            if refused % 64 == 0:
                bound = exact.copy()
        else:
            return rows + [row for row in np.flatnonzero(~labeled).tolist() if row not in rows][: n - len(rows)]
        rows.append(row)
        bound[row], refused = 0, 0
    return rows


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "offset", "duplicated", "certain", "one class"])
@pytest.mark.parametrize("seed", range(2))
def test_equals_the_naive_version_on_the_whole_gradients(kind: str, seed: int) -> None:
    embeddings, residual = _pool(
        700, classes=1 if kind == "one class" else 3, seed=seed, offset=100.0 * (kind == "offset")
    )
    if kind == "one class":
        residual = _rng(seed).normal(size=(700, 1))
    if kind.startswith("float"):
        embeddings, residual = embeddings.astype(kind), residual.astype(kind)
    if kind == "duplicated":
        embeddings, residual = embeddings[:20].repeat(35, axis=0), residual[:20].repeat(35, axis=0)
    if kind == "certain":
        residual[10:] = 0
    labeled = _rng(9).random(700) < 0.1
    rows = badge(embeddings, residual, labeled, 40, rng=_rng(seed)).rows
    assert rows.tolist() == _naive(_written_out(embeddings, residual), labeled, 40, _rng(seed))


def test_distances_are_those_of_the_whole_gradients() -> None:
    embeddings, residual = _pool(200)
    residual[:5] = 0
    gradients = _written_out(embeddings, residual)
    one, other = _rng(1).integers(200, size=(2, 500))
    expected = ((gradients[one] - gradients[other]) ** 2).sum(axis=1)
    found = _Gradients.of(embeddings, residual).squared_distances(one, other)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_equal_gradients_are_at_distance_zero_and_close_ones_keep_their_digits() -> None:
    embeddings, residual = _pool(4, offset=1000.0)
    embeddings[1], residual[1] = embeddings[0], residual[0]
    embeddings[2], residual[2] = embeddings[0] * 2, residual[0] / 2
    embeddings[3], residual[3] = embeddings[0] + 1e-7, residual[0]
    found = _Gradients.of(embeddings, residual).squared_distances(np.arange(4), np.array([0]))
    assert found[:3].tolist() == [0, 0, 0]
    # |q|^2 |x|^2 twice, less twice the product, has lost this altogether.
    step = ((embeddings[3] - embeddings[0]) ** 2).sum()
    np.testing.assert_allclose(found[3], (residual[0] ** 2).sum() * step, rtol=1e-6)


@pytest.mark.parametrize("patience", [1, 64])
def test_draws_in_proportion_to_squared_distances(patience: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Written out: the chance of each pair of second and third pick, which is the first that meets bounds out of date.
    monkeypatch.setitem(badge.__globals__, "PATIENCE", patience)
    embeddings, residual = _pool(5, seed=4)
    gradients = _written_out(embeddings, residual)
    square = ((gradients[:, None] - gradients) ** 2).sum(axis=2)
    first = int(np.argmax((gradients**2).sum(axis=1)))
    chance = np.zeros((5, 5))
    for second in range(5):
        nearest = np.minimum(square[first], square[second])
        chance[second] = square[first, second] / square[first].sum() * nearest / nearest.sum()
    cold = np.zeros(5, dtype=bool)
    drawn = np.zeros((5, 5))
    rng = _rng(7)
    for _ in range(400):
        rows = badge(embeddings, residual, cold, 3, rng=rng).rows
        assert rows[0] == first
        drawn[rows[1], rows[2]] += 1
    possible = chance > 0
    assert drawn[~possible].sum() == 0
    assert chisquare(drawn[possible], 400 * chance[possible]).pvalue > 0.01


def test_asks_about_each_kind_of_doubt_once() -> None:
    # Three groups of images of which the segmenter is unsure in three ways, and many of which it is sure.
    group = np.concatenate([np.repeat([0, 1, 2], 10), np.full(300, 3)])
    embeddings = np.eye(4)[group] * 5 + 0.001 * _rng(1).normal(size=(330, 4))
    residual = np.array([[-0.5, 0.5, 0.0], [0.5, 0.0, -0.5], [0.0, 0.5, -0.5], [0.0, 0.001, -0.001]])[group]
    for seed in range(10):
        query = badge(embeddings, residual, np.zeros(330, dtype=bool), 4, rng=_rng(seed))
        assert sorted(group[query.rows].tolist()) == [0, 1, 2, 3]


def test_starts_with_the_largest_gradient_that_is_not_labeled() -> None:
    embeddings, residual = _pool(50)
    labeled = np.zeros(50, dtype=bool)
    norms = (_written_out(embeddings, residual) ** 2).sum(axis=1)
    for row in np.argsort(-norms)[:3]:
        query = badge(embeddings, residual, labeled, 1, rng=_rng())
        assert query.rows.tolist() == [row]
        assert "change the segmenter most" in query.reasons[0]
        labeled[row] = True


def test_repeats_follow_in_the_order_of_the_pool() -> None:
    embeddings, residual = np.ones((9, 2)), np.ones((9, 3))
    embeddings[4] = 2
    query = badge(embeddings, residual, np.arange(9) == 0, 8, rng=_rng())
    assert query.rows[0] == 4
    assert query.rows[2:].tolist() == [row for row in range(1, 9) if row not in query.rows[:2]]
    assert "as one already chosen" in query.reasons[-1]


def test_memory_does_not_grow_with_classes_times_dims(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    embeddings, residual = _pool(4000, dims=64, classes=50)
    cold = np.zeros(4000, dtype=bool)
    tracemalloc.start()
    badge(embeddings, residual, cold, 5, rng=_rng())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 64 * 50 * 8 / 10
