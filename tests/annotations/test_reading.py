"""How far a file of outlines is read: told on the way, the same outlines come out, and reading can be ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapely

from napari_metastasis.annotations import (
    Correction,
    Corrections,
    annotations_of_corrections,
    read_asap_xml,
    read_corrections,
    read_dsa_json,
    read_geojson,
    write_asap_xml,
    write_corrections,
    write_dsa_json,
)

SAID = Corrections.of(
    Correction(key=f"k{number}", label="tumour", shape_px=shapely.Point(50 * number, 9).buffer(20, quad_segs=40))
    for number in range(400)
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    areas = annotations_of_corrections(SAID)
    write_corrections(folder / "own.geojson", SAID)
    document = json.loads((folder / "own.geojson").read_text())
    for feature in document["features"]:
        del feature["properties"]["metastasis"]
    (folder / "foreign.geojson").write_text(json.dumps(document))
    write_asap_xml(folder / "a.xml", areas)
    write_dsa_json(folder / "a.json", areas, name="a")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("own.geojson", read_corrections),
        ("foreign.geojson", read_corrections),
        ("own.geojson", read_geojson),
        ("a.xml", read_asap_xml),
        ("a.json", read_dsa_json),
    ],
)
def test_reading_tells_how_far_it_is_and_ends_where_nobody_waits(files: dict[str, Path], name: str, read) -> None:
    shares: list[float] = []
    found = read(files[name], tell=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len({round(share, 1) for share in shares}) >= 5
    silent = read(files[name])
    if read is read_corrections:
        assert found.corrections.by_key.keys() == silent.corrections.by_key.keys()
        assert len(found.corrections) == len(SAID)
    else:
        assert len(found) == len(silent) == len(SAID)

    class EnoughError(Exception):
        pass

    def tell(share: float) -> None:
        if share > 0.6:
            raise EnoughError

    with pytest.raises(EnoughError):
        read(files[name], tell=tell)
