"""A window, a slide with a dark disc, and a network that answers how dark its patch is."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from disc_phantom import DiscPhantom, disc_slide
from napari import Viewer
from napari.settings import get_settings
from napari_once import worked_out_once
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from superqt.utils._ensure_thread import CallCallable

from napari_metastasis._napari.compat import tiles_under_way, window_of
from napari_metastasis._napari.dress import dress
from napari_metastasis._napari.session import SlideSession
from napari_metastasis._napari.slide_controller import SlideController
from napari_metastasis._napari.slide_list import SlideList
from napari_metastasis._napari.workspace import Workspace
from napari_metastasis.geometry import Point, Size
from napari_metastasis.models import (
    Block,
    ModelSpec,
    RefinerSpec,
    ScanNet,
    ScanNetArchitecture,
    SpatialNetwork,
    add_model,
    build_network,
    load_model,
    save_model,
)
from napari_metastasis.models.nets import architectures

#: Of the shape of the one that ships, in layers, patches and strides, and thin: a scan takes an eighth of the time.
ARCHITECTURE = ScanNetArchitecture(
    blocks=(Block(4, 2), Block(4, 3), Block(4, 2), Block(4, 2)),
    head_kernel_px=2, head_channels=(4,), batch_norm=True, dropout=0.0,
)  # fmt: skip
MODEL_MPP = 0.972


@pytest.fixture(scope="session", autouse=True)
def windows_made_quickly() -> Iterator[None]:
    """Let napari work out once in a process what comes out the same for every window."""
    with worked_out_once():
        yield


@pytest.fixture(autouse=True)
def no_marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no test find the rulers that another one left on the same slide."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))


@pytest.fixture(autouse=True)
def thin_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cards name the network of :func:`darkness_model`."""
    monkeypatch.setattr(
        architectures, "ARCHITECTURES", MappingProxyType({**architectures.ARCHITECTURES, "scannet-thin": ARCHITECTURE})
    )


@pytest.fixture(scope="session")
def darkness_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a real network that answer how dark a patch's middle is: what they find is known before."""
    return _write_darkness(tmp_path_factory.mktemp("models"), ScanNet(ARCHITECTURE), "scannet-thin")


@pytest.fixture(scope="session")
def lingering_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a network as wide as the one that ships, for tests of what happens while a scan is under way."""
    return _write_darkness(tmp_path_factory.mktemp("models"), build_network("scannet-small"), "scannet-small")


def _write_darkness(folder: Path, network: ScanNet, architecture: str) -> Path:
    network.eval()
    state = network.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if name.endswith(("running_var",)):
                tensor.fill_(1)
            elif tensor.is_floating_point():
                tensor.zero_()
        convolutions = [name for name, tensor in state.items() if tensor.ndim == 4]
        features = [name for name in convolutions if name.startswith("features")]
        for name in features:
            state[name][0, 0, 1, 1] = 1  # the middle pixel of the first channel is handed on
            norm = name.split(".")
            state[f"features.{int(norm[1]) + 1}.weight"].fill_(1)
        # The first layer turns grey into darkness: 0 on glass, 1 on black.
        state[features[0]][0, :, 1, 1] = -1 / 3
        state["features.1.bias"][0] = 0.0
        first, last = (name for name in convolutions if name.startswith("head"))
        state[first][0, 0] = 1 / state[first][0, 0].numel()
        state[last][0, 0, 0, 0], state[last][1, 0, 0, 0] = -20.0, 20.0
        state[last.replace("weight", "bias")][0], state[last.replace("weight", "bias")][1] = 10.0, -10.0
    network.load_state_dict(state)
    spec = ModelSpec(
        name="darkness",
        architecture=architecture,
        mpp=MODEL_MPP,
        patch_px=network.architecture.patch_px,
        stride_px=network.architecture.stride_px,
        mean=(1.0, 1.0, 1.0),  # normalised glass is 0 and black -1
        std=(1.0, 1.0, 1.0),
    )
    path = folder / "darkness.safetensors"
    save_model(path, network, spec, {})
    return path


@pytest.fixture(scope="session")
def drawn_disc(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], tuple[Path, DiscPhantom]]:
    """Draw a slide of 1.2 x 1 mm with one dark disc, off the middle and off every grid, once for each pixel size."""
    folder = tmp_path_factory.mktemp("discs")

    @cache
    def draw(mpp: float) -> tuple[Path, DiscPhantom]:
        path = folder / f"{mpp}.tif"
        size = Size(round(1200 / mpp), round(1000 / mpp))
        center = Point(550.0 / mpp + 3.3, 430.0 / mpp - 2.7)
        return path, disc_slide(path, size=size, mpp=mpp, center=center, radius_px=150 / mpp)

    return draw


@pytest.fixture
def make_disc(
    tmp_path: Path, drawn_disc: Callable[..., tuple[Path, DiscPhantom]]
) -> Callable[..., tuple[Path, DiscPhantom]]:
    """Put a slide with a disc into the test's own folder, where its results will lie beside it."""

    def make(mpp: float, name: str = "disc") -> tuple[Path, DiscPhantom]:
        drawn, phantom = drawn_disc(mpp)
        return shutil.copy(drawn, tmp_path / f"{name}.tif"), phantom

    return make


