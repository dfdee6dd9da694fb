"""Files of every kind that a user may bring: how a whole one is written, how it is read, and how it is damaged.

Each kind lies in a folder, so that what belongs together is damaged together. What reads it may refuse it, by one of
the program's own errors and in one line; anything else is a finding.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from czi_files import JPEG_XR, ZSTD, Tile, czi_bytes, halved, tiles_of, write_czi
from dicom_slides import read_volume, split, write_slide
from isyntax_files import low_band_shape, write_isyntax
from ome_zarr_files import write_ome_zarr
from PIL import Image
from safetensors.torch import save

from napari_metastasis.annotations import MaskFile, read_asap_xml, read_dsa_json, read_geojson, read_points
from napari_metastasis.cohorts.cohort import read_cohort
from napari_metastasis.cohorts.layouts import read_layout
from napari_metastasis.cohorts.patches import open_patches
from napari_metastasis.cohorts.stages import read_stages
from napari_metastasis.cohorts.survey import survey_slides
from napari_metastasis.errors import MetastasisError
from napari_metastasis.evaluation import read_detections_csv
from napari_metastasis.evaluation.scan_records import read_scan_record
from napari_metastasis.geometry import HeatmapFrame, ModelFrame, Region, Size
from napari_metastasis.models import load_initial, load_model, save_model
from napari_metastasis.models.card import ModelSpec
from napari_metastasis.models.importing import read_foreign
from napari_metastasis.models.nets.architectures import build_network
from napari_metastasis.models.nets.spatial_lstm import RefinerSpec, SpatialNetwork
from napari_metastasis.sampling.failures import SlideFailure, add_failure, read_failures
from napari_metastasis.sampling.hard_negatives import HardNegative, read_hard_negatives, write_hard_negatives
from napari_metastasis.sampling.soft_labels import read_soft_labels
from napari_metastasis.scanning.engines.tuning import Tuned, TuningCache
from napari_metastasis.scanning.maps.features import FeatureStore
from napari_metastasis.scanning.maps.kinds import PROBABILITY
from napari_metastasis.scanning.maps.ome_zarr import MapHeader
from napari_metastasis.scanning.maps.store import MapStore
from napari_metastasis.slides import open_slide
from napari_metastasis.workflows.scan.earlier import earlier_result
from napari_metastasis.workflows.scan.result_folder import record_of
from napari_metastasis.workflows.stage import stage_patients

__all__ = ["KINDS", "Kind", "Whole", "damage", "lay_out", "read_or_refuse", "write_whole"]

#: Files of a folder, by their paths in it.
Whole = Mapping[str, bytes]

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(90, 250, (150, 200, 3), dtype=np.uint8)
MASK = (PIXELS[..., 0] > 200).astype(np.uint8) * 2
RESOLUTION = {"resolution": (20000, 20000), "resolutionunit": 3}
AREA = [[10, 10], [90, 10], [90, 80], [10, 80], [10, 10]]
ELEMENTS = {
    "name": "tumor",
    "elements": [
        {"type": "polyline", "closed": True, "points": [[1, 2, 0], [9, 2, 0], [9, 9, 0]], "holes": [[[4, 3, 0]]]},
        {"type": "ellipse", "center": [5, 5, 0], "width": 4, "height": 2, "rotation": 0.5, "label": {"value": "a"}},
        {"type": "point", "center": [1, 2, 0], "group": "_0"},
    ],
}
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
FRAME = HeatmapFrame(ModelFrame(2.0, 0.5, Size(300, 200)), patch_px=96, stride_px=8)
IDENTITY = {"slide": "f" * 64, "mpp": 0.5, "model": "scannet-pcam"}
SPEC = ModelSpec(name="mine", architecture="scannet-small", mpp=0.972, patch_px=96, stride_px=16)
REFINER = RefinerSpec(
    name="r", encoder="mine", encoder_sha256="0" * 64, encoder_features=6, projected=3, hidden=4, grid=4, grid_step=1,
    window_step=2, order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
)  # fmt: skip
RECORD = {
    "slide": {"path": "a.tif", "fingerprint": "f" * 64, "size": [600, 400], "bounds": [0, 0, 600, 400], "mpp": 0.5},
    "model": {**SPEC.to_json(), "weights_sha256": "0" * 64},
    "settings": {"detection": {"threshold": 0.5}},
    "stain": {"density": [0.3, 0.5, 0.2], "reference": [0.4, 0.6, 0.3], "normalised": False},
    "scans": [{"region": None, "finished": True, "notes": ["a note"]}],
}


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    write
        Writes a whole one into a folder.
    read
        Reads it from there.
    mend
        Puts right, after damage, what would hide the damage from whatever reads further.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    mend: Callable[[dict[str, bytes]], object] = len


def _tiff(path: Path, *pages: np.ndarray, **options) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for page in pages:
            tiff.write(page, **({"metadata": None} | RESOLUTION | options))


def _zip(folder: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(PIXELS[:96, :96]).save(picture, "PNG")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for label in (0, 1):
            archive.writestr(f"{label}/a.png", picture.getvalue())


def _czi(folder: Path) -> None:
    tiles = [
        Tile(PIXELS[:100, :100], -7, 9, scene=0, compression=JPEG_XR),
        Tile(PIXELS[:100, 100:], 93, 9, scene=0, compression=ZSTD),
        Tile(PIXELS[100:], 0, 300, scene=1),
        *tiles_of(halved(PIXELS[:100]), 64, corner=(-7, 9), downsample=2, scene=0),
    ]
    label = czi_bytes([Tile(PIXELS[:30, :40], 0, 0)])
    write_czi(folder / "a.czi", tiles, attachments={"Label": ("CZI", label)})


def _dicom(folder: Path) -> None:
    write_slide(folder, [PIXELS], mpp=0.5, tile_px=64)
    for number, part in enumerate(split(read_volume(folder), 2)):
        part.save_as(folder / f"part{number}.dcm")
    (folder / "level0.dcm").unlink()


def _isyntax(folder: Path) -> None:
    low_band = np.kron(PIXELS[:16, :16, 0], np.ones((8, 8), np.uint8))
    assert low_band.shape == low_band_shape(300, 200)
    write_isyntax(folder / "a.isyntax", 300, 200, low_band, label=PIXELS[:30, :40])


def _class_folders(folder: Path) -> None:
    for label in (0, 1):
        (folder / "p" / str(label)).mkdir(parents=True)
        Image.fromarray(PIXELS[:40, :40]).save(folder / "p" / str(label) / "a.png")
    (folder / "a.csv").write_text("patch,probability\n0/a.png,0.25\n1/a.png,0.75\n")


def _slide(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        with open_slide(folder / name, 0.5) as slide:
            for number in range(len(slide.levels)):
                size = slide.levels[number].size
                slide.read_level(number, Region(0, 0, min(300, size.width), min(300, size.height)))

    return read


def _ome_zarr(version: str, **options) -> Callable[[Path], object]:
    return lambda folder: write_ome_zarr(
        folder / "a.ome.zarr", PIXELS, version=version, chunk_px=64, levels=2, **options
    )


def _zipped_ome_zarr(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = write_ome_zarr(Path(place) / "a.ome.zarr", PIXELS, chunk_px=64, levels=2)
        with zipfile.ZipFile(folder / "a.ome.zarr.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for one in sorted(path.rglob("*")):
                archive.write(one, one.relative_to(path).as_posix())


def _mask(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        with MaskFile(folder / name) as mask:
            mask.values()
            mask.read(Region(0, 0, 120, 90))

    return read


def _patches(folder: Path) -> None:
    source = open_patches(folder / "a.zip")
    for index in range(min(4, len(source))):
        source.read(index)


def _cohort(folder: Path) -> None:
    found = read_cohort(folder / "a.csv", validation_share=0.2, seed=1)
    # Looks for every file that is named, and finds none.
    survey_slides(found.slides, threads=1)


def _camelyon(folder: Path) -> None:
    for name in ("training/normal/normal_001.tif", "training/tumor/tumor_001.tif", "testing/images/test_001.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "testing/reference.csv").write_text("test_001,Tumor,macro\ntest_002,Normal,None\n")


def _detector(folder: Path) -> None:
    torch.manual_seed(0)
    save_model(
        folder / "m.safetensors", build_network(SPEC.architecture), SPEC, {"data": "none", "validation_auc": 0.9}
    )


def _refiner(folder: Path) -> None:
    torch.manual_seed(0)
    save_model(folder / "m.safetensors", SpatialNetwork(REFINER), REFINER, {"validation_auc": float("nan")})


def _model(folder: Path) -> None:
    model = load_model(folder / "m.safetensors")
    json.dumps(model.to_json(), allow_nan=False).encode()
    model.columns()


def _resealed(files: dict[str, bytes]) -> None:
    """Put the hash of damaged weights on their card: half of what is damaged would be refused for it alone."""
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        card = json.loads(files["m.json"])
        card["weights_sha256"] = hashlib.sha256(files["m.safetensors"]).hexdigest()
        files["m.json"] = json.dumps(card).encode()


def _lite_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    block = {"_depthwise_conv.weight": (4, 1, 3, 3), "_bn1.weight": (4,), "_project_conv.weight": (2, 4, 1, 1)}
    named = {f"_blocks.0.{name}": torch.randn(shape) for name, shape in block.items()}
    return {"_conv_stem.weight": torch.randn(4, 3, 3, 3), "_bn0.weight": torch.randn(4), **named}


def _torch_file(*, legacy: bool) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        torch.save(_lite_state(), folder / "w.pth", _use_new_zipfile_serialization=not legacy)

    return write


def _wsinfer(folder: Path) -> None:
    config = {
        "spec_version": "1.0", "architecture": "resnet18", "num_classes": 2, "patch_size_pixels": 96,
        "spacing_um_px": 0.5, "class_names": ["Other", "Tumor"],
        "transform": [
            {"name": "Resize", "arguments": {"size": 96}}, {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}},
        ],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    # Of another network: what is read before the weights is what is damaged here.
    (folder / "model.safetensors").write_bytes(save({"a": torch.zeros(3)}))


def _map(folder: Path) -> None:
    (folder / "r").mkdir()
    with MapStore.open_or_create(folder / "r" / "heatmap.ome.zarr", MapHeader(PROBABILITY, FRAME, IDENTITY)) as store:
        store.write(Region(0, 0, 20, 12), np.full((12, 20), 0.5, np.float32))
        store.write(Region(20, 0, 10, 12), np.full((12, 10), 0.25, np.float32))
        store.finish()
    (folder / "r" / "run.json").write_text(json.dumps(RECORD))


class _OpenSlide:
    """As much of a slide as is asked for when its earlier result is looked for."""

    fingerprint, mpp = IDENTITY["slide"], IDENTITY["mpp"]
    earlier_fingerprint = "of an earlier version"


def _read_map(folder: Path) -> None:
    earlier_result(_OpenSlide(), folder / "r")  # type: ignore[arg-type]
    header = MapHeader(PROBABILITY, FRAME, IDENTITY)
    with MapStore.open_or_create(folder / "r" / "heatmap.ome.zarr", header) as store:
        store.values()
        store.write(Region(4, 4, 3, 3), np.full((3, 3), 0.75, np.float32))
        store.finish()
    with MapStore.open(folder / "r" / "heatmap.ome.zarr") as store:
        store.values()


def _features(folder: Path) -> None:
    store = _feature_store(folder)
    store.write(Region(0, 0, 8, 6), np.ones((2, 6, 8, 3), np.float32))


def _feature_store(folder: Path) -> FeatureStore:
    return FeatureStore.open_or_create(
        folder / "features.zarr", cells=Size(19, 13), views=2, features=3, identity=IDENTITY
    )


def _read_features(folder: Path) -> None:
    store = _feature_store(folder)
    with suppress(MetastasisError):
        store.read(Region(0, 0, 19, 13))
    store.write(Region(2, 2, 10, 10), np.zeros((2, 10, 10, 3), np.float32))
    store.read(Region(0, 0, 19, 13))
    store.close()


def _result(folder: Path) -> None:
    (folder / "r").mkdir()
    (folder / "r" / "run.json").write_text(json.dumps(RECORD, indent=2))
    (folder / "r" / "detections.csv").write_text("0.9,100,200\n")


def _read_result(folder: Path) -> None:
    record_of(folder / "r")
    read_scan_record(folder / "r")


def _tuning(folder: Path) -> None:
    TuningCache(folder / "tuning.json").put("key", Tuned("torch", "bfloat16", 640, 3.5))


def _read_tuning(folder: Path) -> None:
    cache = TuningCache(folder / "tuning.json")
    cache.get("key")
    cache.put("other", Tuned("torch", "float32", 640, 3.5))
    assert cache.get("other") is not None


def _text(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


KINDS: dict[str, Kind] = {
    "asap": Kind(_text("a.xml", ASAP), lambda folder: read_asap_xml(folder / "a.xml")),
    "asap points": Kind(_text("a.xml", ASAP), lambda folder: read_points(folder / "a.xml")),
    "geojson": Kind(_text("a.geojson", json.dumps(FEATURES)), lambda folder: read_geojson(folder / "a.geojson")),
    "dsa": Kind(_text("a.json", json.dumps(ELEMENTS)), lambda folder: read_dsa_json(folder / "a.json")),
    "stages": Kind(
        _text("s.csv", "patient,stage\npatient_004.zip,pN1\npatient_004_node_2.tif,macro\n"),
        lambda folder: (read_stages(folder / "s.csv"), stage_patients([folder / "s.csv"])),
    ),
    "nodes": Kind(
        _text("n.csv", "patient,node,slide,verdict,result\np,1,a,macro,\np,2,b,,x.metastasis\np,3,,,\n"),
        lambda folder: stage_patients([folder / "n.csv"]),
    ),
    "geojson points": Kind(_text("a.geojson", json.dumps(FEATURES)), lambda folder: read_points(folder / "a.geojson")),
    "gzipped geojson": Kind(
        lambda folder: (folder / "a.geojson.gz").write_bytes(gzip.compress(json.dumps(FEATURES).encode())),
        lambda folder: read_geojson(folder / "a.geojson.gz"),
    ),
    "points": Kind(_text("a.csv", "x,y,class\n1,2,a\n3.5,-4,b\n"), lambda folder: read_points(folder / "a.csv")),
    "detections": Kind(
        _text("a.csv", "0.9,100,200\n0.5,7.25,8e2\n"), lambda folder: read_detections_csv(folder / "a.csv")
    ),
    "cohort": Kind(
        _text(
            "a.csv",
            "slide,annotation,split,patient,node,tumour,mpp,exhaustive\n"
            "a.tif,a.xml,train,p,1,yes,0.25,yes\nb.tif,,test,,,no,,\n",
        ),
        _cohort,
    ),
    "camelyon16": Kind(_camelyon, read_layout),
    "hard negatives": Kind(
        lambda folder: write_hard_negatives(
            folder / "a.csv", [HardNegative("a", 10.5, 20.0, 0.75), HardNegative("b", 1.0, 2.0, 0.5)]
        ),
        lambda folder: read_hard_negatives(folder / "a.csv"),
    ),
    "soft labels": Kind(_class_folders, lambda folder: read_soft_labels(folder / "a.csv", open_patches(folder / "p"))),
    "tiled slide": Kind(
        lambda folder: _tiff(
            folder / "a.tif", PIXELS, PIXELS[::2, ::2], tile=(64, 64), photometric="rgb", compression="jpeg"
        ),
        _slide("a.tif"),
    ),
    "striped slide": Kind(
        lambda folder: _tiff(folder / "a.tif", PIXELS, photometric="rgb", compression="deflate", rowsperstrip=40),
        _slide("a.tif"),
    ),
    "jpeg 2000 slide": Kind(
        lambda folder: _tiff(folder / "a.tif", PIXELS, tile=(64, 64), photometric="rgb", compression="jpeg2000"),
        _slide("a.tif"),
    ),
    "lzw slide": Kind(
        lambda folder: _tiff(folder / "a.tif", PIXELS // 16 * 16, tile=(64, 64), photometric="rgb", compression="lzw"),
        _slide("a.tif"),
    ),
    "czi slide": Kind(_czi, _slide("a.czi")),
    "dicom slide": Kind(_dicom, _slide("")),
    "isyntax slide": Kind(_isyntax, _slide("a.isyntax")),
    "ome-zarr": Kind(_ome_zarr("0.5", chunk_channels=3), _slide("a.ome.zarr")),
    "ome-zarr 0.4": Kind(_ome_zarr("0.4"), _slide("a.ome.zarr")),
    "sharded ome-zarr": Kind(_ome_zarr("0.5", shards=(3, 128, 128)), _slide("a.ome.zarr")),
    "zipped ome-zarr": Kind(_zipped_ome_zarr, _slide("a.ome.zarr.zip")),
    "picture": Kind(lambda folder: Image.fromarray(PIXELS).save(folder / "a.png"), _slide("a.png")),
    "tiff mask": Kind(
        lambda folder: _tiff(folder / "a.tif", MASK, MASK[::2, ::2], tile=(64, 64), compression="lzw"), _mask("a.tif")
    ),
    "packbits mask": Kind(
        lambda folder: _tiff(folder / "a.tif", MASK, rowsperstrip=16, compression="packbits"), _mask("a.tif")
    ),
    "png mask": Kind(lambda folder: Image.fromarray(MASK).save(folder / "a.png"), _mask("a.png")),
    "zip": Kind(_zip, _patches),
    "detector": Kind(_detector, _model, _resealed),
    "refiner": Kind(_refiner, _model, _resealed),
    "wsinfer": Kind(_wsinfer, lambda folder: read_foreign(folder, name="mine")),
    "checkpoint": Kind(_torch_file(legacy=False), lambda folder: load_initial(folder / "w.pth")),
    "legacy checkpoint": Kind(_torch_file(legacy=True), lambda folder: load_initial(folder / "w.pth")),
    "map": Kind(_map, _read_map),
    "features": Kind(_features, _read_features),
    "record": Kind(_result, _read_result),
    "tuning": Kind(_tuning, _read_tuning),
    "failures": Kind(
        lambda folder: add_failure(folder / "failures.jsonl", SlideFailure("a", "why")),
        lambda folder: read_failures(folder / "failures.jsonl"),
    ),
}


def read_or_refuse(kind: Kind, folder: Path) -> None:
    """Read a kind; what refuses it says so in one line."""
    refused = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind.read(folder)
        except MetastasisError as error:
            refused = str(error)
    assert "\n" not in refused
    # As a terminal and a log take it.
    refused.encode()


def write_whole(kind: Kind, folder: Path) -> Whole:
    """Return what a whole one holds, written into an empty folder."""
    kind.write(folder)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def lay_out(files: Whole, folder: Path) -> None:
    """Write files into an empty folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


