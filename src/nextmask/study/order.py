"""What may follow what: which verb a study is ready for, and what to do first if it is not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any

from nextmask.errors import StudyError
from nextmask.selection import STRATEGIES
from nextmask.selection.types import Strategy
from nextmask.study.rounds import Round


def find_strategy(strategy: str | Strategy, options: Mapping[str, Any]) -> tuple[Strategy, str]:
    """Find a strategy and the name that the ledger knows it by."""
    if not isinstance(strategy, str):
        return (partial(strategy, **options) if options else strategy), getattr(strategy, "__name__", str(strategy))
    if strategy not in STRATEGIES:
        near = difflib.get_close_matches(strategy, STRATEGIES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise StudyError(f"there is no strategy {strategy!r}. Expected one of {', '.join(STRATEGIES)}. {hint}")
    return find_strategy(STRATEGIES[strategy], options)[0], strategy


def same_query(round: Round, asked: Mapping[str, Any]) -> Round:
    if {key: round.details[key] for key in asked} == dict(asked):
        return round
    raise StudyError(
        f"round {round.number} waits for the masks of its {len(round.samples)} samples ({round.strategy}). Expected these "
        "first, because a query depends on the ones before it. Annotate them: nextmask annotate STUDY --from DIR"
    )


def refuse_unfinished(rounds: tuple[Round, ...]) -> None:
    if rounds and rounds[-1].stage == "annotate":
        missing = rounds[-1].missing
        raise StudyError(
            f"round {rounds[-1].number} still waits for {len(missing)} of {len(rounds[-1].samples)} masks, first {missing[0]!r}. "
            "Expected a mask for each. Annotate them, or give them up: nextmask annotate STUDY --drop SAMPLE --because WHY"
        )
    if rounds and rounds[-1].stage == "train":
        raise StudyError(
            f"round {rounds[-1].number} has new masks that no segmenter was trained on. Expected one trained on all masks. "
            "Run `nextmask train` first."
        )


def trainable(rounds: tuple[Round, ...], partial: bool) -> Round:
    if not rounds or not any(round.masks for round in rounds):
        raise StudyError(
            "there are no masks yet. Expected annotated samples. Run `nextmask query` and `nextmask annotate` first."
        )
    if rounds[-1].missing and not partial:
        refuse_unfinished(rounds)
    return rounds[-1]
