"""Each preset does what its paper says, by a hand-computed example, and what went wrong elsewhere does not here."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import chisquare

from nextmask.errors import SelectionError
from nextmask.selection import (
    STRATEGIES,
    ceal,
    ceal_pseudo_labels,
    clasp_pe,
    most_uncertain,
    needs,
    power_bald,
    power_entropy,
    select,
    stochastic_batches_entropy,
    stratified_by_class,
)
from nextmask.selection.schedules import exponential

PRESETS = ("power_entropy", "power_bald", "clasp_pe", "stochastic_batches_entropy", "ceal")


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _cold(samples: int) -> np.ndarray:
    return np.zeros(samples, dtype=bool)


def _top(keys: np.ndarray, rows: np.ndarray) -> list[int]:
    return rows[np.argsort(-keys, kind="stable")].tolist()


# -- power noise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [power_entropy, power_bald])
def test_power_adds_gumbel_noise_to_the_log_of_the_score(strategy) -> None:
    scores, labeled = _rng(1).random(30), _rng(2).random(30) < 0.3
    unlabeled = np.flatnonzero(~labeled)
    for beta in (1, 5, 40):
        keys = np.log(scores[unlabeled]) + _rng(9).gumbel(size=len(unlabeled)) / beta
        rows = strategy(scores, labeled, 8, rng=_rng(9), beta=beta).rows
        assert rows.tolist() == _top(keys, unlabeled)[:8]


def test_power_entropy_by_hand() -> None:
    # The first draws of this seed are 1.19, 1.04, -0.52 and 2.34, a quarter of which is added to the logs:
    # -0.69 + 0.30, -0.92 + 0.26, -1.20 - 0.13, -1.61 + 0.58, that is -0.39, -0.66, -1.33, -1.02.
    np.testing.assert_allclose(_rng(2).gumbel(size=4), [1.19, 1.04, -0.52, 2.34], atol=0.005)
    uncertainty = np.array([0.5, 0.4, 0.3, 0.2])
    assert partial(power_entropy, beta=4)(uncertainty, _cold(4), 4, rng=_rng(2)).rows.tolist() == [0, 1, 3, 2]


def test_power_spreads_over_near_copies_that_the_top_would_be_filled_with() -> None:
    # Forty slices of one patient are the least certain by a hair; 360 others are nearly as uncertain.
    uncertainty = np.concatenate([np.full(40, 0.60), np.full(360, 0.55)])
    assert most_uncertain(uncertainty, _cold(400), 40, rng=_rng()).rows.max() < 40
    shares = [(power_entropy(uncertainty, _cold(400), 40, rng=_rng(seed)).rows < 40).mean() for seed in range(40)]
    assert np.mean(shares) == pytest.approx(0.108, abs=0.03)


def test_power_without_noise_is_the_top_and_beta_may_be_a_schedule() -> None:
    scores = _rng(1).random(50)
    labeled = np.arange(50) < 10
    best = most_uncertain(scores, labeled, 9, rng=_rng()).rows.tolist()
    assert power_entropy(scores, labeled, 9, rng=_rng(), beta=np.inf).rows.tolist() == best
    late = exponential(1, 10, until=0.2)
    assert (
        power_bald(scores, labeled, 9, rng=_rng(), beta=late).rows.tolist()
        == power_bald(scores, labeled, 9, rng=_rng(), beta=10).rows.tolist()
    )


def test_power_bald_takes_rounded_negatives_last_and_never_by_nan() -> None:
    rounded = np.array([-1e-7, 0.3, 0, 0.2, -2e-8, 0.1])
    for seed in range(20):
        rows = power_bald(rounded, _cold(6), 4, rng=_rng(seed)).rows
        assert set(rows[:3].tolist()) == {1, 3, 5}


def test_power_says_rank_and_score() -> None:
    query = power_entropy(np.array([0.2, 0.4, 0.3]), np.array([False, True, False]), 1, rng=_rng(), beta=np.inf)
    assert query.reasons == ("drawn by chance, the likelier the higher the uncertainty is (0.3, rank 1 of 2)",)


# -- classes -----------------------------------------------------------------------------------------------------------

CLASSES = np.array(
    [[0.9, 0.0], [0.8, 0.1], [0.7, 0.2], [0.1, 0.3], [0.0, 0.0], [0.0, 0.0], [0.6, 0.0], [0.0, 0.0], [0.5, 0.9]]
)
GLOBAL = np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.6, 0.65, 0.1, 0.95])


def test_classes_by_hand() -> None:
    # Six samples: floor(3.96) = 3 for two classes, two for the one that is drawn first; then three of the global list.
    outcomes = set()
    for seed in range(20):
        query = stratified_by_class(CLASSES, GLOBAL, _cold(9), 6, _rng(seed))
        outcomes.add(tuple(query.rows.tolist()))
        assert query.numbers["of_class"].tolist() in ([1, 2, 1, 0, 0, 0], [2, 1, 2, 0, 0, 0])
    # Class 1 first: 0 (0.9), then class 2: 8 (0.9), then class 1: 1 (0.8); the other way round 8, 0, 3.
    assert outcomes == {(0, 8, 1, 2, 6, 5), (8, 0, 3, 1, 2, 6)}


def test_clasp_pe_by_hand() -> None:
    rows = clasp_pe(GLOBAL, CLASSES, CLASSES, _cold(9), 6, rng=_rng(0), beta=np.inf).rows.tolist()
    assert rows == stratified_by_class(CLASSES, GLOBAL, _cold(9), 6, _rng(0)).rows.tolist()
    query = clasp_pe(GLOBAL, CLASSES, CLASSES, np.isin(np.arange(9), [0, 8]), 3, rng=_rng(), beta=np.inf)
    # floor(1.98) = 1 for a class drawn at random: 1 for class 1 or 3 for class 2; then 1, 2, 6 of the global list.
    assert query.rows.tolist() in ([1, 2, 6], [3, 1, 2])


def test_clasp_pe_draws_at_random_for_a_class_that_is_never_predicted_however_uncertain() -> None:
    never = np.where([True, False], CLASSES, 0)
    query = clasp_pe(GLOBAL, CLASSES, never, _cold(9), 4, rng=_rng(), share=1.0)
    reasons = " ".join(query.reasons)
    assert "class 2, which the segmenter predicts nowhere" in reasons
    assert "class 1, which" not in reasons


def test_clasp_pe_adds_noise_to_every_list() -> None:
    rng = _rng(5)
    by_class, overall = rng.random((60, 3)), rng.random(60)
    labeled = rng.random(60) < 0.25
    unlabeled = np.flatnonzero(~labeled)
    beta = 100 ** min(labeled.mean() / 0.2, 1)
    noise = _rng(3)
    lists = [
        _top(np.log(scores[unlabeled]) + noise.gumbel(size=len(unlabeled)) / beta, unlabeled)
        for scores in (*by_class.T, overall)
    ]
    order = noise.permutation(3).tolist()
    taken: list[int] = []
    for turn in [order[place % 3] for place in range(int(0.66 * 17))] + [3] * (17 - int(0.66 * 17)):
        taken.append(next(row for row in lists[turn] if row not in taken))
    assert clasp_pe(overall, by_class, by_class, labeled, 17, rng=_rng(3)).rows.tolist() == taken


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 7])
def test_every_class_has_its_quota_whatever_the_remainder(classes: int) -> None:
    # Published code splits the remainder by classes + 1: 15 samples for 3 classes become 18.
    scores = _rng(1).random((150, classes)) + 0.1
    for n in range(1, 40):
        numbers = stratified_by_class(scores, scores.mean(axis=1), _cold(150), n, _rng(n)).numbers["of_class"]
        counts = np.bincount(numbers.astype(int), minlength=classes + 1)
        assert counts[0] == n - int(0.66 * n + 1e-9)
        assert counts[1:].max() - counts[1:].min() <= 1


def test_the_remainder_goes_to_classes_at_random() -> None:
    scores = _rng(1).random((60, 3)) + 0.1
    seen = [
        stratified_by_class(scores, scores[:, 0], _cold(60), 2, _rng(seed)).numbers["of_class"][0]
        for seed in range(150)
    ]
    assert chisquare(np.bincount(np.array(seen, dtype=int), minlength=4)[1:]).pvalue > 0.001


def test_a_class_that_is_never_predicted_is_asked_for_at_random() -> None:
    scores = np.concatenate([_rng(1).random((40, 1)) + 0.1, np.full((40, 1), 1e-9)], axis=1)
    drawn = []
    for seed in range(200):
        query = stratified_by_class(scores, scores[:, 0], _cold(40), 10, _rng(seed))
        unseen = query.numbers["of_class"] == 2
        assert unseen.sum() == 3
        drawn.extend(query.rows[unseen].tolist())
    reason = query.reasons[int(np.argmax(unseen))]
    assert reason == "for class 2, which the segmenter predicts nowhere: drawn at random from 40 samples"
    # Those at the top of class 1 may have been taken before; the others are equally likely.
    counts = np.bincount(drawn, minlength=40)[np.argsort(-scores[:, 0])[10:]]
    assert chisquare(counts).pvalue > 0.001


def test_a_class_that_only_labeled_samples_show_is_not_unseen() -> None:
    scores = np.zeros((20, 2))
    scores[:, 0] = np.linspace(0.1, 1, 20)
    scores[0, 1] = 0.5
    query = stratified_by_class(scores, scores[:, 0], np.arange(20) < 1, 10, _rng())
    # Nothing is left of class 2: its three places go to the list of all samples.
    assert query.numbers["of_class"].tolist().count(2) == 0
    assert sorted(query.rows.tolist()) == list(range(10, 20))


def test_a_class_with_too_few_candidates_takes_what_it_has() -> None:
    # Published code ends in a failed assertion here.
    scores = np.zeros((30, 2))
    scores[:, 0] = np.linspace(0.1, 1, 30)
    scores[4, 1] = 0.2
    query = stratified_by_class(scores, scores[:, 0], _cold(30), 12, _rng())
    counts = np.bincount(query.numbers["of_class"].astype(int), minlength=3)
    assert counts.tolist() in ([7, 4, 1], [8, 3, 1])
    assert 4 in query.rows
    assert len(query) == 12


def test_rounds_beyond_the_schedule_go_on() -> None:
    # Published code has a list of one beta a round, and an index error after the last.
    scores = _rng(1).random((40, 2))
    for known in (0, 8, 20, 38):
        query = clasp_pe(scores[:, 0], scores, scores, np.arange(40) < known, 2, rng=_rng())
        assert f"(beta {min(100, 10 ** (2 * known / 8)):.3g})" in query.reasons[-1]


def test_class_shares_between_nothing_and_everything() -> None:
    none = stratified_by_class(CLASSES, GLOBAL, _cold(9), 4, _rng(), share=0)
    assert none.rows.tolist() == [8, 0, 1, 2]
    whole = stratified_by_class(CLASSES, GLOBAL, _cold(9), 4, _rng(), share=1)
    assert sorted(whole.numbers["of_class"].tolist()) == [1, 1, 2, 2]
    with pytest.raises(SelectionError, match=r"share is 1\.5"):
        clasp_pe(GLOBAL, CLASSES, CLASSES, _cold(9), 4, rng=_rng(), share=1.5)


# -- stochastic batches ------------------------------------------------------------------------------------------------


def test_stochastic_batches_by_hand() -> None:
    uncertainty = np.array([0.1, 0.9, 0.3, 0.5, 0.7, 0.2, 0.8])
    labeled = np.isin(np.arange(7), [1])
    shuffled = _rng(4).permutation([0, 2, 3, 4, 5, 6])
    pairs = shuffled.reshape(3, 2)
    best = max(pairs.tolist(), key=lambda pair: uncertainty[pair].mean())
    query = stochastic_batches_entropy(uncertainty, labeled, 2, rng=_rng(4))
    assert query.rows.tolist() == sorted(best, key=lambda row: -uncertainty[row])
    assert query.numbers["batches"].tolist() == [3, 3]
    assert query.numbers["batch_mean"][0] == pytest.approx(uncertainty[best].mean())


def test_stochastic_batches_beat_random_and_are_less_greedy_than_the_top() -> None:
    uncertainty = _rng(1).random(400)
    means = [
        uncertainty[stochastic_batches_entropy(uncertainty, _cold(400), 10, rng=_rng(s)).rows].mean() for s in range(30)
    ]
    assert min(means) > uncertainty.mean()
    assert max(means) < np.sort(uncertainty)[-10:].mean()


def test_samples_left_over_have_their_chance_in_another_round() -> None:
    # Seven samples in batches of three: one is left over each time, and it is not always the same.
    drawn = [stochastic_batches_entropy(np.ones(7), _cold(7), 3, rng=_rng(seed)).rows for seed in range(700)]
    assert chisquare(np.bincount(np.concatenate(drawn), minlength=7)).pvalue > 0.001


# -- CEAL --------------------------------------------------------------------------------------------------------------


def _lesions(samples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Variances, and shares of foreground; in the last 15 samples nothing is detected, and little is doubted."""
    variance, share = _rng(1).permutation(samples) / samples + 0.1, np.full(samples, 0.2)
    variance[-15:], share[-15:] = np.linspace(0.01, 0.02, 15), 0
    return variance, share


