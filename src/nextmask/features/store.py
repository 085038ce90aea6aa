"""Embeddings on disk: computed once, row by row, and taken up where a killed process left off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap

from nextmask.data.files import Progress, digest, write_text
from nextmask.errors import DataError, SelectionError
from nextmask.features.encoders import ENCODERS, Encoder, Encoding, EncodingSegmenter

VERSION = 1
"""Part of every key; raised when an encoder of the same name describes an image otherwise than before."""

SAVE_EVERY = 32
"""Rows that a killed process may have to compute again."""


@dataclass(frozen=True)
class EmbeddingStore:
    """A folder of arrays, (count, dims) float32, one a key.

    ``<key>.npy`` is complete and ``<key>.sha256`` says of what bytes; ``<key>.partial.npy`` is in the making and
    ``<key>.rows`` counts the rows of it that are safely on disk.
    """

    folder: Path

    def embeddings(
        self,
        key: str,
        count: int,
        dims: int | None,
        compute: Callable[[int], np.ndarray],
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Open the array of a key, (count, dims) float32 and memory-mapped; compute what is missing of it.

        ``key`` names everything that the numbers depend on; ``compute(row)`` returns one vector; ``dims`` is their
        length, None where the first vector decides. A file that is cut off, changed or of another shape is made anew.

        Raises DataError where a vector is not finite or not as long as the others; the rows before it are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        with FileLock(path.with_suffix(".lock")):
            if not _is_intact(path):
                path.unlink(missing_ok=True)
            if _opened(path, count, dims) is None:
                _fill(path, count, dims, compute, progress)
            table = _opened(path, count, dims)
        assert table is not None
        return table


def embed_pool(
    encoder_name: str,
    load: Callable[[int], np.ndarray],
    count: int,
    key: str,
    store: EmbeddingStore,
    progress: Progress | None = None,
    segmenter: EncodingSegmenter | None = None,
    compute: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Embed a pool of ``count`` samples, one image in memory at a time; returns (count, dims) float32.

    ``segmenter`` is the network of an encoder that needs one: a segmenter or a pretrained encoder.

    ``load(row)`` returns the sample's image on the working grid, (channels, *spatial); slices as (channels, y, x).
    ``key`` stands for the content of the pool, and for the weights of the segmenter where the encoder uses one.
    ``compute`` gives the vectors of `describing`, where other processes do that.

    Raises SelectionError for an encoder that does not exist or lacks its segmenter, DataError for an image that is not
    finite or that describes itself at another length than the others.
    """
    encoding = find_encoding(encoder_name)
    found = compute or describing(encoder_name, load, segmenter)
    return encoding.finish(store.embeddings(f"{encoder_name} {VERSION} {key}", count, None, found, progress))


def describing(
    encoder_name: str, load: Callable[[int], np.ndarray], segmenter: EncodingSegmenter | None = None
) -> Callable[[int], np.ndarray]:
    """Return what describes the image of a row by an encoder: row -> vector, before the pool as a whole finishes it."""
    encoder = find_encoding(encoder_name).encoder(segmenter)
    return lambda row: _described(encoder, load(row), row)


def find_encoding(name: str) -> Encoding:
    """Look an encoder up; raise SelectionError if there is none of that name."""
    if name not in ENCODERS:
        close = get_close_matches(name, ENCODERS, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Choose one of these."
        raise SelectionError(f"Encoder {name!r} does not exist. Expected one of {', '.join(ENCODERS)}. {hint}")
    return ENCODERS[name]


def _described(encoder: Encoder, image: np.ndarray, row: int) -> np.ndarray:
    broken = image.size - int(np.count_nonzero(np.isfinite(image)))
    if broken or not image.size:
        raise DataError(
            f"The image of sample row {row} has {broken} NaN or infinite voxels of {image.size}. "
            "Expected an image of finite intensities. Repair the file, or drop the case from the pool."
        )
    return encoder(image)


def _fill(
    path: Path, count: int, dims: int | None, compute: Callable[[int], np.ndarray], progress: Progress | None
) -> None:
    partial, counter = path.with_suffix(".partial.npy"), path.with_suffix(".rows")
    table, done = _resumed(partial, counter, count, dims)
    try:
        for row in range(done, count):
            vector = _checked(compute(row), row, dims if table is None else table.shape[1])
            if table is None:
                table = open_memmap(partial, "w+", np.float32, (count, len(vector)))
            table[row] = vector
            done = row + 1
            if done % SAVE_EVERY == 0:
                _save(table, counter, done)
            if progress:
                progress(done, count)
    finally:
        if table is not None:
            _save(table, counter, done)
    _complete(partial, path)
    counter.unlink()


def _resumed(partial: Path, counter: Path, count: int, dims: int | None) -> tuple[np.memmap | None, int]:
    """Open what an earlier process left, and say how many of its rows count; clear it away where it is of no use."""
    table = _opened(partial, count, dims, "r+")
    saved = counter.read_text(encoding="utf-8") if counter.exists() else ""
    if table is not None and saved.isdecimal() and int(saved) <= count:
        return table, int(saved)
    counter.unlink(missing_ok=True)
    partial.unlink(missing_ok=True)
    return None, 0


def _save(table: np.memmap, counter: Path, done: int) -> None:
    """Bring the rows to the disk first, and only then count them."""
    table.flush()
    write_text(counter, str(done))


def _complete(partial: Path, path: Path) -> None:
    # The digest goes first: without it a complete file would be thrown away, without the file it says nothing.
    write_text(path.with_suffix(".sha256"), digest(partial))
    partial.replace(path)


def _is_intact(path: Path) -> bool:
    proof = path.with_suffix(".sha256")
    return path.exists() and proof.exists() and proof.read_text(encoding="utf-8") == digest(path)


def _opened(path: Path, count: int, dims: int | None, mode: str = "r") -> np.memmap | None:
    """Map a file of the expected shape; None where there is none, or something else under its name."""
    if not path.exists():
        return None
    try:
        table = open_memmap(path, mode)
    except ValueError:  # not an array, or cut off
        return None
    right = table.ndim == 2 and table.dtype == np.float32 and len(table) == count and dims in (None, table.shape[1])
    return table if right else None


def _checked(vector: np.ndarray, row: int, dims: int | None) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused below
        vector = np.asarray(vector, dtype=np.float32)
    if vector.ndim != 1 or dims not in (None, len(vector)):
        raise DataError(
            f"Sample row {row} is described by an array of shape {vector.shape}. "
            f"Expected a vector of length {'1 or more' if dims is None else dims}, the same for every sample. "
            "Give all cases of a study the same number of channels and of spatial axes."
        )
    if not np.isfinite(vector).all():
        raise DataError(
            f"Sample row {row} is described by {np.count_nonzero(~np.isfinite(vector))} NaN or infinite numbers of "
            f"{len(vector)}. Expected finite ones. Look at this image, or train the segmenter anew if it encoded it."
        )
    return vector
