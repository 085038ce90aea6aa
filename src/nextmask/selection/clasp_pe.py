"""ClaSP PE: class-stratified, scheduled power entropy."""

import numpy as np

from nextmask.selection.schedules import Dial, at, exponential
from nextmask.selection.stratified_by_class import stratified_by_class
from nextmask.selection.types import Labeled, PerClass, Query, Uncertainty

BETA = exponential(1, 100, until=0.2)
"""From much noise to almost none, by the time that a fifth of the pool is labeled."""


def clasp_pe(
    uncertainty: Uncertainty,
    class_uncertainty: PerClass,
    class_share: PerClass,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    share: float | int = 0.66,
    beta: Dial = BETA,
) -> Query:
    """Ask for every class its share by the uncertainty of that class, the rest by entropy; first with much noise, later less.

    Source: C. T. Lüth, J. Traub et al., "Finally outshining the random baseline: a simple and effective solution for
    active learning in 3D biomedical imaging", TMLR 2026, https://arxiv.org/abs/2601.13677.

    Faithful: floor(0.66 n) samples split evenly over the classes of foreground (the remainder over classes drawn at
    random), each from the samples with the highest mean p x entropy of that class; the rest by entropy; Gumbel noise of
    scale 1/beta on the log of every sample's score; beta rises from 1 to 100 by equal factors.

    Adapted: beta follows the labeled share of the pool, up to a fifth, and stays at 100 after that (theirs: the number
    of the round among a number of rounds that must be known). A class that the segmenter predicts nowhere is asked for
    all the same, at random (theirs: as its noise has it). A class with too few candidates leaves its places to the
    entropy of all samples (theirs: an error). Classes take turns. What keeps boxes from overlapping is `limited`.

    Options: ``share`` is what the classes get in all (0.33 in the paper's ablation). ``beta`` is a number (inf: no
    noise), or a schedule: exponential(1, 100, until=0.2) of nextmask.selection.schedules, or sigmoid(...).

    Use: rounds of boxes or slices with several classes, once a segmenter finds the common ones; in its authors'
    benchmark the only strategy that was generally above random sampling aimed at the foreground.

    Cost: O(C N log N) time for C classes, C + 1 numbers per sample of memory.
    """
    dial = at(beta, labeled.mean())
    # What little probability a class has that is predicted nowhere says nothing of where it is.
    of_classes = np.where(class_share.max(axis=0) > 0, class_uncertainty, 0)
    return stratified_by_class(of_classes, uncertainty, labeled, n, rng, share=share, beta=dial)
