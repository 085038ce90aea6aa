"""Whether to go on and whether to ask by uncertainty: what is kept of a round, and what is said of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nextmask.data.preprocess import Placement
from nextmask.selection.measures import image_uncertainty
from nextmask.study.rounds import Round
from nextmask.study.simulate import simulate
from nextmask.study.summary import summary, write_report
from nextmask.study.trust import gain_after, gain_words, in_words, rank_words, ranking, said_of_case

PLACEMENT = Placement((1, 20, 20), (0, 2, 0), (1, 18, 20), (1, 16, 20))
"""An image of which two rows were cropped away above and below; nothing was resampled."""


def prediction(unsure_at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A square of class 1 in the middle, sure but where told otherwise: probabilities, and classes on the image."""
    found = np.zeros((1, 16, 20), bool)
    found[:, 4:12, 6:14] = True
    of_one = np.where(found, 0.99, 0.01)
    of_one[unsure_at] = np.where(found, 0.6, 0.4)[unsure_at]
    classes = np.zeros(PLACEMENT.full, np.uint8)
    classes[PLACEMENT.box] = found
    return np.stack([1 - of_one, of_one]).astype(np.float32), classes


def rim() -> np.ndarray:
    at = np.zeros((1, 16, 20), bool)
    at[:, 4, 6:14] = True
    return at


def said(unsure_at: np.ndarray, wrong_at: np.ndarray, **changes):
    probabilities, classes = prediction(unsure_at)
    reference = classes.copy()
    reference[PLACEMENT.box][wrong_at] ^= 1
    given = {"placement": PLACEMENT, "spacings": (None, None), "measure": "entropy", **changes}
    return said_of_case(probabilities, classes, reference, **given), probabilities


def test_the_uncertainty_is_the_one_that_strategies_read():
    found, probabilities = said(rim(), rim())
    assert found["uncertainty"] == pytest.approx(image_uncertainty(probabilities), abs=1e-6)


def test_errors_where_the_segmenter_doubts_are_found_and_others_are_not():
    assert said(rim(), rim())[0]["error_auroc"] == 1.0
    assert said(rim(), np.roll(rim(), 5, axis=1))[0]["error_auroc"] < 0.5


def test_without_an_error_there_is_nothing_to_rank():
    assert said(rim(), np.zeros_like(rim()))[0]["error_auroc"] is None


def test_what_nobody_annotated_is_neither_right_nor_wrong():
    probabilities, classes = prediction(rim())
    reference = np.full_like(classes, 255)
    assert said_of_case(probabilities, classes, reference, PLACEMENT, (None, None), "entropy")["error_auroc"] is None


def test_a_measure_that_compares_members_gives_way_to_entropy():
    same = [said(rim(), rim(), measure=name)[0] for name in ("entropy", "mutual_information")]
    assert same[0] == same[1]
    assert said(rim(), rim(), measure="margin")[0]["uncertainty"] != same[0]["uncertainty"]


def case(patient: int, dice: float | None, uncertainty: float | None):
    return {"patient": f"p{patient}", "dice": dice, "uncertainty": uncertainty, "error_auroc": 0.7}


def test_scans_of_one_patient_are_no_evidence_twice():
    one = [case(p, 0.9 - p / 10, p / 10) for p in range(5)]
    found = ranking(one + one, "entropy")
    assert found == ranking(one, "entropy")
    assert found["patients"] == 5
    assert found["rank"]["estimate"] == pytest.approx(1.0)
    assert found["excess_aurc"] == pytest.approx(0.0)
    assert found["error_auroc"] == pytest.approx(0.7)


def test_a_case_in_which_no_class_is_defined_is_left_out():
    assert ranking([case(p, None if p == 4 else p / 10, p / 10) for p in range(5)], "entropy")["patients"] == 4
    assert ranking([case(p, p / 10, None if p == 4 else p / 10) for p in range(5)], "entropy")["patients"] == 4


