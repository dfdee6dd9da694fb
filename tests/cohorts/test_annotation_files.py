"""What annotation files are called, and which value means tumour in a set of masks."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from cohort_files import write_mask

from napari_metastasis.annotations import Annotation, AnnotationSet, write_dsa_json
from napari_metastasis.cohorts.annotation_files import (
    annotation_key,
    geojson_corner,
    holds_outlines,
    holds_tissue_masks,
    is_called_mask,
    open_masks,
    read_areas,
    tumour_value_in,
)
from napari_metastasis.errors import AnnotationError
from napari_metastasis.geometry import Region, Size

#: The rules that cohorts and evaluations of folders had, each its own.
OF_COHORTS = re.compile(r"(?:[_-]evaluation)?[_-](?:tumou?r[_-])?mask(?:[_-]level\d+)?$")
OF_FOLDERS = re.compile(r"[_-](?:evaluation[_-])?(?:tumou?r[_-])?mask(?:[_-]level\d+)?$")


def test_one_rule_for_mask_names_takes_what_both_old_ones_took():
    for parts in product(
        ("a", "Tumor_001", "x_mask"),
        ("", "_evaluation", "-evaluation"),
        ("", "_tumor", "-tumour"),
        ("", "mask", "_mask", "-Mask", "_masked"),
        ("", "_level5", "-level12", "_level"),
    ):
        name = "".join(parts)
        stem = name.casefold()
        old = [rule.sub("", stem) for rule in (OF_COHORTS, OF_FOLDERS) if rule.search(stem)]
        assert is_called_mask(Path(f"{name}.tif"), "") == bool(old), name
        assert all(annotation_key(Path(f"{name}.tif")) == key for key in old or [stem]), name


@pytest.mark.parametrize(
    ("folder", "of_masks"),
    [
        ("masks", True),
        ("Mask", True),
        ("evaluation_masks", True),
        ("Tumor masks, level 5", True),
        ("", False),
        ("annotations", False),
        # The slides lie there, too.
        ("slides_and_masks", False),
        ("Image and mask", False),
        ("WSI-masks", True),
        ("imagemasks", True),
        ("tumor_tissue_masks", True),
        ("tissue_mask", False),
        ("background masks", False),
        ("unmasked", False),
    ],
)
def test_pictures_in_a_folder_of_masks_are_masks(folder, of_masks):
    assert is_called_mask(Path("a.png"), folder) == of_masks
    assert is_called_mask(Path("a_mask.png"), folder)


@pytest.mark.parametrize(
    ("folder", "of_tissue"),
    [
        ("tissue_masks", True),
        ("Tissue mask", True),
        ("background_tissue", True),
        ("tumor_tissue_masks", False),
        ("masks", False),
        ("tissue_slides", False),
    ],
)
def test_masks_of_tissue_say_nothing_of_tumour(folder, of_tissue):
    assert holds_tissue_masks(folder) == of_tissue


def test_masks_that_cannot_be_read_have_no_say_in_what_tumour_is(tmp_path):
    size = Size(64, 64)
    for name, values in (("one", (0, 1)), ("two", (1, 2))):
        write_mask(tmp_path / f"{name}.png", size, (16, 16), 8, 0.5, values=values)
    (tmp_path / "damaged.png").write_bytes(b"no image")
    (tmp_path / "a.xml").write_text("<no/>")
    paths = [tmp_path / name for name in ("one.png", "damaged.png", "a.xml", "gone.tif")]
    assert tumour_value_in(open_masks([None, *paths])) == 1
    assert tumour_value_in(open_masks([*paths, tmp_path / "two.png"])) == 2
    assert tumour_value_in([]) == 1
    write_mask(tmp_path / "odd.png", size, (16, 16), 8, 0.5, values=(0, 7))
    with pytest.raises(AnnotationError, match=r"got the values 7 in .*odd\.png; .*--tumour-value"):
        tumour_value_in(open_masks([*paths, tmp_path / "odd.png"]))


def test_geojson_counts_from_the_corner_of_the_bounds():
    assert geojson_corner(None) == (0.0, 0.0)
    assert geojson_corner(Region(30, 20, 500, 400)) == (30.0, 20.0)


def test_other_files_are_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"ASAP XML, GeoJSON or a mask .* got .*a\.doc; export it"):
        read_areas(tmp_path / "a.doc", corner=(0.0, 0.0))


def test_json_of_dsa_is_told_from_geojson_and_from_what_holds_no_outlines(tmp_path):
    drawn = AnnotationSet((Annotation.of_rings("a", "_0", [(0, 0), (9, 0), (9, 9)]),))
    dsa, other = tmp_path / "dsa.json", tmp_path / "other.json"
    write_dsa_json(dsa, drawn, name="s")
    other.write_text('{"name": "a", "figures": [1, 2]}')
    assert [holds_outlines(path) for path in (dsa, other)] == [True, False]
    # DSA counts from the slide's corner, whatever bounds it has.
    assert read_areas(dsa, corner=(100.0, 100.0)).annotations == drawn.annotations
    with pytest.raises(AnnotationError, match="expected features"):
        read_areas(other, corner=(0.0, 0.0))
