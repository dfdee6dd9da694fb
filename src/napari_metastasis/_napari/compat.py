"""All uses of what napari keeps private, written against napari 0.9.

What another version lacks costs comfort, not function, unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtGui import QGuiApplication
from vispy.visuals.shaders import Function

from napari_metastasis._napari.qt_image import image_of

if TYPE_CHECKING:
    from napari import Viewer
    from napari.components import Camera
    from napari.layers import Image, Labels, Layer, Points
    from qtpy.QtGui import QAction, QKeySequence
    from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

    from napari_metastasis.geometry import Region

__all__ = [
    "actions_of_key",
    "camera_of",
    "canvas_size",
    "canvas_widget",
    "copy_picture",
    "draw_now",
    "drop_targets",
    "grid_of",
    "hatch",
    "napari_docks",
    "paint_glass_white",
    "real_viewer",
    "redraw_image",
    "redraw_labels",
    "scale_bar_nodes",
    "scale_bar_of",
    "scene_of",
    "slice_at_once",
    "slice_nothing_once_closed",
    "smooth_to_gaps",
    "take_chosen_files",
    "tiles_under_way",
    "um_per_unit",
    "unrefreshed",
    "window_of",
]


def real_viewer(viewer: Viewer) -> Viewer:
    """Return the viewer itself: plugins get a proxy that hides the window."""
    return getattr(viewer, "__wrapped__", viewer)


def window_of(viewer: Viewer) -> QMainWindow:
    """Return the Qt window of a viewer. There is no public way to it, and the plugin needs it."""
    return real_viewer(viewer).window._qt_window


def copy_picture(viewer: Viewer) -> None:
    """Put what the window shows of the slide on the clipboard."""
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    clipboard.setImage(image_of(viewer.screenshot(canvas_only=True, flash=False)))


def drop_targets(viewer: Viewer) -> tuple[QWidget, ...]:
    """Return the widgets that files are dropped on: the canvas' own, and what covers it while it is empty."""
    qt_viewer = real_viewer(viewer).window._qt_viewer
    welcome = getattr(qt_viewer, "_welcome_widget", None)
    return (qt_viewer,) if welcome is None else (qt_viewer, welcome)


def take_chosen_files(viewer: Viewer, take: Callable[[list[str]], bool]) -> None:
    """Let files that are chosen in napari's own File menu be taken: it would ask which reader should read them.

    Parameters
    ----------
    viewer
        The viewer.
    take
        Gets their paths; returns ``False`` where napari is to open them after all.
    """
    qt_viewer = real_viewer(viewer).window._qt_viewer
    open_own = getattr(qt_viewer, "_qt_open", None)
    if open_own is None:
        return

    def open_files(filenames: list[str], *args: Any, **how: Any) -> None:
        # Where a person chooses a reader, or makes a stack of files, that is meant.
        if args or any(how.values()) or not take(filenames):
            open_own(filenames, *args, **how)

    qt_viewer._qt_open = open_files


def napari_docks(viewer: Viewer) -> tuple[QDockWidget, ...]:
    """Return the docks with napari's own tools: layers, their controls, and the buttons below them."""
    qt_viewer = real_viewer(viewer).window._qt_viewer
    docks = (getattr(qt_viewer, name, None) for name in ("dockLayerControls", "dockLayerList"))
    return tuple(dock for dock in docks if dock is not None)


def actions_of_key(viewer: Viewer, key: QKeySequence) -> tuple[QAction, ...]:
    """Return napari's own entries of the File menu that a key stands for: with two entries it does nothing."""
    actions = real_viewer(viewer).window.file_menu.actions()
    return tuple(action for action in actions if action.shortcut() == key)


def paint_glass_white(viewer: Viewer) -> None:
    """Paint what lies around a slide in the white of glass, in every theme."""
    canvas = getattr(viewer, "canvas", None)
    if canvas is not None and hasattr(canvas, "background_color_override"):
        canvas.background_color_override = "white"