#: What stands in the place of a value: what programs write where they are wrong, and what somebody might try.
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**63, 10**30, 10**400, 1e16, float("nan"),
    float("inf"), "", " ", "\ud800", "a\0b", "a\nb", "x" * 300, "~nosuchuser/x", "../x", "=1+1", [], {}, [[]], {"a": 1},
    [1, 2], [None], ["a", "b", "c"],
)  # fmt: skip
ODD_CELLS = (
    "", " ", "\0", "a\0b", "x" * 300, "y" * 200_000, "~nosuchuser/x", "~", ".", "..", "/", "1e400", "nan", "inf", "-1",
    "1e300", "1_0", "٣", '"', 'a"b', '"a\nb"', "a,b", "=1+1", "\ud800", "\ufeff", "slide", "x", "normal",
)  # fmt: skip


def damage(kind: Kind, whole: Whole, rng: np.random.Generator) -> dict[str, bytes]:
    """Return the files of a kind with one of them damaged: some bytes, a value of its JSON, or a cell of its table."""
    files = dict(whole)
    name = str(rng.choice(sorted(files)))
    data = files[name]
    if name.endswith((".json", ".geojson", ".jsonl")) and rng.random() < 0.7:
        files[name] = _other_value(data, rng)
    elif name.endswith(".csv") and rng.random() < 0.7:
        files[name] = _other_cell(data, rng)
    elif name.endswith(".safetensors") and rng.random() < 0.5:
        # Its header is JSON, behind its length.
        length = int.from_bytes(data[:8], "little")
        header = _other_value(data[8 : 8 + length], rng)
        files[name] = len(header).to_bytes(8, "little") + header + data[8 + length :]
    else:
        files[name] = _other_bytes(data, rng)
    if rng.random() < 0.7:
        kind.mend(files)
    return files


