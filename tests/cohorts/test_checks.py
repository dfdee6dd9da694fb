"""Whatever would spoil a run is named before it begins, with its slide and its remedy."""

from __future__ import annotations

import shutil
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
from cohort_files import write_mask, write_outline, write_slide

from napari_metastasis.cohorts.checks import check_cohort, check_split
from napari_metastasis.cohorts.cohort import Cohort, CohortSlide, read_cohort
from napari_metastasis.cohorts.survey import survey_slides
from napari_metastasis.slides import write_pyramid

MPP, DISC_UM, RADIUS_UM = 0.972, (150.0, 100.0), 40.0


@pytest.fixture
def good(tmp_path):
    """A tumour slide with outlines and a normal one, for training, and the same for a test."""
    slides = []
    for split in ("train", "test"):
        for kind in ("tumour", "normal"):
            path = tmp_path / f"{split}_{kind}.tif"
            seed = len(slides)
            write_slide(path, mpp=MPP, size_um=(300.0, 200.0), disc_um=DISC_UM if kind == "tumour" else None, seed=seed)
            annotation = None
            if kind == "tumour":
                annotation = path.with_suffix(".xml")
                write_outline(annotation, DISC_UM, RADIUS_UM, MPP)
            slides.append(CohortSlide(name=path.stem, path=path, annotation=annotation, split=split))
    return Cohort(slides=tuple(slides), origin=tmp_path / "cohort.csv", layout="file")


def with_first(cohort, **changes):
    return replace(cohort, slides=(replace(cohort.slides[0], **changes), *cohort.slides[1:]))


def check(cohort, **options):
    return check_cohort(cohort, survey_slides(cohort.slides, threads=2), **options)


def problems(cohort):
    return [str(problem) for problem in check(cohort)]


def leaks(cohort):
    return check_split(cohort, "test", survey_slides(cohort.slides, threads=2, reads=lambda _: False))


def test_nothing_is_wrong_with_a_good_cohort(good):
    told = []
    surveys = survey_slides(good.slides, threads=1, progress=lambda done, total: told.append((done, total)))
    assert check_cohort(good, surveys) == ()
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_split_shares_no_slide_and_no_patient_with_another(good, tmp_path):
    assert leaks(good) == ()
    # Under another name, in another folder.
    copied = tmp_path / "copy" / "other.tif"
    copied.parent.mkdir()
    shutil.copy(good.slides[0].path, copied)
    leaking = replace(good, slides=(*good.slides, CohortSlide(name="other", path=copied, split="test")))
    (problem,) = leaks(leaking)
    assert str(problem).startswith("other: expected a slide of no other split, got the same one in train")
    kin = replace(good, slides=tuple(replace(slide, patient="p") for slide in good.slides[1:3]))
    (problem,) = leaks(kin)
    assert "patient p in one split, got train_normal in train" in str(problem)
    # Nor is one that cannot be opened let through.
    gone = replace(good.slides[0], path=tmp_path / "gone.tif")
    (problem,) = leaks(replace(good, slides=(gone, replace(gone, split="test"))))
    assert "keep one" in str(problem)


def only(cohort, start, pattern):
    """The one problem that is there, besides classes that are empty because of it."""
    first, *rest = problems(cohort)
    assert first.startswith(start)
    assert pattern in first
    assert all("expected a train slide with" in line for line in rest)
    assert len(first.splitlines()) == 1
    assert ";" in first


def test_files_that_are_missing(good, tmp_path):
    only(with_first(good, path=tmp_path / "no.tif"), "train_tumour: expected", "does not exist")
    only(with_first(good, annotation=tmp_path / "no.xml"), "train_tumour: expected", "got no such file")


def test_slides_that_cannot_be_read(good, tmp_path):
    junk = tmp_path / "junk.svs"
    junk.write_bytes(b"no slide at all" * 99)
    only(with_first(good, path=junk), "train_tumour: expected", "no reader recognises")
    short = tmp_path / "short.tif"
    short.write_bytes(good.slides[0].path.read_bytes()[:5000])
    assert any("train_tumour: expected" in line and "cop" in line for line in problems(with_first(good, path=short)))


