"""What simulated studies show of strategies, and how surely: plain arrays in, frozen results out.

No file is read here and nothing is drawn but from the generator that is handed in. docs/statistics.md says what each
figure means, and when not to trust it.
"""

from nextmask.statistics.bootstrap import Difference, Interval, interval_of_difference, interval_of_mean
from nextmask.statistics.comparison import Comparison, Decision, Row, compare, decide, letters_of
from nextmask.statistics.curves import area_under_budget_curve, common_range, spent_to_target
from nextmask.statistics.efficiency import foreground_efficiency
from nextmask.statistics.gain import Gain, gain_of_next
from nextmask.statistics.paired import Scores, holm, pair, paired_t_test
from nextmask.statistics.penalty import PenaltyMatrix, penalty_matrix
from nextmask.statistics.power import (
    Plan,
    count_comparisons,
    plan,
    power_of_paired_test,
    seeds_needed,
    smallest_effect,
)
from nextmask.statistics.ranking import area_under_risk_coverage, auroc, rank_correlation
from nextmask.statistics.targets import Saving, Target, saving, summarise_target

__all__ = [
    "Comparison",
    "Decision",
    "Difference",
    "Gain",
    "Interval",
    "PenaltyMatrix",
    "Plan",
    "Row",
    "Saving",
    "Scores",
    "Target",
    "area_under_budget_curve",
    "area_under_risk_coverage",
    "auroc",
    "common_range",
    "compare",
    "count_comparisons",
    "decide",
    "foreground_efficiency",
    "gain_of_next",
    "holm",
    "interval_of_difference",
    "interval_of_mean",
    "letters_of",
    "pair",
    "paired_t_test",
    "penalty_matrix",
    "plan",
    "power_of_paired_test",
    "rank_correlation",
    "saving",
    "seeds_needed",
    "smallest_effect",
    "spent_to_target",
    "summarise_target",
]
