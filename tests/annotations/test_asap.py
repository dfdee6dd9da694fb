"""ASAP XML: CAMELYON's own files, a round trip, and what is refused."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import shapely
from PIL import Image

from napari_metastasis.annotations import Annotation, AnnotationSet, rasterize, read_asap_xml, write_asap_xml
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import LevelFrame, Size

SQUARE = np.array([(10, 10), (50, 10), (50, 40), (10, 40)], float)


def asap(*polygons):
    """An ASAP file of (group, ring) polygons, with Order counting down to prove that it is obeyed."""
    listing = ""
    for group, ring in polygons:
        rows = [f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(ring)]
        listing += (
            f'<Annotation Name="n" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
            f"{''.join(reversed(rows))}</Coordinates></Annotation>"
        )
    return f"<ASAP_Annotations><Annotations>{listing}</Annotations><AnnotationGroups/></ASAP_Annotations>"


@pytest.mark.shared
@pytest.mark.parametrize("name", ["Tumor_005", "Tumor_016", "Tumor_026", "Tumor_033", "Tumor_064"])
def test_camelyon_masks_follow_from_their_outlines(shared_data, name):
    with Image.open(shared_data / "froc_case" / f"{name}_mask_level5.png") as image:
        truth = np.asarray(image) > 0
    annotations = read_asap_xml(shared_data / "froc_case" / f"{name}.xml")
    assert all(annotation.is_tumour for annotation in annotations)
    # The organisers' masks ask of each pixel's corner, not its centre, whether it lies inside: half a pixel at level 5.
    corners = [
        Annotation.of_rings(
            name=a.name, group=a.group, exterior=a.exterior + 16, holes=tuple(hole + 16 for hole in a.holes)
        )
        for a in annotations
    ]
    mask = rasterize(corners, LevelFrame(downsample=32, mpp=0.243), Size(truth.shape[1], truth.shape[0]))
    assert (mask & truth).sum() / (mask | truth).sum() > 0.998


def test_round_trip_keeps_corners_names_groups_and_holes(tmp_path):
    hole = SQUARE / 3 + 10.1
    written = AnnotationSet(
        (
            Annotation.of_rings(name="macro 1", group="metastases", exterior=SQUARE + 1 / 3, holes=(hole,)),
            Annotation.of_rings(name='ITC "2" & <3>', group="_0", exterior=SQUARE + 100),
        )
    )
    path = tmp_path / "slide.xml"
    write_asap_xml(path, written)
    read = read_asap_xml(path)
    assert [(a.name, a.group, len(a.holes)) for a in read] == [(a.name, a.group, len(a.holes)) for a in written]
    for one, other in zip(read, written, strict=True):
        np.testing.assert_array_equal(one.exterior, other.exterior)
    np.testing.assert_array_equal(read.annotations[0].holes[0], hole)


def test_written_files_follow_the_conventions(tmp_path):
    path = tmp_path / "slide.xml"
    write_asap_xml(
        path, AnnotationSet((Annotation.of_rings(name="a", group="_1", exterior=SQUARE, holes=(SQUARE / 2,)),))
    )
    root = ET.parse(path).getroot()
    polygons = root.findall("Annotations/Annotation")
    assert [p.attrib["PartOfGroup"] for p in polygons] == ["_1", "_2"]
    assert all(set(p.attrib) == {"Name", "Type", "PartOfGroup", "Color"} for p in polygons)
    for polygon in polygons:
        orders = [int(c.attrib["Order"]) for c in polygon.iterfind("Coordinates/Coordinate")]
        assert orders == list(range(4))
    groups = root.findall("AnnotationGroups/Group")
    assert [g.attrib["Name"] for g in groups] == ["_1", "_2"]
    assert all(g.attrib["PartOfGroup"] == "None" and g.find("Attributes") is not None for g in groups)
    assert [p.name for p in tmp_path.iterdir()] == ["slide.xml"]


@pytest.mark.parametrize(
    ("tumour", "cut"), [("_0", "_2"), ("_1", "_2"), ("Tumor", "Exclusion"), ("Tumor", "exclusion")]
)
def test_cut_outs_are_holes_of_what_they_touch(tmp_path, tumour, cut):
    path = tmp_path / "a.xml"
    island = SQUARE / 8 + 20
    path.write_text(asap((tumour, SQUARE), (cut, SQUARE / 2 + 10), (tumour, SQUARE + 500), (tumour, island)))
    first, far, inner = read_asap_xml(path)
    np.testing.assert_array_equal(first.exterior, SQUARE)
    assert len(first.holes) == 1
    assert far.holes == ()
    assert inner.holes == (), "an island of tumour in a cut-out stays tumour"


def test_what_encloses_no_area_is_left_out(tmp_path):
    path = tmp_path / "a.xml"
    text = asap(("_0", SQUARE), ("_0", SQUARE[:1]))
    head, _, tail = text.rpartition('Type="Polygon"')
    path.write_text(f'{head}Type="Dot"{tail}')
    found = read_asap_xml(path)
    assert len(found) == 1
    assert found.omitted == {"dots": 1}
    assert not found.lacks_tumour
    assert "got also 1 dot; they are left out" in found.doubts(path)


def test_a_stray_click_does_not_refuse_a_slide(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(asap(("_0", SQUARE), ("_0", SQUARE[:1]), ("_0", SQUARE[:2]), ("_0", SQUARE[:0])))
    found = read_asap_xml(path)
    assert (len(found), found.omitted) == (1, {"outlines of fewer than three corners": 3})


@pytest.mark.parametrize("kind", ["Dot", "PointSet", "Measurement"])
def test_a_file_without_areas_is_no_normal_slide(tmp_path, kind):
    path = tmp_path / "a.xml"
    path.write_text(asap(("Tumor", SQUARE[:1])).replace('Type="Polygon"', f'Type="{kind}"'))
    assert read_asap_xml(path).lacks_tumour
    path.write_text(asap())
    assert not read_asap_xml(path).lacks_tumour


def test_cut_outs_of_nothing_are_no_normal_slide(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(asap(("_2", SQUARE)))
    found = read_asap_xml(path)
    assert found.omitted == {"cut-outs of no outline": 1}
    assert found.lacks_tumour


def test_a_group_within_a_group_is_what_it_lies_in(tmp_path):
    path = tmp_path / "a.xml"
    groups = {"Tumor": "None", "lesion 1": "nest", "nest": "Tumor", "stroma": "None", "a": "b", "b": "a", "_2": "Tumor"}
    text = asap(*((name, SQUARE + 900 * k) for k, name in enumerate(("Tumor", "lesion 1", "stroma", "a"))))
    declared = "".join(f'<Group Name="{name}" PartOfGroup="{parent}"/>' for name, parent in groups.items())
    path.write_text(
        text.replace("</ASAP_Annotations>", f"<AnnotationGroups>{declared}</AnnotationGroups></ASAP_Annotations>")
    )
    found = read_asap_xml(path)
    assert [one.group for one in found] == ["Tumor", "Tumor", "stroma", "a"]
    assert len(found.tumour) == 2
    assert found.unknown_groups == ("a", "stroma")
    assert "got also 1 outline of group 'a', 1 outline of group 'stroma'" in found.doubts("a.xml")


def test_hundreds_of_self_crossing_outlines_take_no_time(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.xml"
    tumour = [("_0", rng.uniform(0, 3000, (200, 2)))] * 2
    cut_outs = [("_2", SQUARE / 50 + rng.uniform(0, 3000, 2)) for _ in range(400)]
    path.write_text(asap(*tumour, *cut_outs))
    begun = time.process_time()
    found = read_asap_xml(path)
    # Shapely's other repair takes 20 s for each of the two.
    assert time.process_time() - begun < 10
    assert len(found) == 2
    assert len(found.annotations[0].holes) > 200


def test_cut_outs_are_told_apart_as_if_each_were_compared_with_each(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "a.xml"
    areas = [SQUARE * rng.uniform(1, 4) + rng.uniform(0, 2000, 2) for _ in range(40)]
    cuts = [SQUARE * rng.uniform(0.2, 5) + rng.uniform(0, 2000, 2) for _ in range(40)]
    path.write_text(asap(*(("_0", ring) for ring in areas), *(("_2", ring) for ring in cuts)))
    for ring, found in zip(areas, read_asap_xml(path), strict=True):
        area = shapely.Polygon(ring)
        expected = [
            cut for cut in cuts if shapely.Polygon(cut).intersects(area) and not shapely.Polygon(cut).contains(area)
        ]
        assert len(found.holes) == len(expected)
        for hole, cut in zip(found.holes, expected, strict=True):
            np.testing.assert_array_equal(hole, cut)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("<html/>", "expected <ASAP_Annotations>"),
        ("no xml at all", "does not parse"),
        ("", "does not parse"),
        (asap(("_0", SQUARE)).replace('X="10.0"', 'X="nan"'), "at least three finite"),
        (asap(("_0", SQUARE)).replace('X="10.0"', 'X="1e308"'), "within 400,000 px"),
        (asap(("_0", SQUARE)).replace('X="10.0"', 'X="4e6"'), "got a corner at x 4e\\+06"),
        ('<?xml version="1.0" encoding="nothing"?><ASAP_Annotations/>', "does not parse"),
        (asap(("_0", SQUARE)).replace('X="10.0"', 'X="ten"'), "ten"),
        (asap(("_0", SQUARE)).replace('X="10.0"', ""), "without 'X'"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><ASAP_Annotations>&a;</ASAP_Annotations>', "does not parse"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_remedy(tmp_path, content, match):
    path = tmp_path / "wrong.xml"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=match) as caught:
        read_asap_xml(path)
    assert "wrong.xml" in str(caught.value)
    assert ";" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "missing.xml", tmp_path):
        with pytest.raises(AnnotationError, match="check the path"):
            read_asap_xml(path)


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "slide.xml"
    path.write_text("old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="a full disk; free some space"):
        write_asap_xml(path, AnnotationSet((Annotation.of_rings(name="a", group="_0", exterior=SQUARE),)))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["slide.xml"]
    with pytest.raises(StorageError, match="expected a folder"):
        write_asap_xml(tmp_path / "no" / "folder.xml", AnnotationSet())


def test_neighbours_and_islands_keep_their_own_holes(tmp_path):
    ring, hole = SQUARE * 10, SQUARE * 4 + 100
    island = SQUARE + 180
    # The second outline reaches into the first one's hole, and has none itself.
    beside = SQUARE * 10 + (150, 0)
    written = AnnotationSet(
        (
            Annotation.of_rings(name="Lesion 1", group="_0", exterior=ring, holes=(hole,)),
            Annotation.of_rings(name="Lesion 2", group="_0", exterior=island),
            Annotation.of_rings(name="Lesion 3", group="metastases", exterior=beside),
        )
    )
    path = tmp_path / "slide.xml"
    write_asap_xml(path, written)
    assert read_asap_xml(path).annotations == written.annotations
    # Without the names, whatever the cut-out touches has a hole.
    path.write_text(path.read_text().replace("cut-out 0", "x"))
    assert [len(one.holes) for one in read_asap_xml(path)] == [1, 0, 1]


def test_names_that_xml_cannot_hold_do_not_spoil_the_file(tmp_path):
    path = tmp_path / "slide.xml"
    names = Annotation.of_rings(name="a\x00\x1b\nb", group="c\ufffe", exterior=SQUARE)
    write_asap_xml(path, AnnotationSet((names,)))
    (found,) = read_asap_xml(path)
    assert (found.name, found.group) == ("a\ufffd\ufffd\nb", "c\ufffd")


def test_files_of_other_programs_are_read_or_refused_in_one_line(tmp_path):
    path = tmp_path / "a.xml"
    listing = asap(("_0", SQUARE)).replace(' PartOfGroup="_0"', "").replace("<AnnotationGroups/>", "")
    path.write_text(listing)
    (nameless,) = read_asap_xml(path)
    assert nameless.group == "None", "a group that is missing"
    path.write_text(listing.replace('Type="Polygon"', 'Type="Brush"'))
    assert read_asap_xml(path).omitted == {"annotations of type 'Brush'": 1}
    path.write_text(asap(("nowhere declared", SQUARE)))
    assert read_asap_xml(path).groups == ("nowhere declared",)
    path.write_text("<ASAP_Annotations/>")
    assert len(read_asap_xml(path)) == 0
    path.write_text(asap(("_0", SQUARE)).replace('Order="1"', 'Order="one"'))
    with pytest.raises(AnnotationError, match="numbers as the coordinates"):
        read_asap_xml(path)


def test_a_hundred_thousand_corners_take_no_time(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    ring = np.column_stack((np.cos(angle), np.sin(angle))) * 9000 + 20_000
    path = tmp_path / "a.xml"
    write_asap_xml(path, AnnotationSet((Annotation.of_rings(name="a", group="_0", exterior=ring),)))
    begun = time.process_time()
    (found,) = read_asap_xml(path)
    assert time.process_time() - begun < 10
    np.testing.assert_array_equal(found.exterior, ring)
