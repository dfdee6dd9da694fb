"""A scan that an earlier version made is shown as one of today's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from legacy_files import unpack_legacy

from napari_metastasis.scanning import MapStore

pytestmark = [pytest.mark.gui, pytest.mark.unseen]


def test_an_earlier_versions_scan_is_shown_with_its_refined_map(window, tmp_path: Path) -> None:
    legacy = unpack_legacy(tmp_path)
    folder = (legacy / "finished.metastasis").rename(legacy / "disc.metastasis")
    stored = []
    for name in ("heatmap.ome.zarr", "refined.ome.zarr"):
        with MapStore.open(folder / name) as map_store:
            stored.append(map_store.values())
    window.open(legacy / "disc.tif")
    window.until(lambda: "refined" in window.session.maps and window.session.found is not None)
    np.testing.assert_array_equal(window.session.probabilities, stored[0])
    np.testing.assert_array_equal(window.session.maps["refined"].values, stored[1])
    assert window.panel.results_part.state.text.text().startswith("Earlier result of ")
    assert window.panel.results_part.table.rows.rowCount() == 1
