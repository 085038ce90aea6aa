"""A study as one HTML file that opens anywhere, offline: curves, rounds, what was asked for, and with what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.data.files import write_text
from nextmask.data.pool import IGNORE
from nextmask.study.figures import (
    Curve,
    classes_in,
    color_of,
    is_scribble,
    learning_curves,
    overlay_png,
    picture_png,
    shorten,
)
from nextmask.study.pool_map import ALONG, PoolMap
from nextmask.study.trust import in_words, trust_row

HERE = Path(__file__).parent
MOST_PICTURES = 60
"""A report shows at most this many pictures, so that it stays a file that one can mail."""

METRICS: Mapping[str, tuple[str, str, int, int]] = {
    "dice": ("Dice", "overlap, 1 is best", 3, 1),
    "hd95": ("HD95 in mm", "95th percentile surface distance, 0 is best", 1, -1),
    "nsd": ("NSD", "normalised surface Dice, 1 is best", 3, 1),
    "assd": ("ASSD in mm", "average surface distance, 0 is best", 2, -1),
}
"""Title, meaning, decimals and direction (1: higher is better) of the metrics that a report knows by name."""


@dataclass(frozen=True)
class RoundRow:
    """One round; ``scores[class][metric]`` is None or absent where it is not defined or not measured.

    ``study`` is empty for the study that the report is about, and the name of any other (a simulation) whose rounds the
    report shows beside it. ``kept`` is what the evaluation says of going on; empty where none was made.
    """

    number: int
    strategy: str
    labeled: int
    stage: str
    scores: Mapping[str, Mapping[str, float | None]]
    study: str = ""
    kept: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A queried sample to look at: (y, x) or (y, x, 3), its mask (y, x) with 255 = not annotated, and a remark.

    ``learned`` is what is concluded from the mask's strokes, (y, x), if anything is.
    """

    sample: str
    round: int
    image: np.ndarray
    mask: np.ndarray | None = None
    note: str = ""
    learned: np.ndarray | None = None


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report states; nothing is computed from the study while it is rendered."""

    title: str
    created: str
    summary: Mapping[str, str]
    curves: tuple[Curve, ...]
    rounds: tuple[RoundRow, ...]
    pictures: tuple[Picture, ...]
    derived: Mapping[str, str]
    versions: Mapping[str, str]
    problems: tuple[str, ...]
    class_names: tuple[str, ...]
    map: PoolMap | None = None


@dataclass(frozen=True)
class _Cell:
    text: str
    share: float | None = None
    best: bool = False


@dataclass(frozen=True)
class _Table:
    """One metric over the rounds: a row of cells per round, with several classes their mean first."""

    title: str
    meaning: str
    columns: tuple[str, ...]
    rows: tuple[tuple[RoundRow, tuple[_Cell, ...]], ...]


@dataclass(frozen=True)
class Shown:
    """A picture as the page embeds it."""

    sample: str
    note: str
    masked: bool
    image: str
    overlay: str | None


@dataclass(frozen=True)
class _Headline:
    value: str
    caption: str
    change: str = ""


def render_report(content: ReportContent, path: Path) -> None:
    """Write ``content`` as one HTML file that loads nothing from anywhere; parents are made, an old file replaced."""
    write_text(path, page_of(HERE / "report.html.jinja", _view(content)))


def page_of(template: Path, view: Mapping[str, object]) -> str:
    """Fill in a template, which may include those beside it and beside this file; all text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shorten"] = shorten
    # File names need not be valid Unicode; a report of them has to be.
    return environment.get_template(template.name).render(view).encode("utf-8", "replace").decode("utf-8")


def _view(content: ReportContent) -> dict[str, object]:
    """Lay the content out for the template, which only places it."""
    pictures = _thin_out(content.pictures, MOST_PICTURES)
    tables = [_table(content, metric) for metric in _metrics(content.rounds)]
    return {
        "content": content,
        "headlines": _headlines(content),
        "chart": learning_curves(content.curves),
        "curves": [(curve, list(zip(curve.labeled, map(_dice, curve.dice), strict=True))) for curve in content.curves],
        "tables": tables or ([_table(content, "dice")] if content.rounds else []),
        "several": len(_runs(content.rounds)) > 1,
        "named": any(row.study for row in content.rounds),
        # Pixels that the narrow tables need, so that the page sets two or three of them side by side only where they fit.
        "room": 44 + sum(max(64, 20 + 8 * min(len(name), 24)) for name in (*content.class_names, "mean")),
        "distances": _distances(content.rounds),
        "trust": [(row, trust_row(row.kept)) for row in content.rounds if row.kept],
        "trusted": next((in_words(row.kept) for row in reversed(content.rounds) if row.kept and not row.study), ()),
        "gallery": [(number, _strategy(content, number), list(map(show, of))) for number, of in _by_round(pictures)],
        "shown": len(pictures),
        "along": ALONG,
        "legend": legend_of(pictures, content.class_names),
    }


def _strategy(content: ReportContent, number: int) -> str:
    """Name the strategy that asked in a round, where all rounds of that number agree on it."""
    names = {row.strategy for row in content.rounds if row.number == number}
    return names.pop() if len(names) == 1 else ""


def _runs(rounds: Sequence[RoundRow]) -> list[list[RoundRow]]:
    """Tell the rounds of several studies apart: by their name, or because the numbers start anew."""
    runs: list[list[RoundRow]] = []
    for row in rounds:
        if not runs or runs[-1][-1].study != row.study or runs[-1][-1].number >= row.number:
            runs.append([])
        runs[-1].append(row)
    return runs


# ------------------------------------------------------------------------------------------------------ numbers


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _dice(value: float | None) -> str:
    return f"{value:.3f}" if value is not None and math.isfinite(value) else "–"


