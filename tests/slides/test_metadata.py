"""Every dialect of stating a pixel size."""

from __future__ import annotations

import pytest

from napari_metastasis.slides import metadata as dialects
from napari_metastasis.slides.backend import PixelSize


def test_aperio():
    fields = dialects.aperio_fields("Aperio Image Library v11\r\n46000x32914|AppMag = 20|MPP = 0.4990|Left = 25.69")
    assert fields == {"AppMag": "20", "MPP": "0.4990", "Left": "25.69"}


@pytest.mark.parametrize(
    ("x", "unit", "expected"),
    [
        ((43826, 1), 3, 10000 / 43826),
        ((101600, 1), 2, 0.25),
        ((72, 1), 2, None),  # a screen's resolution
        ((1, 1), 1, None),  # no unit
        ((0, 1), 3, None),
        ((40000, 0), 3, None),
        (None, 3, None),
    ],
)
def test_tiff_resolution(x, unit, expected):
    found = dialects.resolution_pixel_size(x, x, unit)
    assert found is None if expected is None else found.x == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [("µm", "0.25", 0.25), ("μm", "0.25", 0.25), ("nm", "250", 0.25), ("mm", "0.00025", 0.25), (None, "0.25", 0.25),
     ("pixel", "1", None), ("µm", "oops", None), ("µm", "0", None), ("µm", "nan", None)],
)  # fmt: skip
def test_ome(unit, value, expected):
    units = f'PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}"' if unit else ""
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument>'
        '<Objective NominalMagnification="40"/></Instrument><Image>'
        f'<Pixels SizeX="300" SizeY="200" PhysicalSizeX="{value}" PhysicalSizeY="{value}" {units}/></Image></OME>'
    )
    root = dialects.xml_root(text)
    found = dialects.ome_pixel_size(root, width=300, height=200)
    assert found is None if expected is None else found.x == pytest.approx(expected)
    assert dialects.ome_objective_power(root) == 40
    assert dialects.ome_pixel_size(root, width=300, height=201) is None


def test_ome_images_are_told_apart_by_their_sizes_not_by_their_numbers():
    def image(width, mpp):
        return f'<Image><Pixels SizeX="{width}" SizeY="90" PhysicalSizeX="{mpp}" PhysicalSizeY="{mpp}"/></Image>'

    def size(*images):
        return dialects.ome_pixel_size(dialects.xml_root(f"<OME>{''.join(images)}</OME>"), width=400, height=90)

    assert size(image(100, 4), image(400, 0.25), image(200, 2)) == PixelSize(0.25, 0.25)
    assert size(image(400, 0.25), image(400, 0.25)) == PixelSize(0.25, 0.25)
    # Which of them is read cannot be known.
    assert size(image(400, 0.25), image(400, 0.5)) is None


def test_philips_takes_the_finest_spacing_and_rows_first():
    text = (
        '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028">"0.002" "0.001"</Attribute>'
        '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028">&quot;0.00025&quot; &quot;0.000243&quot;</Attribute>'
    )
    assert dialects.philips_pixel_size(text) == PixelSize(pytest.approx(0.243), pytest.approx(0.25))
    assert dialects.philips_pixel_size("<DataObject/>") is None


def test_scn_takes_the_image_of_this_size():
    text = """<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection>
      <image><pixels sizeX="100" sizeY="300"/><view sizeX="1600000" sizeY="4800000"/></image>
      <image><pixels sizeX="4000" sizeY="2000"/><view sizeX="1000000" sizeY="500000"/>
        <scanSettings><objectiveSettings><objective>20</objective></objectiveSettings></scanSettings></image>
      </collection></scn>"""
    root = dialects.xml_root(text)
    assert dialects.scn_scan(root, width=4000, height=2000) == (PixelSize(0.25, 0.25), 20)
    assert dialects.scn_scan(root, width=1, height=2) == (None, None)


@pytest.mark.parametrize("text", ["", "not xml", "<open>", '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'])
def test_broken_or_hostile_xml_is_no_xml(text):
    assert dialects.xml_root(text) is None


@pytest.mark.parametrize(("text", "expected"), [("0,25", 0.25), (" 4e-1 ", 0.4), ("inf", None), (None, None)])
def test_number(text, expected):
    assert dialects.number(text) == expected