def canvas_size(viewer: Viewer) -> tuple[float, float]:
    """Return the (width, height) of the part of the window that shows an image, in the pixels that the zoom counts."""
    canvas = real_viewer(viewer).window._qt_viewer.canvas
    cells = getattr(canvas, "grid_views", ())
    if cells and getattr(viewer, "canvas", viewer).grid.enabled:
        # Side by side, each layer has a cell of its own, and all cells show the same place.
        width, height = cells[0].size
    else:
        height, width = canvas.size
    return float(width), float(height)


def canvas_widget(viewer: Viewer) -> QWidget:
    """Return the Qt widget that napari draws in, and that gets the mouse and the keys. There is no public way to it."""
    return real_viewer(viewer).window._qt_viewer.canvas.native


def camera_of(viewer: Viewer) -> Camera:
    """Return the camera; its home is the scene from napari 0.9 on."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


def um_per_unit(viewer: Viewer, layer: Layer | None = None) -> npt.NDArray[np.float64]:
    """Return the µm in a unit of the window's coordinates, or of a layer's, along the last two axes.

    napari draws all layers in the smallest unit that one of them has; where their units do not go together, as pixels
    and µm do not, it takes the numbers as they are. So does napari before 0.9.
    """
    units = getattr(viewer.layers, "units", None)
    if units is not None and layer is not None:
        units = layer.units
    return np.ones(2) if units is None else np.array([_um_in(unit) for unit in units[-2:]])


@lru_cache(maxsize=64)
def _um_in(unit: Any) -> float:
    """Return the µm in a unit; pint takes long to find that out, and the view asks at every move."""
    return float((1 * unit).to("um").magnitude)


def scale_bar_of(viewer: Viewer) -> Any:
    """Return the scale bar; its home is the canvas from napari 0.9 on."""
    overlays = getattr(getattr(viewer, "canvas", None), "overlays", None)
    return viewer.scale_bar if overlays is None else overlays.scale_bar


def scale_bar_nodes(viewer: Viewer) -> tuple[Any, ...]:
    """Return the nodes of vispy's scene that scale bars are drawn in, made of several visuals: one for each view.

    There is none once the window is closed.
    """
    window = getattr(real_viewer(viewer).window, "_qt_window", None)
    canvas = getattr(getattr(window, "_qt_viewer", None), "canvas", None)
    shown = getattr(canvas, "_viewer_overlay_to_visual", {}).get(scale_bar_of(viewer), ())
    nodes = (getattr(one, "node", None) for one in shown)
    return tuple(node for node in nodes if hasattr(node, "_subvisuals") and hasattr(node, "set_data"))


def grid_of(viewer: Viewer) -> Any:
    """Return what lays layers side by side; its home is the canvas from napari 0.9 on."""
    return getattr(viewer, "canvas", viewer).grid


def draw_now(layer: Layer) -> None:
    """Draw a layer whose data lie in memory as they are now.

    With asynchronous slicing ``refresh`` leaves that to the one thread that reads all tiles: a heatmap would wait
    behind them.
    """
    if layer.visible:
        layer.set_view_slice()
        layer.events.set_data()


#: What an array's values are on the graphics card where they are not rescaled on the way.
_VALUE_BY_VALUE = {np.dtype(np.float32): "r32f", np.dtype(np.uint8): "r8"}


def redraw_image(viewer: Viewer, layer: Image, parts: Iterable[Region]) -> bool:
    """Draw parts of an image layer whose data changed in place; return whether that was possible.

    napari hands the whole image to the graphics card, which for a large heatmap means hundreds of megabytes.
    """
    visuals = getattr(real_viewer(viewer).window._qt_viewer.canvas, "layer_to_visual", {})
    node = getattr(visuals.get(layer), "node", None)
    texture, drawn = getattr(node, "_texture", None), getattr(node, "_data", None)
    if node is None or texture is None or drawn is None or not layer.loaded:
        return False
    # What is drawn must be the very array that was written to, value by value: neither cut into tiles, rescaled nor
    # transposed.
    if (drawn.shape, drawn.strides) != (layer.data.shape, layer.data.strides):
        return False
    if not np.may_share_memory(drawn, layer.data):
        return False
    if texture.shape[:2] != drawn.shape or texture.internalformat != _VALUE_BY_VALUE.get(drawn.dtype):
        return False
    if not getattr(node, "_need_texture_upload", True):  # else all of it is about to be handed over anyway
        for part in parts:
            texture.set_data(np.array(drawn[part.slices]), offset=(part.y, part.x))
    node.update()
    return True


#: Diagonal stripes of the window's pixels: as wide at every zoom, so that they never look like a part of the tissue.
_HATCH = """
void hatch() {
    float at = mod(gl_FragCoord.x + gl_FragCoord.y, $period);
    float stripe = clamp(min(at, $width - at) + 0.5, 0.0, 1.0);
    vec4 here = mix($between, gl_FragColor, stripe);
    gl_FragColor = vec4(here.rgb, gl_FragColor.a > 0.0 ? here.a : 0.0);
}
"""
_HATCH_PX = {"period": 16.0, "width": 5.0}


def hatch(viewer: Viewer, layer: Image, *, between: tuple[float, float, float, float]) -> None:
    """Draw an image layer as diagonal stripes in its own colour, with another one between them.

    Without that, the layer is drawn in its colour throughout.

    Parameters
    ----------
    viewer
        The viewer that shows it.
    layer
        Transparent wherever nothing is to be drawn.
    between
        Red, green, blue and opacity between the stripes, 0 to 1.
    """
    visuals = getattr(real_viewer(viewer).window._qt_viewer.canvas, "layer_to_visual", {})
    attach = getattr(getattr(visuals.get(layer), "node", None), "attach", None)
    if attach is None:
        return
    from vispy.visuals.filters import Filter

    stripes = Filter(fcode=_HATCH, fpos=9)
    for name, value in {**_HATCH_PX, "between": between}.items():
        stripes.fshader[name] = value
    attach(stripes)


def slice_at_once(layer: Points) -> None:
    """Draw a points layer by its points as they are, whenever napari says that it was sliced.

    napari 0.9 slices points in another thread and takes the answer without a look at whether the points are still
    those: fewer points are then drawn by the indices of more, which fails.
    """
    state = getattr(layer, "_slicing_state", None)
    take = getattr(state, "_update_slice_response", None)
    if state is None or take is None:
        return
    slicing = False

    def take_fresh(response: Any) -> None:
        nonlocal slicing
        if slicing:
            take(response)
            return
        slicing = True
        state._slice_input = response.slice_input
        try:
            state.set_view_slice()
        finally:
            slicing = False

    state._update_slice_response = take_fresh


def slice_nothing_once_closed(viewer: Viewer) -> None:
    """Let a viewer that closes show no more.

    napari 0.9 ends the thread that reads tiles before it takes the layers away one by one. Whatever a layer that is
    still there is asked to show then, by whoever listens to the others' leaving, would raise "cannot schedule new
    futures after shutdown".
    """
    slicer = getattr(real_viewer(viewer), "_layer_slicer", None)
    submit, shutdown = getattr(slicer, "submit", None), getattr(slicer, "shutdown", None)
    if slicer is None or submit is None or shutdown is None:
        return
    closed = False

    def submit_while_open(**request: Any) -> Future[Any] | None:
        return None if closed else submit(**request)

    def close() -> None:
        nonlocal closed
        closed = True
        shutdown()

    slicer.submit, slicer.shutdown = submit_while_open, close


def unrefreshed(layer: Layer) -> AbstractContextManager[None]:
    """Keep changes in the block from being refreshed one by one; :func:`draw_now` follows.

    With asynchronous slicing each refresh is answered later, when napari 0.9 may draw fewer points by the indices of
    more, and fail.
    """
    block = getattr(layer, "_block_refresh", None)
    return nullcontext() if block is None else block()


def tiles_under_way(viewer: Viewer) -> tuple[Future[Any], ...]:
    """Return the reads that napari has under way for this viewer, which must end before a slide is closed."""
    tasks = getattr(getattr(real_viewer(viewer), "_layer_slicer", None), "_layers_to_task", {})
    return tuple(tasks.values())


def redraw_labels(layer: Labels, part: Region) -> bool:
    """Redraw a part of a labels layer, as napari's own brush does after a stroke; return whether that was possible."""
    partly = getattr(layer, "_partial_labels_refresh", None)
    if partly is None or not layer.loaded:
        return False
    layer._updated_slice = part.slices
    partly()
    return True


