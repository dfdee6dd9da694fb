"""The lesions of a result go out to other programs, and come back as the same polygons."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import lesion_oracle as oracle
import pytest
import shapely
from lesion_fields import field
from results import change_record, write_lesions

from napari_metastasis.annotations import (
    AnnotationSet,
    read_asap_xml,
    read_dsa_json,
    read_geojson,
    write_asap_xml,
    write_dsa_json,
)
from napari_metastasis.cli import main
from napari_metastasis.errors import StorageError
from napari_metastasis.lesions import LesionIndex, annotations_of, write_lesions_geojson
from napari_metastasis.settings import DetectionSettings
from napari_metastasis.workflows.export import export_result
from napari_metastasis.workflows.report import read_result

READERS = {"asap": read_asap_xml, "dsa": read_dsa_json, "geojson": read_geojson}


def write(to, path, lesions):
    outlines = AnnotationSet(tuple(one for lesion in lesions for one in annotations_of(lesion)))
    if to == "geojson":
        write_lesions_geojson(path, lesions, slide="s")
    elif to == "asap":
        write_asap_xml(path, outlines)
    else:
        write_dsa_json(path, outlines, name="s")
    return outlines


@pytest.mark.parametrize("to", READERS)
@pytest.mark.parametrize("gap_um", [0.0, 30.0])
def test_lesions_with_holes_islands_and_foci_apart_come_back_as_they_were(to, gap_um, tmp_path):
    values = field(11, 120, 140, "smooth", missing=True)
    frame = oracle.frame_of(120, 140, mpp=0.243, scale=4.0)
    lesions = LesionIndex(values, frame, DetectionSettings(opening_um=0, gap_um=gap_um)).at(0.5).lesions
    parts = sum(len(shapely.get_parts(lesion.outline_px)) for lesion in lesions)
    assert sum(len(one.interiors) for lesion in lesions for one in shapely.get_parts(lesion.outline_px)) > 3
    assert (parts > len(lesions)) == bool(gap_um)
    path = tmp_path / "lesions"
    outlines = write(to, path, lesions)
    read = READERS[to](path)
    assert read.annotations == outlines.annotations
    assert not read.omitted
    assert len(read.tumour) == parts


@pytest.mark.parametrize("to", READERS)
def test_a_result_is_exported_beside_its_other_files_and_read_back(result, to):
    expected = [one.outline_px for lesion in read_result(result).lesions for one in annotations_of(lesion)]
    done = export_result(result, to, overwrite=to == "geojson")
    assert done.path.parent == result
    assert (done.lesions, done.without_outline) == (1, ())
    read = READERS[to](done.path)
    assert [one.outline_px for one in read] == expected
    assert [one.name for one in read] == ["Lesion 1"]
    if to == "asap":
        used = {one.get("PartOfGroup") for one in ET.parse(done.path).iterfind("Annotations/Annotation")}
        declared = {one.get("Name") for one in ET.parse(done.path).iterfind("AnnotationGroups/Group")}
        assert used == declared


def test_a_slide_with_bounds_keeps_level_0_pixels_but_for_qupath(result, tmp_path):
    write_lesions(result, [{"id": 1, "x": 300, "y": 300, "mm": 0.5, "size_class": "micro", "cut": 0}], corner=(100, 50))
    change_record(result, lambda record: record["slide"].update(bounds=[100, 50, 500, 500]))
    for to, center in (("asap", (300, 300)), ("dsa", (300, 300)), ("geojson", (200, 250))):
        (found,) = READERS[to](export_result(result, to, output=tmp_path / to).path)
        assert (found.outline_px.centroid.x, found.outline_px.centroid.y) == pytest.approx(center)


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["export", *map(str, arguments)])
    return ended.value.code


def test_an_earlier_file_is_replaced_only_if_asked_for(result, tmp_path, capsys):
    output = tmp_path / "out.xml"
    output.write_text("mine")
    assert run(result, "--to", "asap", "--output", output) == 1
    assert "which is there; choose another with --output, or use --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert run(result, "--to", "asap", "--output", output, "--overwrite") == 0
    assert capsys.readouterr().out == f"{output}\n"
    assert len(read_asap_xml(output)) == 1
    assert run(result, "--to", "geojson") == 1, "the result's own file lies there"
    assert run(result, "--to", "word") == 2
    assert run(tmp_path / "none", "--to", "dsa") == 1
    with pytest.raises(StorageError, match="expected a result folder"):
        export_result(tmp_path / "none", "dsa")


def test_lesions_without_an_outline_are_named(result, tmp_path, capsys):
    lesion = {"id": 1, "x": 300, "y": 300, "mm": 0.5, "size_class": "micro", "cut": 0}
    write_lesions(result, [lesion, {**lesion, "id": 2}])
    text = (result / "lesions.geojson").read_text()
    (result / "lesions.geojson").write_text(text.replace("Lesion 2", "Another"))
    assert run(result, "--to", "dsa", "--output", tmp_path / "a.json") == 0
    said = capsys.readouterr()
    assert "left out lesions 2, which have no outline" in said.err
    assert [one.name for one in read_dsa_json(tmp_path / "a.json")] == ["Lesion 1"]
