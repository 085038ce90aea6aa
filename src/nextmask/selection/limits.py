"""What a query must not contain: too many of one patient or volume, slices too close, boxes that overlap."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int

from nextmask.errors import SelectionError, TooFew
from nextmask.selection.select import ALWAYS, name_of, parameters_of
from nextmask.selection.types import EVIDENCE, Bounds, Labeled, Query, Rows, Strategy
from nextmask.selection.walk import Rule, walk

Numbers = Int[np.ndarray, " samples"]


def limited(
    strategy: Strategy,
    *,
    per_patient: int | None = None,
    per_volume: int | None = None,
    spacing: int | None = None,
    no_overlap: bool = True,
) -> "Limited":
    """Make a strategy that keeps its own order of preference and leaves out what the limits forbid.

    The strategy's answer is gone through from its first pick to its last. A pick that conflicts with one before it
    leaves the pool for the rest of the query; picks that were taken count as labeled; and the strategy is asked again
    until there are n. So a cluster whose best sample conflicts is asked for its next best, as the strategy sees it.

    Options: ``per_patient`` and ``per_volume`` are the most samples of one patient or volume in this query.
    ``spacing`` is the fewest slices from one sample of a volume to the next (1: neighbours may both be asked for; 3: two
    slices lie between them), and ``no_overlap`` keeps samples of one volume from sharing a voxel: both also with the
    labeled samples of earlier rounds, given up or not. Boxes that lie beside one another in the plane need no spacing.

    Adapted: no paper's rule; the usual greedy one (nnActive keeps patches from overlapping in the same way). With caps
    it finds n samples wherever there are n. With spacing another order could sometimes find a few more.

    Cost: the strategy's, once for each time it is asked; where something left the pool, a copy of the evidence of the
    samples that are left.

    Raises SelectionError where a limit is impossible, and when called, where n cannot be had, with how many could be.
    """
    inner, others = _without_limits(strategy)
    return Limited(inner, (*others, Limits(per_patient, per_volume, spacing, no_overlap)))


@dataclass(frozen=True)
class Limits:
    """Limits of one query."""

    per_patient: int | None = None
    per_volume: int | None = None
    spacing: int | None = None
    no_overlap: bool = True

    def __post_init__(self) -> None:
        for name in ("per_patient", "per_volume", "spacing"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SelectionError(
                    f"{name} is {value}. Expected 1 or more. Leave it out where nothing should be limited."
                )

    def __str__(self) -> str:
        set_to = {name: getattr(self, name) for name in ("per_patient", "per_volume", "spacing")}
        said = [f"{name}={value}" for name, value in set_to.items() if value is not None]
        return ", ".join([*said, "no_overlap"] if self.no_overlap else said)

    @property
    def needs(self) -> Iterator[str]:
        """Name the evidence that the limits are judged by."""
        if self.per_patient is not None:
            yield "patient"
        if self.per_volume is not None or self._apart is not None:
            yield "volume"
        if self._apart is not None:
            yield "bounds"

    def rules(self, given: Mapping[str, Any]) -> Iterator[Rule]:
        """Make the rules for one query."""
        if self.per_patient is not None:
            yield AtMost(self.per_patient, Groups(given["patient"]))
        if self.per_volume is not None:
            yield AtMost(self.per_volume, Groups(given["volume"]))
        if self._apart is not None:
            yield Apart(self._apart, Groups(given["volume"]), given["bounds"])

    @property
    def _apart(self) -> int | None:
        """Fewest slices from one sample of a volume to the next; None where they may overlap."""
        return 1 if self.spacing is None and self.no_overlap else self.spacing


@dataclass(frozen=True)
class Limited:
    """A strategy within limits; see `limited`."""

    strategy: Strategy
    limits: tuple[Limits, ...]

    def __post_init__(self) -> None:
        # As functions have them: by its signature `needs` sees what the strategy and its limits ask for.
        object.__setattr__(self, "__name__", name_of(self.strategy))
        object.__setattr__(self, "__doc__", self.strategy.__doc__)
        object.__setattr__(self, "__signature__", _signature(self.strategy, self.needs))

    @property
    def needs(self) -> tuple[str, ...]:
        """Name the evidence that the limits are judged by."""
        return tuple(dict.fromkeys(chain.from_iterable(limits.needs for limits in self.limits)))

    def rules(self, given: Mapping[str, Any]) -> tuple[Rule, ...]:
        """Make the rules for one query."""
        return tuple(chain.from_iterable(limits.rules(given) for limits in self.limits))

    def own(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of ``given`` is for the strategy itself, and the arrays that were bound to it before."""
        parameters = parameters_of(self.strategy)
        collects = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        bound = {name: parameter.default for name, parameter in parameters.items() if name in EVIDENCE}
        return {
            **{name: value for name, value in bound.items() if isinstance(value, np.ndarray)},
            **{name: value for name, value in given.items() if name in parameters and name not in ALWAYS},
            **{name: value for name, value in given.items() if collects and name not in (*parameters, *self.needs)},
        }

    def __call__(self, *args: Any, **named: Any) -> Query:
        given = _by_name(self.__signature__, args, named)  # type: ignore[attr-defined]
        labeled, n, rng = given["labeled"], given["n"], given["rng"]
        found = walk(
            self.strategy,
            self.own(given),
            labeled,
            self.rules(given),
            lambda taken, free: min(n - taken, len(free)),
            rng=rng,
        )
        if len(found) < n:
            self._refuse(n, len(found))
        return found

    def _refuse(self, n: int, found: int) -> None:
        limits = "; ".join(filter(None, map(str, self.limits)))
        raise TooFew(
            f"{n} samples were asked for, and {found} could be had within the limits ({limits}). "
            f"Expected n <= {found}. Ask for fewer, or loosen the limits.",
            found,
        )


