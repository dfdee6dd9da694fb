"""How the tissue of a stored scan was found: what its coverage counts, whatever is usual now."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from napari_metastasis.errors import SettingsError
from napari_metastasis.settings import TissueSettings
from napari_metastasis.workflows.scan.result_folder import record_of

__all__ = ["recorded_tissue"]


def recorded_tissue(folder: Path) -> TissueSettings | None:
    """Return the tissue settings of the scan in a result folder; ``None`` where its record does not say them."""
    try:
        told = record_of(folder)["settings"]["tissue"]
        values = {name: told[name] for name in asdict(TissueSettings()) if name in told}
        if not values or not all(type(value) in (int, float) for value in values.values()):
            return None
        return TissueSettings(**values)
    except (KeyError, TypeError, SettingsError):
        return None