@pytest.fixture
def refiner(darkness_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Keep a refiner of the model that answers a little less than its encoder, among the user's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    model = load_model(darkness_model)
    spec = RefinerSpec(
        name="timid", encoder=model.spec.name, encoder_sha256=model.weights_sha256,
        encoder_features=model.network.architecture.feature_channels,
        projected=3, hidden=4, grid=4, grid_step=1, window_step=2,
        order="raster-four", residual=True, smoothing=3, dense_coefficient=2,
    )  # fmt: skip
    network = SpatialNetwork(spec)
    with torch.no_grad():
        network.answer.bias.fill_(-1.0)
    save_model(tmp_path / "timid.safetensors", network, network.spec, {})
    return add_model(tmp_path / "timid.safetensors").name


class Window:
    """A napari window with the panel, as a test drives it."""

    def __init__(self, viewer: Viewer, qtbot: QtBot) -> None:
        self.viewer = viewer
        self.qtbot = qtbot
        _, self.panel = viewer.window.add_plugin_dock_widget("napari-metastasis", "Metastasis")
        self.workspace = Workspace.of(viewer)
        self.slides: SlideList | None = None

    def until(self, condition: Callable[[], bool], timeout_s: float = 120) -> None:
        """Let the window live until something is so."""
        self.qtbot.waitUntil(condition, timeout=round(timeout_s * 1000))

    @property
    def controller(self) -> SlideController:
        assert self.workspace.current is not None
        return self.workspace.current

    @property
    def session(self) -> SlideSession:
        return self.controller.session

    def open(self, path: Path, mpp: float | None = None) -> None:
        """Open a slide as the button does, and wait for its tissue."""
        before = len(self.workspace.controllers)
        self.workspace.open([path], mpp)
        self.until(lambda: len(self.workspace.controllers) > before)
        self.until(lambda: self.session.tissue is not None)

    def choose(self, row: int) -> None:
        """Click a slide of the list."""
        assert self.slides is not None
        slides = self.slides.list
        spot = slides.visualItemRect(slides.item(row)).center()
        self.qtbot.mouseClick(slides.viewport(), Qt.MouseButton.LeftButton, pos=spot)

    def use(self, model: Path, *, roi_px: int = 0) -> None:
        """Choose a model, and an engine that needs no measuring."""
        part = self.panel.scan_part
        part.add_model_file(model)
        self.until(lambda: part.model.currentData() == str(model))
        for name, value in (("engine", "torch"), ("precision", "float32"), ("roi_px", roi_px or 512)):
            part.advanced.widgets[name].value = value
        part.main.widgets["device"].value = "cpu"

    def scan(self, where: str = "view") -> None:
        """Start a scan as the button for it does."""
        part = self.panel.scan_part
        {"slide": part.slide_button, "view": part.view_button, "shape": part.shape_button}[where].click()

    def settle(self) -> None:
        """Let reads that napari has under way come in, for a while: until they are handled they hold the window."""
        end = time.monotonic() + 1
        # Those of layers that were taken away are no layer's any more.
        while time.monotonic() < end and not (
            all(task.done() for task in tiles_under_way(self.viewer))
            and all(layer.loaded for layer in self.viewer.layers if layer.visible)
            and not CallCallable.instances  # answers of napari's slicer that the GUI thread has not taken yet
        ):
            self.qtbot.wait(10)
        self.qtbot.wait(20)

    def finish(self) -> None:
        """Wait for a scan, and for its lesions."""
        self.until(lambda: not self.controller.busy)
        assert not self.session.activity.error
        self.until(lambda: self.session.found is not None and not self.controller.looking_for_lesions)


@pytest.fixture
def window_class() -> type[Window]:
    """For tests that put something in place before the window is made."""
    return Window


@pytest.fixture
def window(request: pytest.FixtureRequest, make_napari_viewer: Callable[..., Viewer], qtbot: QtBot) -> Iterator[Window]:
    """A window with the panel docked; shown unless the test is marked ``unseen``, which saves a third of its time."""
    window = Window(make_napari_viewer(show=request.node.get_closest_marker("unseen") is None), qtbot)
    yield window
    window.workspace.close()
    window.settle()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Drive the window on both screens where a test says so."""
    if metafunc.definition.get_closest_marker("both_screens") is not None:
        metafunc.parametrize("house", list(_HOUSES), indirect=True)


#: A large and a small screen, in either theme.
_HOUSES = {"large screen, dark": ((1600, 1000), "dark"), "small screen, light": ((1280, 800), "light")}


@pytest.fixture
def house(request: pytest.FixtureRequest, make_napari_viewer: Callable[..., Viewer], qtbot: QtBot) -> Iterator[Window]:
    """The program's own window: with the list of slides, and without napari's tools.

    On a large, dark screen; a test that is marked ``both_screens`` sees a small, light one, too.
    """
    size, theme = _HOUSES[getattr(request, "param", next(iter(_HOUSES)))]
    settings = get_settings()
    before, settings.appearance.theme = settings.appearance.theme, theme
    window = Window(make_napari_viewer(show=True), qtbot)
    dress(window.viewer)
    qt_window = window_of(window.viewer)
    qt_window.resize(*size)
    window.until(lambda: (qt_window.width(), qt_window.height()) == size)
    window.slides = qt_window.findChild(SlideList)
    yield window
    window.workspace.close()
    window.settle()
    settings.appearance.theme = before


@cache
def set_aside() -> None:
    """Take what the first window brought along out of the garbage collection that follows every window."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Look through what a window leaves, and not through all that napari is, from the second one on."""
    yield
    if "make_napari_viewer" in getattr(item, "fixturenames", ()):
        set_aside()
