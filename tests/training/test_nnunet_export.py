"""What nnU-Net is given, how it is started, and what is said where that fails; nothing here needs nnU-Net itself."""

from __future__ import annotations

import dataclasses
import json
import os
from importlib.metadata import PackageNotFoundError

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tests.training.toys import SOLID, TINY, samples, scribbled, toy

from nextmask.errors import TrainingError
from nextmask.training import nnunet
from nextmask.training.learner import TrainingTask
from nextmask.training.nnunet import NNUNetLearner
from nextmask.training.nnunet_export import Workplace, export, trainer_length

FLAT_SHAPE, SOLID_SHAPE = (40, 36), (12, 20, 24)


def pair_of(image, mask):
    return lambda: (image, mask)


def task(folder, drawn=None, **changes):
    drawn = samples(FLAT_SHAPE, 3, scribbled) if drawn is None else drawn
    pool = [lambda load=load: load()[0] for load in samples(FLAT_SHAPE, 7)]
    given = {
        "config": TINY,
        "seed": [5, 1],
        "device": "cpu",
        "folder": folder,
        "classes": ("rv", "lv"),
        "unlabeled": pool,
    }
    return TrainingTask(drawn, **{**given, **changes})


def read(path):
    return json.loads(path.read_text())


def test_voxels_labels_and_spacing_are_what_nnunet_reads(tmp_path):
    drawn = samples(FLAT_SHAPE, 3, scribbled)
    place = export(task(tmp_path, drawn, spacing=(1.5, 0.5)), 8.0)
    listed = read(place.raw / "dataset.json")["dataset"]
    for row, load in enumerate(drawn):
        image, mask = load()
        files = listed[f"sample_{row:05d}"]
        written = sitk.ReadImage(place.raw / files["images"][0])  # nnU-Net's own reader
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), image[0].astype(np.float32))
        assert written.GetSpacing() == pytest.approx((0.5, 1.5))  # x first
        label = sitk.GetArrayFromImage(sitk.ReadImage(place.raw / files["label"]))
        assert set(np.unique(label)) == {0, 1, 2, 3}
        np.testing.assert_array_equal(label == 3, mask == 255)
        np.testing.assert_array_equal(label[mask != 255], mask[mask != 255])


def test_volumes_keep_their_axes_and_every_channel_has_a_file(tmp_path):
    image, mask = toy(SOLID_SHAPE, 0)
    both = np.concatenate([image, 2 * image])
    config = dataclasses.replace(SOLID, channels=2)
    place = export(task(tmp_path, [pair_of(both, mask)], config=config, spacing=(5.0, 1.0, 2.0), unlabeled=()), 8.0)
    files = read(place.raw / "dataset.json")["dataset"]["sample_00000"]["images"]
    assert [name[-12:] for name in files] == ["_0000.nii.gz", "_0001.nii.gz"]
    for channel, name in enumerate(files):
        written = sitk.ReadImage(place.raw / name)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), both[channel].astype(np.float32))
        assert written.GetSpacing() == pytest.approx((2.0, 1.0, 5.0))
    assert read(place.preprocessed / "dataset_fingerprint.json")["shapes_after_crop"] == [list(SOLID_SHAPE)]


def test_the_dataset_says_that_nothing_is_to_be_normalised_and_what_is_ignored(tmp_path):
    place = export(task(tmp_path), 8.0)
    said = read(place.raw / "dataset.json")
    assert said["labels"] == {"background": 0, "1 rv": 1, "2 lv": 2, "ignore": 3}
    assert said["channel_names"] == {"0": "noNorm"}
    assert said["numTraining"] == 3
    assert all(
        (place.raw / name).exists() for each in said["dataset"].values() for name in (*each["images"], each["label"])
    )


def test_classes_may_have_the_names_that_nnunet_keeps_for_itself(tmp_path):
    labels = read(export(task(tmp_path, classes=("ignore", "background")), 8.0).raw / "dataset.json")["labels"]
    assert sorted(labels.values()) == [0, 1, 2, 3]
    assert labels["ignore"] == 3


@pytest.mark.parametrize("count", [1, 3])
def test_everything_labeled_is_trained_on_and_nothing_else_is_looked_at(tmp_path, count):
    place = export(task(tmp_path, samples(FLAT_SHAPE, count), members=2), 8.0)
    names = [f"sample_{row:05d}" for row in range(count)]
    assert read(place.preprocessed / "splits_final.json") == [{"train": names, "val": names}] * 2


def test_what_plans_rest_on_is_the_same_however_much_is_labeled(tmp_path):
    made = []
    for count in (1, 3):
        place = export(task(tmp_path / str(count), samples(FLAT_SHAPE, count), spacing=(1.5, 0.5)), 8.0)
        made.append((read(place.preprocessed / "dataset_fingerprint.json"), read(place.folder / "job.json")))
    assert made[0] == made[1]
    assert made[0][0]["shapes_after_crop"] == [[1, *FLAT_SHAPE]] * 7
    assert made[0][0]["spacings"] == [[999 * 1.5, 1.5, 0.5]] * 7
    assert made[0][1]["pool"] == 7


def test_unknown_spacing_is_written_as_one(tmp_path):
    place = export(task(tmp_path, spacing=None), 8.0)
    name = read(place.raw / "dataset.json")["dataset"]["sample_00000"]["images"][0]
    assert sitk.ReadImage(place.raw / name).GetSpacing() == (1.0, 1.0)


