"""Rounds follow from events; their stage is never stored."""

from __future__ import annotations

from nextmask.study.ledger import Event
from nextmask.study.rounds import Round, fold


def events(*items: tuple[str, dict]) -> list[Event]:
    return [Event(i, "", "", kind, payload, "", "") for i, (kind, payload) in enumerate(items)]


QUERIED = ("queried", {"round": 1, "strategy": "random", "samples": ["a", "b"]})
MASK_A = ("annotated", {"round": 1, "sample": "a", "path": "masks/a", "sha256": "1"})
MASK_B = ("annotated", {"round": 1, "sample": "b", "path": "masks/b", "sha256": "2"})
TRAINED = ("trained", {"round": 1, "path": "s.pt", "sha256": "3"})
EVALUATED = ("evaluated", {"round": 1, "scores": {"lv": {"dice": 0.5}}})


def latest(*items: tuple[str, dict]) -> Round:
    return fold(events(("created", {}), *items))[-1]


def test_each_event_moves_the_stage_on():
    history = [QUERIED, MASK_A, MASK_B, TRAINED, EVALUATED]
    stages = [latest(*history[:n]).stage for n in range(1, 6)]
    assert stages == ["annotate", "annotate", "train", "evaluate", "done"]


def test_a_dropped_sample_is_no_longer_waited_for():
    round = latest(QUERIED, MASK_A, ("dropped", {"round": 1, "sample": "b", "reason": "motion"}))
    assert round.stage == "train"
    assert round.dropped == {"b": "motion"}


def test_a_mask_drawn_after_all_replaces_the_reason():
    round = latest(QUERIED, MASK_A, ("dropped", {"round": 1, "sample": "b", "reason": "motion"}), MASK_B)
    assert (round.dropped, set(round.masks)) == ({}, {"a", "b"})


def test_a_corrected_mask_outdates_the_latest_segmenter():
    second = ("queried", {"round": 2, "strategy": "random", "samples": ["c"]})
    done = [QUERIED, MASK_A, MASK_B, TRAINED, EVALUATED, second]
    done += [(kind, {**payload, "round": 2, "sample": "c"}) for kind, payload in (MASK_A, TRAINED, EVALUATED)]
    corrected = fold(events(*done, ("annotated", {**MASK_A[1], "sha256": "9"})))
    assert [round.stage for round in corrected] == ["done", "train"]
    assert corrected[0].masks["a"].sha256 == "9"


def test_training_again_forgets_the_old_scores():
    assert latest(QUERIED, MASK_A, MASK_B, TRAINED, EVALUATED, MASK_B, TRAINED).scores is None
