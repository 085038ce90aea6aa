"""Variational adversarial active learning: ask for what looks least like anything labeled."""

import numpy as np

from nextmask.selection.types import Labeled, Query, Unlabeledness, because


def vaal(unlabeledness: Unlabeledness, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Take the samples that look least like labeled ones.

    Source: Sinha, Ebrahimi and Darrell, "Variational adversarial active learning", ICCV 2019,
    https://arxiv.org/abs/1904.00370.

    Faithful: `unlabeledness` is what a discriminator says that is trained, against a variational autoencoder, to tell labeled
    from unlabeled images by their place in the autoencoder's space; the highest first.

    Adapted: of equals the lowest row. The autoencoder is smaller, and its loss is per voxel, so that the weights of its parts
    mean the same for images of every size.

    Use: from the second round on, where kinds of images may be missing among the labeled ones; a pool without labels has no
    unlabeledness. Nothing keeps the query diverse: near copies of one unseen image may fill it, so set a spacing or a cap per
    patient, or take `k_center`.

    Cost: O(N log N) time, a few numbers per sample of memory. The numbers before it: a training on the pool's images, minutes
    on a CPU.
    """
    unlabeled = np.flatnonzero(~labeled)
    rows = unlabeled[np.argsort(-unlabeledness[unlabeled], kind="stable")[:n]]
    return because(
        rows,
        "rank {rank} of {unlabeled} by how little it looks like a labeled sample ({unlabeledness:.3g})",
        rank=np.arange(1, n + 1),
        unlabeled=len(unlabeled),
        unlabeledness=unlabeledness[rows],
    )
