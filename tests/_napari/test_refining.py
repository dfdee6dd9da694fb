"""The Refine switch: two layers in one place, cancelled and resumed, after a scan, and where there is no refiner."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_metastasis.settings import DEFAULT_MODEL

pytestmark = [pytest.mark.gui, pytest.mark.unseen]


def centroid(layer, threshold: float = 0.5) -> tuple[float, float]:
    rows, columns = np.nonzero(np.nan_to_num(layer.data) >= threshold)
    return layer.data_to_world((rows.mean(), columns.mean()))[-2:]


@pytest.mark.filterwarnings("ignore::napari_metastasis.errors.PassWarning")
@pytest.mark.usefixtures("refiner")
@pytest.mark.parametrize("density", [1, 2, 4])
def test_both_layers_show_the_disc_in_its_place(
    window, make_disc: Callable, darkness_model: Path, density: int
) -> None:
    path, phantom = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    part, layers = window.panel.scan_part, window.controller.layers
    # The model's own is the normal one.
    part.main.widgets["dense_coefficient"].value = 0 if density == 2 else density
    assert part.switches["refine"].widgets["refine"].enabled
    part.switches["refine"].widgets["refine"].value = True
    window.scan("slide")
    window.finish()
    expected = phantom.center.to_um(0.5)
    half_a_cell = window.session.maps["refined"].frame.cell_um / 2
    assert window.session.maps["refined"].frame.stride_px == 16
    for layer in layers.maps.values():
        assert centroid(layer) == pytest.approx((expected.y, expected.x), abs=half_a_cell)
    assert layers.maps["refined"].name.startswith("Refined probability")
    # One over the other, neither can be read.
    assert layers.maps["refined"].visible
    assert not layers.maps["probability"].visible
    order = [window.viewer.layers.index(layer) for layer in (*layers.maps.values(), layers.detections)]
    assert order == sorted(order)


@pytest.mark.usefixtures("refiner")
def test_a_switch_makes_the_network_ready_and_the_share_decides_what_is_read(
    window, make_disc: Callable, darkness_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    panel, session = window.panel, window.session
    warmed: list[tuple[str, ...]] = []
    with monkeypatch.context() as patched:
        patched.setattr(window.workspace.engines, "warm", lambda job: warmed.append(job.needed_tasks))
        panel.scan_part.keeping["refine"].widgets["keep_features"].value = False
        window.until(lambda: warmed[-1:] == [()])
        panel.scan_part.switches["refine"].widgets["refine"].value = True
        window.until(lambda: warmed[-1:] == [("refine",)])
    assert not panel.scan_part.shares["refined"].isEnabled()
    window.scan("slide")
    window.finish()
    assert panel.scan_part.shares["refined"].isEnabled()
    refined = session.slide_score
    panel.scan_part.shares["refined"].setValue(0.0)
    window.until(lambda: session.found is not None and session.slide_score != refined)
    assert session.slide_score == pytest.approx(float(np.nanmax(session.probabilities)))
    assert refined < session.slide_score, "the refiner answers less than its encoder"


@pytest.mark.usefixtures("refiner")
def test_cancelled_and_resumed(window, make_disc: Callable, darkness_model: Path) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    part, session = window.panel.scan_part, window.session
    part.advanced.widgets["roi_px"].value = 192
    part.advanced.widgets["tissue_only"].value = False
    part.switches["refine"].widgets["refine"].value = True
    window.scan("slide")
    window.until(lambda: "refined" in session.maps and session.activity.done > 0)
    part.cancel_button.click()
    window.finish()
    assert np.isnan(session.probabilities).any() or np.isnan(session.maps["refined"].values).any()
    assert "goes on" in part.status.text()
    window.scan("slide")
    window.finish()
    assert not np.isnan(session.probabilities).any()
    assert not np.isnan(session.maps["refined"].values).any()


@pytest.mark.usefixtures("refiner")
def test_a_scan_is_refined_afterwards_and_shown_the_next_time(
    window, make_disc: Callable, darkness_model: Path
) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.scan("slide")
    window.finish()
    session = window.session
    assert "refined" not in session.maps
    assert "refined" not in window.controller.layers.maps
    before = session.probabilities.copy()
    written: list[str] = []
    session.cells_written.connect(lambda name, _: written.append(name))
    assert window.controller.layers.maps["probability"].visible
    window.panel.scan_part.switches["refine"].widgets["refine"].value = True
    window.scan("slide")
    window.finish()
    assert set(written) == {"refined"}, "nothing was scanned again"
    np.testing.assert_array_equal(session.probabilities, before)
    refined = session.maps["refined"].values.copy()
    assert np.isfinite(refined).any()

    def reopen() -> None:
        window.viewer.layers.clear()
        window.until(lambda: not window.workspace.controllers)
        window.open(path)
        window.until(lambda: window.session.probabilities is not None)

    reopen()
    np.testing.assert_array_equal(window.session.maps["refined"].values, refined)

    # Read from the scan's own map again, the refined one goes: what is shown is what is stored, also the next time.
    window.panel.scan_part.switches["refine"].widgets["refine"].value = False
    window.scan("slide")
    window.finish()
    assert "refined" not in window.session.maps
    assert "refined" not in window.controller.layers.maps
    reopen()
    assert "refined" not in window.session.maps
    # Nothing is lost: refined again, it is there at once.
    window.panel.scan_part.switches["refine"].widgets["refine"].value = True
    window.scan("slide")
    window.finish()
    np.testing.assert_array_equal(window.session.maps["refined"].values, refined)


def test_the_model_that_ships_is_refined_unless_switched_off(window, make_disc: Callable, darkness_model: Path) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    part = window.panel.scan_part
    switch = part.switches["refine"].widgets["refine"]
    window.until(lambda: part.model.currentData() == DEFAULT_MODEL)
    window.until(lambda: switch.value)
    assert switch.enabled
    switch.value = False
    # Looked for once more, it is the same model: what was switched off stays off.
    with window.qtbot.waitSignal(part.model.filled, timeout=60_000):
        part.model.fill()
    assert part.model.currentData() == DEFAULT_MODEL
    assert not switch.value
    # Without a refiner the switch is off.
    window.use(darkness_model)
    assert not switch.enabled
    assert not switch.value
    part.model.setCurrentIndex(part.model.findData("scannet-pcam"))
    assert switch.value


@pytest.mark.usefixtures("refiner")
def test_the_switch_says_that_a_refiners_file_refines(
    window, make_disc: Callable, darkness_model: Path, tmp_path: Path
) -> None:
    for suffix in (".safetensors", ".json"):
        (tmp_path / darkness_model.name).with_suffix(suffix).write_bytes(
            darkness_model.with_suffix(suffix).read_bytes()
        )
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(tmp_path / "timid.safetensors")
    switch = window.panel.scan_part.switches["refine"].widgets["refine"]
    assert (switch.value, switch.enabled) == (True, False)
    window.scan("slide")
    window.finish()
    assert "refined" in window.session.maps


@pytest.mark.usefixtures("refiner")
def test_the_panel_says_that_only_the_view_is_refined(window, make_disc: Callable, darkness_model: Path) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.scan("slide")
    window.finish()
    window.viewer.scene.camera.zoom *= 4
    window.qtbot.wait(100)
    window.panel.scan_part.switches["refine"].widgets["refine"].value = True
    window.scan("view")
    window.finish()
    assert window.session.coverage.whole
    said = window.panel.results_part.told.text()
    assert re.search(
        r"^Refined: (\d+|less than 1) % of the tissue; elsewhere the scan's own answers count$", said, re.M
    )
    window.scan("slide")
    window.finish()
    assert "elsewhere the scan's own" not in window.panel.results_part.told.text()