def test_the_same_masks_are_exported_once_and_corrected_ones_anew(tmp_path):
    first = export(task(tmp_path), 8.0)
    stamp = (first.raw / "dataset.json").stat().st_mtime_ns
    assert export(task(tmp_path), 8.0) == first
    assert (first.raw / "dataset.json").stat().st_mtime_ns == stamp
    second = export(task(tmp_path, samples(FLAT_SHAPE, 3)), 8.0)
    assert second != first
    assert list(tmp_path.iterdir()) == [second.folder]


def test_an_export_that_was_cut_off_is_done_again(tmp_path, monkeypatch):
    def full_disk(*args):
        raise OSError("no space left")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        export(task(tmp_path), 8.0)
    monkeypatch.undo()
    place = export(task(tmp_path), 8.0)
    assert len(list((place.raw / "labelsTr").iterdir())) == 3


def test_samples_that_cannot_be_trained_on_are_named(tmp_path):
    image, mask = toy(FLAT_SHAPE, 0)
    broken = image.copy()
    broken[0, 3, 3] = np.nan
    for said, drawn in {
        "values that are not finite": [pair_of(broken, mask)],
        "0 labeled samples": [],
        "is not annotated": [pair_of(image, np.full_like(mask, 255))],
        r"has the values \[7\]": [pair_of(image, np.where(mask == 1, 7, mask).astype(np.uint8))],
    }.items():
        with pytest.raises(TrainingError, match=said):
            export(task(tmp_path, drawn), 8.0)


@pytest.mark.parametrize(
    ("iterations", "length"), [(1, (1, 1)), (4, (4, 1)), (1500, (20, 75)), (5000, (20, 250)), (250_000, (1000, 250))]
)
def test_a_training_is_divided_into_epochs(iterations, length):
    assert trainer_length(iterations) == length


def test_where_nnunet_is_not_installed_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(nnunet, "version", absent)
    learner = NNUNetLearner()
    for use in (
        lambda: learner.fit(task(tmp_path)),
        lambda: learner.describe(task(tmp_path)),
        lambda: learner.load(tmp_path, "cpu"),
    ):
        with pytest.raises(TrainingError, match=r'not installed. Expected nnunetv2.*pip install "nextmask\[nnunet\]"'):
            use()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in Python's place that says what nnU-Net might, and how it ends."""

    def write(*lines: str) -> None:
        path = tmp_path / "python"
        path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
        path.chmod(0o755)
        monkeypatch.setattr(nnunet.sys, "executable", str(path))
        monkeypatch.setattr(nnunet, "version", lambda name: "2.8.1")

    return write


def test_a_training_that_failed_shows_the_last_lines(tmp_path, stand_in):
    stand_in("seq 100", "echo 'nextmask: 2 60'", "echo 'RuntimeError: out of memory' >&2", "exit 3")
    seen = []
    with pytest.raises(TrainingError, match=r"exit code 3 after 2 of 60 iterations\. Expected") as caught:
        NNUNetLearner().fit(task(tmp_path / "work"), lambda *counts: seen.append(counts))
    assert seen == [(2, 60)]
    shown = str(caught.value).splitlines()
    assert shown[-1].strip() == "RuntimeError: out of memory"
    assert len(shown) == 1 + nnunet.LAST_LINES
    assert "goes on at its last checkpoint" in shown[0]


def test_nnunet_gets_an_environment_of_its_own(tmp_path, stand_in, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "/somewhere/else")
    before = dict(os.environ)
    stand_in("env", 'echo "arguments $@"', "exit 1")
    with pytest.raises(TrainingError):
        NNUNetLearner().fit(task(tmp_path / "work"))
    assert dict(os.environ) == before
    place = Workplace(next((tmp_path / "work").glob("nnunet-*")))
    said = place.log.read_text()
    assert f"nnUNet_raw={place.raw.parent}\n" in said
    assert f"nnUNet_preprocessed={place.preprocessed.parent}\n" in said
    assert "nnUNet_n_proc_DA=1\n" in said
    assert f"arguments -m nextmask.training.nnunet_worker {place.folder} cpu" in said


def test_an_interruption_ends_nnunet_too(tmp_path, stand_in):
    stand_in("echo $$ > " + str(tmp_path / "pid"), "echo 'nextmask: 1 60'", "exec sleep 600")

    def interrupted(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        NNUNetLearner().fit(task(tmp_path / "work"), interrupted)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("seen", "device", "wanted"), [("", "cuda:1", "1"), ("4,6", "cuda:1", "6"), ("4", "cuda", "4")]
)
def test_the_gpu_that_is_named_is_the_only_one_it_sees(monkeypatch, tmp_path, seen, device, wanted):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert nnunet._environment(Workplace(tmp_path), device)["CUDA_VISIBLE_DEVICES"] == wanted


def test_a_file_may_name_parts_of_networks_only(tmp_path):
    parts = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv2d", "dropout_op": None},
        "_kw_requires_import": ["conv_op", "dropout_op"],
    }
    nnunet._refuse_foreign_parts(parts, tmp_path)
    for wrong in ({"network_class_name": "os.system"}, {"arch_kwargs": {"conv_op": "os.system", "dropout_op": None}}):
        with pytest.raises(TrainingError, match=r"names os.system as parts of a network. Expected parts of"):
            nnunet._refuse_foreign_parts({**parts, **wrong}, tmp_path)


def test_a_file_of_another_learner_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(nnunet, "version", lambda name: "2.8.1")
    path = tmp_path / "segmenter.pt"
    path.write_bytes(b"something")
    with pytest.raises(TrainingError, match=r"is no segmenter of nnU-Net, or is damaged\. Expected"):
        NNUNetLearner().load(path, "cpu")