def scene_of(viewer: Viewer, layer: Layer) -> Any:
    """Return the node of vispy's scene that a layer is drawn in; ``None`` where napari does not tell."""
    return getattr(getattr(_visual_of(viewer, layer), "node", None), "parent", None)


def _visual_of(viewer: Viewer, layer: Layer) -> Any:
    canvas = getattr(getattr(real_viewer(viewer).window, "_qt_viewer", None), "canvas", None)
    return getattr(canvas, "layer_to_visual", {}).get(layer)


#: Interpolates between four texels as far as they hold numbers. What holds none is drawn to the edge of its texel: the
#: graphics card's own interpolation would make gaps of all that lies beside one.
_LINEAR_TO_GAPS = """
    vec4 lookup_to_gaps(vec2 texcoord) {
        if (texcoord.x < 0.0 || texcoord.x > 1.0 || texcoord.y < 0.0 || texcoord.y > 1.0) {
            discard;
        }
        vec2 size = $shape;
        vec2 place = texcoord * size;
        float own = texture2D($texture, (floor(place) + 0.5) / size).r;
        vec2 first = floor(place - 0.5);
        vec2 share = place - 0.5 - first;
        float sum = 0.0;
        float weight = 0.0;
        for (int i = 0; i < 4; i++) {
            vec2 corner = vec2(mod(float(i), 2.0), floor(float(i) / 2.0));
            vec2 weights = mix(1.0 - share, share, corner);
            vec2 texel = clamp(first + corner, vec2(0.0), size - 1.0);
            float value = texture2D($texture, (texel + 0.5) / size).r;
            if (value <= 0.0 || 0.0 <= value) {
                sum += weights.x * weights.y * value;
                weight += weights.x * weights.y;
            }
        }
        // NaN is handed on, and drawn as the colormap says.
        return vec4(own <= 0.0 || 0.0 <= own ? sum / weight : own);
    }"""