def test_an_unknown_pixel_size(good, tmp_path):
    path = tmp_path / "bare.tif"
    rng = np.random.default_rng(0)
    from napari_metastasis.geometry import Size

    write_pyramid(path, rng.integers(180, 230, (200, 300, 3), np.uint8), mpp=None, size=Size(300, 200))
    only(with_first(good, path=path), "train_tumour: expected", "state its pixel size")
    only(with_first(good, path=path), "train_tumour: expected", "--cohort-mpp")
    assert problems(with_first(good, path=path, mpp=MPP)) == []


def test_annotations_off_the_slide(good, tmp_path):
    write_outline(tmp_path / "far.xml", (900.0, 100.0), RADIUS_UM, MPP)
    only(with_first(good, annotation=tmp_path / "far.xml"), "train_tumour: expected outlines on the slide", "1 outside")
    # A hand slips over the edge.
    write_outline(tmp_path / "edge.xml", (42.0, 100.0), 43.0, MPP)
    assert problems(with_first(good, annotation=tmp_path / "edge.xml")) == []


def test_masks_of_another_slide(good, tmp_path):
    from napari_metastasis.geometry import Size

    write_mask(tmp_path / "m.png", Size(200, 300), DISC_UM, RADIUS_UM, MPP)
    only(
        with_first(good, annotation=tmp_path / "m.png"), "train_tumour: expected a mask of the slide's shape", "choose"
    )


def test_annotations_that_say_the_opposite(good, tmp_path):
    write_outline(tmp_path / "own.xml", DISC_UM, RADIUS_UM, MPP, group="my tumour")
    only(with_first(good, annotation=tmp_path / "own.xml"), "train_tumour: expected outlines of a group", "my tumour")
    from napari_metastasis.geometry import Size

    write_mask(tmp_path / "none.png", Size(309, 206), DISC_UM, 0.0, MPP)
    only(
        with_first(good, annotation=tmp_path / "none.png", tumour=True), "train_tumour: expected tumour", "got none in"
    )
    first = problems(with_first(good, tumour=False))[0]
    assert "train_tumour: expected no tumour on a normal slide" in first
    (tmp_path / "text.xml").write_text("<nothing/>")
    only(with_first(good, annotation=tmp_path / "text.xml"), "train_tumour: expected <ASAP_Annotations>", "choose")


def test_missing_annotations_by_layout(good):
    bare = with_first(good, annotation=None, tumour=True)
    assert problems(bare) == [line for line in problems(bare) if "with annotated tumour" in line]
    only(replace(bare, layout="camelyon16"), "train_tumour: expected an annotation of a tumour slide", "got none")
    first = problems(replace(good, layout="images-and-masks"))
    assert next(line for line in first if "a mask named like" in line).startswith("train_normal: expected")
    assert len(first) == 2


def test_slides_in_two_splits(good, tmp_path):
    again = replace(good.slides[0], split="test")
    (line,) = problems(replace(good, slides=(*good.slides, again)))
    assert line.startswith("train_tumour: expected every slide once")
    assert "(train)" in line
    assert "(test)" in line
    # A copy under another name is the same slide.
    copy = tmp_path / "copy.tif"
    shutil.copy(good.slides[0].path, copy)
    (line,) = problems(replace(good, slides=(*good.slides, replace(again, path=copy, name="copy"))))
    assert "expected every slide once" in line


def test_slides_of_one_name(good, tmp_path):
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "train_tumour.tif"
    write_slide(path, mpp=MPP, size_um=(300.0, 200.0), seed=77)
    other = CohortSlide(name="train_tumour", path=path)
    (line,) = problems(replace(good, slides=(*good.slides, other)))
    assert line.startswith("train_tumour: expected every slide to have its own name")


