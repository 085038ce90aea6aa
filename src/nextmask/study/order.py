"""What may follow what: which verb a study is ready for, and what to do first if it is not."""

from __future__ import annotations

from nextmask.errors import StudyError
from nextmask.study.request import Request
from nextmask.study.rounds import Round


def same_query(round: Round, request: Request) -> Round:
    """Return the round that waits for its masks, if it is what is asked for again."""
    if request.is_that_of(round.details):
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