@dataclass(frozen=True, eq=False)
class Groups:
    """Finds the rows that share a number, without going through the pool each time."""

    number: Numbers
    order: Numbers = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", np.argsort(self.number, kind="stable"))

    def of(self, row: int) -> Rows:
        """Return the rows with the same number as ``row``, itself included."""
        number = self.number[row]
        first = np.searchsorted(self.number, number, "left", sorter=self.order)
        last = np.searchsorted(self.number, number, "right", sorter=self.order)
        return self.order[first:last]


@dataclass(frozen=True, eq=False)
class AtMost:
    """Allow so many of each group; labeled samples of earlier rounds do not count."""

    most: int
    groups: Groups
    taken: dict[int, int] = field(default_factory=dict)

    def before(self, labeled: Labeled) -> Rows:
        return np.empty(0, dtype=np.int64)

    def after(self, row: int) -> Rows:
        group = int(self.groups.number[row])
        self.taken[group] = self.taken.get(group, 0) + 1
        return self.groups.of(row) if self.taken[group] == self.most else np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Apart:
    """Keep samples of one volume from overlapping, and so many slices apart where they overlap in the plane."""

    spacing: int
    volumes: Groups
    bounds: Bounds

    def __post_init__(self) -> None:
        if self.spacing > 1 and self.bounds.shape[1] < 6:
            raise SelectionError(
                f"spacing is {self.spacing}, and the samples are of pictures. Expected samples of volumes, which have "
                "slices. Leave spacing out."
            )

    def before(self, labeled: Labeled) -> Rows:
        near = [self.after(row) for row in np.flatnonzero(labeled).tolist()]
        return np.concatenate(near) if near else np.empty(0, dtype=np.int64)

    def after(self, row: int) -> Rows:
        near = self.volumes.of(row)
        first, last = np.split(self.bounds[near], 2, axis=1)
        own_first, own_last = np.split(self.bounds[row], 2)
        margin = np.zeros_like(own_first)
        margin[0] = self.spacing - 1
        return near[((first < own_last + margin) & (own_first < last + margin)).all(axis=1)]


def _without_limits(strategy: Strategy) -> tuple[Strategy, tuple[Limits, ...]]:
    """Take the limits off a strategy: walked one inside the other, the inner ones would count anew at every asking."""
    if isinstance(strategy, Limited):
        return strategy.strategy, strategy.limits
    if isinstance(strategy, partial):
        inner, limits = _without_limits(strategy.func)
        return partial(inner, *strategy.args, **strategy.keywords) if limits else strategy, limits
    return strategy, ()


def _signature(strategy: Strategy, needs: tuple[str, ...]) -> inspect.Signature:
    """Add to a strategy's parameters the evidence that it must be handed besides, by name only."""
    own = [parameter for name, parameter in parameters_of(strategy).items() if name not in needs]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in needs]
    collects = [parameter for parameter in own if parameter.kind is parameter.VAR_KEYWORD]
    return inspect.Signature([*(parameter for parameter in own if parameter not in collects), *added, *collects])


def _by_name(signature: inspect.Signature, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Name every argument of a call, options that the strategy collects included."""
    given: dict[str, Any] = {}
    for name, value in signature.bind(*args, **named).arguments.items():
        collects = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        given.update(value if collects else {name: value})
    return given
