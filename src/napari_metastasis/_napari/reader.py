"""Hands slides to napari: as dask arrays, placed in µm, with the session that the panel works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QCoreApplication, QThread, QTimer

from napari_metastasis.errors import MetastasisError, MissingPixelSizeError, SlideError
from napari_metastasis.slide_address import SlidePath, SlideUrl
from napari_metastasis.slide_suffixes import FOLDER_SUFFIXES, SHARED_SUFFIXES, slide_suffix

if TYPE_CHECKING:
    from napari import Viewer

    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis._napari.workspace import Workspace

__all__ = ["is_picture", "may_be_slide", "napari_get_reader", "open_sample", "read_slides"]

LayerData = tuple[Any, dict[str, Any], str]

#: npe2's way to say that reading went well and there is nothing to add.
_NOTHING: list[LayerData] = [(None,)]  # type: ignore[list-item]


def napari_get_reader(
    path: str | Sequence[str] | None = None,
) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return the reader where every path is a slide, else ``None``.

    What other images are called as well, such as a TIFF, is looked into; of others the name says it.

    The command palette lists it as a command, without a path: then it asks for slides.
    """
    if path is None:
        _ask_for_slides()
        return None
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(each) for each in path]
    if paths and all(may_be_slide(each) and not is_picture(each) for each in paths):
        return read_slides
    return None


def _ask_for_slides() -> None:
    viewer = _viewer_here()
    if viewer is not None:
        from napari_metastasis._napari.app import open_slide_command

        open_slide_command(viewer)


def is_picture(path: Path) -> bool:
    """Return whether a file whose suffix slides share with other images is such an image: for other readers."""
    from napari_metastasis.errors import FluorescenceError, NotASlideError
    from napari_metastasis.slides import open_slide

    if slide_suffix(path.name) not in SHARED_SUFFIXES or not path.exists():
        return False
    try:
        open_slide(path).close()
    except (FluorescenceError, NotASlideError):
        return True
    except MetastasisError:
        # It is one, and damaged, or it does not say its pixel size: whoever opens it is told.
        return False
    return False


def may_be_slide(path: SlidePath) -> bool:
    """Return whether a path or an address may be a slide, by its name."""
    suffix = slide_suffix(path.name)
    if isinstance(path, SlideUrl):
        return bool(suffix)
    if path.is_dir():
        return suffix in FOLDER_SUFFIXES or any(path.glob("*.dcm"))
    return bool(suffix) and suffix not in FOLDER_SUFFIXES


def read_slides(path: str | Sequence[str]) -> list[LayerData]:
    """Open slides and return one multiscale image layer each. Decodes no more than a few small tiles.

    npe2 wants the layers when a reader returns: a slide that is dropped on the window is opened on the GUI thread,
    unlike one that the panel opens. That takes 30 ms of processor time for a slide of 100,000 px, once the panel's
    warm-up has imported its modules; pixels are read later, beside the window.

    Where a slide does not state its pixel size and there is a window, a dialog asks for it, and opens the slide then.
    A window tells itself of a slide that cannot be opened, and shows the others; of a slide that is open in it already,
    it shows that.

    Raises
    ------
    SlideError
        Naming what was expected, what came, and what to do; only where there is no window.
    """
    from napari_metastasis._napari.layers import slide_layer_data
    from napari_metastasis._napari.pixel_memory import open_remembered
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.worker import tell
    from napari_metastasis._napari.workspace import Workspace

    viewer = _viewer_here()
    if viewer is not None:
        # With the panel open or not, the workspace reads tiles off the GUI thread and closes slides with their layers.
        Workspace.of(viewer)
    paths = [path] if isinstance(path, str | Path) else list(path)
    found: list[LayerData] = []
    with ExitStack() as on_error:
        for each in paths:
            shown = None if viewer is None else Workspace.of(viewer).opened(Path(each))
            if shown is not None:
                # As soon as napari has added the others; two of one slide would write to one result.
                QTimer.singleShot(0, partial(_show, Workspace.of(viewer), shown))
                continue
            try:
                slide = open_remembered(Path(each))
            except MetastasisError as error:
                if viewer is None:
                    raise
                workspace = Workspace.of(viewer)
                if isinstance(error, MissingPixelSizeError):
                    # As soon as the window is idle.
                    QTimer.singleShot(0, partial(workspace.ask_pixel_size, Path(each)))
                else:
                    # napari would offer a traceback of what is no defect of the program.
                    workspace.say_failure(tell(error))
                continue
            on_error.callback(slide.close)
            found.append(slide_layer_data(slide, SlideSession(slide)))
        on_error.pop_all()
    return found or _NOTHING


def _show(workspace: Workspace, shown: SlideController) -> None:
    if shown in workspace.controllers:
        workspace.show(shown)


def _viewer_here() -> Viewer | None:
    """Return the viewer that slides are opened in; ``None`` where there is no window, or this is not its thread."""
    from napari import current_viewer

    application = QCoreApplication.instance()
    if application is None or QThread.currentThread() is not application.thread():
        return None
    return current_viewer()


def open_sample() -> list[LayerData]:
    """Return the synthetic sample slide. A window tells itself of one that cannot be drawn.

    Raises
    ------
    SlideError
        If it does not lie where it should; only where there is no window.
    """
    from napari_metastasis._napari.worker import tell
    from napari_metastasis._napari.workspace import Workspace
    from napari_metastasis.synthetic import sample_slide_path

    try:
        path = Path(sample_slide_path())
        if not path.exists():
            remedy = "make it with 'napari-metastasis sample'"
            raise SlideError(f"expected the sample slide at {path}, got no file; {remedy}")
    except MetastasisError as error:
        viewer = _viewer_here()
        if viewer is None:
            raise
        Workspace.of(viewer).say_failure(tell(error))
        return _NOTHING
    return read_slides(str(path))
