"""One image's probabilities -> voxel maps of uncertainty, all of them in one pass over its members.

Members are the networks of an ensemble, dropout passes or flipped views; they are taken one by one and none is kept.
Wherever a function takes members, an array (classes, *spatial) is the only member, and any other iterable yields such
arrays. A map is (*spatial) float32; higher is less sure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from jaxtyping import Float

from nextmask.errors import SelectionError
from nextmask.selection.measures.running import (
    CHUNK,
    Line,
    Probabilities,
    Running,
    alone,
    from_smallest,
    in_spans,
    normalised_entropy,
    sum_p_log_p,
    taken_in,
    within_0_and_1,
)

Members = Probabilities | Iterable[Probabilities]
Map = Float[np.ndarray, "*spatial"]
Chunk = Float[np.ndarray, "classes chunk"]
ChunkLine = Float[np.ndarray, " chunk"]

KEEPS: dict[str, tuple[str, ...]] = {
    "entropy": (),
    "expected_entropy": ("p_log_p",),
    "mutual_information": ("p_log_p",),
    "margin": (),
    "least_confidence": (),
    "variance": ("squares",),
    "variance_ratio": ("votes",),
}
"""What each map needs of the members besides their mean."""

DENSE = tuple(KEEPS)
"""The voxel maps there are; each is also a function of that name."""


@dataclass(frozen=True, eq=False)
class DenseMeasures(Mapping[str, Map]):
    """Voxel maps by name; ``probabilities`` (classes, *spatial) is the mean over the members."""

    probabilities: Probabilities
    maps: Mapping[str, Map]

    def __getitem__(self, name: str) -> Map:
        return self.maps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)


def entropy(members: Members) -> Map:
    """Map how undecided the mean of the members is, 0 (certain) to 1 (all classes alike).

    Shannon entropy over all classes, divided by its largest value log(classes), so that studies with different classes
    compare. The background counts: over the foreground alone, p log p peaks at p = 0.37, so that a voxel at 0.5 would
    score less. Probabilities are taken as they are: float16 rounding is no reason for a softmax.
    """
    return dense_measures(members, ("entropy",))["entropy"]


def expected_entropy(members: Members) -> Map:
    """Map how undecided the members are on average, 0 to 1."""
    return dense_measures(members, ("expected_entropy",))["expected_entropy"]


def mutual_information(members: Members) -> Map:
    """Map how much the members contradict one another: `entropy` less `expected_entropy`, 0 to 1.

    BALD: Houlsby et al., "Bayesian active learning for classification and preference learning", 2011,
    https://arxiv.org/abs/1112.5745. Never below 0; exactly 0 where all members say the same, so with one member.
    """
    return dense_measures(members, ("mutual_information",))["mutual_information"]


def margin(members: Members) -> Map:
    """Map how close the two likeliest classes are: 1 - (p1 - p2), 0 (certain) to 1 (a tie)."""
    return dense_measures(members, ("margin",))["margin"]


def least_confidence(members: Members) -> Map:
    """Map how far the likeliest class is from certain: 1 - p1 over its largest value, 0 to 1."""
    return dense_measures(members, ("least_confidence",))["least_confidence"]


def variance(members: Members) -> Map:
    """Map how the members' probabilities scatter: their variance over the members, summed over all classes, 0 to 1.

    The sum, since a mean would shrink with every class that plays no part. Of two classes it is twice the variance of
    the foreground's probability. One member: 0.
    """
    return dense_measures(members, ("variance",))["variance"]


def variance_ratio(members: Members) -> Map:
    """Map the share of members that vote for another class than most do, 0 to 1; of equal classes the first counts."""
    return dense_measures(members, ("variance_ratio",))["variance_ratio"]


def dense_measures(members: Members, names: Collection[str] = DENSE) -> DenseMeasures:
    """Make the maps of these names, and the mean of the members, in one pass over the members.

    Memory beside the member that is looked at: the mean, (classes, *spatial) float32, and one map for each name; for
    "variance_ratio" a byte a class and voxel too, until the last member was seen.

    Raises SelectionError where a name is not one of DENSE, where there is no member, or where members differ in shape.
    """
    for name in names:
        _refuse_unknown(name)
    kept = {what for name in names for what in KEEPS[name]}
    running = alone(members) if isinstance(members, np.ndarray) else taken_in(members, kept)
    maps = _finished(running, names)
    spatial = running.shape[1:]
    return DenseMeasures(running.mean.reshape(running.shape), {name: maps[name].reshape(spatial) for name in names})


def _refuse_unknown(name: str) -> None:
    if name not in KEEPS:
        close = get_close_matches(name, DENSE, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Leave it out."
        raise SelectionError(f"{name!r} is not a map of uncertainty. Expected one of {', '.join(DENSE)}. {hint}")


def _finished(running: Running, names: Collection[str]) -> dict[str, Line]:
    """Turn the running means into maps, where that can be done in their own memory; nothing else will read them."""
    voxels = running.mean.shape[1]
    maps = {}
    if "variance_ratio" in names:
        maps["variance_ratio"] = _share_outvoted(running)
    if "variance" in names:
        maps["variance"] = np.zeros(voxels, np.float32) if running.squares is None else running.squares
        maps["variance"] /= running.members
    if "expected_entropy" in names and running.p_log_p is not None:
        maps["expected_entropy"] = running.p_log_p
    maps |= {name: np.empty(voxels, np.float32) for name in names if name not in maps}
    in_spans(voxels, lambda chunks: _fill(maps, running, chunks))
    return maps


def _share_outvoted(running: Running) -> Line:
    if running.votes is None:
        return np.zeros(running.mean.shape[1], np.float32)
    votes, running.votes = running.votes, None
    share = np.empty(votes.shape[1], np.float32)

    def work(chunks: Iterator[slice]) -> None:
        for part in chunks:
            np.divide(votes[:, part].max(axis=0), np.float32(running.members), out=share[part])
            np.subtract(1, share[part], out=share[part])

    in_spans(len(share), work)
    return share


def _fill(maps: dict[str, Line], running: Running, chunks: Iterator[slice]) -> None:
    probabilities, scratch = np.empty((2, len(running.mean), CHUNK), np.float32)
    lines = np.empty(CHUNK, np.float32)
    for part in chunks:
        p, work = probabilities[:, : part.stop - part.start], scratch[:, : part.stop - part.start]
        from_smallest(running.mean[:, part], p)
        if "margin" in maps or "least_confidence" in maps:
            _fill_from_the_likeliest(maps, part, p)
        if not {"entropy", "expected_entropy", "mutual_information"}.isdisjoint(maps):
            of_mean = lines[: part.stop - part.start]
            sum_p_log_p(p, work, of_mean)
            _fill_entropies(maps, part, of_mean, of_mean if running.p_log_p is None else running.p_log_p[part], len(p))


def _fill_from_the_likeliest(maps: dict[str, Line], part: slice, p: Chunk) -> None:
    first, second = p[0].copy(), np.zeros_like(p[0])
    for of_class in p[1:]:
        np.maximum(second, np.minimum(first, of_class), out=second)
        np.maximum(first, of_class, out=first)
    if "margin" in maps:
        gap = first - second
        np.subtract(1, gap, out=maps["margin"][part])
        within_0_and_1(maps["margin"][part])
    if "least_confidence" in maps:
        np.subtract(1, first, out=first)
        np.divide(first, np.float32(1 - 1 / max(len(p), 2)), out=maps["least_confidence"][part])
        within_0_and_1(maps["least_confidence"][part])


def _fill_entropies(
    maps: dict[str, Line], part: slice, of_mean: ChunkLine, of_members: ChunkLine, classes: int
) -> None:
    # The difference first: the map of the expected entropy may lie in the memory that of_members is read from.
    if "mutual_information" in maps:
        difference = maps["mutual_information"][part]
        np.subtract(of_members, of_mean, out=difference)
        difference *= np.float32(1 / np.log2(max(classes, 2)))
        within_0_and_1(difference)
    if "expected_entropy" in maps:
        normalised_entropy(of_members, classes, maps["expected_entropy"][part])
    if "entropy" in maps:
        normalised_entropy(of_mean, classes, maps["entropy"][part])