def smooth_to_gaps(viewer: Viewer, layer: Image) -> None:
    """Let a map's linear interpolation reach up to its gaps, which are NaN.

    Without it every cell beside a gap is drawn by half, and one alone not at all.
    """
    node: Any = getattr(_visual_of(viewer, layer), "node", None)
    build_own, set_own = getattr(node, "_build_interpolation", None), getattr(node, "set_data", None)
    if build_own is None or set_own is None or not hasattr(node, "_need_interpolation_update"):
        return
    built_for: tuple[int, ...] = ()

    def build() -> None:
        nonlocal built_for
        build_own()
        if node._interpolation != "linear":
            return
        built_for = node._data.shape[:2]
        lookup = Function(_LINEAR_TO_GAPS)
        lookup["shape"] = built_for[::-1]
        lookup["texture"] = node._texture
        node._texture.interpolation = "nearest"
        node._data_lookup_fn = lookup
        node.shared_program.frag["get_data"] = lookup

    def set_data(*args: Any, **kwargs: Any) -> None:
        set_own(*args, **kwargs)
        # Drawn before its values are sliced, a map is a single pixel at first, and would be read as one for good.
        if node._data.shape[:2] != built_for:
            node._need_interpolation_update = True

    node.unfreeze()
    node._build_interpolation, node.set_data = build, set_data
    node.freeze()
    node._need_interpolation_update = True
    node.update()
