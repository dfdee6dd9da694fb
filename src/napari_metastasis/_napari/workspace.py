"""What the plugin keeps for one window: the open slides, the current one, the keys, and the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, QObject, QTimer, Signal
from qtpy.QtWidgets import QApplication

from napari_metastasis._napari.async_slicing import slice_off_the_gui_thread
from napari_metastasis._napari.compat import real_viewer, slice_nothing_once_closed, window_of
from napari_metastasis._napari.correcting import Correcting
from napari_metastasis._napari.drops import SlideDrops
from napari_metastasis._napari.flight import Flight
from napari_metastasis._napari.layers import slide_layer_data
from napari_metastasis._napari.magnification import fit_slide
from napari_metastasis._napari.microscope import Microscope
from napari_metastasis._napari.overlay import bind_overlay_keys
from napari_metastasis._napari.parts import ErrorLine
from napari_metastasis._napari.pixel_memory import open_remembered
from napari_metastasis._napari.pixel_size import PixelSizeDialog
from napari_metastasis._napari.priority import give_way
from napari_metastasis._napari.reader import is_picture
from napari_metastasis._napari.recent import MOST_RECENT, recent_slides, remember_slide
from napari_metastasis._napari.retrainer import Retrainer
from napari_metastasis._napari.review_bar import DECISIONS
from napari_metastasis._napari.reviewer_name import ReviewerName
from napari_metastasis._napari.rotation import Orientation, set_orientation
from napari_metastasis._napari.scale_bar import show_scale_bar
from napari_metastasis._napari.session import METADATA_KEY, SlideSession
from napari_metastasis._napari.slide_controller import SlideController
from napari_metastasis._napari.slide_work import warm_up_work
from napari_metastasis._napari.unsaved import UnsavedDialog, unsaved
from napari_metastasis._napari.view_state import ViewState
from napari_metastasis._napari.window_keys import WindowKeys
from napari_metastasis._napari.worker import ShouldStop, Worker, tell
from napari_metastasis.errors import MissingPixelSizeError
from napari_metastasis.slide_address import SlidePath, SlideUrl, slide_path
from napari_metastasis.workflows.engine_cache import EngineCache

if TYPE_CHECKING:
    from napari import Viewer

__all__ = ["KEYS", "Workspace"]

_NAME = "napari-metastasis-workspace"

#: The keys that the panel names.
KEYS = {
    "scan": "Shift-S",
    "cancel": "Escape",
    "lower": "[",
    "raise": "]",
    "overlay": "H",
    "next": "N",
    "previous": "Shift-N",
    "undo": "Ctrl-Z",
    "redo": "Ctrl-Shift-Z",
    "flip": "X",
}
_THRESHOLD_STEP = 0.05


def _place_of(path: SlidePath) -> SlidePath:
    """Return a slide's file under its own name, in the folder that its results lie in, whichever way leads there."""
    if isinstance(path, SlideUrl):
        return path
    return path.parent.resolve() / path.name


def _close_slide(opened: Future[Any]) -> None:
    """Close a slide that came too late for its window."""
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


