"""What a reader's strokes say of the voxels around and between them, where a study wants that concluded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nextmask.data.far_background import with_far_background
from nextmask.data.grown_strokes import with_grown_strokes

FAR, GROWN = 1, 1
"""Parts of every key of what was concluded; raised when the same settings would conclude something else."""


@dataclass(frozen=True)
class Conclusions:
    """What is concluded from strokes.

    ``far``: the far side of a slice is background (`with_far_background`). ``grown``: mask values whose strokes grow, each with how
    sure a random walk must be (`with_grown_strokes`).
    """

    far: bool = False
    grown: tuple[tuple[int, float], ...] = ()

    def __bool__(self) -> bool:
        return self.far or bool(self.grown)

    def key(self) -> dict[str, Any]:
        """Return what decides the outcome, for the keys of what is made of it."""
        return {"far": self.far and FAR} | ({"grown": [GROWN, *map(list, self.grown)]} if self.grown else {})

    def plain(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        return {"far": self.far, "grown": [list(each) for each in self.grown]}

    def drawn_from(
        self, mask: np.ndarray, spacing: Sequence[float] | None, image: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Add to strokes, ([z, ]y, x) uint8 with 255 = not annotated, what follows from them; ``image`` opens theirs."""
        if self.far:
            mask = with_far_background(mask, spacing)
        return with_grown_strokes(mask, image(), dict(self.grown)) if self.grown else mask


AS_DRAWN = Conclusions()
"""What was drawn, and nothing else."""
