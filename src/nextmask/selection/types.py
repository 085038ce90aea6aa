"""The shapes that strategies see, and the closed list of evidence that they may ask for."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Embeddings = Float[np.ndarray, "samples dims"]
Uncertainty = Float[np.ndarray, " samples"]
Position = Float[np.ndarray, " samples"]
Patient = Int[np.ndarray, " samples"]
Labeled = Bool[np.ndarray, " samples"]
Query = Int[np.ndarray, "{n}"]
"""The answer of a strategy: ``n`` rows, in the order of preference."""

Strategy = Callable[..., np.ndarray]
"""A function ``(evidence..., labeled, n, *, rng, **options) -> Query``."""


@dataclass(frozen=True)
class Evidence:
    """What one kind of evidence is: its meaning, its axes and its kind of number."""

    meaning: str
    axes: tuple[str, ...] = ("samples",)
    kind: type = np.floating


EVIDENCE = {
    "embeddings": Evidence("where the sample lies in the encoder's space", axes=("samples", "dims")),
    "uncertainty": Evidence("how unsure the segmenter is; higher is less sure, always"),
    "patient": Evidence("which patient the sample is of", kind=np.integer),
    "volume": Evidence("which case the sample is of", kind=np.integer),
    "position": Evidence("the sample's relative place along the slice axis, 0 to 1"),
}
"""All that a strategy may name as a parameter; what no strategy names is never computed."""
