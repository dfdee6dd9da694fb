"""``slides info`` of an OME-Zarr, and of slides at an address."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ome_zarr_files import write_ome_zarr
from slide_server import serving

from cli.conftest import Run


@pytest.mark.parametrize("remote", [False, True])
def test_an_ome_zarr_is_told_of_wherever_it_lies(here: Run, tmp_path: Path, remote: bool) -> None:
    pixels = np.random.default_rng(4).integers(120, 220, (300, 400, 3)).astype(np.uint8)
    folder = write_ome_zarr(tmp_path / "a.ome.zarr", pixels, levels=2)
    with serving() as server:
        server.add_folder(folder, "b/a.ome.zarr")
        place = f"{server.url}/b/a.ome.zarr" if remote else str(folder)
        answer = here("slides", "info", place, "--json")
    assert answer.status == 0
    (told,) = answer.json["slides"]
    assert (told["path"], told["format"], told["mpp"]) == (place, "OME-Zarr", [0.5, 0.5])
    assert told["mpp_source"] == "the scale of its levels"
    assert [level["size"] for level in told["levels"]] == [[400, 300], [200, 150]]
    assert [one["name"] for one in told["readers"] if one["used"]] == ["ome-zarr"]


def test_an_address_without_a_slide_is_one_line(here: Run) -> None:
    with serving() as server:
        here("slides", "info", f"{server.url}/b/a.tif").fails_with("nothing is there")
