"""Hand a strategy the evidence that it names, and check what comes back."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial

import numpy as np

from nextmask.errors import SelectionError
from nextmask.selection.types import EVIDENCE, Query, Strategy

ALWAYS = ("labeled", "n", "rng")
"""What every strategy is handed besides its evidence."""

BLOCK = 4096
"""Rows that are checked at a time, so that a memory-mapped array is never held whole."""


def needs(strategy: Strategy) -> tuple[str, ...]:
    """Name the evidence that a strategy asks for, in the order of its parameters.

    A parameter without a default is evidence, one with a default is an option of the strategy's own. So
    ``functools.partial(k_center, embeddings=mine)`` no longer asks for embeddings. A wrapper asks for what the strategy
    inside asks for, if it is made with ``functools.wraps`` or has a ``__signature__``.

    Raises SelectionError where a parameter is no evidence that exists, or where labeled, n or rng is missing.
    """
    parameters = parameters_of(strategy)
    takes_anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    missing = [name for name in ALWAYS if name not in parameters]
    if missing and not takes_anything:
        raise SelectionError(
            f"Strategy {name_of(strategy)!r} does not take {' and '.join(missing)}. "
            "Expected a function (evidence..., labeled, n, *, rng). Add the parameter, even if it goes unused."
        )
    named = tuple(name for name, parameter in parameters.items() if _is_asked_for(parameter))
    for name in named:
        _refuse_unknown(strategy, name)
    return named


def select(
    strategy: Strategy,
    evidence: Mapping[str, Callable[[], np.ndarray]],
    labeled: np.ndarray,
    n: int,
    *,
    rng: np.random.Generator,
) -> Query:
    """Ask a strategy which ``n`` unlabeled samples to annotate next.

    ``evidence`` maps a name of EVIDENCE to a function that computes it; only what the strategy names is computed, once.
    ``labeled`` is (samples,) bool. The strategy sees read-only arrays. Returns n distinct unlabeled rows with their
    reasons; a strategy that answers with rows alone gives no reasons.

    Raises SelectionError where n, the evidence or the strategy's answer cannot be right.
    """
    labeled = checked_labeled(labeled)
    _check_number(labeled, n)
    given = computed(strategy, needs(strategy), evidence, len(labeled))
    answer = strategy(**given, labeled=labeled, n=n, rng=rng)
    return checked(strategy, answer, labeled, n)


def computed(
    strategy: Strategy, names: Iterable[str], evidence: Mapping[str, Callable[[], np.ndarray]], samples: int
) -> dict[str, np.ndarray]:
    """Compute the named evidence, check it, and make it read-only; a strategy that lacks some is named in the message."""
    return {name: _computed(strategy, name, evidence, samples) for name in names}


def checked(strategy: Strategy, answer: object, labeled: np.ndarray, n: int) -> Query:
    """Return a strategy's answer as a query; raise SelectionError unless it is n distinct unlabeled rows."""
    rows = np.asarray(answer.rows if isinstance(answer, Query) else answer)
    wrong = _fault(rows, labeled, n)
    if wrong:
        raise SelectionError(
            f"Strategy {name_of(strategy)!r} answered with {wrong}. "
            f"Expected {n} different rows of unlabeled samples, (n,) integer. Mend the strategy."
        )
    return answer if isinstance(answer, Query) else Query(rows.astype(np.int64))


def checked_labeled(labeled: np.ndarray) -> np.ndarray:
    """Return a read-only view of ``labeled``; raise SelectionError unless it is bool of shape (samples,)."""
    labeled = np.asarray(labeled)
    if labeled.ndim != 1 or labeled.dtype != bool:
        raise SelectionError(
            f"labeled is {labeled.dtype} of shape {labeled.shape}. Expected bool of shape (samples,). "
            "Hand one True or False a sample of the pool."
        )
    return _read_only(labeled)


