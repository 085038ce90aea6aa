"""What a benchmark shows, in sentences that claim no more than its statistics do."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nextmask.benchmark.arm_curves import ArmCurves
from nextmask.benchmark.arm_numbers import Numbers, Reaching
from nextmask.statistics import Interval, Row, Saving, Target, count_comparisons, plan

ROUGH = 5
"""With fewer seeds than this, a spread over seeds is a rough guess."""


def signed(value: float) -> str:
    """Write a difference in Dice.

    >>> signed(0.0312), signed(-0.0312)
    ('+0.031', '−0.031')
    """
    return f"{value:+.3f}".replace("-", "−")


def bounds(interval: Interval, *, difference: bool = False) -> str:
    """Write the ends of an interval, or that there are none."""
    if not math.isfinite(interval.lower) or not math.isfinite(interval.upper):
        return "interval not known"
    write = signed if difference else "{:.3f}".format
    return f"{write(interval.lower)} to {write(interval.upper)}"


def amount(value: float) -> str:
    """Write what was spent; infinite is never.

    >>> amount(41.26), amount(12345.6), amount(float("inf"))
    ('41.3', '12,346', 'not reached')
    """
    if math.isinf(value):
        return "not reached"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def rate(gamma: float) -> str:
    """Write an FG-Eff.

    >>> rate(4.1234), rate(-0.51), rate(1234.5), rate(float("inf"))
    ('4.12', '−0.51', '1,234', 'at once')
    """
    if math.isinf(gamma):
        return "at once"
    return (f"{gamma:,.0f}" if abs(gamma) >= 100 else f"{gamma:.2f}").replace("-", "−")


def answer(numbers: Numbers | None, arms: Sequence[ArmCurves]) -> str:
    """Say what the comparison with the baseline shows, in one or two sentences."""
    if numbers is None:
        return "Nothing can be said yet: no unit with a scored test patient is done."
    if len(arms) == 1:
        return f"{arms[0].name} was played alone: there is nothing to compare it with."
    first = numbers.measures[0]
    if first.table is None:
        return f"Nothing can be compared: {first.why}"
    others = [row for row in first.table.rows if row.decision is not None]
    if not others:
        return f"No arm shares a seed with {numbers.baseline} yet: there is nothing to compare."
    if not any(math.isfinite(_difference(row).upper) for row in others):
        return (
            f"Nothing can be told apart: with one seed in common, or one test patient, no difference from "
            f"{numbers.baseline}, however large, can be shown."
        )
    where = "on average along the curve" if first.name != "last" else first.title.removeprefix("Dice ")
    return _verdicts(others, numbers.baseline, first.table.margin, where)


def _verdicts(rows: Sequence[Row], baseline: str, margin: float, where: str) -> str:
    """List what each decision holds of; what p alone sets apart is not said to matter, nor the rest to be alike."""
    found = {kind: [row for row in rows if _kind(row) == kind] for kind in dict.fromkeys(map(_kind, rows))}
    if set(found) == {"undecided"}:
        none = _none_of([row.strategy for row in rows])
        return f"{none} be told apart from {baseline} here. That does not show that they are alike."
    measured = {
        "better": f"Better than {baseline}, in Dice {where}",
        "worse": f"Worse than {baseline}, in Dice {where}",
    }
    named = {
        "equivalent": f"Equivalent to {baseline}, within {margin:g} Dice",
        "ahead": f"Ahead of {baseline}, but perhaps by less than {margin:g} Dice",
        "behind": f"Behind {baseline}, but perhaps by less than {margin:g} Dice",
        "undecided": f"Cannot be told apart from {baseline}",
    }
    said = [
        f"{words}: {_listed([f'{r.strategy} ({_by(r)})' for r in found[k]], 2)}."
        for k, words in measured.items()
        if k in found
    ]
    said += [f"{words}: {_listed([r.strategy for r in found[k]], 4)}." for k, words in named.items() if k in found]
    return " ".join(said)


def _kind(row: Row) -> str:
    """Tell, of what is undecided, whether p sets it apart from the baseline."""
    if row.decision != "undecided" or row.p is None or row.p > 1 - _difference(row).confidence:
        return str(row.decision)
    return "ahead" if _difference(row).estimate > 0 else "behind"


def _none_of(names: Sequence[str]) -> str:
    return f"{names[0]} cannot" if len(names) == 1 else f"None of {_listed(names, 4)} can"


def _listed(names: Sequence[str], most: int) -> str:
    """Join names, at most so many of them.

    >>> _listed(["a", "b", "c", "d"], 2), _listed(["a", "b", "c"], 2)
    ('a, b and 2 more', 'a, b, c')
    """
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def _difference(row: Row) -> Interval:
    assert row.difference is not None
    return row.difference.interval


def _by(row: Row) -> str:
    found = _difference(row)
    low, high = sorted((abs(found.lower), abs(found.upper)))
    return f"by {abs(found.estimate):.3f}, {low:.3f} to {high:.3f}"


def what_shown(numbers: Numbers | None, arms: int, seeds: int) -> str:
    """Say what so many seeds can show at all when ``arms`` are compared with their baseline."""
    if arms < 2 or seeds < 1:
        return ""
    spread = None if numbers is None else numbers.spread
    planned = plan(seeds, count_comparisons(arms, with_one=True), sd=spread or None)
    if not spread:
        return planned.sentence
    rough = ", from so few seeds a rough guess" if seeds < ROUGH else ""
    return f"{planned.sentence} One SD was {spread:.3f} Dice here{rough}."


def cost_of_random(numbers: Numbers | None, arms: Sequence[ArmCurves]) -> str:
    """Say what plain random would have cost until the target, and the best other arm beside it."""
    if numbers is None:
        return ""
    own = next(arm for arm in arms if arm.name == numbers.baseline)
    if "random" not in own.strategy:
        return "No arm asked at random, so that nothing here says what plain random would have cost."
    base = {each.axis: each for each in numbers.reaching if each.arm == own.name}
    said = [f"To reach a Dice of {numbers.target:.3f}{_whence(numbers)}, {own.name} took {_took(base)}"]
    best = _best(numbers)
    if best is not None:
        found = {each.axis: each for each in numbers.reaching if each.arm == best}
        said.append(
            f"{best}, the highest of the others on average, took {_took(found)}{_saved(found['samples'], numbers)}"
        )
    return "; ".join(said) + "."


def _whence(numbers: Numbers) -> str:
    return "" if numbers.target_given else f" (95 % of what {numbers.baseline} ended with)"


def _best(numbers: Numbers) -> str | None:
    table = numbers.measures[0].table
    return None if table is None else next((r.strategy for r in table.rows if r.strategy != numbers.baseline), None)


def _took(found: dict[str, Reaching]) -> str:
    target = found["samples"].target
    if target is None:
        return "an amount that cannot be said"
    if math.isinf(target.median):
        return f"more than it had: {target.reached} of {_seeds(target.seeds)} reached it"
    texts = [f"{amount(target.median)} samples"]
    minutes = found["minutes"].target
    if minutes is not None and math.isfinite(minutes.median):
        texts.append(f"{amount(minutes.median)} minutes")
    at_once = ", or less," if target.at_once else ""
    over = f"in the median of {target.seeds} seeds" if target.seeds > 1 else "with its one seed"
    return f"{' or '.join(texts)}{at_once} {over}"


def _saved(found: Reaching, numbers: Numbers) -> str:
    if found.saving is None or not math.isfinite(found.saving.low):
        return ""
    return f" ({saving_words(found, numbers)}; {saved_bounds(found.saving)})"


def saving_words(found: Reaching, numbers: Numbers) -> str:
    """Write what an arm saves; where a first budget was enough, only a bound is known of it, or nothing."""
    base = next(each for each in numbers.reaching if (each.arm, each.axis) == (numbers.baseline, found.axis))
    if found.saving is None or found.target is None or base.target is None:
        return "not known: no seed in common"
    if base.target.at_once:
        return f"not known: {numbers.baseline} began at the target"
    return f"{saved(found.saving)}{' or better' if found.target.at_once else ''}"


def saved(found: Saving) -> str:
    """Write the share that is saved, or what is known of it."""
    if math.isinf(found.low) and found.high >= 1:
        return "not known"
    if math.isinf(found.low):
        return f"{'at most' if found.high >= 0 else 'at least'} {_share(found.high)}"
    if found.low == found.high:
        return _share(found.low)
    return f"{_share(found.low)} to {_share(found.high)}"


def saved_bounds(found: Saving) -> str:
    """Write the bounds of the share that is saved, or why there are none."""
    if math.isinf(found.lower) and found.upper >= 1:
        return f"no {100 * found.confidence:g} % bounds: too few seeds"
    low = "unbounded" if math.isinf(found.lower) else _share(found.lower)
    return f"{100 * found.confidence:g} % bounds {low} to {_share(found.upper)}"


def _share(share: float) -> str:
    """Write a share of what the baseline spends.

    >>> _share(0.35), _share(-0.35)
    ('35 % less', '35 % more')
    """
    return f"{100 * abs(share):.0f} % {'more' if share < 0 else 'less'}"


def target_words(found: Target | None) -> str:
    """Write what was spent until the target, with bounds, and how many seeds arrived."""
    if found is None:
        return "cannot be said"
    ends = "" if math.isinf(found.upper) else f" ({amount(found.lower)} to {amount(found.upper)})"
    less = " or less" if found.at_once and math.isfinite(found.median) else ""
    return f"{amount(found.median)}{less}{ends}; {found.reached} of {_seeds(found.seeds)}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"
