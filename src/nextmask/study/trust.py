"""Whether to go on, and whether to believe the segmenter where it says that it is unsure: what is kept of each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nextmask.data.pool import IGNORE
from nextmask.data.preprocess import Placement, resize
from nextmask.selection.measures import dense_measures, grown, mean_over, predicted_foreground
from nextmask.selection.measures.distance import Spacing
from nextmask.selection.measures.reductions import RADIUS
from nextmask.statistics import Interval, area_under_risk_coverage, auroc, gain_of_next, rank_correlation
from nextmask.statistics.gain import PARAMETERS
from nextmask.study.rounds import Round, labeled_after, mean_dice
from nextmask.study.scores import MEASURES_OF_MEMBERS

LITTLE = 0.01
"""A gain in Dice that would hardly matter; the margin of a benchmark unless it sets its own."""

KEPT = ("gain", "ranking", "agreement")
"""What an evaluation's event keeps beside the scores; docs/trust.md explains them."""

Kept = Mapping[str, Any]


def measure_of_one(measure: str) -> str:
    """Name the measure that one prediction has: the study's own, or entropy in place of one that compares members."""
    return "entropy" if measure in MEASURES_OF_MEMBERS else measure


def said_of_case(
    probabilities: np.ndarray,
    prediction: np.ndarray,
    reference: np.ndarray,
    placement: Placement,
    spacings: tuple[Spacing, Spacing],
    measure: str,
) -> dict[str, float | None]:
    """Say how unsure a segmenter is of a case, as strategies see it, and how well its unsure voxels are its errors.

    Args:
        probabilities: (classes, *working) of the case.
        prediction: (*spatial) uint8, the classes made of them on the image's own grid.
        reference: (*spatial) uint8; 255 = not annotated, which is neither right nor wrong.
        placement: of the image on its working grid.
        spacings: millimetres from voxel to voxel on the working grid and on the image's.
        measure: of uncertainty, a name of `DENSE`.

    Returns:
        "uncertainty": the mean over the predicted foreground and 3 mm around it, 0 to 1. "error_auroc": how often a wrong
        voxel is less sure than a right one, among those of the predicted or true foreground and 3 mm around; None where none is
        wrong. Of the whole image it would be near 1 always: nobody doubts that air is background.
    """
    on_working, on_image = spacings
    unsure = dense_measures(probabilities, (measure_of_one(measure),))[measure_of_one(measure)]
    around = predicted_foreground(probabilities, spacing=on_working)
    brought_back = np.zeros(placement.full, np.float32)
    brought_back[placement.box] = resize(unsure, placement.kept)
    annotated = reference != IGNORE
    near = grown((prediction > 0) | ((reference > 0) & annotated), RADIUS, on_image) & annotated
    return {
        "uncertainty": plain(mean_over(unsure, around if around.any() else None)),
        "error_auroc": plain(auroc(brought_back[near], (prediction != reference)[near])),
    }