def name_of(strategy: Strategy) -> str:
    """Name a strategy as its author did, also inside of a partial."""
    while isinstance(strategy, partial):
        strategy = strategy.func
    return str(getattr(strategy, "__name__", type(strategy).__name__))


def parameters_of(strategy: Strategy) -> Mapping[str, inspect.Parameter]:
    """Read the parameters of a strategy, of a partial of one, or of a wrapper."""
    return inspect.signature(strategy).parameters


def _is_asked_for(parameter: inspect.Parameter) -> bool:
    collects = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    return not collects and parameter.default is parameter.empty and parameter.name not in ALWAYS


def _refuse_unknown(strategy: Strategy, name: str) -> None:
    if name in EVIDENCE:
        return
    close = get_close_matches(name, EVIDENCE, n=1)
    hint = (
        f"Did you mean {close[0]!r}?" if close else "Rename the parameter, or give it a default to make it an option."
    )
    raise SelectionError(
        f"Strategy {name_of(strategy)!r} asks for {name!r}, which is no evidence. "
        f"Expected one of {', '.join(EVIDENCE)}. {hint}"
    )


def _check_number(labeled: np.ndarray, n: int) -> None:
    unlabeled = int(np.count_nonzero(~labeled))
    if not 1 <= n <= unlabeled:
        raise SelectionError(
            f"{n} samples were asked for, and {unlabeled} of {len(labeled)} are unlabeled. "
            f"Expected 1 <= n <= {unlabeled}. Ask for fewer, or add cases to the pool."
        )


def _computed(
    strategy: Strategy, name: str, evidence: Mapping[str, Callable[[], np.ndarray]], samples: int
) -> np.ndarray:
    if name not in evidence:
        raise SelectionError(
            f"Strategy {name_of(strategy)!r} needs {name} ({EVIDENCE[name].meaning}), which is not there yet. "
            f"Expected a strategy that needs no more than: {', '.join(evidence) or 'nothing'}. "
            "Choose another strategy for this round, or train a segmenter first."
        )
    array = np.asarray(evidence[name]())
    _check_shape(name, array, samples)
    _refuse_not_finite(name, array)
    return _read_only(array)


def _check_shape(name: str, array: np.ndarray, samples: int) -> None:
    asked = EVIDENCE[name]
    kind = asked.kind.__name__
    right = array.ndim == len(asked.axes) and len(array) == samples and np.issubdtype(array.dtype, asked.kind)
    if not right or array.size == 0:
        raise SelectionError(
            f"{name} is {array.dtype} of shape {array.shape}. "
            f"Expected {kind} of shape ({', '.join(asked.axes)}) with {samples} samples. "
            "Compute it for every sample of the pool, labeled or not, in the pool's order."
        )


def _refuse_not_finite(name: str, array: np.ndarray) -> None:
    rows: list[int] = []
    for start in range(0, len(array), BLOCK):
        finite = np.isfinite(array[start : start + BLOCK])
        rows.extend((start + np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))).tolist())
    if rows:
        raise SelectionError(
            f"{name} is NaN or infinite in {len(rows)} of {len(array)} rows: {_listed(rows)}. "
            "Expected finite numbers. Look at these samples' images, and drop those that are broken."
        )


def _listed(rows: list[int], most: int = 10) -> str:
    return ", ".join(str(row) for row in rows[:most]) + (", ..." if len(rows) > most else "")


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _fault(rows: np.ndarray, labeled: np.ndarray, n: int) -> str:
    """Say what is wrong with an answer; nothing where all is well."""
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        return f"{rows.dtype} of shape {rows.shape}"
    if len(rows) != n:
        return f"{len(rows)} rows"
    outside = rows[(rows < 0) | (rows >= len(labeled))]
    if len(outside):
        return f"rows outside the pool of {len(labeled)}: {_listed(outside.tolist())}"
    if len(np.unique(rows)) != n:
        return f"{n - len(np.unique(rows))} repeated rows"
    if labeled[rows].any():
        return f"labeled rows: {_listed(rows[labeled[rows]].tolist())}"
    return ""