def test_ceal_by_hand() -> None:
    variance = np.array([0.5, 0.1, 0.9, 0.2, 0.3, 0.8, 0.4, 0.05, 0.6, 0.7])
    share = np.array([0.1, 0, 0.1, 0.1, 0, 0.1, 0.1, 0.1, 0.1, 0.1])
    # Of 7 samples 2, 2 and 3: undetected 1 and 4; most uncertain 2 and 5; three of those above 0.5, and of these 8 and 9
    # are left, so that one more comes from 0, 3, 6, 7. (The median of 0.05, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9 is 0.5.)
    for seed in range(10):
        rows = ceal(variance, share, _cold(10), 7, rng=_rng(seed)).rows.tolist()
        assert rows[:4] == [1, 4, 2, 5]
        assert sorted(rows[4:6]) == [8, 9]
        assert rows[6] in (0, 3, 6, 7)


def test_ceal_groups_have_their_counts_and_do_not_overlap() -> None:
    variance, share = _lesions()
    query = ceal(variance, share, _cold(200), 35, rng=_rng())
    rows = query.rows
    assert len(set(rows.tolist())) == 35
    assert (share[rows[:10]] == 0).all()
    assert rows[10:20].tolist() == np.argsort(-variance)[:10].tolist()
    detected = np.sort(variance[share > 0])
    assert (variance[rows[20:]] > detected[len(detected) // 2 - 1]).all()
    assert all("nothing was detected" in reason for reason in query.reasons[:10])
    assert all("drawn at random" in reason for reason in query.reasons[20:])


def test_the_most_uncertain_sample_of_all_is_asked_for() -> None:
    # In half-open bins the maximum falls out of the last one.
    variance, share = _lesions()
    variance[7] = 5.0
    for seed in range(5):
        assert ceal(variance, share, _cold(200), 4, rng=_rng(seed)).rows[1] == 7


def test_groups_follow_the_largest_remainder() -> None:
    variance, share = _lesions()
    for n, expected in {
        1: (0, 0, 1),
        2: (1, 0, 1),
        3: (1, 1, 1),
        7: (2, 2, 3),
        12: (4, 3, 5),
        70: (15, 20, 30),
    }.items():
        reasons = ceal(variance, share, _cold(200), n, rng=_rng()).reasons
        found = [sum(word in reason for reason in reasons) for word in ("nothing was", "most uncertain", "at random")]
        assert tuple(found) == expected
    only = ceal(variance, share, _cold(200), 6, rng=_rng(), undetected=0, random=0, uncertain=1).rows
    assert only.tolist() == np.argsort(-variance)[:6].tolist()


def test_without_enough_undetected_samples_the_least_doubted_follow() -> None:
    variance, share = _lesions()
    query = ceal(variance, np.where(np.arange(200) == 199, share, 0.2), _cold(200), 7, rng=_rng())
    assert query.rows[:2].tolist() == [199, 185]
    assert "hardly doubted" in query.reasons[1]


def test_a_constant_pool_still_gives_everything() -> None:
    # 0 / 0 in the distance map of an empty mask makes the published histogram fail.
    for share in (np.zeros(9), np.full(9, 0.3)):
        assert sorted(ceal(np.zeros(9), share, _cold(9), 9, rng=_rng()).rows.tolist()) == list(range(9))


def test_random_group_is_uniform() -> None:
    variance, share = np.arange(20) / 20, np.full(20, 0.1)
    drawn = np.concatenate([ceal(variance, share, _cold(20), 3, rng=_rng(seed)).rows[2:] for seed in range(400)])
    counts = np.bincount(drawn, minlength=20)
    assert counts[:10].sum() == counts[19] == 0
    assert chisquare(counts[10:19]).pvalue > 0.001


def test_pseudo_labels_are_certain_and_detected_and_not_of_the_query() -> None:
    variance, share = _lesions()
    labeled = np.arange(200) < 20
    query = ceal(variance, share, labeled, 20, rng=_rng())
    asked = labeled.copy()
    asked[query.rows] = True
    rows = ceal_pseudo_labels(variance, share, asked, 40, _rng())
    assert len(set(rows.tolist())) == 40
    assert not asked[rows].any()
    assert (share[rows] > 0).all()
    detected = np.sort(variance[~asked & (share > 0)])
    assert (variance[rows] <= detected[(len(detected) - 1) // 2]).all()
    assert rows.tolist() == ceal_pseudo_labels(variance, share, asked, 40, _rng()).tolist()


def test_pseudo_labels_are_fewer_where_there_are_fewer() -> None:
    variance, share = np.arange(6) / 6, np.array([0, 0, 0.1, 0.1, 0.1, 0.1])
    assert sorted(ceal_pseudo_labels(variance, share, _cold(6), 50, _rng()).tolist()) == [2, 3]
    assert len(ceal_pseudo_labels(variance, np.zeros(6), _cold(6), 50, _rng())) == 0


@pytest.mark.parametrize("parts", [(0, 0, 0), (-1, 2, 3), (float("nan"), 1, 1)])
def test_refuses_parts_that_are_none(parts: tuple[float, float, float]) -> None:
    with pytest.raises(SelectionError, match="The parts of the query are"):
        ceal(np.ones(5), np.ones(5), _cold(5), 2, rng=_rng(), undetected=parts[0], uncertain=parts[1], random=parts[2])


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_randomness_comes_from_the_generator_that_is_handed_in(name: str) -> None:
    # Published code draws from a generator that is made, unseeded, when the module is imported; or from a global one.
    scores = _rng(1).random((80, 3))
    pool = {
        "uncertainty": scores[:, 0],
        "mutual_information": scores[:, 0],
        "class_uncertainty": scores,
        "class_share": scores,
        "contour_variance": scores[:, 1],
        "foreground_share": np.maximum(scores[:, 2] - 0.2, 0),
    }
    evidence = {name: lambda array=array: array for name, array in pool.items()}

    def ask(seed: int) -> list[int]:
        return select(STRATEGIES[name], evidence, _cold(80), 12, rng=_rng(seed)).rows.tolist()

    np.random.seed(1)  # noqa: NPY002
    once = ask(0)
    np.random.seed(2)  # noqa: NPY002
    assert once == ask(0)
    assert len({tuple(ask(seed)) for seed in range(5)}) == 5


def test_presets_name_their_evidence() -> None:
    assert {name: needs(STRATEGIES[name]) for name in PRESETS} == {
        "power_entropy": ("uncertainty",),
        "power_bald": ("mutual_information",),
        "clasp_pe": ("uncertainty", "class_uncertainty", "class_share"),
        "stochastic_batches_entropy": ("uncertainty",),
        "ceal": ("contour_variance", "foreground_share"),
    }


@pytest.mark.parametrize("name", PRESETS)
def test_docstrings_say_source_and_adaptation(name: str) -> None:
    text = STRATEGIES[name].__doc__ or ""
    assert all(f"\n    {label} " in text for label in ("Source:", "Faithful:", "Adapted:", "Use:", "Cost:"))
