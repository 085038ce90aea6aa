"""What is kept of the members of one image while they come by, one at a time."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped, UInt

from nextmask.errors import SelectionError

Probabilities = Float[np.ndarray, "classes *spatial"]
Flat = Float[np.ndarray, "classes voxels"]
Line = Float[np.ndarray, " voxels"]

CHUNK = 1 << 14
"""Voxels at a time: what is computed of them stays in the processor's cache."""

THREADS = min(4, os.cpu_count() or 1)
"""Spans that are computed at once; a voxel's numbers are the same whatever their number."""

SMALLEST = np.float32(1e-10)
"""What smaller probabilities are set to, 0 and rounding below 0 among them. It has a logarithm, and its square is not
one of those tiny numbers with which a processor is a hundred times slower."""

OF_THE_SMALLEST = np.float32(-SMALLEST * np.log2(SMALLEST) * 1.01)
"""What is taken off the entropy for each class, so that a certain voxel has exactly 0."""

# NumPy compares with an array several times faster than with a number.
_FLOOR, _ZEROS, _ONES = (np.full(CHUNK, value, np.float32) for value in (SMALLEST, 0, 1))


@dataclass(eq=False)
class Running:
    """Running means over the members. What nobody asked for, and what one member alone cannot have, is None.

    Each mean is moved by the new member's difference to it (Welford), so that members that agree have a variance and
    a mutual information of exactly 0, and no digits are lost between two large sums. ``p_log_p`` is summed over the
    classes, ``squares`` of deviations over classes and members; ``votes`` counts each class.
    """

    shape: tuple[int, ...]
    members: int
    mean: Flat
    p_log_p: Line | None = None
    squares: Line | None = None
    votes: UInt[np.ndarray, "classes voxels"] | None = None


def alone(probabilities: Probabilities) -> Running:
    """Take one image's probabilities as they are, without a copy."""
    return Running(probabilities.shape, 1, probabilities.reshape(len(probabilities), -1))


def taken_in(members: Iterable[Probabilities], kept: Collection[str]) -> Running:
    """Go through the members once, and keep their mean and what of "p_log_p", "squares" and "votes" is named.

    Members that the caller holds at once are taken chunk by chunk, others one by one: the numbers are the same.
    """
    running: Running | None = None
    # Only what lies in memory in order can be cut into chunks without a copy.
    at_once = isinstance(members, Sequence) and all(member.flags.c_contiguous for member in members)
    groups = [members] if at_once else ([member] for member in members)
    for group in groups:
        for member in group:
            running = running or _empty(member.shape, kept)
            _refuse_another_shape(member, running)
        if running is not None:
            _add(running, [member.reshape(len(member), -1) for member in group])
    if running is None:
        raise SelectionError("There are no members. Expected one or more. Hand over the probabilities of an image.")
    return running


def sum_p_log_p(p: Flat, work: Flat, out: Line) -> None:
    """Write the sums of p log2 p over the classes to ``out``, of probabilities from SMALLEST up; ``work`` is overwritten."""
    np.log2(p, out=work)
    work *= p
    np.add.reduce(work, axis=0, out=out)


def normalised_entropy(sums: Line, classes: int, out: Line) -> None:
    """Turn what `sum_p_log_p` gave into entropy over log(classes), 0 to 1."""
    np.add(sums, OF_THE_SMALLEST * classes, out=out)
    out *= np.float32(-1 / np.log2(max(classes, 2)))
    within_0_and_1(out)


def from_smallest(probabilities: Shaped[np.ndarray, "classes voxels"], out: Flat) -> None:
    """Write probabilities to ``out`` in single precision, those below SMALLEST as SMALLEST."""
    np.maximum(probabilities, _FLOOR[: out.shape[1]], out=out)


def within_0_and_1(values: Line) -> None:
    """Clip a chunk in place."""
    np.maximum(values, _ZEROS[: len(values)], out=values)
    np.minimum(values, _ONES[: len(values)], out=values)


def in_spans(voxels: int, work: Callable[[Iterator[slice]], None]) -> None:
    """Hand ``work`` the chunks of all voxels: in several spans at once where there are many."""
    spans = THREADS if voxels > 8 * CHUNK else 1
    step = -(-voxels // (spans * CHUNK)) * CHUNK
    if spans == 1:
        return work(_chunks(0, voxels))
    with ThreadPoolExecutor(spans) as pool:
        for done in [pool.submit(work, _chunks(start, min(start + step, voxels))) for start in range(0, voxels, step)]:
            done.result()


def _chunks(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, CHUNK):
        yield slice(first, min(first + CHUNK, stop))


def _empty(shape: tuple[int, ...], kept: Collection[str]) -> Running:
    classes, voxels = shape[0], int(np.prod(shape[1:]))
    return Running(
        shape,
        0,
        np.zeros((classes, voxels), np.float32),
        np.zeros(voxels, np.float32) if "p_log_p" in kept else None,
        np.zeros(voxels, np.float32) if "squares" in kept else None,
        np.zeros((classes, voxels), np.uint8) if "votes" in kept else None,
    )


def _refuse_another_shape(member: Probabilities, running: Running) -> None:
    if member.shape != running.shape:
        raise SelectionError(
            f"A member is of shape {member.shape}, the first one of {running.shape}. "
            "Expected all of one image, on one grid. Predict the same image with each of them."
        )


def _add(running: Running, group: Sequence[Flat]) -> None:
    before = running.members
    running.members += len(group)
    if running.votes is not None and running.members > np.iinfo(running.votes.dtype).max:
        running.votes = running.votes.astype(np.uint32)
    in_spans(running.mean.shape[1], lambda chunks: _add_chunks(running, before, group, chunks))


def _add_chunks(running: Running, before: int, group: Sequence[Flat], chunks: Iterator[slice]) -> None:
    probabilities, scratch = np.empty((2, len(running.mean), CHUNK), np.float32)
    numbers = np.empty(CHUNK, np.float32)
    for part in chunks:
        width = part.stop - part.start
        p, work, line = probabilities[:, :width], scratch[:, :width], numbers[:width]
        for n, member in enumerate(group, before + 1):
            from_smallest(member[:, part], p)
            if running.votes is not None:
                _vote(p, line, running.votes[:, part])
            if running.p_log_p is not None:
                sum_p_log_p(p, work, line)
                _move(running.p_log_p[part], line, n)
            _move_mean(running, n, part, p, work, line)


def _vote(p: Flat, most: Line, votes: UInt[np.ndarray, "classes voxels"]) -> None:
    """Count the first of the likeliest classes of each voxel."""
    np.maximum.reduce(p, axis=0, out=most)
    chosen = p == most
    voted = chosen[0].copy()
    for of_class in chosen[1:]:
        np.greater(of_class, voted, out=of_class)
        voted |= of_class
    votes += chosen.view(np.uint8)


def _move(mean: Line, value: Line, n: int) -> None:
    value -= mean
    value *= np.float32(1 / n)
    mean += value


def _move_mean(running: Running, n: int, part: slice, p: Flat, work: Flat, line: Line) -> None:
    mean = running.mean[:, part]
    if n == 1:
        mean[:] = p
        return
    np.subtract(p, mean, out=work)
    np.multiply(work, np.float32(1 / n), out=p)
    mean += p
    if running.squares is not None:
        work *= work
        np.add.reduce(work, axis=0, out=line)
        line *= np.float32((n - 1) / n)
        running.squares[part] += line
