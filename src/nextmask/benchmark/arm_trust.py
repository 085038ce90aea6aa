"""How far what rounds said of stopping and trust came true in a benchmark: predictions are held against what came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nextmask.benchmark.arm_curves import Played, by_arm
from nextmask.benchmark.results import MEAN, summary_rows
from nextmask.statistics import Gain, gain_of_next
from nextmask.study.trust import ranks_errors

COLUMNS = (
    "unit", "arm", "seed", "training_seed", "round", "samples", "dice",
    "rank", "rank_lower", "rank_upper", "patients", "aurc", "excess_aurc", "error_auroc", "agreement",
    "next_samples", "gain", "gain_lower", "gain_upper", "measured_lower", "measured_upper", "came",
)  # fmt: skip
"""Of trust.csv, a row a unit and round; "came" is what the next round scored more, the other gains what was predicted of it."""


@dataclass(frozen=True)
class Ranked:
    """One round of an arm: mean rank correlation over its units, and in how many of them uncertainty ranked errors."""

    round: int
    rank: float | None
    ranks: int
    units: int


@dataclass(frozen=True)
class ArmTrust:
    """What came of an arm's predictions, and of stopping once the next samples would buy less than the margin.

    Of ``predicted`` gains ``held`` lay in their interval. Of ``units`` that had a round to spare after the first prediction,
    ``stopped`` would have stopped before their end; ``saved`` is the mean share of samples that this saves and ``lost`` the mean
    Dice that it costs, over all of them, ``most_lost`` the most that it costs any.
    """

    arm: str
    predicted: int
    held: int
    units: int
    stopped: int
    saved: float | None
    lost: float | None
    most_lost: float | None
    rounds: tuple[Ranked, ...]


def trust_of(played: Sequence[Played], margin: float) -> tuple[ArmTrust, ...]:
    """Judge every arm of one study; ``margin`` is the largest difference in Dice that would not matter."""
    return tuple(
        _of_arm(arm, [list(trust_rows(unit)) for unit in units], margin) for arm, units in by_arm(played).items()
    )


def trust_rows(played: Played) -> Iterator[dict[str, Any]]:
    """Yield a row for each round of a unit, see `COLUMNS`; None where something is not known.

    The gain is predicted anew from the rounds up to then, of as many samples as the next round asked for.
    """
    unit, key, done = played
    dice = [row["dice"] for row in summary_rows(*played) if row["class"] == MEAN]
    samples = [round["samples"] for round in done["rounds"]]
    for at, round in enumerate(done["rounds"]):
        own = {"unit": key, "arm": unit.arm, "seed": unit.seed, "training_seed": unit.training_seed}
        scored = {"round": round["round"], "samples": samples[at], "dice": dice[at]}
        yield {**own, **scored, **_ranking(round.get("trust") or {}), **_gain(samples[: at + 2], dice[: at + 2], at)}


def _ranking(kept: Mapping[str, Any]) -> dict[str, Any]:
    ranked = kept.get("ranking") or {}
    rank = ranked.get("rank") or {}
    return {
        "rank": rank.get("estimate"),
        "rank_lower": rank.get("lower"),
        "rank_upper": rank.get("upper"),
        **{name: ranked.get(name) for name in ("patients", "aurc", "excess_aurc", "error_auroc")},
        "agreement": kept.get("agreement"),
        "ranks_errors": bool(ranked) and ranks_errors(ranked),
    }


def _gain(samples: Sequence[int], dice: Sequence[float | None], at: int) -> dict[str, Any]:
    """Predict round ``at + 1`` from those before it; there is nothing to say of what no round came after."""
    if len(samples) < at + 2:
        return {}
    known = [(n, each) for n, each in zip(samples[:-1], dice[:-1], strict=True) if each is not None]
    more, last, then = samples[-1] - samples[-2], dice[-2], dice[-1]
    came = None if last is None or then is None else round(then - last, 6)
    found = None if last is None or more < 1 else _predicted(tuple(known), more)
    if found is None:
        return {"next_samples": more, "came": came}
    return {
        "next_samples": more,
        "gain": round(found.curve.estimate, 6),
        "gain_lower": round(found.curve.lower, 6),
        "gain_upper": round(found.curve.upper, 6),
        "measured_lower": round(found.measured.lower, 6),
        "measured_upper": round(found.measured.upper, 6),
        "came": came,
    }


@lru_cache(maxsize=4096)  # units share first rounds, and a report asks twice
def _predicted(known: tuple[tuple[int, float], ...], more: int) -> Gain | None:
    labeled = dict(known)  # a round whose samples were all given up asks for none more
    return gain_of_next(list(labeled), list(labeled.values()), more)


def _of_arm(arm: str, units: Sequence[Sequence[Mapping[str, Any]]], margin: float) -> ArmTrust:
    told = [row for rows in units for row in rows if row.get("gain") is not None and row["came"] is not None]
    stops = [stop for rows in units if (stop := _stop(rows, margin)) is not None]
    return ArmTrust(
        arm,
        predicted=len(told),
        held=sum(row["measured_lower"] <= row["came"] <= row["measured_upper"] for row in told),
        units=len(stops),
        stopped=sum(saved > 0 for saved, _ in stops),
        saved=float(np.mean([saved for saved, _ in stops])) if stops else None,
        lost=float(np.mean([lost for _, lost in stops])) if stops else None,
        most_lost=max((lost for _, lost in stops), default=None),
        rounds=tuple(_ranked(units)),
    )


def _stop(rows: Sequence[Mapping[str, Any]], margin: float) -> tuple[float, float] | None:
    """Return the share of samples and the Dice between where the rule stops a unit and its end; None if it never could."""
    told = [row for row in rows if row.get("gain") is not None]
    if not told or rows[-1]["dice"] is None:
        return None
    stop = next((row for row in told if row["gain"] < margin), rows[-1])
    return 1 - stop["samples"] / rows[-1]["samples"], rows[-1]["dice"] - stop["dice"]


def _ranked(units: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[Ranked]:
    for number in sorted({row["round"] for rows in units for row in rows}):
        here = [row for rows in units for row in rows if row["round"] == number and row["patients"] is not None]
        known = [row["rank"] for row in here if row["rank"] is not None]
        rank = float(np.mean(known)) if known else None
        yield Ranked(number, rank, sum(row["ranks_errors"] for row in here), len(here))
