"""The losses say what their papers say, in the obvious three lines; and batches hold the mates they promise."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from tests.features.pools import pool

from nextmask.features.contrastive import group_loss, group_loss_as_coded, groupings, nt_xent, view
from nextmask.features.group_batches import group_batches
from nextmask.features.unlabeled import Batch, Unlabeled


def similarity(slices=6, seed=0):
    projected = torch.randn(2 * slices, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    projected = projected / projected.norm(dim=1, keepdim=True)
    return projected @ projected.T / 0.5


def same(numbers):
    numbers = torch.tensor(numbers * 2)
    return numbers[:, None] == numbers


def naive_nt_xent(s):
    n = len(s)
    each = [-torch.log(s[i, (i + n // 2) % n].exp() / sum(s[i, k].exp() for k in range(n) if k != i)) for i in range(n)]
    return sum(each) / n


def naive_group_loss(s, group, patient):
    """Equations 4 and 5, pair by pair."""
    group, patient = group * 2, patient * 2
    pairs = []
    for i in range(len(s)):
        for j in range(len(s)):
            if j != i and group[j] == group[i]:
                among = [k for k in range(len(s)) if k != i and (group[k] == group[i] or patient[k] != patient[i])]
                pairs.append(-torch.log(s[i, j].exp() / sum(s[i, k].exp() for k in among)))
    return sum(pairs) / len(pairs)


def naive_as_coded(s, group):
    group, terms = group * 2, []
    for i in range(len(s)):
        outside = sum(s[i, k].exp() for k in range(len(s)) if group[k] != group[i])
        terms += [-torch.log(s[i, j].exp() / (s[i, j].exp() + outside)) for j in range(len(s)) if j != i]
    return sum(terms) / len(terms)


def test_nt_xent_is_the_published_loss():
    assert torch.isclose(nt_xent(similarity()), naive_nt_xent(similarity()))


GROUP, PATIENT = [0, 0, 1, 2, 3, 3], [0, 0, 0, 1, 2, 2]


def test_the_group_loss_is_the_published_one():
    got = group_loss(similarity(), same(GROUP), same(PATIENT))
    assert torch.isclose(got, naive_group_loss(similarity(), GROUP, PATIENT))


def test_one_group_per_slice_is_nt_xent():
    alone = list(range(6))
    assert torch.isclose(group_loss(similarity(), same(alone), same(alone)), nt_xent(similarity()))


def test_swapping_group_ids_changes_the_loss():
    swapped = [0, 1, 0, 2, 3, 3]
    ours = group_loss(similarity(), same(GROUP), same(PATIENT))
    assert not torch.isclose(ours, group_loss(similarity(), same(swapped), same(PATIENT)))


def test_patient_and_volume_differ():
    by_patient = group_loss(similarity(), same(PATIENT), same(PATIENT))
    assert not torch.isclose(by_patient, group_loss(similarity(), same(GROUP), same(PATIENT)))


def test_other_slices_of_the_patient_are_not_pushed_away():
    """Views 0 and 2 are of one patient but of two groups: how alike they are does not matter."""
    s = similarity()
    changed = s.clone()
    for i, j in ((0, 2), (0, 8), (6, 2), (6, 8)):
        changed[i, j] = changed[j, i] = 1.9
    assert torch.isclose(group_loss(s, same(GROUP), same(PATIENT)), group_loss(changed, same(GROUP), same(PATIENT)))
    assert not torch.isclose(nt_xent(s), nt_xent(changed))


def test_as_coded_is_what_the_authors_code_computes():
    got = group_loss_as_coded(similarity(), same(GROUP))
    assert torch.isclose(got, naive_as_coded(similarity(), GROUP))
    assert not torch.isclose(got, group_loss(similarity(), same(GROUP), same(PATIENT)))


def test_as_coded_of_one_group_is_nothing_rather_than_not_a_number():
    assert group_loss_as_coded(similarity(), same([0] * 6)) == 0


def test_groupings_of_views():
    numbers = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 2]), torch.tensor([1, 3, 1, 2])
    found = groupings(Batch(torch.zeros(4, 1, 2, 2), *numbers))
    assert found["patient"][0].tolist() == [True, True, True, False] * 2
    assert found["volume"][0].tolist() == [True, True, False, False] * 2
    assert found["adjacent"][0].tolist() == [True, False, False, False] * 2
    near = Batch(torch.zeros(2, 1, 2, 2), *(torch.tensor(x) for x in ([0, 0], [0, 0], [1, 2])))
    assert groupings(near)["adjacent"].all()


@pytest.mark.parametrize("axes", [2, 3])
def test_two_views_of_an_image_differ_and_are_alike(axes):
    images = torch.from_numpy(np.stack([pool(axes=axes).load(row) for row in range(8)]))
    generator = torch.Generator().manual_seed(0)
    one, other = view(images, generator), view(images, generator)
    assert one.shape == images.shape
    assert not torch.equal(one, other)
    assert torch.isfinite(one).all()


def test_batches_hold_a_mate_of_every_kind():
    whole = pool(5)
    for batch in islice(group_batches(whole, ["adjacent", "volume", "patient"], 12, [0]), 30):
        for anchor, neighbour, of_volume, of_patient in batch.reshape(-1, 4):
            assert len({anchor, neighbour, of_volume, of_patient}) == 4
            assert whole.volume[anchor] == whole.volume[neighbour] == whole.volume[of_volume]
            assert abs(whole.place[anchor] - whole.place[neighbour]) == 1
            assert whole.patient[anchor] == whole.patient[of_patient]
        anchors = batch.reshape(-1, 4)[:, 0]
        assert len(set(whole.patient[anchors])) == 3


def test_every_slice_is_an_anchor_once_a_pass():
    batches = islice(group_batches(pool(4), ["volume"], 8, [0]), 8)
    assert sorted(row for batch in batches for row in batch[::2]) == list(range(32))


def test_a_pool_without_groups_and_one_of_a_single_patient_end_in_no_endless_loop():
    alone = np.arange(10)
    batches = islice(group_batches(Unlabeled(pool().load, alone, alone, 0 * alone), ["volume", "patient"], 5, [0]), 4)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    one = Unlabeled(pool().load, 0 * alone, alone // 5, alone % 5)
    batch = next(group_batches(one, ["volume", "patient"], 6, [0]))
    assert len(set(batch.tolist())) == 3
