"""FG-Eff of a benchmark's arms: how fast their Dice rises with the share of the pool's foreground that was annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nextmask.benchmark.arm_curves import ArmCurves
from nextmask.errors import StudyError
from nextmask.statistics import foreground_efficiency

AXIS = "foreground_voxels"


@dataclass(frozen=True)
class Efficiency:
    """FG-Eff by arm, and the Dice that curves rise to; ``why`` says why none is given, where there is none."""

    gamma: Mapping[str, float] = field(default_factory=dict)
    full: float | None = None
    given: bool = False
    why: str = ""


def efficiency_of(
    arms: Sequence[ArmCurves], *, samples: int | None, foreground: int | None, full: float | None = None
) -> Efficiency:
    """Fit FG-Eff of every arm that has two points or more.

    Args:
        arms: their curves.
        samples: how many samples the pool has; None where that is not known any more.
        foreground: voxels of foreground in all masks of the pool.
        full: the Dice of a network trained as long on all labels; that of the arms that had labeled the whole pool, if
            not given.
    """
    asymptote = full if full is not None else _of_all_labels(arms, samples)
    if not foreground:
        return Efficiency(
            why="How much foreground the pool holds is not known: the study's files are gone, or hold no mask."
        )
    if asymptote is None:
        return Efficiency(
            why="It needs the Dice of a network trained as long on all labels. Write it into the file as full_score, or add an "
            "arm with a budget of the whole pool."
        )
    curves = {arm.name: arm for arm in arms if len(arm.samples) > 1 and arm.dice.size}
    try:
        gamma = foreground_efficiency(
            {name: (arm.spent[AXIS] / foreground, arm.dice.mean(axis=2)) for name, arm in curves.items()}, asymptote
        )
    except StudyError as error:
        return Efficiency(full=asymptote, given=full is not None, why=str(error))
    return Efficiency(gamma, asymptote, full is not None)


def _of_all_labels(arms: Sequence[ArmCurves], samples: int | None) -> float | None:
    """Return the mean Dice of all runs that had asked for the whole pool; None where none had."""
    ends = [arm.dice[:, -1] for arm in arms if arm.dice.size and samples and arm.samples[-1] >= samples]
    return float(np.mean([end.mean() for end in ends])) if ends else None
