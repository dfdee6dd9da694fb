"""What users do to layers by hand: the right region is scanned, or the layer is put back; nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import _layer_actions as actions

from napari_metastasis._napari.compat import canvas_size, redraw_image
from napari_metastasis._napari.regions import view_focus, wanted_region
from napari_metastasis._napari.session import METADATA_KEY
from napari_metastasis.errors import RegionError
from napari_metastasis.geometry import Point, Region
from napari_metastasis.sampling.hard_negatives import HardNegative

pytestmark = pytest.mark.gui


def test_a_slide_that_is_moved_is_put_back(window, make_disc, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari_metastasis._napari.pinned.show_info", told.append)
    path, _ = make_disc(0.5)
    window.open(path)
    layer = window.controller.layers.slide
    before = np.asarray(layer.data_to_world((100, 200)))
    for name, value in (
        ("translate", (500, -300)),
        ("scale", (2.0, 2.0)),
        ("rotate", 30),
        ("affine", np.diag([2.0, 1.0, 1.0])),
        ("units", ("mm", "mm")),
    ):
        told.clear()
        setattr(layer, name, value)
        np.testing.assert_allclose(layer.data_to_world((100, 200)), before, err_msg=name)
        assert len(told) == 1, name
        assert "put back" in told[0]
        # What changes nothing is not remarked on.
        layer.translate = layer.translate
        assert len(told) == 1, name


def test_a_copy_of_a_slides_layer_goes_with_it(window, make_disc) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    layers, slide = window.viewer.layers, window.controller.layers.slide
    layers.selection = {slide}
    actions._duplicate_layer(layers)
    copies = [layer for layer in layers if METADATA_KEY in layer.metadata and layer is not slide]
    assert len(copies) == 1
    layers.remove(slide)
    window.until(lambda: not window.workspace.controllers)
    window.until(lambda: not [layer for layer in layers if METADATA_KEY in layer.metadata])


def test_a_viewer_with_two_slides_closes(window, make_disc) -> None:
    for name in ("one", "two"):
        path, _ = make_disc(0.5, name)
        window.open(path)
    assert len(window.workspace.controllers) == 2
    window.viewer.close()
    window.until(lambda: not window.workspace.controllers)


def test_the_slide_before_is_shown_when_one_is_closed(window, make_disc) -> None:
    for name in ("one", "two"):
        path, _ = make_disc(0.5, name)
        window.open(path)
    one, two = window.workspace.controllers
    assert not one.layers.slide.visible
    window.viewer.layers.remove(two.layers.slide)
    assert window.workspace.current is one
    window.until(lambda: one.layers.slide.visible)


def mined_at(session, x, y):
    return HardNegative(session.slide.name, x, y, 0.9)


@pytest.fixture
def scanned(window, make_disc, darkness_model):
    """A window with every layer of a slide: tissue, heatmap, lesions, detections and mined places."""
    path, phantom = make_disc(0.5)
    window.open(path)
    window.use(darkness_model)
    window.scan("slide")
    window.finish()
    window.controller.layers.show_mined([mined_at(window.session, 300, 400)])
    return window, phantom


def test_layers_of_a_slide_that_are_moved_are_put_back(scanned, monkeypatch) -> None:
    window, _ = scanned
    told: list[str] = []
    monkeypatch.setattr("napari_metastasis._napari.pinned.show_info", told.append)
    layers = window.controller.layers
    own = [layers.tissue, layers.heatmap, layers.lesions, layers.detections, layers.mined]
    for layer in own:
        before = np.asarray(layer.data_to_world((10, 20)))
        for name, value in (
            ("translate", (50, -30)),
            ("scale", (3.0, 2.0)),
            ("rotate", 90),
            ("shear", (0.5,)),
            ("affine", np.diag([2.0, 1.0, 1.0])),
            ("units", ("nm", "nm")),
        ):
            told.clear()
            setattr(layer, name, value)
            np.testing.assert_allclose(layer.data_to_world((10, 20)), before, err_msg=f"{layer.name} {name}")
            assert {str(unit) for unit in layer.units} == {"micrometer"}
            assert told == [f"{layer.name} was moved, and put back: results lie where the slide lies"]
    # A layer that was taken out of the window is the user's own.
    window.viewer.layers.remove(layers.mined)
    own[-1].translate = (7, 7)
    assert tuple(own[-1].translate) == (7, 7)


#: What a user does to the axes, and whether both of the slide's are then exchanged.
AXES = {
    "transposed": lambda viewer: viewer.dims.transpose(),
    "by order": lambda viewer: setattr(viewer.dims, "order", (1, 0)),
    "rolled": lambda viewer: viewer.dims.roll(),
}


def drawn_region(window) -> Region:
    """Return the part of a slide that napari itself draws, in level-0 pixels; it reaches out to whole tiles."""
    layer = window.controller.layers.slide
    corners = layer.corner_pixels * layer.downsample_factors[layer.data_level][:2]
    (y, x), (bottom, right) = corners.astype(int).tolist()
    return Region(x, y, right - x, bottom - y)


def test_the_view_of_a_transposed_slide_is_what_the_window_shows(window, make_disc) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    viewer, slide = window.viewer, window.session.slide
    for how, exchange in AXES.items():
        viewer.dims.order = (0, 1)
        exchange(viewer)
        assert tuple(viewer.dims.displayed) == (1, 0), how
        viewer.fit_to_view()
        window.qtbot.wait(100)
        assert wanted_region("view", viewer, slide) == Region.of(slide.size), how
        at = Point(700.0, 1500.0)
        viewer.scene.camera.zoom *= 6
        um = at.to_um(slide.mpp)
        viewer.scene.camera.center = (um.x, um.y)
        window.qtbot.wait(200)
        assert view_focus(viewer, slide).distance(at) < 1e-6, how
        region, drawn = wanted_region("view", viewer, slide), drawn_region(window)
        assert region.center.distance(at) < 2, how
        assert (drawn.x <= region.x, drawn.y <= region.y) == (True, True), how
        assert (drawn.right >= region.right - 1, drawn.bottom >= region.bottom - 1) == (True, True), how
        # What runs across the window runs down the slide.
        width, height = canvas_size(viewer)
        assert region.height / region.width == pytest.approx(width / height, rel=0.02), how


def test_a_transposed_scan_grows_and_is_drawn_in_its_place(window, make_disc, darkness_model) -> None:
    path, phantom = make_disc(0.5)
    window.open(path)
    window.use(darkness_model, roi_px=256)
    window.panel.scan_part.advanced.widgets["tissue_only"].value = False
    window.viewer.dims.transpose()
    focus = Point(500.0, 1500.0)
    um = focus.to_um(0.5)
    window.viewer.scene.camera.center = (um.x, um.y)
    first = []
    window.session.cells_written.connect(lambda _, cells: first.append(cells))
    window.scan("slide")
    window.until(lambda: bool(first))
    cell, nearest = window.session.heatmap.frame.cell_at(focus), first[0][0]
    assert nearest.x - 1 <= cell.x <= nearest.right
    assert nearest.y - 1 <= cell.y <= nearest.bottom
    window.finish()
    heatmap = window.controller.layers.heatmap
    canvas = window.viewer.window._qt_viewer.canvas
    node = canvas.layer_to_visual[heatmap].node
    np.testing.assert_array_equal(np.nan_to_num(node._data), np.nan_to_num(heatmap.data.T))
    # A click on the lesion flies there.
    table = window.panel.results_part.table
    table.clicked.emit(table.rows.index(0, 0))
    center = phantom.center.to_um(0.5)
    window.until(lambda: np.allclose(window.viewer.scene.camera.center[-2:], (center.x, center.y), atol=10))


def test_part_of_a_square_map_is_not_drawn_in_the_place_of_another(window, make_disc) -> None:
    """Transposed, a square map has the same shape: a part of it lies elsewhere on the card."""
    path, _ = make_disc(0.5)
    window.open(path)
    layer = window.viewer.add_image(np.zeros((64, 64), np.float32), contrast_limits=(0, 1))
    for transposed in (False, True):
        if transposed:
            window.viewer.dims.transpose()
        window.qtbot.wait(100)
        assert redraw_image(window.viewer, layer, [Region(3, 4, 5, 6)]) is not transposed


def test_a_view_that_shows_no_plane_of_the_slide_is_refused(window, make_disc) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    viewer, slide = window.viewer, window.session.slide
    viewer.dims.ndisplay = 3
    with pytest.raises(RegionError, match="the slide shown flat"):
        wanted_region("view", viewer, slide)
    viewer.dims.ndisplay = 2
    viewer.fit_to_view()
    assert wanted_region("view", viewer, slide) == Region.of(slide.size)
    # A stack beside it: the slide lies along the last two axes, and one of them gives way to depth.
    viewer.add_image(np.zeros((5, 8, 8), np.uint8), units=("um", "um", "um"))
    assert wanted_region("view", viewer, slide) == Region.of(slide.size)
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(RegionError, match="switch 3-D off"):
        wanted_region("view", viewer, slide)
    assert view_focus(viewer, slide) == Region.of(slide.size).center
    assert wanted_region("slide", viewer, slide) is None


def test_side_by_side_the_view_is_what_one_cell_shows(window, make_disc) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    viewer, slide = window.viewer, window.session.slide
    viewer.fit_to_view()
    viewer.scene.camera.zoom *= 8
    window.qtbot.wait(100)
    whole = wanted_region("view", viewer, slide)
    viewer.add_image(np.zeros((8, 8), np.uint8), units=("um", "um"))
    viewer.canvas.grid.enabled = True
    window.qtbot.wait(200)
    region = wanted_region("view", viewer, slide)
    assert region.width < 0.6 * whole.width
    assert region.center.distance(whole.center) < 2


def test_another_layers_unit_does_not_change_what_is_scanned(window, make_disc) -> None:
    """napari counts in the smallest unit of any layer."""
    path, _ = make_disc(0.5)
    window.open(path)
    viewer, slide = window.viewer, window.session.slide
    for unit, scale in (("nm", 100), ("mm", 0.01)):
        other = viewer.add_image(np.zeros((8, 8), np.uint8), units=(unit, unit), scale=(scale, scale))
        viewer.fit_to_view()
        window.qtbot.wait(200)
        assert wanted_region("view", viewer, slide).size == slide.size, unit
        viewer.scene.camera.zoom *= 8
        window.qtbot.wait(200)
        region, drawn = wanted_region("view", viewer, slide), drawn_region(window)
        assert region.width < slide.size.width / 3, unit
        assert drawn.intersection(region).size.area >= 0.98 * region.size.area, unit
        viewer.layers.remove(other)


#: Transforms of a shapes layer of the user's own.
TRANSFORMS = {
    "moved": {"translate": (40.0, -25.0)},
    "scaled": {"scale": (2.0, 0.5)},
    "turned": {"rotate": 30},
    "sheared": {"shear": (0.3,)},
    "by a matrix": {"affine": np.array([[0.0, 1.5, 20.0], [-1.0, 0.2, 300.0], [0.0, 0.0, 1.0]])},
    "in millimetres": {"units": ("mm", "mm"), "scale": (1e-3, 1e-3)},
    "in nanometres": {"units": ("nm", "nm"), "scale": (1e3, 1e3)},
    "of three axes": {"scale": (1.0, 2.0, 0.5), "translate": (0.0, 40.0, -25.0)},
}


#: Corners of the shape, (y, x) in the layer's own units.
CORNERS = np.array([[100.0, 150.0], [100.0, 260.0], [180.0, 260.0], [180.0, 150.0]])


def placed(how: str) -> np.ndarray:
    """Return where the window draws the corners, in µm; worked out by hand."""
    linear, offset = np.eye(2), np.zeros(2)
    given = TRANSFORMS[how]
    if how == "of three axes":
        linear, offset = np.diag([2.0, 0.5]), np.array([40.0, -25.0])
    elif how == "moved":
        offset = np.array(given["translate"])
    elif how == "scaled":
        linear = np.diag(given["scale"])
    elif how == "turned":
        angle = np.deg2rad(30)
        linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    elif how == "sheared":
        linear = np.array([[1.0, 0.3], [0.0, 1.0]])
    elif how == "by a matrix":
        linear, offset = given["affine"][:2, :2], given["affine"][:2, 2]
    # A layer in millimetres with a thousandth of the scale lies where it lies in µm.
    return CORNERS @ linear.T + offset


@pytest.mark.parametrize("transposed", [False, True])
def test_a_shape_is_read_where_the_window_draws_it(window, make_disc, transposed) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    viewer, slide = window.viewer, window.session.slide
    for how, transform in TRANSFORMS.items():
        viewer.dims.order = (0, 1)
        depth = how == "of three axes"
        data = np.column_stack((np.zeros(4), CORNERS)) if depth else CORNERS
        given = {"units": ("um",) * data.shape[1], **transform}
        shapes = viewer.add_shapes([data], shape_type="polygon", **given)
        if transposed:
            viewer.dims.transpose()
        corners = placed(how)
        region = wanted_region("shape", viewer, slide)
        assert (region.y, region.x) == tuple(np.floor(corners.min(axis=0) / 0.5 + 0.5).clip(0)), how
        lower = np.minimum(np.ceil(corners.max(axis=0) / 0.5 + 0.5), slide.size.shape)
        assert (region.bottom, region.right) == tuple(lower), how
        viewer.layers.remove(shapes)


def test_layers_may_be_renamed_hidden_reordered_and_removed_while_they_are_filled(
    window, make_disc, lingering_model
) -> None:
    path, _ = make_disc(0.5)
    window.open(path)
    window.use(lingering_model, roi_px=256)
    window.panel.scan_part.advanced.widgets["tissue_only"].value = False
    window.scan("slide")
    window.until(lambda: window.session.activity.done > 0 and window.controller.layers.heatmap is not None)
    viewer, layers = window.viewer, window.controller.layers
    layers.heatmap.name = layers.slide.name = "another"
    viewer.layers.remove(layers.tissue)
    viewer.layers.move(viewer.layers.index(layers.slide), len(viewer.layers))
    layers.heatmap.visible = False
    window.session.show_lesions(None)
    window.controller._lesions.start()
    window.until(lambda: layers.lesions is not None)
    viewer.layers.remove(layers.lesions)
    viewer.layers.remove(layers.detections)
    viewer.layers.reverse()
    window.finish()
    assert not np.isnan(window.session.probabilities).any()
    assert layers.heatmap in viewer.layers
    assert not layers.heatmap.visible
    assert len(window.session.found.lesions) == 1
    # They come back with the next result, and all go with the slide.
    assert layers.lesions in viewer.layers
    assert layers.detections in viewer.layers
    viewer.layers.remove(layers.slide)
    window.until(lambda: not window.workspace.controllers)
    assert not viewer.layers
