"""Made-up embeddings on which strategies are timed: one pool that looks like a clinic's, and one on which pruning fails.

    python benchmarks/selection_pools.py FOLDER med 1000000      # writes FOLDER/med-1000000x512.npy, 2 GB, in blocks

``med`` has 300 clusters of Zipf sizes in a 96-dimensional latent space with a decaying spectrum; volumes of 32 slices run
through it as smooth trajectories, 1 % of the rows are outliers, and every row has unit norm. ``hard`` has the same clusters
with full-rank isotropic noise around them: every distance within a cluster is nearly the same, so that no bound decides.

Every block of rows has a seed of its own: the first rows of a large pool are the rows of a small one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

CLUSTERS = 300
LATENT = 96
SLICES = 32
OUTLIERS = 0.01
BLOCK = 512 * SLICES

Rows = Callable[[np.random.Generator, int], np.ndarray]


def med(samples: int, d: int = 512, seed: int = 0) -> np.ndarray:
    """Make a pool of clustered volumes, (samples, d) float32 of unit norm."""
    return _filled(np.empty((samples, d), dtype=np.float32), _med_rows(d, seed), seed)


def hard(samples: int, d: int = 512, seed: int = 0) -> np.ndarray:
    """Make a pool of clusters under isotropic noise of full rank, (samples, d) float32 of unit norm."""
    return _filled(np.empty((samples, d), dtype=np.float32), _hard_rows(d, seed), seed)


def labeled(samples: int, count: int = 100, seed: int = 0) -> np.ndarray:
    """Mark ``count`` random rows as labeled, (samples,) bool."""
    mask = np.zeros(samples, dtype=bool)
    mask[np.random.default_rng([seed, 1]).choice(samples, count, replace=False)] = True
    return mask


def probabilities(samples: int, classes: int = 10, seed: int = 0) -> np.ndarray:
    """Make one prediction a sample, of a classifier half sure of itself, (samples, classes) float32."""
    return np.random.default_rng([seed, 2]).dirichlet(np.full(classes, 0.5), samples).astype(np.float32)


def members(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Make an ensemble's probabilities of one volume, (members, classes, z, y, x) float32: smooth, with some dissent."""
    rng = np.random.default_rng([seed, 7])
    count, classes, *spatial = shape
    logits = np.empty(shape, dtype=np.float32)
    for label in range(classes):
        anatomy = gaussian_filter(rng.standard_normal(spatial, dtype=np.float32), spatial[0] / 16)
        for member in range(count):
            dissent = gaussian_filter(rng.standard_normal(spatial, dtype=np.float32), spatial[0] / 32)
            logits[member, label] = 5 * anatomy / anatomy.std() + dissent / dissent.std()
    np.exp(logits, out=logits)
    return logits / logits.sum(axis=1, keepdims=True)


POOLS = {"med": med, "hard": hard}


def stored(folder: Path, name: str, samples: int, d: int = 512, seed: int = 0) -> Path:
    """Find a pool's .npy file, or write it block by block; it is never held in memory whole."""
    path = folder / f"{name}-{samples}x{d}-{seed}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        pool = np.lib.format.open_memmap(half, mode="w+", dtype=np.float32, shape=(samples, d))
        _filled(pool, {"med": _med_rows, "hard": _hard_rows}[name](d, seed), seed).flush()
        half.rename(path)
    return path


def _filled(pool: np.ndarray, rows: Rows, seed: int) -> np.ndarray:
    for start in range(0, len(pool), BLOCK):
        rng = np.random.default_rng([seed, 3, start // BLOCK])
        block = rows(rng, BLOCK)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        pool[start : start + BLOCK] = block[: len(pool) - start]
    return pool


def _med_rows(d: int, seed: int) -> Rows:
    rng = np.random.default_rng([seed, 4])
    latent = min(LATENT, d)
    spectrum = (1 + np.arange(latent)) ** -0.5
    basis = np.linalg.qr(rng.normal(size=(d, latent)))[0].T.astype(np.float32)
    centres = rng.normal(size=(CLUSTERS, latent)) * spectrum

    def rows(rng: np.random.Generator, count: int) -> np.ndarray:
        volumes = count // SLICES
        origin = centres[_zipf(rng, volumes)] + 0.35 * spectrum * rng.normal(size=(volumes, latent))
        points = (origin[:, None] + _trajectories(rng, volumes, latent) * spectrum).reshape(count, latent)
        outliers = rng.random(count) < OUTLIERS
        points[outliers] = 1.5 * rng.normal(size=(int(outliers.sum()), latent))
        return points.astype(np.float32) @ basis

    return rows


def _trajectories(rng: np.random.Generator, volumes: int, latent: int) -> np.ndarray:
    """Draw a smooth way through the latent space for each volume, (volumes, SLICES, latent)."""
    place = np.linspace(0, 1, SLICES)
    waves = np.stack([np.cos(np.pi * place), np.sin(np.pi * place), np.cos(2 * np.pi * place)])
    directions = 0.25 * rng.normal(size=(volumes, len(waves), latent))
    steps = 0.03 * rng.normal(size=(volumes, SLICES, latent))
    return np.einsum("ws,vwl->vsl", waves, directions) + steps


def _hard_rows(d: int, seed: int) -> Rows:
    centres = np.random.default_rng([seed, 5]).normal(size=(CLUSTERS, d)).astype(np.float32)

    def rows(rng: np.random.Generator, count: int) -> np.ndarray:
        return centres[_zipf(rng, count)] + rng.standard_normal((count, d), dtype=np.float32)

    return rows


def _zipf(rng: np.random.Generator, count: int) -> np.ndarray:
    shares = 1 / (1 + np.arange(CLUSTERS))
    return rng.choice(CLUSTERS, count, p=shares / shares.sum())


def main() -> None:
    """Write one pool to a folder and say where it is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=POOLS)
    parser.add_argument("samples", type=int)
    wanted = parser.parse_args()
    print(stored(wanted.folder, wanted.name, wanted.samples))


if __name__ == "__main__":
    main()
