"""Whole patients at random: what studies of semi-supervised segmentation label."""

import numpy as np

from nextmask.selection.types import Labeled, Patient, Query, because


def random_patients(patient: Patient, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Draw patients at random, and take all samples of one before the next begins.

    Patients of whom something is labeled already are finished first. Of the last patient only so many samples are taken as
    are left of n, in the order of the pool.

    Source: none; the protocol of semi-supervised segmentation, for example Luo et al., "Semi-supervised medical image
    segmentation through dual-task consistency", AAAI 2021, https://arxiv.org/abs/2009.04448: 3 or 7 patients of ACDC, all
    slices of both their volumes.

    Adapted: n counts samples, not patients.

    Use: to compare with figures that were published so, and to see what spreading the same number of slices over patients is
    worth. Never where annotation is what counts.

    Cost: O(N log N) time, O(N) memory.
    """
    names, who = np.unique(patient, return_inverse=True)
    begun = np.zeros(len(names), dtype=bool)
    begun[who[labeled]] = True
    order = rng.permutation(len(names))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order[np.argsort(~begun[order], kind="stable")]] = np.arange(len(names))
    free = np.flatnonzero(~labeled)
    rows = free[np.argsort(rank[who[free]], kind="stable")][:n]
    return because(rows, "of a patient drawn at random, with all that there is of him or her")
