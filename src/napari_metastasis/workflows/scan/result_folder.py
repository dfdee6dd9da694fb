"""Where the results of a scan lie, and which earlier scan it goes on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_metastasis.errors import StorageError
from napari_metastasis.models import Model
from napari_metastasis.scanning import HEATMAP_VERSION, digest, journal_path, read_header
from napari_metastasis.settings import ScanSettings
from napari_metastasis.slides import Slide

__all__ = ["default_output", "folder_for", "heatmap_path", "last_written", "scan_identity", "stored_precision"]

_HEATMAP_NAME = "heatmap.ome.zarr"


def default_output(slide: Slide) -> Path:
    """Return where a slide's results go unless told otherwise: ``<slide name>.metastasis`` beside it."""
    return slide.path.parent / f"{slide.name}.metastasis"


def heatmap_path(folder: Path) -> Path:
    """Return where the heatmap of a result folder lies."""
    return folder / _HEATMAP_NAME


def scan_identity(
    slide: Slide, model: Model, settings: ScanSettings, *, precision: str | None = None
) -> dict[str, Any]:
    """Return everything that decides a heatmap's answers, as plain values.

    Region, tissue, ROI size, threads, engine, device and order are not among them: the answers do not depend on them,
    so that a scan may go on with others. The precision is ``None`` while it is open.
    """
    return {
        "heatmap_version": HEATMAP_VERSION,
        "slide": slide.fingerprint,
        "mpp": slide.mpp,
        "effective_mpp": slide.frame(model.spec.mpp).effective_mpp,
        "model": model.spec.name,
        "weights_sha256": model.weights_sha256,
        "dense_coefficient": settings.dense_coefficient,
        "augment_views": settings.augment_views,
        "precision": precision,
    }


def folder_for(root: Path, identity: Mapping[str, Any]) -> Path:
    """Return ``root``, or a folder of its own inside where ``root`` holds the heatmap of another scan."""
    path = heatmap_path(root)
    if not path.exists():
        return root
    try:
        _, stored = read_header(path)
    except StorageError:
        # Not one of ours, or of another version: it is left alone.
        stored = {}
    wanted = digest(identity)
    return root if digest(stored) == wanted else root / f"scan-{wanted[:8]}"


def stored_precision(root: Path, identity: Mapping[str, Any]) -> str | None:
    """Return the precision of the heatmap that a scan can go on with if it takes the same; ``None`` without one.

    What is fastest depends on the machine, and on what it remembers of its measurements; a scan that was begun in one
    precision must not begin anew for that.

    Parameters
    ----------
    root
        Result folder; scans with other settings lie in folders inside.
    identity
        Of the scan. Its precision is not looked at.
    """
    wanted = digest({**identity, "precision": None})
    found = [
        (last_written(path), str(stored["precision"]))
        for path, stored in _stored(root)
        if "precision" in stored and digest({**stored, "precision": None}) == wanted
    ]
    return max(found)[1] if found else None


def _stored(root: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every heatmap of a result folder that can be read, with its identity."""
    for folder in (root, *sorted(root.glob("scan-*"))):
        path = heatmap_path(folder)
        if path.exists():
            try:
                yield path, read_header(path)[1]
            except StorageError:
                continue  # not one of ours, or of another version


def last_written(path: Path) -> float:
    """Return when the last answers were added to a heatmap, in seconds; 0 where there are none."""
    try:
        return journal_path(path).stat().st_mtime
    except OSError:
        return 0.0
