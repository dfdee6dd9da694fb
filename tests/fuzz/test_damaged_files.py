"""Files of every kind, damaged at random: each is read, or refused by one of the program's own errors."""

from __future__ import annotations

import gzip
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_metastasis.annotations import MaskFile, read_asap_xml, read_geojson, read_points
from napari_metastasis.cohorts.cohort import read_cohort
from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.errors import MetastasisError
from napari_metastasis.evaluation import read_detections_csv
from napari_metastasis.geometry import Region
from napari_metastasis.slides import open_slide

#: ``make fuzz`` tries more, and others each time.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
CHOSEN = settings(
    max_examples=EXAMPLES or 60,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(90, 250, (150, 200, 3), dtype=np.uint8)
MASK = (PIXELS[..., 0] > 200).astype(np.uint8) * 2
RESOLUTION = {"resolution": (20000, 20000), "resolutionunit": 3}
AREA = [[10, 10], [90, 10], [90, 80], [10, 80], [10, 10]]
ASAP = """<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="a" Type="Polygon" PartOfGroup="lesion" Color="#F4FA58"><Coordinates>
<Coordinate Order="0" X="10.5" Y="10"/><Coordinate Order="1" X="90" Y="1e1"/><Coordinate Order="2" X="90" Y="80"/>
</Coordinates></Annotation><Annotation Name="b" Type="Dot" PartOfGroup="None" Color="#F4FA58"><Coordinates>
<Coordinate Order="0" X="3" Y="4"/></Coordinates></Annotation></Annotations>
<AnnotationGroups><Group Name="lesion" PartOfGroup="Tumor" Color="#fff"><Attributes/></Group></AnnotationGroups>
</ASAP_Annotations>"""
FEATURES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "1",
            "geometry": {"type": "MultiPolygon", "coordinates": [[AREA], [AREA]]},
            "properties": {"classification": {"name": "Tumor: Positive", "color": [1, 2, 3]}},
        },
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 6]}, "properties": {"name": "x"}},
    ],
}


def _tiff(path: Path, *pages: np.ndarray, **options) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            tiff.write(page, **({"metadata": None} | RESOLUTION | options))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for label in (0, 1):
            file = path.with_suffix(".png")
            Image.fromarray(PIXELS[:96, :96]).save(file)
            archive.write(file, f"{label}/a.png")


def _slide(path: Path) -> None:
    with open_slide(path, 0.5) as slide:
        for number in range(len(slide.levels)):
            size = slide.levels[number].size
            slide.read_level(number, Region(0, 0, min(300, size.width), min(300, size.height)))


def _mask(path: Path) -> None:
    with MaskFile(path) as mask:
        mask.values()
        mask.read(Region(0, 0, 120, 90))


def _patches(path: Path) -> None:
    source = open_patches(path)
    for index in range(min(4, len(source))):
        source.read(index)


#: Name, how a whole one is written, and how it is read.
KINDS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "asap": ("a.xml", lambda path: path.write_text(ASAP), read_asap_xml),
    "asap points": ("a.xml", lambda path: path.write_text(ASAP), read_points),
    "geojson": ("a.geojson", lambda path: path.write_text(json.dumps(FEATURES)), read_geojson),
    "geojson points": ("a.geojson", lambda path: path.write_text(json.dumps(FEATURES)), read_points),
    "gzipped geojson": (
        "a.geojson.gz", lambda path: path.write_bytes(gzip.compress(json.dumps(FEATURES).encode())), read_geojson,
    ),
    "points": ("a.csv", lambda path: path.write_text("x,y,class\n1,2,a\n3.5,-4,b\n"), read_points),
    "detections": ("a.csv", lambda path: path.write_text("0.9,100,200\n0.5,7.25,8e2\n"), read_detections_csv),
    "cohort": (
        "a.csv",
        lambda path: path.write_text("slide,annotation,split,mpp\na.tif,a.xml,train,0.25\nb.tif,,test,\n"),
        lambda path: read_cohort(path, validation_share=0.2, seed=1),
    ),
    "tiled slide": (
        "a.tif",
        lambda path: _tiff(path, PIXELS, PIXELS[::2, ::2], tile=(64, 64), photometric="rgb", compression="jpeg"),
        _slide,
    ),
    "striped slide": (
        "a.tif", lambda path: _tiff(path, PIXELS, photometric="rgb", compression="deflate", rowsperstrip=40), _slide,
    ),
    "picture": ("a.png", lambda path: Image.fromarray(PIXELS).save(path), _slide),
    "tiff mask": ("a.tif", lambda path: _tiff(path, MASK, MASK[::2, ::2], tile=(64, 64), compression="lzw"), _mask),
    "png mask": ("a.png", lambda path: Image.fromarray(MASK).save(path), _mask),
    "zip": ("a.zip", _zip, _patches),
}  # fmt: skip


def read_or_refuse(read: Callable[[Path], object], path: Path) -> None:
    """Read a file; what refuses it says so in one line."""
    refused = ""
    try:
        read(path)
    except MetastasisError as error:
        refused = str(error)
    assert "\n" not in refused


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """Return what a whole file of each kind holds."""
    found = {}
    for kind, (name, write, _) in KINDS.items():
        path = tmp_path_factory.mktemp("whole") / name
        write(path)
        found[kind] = path.read_bytes()
    return found


@st.composite
def damages(draw) -> Callable[[bytes], bytes]:
    """Bytes that are flipped, cut out, repeated or cut off."""
    seed = draw(st.integers(0, 2**32 - 1))
    flips, cut, near = (
        draw(st.integers(0, 6)),
        draw(st.sampled_from([None, "end", "middle", "twice"])),
        draw(st.booleans()),
    )

    def damaged(data: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        result = bytearray(data)
        # Headers decide most: they lie at either end.
        span = min(len(data), 600) if near else len(data)
        for _ in range(flips):
            at = int(rng.integers(span)) if rng.random() < 0.5 else len(data) - 1 - int(rng.integers(span))
            result[at] = int(rng.choice([rng.integers(256), 0, 255, result[at] ^ (1 << int(rng.integers(8)))]))
        first, last = sorted(int(at) for at in rng.integers(0, len(result) + 1, 2))
        if cut == "end":
            del result[first:]
        elif cut == "middle":
            del result[first:last]
        elif cut == "twice":
            result[last:last] = result[first:last]
        return bytes(result)

    return damaged


@pytest.mark.parametrize("kind", KINDS)
@settings(CHOSEN)
@given(damage=damages())
def test_a_damaged_file_is_read_or_refused(kind, whole, tmp_path_factory, damage) -> None:
    name, _, read = KINDS[kind]
    path = tmp_path_factory.getbasetemp() / f"damaged-{kind.replace(' ', '-')}" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damage(whole[kind]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_or_refuse(read, path)


@settings(CHOSEN)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    where=st.integers(0, 10**6),
)
def test_geojson_of_any_shape_is_read_or_refused(value, where, tmp_path_factory) -> None:
    """One value of a whole file, whichever, is exchanged for another."""
    document = json.loads(json.dumps(FEATURES))
    places: list[tuple] = []

    def walk(node) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])

    walk(document)
    node, key = places[where % len(places)]
    node[key] = value
    path = tmp_path_factory.getbasetemp() / "shape.geojson"
    path.write_text(json.dumps(document))
    for read in (read_geojson, read_points):
        read_or_refuse(read, path)