def test_patients_in_two_splits(good):
    slides = tuple(replace(slide, patient="p7") for slide in good.slides)
    (line,) = problems(replace(good, slides=slides))
    assert "all slides of patient p7 in one split, got train: train_tumour, train_normal; test:" in line


@pytest.mark.parametrize(("kept", "what"), [(1, "with annotated tumour"), (0, "with tissue known to be normal")])
def test_empty_classes(good, kept, what):
    slide = replace(good.slides[kept], exhaustive=False)
    (line,) = problems(replace(good, slides=(slide if kept == 0 else good.slides[1], *good.slides[2:])))
    assert f"expected a train slide {what}" in line
    (line,) = problems(replace(good, slides=(*good.slides[:2], replace(good.slides[3], split="validation"))))
    assert "expected a validation slide with annotated tumour" in line


def test_an_empty_cohort(good):
    lines = problems(replace(good, slides=()))
    assert len(lines) == 2
    assert all("got none of 0" in line for line in lines)


def test_pictures_with_masks(tmp_path):
    rng = np.random.default_rng(0)
    for name, ending in (("a", ".png"), ("b", ".jpg")):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        pixels = rng.integers(150, 230, (128, 160, 3), np.uint8)
        encode = imagecodecs.png_encode if ending == ".png" else imagecodecs.jpeg8_encode
        (tmp_path / "images" / (name + ending)).write_bytes(encode(pixels))
        mask = np.zeros((128, 160), np.uint8)
        mask[40:60, 50:90] = 255
        (tmp_path / "masks" / (name + ".png")).write_bytes(imagecodecs.png_encode(mask))
    assert problems(read_cohort(tmp_path, validation_share=0.0, seed=0, mpp=0.7)) == []
    lines = problems(read_cohort(tmp_path, validation_share=0.0, seed=0))
    assert sum("state its pixel size" in line for line in lines) == 2


@pytest.mark.shared
def test_real_regions_and_their_jpeg_masks(shared_data):
    cohort = read_cohort(shared_data / "regions", validation_share=0.2, seed=1, mpp=0.7)
    assert len(cohort.slides) == 30
    assert len(cohort.of("validation")) == 6
    assert check(cohort) == ()


def test_a_tumour_value_that_is_stated_is_believed(good, tmp_path):
    """A mask of 3 means nothing known, unless somebody says what it means."""
    from napari_metastasis.geometry import Size

    mask = tmp_path / "odd.tif"
    size = Size(round(300 / MPP), round(200 / MPP))
    write_mask(mask, size, DISC_UM, RADIUS_UM, MPP, values=(0, 3))
    odd = with_first(good, annotation=mask)
    assert [str(problem) for problem in check(odd, tumour_value=3)] == []
    only(odd, "train_tumour: expected masks in which tumour is 255, 2 or 1", f"got the values 3 in {mask}; say which")


def test_masks_of_unknown_values_are_listed_with_every_other_fault(good, tmp_path):
    from napari_metastasis.geometry import Size

    size = Size(round(300 / MPP), round(200 / MPP))
    for name, values in (("odd", (0, 3)), ("seven", (0, 7)), ("clear", (0, 1))):
        write_mask(tmp_path / f"{name}.png", size, DISC_UM, RADIUS_UM, MPP, values=values)
    masks = ("odd", None, "seven", "clear")
    slides = [
        replace(slide, annotation=name and tmp_path / f"{name}.png")
        for slide, name in zip(good.slides, masks, strict=True)
    ]
    slides[1] = replace(slides[1], path=tmp_path / "gone.tif")
    lines = problems(replace(good, slides=tuple(slides)))
    (odd,) = (line for line in lines if line.startswith("train_tumour: "))
    (seven,) = (line for line in lines if line.startswith("test_tumour: "))
    assert str(tmp_path / "odd.png") in odd
    assert "got the values 7 in" in seven
    assert any(line.startswith("train_normal: ") and "does not exist" in line for line in lines)
    assert not any(line.startswith("test_normal: ") for line in lines)
