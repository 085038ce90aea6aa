"""The loops that move volumes about; compiled: what PyTorch's grid_sample gives of images and masks, with no grid in between.

Row by row: first where each voxel comes from, then what lies there; loops without a branch, so that the processor does several
voxels at once.
"""

from typing import no_type_check

import numpy as np
from numba import njit

NONE, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def sample(images, masks, transforms, outside, moved, labels):
    """Fill ``moved`` from ``images``, (batch, channels, z, y, x) float32, and ``labels`` from ``masks``, (batch, z, y, x).

    Images are read linearly, masks at the nearest voxel. ``transforms`` (batch, 3, 4) say where voxels come from, in
    grid_sample's units; what comes from beyond the border is the border's value, and ``outside`` in the labels.
    """
    batch, channels, depth, height, width = images.shape
    z, y, x = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    corner, nearest = np.empty(width, np.int32), np.empty(width, np.int32)
    for image in range(batch):
        to_z, to_y, to_x = transforms[image, 2], transforms[image, 1], transforms[image, 0]
        mask = masks[image].reshape(-1)
        for k in range(depth):
            for j in range(height):
                of_z, of_y = _centre(k, depth), _centre(j, height)
                _trace(to_z, of_z, of_y, depth, z)
                _trace(to_y, of_z, of_y, height, y)
                _trace(to_x, of_z, of_y, width, x)
                _round((depth, height, width), z, y, x, nearest)
                _pick(mask, nearest, outside, labels[image, k, j])
                _settle((depth, height, width), z, y, x, corner)
                for channel in range(channels):
                    values = images[image, channel].reshape(-1)
                    _mix(values, (depth, height, width), corner, z, y, x, moved[image, channel, k, j])


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _centre(voxel, voxels):
    """Return where the middle of a voxel lies between -1 and 1."""
    return np.float32(2 * voxel + 1) / np.float32(voxels) - ONE


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _trace(to, of_z, of_y, voxels, found):
    """Write where along one axis each voxel of a row comes from; sums in the order in which `positions` takes them."""
    along_x, from_y, from_z, shift, size = to[0], to[1] * of_y, to[2] * of_z, to[3], np.float32(voxels)
    for i in range(found.size):
        found[i] = ((shift + along_x * _centre(i, found.size) + from_y + from_z + ONE) * size - ONE) * HALF


@njit(cache=True, nogil=True)
@no_type_check
def _round(shape, z, y, x, nearest):
    """Write the voxel nearest to each place, -1 where that lies outside."""
    deep, high, wide = np.float32(shape[0]), np.float32(shape[1]), np.float32(shape[2])
    row, plane = np.int32(shape[2]), np.int32(shape[1] * shape[2])
    for i in range(nearest.size):
        a, b, c = np.rint(z[i]), np.rint(y[i]), np.rint(x[i])
        within = (a >= NONE) & (a < deep) & (b >= NONE) & (b < high) & (c >= NONE) & (c < wide)
        nearest[i] = np.int32(a) * plane + np.int32(b) * row + np.int32(c) if within else np.int32(-1)


@njit(cache=True, nogil=True)
@no_type_check
def _pick(mask, nearest, outside, out):
    for i in range(out.size):
        out[i] = outside if nearest[i] < 0 else mask[np.uintp(nearest[i])]


@njit(cache=True, nogil=True)
@no_type_check
def _settle(shape, z, y, x, corner):
    """Write the first of the eight voxels around each place within the border, and turn places into the way from there, 0 to 1."""
    deep, high, wide = np.float32(shape[0] - 1), np.float32(shape[1] - 1), np.float32(shape[2] - 1)
    row, plane = np.int32(shape[2]), np.int32(shape[1] * shape[2])
    for i in range(corner.size):
        a, b, c = min(max(z[i], NONE), deep), min(max(y[i], NONE), high), min(max(x[i], NONE), wide)
        front, above, left = (
            max(np.floor(min(a, deep - ONE)), NONE),
            max(np.floor(min(b, high - ONE)), NONE),
            max(np.floor(min(c, wide - ONE)), NONE),
        )
        corner[i] = np.int32(front) * plane + np.int32(above) * row + np.int32(left)
        z[i], y[i], x[i] = a - front, b - above, c - left


@njit(cache=True, nogil=True)
@no_type_check
def _mix(values, shape, corner, dz, dy, dx, out):
    """Mix the eight voxels around each place, one axis after the other; along an axis of one voxel that is the voxel itself."""
    plane, row = shape[1] * shape[2] if shape[0] > 1 else 0, shape[2] if shape[1] > 1 else 0
    behind, below, right = np.uintp(plane), np.uintp(row), np.uintp(shape[2] > 1)
    for i in range(out.size):
        at = np.uintp(corner[i])
        front = _bilinear(values, at, right, below, dx[i], dy[i])
        out[i] = front + dz[i] * (_bilinear(values, at + behind, right, below, dx[i], dy[i]) - front)


@njit(cache=True, nogil=True)
@no_type_check
def _bilinear(values, at, right, below, dx, dy):
    first = values[at] + dx * (values[at + right] - values[at])
    second = values[at + below] + dx * (values[at + below + right] - values[at + below])
    return first + dy * (second - first)
