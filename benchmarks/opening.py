"""How long slides take to open: the file, its fingerprint, and its levels as arrays.

Run with ``python benchmarks/opening.py [--json] [SLIDE…]``. Slides of several dialects and sizes are written once and
kept; files given on the command line are opened besides. Every time is the median of several openings, with the file in
the system's cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from slides_for_benchmarks import write_piece_on_glass

from napari_metastasis.scanning.engines.tuning import phantom
from napari_metastasis.slides import open_slide
from napari_metastasis.synthetic import sample_slide_path

_MPP = 0.5
_RESOLUTION = {"resolution": (1e4 / _MPP, 1e4 / _MPP), "resolutionunit": "CENTIMETER"}
#: Side of the slides that are written from a picture in memory, and of the large pyramids.
_SIDE_PX, _LARGE_PX = 4096, (5_000, 20_000, 60_000)
_APERIO = f"Aperio Image Library v11.2.1\n{_SIDE_PX}x{_SIDE_PX} JPEG/RGB Q=80|AppMag = 20|MPP = {_MPP}"


def _picture() -> npt.NDArray[np.uint8]:
    return phantom(_SIDE_PX)[0]


def _strips(path: Path, compression: str | None) -> None:
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None, **_RESOLUTION}
    tifffile.imwrite(path, _picture(), compression=compression, rowsperstrip=16, **options)


def _svs(path: Path) -> None:
    picture = _picture()
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 4, 16):
            shrunk = picture.reshape(_SIDE_PX // step, step, _SIDE_PX // step, step, 3).mean(axis=(1, 3))
            tiff.write(
                shrunk.round().astype(np.uint8),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                description=_APERIO,
                metadata=None,
            )


def _ome(path: Path) -> None:
    sizes = {f"PhysicalSize{axis}": _MPP for axis in "XY"}
    picture = _picture()
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tiff:
        options: dict[str, Any] = {"tile": (512, 512), "photometric": "rgb", "compression": "jpeg"}
        tiff.write(picture, subifds=1, metadata={"axes": "YXS", **sizes}, **options)
        half = picture.reshape(_SIDE_PX // 2, 2, _SIDE_PX // 2, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
        tiff.write(half, subfiletype=1, **options)


def _written(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of every slide, written where it is not there yet."""
    yield "sample slide", sample_slide_path()
    for side in _LARGE_PX:
        path = folder / f"piece-3000-on-{side}-{_MPP}.tif"
        write_piece_on_glass(path, side, piece_px=3000, mpp=_MPP)
        yield f"JPEG pyramid, {side:,} px", path
    writers = {
        "Aperio SVS": ("aperio.svs", _svs),
        "OME-TIFF": ("ome.ome.tif", _ome),
        "strips": ("strips.tif", lambda path: _strips(path, None)),
        "LZW strips": ("strips-lzw.tif", lambda path: _strips(path, "lzw")),
    }
    for what, (name, write) in writers.items():
        path = folder / f"opening-{_SIDE_PX}-{name}"
        if not path.exists():
            partial = path.with_name(f"part-{path.name}")
            write(partial)
            partial.rename(path)
        yield f"{what}, {_SIDE_PX:,} px", path


def _milliseconds(path: Path) -> tuple[float, ...]:
    """Return how long the steps of one opening take, and all of it."""
    begun = time.perf_counter()
    with open_slide(path) as slide:
        opened = time.perf_counter()
        _ = slide.fingerprint
        known = time.perf_counter()
        _ = slide.levels
        ended = time.perf_counter()
    return tuple(1000 * seconds for seconds in (opened - begun, known - opened, ended - known, ended - begun))


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", metavar="SLIDE")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--slides", type=Path, default=Path(tempfile.gettempdir()) / "napari-metastasis-benchmarks")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.slides.mkdir(parents=True, exist_ok=True)
    rows = []
    for what, path in (*_written(arguments.slides), *((path.name, path) for path in arguments.files)):
        runs = [_milliseconds(path) for _ in range(arguments.repeats)]
        steps = zip(("open_ms", "fingerprint_ms", "levels_ms", "all_ms"), zip(*runs, strict=True), strict=True)
        row: dict[str, Any] = {"slide": what, "mb": round(path.stat().st_size / 1e6, 1)}
        rows.append(row | {name: round(statistics.median(times), 1) for name, times in steps})
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'slide':28}{'MB':>9}{'open':>9}{'fingerprint':>13}{'levels':>9}{'all':>9}  ms")
    for row in rows:
        figures = f"{row['open_ms']:>9}{row['fingerprint_ms']:>13}{row['levels_ms']:>9}{row['all_ms']:>9}"
        print(f"{row['slide']:28}{row['mb']:>9}{figures}")


if __name__ == "__main__":
    main()