def ranking(cases: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    """Say whether uncertainty ranks errors, over patients: scans of one patient are no evidence twice.

    ``cases`` have a "patient", the mean "dice" of the classes that are defined (None where none is), and what `said_of_case`
    returns.
    """
    known = [case for case in cases if case["dice"] is not None and case["uncertainty"] is not None]
    unsure, risk = _by_patient(known, "uncertainty"), 1 - _by_patient(known, "dice")
    rank, (area, excess) = rank_correlation(unsure, risk), area_under_risk_coverage(unsure, risk)
    errors = _by_patient([case for case in cases if case["error_auroc"] is not None], "error_auroc")
    return {
        "measure": measure_of_one(measure),
        "patients": len(risk),
        "rank": _bounds(rank),
        "aurc": plain(area),
        "excess_aurc": plain(excess),
        "error_auroc": plain(errors.mean()) if len(errors) else None,
    }


def gain_after(rounds: Sequence[Round], scores: Mapping[str, Any], left: int) -> dict[str, Any]:
    """Predict what as many samples as the last round asked for would buy, or the ``left`` that may still be asked for.

    ``scores`` are those of the last round, which are new. Only rounds with a Dice count; "curve" and "measured" are None
    where they are too few.
    """
    rounds = (*rounds[:-1], replace(rounds[-1], scores=scores))
    scored = {
        n: dice for n, dice in zip(labeled_after(rounds), map(mean_dice, rounds), strict=True) if dice is not None
    }
    scored.pop(0, None)
    samples = min(len(rounds[-1].samples), left)
    found = gain_of_next(list(scored), list(scored.values()), samples) if samples else None
    bounds = {name: _bounds(getattr(found, name)) if found else None for name in ("curve", "measured")}
    return {"samples": samples, "rounds": len(scored), **bounds}


# -- in words ----------------------------------------------------------------------------------------------------------


def in_words(kept: Kept) -> tuple[str, ...]:
    """Say of a round in a few plain lines what more samples would buy, whether uncertainty is to be asked by, what moved.

    Nothing is said of rounds that were evaluated before any of this was kept.
    """
    if "gain" not in kept:
        return ()
    return tuple(
        line for line in (gain_words(kept["gain"]), rank_words(kept["ranking"]), agreement_words(kept)) if line
    )


def gain_words(gain: Kept) -> str:
    """Say what the next samples would buy, or why that cannot be told.

    >>> gain_words({"samples": 20, "rounds": 2, "curve": None})
    'What the next 20 samples would buy cannot be told yet: 2 of 3 rounds are scored that a curve takes.'
    """
    samples, found = f"{gain['samples']} sample{'' if gain['samples'] == 1 else 's'}", gain["curve"]
    if not gain["samples"]:
        return "No sample is left to ask for."
    if found is None:
        return (
            f"What the next {samples} would buy cannot be told yet: {gain['rounds']} of {PARAMETERS} rounds are scored that a "
            "curve takes."
        )
    bounds = f"(95 %: {found['lower']:.3f} to {found['upper']:.3f})"
    said = f"The next {samples} would buy about {found['estimate']:.3f} Dice {bounds}, by the curve of {gain['rounds']} rounds"
    if found["upper"] < LITTLE:
        return f"{said}: less than {LITTLE:g} in all likelihood. Consider stopping."
    return f"{said}: perhaps less than {LITTLE:g}." if found["estimate"] < LITTLE else f"{said}."


def ranks_errors(ranked: Kept) -> bool:
    """Say whether the correlation is above 0 with all of its interval."""
    return ranked["rank"]["estimate"] is not None and ranked["rank"]["lower"] > 0


def rank_words(ranked: Kept) -> str:
    """Say whether uncertainty ranks errors; warn while it does not."""
    found, of = ranked["rank"], f"{ranked['patients']} test patient{'' if ranked['patients'] == 1 else 's'}"
    advice = "ask by typicality or at random"
    if found["estimate"] is None:
        return f"Nothing tells whether uncertainty ranks errors: {of} with a score, or all alike; {advice}."
    numbers = f"(rank correlation {found['estimate']:.2f}, 95 %: {found['lower']:.2f} to {found['upper']:.2f}, {of})"
    if ranks_errors(ranked):
        return f"Uncertainty ranks errors {numbers}."
    if found["upper"] < 0:
        return f"Warning: uncertainty ranks errors the wrong way round {numbers}: {advice}."
    return f"Warning: uncertainty does not rank errors yet {numbers}: {advice}."


def agreement_words(kept: Kept) -> str:
    """Say how far predictions moved since the last round; nothing of the first."""
    found = kept["agreement"]
    return "" if found is None else f"Predictions agree with those of the last round at a Dice of {found:.3f}."


def trust_row(kept: Kept) -> dict[str, str]:
    """Write the numbers of one round for a table: heading -> text."""
    gain, ranked = kept["gain"], kept["ranking"]
    curve = f"{gain['curve']['estimate']:.3f} {_ends(gain['curve'], 3)}" if gain["curve"] else "not known yet"
    known = ranked["rank"]["estimate"] is not None
    rank = f"{ranked['rank']['estimate']:.2f} {_ends(ranked['rank'], 2)}" if known else "not known"
    return {
        "Next samples": str(gain["samples"]),
        "Would buy, Dice": curve,
        "Rank correlation": rank,
        "Excess AURC": _number(ranked["excess_aurc"]),
        "AUROC of voxels": _number(ranked["error_auroc"]),
        "Agreement": _number(kept["agreement"]),
    }


# -- inner parts -------------------------------------------------------------------------------------------------------


def _by_patient(cases: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    of_patient: dict[str, list[float]] = {}
    for case in cases:
        of_patient.setdefault(case["patient"], []).append(case[name])
    return np.array([np.mean(values) for values in of_patient.values()], float)


def _bounds(found: Interval) -> dict[str, float | None]:
    return {name: plain(getattr(found, name)) for name in ("estimate", "lower", "upper")}


def _ends(found: Kept, decimals: int) -> str:
    return f"({found['lower']:.{decimals}f} to {found['upper']:.{decimals}f})"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def plain(value: float | None) -> float | None:
    """Round, and write what is not known as None."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)
