"""The part of each case that encoders see: all of it, or a region of interest; no annotation tells it, but one that says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from scipy import ndimage

from nextmask.data.proxy_masks import Proxy
from nextmask.errors import StudyError
from nextmask.study.labels import Labels
from nextmask.study.oracle import Truth
from nextmask.study.proxy import refuse_proxy
from nextmask.study.rounds import StoredFile

MARGIN = 5
"""Voxels of the working grid that are kept around a region of interest."""

SPECK = 0.1
"""Connected parts of a mask smaller than this share of its largest one do not widen its box."""

Part = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Focus:
    """``image(row)`` is what encoders see of a sample, (channels, *spatial); ``made`` says which part of it, by what."""

    image: Callable[[int], np.ndarray]
    made: dict[str, Any]

    @property
    def in_short(self) -> dict[str, Any]:
        """Say what the ledger should know of it; a user's boxes stand in the table."""
        return {name: value for name, value in self.made.items() if name != "boxes"}


def crop_to(image: np.ndarray, mask: np.ndarray, margin: int = MARGIN) -> np.ndarray:
    """Crop an image, (channels, *spatial), to the box of a mask, (*spatial), and a margin; all of it if the mask is empty."""
    return image[(slice(None), *box_of(mask, margin))]


def box_of(mask: np.ndarray, margin: int = MARGIN) -> Part:
    """Find the box of what a mask shows, without specks, grown by a margin within the image."""
    parts, count = ndimage.label(mask > 0)
    if not count:
        return tuple(slice(0, n) for n in mask.shape)
    sizes = np.bincount(parts.ravel())[1:]
    boxes = [box for box, size in zip(ndimage.find_objects(parts), sizes, strict=True) if size >= SPECK * sizes.max()]
    axes = range(mask.ndim)
    around = tuple(slice(min(box[k].start for box in boxes), max(box[k].stop for box in boxes)) for k in axes)
    return _grown(around, mask.shape, margin)


def _grown(box: Part, shape: tuple[int, ...], margin: int) -> Part:
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(box, shape, strict=True))


def focus(
    wanted: str,
    labels: Labels,
    proxy: Proxy | None,
    segmenter: StoredFile | None,
    load: Callable[[StoredFile], Any],
    truth: Truth | None = None,
) -> Focus:
    """Make what a study's ``region`` names; a case has one box, so that all its slices are seen alike.

    "predicted" is stood in for by the proxy mask, or by the whole image, until there is a segmenter, and the ledger says so.

    Source: the local mode of Liu et al., "COLosSAL", MICCAI 2023, https://arxiv.org/abs/2307.12004, which crops to the box
    of a mask and 5 voxels. Theirs takes the ground truth, which no first query has; here no annotation is looked at, but by
    the region "oracle", which is there to compare with theirs and needs the ``truth`` that only a simulation has.
    """
    made: dict[str, Any] = {"wanted": wanted, "region": "whole"}
    if wanted == "predicted" and segmenter is not None:
        made |= {"region": "predicted", "segmenter": segmenter.sha256, "margin": MARGIN}
        return Focus(_cropped(labels, partial(_predicted, labels, load(segmenter))), made)
    if wanted in ("predicted", "proxy") and proxy is not None:
        made |= {"region": "proxy", "proxy": proxy.name, "margin": MARGIN}
        return Focus(_cropped(labels, _by_proxy(labels, proxy)), made)
    if wanted == "proxy":
        raise StudyError(
            'region = "proxy", and no proxy is set. Expected a rule that tells foreground from intensities. Set proxy in '
            'study.toml, for example to "otsu-bright".'
        )
    if wanted == "oracle":
        return _in_boxes(labels, partial(_in_truth, labels, _given(truth)), made | {"margin": MARGIN})
    if wanted.startswith("column:"):
        return _in_boxes(labels, partial(in_column, labels, name=wanted.removeprefix("column:")), made)
    return Focus(labels.image, made)


def _in_boxes(labels: Labels, box: Callable[[int], Part], made: dict[str, Any]) -> Focus:
    """Find the boxes of all cases at once: they are part of what embeddings are kept by."""
    found = {case: box(case) for case in range(len(labels.pool.cases))}
    boxes = [[[s.start, s.stop] for s in each] for each in found.values()]
    return Focus(_cropped(labels, found.__getitem__), made | {"region": made["wanted"], "boxes": boxes})


def _given(truth: Truth | None) -> Truth:
    if truth is None:
        raise StudyError(
            'region = "oracle" reads masks that nobody has drawn yet, and this is no simulation. Expected a region that looks '
            'at images and predictions only. Set region to "proxy" or "predicted", or play the study with nextmask simulate.'
        )
    return truth


def _in_truth(labels: Labels, truth: Truth, case: int) -> Part:
    """Find the box of a case's hidden mask on the working grid."""
    box = box_of(truth.mask(labels.pool.cases[case]), margin=0)
    placed = labels.cache.placements[case].placed([s.start for s in box], [s.stop for s in box])
    return _grown(placed, labels.cache.image(case).shape[1:], MARGIN)


def in_column(labels: Labels, case: int, name: str) -> Part:
    """Read a user's box, the first voxel of every axis and then the last plus one, onto the working grid."""
    text = labels.pool.cases[case].columns.get(name)
    where = labels.cache.placements[case]
    numbers = [int(number) for number in re.findall(r"-?\d+", text or "")]
    start, stop = numbers[: len(where.full)], numbers[len(where.full) :]
    right = len(start) == len(stop) and all(0 <= a < b <= n for a, b, n in zip(start, stop, where.full, strict=False))
    if not right or len(start) != len(where.full):
        raise StudyError(
            f"the column {name!r} of case {labels.pool.cases[case].id!r} holds {text!r}. Expected a box within its image of "
            f"{where.full} voxels: the first voxel of every axis, then the last plus one. Write {2 * len(where.full)} whole "
            "numbers with blanks between them."
        )
    return where.placed(start, stop)


def _predicted(labels: Labels, segmenter: Any, case: int) -> Part:
    return box_of(segmenter.predict(np.asarray(labels.cache.image(case), np.float32)).argmax(axis=0))


def _by_proxy(labels: Labels, proxy: Proxy) -> Callable[[int], Part]:
    fit = cache(partial(refuse_proxy, labels, proxy))

    def box(case: int) -> Part:
        fit()
        return box_of(labels.proxy(case, proxy))

    return box


def _cropped(labels: Labels, box: Callable[[int], Part]) -> Callable[[int], np.ndarray]:
    """Crop each sample's image to its part of the box of its case; one that lies wholly outside of it stays as it is."""
    known = cache(box)

    def image(row: int) -> np.ndarray:
        whole, wanted = labels.image(row), known(labels.pool.samples[row].case)
        first = (0, 0) if labels.planar else tuple(part.start for part in labels.region(row))
        part = tuple(
            slice(max(s.start - a, 0), min(s.stop - a, n))
            for s, a, n in zip(wanted[-len(first) :], first, whole.shape[1:], strict=True)
        )
        return whole[(slice(None), *part)] if all(s.start < s.stop for s in part) else whole

    return image
