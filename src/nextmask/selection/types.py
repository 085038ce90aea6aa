"""The shapes that strategies see, the closed list of evidence that they may ask for, and what they answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

Embeddings = Float[np.ndarray, "samples dims"]
GraphEmbeddings = Float[np.ndarray, "samples dims"]
Uncertainty = Float[np.ndarray, " samples"]
Unlabeledness = Float[np.ndarray, " samples"]
PerClass = Float[np.ndarray, "samples classes"]
Position = Float[np.ndarray, " samples"]
Patient = Int[np.ndarray, " samples"]
Volume = Int[np.ndarray, " samples"]
Bounds = Int[np.ndarray, "samples sides"]
Cost = Float[np.ndarray, " samples"]
Labeled = Bool[np.ndarray, " samples"]
Rows = Int[np.ndarray, " picks"]


@dataclass(frozen=True, eq=False)
class Query:
    """What a strategy answers: ``rows`` in the order of preference, (n,) int, and why each of them.

    ``reasons`` says it in words, one sentence a row; ``numbers`` holds what the sentences rest on, each (n,), by name
    ("typicality", "cluster", "newly_covered", ...). Both may be empty. NumPy takes a query for its rows.
    """

    rows: Rows
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, Shaped[np.ndarray, " picks"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.rows, dtype=dtype, copy=copy)

    def take(self, places: Sequence[int] | np.ndarray) -> "Query":
        """Keep the picks at these places of the query, in this order."""
        kept = np.asarray(places, dtype=np.int64)
        reasons = tuple(self.reasons[place] for place in kept) if self.reasons else ()
        return Query(self.rows[kept], reasons, {name: values[kept] for name, values in self.numbers.items()})


def because(rows: np.ndarray | Sequence[int], sentence: str, **numbers: Any) -> Query:
    """Answer with rows and the reason of each: ``sentence`` is a format string over ``numbers``, arrays like rows.

    >>> because([4, 2], "rank {rank}, entropy {entropy:.2f}", rank=[1, 2], entropy=[0.9, 0.5]).reasons
    ('rank 1, entropy 0.90', 'rank 2, entropy 0.50')
    """
    rows = np.asarray(rows, dtype=np.int64)
    columns = {name: np.broadcast_to(np.asarray(values), rows.shape) for name, values in numbers.items()}
    reasons = (
        sentence.format(**{name: values[place] for name, values in columns.items()}) for place in range(len(rows))
    )
    return Query(rows, tuple(reasons), columns)


def join(queries: Iterable[Query]) -> Query:
    """Put queries one after another; numbers that one of them lacks are NaN there."""
    parts = [query for query in queries if len(query)]
    if not parts:
        return Query(np.empty(0, dtype=np.int64))
    names = dict.fromkeys(name for part in parts for name in part.numbers)
    reasons = tuple(reason for part in parts for reason in (part.reasons or ("",) * len(part)))
    numbers = {
        name: np.concatenate([part.numbers.get(name, np.full(len(part), np.nan)) for part in parts]) for name in names
    }
    return Query(np.concatenate([part.rows for part in parts]), reasons if any(reasons) else (), numbers)


Strategy = Callable[..., Any]
"""A function ``(evidence..., labeled, n, *, rng, **options)`` that answers with a `Query`, or with n rows alone."""


@dataclass(frozen=True)
class Evidence:
    """What one kind of evidence is: its meaning, its axes and its kind of number."""

    meaning: str
    axes: tuple[str, ...] = ("samples",)
    kind: type = np.floating


EVIDENCE = {
    "embeddings": Evidence("where the sample lies in the encoder's space", axes=("samples", "dims")),
    "graph_embeddings": Evidence(
        "where the sample lies in a space learned by telling labeled from unlabeled samples", axes=("samples", "dims")
    ),
    "unlabeledness": Evidence("how little the sample looks like a labeled one, 0 to 1"),
    "uncertainty": Evidence("how unsure the segmenter is; higher is less sure, always"),
    "mutual_information": Evidence("how much the members of an ensemble contradict one another (BALD)"),
    "contour_variance": Evidence("variance of the members, weighted by the distance to the predicted contour (CEAL)"),
    "class_uncertainty": Evidence(
        "uncertainty of each class but background, probability x entropy", axes=("samples", "classes")
    ),
    "class_share": Evidence("share of voxels predicted of each class but background", axes=("samples", "classes")),
    "foreground_share": Evidence("share of the sample's voxels that are predicted to be foreground, 0 to 1"),
    "selective": Evidence(
        "mean uncertainty inside of what may be the object, and along its edge", ("samples", "scores")
    ),
    "residual": Evidence("mean probability minus predicted share, per class", axes=("samples", "classes")),
    "difficulty": Evidence("how badly a self-supervised network restores the sample; higher is harder"),
    "true_class_share": Evidence(
        "share of voxels that are of each class but background in the hidden masks; in simulations only",
        axes=("samples", "classes"),
    ),
    "patient": Evidence("which patient the sample is of", kind=np.integer),
    "volume": Evidence("which case the sample is of", kind=np.integer),
    "position": Evidence("the sample's relative place along the slice axis, 0 to 1"),
    "bounds": Evidence(
        "first voxel of every axis, then last-plus-one of every axis", axes=("samples", "sides"), kind=np.integer
    ),
    "cost": Evidence("minutes that an annotator needs for the sample"),
}
"""All that a strategy may name as a parameter; what no strategy names is never computed."""
