"""Cohort files and the layouts of folders; no slide is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cohort_files import touch

from napari_metastasis.cohorts.annotation_files import annotation_key
from napari_metastasis.cohorts.camelyon16 import CAMELYON16_FLAWED, CAMELYON16_NOT_EXHAUSTIVE
from napari_metastasis.cohorts.cohort import CohortSlide, read_cohort, write_cohort
from napari_metastasis.errors import CohortError


def read(path, *, validation_share=0.0, seed=1, mpp=None):
    return read_cohort(path, validation_share=validation_share, seed=seed, mpp=mpp)


def by_name(cohort):
    return {slide.name.casefold(): slide for slide in cohort.slides}


def write(path, text):
    path.write_text(text)
    return path


def test_a_cohort_file(tmp_path):
    (tmp_path / "slides").mkdir()
    file = write(
        tmp_path / "cohort.csv",
        "slide,annotation,split,patient,node\n"
        "slides/a.svs,outlines/a.xml,train,p1,2\n"
        "slides/b.svs,,Validation,p2,\n"
        "\n"
        f"{tmp_path}/c.tif,c_mask.png,test,,\n",
    )
    cohort = read(file)
    assert (cohort.layout, cohort.origin) == ("file", file)
    assert cohort.slides == (
        CohortSlide(
            name="a", path=tmp_path / "slides/a.svs", annotation=tmp_path / "outlines/a.xml", patient="p1", node="2"
        ),
        CohortSlide(name="b", path=tmp_path / "slides/b.svs", split="validation", patient="p2"),
        CohortSlide(name="c", path=tmp_path / "c.tif", annotation=tmp_path / "c_mask.png", split="test"),
    )
    assert [slide.name for slide in cohort.of("test")] == ["c"]


def test_a_cohort_file_in_a_folder_is_believed_over_its_layout(tmp_path):
    touch(tmp_path, *NEW_16)
    file = write(tmp_path / "cohort.csv", "slide,split\ntraining/tumor/tumor_001.tif,validation\n")
    cohort = read(tmp_path)
    assert (cohort.layout, cohort.origin) == ("file", file)
    assert [(slide.name, slide.split) for slide in cohort.slides] == [("tumor_001", "validation")]


def test_a_spreadsheets_csv_and_the_further_columns(tmp_path):
    text = "Slide;annotation;tumour;mpp;exhaustive\r\na.tif;;yes;0.25;no\r\nb.tif;b.xml;;;\r\n"
    file = tmp_path / "cohort.csv"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    a, b = read(file, mpp=0.5).slides
    assert (a.tumour, a.mpp, a.exhaustive, a.split) == (True, 0.25, False, "train")
    assert (b.tumour, b.mpp, b.exhaustive, b.split) == (None, 0.5, True, "train")
    assert not a.shows_normal
    assert not a.may_hold_tumour
    assert b.shows_normal
    assert b.may_hold_tumour


def test_what_is_written_reads_back(tmp_path):
    slides = (
        CohortSlide(name="a", path=tmp_path / "in, side/a.tif", annotation=tmp_path / "a.xml", patient="p", node="0"),
        CohortSlide(name="b", path=tmp_path / "b.tif", split="test", tumour=False, mpp=0.2431, exhaustive=False),
    )
    (tmp_path / "lists").mkdir()
    write_cohort(tmp_path / "lists" / "cohort.csv", slides)
    read_back = read(tmp_path / "lists" / "cohort.csv").slides
    for one, other in zip(read_back, slides, strict=True):
        assert one.path.resolve() == other.path
        assert (one.annotation and one.annotation.resolve()) == other.annotation
        assert (one.split, one.patient, one.node, one.tumour) == (other.split, other.patient, other.node, other.tumour)
        assert (one.mpp, one.exhaustive) == (other.mpp, other.exhaustive)


def test_a_link_keeps_its_own_name(tmp_path):
    """git-annex and download caches keep files under their hash, and link to them by name."""
    touch(tmp_path, "store/SHA256-3f.tif", "store/SHA256-77.xml")
    for kind, target in (("tif", "SHA256-3f.tif"), ("xml", "SHA256-77.xml")):
        (tmp_path / f"node_1.{kind}").symlink_to(tmp_path / "store" / target)
    # A folder that is a link is followed: the list may be read from elsewhere.
    (tmp_path / "short").symlink_to(tmp_path, target_is_directory=True)
    slide = CohortSlide(name="node_1", path=tmp_path / "node_1.tif", annotation=tmp_path / "short" / "node_1.xml")
    (tmp_path / "run").mkdir()
    write_cohort(tmp_path / "run" / "cohort.csv", [slide])
    assert (tmp_path / "run" / "cohort.csv").read_text().splitlines()[1].startswith("../node_1.tif,../node_1.xml,")
    (back,) = read(tmp_path / "run" / "cohort.csv").slides
    assert back.name == "node_1"
    assert back.path.resolve() == (tmp_path / "store" / "SHA256-3f.tif").resolve()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,anotation\na.tif,a.xml\n", "expected a first line of slide, annotation, .* got slide, anotation"),
        ("a.tif\nb.tif\n", "expected a first line"),
        ("", "expected a first line .* got none"),
        ("slide\n", "expected slides in .*, got none; add"),
        ("slide,split\na.tif,training\n", "expected a split of train, validation, test in line 2 .*'training'; choose"),
        ("slide,mpp\na.tif,big\n", "expected .* µm as mpp in line 2 .*'big'"),
        ("slide,mpp\na.tif,nan\n", "expected .* µm as mpp"),
        ("slide,tumour\na.tif,perhaps\n", "expected yes, no or nothing as tumour in line 2"),
        ("slide,split\na.tif,train,x\n", "more; quote"),
        ("slide,split\n,train\n", "expected the path of a slide in line 2"),
        ('slide,split\n"a.tif,train\n', "expected a cohort as CSV"),
    ],
)
def test_a_cohort_file_that_cannot_be_meant(tmp_path, text, message):
    with pytest.raises(CohortError, match=message):
        read(write(tmp_path / "cohort.csv", text))


def test_no_cohort_at_all(tmp_path):
    with pytest.raises(CohortError, match="No such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "slide.tif").write_bytes(b"II*\0\xff\xfe")
    with pytest.raises(CohortError, match="UTF-8"):
        read(tmp_path / "slide.tif")
    with pytest.raises(CohortError, match="laid out like CAMELYON16"):
        read(tmp_path)
    with pytest.raises(CohortError, match="expected a validation share"):
        read(tmp_path, validation_share=1.0)


NEW_16 = (
    "training/normal/normal_001.tif",
    "training/normal/normal_086.tif",
    "training/tumor/tumor_001.tif",
    "training/tumor/tumor_015.tif",
    "training/lesion_annotations/tumor_001.xml",
    "training/lesion_annotations/tumor_015.xml",
    "testing/images/test_001.tif",
    "testing/images/test_002.tif",
    "testing/images/test_049.tif",
    "testing/images/test_114.tif",
    "testing/lesion_annotations/test_001.xml",
    "testing/lesion_annotations/test_114.xml",
    "testing/evaluation_masks/test_001_evaluation_mask.png",
    "background_tissue/tumor_001.tif",
    "training/tumor/tumor_001.metastasis/lesions.xml",
)
OLD_16 = (
    "TrainingData/Train_Normal/Normal_001.tif",
    "TrainingData/Train_Normal/Normal_086.tif",
    "TrainingData/Train_Tumor/Tumor_001.tif",
    "TrainingData/Train_Tumor/Tumor_015.tif",
    "TrainingData/Ground_Truth/XML/Tumor_001.xml",
    "TrainingData/Ground_Truth/Mask/Tumor_001_Mask.tif",
    "TrainingData/Ground_Truth/XML/Tumor_015.xml",
    "Testset/Images/Test_001.tif",
    "Testset/Images/Test_002.tif",
    "Testset/Images/Test_049.tif",
    "Testset/Images/Test_114.tif",
    "Testset/Ground_Truth/Annotations/Test_001.xml",
    "Testset/Ground_Truth/Masks/Test_001_Mask.tif",
)
FLAT_16 = (
    "images/normal_001.tif",
    "images/normal_086.tif",
    "images/tumor_001.tif",
    "images/tumor_015.tif",
    "images/test_001.tif",
    "images/test_002.tif",
    "images/test_049.tif",
    "images/test_114.tif",
    "annotations/tumor_001.xml",
    "annotations/tumor_015.xml",
    "annotations/test_001.xml",
    "masks/tumor_001_mask.tif",
    "masks/normal_001_mask.tif",
)


@pytest.mark.parametrize("names", [NEW_16, OLD_16, FLAT_16])
def test_camelyon16_in_all_its_distributions(tmp_path, names):
    touch(tmp_path, *names)
    cohort = read(tmp_path)
    slides = by_name(cohort)
    assert cohort.layout == "camelyon16"
    assert sorted(slides) == ["normal_001", "test_001", "test_002", "tumor_001", "tumor_015"]
    assert {name: slide.split for name, slide in slides.items() if slide.split != "train"} == {
        "test_001": "test",
        "test_002": "test",
    }
    assert slides["normal_001"].tumour is False
    assert slides["normal_001"].annotation is None
    assert slides["tumor_001"].tumour is True
    # Outlines are more exact than masks.
    assert slides["tumor_001"].annotation.suffix == slides["test_001"].annotation.suffix == ".xml"
    assert slides["test_002"].annotation is None
    assert [name for name, slide in slides.items() if not slide.shows_normal] == ["tumor_015"]
    left_out = {one.slide.name.casefold(): one.reason for one in cohort.left_out}
    assert left_out == CAMELYON16_FLAWED


def test_camelyon16s_table_says_what_test_slides_are(tmp_path):
    touch(tmp_path, *NEW_16)
    (tmp_path / "testing/reference.csv").write_text("test_001,Tumor,IDC,Macro\nTest_002,Normal,None,None\n")
    slides = by_name(read(tmp_path))
    assert (slides["test_001"].tumour, slides["test_002"].tumour) == (True, False)
    # A slide that the table does not know may hold anything.
    touch(tmp_path, "testing/images/test_003.tif")
    cohort = read(tmp_path)
    assert "test_003" not in by_name(cohort)
    assert any(one.slide.name == "test_003" and "reference.csv" in one.reason for one in cohort.left_out)


def test_test_slides_of_which_nothing_is_known_are_left_out(tmp_path):
    touch(tmp_path, "training/normal/normal_001.tif", "testing/images/test_001.tif", "testing/images/test_002.tif")
    cohort = read(tmp_path)
    assert sorted(by_name(cohort)) == ["normal_001"]
    assert len(cohort.left_out) == 2


def test_the_class_folders_of_camelyon16_with_names_of_ones_own(tmp_path):
    touch(
        tmp_path,
        "training/normal/H23-1.svs",
        "training/Tumor/H23-2.svs",
        "training/lesion_annotations/h23-2.geojson",
        "validation/tumour/H23-3.svs",
        "validation/masks/H23-3_mask.tif",
    )
    slides = by_name(read(tmp_path, validation_share=0.5))
    assert {name: (slide.tumour, slide.split) for name, slide in slides.items()} == {
        "h23-1": (False, "train"),
        "h23-2": (True, "train"),
        "h23-3": (True, "validation"),
    }
    assert slides["h23-2"].annotation.name == "h23-2.geojson"
    assert slides["h23-3"].annotation.name == "H23-3_mask.tif"


def test_the_lists_of_camelyon16_are_those_of_its_notes():
    assert len(CAMELYON16_NOT_EXHAUSTIVE) == 20
    assert {"tumor_010", "tumor_110", "tumor_079"} <= CAMELYON16_NOT_EXHAUSTIVE
    assert set(CAMELYON16_FLAWED) == {"normal_086", "test_049", "test_114"}


@pytest.mark.parametrize("folder", ["training/center_0/", "images/"])
def test_camelyon17(tmp_path, folder):
    touch(tmp_path, *(f"{folder}patient_017_node_{node}.tif" for node in range(5)))
    touch(tmp_path, f"{folder}patient_120_node_0.tif")
    touch(tmp_path, "training/lesion_annotations/patient_017_node_1.xml", "annotations/patient_017_node_2.xml")
    (tmp_path / "stages.csv").write_text(
        "patient,stage\npatient_017.zip,pN1\npatient_017_node_0.tif,negative\npatient_017_node_1.tif,macro\n"
        "patient_017_node_2.tif,itc\npatient_017_node_3.tif,micro\n"
    )
    cohort = read(tmp_path)
    slides = by_name(cohort)
    assert cohort.layout == "camelyon17"
    assert {slide.patient for slide in slides.values()} == {"patient_017"}
    assert [slides[f"patient_017_node_{k}"].node for k in range(4)] == ["0", "1", "2", "3"]
    assert [slides[f"patient_017_node_{k}"].tumour for k in range(4)] == [False, True, True, True]
    assert [slides[f"patient_017_node_{k}"].may_hold_tumour for k in range(4)] == [False, True, True, False]
    # Isolated tumour cells are not outlined exhaustively, and node 3 is not outlined at all.
    assert [slides[f"patient_017_node_{k}"].shows_normal for k in range(4)] == [True, True, False, False]
    left_out = {one.slide.name: one.slide.split for one in cohort.left_out}
    assert left_out == {"patient_017_node_4": "train", "patient_120_node_0": "test"}


def test_two_challenges_in_one_folder_are_refused(tmp_path):
    touch(tmp_path, "16/tumor_001.tif", "17/patient_000_node_0.tif")
    with pytest.raises(CohortError, match="got CAMELYON16 and CAMELYON17; choose"):
        read(tmp_path)


def test_masks_are_told_from_slides_by_name_or_folder(tmp_path):
    touch(tmp_path, "WSI_and_masks/tumor_001.tif", "WSI_and_masks/tumor_001_mask.tif")
    touch(tmp_path, "WSI_and_masks/tumor_002.tif", "tumor_masks/tumor_002.tif")
    slides = by_name(read(tmp_path))
    assert {name: slide.annotation.relative_to(tmp_path).as_posix() for name, slide in slides.items()} == {
        "tumor_001": "WSI_and_masks/tumor_001_mask.tif",
        "tumor_002": "tumor_masks/tumor_002.tif",
    }


def test_images_and_masks(tmp_path):
    touch(tmp_path, "Images/a.jpg", "Images/b.png", "Masks/a.png", "Masks/B_mask.tif", "preview.png", "notes.json")
    cohort = read(tmp_path, mpp=0.7)
    slides = by_name(cohort)
    assert cohort.layout == "images-and-masks"
    assert {name: slide.annotation.name for name, slide in slides.items()} == {"a": "a.png", "b": "B_mask.tif"}
    assert {(slide.tumour, slide.mpp) for slide in slides.values()} == {(None, 0.7)}


def test_masks_of_tissue_are_not_taken_for_those_of_tumour(tmp_path):
    touch(tmp_path, "images/a.tif", "tissue_mask/a.tif", "tumor_mask/a.tif")
    (slide,) = read(tmp_path).slides
    assert slide.annotation == tmp_path / "tumor_mask" / "a.tif"


def test_slides_in_a_folder_named_unmasked_are_slides(tmp_path):
    touch(tmp_path, "unmasked/tumor_001.tif", "lesion_annotations/tumor_001.xml")
    (slide,) = read(tmp_path).slides
    assert slide.path == tmp_path / "unmasked" / "tumor_001.tif"


def test_of_annotations_of_one_name_the_nearest_counts(tmp_path):
    touch(tmp_path, *(f"{split}/{kind}/1.png" for split in ("train", "test") for kind in ("images", "masks")))
    cohort = read(tmp_path)
    assert [slide.split for slide in cohort.slides] == ["test", "train"]
    for slide in cohort.slides:
        assert slide.annotation == tmp_path / slide.split / "masks" / "1.png"


def test_links_are_followed_and_circles_are_not(tmp_path):
    touch(tmp_path / "disk", "images/a.tif", "masks/a.png")
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "data").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "disk")
    assert [slide.name for slide in read(tmp_path / "cohort").slides] == ["a"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Tumor_001_Mask.tif", "tumor_001"),
        ("test_001_evaluation_mask.png", "test_001"),
        ("Tumor_005_mask_level5.png", "tumor_005"),
        ("a-tumor_mask.png", "a-tumor_mask"[:1]),
        ("masked.xml", "masked"),
    ],
)
def test_masks_are_named_after_their_slides(name, key):
    assert annotation_key(Path(name)) == key


def patients(count, tumour):
    kind = "t" if tumour else "n"
    return [
        CohortSlide(name=f"{kind}{p}_{node}", path=Path(f"/{kind}{p}_{node}.tif"), patient=f"{kind}{p}", tumour=tumour)
        for p in range(count)
        for node in range(3)
    ]


def validation_of(tmp_path, slides, share, seed=1):
    write_cohort(tmp_path / "cohort.csv", slides)
    return {slide.name for slide in read(tmp_path / "cohort.csv", validation_share=share, seed=seed).of("validation")}


def test_validation_takes_whole_patients_of_both_kinds(tmp_path):
    slides = patients(20, True) + patients(10, False)
    chosen = validation_of(tmp_path, slides, 0.2)
    of_patients = {name.split("_")[0] for name in chosen}
    assert len(chosen) == 3 * len(of_patients)
    assert sum(name.startswith("t") for name in of_patients) == 4
    assert sum(name.startswith("n") for name in of_patients) == 2
    # The same for the same seed, in any order and with others beside; another for another.
    assert validation_of(tmp_path, slides[::-1], 0.2) == chosen
    assert validation_of(tmp_path, slides, 0.2, seed=2) != chosen
    more = validation_of(tmp_path, [*slides, *patients(21, True)[60:]], 0.2)
    assert len(chosen & more) >= len(chosen) - 3


def test_validation_leaves_something_to_train_on(tmp_path):
    alone = [CohortSlide(name=n, path=Path(f"/{n}.tif"), tumour=n == "t") for n in "tn"]
    assert validation_of(tmp_path, alone, 0.5) == set()
    assert validation_of(tmp_path, patients(2, True), 0.01) in ({f"t{p}_{k}" for k in range(3)} for p in range(2))
    assert validation_of(tmp_path, patients(9, True), 0.0) == set()


def test_a_split_that_is_marked_is_kept(tmp_path):
    slides = [*patients(5, True), CohortSlide(name="v", path=Path("/v.tif"), split="validation")]
    assert validation_of(tmp_path, slides, 0.5) == {"v"}


def test_slides_with_red_and_blue_exchanged_are_said_in_a_column_of_their_own(tmp_path):
    plain, swapped = (CohortSlide(name=name, path=tmp_path / f"{name}.tif") for name in ("a", "b"))
    write_cohort(tmp_path / "cohort.csv", [plain, replace(swapped, swap_red_blue=True)])
    slides = read_cohort(tmp_path / "cohort.csv", validation_share=0, seed=0).slides
    assert [slide.swap_red_blue for slide in slides] == [False, True]
    write_cohort(tmp_path / "plain.csv", [plain])
    assert "swap" not in (tmp_path / "plain.csv").read_text("utf-8")


def test_odd_names_come_back_and_those_over_two_lines_or_no_utf8_are_refused(tmp_path):
    names = ["a\u2028b.tif", "=x,y.tif"]
    slides = [CohortSlide(name=Path(name).stem, path=tmp_path / name) for name in names]
    write_cohort(tmp_path / "cohort.csv", slides)
    read = read_cohort(tmp_path / "cohort.csv", validation_share=0, seed=1)
    assert [slide.path.resolve() for slide in read.slides] == [slide.path.resolve() for slide in slides]
    for name in ("a\udcff.tif", "a\x0bb.tif", "two\nlines.tif"):
        with pytest.raises(CohortError, match=r"UTF-8 .*rename it"):
            write_cohort(tmp_path / "other.csv", [CohortSlide(name="a", path=tmp_path / name)])
    assert not (tmp_path / "other.csv").exists()


def test_slides_of_any_name_can_be_dealt_out(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for number in range(4):
            (tmp_path / folder / f"{number}\udcff.tif").touch()
    assert len(read_cohort(tmp_path, validation_share=0.5, seed=1).of("validation")) == 2
