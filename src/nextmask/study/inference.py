"""How a segmenter's word becomes a mask, wherever one is scored, written or corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nextmask.data.components import keep_largest
from nextmask.data.preprocess import Placement, mask_to_image
from nextmask.training.views import mean_of, turned_views


@dataclass(frozen=True)
class Inference:
    """What is asked of a segmenter, and what of its answer is kept.

    ``turned`` are the degrees by which an image is turned for views besides the one as it is; ``whole`` are the mask values
    of which the largest connected component is kept.
    """

    turned: Sequence[float] = ()
    whole: Sequence[int] = ()

    def plain(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        return {"turned": list(self.turned), "whole": list(self.whole)}

    def probabilities(self, segmenter: Any, image: np.ndarray) -> np.ndarray:
        """Return class probabilities (classes, *spatial) float32 of an image (channels, *spatial), the mean over its views."""
        return mean_of(turned_views(segmenter.predict, np.asarray(image, np.float32), self.turned))

    def mask(self, probabilities: np.ndarray, placement: Placement) -> np.ndarray:
        """Turn class probabilities (classes, *working) into a mask (*spatial) uint8 on the image's own grid."""
        return keep_largest(mask_to_image(probabilities, placement), self.whole)

    def predict(self, segmenter: Any, image: np.ndarray, placement: Placement) -> np.ndarray:
        """Return the mask (*spatial) uint8 of an image on the working grid (channels, *working), on the image's own grid."""
        return self.mask(self.probabilities(segmenter, image), placement)


PLAIN = Inference()
"""The image as it is, and all that is predicted of it."""