def _metrics(rounds: Sequence[RoundRow]) -> list[str]:
    """List the metrics with at least one value: the known ones in their order, then others by name."""
    found = {m for row in rounds for scores in row.scores.values() for m, value in scores.items() if _known(value)}
    return [name for name in METRICS if name in found] + sorted(found - set(METRICS))


def _scored(row: RoundRow, metric: str, classes: Sequence[str]) -> list[float | None]:
    """Return one round's values: the mean where there are several classes, then one per class."""
    values = [row.scores.get(name, {}).get(metric) for name in classes]
    known = [value for value in values if value is not None and math.isfinite(value)]
    mean = sum(known) / len(known) if known else None
    return ([mean] if len(classes) > 1 else []) + [value if _known(value) else None for value in values]


def _table(content: ReportContent, metric: str) -> _Table:
    title, meaning, decimals, direction = METRICS.get(metric, (metric, "", 3, 0))
    classes = content.class_names
    values = [_scored(row, metric, classes) for row in content.rounds]
    best = [_best(column, direction) for column in zip(*values, strict=True)]
    rows = tuple(
        (row, tuple(_cell(value, top, decimals, metric) for value, top in zip(cells, best, strict=True)))
        for row, cells in zip(content.rounds, values, strict=True)
    )
    return _Table(title, meaning, (*(["mean"] if len(classes) > 1 else []), *classes), rows)


def _best(column: Sequence[float | None], direction: int) -> float | None:
    """Return the best of several rounds; None where there is nothing to compare."""
    known = [value for value in column if value is not None]
    if len(set(known)) < 2 or not direction:
        return None
    return max(known) if direction > 0 else min(known)


def _cell(value: float | None, best: float | None, decimals: int, metric: str) -> _Cell:
    if value is None:
        return _Cell("–")
    share = min(max(value, 0.0), 1.0) if metric == "dice" else None
    return _Cell(f"{value:.{decimals}f}", share, best is not None and value == best)


def _distances(rounds: Sequence[RoundRow]) -> str:
    """Say once why there are no distances in mm, where there are none."""
    found = set(_metrics(rounds))
    if "dice" not in found or found & {"hd95", "nsd", "assd"}:
        return ""
    overlaps = any((scores.get("dice") or 0) > 0 for row in rounds for scores in row.scores.values())
    if overlaps:
        return (
            "HD95, NSD and ASSD are not given: the spacing of the images is unknown, so there are no distances in mm."
        )
    return "HD95, NSD and ASSD are not given: no structure was found, so there is no distance to measure."


def _headlines(content: ReportContent) -> list[_Headline]:
    """State where the study stands; of several other studies only how many there are, since none stands for all."""
    own = [row for row in content.rounds if not row.study]
    runs = _runs(own or content.rounds)
    if len(runs) != 1:
        return [_Headline(str(len(runs)), "studies"), _counted(len(content.rounds), "round")] if runs else []
    rounds = runs[0]
    headlines = [_counted(len(rounds), "round"), _counted(rounds[-1].labeled, "labeled sample")]
    means = [(row.number, _scored(row, "dice", content.class_names)) for row in rounds]
    known = [(number, values[0]) for number, values in means if values and values[0] is not None]
    if known:
        number, value = known[-1]
        assert value is not None
        caption = f"{'mean ' if len(content.class_names) > 1 else ''}Dice after round {number}"
        headlines.append(_Headline(f"{value:.3f}", caption, _change(known)))
    return headlines


def _counted(count: int, noun: str) -> _Headline:
    return _Headline(f"{count:,}", noun if count == 1 else f"{noun}s")


def _change(known: Sequence[tuple[int, float | None]]) -> str:
    if len(known) < 2 or known[-1][1] is None or known[-2][1] is None:
        return ""
    return f"{known[-1][1] - known[-2][1]:+.3f} since round {known[-2][0]}".replace("-", "−", 1)


# ----------------------------------------------------------------------------------------------------- pictures


def _thin_out(pictures: Sequence[Picture], most: int) -> list[Picture]:
    """Keep at most ``most`` pictures, evenly spread, ordered by round."""
    ordered = sorted(pictures, key=lambda picture: picture.round)
    if len(ordered) <= most:
        return ordered
    return [ordered[row] for row in np.linspace(0, len(ordered) - 1, most).round().astype(int)]


def _by_round(pictures: Sequence[Picture]) -> list[tuple[int, list[Picture]]]:
    return [(number, list(of)) for number, of in groupby(pictures, key=lambda picture: picture.round)]


def show(picture: Picture) -> Shown:
    """Draw a picture and its mask as the page embeds them."""
    drawn = picture.mask is not None and bool(np.any(picture.mask))
    overlay = overlay_png(picture.mask, picture.learned) if drawn and picture.mask is not None else None
    return Shown(picture.sample, picture.note, picture.mask is not None, picture_png(picture.image), overlay)


def legend_of(pictures: Sequence[Picture], names: Sequence[str]) -> list[tuple[str, str]]:
    """List colour and meaning of what the masks show: all classes, the extras only where they occur."""
    masks = [picture.mask for picture in pictures if picture.mask is not None]
    if not masks:
        return []
    found = {label for mask in masks for label in classes_in(mask)}
    entries = [(color_of(label), name) for label, name in enumerate(names, start=1)]
    entries += [(color_of(label), f"class {label} (unnamed)") for label in sorted(found) if label > len(names)]
    if any(is_scribble(mask) for mask in masks):
        entries.append(("#ffffff", "background, drawn"))
    concluded = any(picture.learned is not None for picture in pictures)
    if concluded or any((mask == IGNORE).any() and not is_scribble(mask) for mask in masks):
        entries.append(("striped", "not annotated"))
    return entries
