"""Proxy masks: a coarse foreground told from the intensities of an image as it was acquired, where nobody has drawn yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nextmask.errors import DataError

WINDOWS = {
    "hu-generic": (100.0, 150.0),
    "hu-liver": (80.0, 160.0),
    "hu-spleen": (80.0, 160.0),
    "hu-pancreas": (60.0, 130.0),
}
"""Hounsfield units of an organ in a contrast-enhanced CT; generic: those of Nath et al. 2022."""
NAMES = ("otsu-bright", "otsu-dark", *WINDOWS, "hu:LOW:HIGH")

PERCENTILES = (1.0, 99.0)
"""Intensities beyond these are clipped before Otsu's threshold is sought: a few bright voxels would draw it to them."""
BINS = 256
ENOUGH = 2_000_000
"""Voxels that percentiles are taken of."""


@dataclass(frozen=True)
class Proxy:
    """What is foreground: a ``window`` of Hounsfield units, or else what is ``bright`` or dark by Otsu's threshold."""

    window: tuple[float, float] | None = None
    bright: bool = True

    @property
    def name(self) -> str:
        """Name the rule by what it does: the same name, the same masks."""
        if self.window is None:
            return "otsu-bright" if self.bright else "otsu-dark"
        return f"hu:{self.window[0]:g}:{self.window[1]:g}"


def parse_proxy(name: str) -> Proxy:
    """Read a rule as a study names it; raise DataError if there is none of that name.

    >>> parse_proxy("hu-liver")
    Proxy(window=(80.0, 160.0), bright=True)
    >>> parse_proxy("hu:100:150").name
    'hu:100:150'
    """
    if name in ("otsu-bright", "otsu-dark"):
        return Proxy(bright=name == "otsu-bright")
    window = WINDOWS.get(name) or _window(name)
    if window is None or not -np.inf < window[0] < window[1] < np.inf:
        raise DataError(
            f"{name!r} is no rule for proxy masks. Expected one of {', '.join(NAMES)}, with LOW below HIGH in Hounsfield "
            "units. Write for example hu:100:150."
        )
    return Proxy(window)


def _window(name: str) -> tuple[float, float] | None:
    kind, *numbers = name.split(":")
    try:
        low, high = map(float, numbers)
    except ValueError:
        return None
    return (low, high) if kind == "hu" else None


def proxy_mask(image: np.ndarray, proxy: Proxy) -> np.ndarray:
    """Tell foreground (1) from background (0) in an image as acquired, (channels, *spatial); (*spatial) uint8.

    A window is taken of the first channel, in Hounsfield units, before any normalisation. Otsu's threshold is taken of the
    mean of all channels, each scaled from its own 1st to 99th percentile. Of an image that does not vary, nothing is
    foreground.

    Source: the proxy masks of Nath et al., "Warm start active learning with proxy labels and selection via semi-supervised
    fine-tuning", MICCAI 2022, https://arxiv.org/abs/2209.06285, and of Liu et al., "COLosSAL", MICCAI 2023,
    https://arxiv.org/abs/2307.12004. Otsu, IEEE Trans. SMC 1979, https://doi.org/10.1109/TSMC.1979.4310076.
    """
    if proxy.window is not None:
        low, high = proxy.window
        return ((image[0] >= low) & (image[0] <= high)).astype(np.uint8)
    levels = np.mean([_scaled(channel) for channel in image], axis=0)
    threshold = otsu(levels)
    if threshold is None:
        return np.zeros(levels.shape, np.uint8)
    return ((levels > threshold) == proxy.bright).astype(np.uint8)


def otsu(levels: np.ndarray) -> float | None:
    """Find the threshold, 0 to 1, between the two groups of levels that differ most; None where all are equal."""
    counts, edges = np.histogram(levels, bins=BINS, range=(0.0, 1.0))
    below = np.cumsum(counts)[:-1].astype(np.float64)
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    both = below * (levels.size - below)
    # Between-group variance, but for a factor that is the same for every threshold.
    gap = sums[-1] * below - sums[:-1] * levels.size
    between = np.divide(gap**2, both, out=np.zeros_like(both), where=both > 0)
    if not between.any():
        return None
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))  # all thresholds in an empty stretch are equally good
    return float(edges[1:-1][best].mean())


def _scaled(channel: np.ndarray) -> np.ndarray:
    """Scale a channel from its 1st to its 99th percentile to 0..1; 0 where it does not vary."""
    values = channel.astype(np.float32)
    sample = values.ravel()[:: max(1, values.size // ENOUGH)]
    low, high = np.percentile(sample, PERCENTILES)
    if high <= low:  # nearly constant, for example a few bright voxels on zeros
        low, high = values.min(), values.max()
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)
