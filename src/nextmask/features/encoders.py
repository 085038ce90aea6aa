"""Turn one image into a vector, and the vectors of a pool into embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

from nextmask.errors import SelectionError

DIMS = 64
"""Principal components that are kept of the intensity descriptors."""

BINS = 64
LIMIT = 4.0
"""Intensities of the working grid are z-scores: beyond four standard deviations lie artefacts and metal."""

THUMBNAIL_WEIGHT = 0.5
"""So weighted, thumbnails vary 0.4 to 1 times as much as histograms on heart MR and skin photos, 3.5 on hippocampi."""

BLOCK = 4096
"""Descriptors that are held in float64 at a time."""


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns one image of the working grid, (channels, *spatial), into a vector of a fixed length."""

    def __call__(self, image: np.ndarray) -> np.ndarray: ...


@runtime_checkable
class EncodingSegmenter(Protocol):
    """A network, trained on masks or on images alone, that can say where an image lies in its own feature space."""

    def encode(self, image: np.ndarray, grid: int = 1) -> np.ndarray:
        """Turn one image, (channels, *spatial), into a vector, averaged over ``grid`` parts along every axis."""
        ...


@dataclass(frozen=True)
class Encoding:
    """The two halves of an embedding, and what it needs.

    ``encoder`` makes the function of one image, from the network if it ``needs`` one: the last round's "segmenter", what
    a "pretraining" on the pool's images gave, by the ``task`` of that name, or one "pretrained" elsewhere; ``finish`` turns
    the descriptors of the whole pool, (samples, length), into embeddings, (samples, dims).
    """

    encoder: Callable[[EncodingSegmenter | None], Encoder]
    finish: Callable[[np.ndarray], np.ndarray]
    needs: Literal["nothing", "segmenter", "pretraining", "pretrained"] = "nothing"
    task: str = ""


def intensity(image: np.ndarray) -> np.ndarray:
    """Describe an image, (channels, *spatial) in z-scores, by its histograms and a thumbnail; nothing is learned.

    A histogram a channel, as square roots of shares (so that their Euclidean distance is Hellinger's), and the mean of
    the channels averaged down to 16 x 16 or 8 x 8 x 8. No image size and no number of channels changes the weight of
    the two halves: by histogram two images lie at most sqrt(2) apart, by thumbnail half the root of their mean squared
    difference. Returns (64 * channels + 256 or 512,) float32.
    """
    clipped = np.clip(image.astype(np.float32), -LIMIT, LIMIT)
    shares = [np.histogram(channel, bins=BINS, range=(-LIMIT, LIMIT))[0] / channel.size for channel in clipped]
    small = thumbnail(clipped.mean(axis=0))
    by_histogram = np.sqrt(np.ravel(shares) / len(shares))
    by_thumbnail = THUMBNAIL_WEIGHT * small.ravel() / np.sqrt(small.size)
    return np.concatenate([by_histogram, by_thumbnail], dtype=np.float32)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Average a picture, (y, x), down to (16, 16), or a volume, (z, y, x), to (8, 8, 8), whatever their size."""
    size = 16 if picture.ndim == 2 else 8
    for axis, length in enumerate(picture.shape):
        picture = np.moveaxis(np.tensordot(_overlaps(length, size), picture, axes=(1, axis)), 0, axis)
    return picture


def _overlaps(length: int, parts: int) -> np.ndarray:
    """Share of each voxel in each of ``parts`` equal parts of an axis, (parts, length); every row sums to one."""
    edges = np.linspace(0, length, parts + 1)
    voxel = np.arange(length)
    shared = np.minimum(edges[1:, None], voxel + 1) - np.maximum(edges[:-1, None], voxel)
    return np.clip(shared, 0, None) * (parts / length)


def network(segmenter: EncodingSegmenter | None, grid: int = 1) -> Encoder:
    """Encode with a network; its activations are averaged over ``grid`` parts along every axis."""
    if segmenter is None:
        raise SelectionError(
            "This encoder has no network to encode with. Expected the segmenter of a round that was trained, or a "
            "pretrained network. Train a round first, or use encoder 'intensity'."
        )
    return segmenter.encode if grid == 1 else partial(segmenter.encode, grid=grid)


def principal_components(descriptors: np.ndarray) -> np.ndarray:
    """Rotate descriptors, (samples, length), onto their first principal components, (samples, at most 64) float32.

    Each component's sign is fixed by its largest weight, and one thread does the sums: the same descriptors give the
    same embeddings on any number of cores.
    """
    centre = descriptors.mean(axis=0, dtype=np.float64)
    with threadpool_limits(1):
        covariance = np.zeros((len(centre), len(centre)))
        for block in _blocks(descriptors):
            covariance += (block - centre).T @ (block - centre)
        axes = scipy.linalg.eigh(covariance)[1][:, ::-1][:, : min(DIMS, len(descriptors))]
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        return np.concatenate([((block - centre) @ axes).astype(np.float32) for block in _blocks(descriptors)])


def standardised(descriptors: np.ndarray) -> np.ndarray:
    """Scale every column of descriptors, (samples, dims), to mean 0 and standard deviation 1; a constant one to 0."""
    centre = descriptors.mean(axis=0, dtype=np.float64)
    spread = descriptors.std(axis=0, dtype=np.float64)
    spread[spread == 0] = np.inf
    return np.concatenate([((block - centre) / spread).astype(np.float32) for block in _blocks(descriptors)])


def as_they_are(descriptors: np.ndarray) -> np.ndarray:
    """Take descriptors, (samples, dims), for embeddings: the distance between them is what was learned."""
    return np.asarray(descriptors)


def _blocks(descriptors: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(descriptors), BLOCK):
        yield descriptors[start : start + BLOCK].astype(np.float64)


ENCODERS: dict[str, Encoding] = {
    "intensity": Encoding(lambda segmenter: intensity, principal_components),
    "network": Encoding(network, standardised, "segmenter"),
    "restoration": Encoding(network, standardised, "pretraining", "restoration"),
    "restoration_2x2": Encoding(partial(network, grid=2), standardised, "pretraining", "restoration"),
    "reconstruction": Encoding(network, standardised, "pretraining", "reconstruction"),
    "contrastive": Encoding(network, as_they_are, "pretraining", "contrastive"),
    "group_contrastive": Encoding(network, as_they_are, "pretraining", "group_contrastive"),
    "pretrained": Encoding(network, standardised, "pretrained"),
}
"""Every encoding by the name that a study file gives it."""
