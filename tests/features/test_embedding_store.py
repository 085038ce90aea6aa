"""Embeddings on disk: same numbers whatever happened in between."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nextmask.errors import DataError, SelectionError
from nextmask.features import EmbeddingStore, embed_pool

COUNT = 100


def _vector(row: int) -> np.ndarray:
    return np.random.default_rng(row).normal(size=7)


def _expected(count: int = COUNT) -> np.ndarray:
    return np.array([_vector(row) for row in range(count)], dtype=np.float32)


def _counting(calls: list[int], stop_at: int | None = None) -> Callable[[int], np.ndarray]:
    def compute(row: int) -> np.ndarray:
        if row == stop_at:
            raise KeyboardInterrupt
        calls.append(row)
        return _vector(row)

    return compute


def _image(row: int) -> np.ndarray:
    return np.random.default_rng(row).normal(size=(1, 20 + row, 30)).astype(np.float16)


def _file(folder: Path) -> Path:
    (path,) = (path for path in folder.glob("*.npy") if not path.name.endswith(".partial.npy"))
    return path


def test_computes_once_and_maps_afterwards(tmp_path: Path) -> None:
    calls: list[int] = []
    seen: list[tuple[int, int]] = []
    store = EmbeddingStore(tmp_path / "new" / "folder")
    first = store.embeddings("key", COUNT, None, _counting(calls), lambda done, total: seen.append((done, total)))
    again = store.embeddings("key", COUNT, 7, _counting(calls))
    np.testing.assert_array_equal(first, _expected())
    np.testing.assert_array_equal(again, _expected())
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    assert first.dtype == np.float32
    assert calls == list(range(COUNT))
    assert seen == [(row + 1, COUNT) for row in range(COUNT)]
    assert sorted(path.suffix for path in store.folder.iterdir() if path.suffix != ".lock") == [".npy", ".sha256"]


def test_another_key_is_another_array(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    store.embeddings("a", 3, None, _vector)
    np.testing.assert_array_equal(store.embeddings("b", 3, None, lambda row: _vector(row + 50)), _expected(53)[50:])
    np.testing.assert_array_equal(store.embeddings("a", 3, None, _vector), _expected(3))


@pytest.mark.parametrize("stop_at", [0, 1, 31, 32, 33, 70, 99])
def test_resumes_after_an_interruption(tmp_path: Path, stop_at: int) -> None:
    calls: list[int] = []
    store = EmbeddingStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.embeddings("key", COUNT, None, _counting(calls, stop_at))
    np.testing.assert_array_equal(store.embeddings("key", COUNT, None, _counting(calls)), _expected())
    assert calls == list(range(COUNT))


def test_resumes_after_a_kill(tmp_path: Path) -> None:
    script = f"""
import os, numpy as np
from pathlib import Path
from nextmask.features import EmbeddingStore
def compute(row):
    if row == 70:
        os.kill(os.getpid(), 9)
    return np.random.default_rng(row).normal(size=7)
EmbeddingStore(Path({str(tmp_path)!r})).embeddings("key", {COUNT}, None, compute)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    calls: list[int] = []
    table = EmbeddingStore(tmp_path).embeddings("key", COUNT, None, _counting(calls))
    np.testing.assert_array_equal(table, _expected())
    assert calls == list(range(64, COUNT))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    path.write_text("not an array")


def _same_shape(path: Path) -> None:
    np.save(path, np.zeros((COUNT, 7), dtype=np.float32))


def _one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(bytes(data))


def _no_proof(path: Path) -> None:
    path.with_suffix(".sha256").unlink()


