"""How often 95 % intervals over seeds and patients hold the truth: ours, and the plain bootstrap of both.

    python benchmarks/interval_coverage.py [DATA_SETS]

Writes interval_coverage.md beside itself; about a minute of one core for 600.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nextmask.statistics import interval_of_mean

SEEDS, PATIENTS, DRAWS = (2, 3, 5, 10), (10, 40), 1000
MODELS = {
    "seeds alone differ": (1.0, 0.0, 0.0),
    "patients differ most": (1.0, 3.0, 1.0),
    "noise of single scores": (0.0, 0.0, 1.0),
    "all three, noise most": (0.3, 1.0, 3.0),
    "patients skewed as Dice": (0.03, 0.09, 0.02),
}
"""SD of what a seed adds to all its scores, a patient to all of theirs, and of the rest."""

Interval = Callable[[np.ndarray, np.random.Generator], tuple[float, float]]


def ours(scores: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    found = interval_of_mean(scores, rng=rng, draws=DRAWS)
    return found.lower, found.upper


def plain(scores: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Draw seeds and patients with replacement, and take percentiles of the means."""
    seeds, patients = (rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n for n in scores.shape)
    lower, upper = np.quantile(((seeds @ scores) * patients).sum(1), [0.025, 0.975])
    return float(lower), float(upper)


def drawn(model: str, seeds: int, patients: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (seeds, patients) scores whose true mean is 0."""
    of_seed, of_patient, noise = MODELS[model]
    easy = rng.beta(8, 1.5, (1, patients)) - 8 / 9.5 if "skewed" in model else rng.normal(0, of_patient, (1, patients))
    # Not quite nothing: a bootstrap of equal scores has no width.
    rest = rng.normal(0, max(noise, 1e-6), (seeds, patients))
    return rng.normal(0, of_seed, (seeds, 1)) + easy + rest


def coverage(interval: Interval, model: str, seeds: int, patients: int, data_sets: int) -> float:
    rng = np.random.default_rng([seeds, patients, list(MODELS).index(model)])
    bounds = [interval(drawn(model, seeds, patients, rng), rng) for _ in range(data_sets)]
    return sum(lower <= 0 <= upper for lower, upper in bounds) / data_sets


def main(data_sets: int = 1000) -> None:
    error = 100 * np.sqrt(0.95 * 0.05 / data_sets)
    lines = [
        "# How often 95 % intervals hold the truth",
        "",
        f"Made by `python benchmarks/interval_coverage.py {data_sets}`: {data_sets} data sets a row, {DRAWS} draws each. Per cent,",
        f"standard error {error:.1f}. Plain is the percentile bootstrap of seeds and patients.",
        "",
        "| scores | patients | seeds | ours | plain |",
        "| --- | --- | --- | --- | --- |",
    ]
    for model in MODELS:
        for patients in PATIENTS:
            for seeds in SEEDS:
                shares = [100 * coverage(each, model, seeds, patients, data_sets) for each in (ours, plain)]
                lines.append(f"| {model} | {patients} | {seeds} | {shares[0]:.1f} | {shares[1]:.1f} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
