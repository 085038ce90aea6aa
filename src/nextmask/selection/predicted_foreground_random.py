"""Random sampling that aims at foreground: where a segmenter predicts it."""

import numpy as np

from nextmask.selection.types import Labeled, PerClass, Query, Volume


def predicted_foreground_random(
    class_share: PerClass, volume: Volume, labeled: Labeled, n: int, *, rng: np.random.Generator, share: float = 2 / 3
) -> Query:
    """Draw samples at random, most of them where a voxel predicted to be foreground was drawn.

    Each pick is aimed with a chance of ``share``, and uniform otherwise. An aimed one takes the next case in random order,
    one of the classes predicted in it with equal chance, and the sample with a voxel of that class drawn at random. Where
    cases are the samples, that is a case with any predicted foreground. Where nothing is predicted, it is uniform.

    Source: "Random 66 % FG" of nnActive, 2025, https://arxiv.org/abs/2511.19183, with what is predicted in place of the
    truth.

    Adapted: theirs centres a patch on the voxel, ours takes the sample that holds it. Theirs draws a third of all patches from
    whole structures and a third from their boundaries; samples that a boundary runs through hold both, so that both thirds
    are aimed alike here. ``share`` = 1/3 is their "33 % FG".

    Use: from the second round on, as the control for any strategy that asks a segmenter: it knows where foreground is, and
    nothing of uncertainty. Classes count alike, however small.

    Cost: O(N log N + n m) time for m samples a case, O(N) memory.
    """
    return aimed(class_share, volume, labeled, n, rng, share, "predicted")


def aimed(
    class_share: PerClass,
    volume: Volume,
    labeled: Labeled,
    n: int,
    rng: np.random.Generator,
    share: float,
    how: str,
) -> Query:
    """Draw n unlabeled rows, each with a chance of ``share`` by a voxel of foreground; ``how`` says whence it is known."""
    free, rows, classes = ~labeled, np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    anywhere, cases = iter(rng.permutation(np.flatnonzero(free))), _Cases(class_share, volume, rng)
    for pick in range(n):
        if rng.random() < share:
            rows[pick], classes[pick] = cases.draw(free)
        if not classes[pick]:
            rows[pick] = next(row for row in anywhere if free[row])
        free[rows[pick]] = False
    percent = np.where(classes > 0, 100 * class_share[rows, classes - 1], 0.0)
    reasons = (_reason(label, much, how) for label, much in zip(classes.tolist(), percent.tolist(), strict=True))
    return Query(rows, tuple(reasons), {"class": classes, "percent": percent})


def _reason(label: int, percent: float, how: str) -> str:
    if label == 0:
        return "drawn at random from all that was left"
    return f"drawn by a voxel {how} to be of class {label}, which {percent:.2g} % of it are"


class _Cases:
    """The cases in random order, over and over."""

    def __init__(self, class_share: PerClass, volume: Volume, rng: np.random.Generator):
        order = np.argsort(volume, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(volume[order])) + 1)
        self._groups = [group for group in groups if class_share[group].any()]
        self._share, self._rng = class_share, rng
        self._waiting = [self._groups[place] for place in rng.permutation(len(self._groups))]

    def draw(self, free: Labeled) -> tuple[int, int]:
        """Draw a row and a class of the next case with foreground in what is free of it; (0, 0) if there is none."""
        while self._waiting:
            group = self._waiting.pop(0)
            left = group[free[group]]
            voxels = self._share[left].sum(axis=0)
            if not voxels.any():  # all that shows foreground was taken: the case is done
                continue
            self._waiting.append(group)
            label = int(self._rng.choice(np.flatnonzero(voxels)))
            chances = self._share[left, label].astype(np.float64)
            return int(self._rng.choice(left, p=chances / chances.sum())), label + 1
        return 0, 0
