"""Soft labels are taught instead of the classes, of the patches that they name and no others."""

from __future__ import annotations

import pickle

import imagecodecs
import numpy as np
import pytest

from napari_metastasis.cohorts.patches import join_patches, open_patches
from napari_metastasis.errors import PatchDatasetError
from napari_metastasis.sampling.batches import BalancedPatches
from napari_metastasis.sampling.soft_labels import read_soft_labels


@pytest.fixture
def patches(tmp_path):
    """Eight patches whose gray value is their number; the upper four are tumour."""
    for number in range(8):
        folder = tmp_path / "set" / str(number // 4)
        folder.mkdir(parents=True, exist_ok=True)
        imagecodecs.imwrite(folder / f"{number}.png", np.full((96, 96, 3), number, np.uint8))
    return open_patches(tmp_path / "set")


def written(tmp_path, text):
    path = tmp_path / "soft.csv"
    path.write_text(text)
    return path


def test_patches_not_named_keep_their_class(patches, tmp_path):
    targets = read_soft_labels(written(tmp_path, "patch,probability\n1/6.png,0.75\n0/1.png,0.25\n"), patches)
    assert targets.dtype == np.float32
    assert targets.tolist() == [0, 0.25, 0, 0, 1, 1, 0.75, 1]


def test_every_patch_of_a_batch_is_taught_its_own(patches, tmp_path):
    rows = "".join(f"{n // 4}/{n}.png,{n / 8}\n" for n in range(8))
    targets = read_soft_labels(written(tmp_path, "patch,probability\n" + rows), patches)
    stream = pickle.loads(pickle.dumps(BalancedPatches(patches, 96, 4, 7, targets)))
    for number in range(6):
        batch = stream.batch(number)
        shown = batch.images[:, 0, 0, 0]
        np.testing.assert_array_equal(batch.targets, shown.astype(np.float32) / 8)
        np.testing.assert_array_equal(batch.labels, shown // 4)
    assert stream.fingerprint != BalancedPatches(patches, 96, 4, 7).fingerprint


def test_without_soft_labels_the_class_is_taught(patches):
    batch = BalancedPatches(patches, 96, 4, 7).batch(0)
    np.testing.assert_array_equal(batch.targets, batch.labels.astype(np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patch,probability\n", "expected soft labels in .*, got none"),
        ("patch,probability\n0/1.png,0.2\n0/1.png,0.9\n", r"got '0/1\.png' in line 2 as well .*line 3"),
        ("name,p\n", "expected the columns patch, probability"),
        ("patch,probability\n0/9.png,0.5\n", r"expected one patch named '0/9\.png', got 0 .*line 2"),
        ("patch,probability\n0/1.png,1.5\n", r"expected a probability of 0 to 1, got '1.5' .*line 2"),
        ("patch,probability\n0/1.png,nan\n", "expected a probability"),
        ("patch,probability\n0/1.png\n", "expected a probability"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(patches, tmp_path, text, message):
    with pytest.raises(PatchDatasetError, match=message):
        read_soft_labels(written(tmp_path, text), patches)


def test_a_table_from_a_spreadsheet_is_read(patches, tmp_path):
    path = tmp_path / "soft.csv"
    path.write_bytes(b"\xef\xbb\xbfpatch,probability\r\n0/1.png,0.25\r\n")
    assert read_soft_labels(path, patches)[1] == 0.25


def test_a_file_that_is_not_there(patches, tmp_path):
    with pytest.raises(PatchDatasetError, match=r"expected soft labels in .*none\.csv"):
        read_soft_labels(tmp_path / "none.csv", patches)


def test_a_name_in_two_sets_is_ambiguous(patches, tmp_path):
    with pytest.raises(PatchDatasetError, match=r"expected one patch named '0/1\.png', got 2"):
        read_soft_labels(written(tmp_path, "patch,probability\n0/1.png,0.5\n"), join_patches([patches, patches]))
