"""Whole files or none."""

from __future__ import annotations

import pytest

from nextmask.data.files import atomically, canonical, digest, digest_json, read_json_lines, write_text


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "mask.nii.gz"
    with atomically(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def fail_halfway() -> None:
        with atomically(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_hashes_do_not_depend_on_the_order_of_keys(tmp_path):
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1}) != digest_json({"a": 1, "b": [3]})
    assert canonical({"ä": None}) == '{"ä":null}'
    write_text(tmp_path / "empty", "")
    assert digest(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert list(read_json_lines(tmp_path / "log.jsonl")) == [{"a": 1}, {"a": 2}]
    assert list(read_json_lines(tmp_path / "none.jsonl")) == []
