"""The loops of normalisation and activation, forward and back; compiled.

Tensors come as (batch, runs, lanes): channels lie last, and a run holds as many voxels side by side as fill the processor's
registers, so that lane l is of channel l % channels. Numbers of 16 bits, for which NumPy has no bfloat16, come as their bits.
All is computed in float32, and summed run by run within blocks and block by block in float64: in an order that is always the same.
"""

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

EPSILON = 1e-5
"""Added to the variance, as PyTorch does."""

BLOCK = 512
"""Runs summed in float32 before float64 takes over."""


@intrinsic
@no_type_check
def _as_float(_typing, _bits):
    return types.float32(types.uint32), lambda _context, builder, _signature, found: builder.bitcast(
        found[0], ir.FloatType()
    )


@intrinsic
@no_type_check
def _as_bits(_typing, _value):
    return types.uint32(types.float32), lambda _context, builder, _signature, found: builder.bitcast(
        found[0], ir.IntType(32)
    )


def _load(values: Any, image: int, run: int, lane: int) -> Any:
    """Read one number as float32."""


def _store(values: Any, image: int, run: int, lane: int, number: Any) -> None:
    """Write one number; to 16 bits it is rounded to the nearest, of two to the even one, as PyTorch does."""


@overload(_load, inline="always")
@no_type_check
def _load_by_type(values, image, run, lane):
    if values.dtype == types.uint16:
        return lambda values, image, run, lane: _as_float(np.uint32(values[image, run, lane]) << np.uint32(16))
    return lambda values, image, run, lane: values[image, run, lane]


@overload(_store, inline="always")
@no_type_check
def _store_by_type(values, image, run, lane, number):
    if values.dtype == types.uint16:

        def store(values, image, run, lane, number):
            bits = _as_bits(number)
            half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            values[image, run, lane] = np.uint16((bits + half) >> np.uint32(16))

        return store

    def store_single(values, image, run, lane, number):
        values[image, run, lane] = number

    return store_single


@njit(cache=True, nogil=True)
@no_type_check
def _fold(sums, channels):
    """Add up the lanes of each channel, and give every lane its channel's sum."""
    for lane in range(channels, sums.size):
        sums[lane % channels] += sums[lane]
    for lane in range(channels, sums.size):
        sums[lane] = sums[lane % channels]


@njit(cache=True, nogil=True)
@no_type_check
def _add(totals, sums):
    for lane in range(sums.size):
        totals[lane] += sums[lane]
        sums[lane] = 0


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
@no_type_check
def forward(values, slope, channels, out, scale, shift):
    """Normalise and activate: out = leaky(values * scale + shift), both (batch, lanes)."""
    images, runs, lanes = values.shape
    single = np.float32(0)
    origin = np.empty(lanes, np.float32)
    sums, squares = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    for image in range(images):
        # Measured from a value of the channel itself: squares of large numbers that hardly differ would cancel out.
        for lane in range(lanes):
            origin[lane] = _load(values, image, 0, lane % channels)
        total, total_of_squares = np.zeros(lanes), np.zeros(lanes)
        for start in range(0, runs, BLOCK):
            for run in range(start, min(start + BLOCK, runs)):
                for lane in range(lanes):
                    number = _load(values, image, run, lane) - origin[lane]
                    sums[lane] += number
                    squares[lane] += number * number
            _add(total, sums)
            _add(total_of_squares, squares)
        _fold(total, channels)
        _fold(total_of_squares, channels)
        count = runs * lanes / channels
        for lane in range(lanes):
            mean = total[lane] / count
            variance = max(total_of_squares[lane] / count - mean * mean, 0.0)
            scale[image, lane] = 1 / np.sqrt(variance + EPSILON)
            shift[image, lane] = -(origin[lane] + mean) * scale[image, lane]
        times, plus = scale[image], shift[image]
        for run in range(runs):
            for lane in range(lanes):
                number = _load(values, image, run, lane) * times[lane] + plus[lane]
                active = number if number > single else number * slope
                _store(out, image, run, lane, active)


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
@no_type_check
def backward(values, gradient, slope, channels, scale, shift, below, of_slope):
    """Give the gradients by ``values``, into ``below``, and by the slope, a number per image."""
    images, runs, lanes = values.shape
    single = np.float32(0)
    sums, products, negatives = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    for image in range(images):
        times, plus = scale[image], shift[image]
        total, along, by_slope = np.zeros(lanes), np.zeros(lanes), np.zeros(lanes)
        for start in range(0, runs, BLOCK):
            for run in range(start, min(start + BLOCK, runs)):
                for lane in range(lanes):
                    number = _load(values, image, run, lane) * times[lane] + plus[lane]
                    above = _load(gradient, image, run, lane)
                    through = above if number > single else above * slope
                    sums[lane] += through
                    products[lane] += through * number
                    negatives[lane] += above * min(number, single)
            _add(total, sums)
            _add(along, products)
            _add(by_slope, negatives)
        _fold(total, channels)
        _fold(along, channels)
        of_slope[image] = by_slope.sum()
        count = runs * lanes / channels
        for lane in range(lanes):
            sums[lane] = total[lane] / count
            products[lane] = along[lane] / count
        for run in range(runs):
            for lane in range(lanes):
                number = _load(values, image, run, lane) * times[lane] + plus[lane]
                above = _load(gradient, image, run, lane)
                through = above if number > single else above * slope
                _store(below, image, run, lane, (through - sums[lane] - number * products[lane]) * times[lane])
        sums[:] = 0
        products[:] = 0
