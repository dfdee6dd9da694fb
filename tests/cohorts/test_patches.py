"""Patches read the same from a folder, a zip archive and PCam's HDF5 files."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import shutil
import zipfile

import h5py
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from napari_metastasis.cohorts.patches import colours_note, join_patches, open_patches
from napari_metastasis.errors import PatchDatasetError

LABELS = [0, 0, 1, 0, 1]


@pytest.fixture
def images():
    return np.random.default_rng(3).integers(0, 256, (len(LABELS), 96, 96, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, images):
    root = tmp_path / "train"
    for k, (image, label) in enumerate(zip(images, LABELS, strict=True)):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        imagecodecs.imwrite(root / str(label) / f"{k}.png", image)
    (root / "notes.txt").write_text("not a patch")
    return root


@pytest.fixture
def archive(tmp_path, folder):
    path = tmp_path / "train.zip"
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted(folder.rglob("*")):
            if image.is_file():
                file.write(image, f"train/{image.relative_to(folder)}")
    return path


@pytest.fixture
def hdf5(tmp_path, images):
    path = tmp_path / "camelyonpatch_level_2_split_train_x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = images
    with h5py.File(tmp_path / "camelyonpatch_level_2_split_train_y.h5", "w") as file:
        file["y"] = np.array(LABELS, np.uint8).reshape(-1, 1, 1, 1)
    return path


def as_pairs(source):
    return sorted((int(source.labels[k]), source.read(k).tobytes()) for k in range(len(source)))


def test_all_three_hold_the_same_patches(folder, archive, hdf5, images):
    expected = sorted((label, image.tobytes()) for label, image in zip(LABELS, images, strict=True))
    for path in (folder, archive, hdf5):
        assert as_pairs(open_patches(path)) == expected


def test_joined_sources_are_read_in_their_order(folder, hdf5):
    first, second = open_patches(folder), open_patches(hdf5)
    joined = join_patches([first, second])
    assert len(joined) == len(first) + len(second)
    assert joined.labels.tolist() == [*first.labels, *second.labels]
    for k in range(len(joined)):
        source, index = (first, k) if k < len(first) else (second, k - len(first))
        np.testing.assert_array_equal(joined.read(k), source.read(index))
    assert join_patches([first]) is first


def test_a_folder_with_hdf5_files_is_pcam(hdf5):
    assert len(open_patches(hdf5.parent)) == len(LABELS)


def test_the_files_of_all_of_pcam_are_not_taken_for_one(hdf5, images):
    for split in ("valid", "test"):
        with h5py.File(hdf5.with_name(f"camelyonpatch_level_2_split_{split}_x.h5"), "w") as file:
            file["x"] = images
    with pytest.raises(PatchDatasetError, match=r"got .*_test_x\.h5, .*_train_x\.h5, .*_valid_x\.h5; give one of them"):
        open_patches(hdf5.parent)
    assert len(open_patches(hdf5)) == len(LABELS)


@pytest.mark.parametrize("other", ["test", "Validation", "more/valid"])
def test_patches_of_several_splits_are_not_taken_for_one_set(folder, tmp_path, other):
    """They are what the model is measured on."""
    assert len(open_patches(tmp_path)) == len(LABELS), "one split, given as the folder above it"
    shutil.copytree(folder, tmp_path / other)
    with pytest.raises(PatchDatasetError, match=rf"got .*{other[-5:]}.* in {tmp_path}; give one of these folders"):
        open_patches(tmp_path)
    assert len(open_patches(folder)) == len(LABELS)
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path)
    with pytest.raises(PatchDatasetError, match=r"expected the patches of one split, got .*; unpack it, and give"):
        open_patches(archive)


def test_folders_of_one_split_are_one_set(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "site-1" / "Training")
    assert len(open_patches(tmp_path)) == 2 * len(LABELS)


def test_sources_travel_to_worker_processes_after_use(archive, hdf5):
    for path in (archive, hdf5):
        source = open_patches(path)
        first = source.read(0)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(0), first)


def test_what_is_no_patch_set_is_refused(tmp_path, folder, hdf5):
    with pytest.raises(PatchDatasetError, match="no such file"):
        open_patches(tmp_path / "absent.zip")
    with pytest.raises(PatchDatasetError, match="class folders"):
        open_patches(folder / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PatchDatasetError, match="class folders"):
        open_patches(tmp_path / "empty")
    for image in (folder / "1").iterdir():
        image.unlink()
    with pytest.raises(PatchDatasetError, match="none of class 1"):
        open_patches(folder)
    hdf5.with_name(hdf5.name.replace("_x.", "_y.")).unlink()
    with pytest.raises(PatchDatasetError, match="HDF5"):
        open_patches(hdf5)


def test_a_damaged_patch_is_named(folder):
    broken = folder / "0" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    source = open_patches(folder)
    with pytest.raises(PatchDatasetError, match=r"0\.png"):
        source.read(0)


def test_labels_that_do_not_fit_are_refused(hdf5):
    with h5py.File(hdf5.with_name(hdf5.name.replace("_x.", "_y.")), "w") as file:
        file["y"] = np.zeros((2, 1, 1, 1), np.uint8)
    with pytest.raises(PatchDatasetError, match="expected 5 labels, got 2"):
        open_patches(hdf5)


def test_other_classes_are_refused(hdf5):
    with h5py.File(hdf5.with_name(hdf5.name.replace("_x.", "_y.")), "w") as file:
        file["y"] = np.array([0, 1, 2, 1, 0]).reshape(-1, 1, 1, 1)
    with pytest.raises(PatchDatasetError, match="also class 2"):
        open_patches(hdf5)


def test_hdf5_with_something_else_inside(tmp_path):
    with h5py.File(tmp_path / "strange_x.h5", "w") as file:
        file.create_group("x")
    with pytest.raises(PatchDatasetError, match="HDF5"):
        open_patches(tmp_path / "strange_x.h5")


def test_patches_that_cannot_be_read_are_named(folder, archive):
    (folder / "0" / "folder.png").mkdir()
    source = open_patches(folder)
    assert len(source) == len(LABELS)
    (folder / "0" / "0.png").unlink()
    with pytest.raises(PatchDatasetError, match=r"0\.png, got"):
        source.read(0)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for label in "01":
            file.writestr(f"{label}/0.png", b"pixels" * 1000)
    data = bytearray(archive.read_bytes())
    data[40:50] = b"\xff" * 10
    archive.write_bytes(data)
    with pytest.raises(PatchDatasetError, match=r"0/0\.png in .*fetch the archive again"):
        open_patches(archive).read(0)


@pytest.mark.shared
def test_the_shared_patches_are_what_their_readme_says(shared_data):
    train, valid = open_patches(shared_data / "pcam_train.zip"), open_patches(shared_data / "pcam_valid.zip")
    assert (len(train), len(valid)) == (20_000, 3_000)
    assert train.read(0).shape == (96, 96, 3)


def marked(archive, path, offsets, value):
    """Write an archive whose entries say otherwise, in both of their headers."""
    data = bytearray(archive.read_bytes())
    for signature, offset in offsets.items():
        at = data.find(signature)
        while at >= 0:
            data[at + offset] = value
            at = data.find(signature, at + 4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offsets", "value", "what"),
    [
        ({b"PK\3\4": 8, b"PK\1\2": 10}, 9, r"compression method 9 \(Deflate64, as Windows writes it\)"),
        ({b"PK\3\4": 8, b"PK\1\2": 10}, 98, "compression method 98"),
        ({b"PK\3\4": 6, b"PK\1\2": 8}, 1, r"got train/0/0\.png encrypted"),
    ],
)
def test_archives_that_python_does_not_unpack_say_what_to_do(archive, tmp_path, offsets, value, what):
    with pytest.raises(PatchDatasetError, match=rf"{what}.*; unpack it, and give the folder"):
        open_patches(marked(archive, tmp_path / "other.zip", offsets, value))


def test_what_unpacks_to_more_than_a_patch_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for label in LABELS[1:3]:
            file.writestr(f"{label}/0.png", bytes(1 << 28))
    with pytest.raises(PatchDatasetError, match=r"at most 128 MiB, got 256 MiB of 0/0\.png"):
        open_patches(path)


def test_a_damaged_archive_is_named(archive, tmp_path):
    data = archive.read_bytes()
    rng = np.random.default_rng(5)
    for k in range(60):
        damaged = bytearray(data)
        for at in (*rng.integers(0, len(data), 4), *rng.integers(len(data) - 700, len(data), 2)):
            damaged[at] = rng.integers(256)
        path = tmp_path / f"{k}.zip"
        path.write_bytes(damaged)
        # No other error.
        with contextlib.suppress(PatchDatasetError):
            source = open_patches(path)
            assert {source.read(index).shape[2] for index in range(len(source))} == {3}


def test_what_is_gzipped_has_to_be_unpacked(hdf5, tmp_path):
    packed = tmp_path / "x.h5.gz"
    packed.write_bytes(gzip.compress(hdf5.read_bytes()))
    with pytest.raises(PatchDatasetError, match="gzipped; unpack it first"):
        open_patches(packed)


@pytest.mark.parametrize(("shape", "chunks"), [((4, 30_000, 30_000, 3), (1, 500, 500, 3)), ((4, 96, 96, 3), None)])
def test_hdf5_is_looked_at_before_it_is_read(tmp_path, shape, chunks):
    path = tmp_path / "a_x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape, np.uint8, chunks=chunks)
    with h5py.File(tmp_path / "a_y.h5", "w") as file:
        file.create_dataset(
            "y", (1 << 40,) if chunks is None else (4,), np.uint8, chunks=(1024,) if chunks is None else None
        )
    with pytest.raises(
        PatchDatasetError, match="expected 4 labels, got 1099511627776" if chunks is None else "16,777,216"
    ):
        open_patches(path)


def test_an_empty_image_is_named(folder):
    (folder / "0" / "0.png").write_bytes(b"")
    with pytest.raises(PatchDatasetError, match=r"got an empty file in .*0\.png"):
        open_patches(folder).read(0)


def test_patches_whose_red_and_blue_look_exchanged_are_said(tmp_path):
    rng = np.random.default_rng(4)
    stains = np.array([(0.65, 0.70, 0.29), (0.12, 0.95, 0.28)])
    for name, order in (("rgb", 1), ("bgr", -1)):
        for number in range(8):
            amounts = np.stack([rng.uniform(0.8, 1.6, (40, 40)) * (rng.random((40, 40)) < 0.2), rng.random((40, 40))])
            pixels = np.rint(255 * np.exp(-np.moveaxis(amounts, 0, -1) @ stains)).astype(np.uint8)
            folder = tmp_path / name / str(number % 2)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(pixels[..., ::order])).save(folder / f"{number}.png")
    assert colours_note(open_patches(tmp_path / "rgb")) == ""
    assert "OpenCV" in colours_note(open_patches(tmp_path / "bgr"))
    # A damaged patch is told by whoever uses it.
    (tmp_path / "rgb" / "1" / "1.png").write_bytes(b"")
    assert colours_note(open_patches(tmp_path / "rgb")) == ""