class Workspace(QObject):
    """The plugin's side of one napari window; a child of the window, and gone with it.

    Use :meth:`of`. Widgets find the open slides here, and listen to their sessions.
    """

    #: Another slide is current now: its SlideController, or ``None``.
    current_changed = Signal(object)
    #: A slide came or went.
    controllers_changed = Signal()
    #: A layer came into the viewer, or went.
    layers_changed = Signal()
    #: Something failed that the current slide's own activity does not say: one line.
    failed = Signal(str)
    #: Slides are being opened: how many.
    opening_changed = Signal(int)
    #: The whole slide is to be scanned, or what is left of it.
    scan_wanted = Signal()
    #: The view is to be scanned with a model, by its name or path.
    scan_with_wanted = Signal(str)
    #: Two models are to be compared on the view: names or paths of the old and the new one.
    comparison_wanted = Signal(str, str)
    #: Mitoses are to be looked for in the "view", in the selected "shape", or on the whole slide in the "tumour".
    mitoses_wanted = Signal(str)
    #: Whether a model for mitoses goes with the chosen one.
    mitoses_possible = Signal(bool)
    #: A model was kept, taken from another workstation, or removed.
    models_changed = Signal()
    #: The next finding is asked for, 1, or the one before, -1.
    finding_wanted = Signal(int)
    #: A person decided on the chosen finding: the label of what lies there.
    decided = Signal(str)
    #: A step was taken back, or done again: the keys of the corrections that it changed.
    moved_in_history = Signal(object)

    def __init__(self, viewer: Viewer, window: QObject) -> None:
        super().__init__(window)
        self.setObjectName(_NAME)
        self.viewer = viewer
        self.controllers: list[SlideController] = []
        self.current: SlideController | None = None
        self._shown: SlideController | None = None
        self.finds_mitoses = False
        self.recent: tuple[SlidePath, ...] = ()
        self.flight = Flight(viewer, self)
        self.reviewer = ReviewerName(self)
        self.retrainer = Retrainer(self)
        self.engines = EngineCache(begin_thread=give_way)
        self.models_changed.connect(self.engines.forget)
        self._kept_back: set[SlideSession] = set()
        self._opening: dict[Worker, Future[Any]] = {}
        self._dialog: PixelSizeDialog | None = None
        self._window_closing = self._closes_unsaved = False
        self._closed = False
        slice_off_the_gui_thread()
        slice_nothing_once_closed(viewer)
        show_scale_bar(viewer)
        for layer in viewer.layers:
            self._adopt(layer)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.selection.events.active.connect(self._on_active_changed)
        window.installEventFilter(self)
        application = QApplication.instance()
        assert application is not None
        application.aboutToQuit.connect(self.close)
        SlideDrops(self)
        self.keys = WindowKeys(viewer)
        self.microscope = Microscope(self)
        self.correcting = Correcting(self)
        # After the microscope and the tools: Escape puts these away before it stops a scan.
        self._bind_keys()
        recent = Worker(lambda _: recent_slides(), name="recent", parent=self)
        recent.succeeded.connect(lambda listed: self._list_recent(self.recent, listed))
        self._warm_up = [Worker(warm_up_work, name="warm-up", parent=self), recent]
        for worker in self._warm_up:
            worker.start()

    def offer_mitoses(self, *, possible: bool) -> None:
        """Say whether a model for mitoses goes with the model that is chosen for scans."""
        if possible != self.finds_mitoses:
            self.finds_mitoses = possible
            self.mitoses_possible.emit(possible)

    @classmethod
    def of(cls, viewer: Viewer) -> Workspace:
        """Return the workspace of a viewer's window, made on first use."""
        viewer = real_viewer(viewer)
        window = window_of(viewer)
        found = window.findChild(QObject, _NAME)
        return found if isinstance(found, Workspace) else cls(viewer, window)

    # -- slides come and go --------------------------------------------------------------------------------------

    def open(
        self,
        paths: Iterable[str | SlidePath],
        mpp: float | None = None,
        *,
        swap_red_blue: bool = False,
        entered: bool = False,
        or_picture: bool = False,
    ) -> None:
        """Open slides beside the window: the first that is ready is shown, the others join the list.

        Parameters
        ----------
        paths
            Slide files, and addresses of slides.
        mpp
            Micrometres per level-0 pixel, where the files do not say.
        swap_red_blue
            Whether the files hold red and blue in each other's place.
        entered
            Whether ``mpp`` was entered for these very slides: then it is remembered.
        or_picture
            Whether a TIFF that is no slide is shown by napari itself, as any other image.
        """
        how: dict[str, Any] = {"swap_red_blue": swap_red_blue, "entered": entered, "or_picture": or_picture}
        batch: list[SlidePath] = []
        for path in map(slide_path, paths):
            shown = self.opened(path) if mpp is None and not swap_red_blue else None
            if shown is None:
                self._open(partial(slide_path, path), mpp, batch=batch, **how)
            else:
                # Two of one slide would write to one result.
                batch.append(path)
                self.show(shown)

    def opened(self, path: SlidePath) -> SlideController | None:
        """Return the slide of a file that is open already; ``None`` where it is not."""
        place = _place_of(path)
        return next((one for one in self.controllers if _place_of(one.session.slide.path) == place), None)

    def open_sample(self) -> None:
        """Open the sample slide beside the window; it is drawn first if it is missing."""

        def sample() -> Path:
            from napari_metastasis.synthetic import sample_slide_path

            return sample_slide_path()

        self._open(sample, None, batch=[])

    def _open(
        self,
        find: Callable[[], SlidePath],
        mpp: float | None,
        *,
        batch: list[SlidePath],
        swap_red_blue: bool = False,
        or_picture: bool = False,
        entered: bool = False,
    ) -> None:
        found: list[SlidePath] = []
        listed: list[SlidePath] = []

        def show(slide: Any) -> None:
            if slide is None:
                self.viewer.open(found[0], plugin="napari")
                return
            self._list_recent(listed, self.recent)
            there = self.opened(found[0]) if mpp is None and not swap_red_blue else None
            if there is None:
                self.add(slide, show=not batch)
            else:
                # It was asked for twice, before it was open.
                slide.close()
                if not batch:
                    self.show(there)
            batch.append(found[0])

        def work(_: ShouldStop) -> Any:
            found.append(find())
            if or_picture and isinstance(found[0], Path) and is_picture(found[0]):
                return None
            slide = open_remembered(found[0], mpp, entered=entered, swap_red_blue=swap_red_blue)
            listed.extend(remember_slide(found[0]))
            # Made here: the levels are named after the file's fingerprint, which takes the GUI thread too long to read.
            assert slide.levels
            return slide

        worker = Worker(work, name="open-slide", parent=self, urgent=True)
        worker.succeeded.connect(show)
        worker.failed.connect(lambda error: self._on_open_failed(error, found, swap_red_blue=swap_red_blue))
        worker.ended.connect(lambda: self._on_opening_ended(worker))
        self._opening[worker] = worker.start()
        self.opening_changed.emit(len(self._opening))

    def _on_opening_ended(self, worker: Worker) -> None:
        del self._opening[worker]
        self.opening_changed.emit(len(self._opening))

    def _on_open_failed(self, error: BaseException, found: list[SlidePath], *, swap_red_blue: bool) -> None:
        if isinstance(error, MissingPixelSizeError) and found:
            self.ask_pixel_size(found[0], swap_red_blue=swap_red_blue)
            return
        self.say_failure(tell(error))

    def say_failure(self, line: str) -> None:
        """Say in the panel that something failed; where no panel is in sight, as a notification of napari's."""
        self.failed.emit(line)
        self._show_unseen(line)

    def _show_unseen(self, line: str) -> None:
        shown = window_of(self.viewer).findChildren(ErrorLine)
        if not any(one.isVisible() and one.text() == line for one in shown):
            show_error(line)

    def _on_controller_failed(self, controller: SlideController, line: str) -> None:
        """Say what failed for a slide: where it is current, the panel may show its activity already."""
        if controller is not self.current:
            self.say_failure(f"{controller.session.slide.name}: {line}")
        elif controller.session.activity.error == line:
            self._show_unseen(line)
        else:
            self.say_failure(line)

    def _list_recent(self, latest: Iterable[SlidePath], others: Iterable[SlidePath]) -> None:
        """Join two lists: of slides that were opened together, each list may lack the other one."""
        self.recent = tuple(dict.fromkeys((*latest, *others)))[:MOST_RECENT]

    def add(self, slide: Any, *, show: bool = True) -> Layer:
        """Add an open slide, whose session closes it; where another one is shown, ``show`` says whether it stays."""
        session = SlideSession(slide)
        data, arguments, kind = slide_layer_data(slide, session)
        if show or self.current is None:
            return self.viewer.add_layer(Layer.create(data, arguments, kind))
        self._kept_back.add(session)
        layer = self.viewer.add_layer(Layer.create(data, {**arguments, "visible": False}, kind))
        # napari chooses what is added; the slide that is shown stays chosen.
        self.viewer.layers.selection.active = self.current.layers.slide
        self._kept_back.discard(session)
        return layer

    def close_slide(self, controller: SlideController) -> None:
        """Close one slide: its scan stops, and what was scanned is kept."""
        if controller.layers.slide in self.viewer.layers:
            self.viewer.layers.remove(controller.layers.slide)

    def ask_pixel_size(self, path: SlidePath, *, known: float | None = None, swap_red_blue: bool = False) -> None:
        """Ask for the size of a slide's pixels, then open it with that.

        Parameters
        ----------
        path
            The slide.
        known
            Micrometres per pixel so far; ``None`` where the file does not say.
        swap_red_blue
            As :meth:`open` takes it.
        """
        dialog = PixelSizeDialog(path.name, known=known, parent=self.parent())
        dialog.accepted.connect(lambda: self.reopen(path, dialog.mpp, swap_red_blue=swap_red_blue, entered=True))
        dialog.finished.connect(lambda _: dialog.deleteLater())
        self._dialog = dialog
        dialog.open()  # not exec(): the window goes on

    def reopen(self, path: SlidePath, mpp: float | None, *, swap_red_blue: bool, entered: bool = False) -> None:
        """Open a slide otherwise than it is open now; see :meth:`open`."""
        for controller in [controller for controller in self.controllers if controller.session.slide.path == path]:
            self.viewer.layers.remove(controller.layers.slide)
        self.open([path], mpp, swap_red_blue=swap_red_blue, entered=entered)

    def _on_inserted(self, event: Any) -> None:
        self.layers_changed.emit()
        self._adopt(event.value)

    def _adopt(self, layer: Layer) -> None:
        """Make a controller for a slide's layer, whoever opened it."""
        session = layer.metadata.get(METADATA_KEY)
        if not isinstance(session, SlideSession) or session.closed:
            return
        if any(controller.session is session for controller in self.controllers):
            return
        controller = SlideController(self.viewer, session, layer, self.engines, self)
        controller.failed.connect(partial(self._on_controller_failed, controller))
        self.controllers.append(controller)
        self.controllers_changed.emit()
        if session in self._kept_back:
            controller.layers.keep_back()
        else:
            self.show(controller)
        controller.make_thumbnail()
        controller.results.load()
        controller.find_tissue()

    def close_current(self) -> None:
        """Close the slide that is shown."""
        if self.current is not None:
            self.close_slide(self.current)

    def _on_removed(self, event: Any) -> None:
        self.layers_changed.emit()
        for controller in [controller for controller in self.controllers if controller.layers.slide is event.value]:
            self.controllers.remove(controller)
            if self._shown is controller:
                self._shown = None
            self.microscope.forget(controller.session)
            controller.close(wait=False)
            if self.current is controller:
                self._set_current(self.controllers[-1] if self.controllers else None)
                # Once all that goes is gone: a viewer that closes takes its slicer away before its layers.
                QTimer.singleShot(0, self._show_current)
            controller.deleteLater()
            self.controllers_changed.emit()

    def _show_current(self) -> None:
        if self.current in self.controllers:
            self.show(self.current)

    def _on_active_changed(self, event: Any) -> None:
        for controller in self.controllers:
            kept_back = controller.session in self._kept_back
            if controller is not self.current and not kept_back and event.value in controller.layers:
                self.show(controller)

    def _set_current(self, controller: SlideController | None) -> None:
        if controller is not self.current:
            self.current = controller
            self.current_changed.emit(controller)

    def show(self, controller: SlideController | None) -> None:
        """Show one open slide alone: as a whole the first time, and later where it was left."""
        self.flight.stop()
        before, self._shown = self._shown, controller
        if before is not None and before is not controller:
            before.view = ViewState.of(self.viewer)
        # All slides begin at 0 µm: two at once would only hide each other.
        for other in self.controllers:
            if other is not controller:
                other.layers.set_visible(False)
        self._set_current(controller)
        if controller is None:
            return
        # Before it is seen: no tile is read that is not wanted.
        if controller.view is None:
            set_orientation(self.viewer, Orientation())
            fit_slide(self.viewer, controller.session.slide)
            controller.view = ViewState.of(self.viewer)
        elif before is not controller:
            controller.view.show(self.viewer)
        controller.layers.set_visible(True)
        if self.viewer.layers.selection.active not in controller.layers:
            self.viewer.layers.selection.active = controller.layers.slide

    def home(self) -> None:
        """Show the whole of the current slide."""
        if self.current is not None:
            self.flight.stop()
            fit_slide(self.viewer, self.current.session.slide)

    # -- keys ----------------------------------------------------------------------------------------------------

    def _bind_keys(self) -> None:
        for name, act in (
            ("scan", self.scan_wanted.emit),
            ("cancel", self._cancel),
            ("lower", partial(self._move_threshold, -_THRESHOLD_STEP)),
            ("raise", partial(self._move_threshold, _THRESHOLD_STEP)),
            ("next", partial(self.finding_wanted.emit, 1)),
            ("previous", partial(self.finding_wanted.emit, -1)),
            ("undo", partial(self.move_in_history, -1)),
            ("redo", partial(self.move_in_history, 1)),
            ("flip", self._flip),
        ):
            self.keys.bind(KEYS[name], act)
        for label, _, _, key in DECISIONS:
            self.keys.bind(key, partial(self.decided.emit, label))

        # V hides napari's selected layer, which is mostly the slide.
        bind_overlay_keys(
            self.keys, lambda: None if self.current is None else self.current.layers, KEYS["overlay"], "V"
        )

    def _cancel(self) -> bool:
        if self.current is None:
            return False
        self.current.cancel()
        return True

    def _flip(self) -> bool:
        return self.current is not None and self.current.comparison.flip()

    def _move_threshold(self, step: float) -> bool:
        if self.current is None:
            return False
        session = self.current.session
        session.set_threshold(round(session.threshold + step, 2))
        return True

    def move_in_history(self, step: int) -> bool:
        """Take the last step of the corrections back, -1, or do it again, 1; return whether there is a slide."""
        if self.current is None:
            return False
        if step < 0 and self.correcting.tool.take_back_corner():
            return True
        corrections = self.current.session.corrections
        keys = corrections.undo() if step < 0 else corrections.redo()
        if keys:
            self.moved_in_history.emit(keys)
        return True

    # -- the end -------------------------------------------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Close the workspace once its window is hidden after a Close event that nobody refused."""
        if event is not None:
            if event.type() == QEvent.Type.Close:
                if self._ask_before_closing():
                    event.ignore()
                    return True
                self._window_closing = True
            elif event.type() == QEvent.Type.Show:
                self._window_closing = False
            elif event.type() == QEvent.Type.WindowActivate:
                # Whoever comes back from another window wants to see what was said there.
                for controller in self.controllers:
                    controller.corrections.look()
            elif event.type() == QEvent.Type.Hide and self._window_closing:
                self.close()
        return bool(super().eventFilter(watched, event))

    def _ask_before_closing(self) -> bool:
        """Ask where something is not saved that no disk takes, and return whether the window stays for now."""
        slides = () if self._closes_unsaved or self._closed else unsaved(self.controllers)
        if slides:
            dialog = UnsavedDialog(slides, window_of(self.viewer))
            dialog.close_wanted.connect(self._close_unsaved)
            dialog.open()  # not exec(): the window goes on
        return bool(slides)

    def _close_unsaved(self) -> None:
        self._closes_unsaved = True
        QTimer.singleShot(0, window_of(self.viewer).close)

    def close(self) -> None:
        """End everything: scans are stopped and waited for, slides are closed."""
        if self._closed:
            return
        self._closed = True
        self.flight.stop()
        self.keys.close()
        self.reviewer.close()
        self.retrainer.close()
        self.correcting.close()
        self.microscope.close()
        workers, self._warm_up = [*self._warm_up, *self._opening], []
        opening, self._opening = self._opening, {}
        for worker in workers:
            worker.abandon()
        for future in opening.values():
            future.add_done_callback(_close_slide)
        controllers, self.controllers = self.controllers, []
        # All are asked before the first is waited for.
        for controller in controllers:
            controller.stop_work()
        for controller in controllers:
            controller.close(wait=True)
        self.engines.close()
