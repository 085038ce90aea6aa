"""What a strategy asks for is seen through every usual wrapper."""

from __future__ import annotations

from functools import partial, wraps

import numpy as np
import pytest

from nextmask.errors import SelectionError
from nextmask.selection import k_center, limited, most_uncertain, needs, select

POOL = {"embeddings": np.array([[0.0], [1.0], [3.0], [7.0]]), "uncertainty": np.array([0.1, 0.4, 0.3, 0.2])}
EVIDENCE = {name: lambda array=array: array for name, array in POOL.items()}
COLD = np.zeros(4, dtype=bool)


class Farthest:
    """A strategy that is an object."""

    def __call__(self, embeddings: np.ndarray, labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
        return k_center(embeddings, labeled, n, rng=rng).rows


def counted(strategy):
    @wraps(strategy)
    def wrapper(*args, **named):
        wrapper.calls += 1
        return strategy(*args, **named)

    wrapper.calls = 0
    return wrapper


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        (k_center, ("embeddings",)),
        (partial(k_center, first="random"), ("embeddings",)),
        (counted(k_center), ("embeddings",)),
        (counted(partial(k_center, first="central")), ("embeddings",)),
        (partial(counted(k_center), first="central"), ("embeddings",)),
        (Farthest(), ("embeddings",)),
        (limited(counted(Farthest()), no_overlap=False), ("embeddings",)),
        (most_uncertain, ("uncertainty",)),
    ],
    ids=["plain", "partial", "wrapped", "wrapped partial", "partial of wrapped", "object", "limited", "with an option"],
)
def test_wrappers_ask_for_what_the_strategy_inside_asks_for(strategy, named: tuple[str, ...]) -> None:
    assert needs(strategy) == named
    assert len(select(strategy, EVIDENCE, COLD, 2, rng=np.random.default_rng(0))) == 2


def test_a_wrapper_is_called_as_often_as_it_is_asked() -> None:
    wrapper = counted(k_center)
    select(wrapper, EVIDENCE, COLD, 2, rng=np.random.default_rng(0))
    assert wrapper.calls == 1


def test_messages_name_the_strategy_inside() -> None:
    for strategy in (partial(k_center), counted(k_center), limited(k_center, no_overlap=False)):
        with pytest.raises(SelectionError, match="'k_center' needs embeddings"):
            select(strategy, {}, COLD, 1, rng=np.random.default_rng(0))