def _other_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes of which some are flipped, cut out, repeated or cut off."""
    result = bytearray(data)
    # Headers decide most: they lie at either end.
    span = min(len(data), 600) if rng.random() < 0.5 else len(data)
    for _ in range(int(rng.integers(7)) if data else 0):
        at = int(rng.integers(span)) if rng.random() < 0.5 else len(data) - 1 - int(rng.integers(span))
        result[at] = int(rng.choice([rng.integers(256), 0, 255, result[at] ^ (1 << int(rng.integers(8)))]))
    first, last = sorted(int(at) for at in rng.integers(0, len(result) + 1, 2))
    cut = int(rng.integers(6))
    if cut == 0:
        del result[first:]
    elif cut == 1:
        del result[first:last]
    elif cut == 2:
        result[last:last] = result[first:last]
    return bytes(result)


def _other_value(data: bytes, rng: np.random.Generator) -> bytes:
    """Return JSON, of which one value, whichever, is exchanged, left out or named otherwise."""
    document = {"lines": [json.loads(line) for line in data.splitlines()]} if data.count(b"}\n{") else json.loads(data)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(document)
    if not places:
        return _other_bytes(data, rng)
    node, key = places[int(rng.integers(len(places)))]
    what = rng.random()
    if what < 0.1:
        del node[key]
    elif what < 0.2 and isinstance(node, dict):
        node[str(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])[:400]] = node.pop(key)
    elif what < 0.25:
        # Deeper than any parser goes.
        return json.dumps(document).encode().replace(b":", b":" + b"[" * int(rng.integers(90, 5000)), 1)
    else:
        node[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    return json.dumps(document).encode()


def _other_cell(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a table, of which one cell, whichever, is exchanged."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    row = rows[int(rng.integers(len(rows)))]
    row[int(rng.integers(len(row)))] = ODD_CELLS[int(rng.integers(len(ODD_CELLS)))]
    return "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")
