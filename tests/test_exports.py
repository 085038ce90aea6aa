"""The public names."""

from __future__ import annotations

import nextmask

PUBLIC = {
    "Case", "ENCODERS", "IGNORE", "NextmaskError", "Pool", "Region", "Round", "STRATEGIES", "Sample", "Segmenter", "Study",
    "StudyConfig", "TrainConfig", "fit", "read_image", "read_mask", "read_table", "score_case", "select", "simulate",
    "write_mask",
}  # fmt: skip


def test_the_public_names_are_these_and_can_be_had():
    assert set(nextmask.__all__) == PUBLIC
    assert all(getattr(nextmask, name) is not None for name in PUBLIC)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    assert not hasattr(nextmask, "Magic")