def test_no_scored_case_is_told_as_such():
    found = ranking([], "entropy")
    assert (found["patients"], found["rank"]["estimate"], found["aurc"]) == (0, None, None)
    assert "Nothing tells whether uncertainty ranks errors" in rank_words(found)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (1, "Uncertainty ranks errors (rank correlation 1.00"),
        (-1, "Warning: uncertainty ranks errors the wrong way round"),
    ],
)
def test_an_order_is_told_with_its_interval(order, said):
    words = rank_words(ranking([case(p, 0.9 - order * p / 20, p / 20) for p in range(8)], "entropy"))
    assert words.startswith(said)
    assert "8 test patients" in words


def test_a_warning_says_what_to_do_while_uncertainty_does_not_rank_errors():
    risks = [0.5, 0.1, 0.4, 0.2, 0.6, 0.3]
    words = rank_words(ranking([case(p, 1 - risk, p / 10) for p, risk in enumerate(risks)], "entropy"))
    assert words.startswith("Warning: uncertainty does not rank errors yet (rank correlation 0.")
    assert words.endswith("ask by typicality or at random.")


def rounds_of(*dice: float | None) -> list[Round]:
    """Rounds of ten samples, the last one without scores yet."""
    rows = [(number, {"a": {"dice": each}}) for number, each in enumerate(dice, start=1)]
    made = [
        Round(
            n, "random", tuple(f"s{n}-{i}" for i in range(10)), masks=dict.fromkeys(map(str, range(10))), scores=scores
        )
        for n, scores in rows
    ]
    return [*made[:-1], Round(**{**vars(made[-1]), "scores": None})]


def after(*dice: float | None, left: int = 100):
    return gain_after(rounds_of(*dice), {"a": {"dice": dice[-1]}}, left)


def test_the_gain_is_that_of_as_many_samples_as_were_asked_for_or_are_left():
    assert after(0.6, 0.7, 0.75)["samples"] == 10
    few = after(0.6, 0.7, 0.75, left=4)
    assert few["samples"] == 4
    assert few["curve"]["estimate"] < after(0.6, 0.7, 0.75)["curve"]["estimate"]
    assert gain_words(after(0.6, 0.7, 0.75, left=0)) == "No sample is left to ask for."


def test_two_rounds_tell_nothing_and_say_so():
    found = after(0.6, 0.7)
    assert found["curve"] is found["measured"] is None
    assert gain_words(found).startswith("What the next 10 samples would buy cannot be told yet: 2 of 3 rounds")


def test_rounds_without_a_dice_do_not_count():
    assert after(0.6, None, 0.75)["rounds"] == 2


def test_a_curve_that_has_ended_says_to_stop_and_one_that_rises_does_not():
    ended = gain_words(after(*[0.8] * 8))
    rising = gain_words(after(0.3, 0.5, 0.6, 0.66, 0.7))
    assert "Consider stopping." in ended
    assert rising.startswith("The next 10 samples would buy about 0.0")
    assert "stop" not in rising
    assert "less than" not in rising


@pytest.fixture
def played(home):
    return simulate(home, strategy="random", query_size=3, rounds=3, seed=0)


def test_every_round_keeps_it_in_the_ledger_and_says_it_everywhere(played):
    first, second, third = (round.evaluation for round in played.rounds)
    assert first["agreement"] is None
    assert all(0 <= each["agreement"] <= 1 for each in (second, third) if each["agreement"] is not None)
    assert [each["gain"]["curve"] is None for each in (first, second, third)] == [True, True, False]
    assert third["ranking"]["patients"] == 1
    assert len(in_words(first)) == 2
    json.dumps(summary(played)["rounds"][2]["trust"], allow_nan=False)
    page = write_report(played).read_text(encoding="utf-8")
    assert "Stopping and trust" in page
    assert in_words(third)[0] in page


def test_a_round_that_was_evaluated_before_any_of_this_was_kept_says_nothing():
    assert in_words({"scores": {}}) == ()