@pytest.mark.parametrize("spoil", [_cut, _empty, _foreign, _same_shape, _one_bit, _no_proof])
def test_spoilt_files_are_made_anew(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    store = EmbeddingStore(tmp_path)
    store.embeddings("key", COUNT, None, _vector)
    spoil(_file(tmp_path))
    calls: list[int] = []
    np.testing.assert_array_equal(store.embeddings("key", COUNT, None, _counting(calls)), _expected())
    assert len(calls) == COUNT


@pytest.mark.parametrize("spoil", [_cut, _empty, _foreign])
def test_spoilt_partial_files_are_made_anew(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    store = EmbeddingStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.embeddings("key", COUNT, None, _counting([], stop_at=50))
    spoil(next(tmp_path.glob("*.partial.npy")))
    np.testing.assert_array_equal(store.embeddings("key", COUNT, None, _vector), _expected())


def test_another_count_is_made_anew(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    store.embeddings("key", 10, None, _vector)
    np.testing.assert_array_equal(store.embeddings("key", 12, None, _vector), _expected(12))


@pytest.mark.parametrize(
    ("vector", "fault"),
    [
        (np.full(7, np.nan), "Sample row 40 is described by 7 NaN or infinite numbers of 7"),
        (np.full(7, 1e300), "Sample row 40 is described by 7 NaN or infinite numbers of 7"),
        (np.zeros(8), r"Sample row 40 is described by an array of shape \(8,\)"),
        (np.zeros((1, 7)), r"Sample row 40 is described by an array of shape \(1, 7\)"),
    ],
)
def test_names_the_row_of_a_bad_vector_and_keeps_the_ones_before(
    tmp_path: Path, vector: np.ndarray, fault: str
) -> None:
    store = EmbeddingStore(tmp_path)
    with pytest.raises(DataError, match=fault):
        store.embeddings("key", COUNT, None, lambda row: vector if row == 40 else _vector(row))
    calls: list[int] = []
    np.testing.assert_array_equal(store.embeddings("key", COUNT, None, _counting(calls)), _expected())
    assert calls == list(range(40, COUNT))


def test_embeds_a_pool_of_mixed_sizes_the_same_way_twice(tmp_path: Path) -> None:
    one = embed_pool("intensity", _image, 30, "pool", EmbeddingStore(tmp_path / "a"))
    two = embed_pool("intensity", _image, 30, "pool", EmbeddingStore(tmp_path / "b"))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (30, 30)
    np.testing.assert_array_equal(one, embed_pool("intensity", _never, 30, "pool", EmbeddingStore(tmp_path / "a")))


def _never(row: int) -> np.ndarray:
    raise AssertionError(f"row {row} was loaded again")


@pytest.mark.parametrize("count", [1, 2])
def test_embeds_tiny_pools(tmp_path: Path, count: int) -> None:
    assert embed_pool("intensity", _image, count, "pool", EmbeddingStore(tmp_path)).shape == (count, count)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_names_the_row_of_an_image_that_is_not_finite(tmp_path: Path, value: float) -> None:
    def load(row: int) -> np.ndarray:
        image = _image(row).copy()
        if row == 3:
            image[0, 1, 2] = value
        return image

    with pytest.raises(DataError, match="image of sample row 3 has 1 NaN or infinite voxels of 690"):
        embed_pool("intensity", load, 10, "pool", EmbeddingStore(tmp_path))


def test_the_network_encoder_standardises_what_a_segmenter_says(tmp_path: Path) -> None:
    class Means:
        def encode(self, image: np.ndarray) -> np.ndarray:
            return np.array([image.astype(np.float32).mean(), image.shape[1]])

    embeddings = embed_pool("network", _image, 20, "weights and pool", EmbeddingStore(tmp_path), segmenter=Means())
    np.testing.assert_allclose(embeddings.std(axis=0), 1, rtol=1e-5)
    assert (np.diff(embeddings[:, 1]) > 0).all()


def test_says_which_encoders_there_are_and_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"'intensty' does not exist.*Did you mean 'intensity'\?"):
        embed_pool("intensty", _image, 3, "pool", EmbeddingStore(tmp_path))
    with pytest.raises(SelectionError, match="has no network to encode with"):
        embed_pool("network", _image, 3, "pool", EmbeddingStore(tmp_path))
