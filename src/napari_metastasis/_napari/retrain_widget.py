"""The "Retrain" part: what is learnt from, how far it is, what came out, and whether it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_metastasis._napari.compare_bar import CompareBar
from napari_metastasis._napari.curves import Curves
from napari_metastasis._napari.models_dialog import ModelsDialog
from napari_metastasis._napari.part import Part
from napari_metastasis._napari.parts import SPACING, ErrorLine, ProgressBar, form_layout, time_text
from napari_metastasis._napari.retrain_patches import EarlierPatches
from napari_metastasis._napari.retrain_sources import SourceList
from napari_metastasis._napari.retrain_verdict import VerdictView
from napari_metastasis._napari.retrain_work import bases_work
from napari_metastasis._napari.words import for_window
from napari_metastasis._napari.worker import Workers, tell
from napari_metastasis.settings import DEFAULT_MODEL
from napari_metastasis.tasks import Task, find_task

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.retrain_work import Source
    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis.models import ZooEntry
    from napari_metastasis.workflows.retrain import Run

__all__ = ["RetrainWidget"]

#: Times that are offered, in seconds, and what they are called.
_TIMES = ((60.0, "1 minute"), (300.0, "5 minutes"), (900.0, "15 minutes"), (3600.0, "1 hour"))
_USUAL_S = 300.0
_LEARNS = "Learn from what was said of these slides, beside the window; the slides can be worked on meanwhile"
_LACKS = "Nothing was said of these slides that this model learns from: choose another model, or correct its findings"


def _label() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return label


def _section() -> tuple[QWidget, QVBoxLayout]:
    """Return a part of the form that is shown or hidden as one, and what its rows are added to."""
    inside = QWidget()
    layout = QVBoxLayout(inside)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(SPACING)
    return inside, layout


class RetrainWidget(Part):
    """Retrains a model on what was said of slides, and asks whether what came out is kept.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "Retrain")
        self._retrainer.changed.connect(self._show_run)
        self._retrainer.failed.connect(self.error.show_failure)
        self._retrainer.model_kept.connect(self._workspace.models_changed)
        self._workspace.models_changed.connect(self._list_bases)
        self._workspace.controllers_changed.connect(self._hear_all)
        self._heard_of: list[SlideController] = []
        self._hear_all()
        self._list_bases()
        self._retrainer.find()
        self._show_run()

    def _build(self, layout: QVBoxLayout) -> None:
        #: Of each model that can be retrained.
        self._tasks: dict[str, Task] = {}
        self._retrainer = self._workspace.retrainer
        self._workers = Workers(self)
        self._dialog: ModelsDialog | None = None
        self.error = ErrorLine()
        self._workers.failed.connect(lambda error: self.error.show_failure(tell(error)))
        layout.addWidget(self.error)
        self._form = self._built_form()
        self._progress = self._built_progress()
        self._verdict = self._built_verdict()
        self._after = self._built_after()
        self.compare = CompareBar()
        self.compare.wanted.connect(self._workspace.comparison_wanted)
        self.compare.side_wanted.connect(self._on_side)
        for part in (self._form, self._progress, self._verdict, self._after, self.compare):
            layout.addWidget(part)

    def _built_form(self) -> QWidget:
        inside, layout = _section()
        self.sources = SourceList()
        self.sources.changed.connect(self._on_sources)
        self.sources.failed.connect(self.error.show_failure)
        layout.addWidget(self.sources)
        self.base = QComboBox()
        self.base.setToolTip("The model that learns. It stays as it is: what comes out is a new one")
        self.budget = QComboBox()
        self.budget.setToolTip("How long it may learn. It can be stopped before, and keeps what it has learnt then")
        for seconds, text in _TIMES:
            self.budget.addItem(text, seconds)
        self.budget.setCurrentIndex(self.budget.findData(_USUAL_S))
        self.base.currentIndexChanged.connect(self._show_ready)
        for choices in (self.base, self.budget):
            choices.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        form = form_layout()
        form.addRow("Model", self.base)
        form.addRow("Time", self.budget)
        layout.addLayout(form)
        self.patches = EarlierPatches()
        layout.addWidget(self.patches)
        self.start_button = QPushButton("Retrain")
        self.start_button.clicked.connect(lambda _: self.start())
        self.models_button = QPushButton("Models…")
        self.models_button.setToolTip("All models and what each was made from; export, import and remove them")
        self.models_button.clicked.connect(lambda _: self.show_models())
        row = QHBoxLayout()
        row.addWidget(self.start_button, 1)
        row.addWidget(self.models_button)
        layout.addLayout(row)
        return inside

    def _built_progress(self) -> QWidget:
        inside, layout = _section()
        self.status = _label()
        self.bar = ProgressBar()
        self.curves = Curves()
        self.stop_button = QPushButton("Stop and keep what was learnt")
        self.stop_button.setToolTip("End now: what was learnt until now is judged, and you are asked about it")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("End now, and keep nothing. What you said of the slides stays")
        self.stop_button.clicked.connect(lambda _: self._retrainer.stop())
        self.cancel_button.clicked.connect(lambda _: self._retrainer.cancel())
        row = QHBoxLayout()
        row.addWidget(self.stop_button, 1)
        row.addWidget(self.cancel_button)
        for widget in (self.status, self.bar, self.curves):
            layout.addWidget(widget)
        layout.addLayout(row)
        return inside

    def _built_verdict(self) -> QWidget:
        inside, layout = _section()
        self.verdict = VerdictView()
        self.keep_button, self.discard_button = QPushButton("Keep"), QPushButton("Discard")
        self.discard_button.setToolTip("Do not offer it any more; its files stay in its folder")
        self.go_on_button = QPushButton("Go on")
        self.go_on_button.setToolTip("Go on with the retraining from where it was interrupted")
        self.keep_button.clicked.connect(lambda _: self._retrainer.keep())
        self.discard_button.clicked.connect(lambda _: self._retrainer.discard())
        self.go_on_button.clicked.connect(lambda _: self._retrainer.go_on())
        row = QHBoxLayout()
        for button in (self.keep_button, self.go_on_button, self.discard_button):
            row.addWidget(button, 1)
        layout.addWidget(self.verdict)
        layout.addLayout(row)
        return inside

    def _built_after(self) -> QWidget:
        inside, layout = _section()
        self.kept = _label()
        self.scan_button = QPushButton("Scan this view with it")
        self.scan_button.setToolTip("Scan what the window shows with the new model")
        self.scan_button.clicked.connect(lambda _: self._scan_with_kept())
        layout.addWidget(self.kept)
        layout.addWidget(self.scan_button)
        return inside

    # -- what is learnt from -------------------------------------------------------------------------------------

    def _hear_all(self) -> None:
        """Listen to every open slide: all of them can be learnt from."""
        for one in self._heard_of:
            one.session.corrections.changed.disconnect(self._list_sources, missing_ok=True)
            one.session.maps_replaced.disconnect(self._list_sources, missing_ok=True)
        self._heard_of = list(self._workspace.controllers)
        for one in self._heard_of:
            one.session.corrections.changed.connect(self._list_sources)
            one.session.maps_replaced.connect(self._list_sources)
        self._list_sources()

    def _list_sources(self) -> None:
        self.sources.show_open(self._workspace.controllers)

    def _list_bases(self) -> None:
        def show(entries: tuple[ZooEntry, ...]) -> None:
            from napari_metastasis.models import display_name

            wanted = self.base.currentData()
            self.base.clear()
            self._tasks = {one.name: find_task(one.task) for one in entries}
            for one in entries:
                self.base.addItem(display_name(one.name, shipped=one.shipped, task=one.task), one.name)
            self.base.setCurrentIndex(max(0, self.base.findData(wanted or DEFAULT_MODEL)))
            if wanted is None:
                self._follow_result()
            self._show_ready()

        self._workers.run(bases_work, show, name="models")

    def _follow_result(self, *_: object) -> None:
        """Offer the model whose findings are shown, or else whose mitoses: rather one that something was said for."""
        if self._session is None:
            return
        shown = (self._session.model_name, self._session.mitoses.model_name)
        # Nobody may have said anything: the first of them then.
        names = sorted(filter(self._tasks.get, shown), key=lambda name: not self._taught(name))
        if names:
            self.base.setCurrentIndex(self.base.findData(names[0]))

    def _on_sources(self) -> None:
        if self.sources.chosen and not self._taught(self._chosen):
            self._follow_result()
        self._show_ready()

    @property
    def _chosen(self) -> str:
        """Return the name of the chosen model."""
        return str(self.base.currentData())

    def _taught(self, name: str) -> tuple[Source, ...]:
        """Return the chosen slides from which a model can learn."""
        task = self._tasks.get(name)
        return () if task is None else tuple(one for one in self.sources.chosen if one.teaches_for(task))

    def _show_ready(self, *_: object) -> None:
        ready, task = bool(self._taught(self._chosen)), self._tasks.get(self._chosen)
        self.start_button.setEnabled(ready)
        lacks = self.sources.chosen and not ready
        self.start_button.setToolTip(_LACKS if lacks else _LEARNS)
        # Such images are of tissue.
        self.patches.setVisible(task is None or task.scans)

    def start(self) -> None:
        """Retrain the chosen model on the chosen slides."""
        results = tuple(one.folder for one in self._taught(self._chosen) if one.folder is not None)
        if not results or self._retrainer.busy:
            return
        self.error.show_failure("")
        controllers = [one for one in self._workspace.controllers if one.session.folder in results]
        model = self._chosen
        budget_s = float(self.budget.currentData())
        patches = None if self.patches.isHidden() else self.patches.path
        self._retrainer.begin(results, controllers, model=model, name=model, budget_s=budget_s, patches=patches)

    # -- how far it is, and what came out ------------------------------------------------------------------------

    def _show_run(self) -> None:
        retrainer = self._retrainer
        run = retrainer.run
        busy = retrainer.busy
        decided = run is None or busy
        self._form.setVisible(not busy and run is None)
        self._progress.setVisible(busy)
        self._verdict.setVisible(not decided)
        self._after.setVisible(decided and not busy and retrainer.kept is not None)
        if busy:
            self._show_progress(run)
        elif run is not None:
            self._show_ended(run)
        if retrainer.kept is not None:
            entry, parent = retrainer.kept
            back = f"To go back to {parent}, choose it under Scan › Advanced › Model: it stays as it was."
            if not find_task(entry.task).scans:
                back = f"Mitoses are looked for with it from now on; to go back to {parent}, remove it under Models…"
            self.kept.setText(f"Kept as {entry.name}. {back}")
        self._offer_comparison()

    def _show_progress(self, run: Run | None) -> None:
        retrainer = self._retrainer
        total = 0
        if retrainer.waits_for:
            text = retrainer.waits_for
        elif retrainer.ending == "cancel":
            text = "Cancelling…"
        elif run is None or run.kind != "running" or not run.state.step:
            text = "Starting…"
        else:
            state, total = run.state, run.state.total
            left = f" · {time_text(state.left_s)} left at most" if state.left_s else ""
            text = f"{state.step}{left}" if not retrainer.ending else "Stopping: what was learnt is being judged…"
        self.status.setText(text)
        self.bar.show_progress(0 if run is None else run.state.done, total)
        epochs = () if run is None else run.state.epochs
        self.curves.show_epochs(epochs)
        self.curves.setVisible(bool(epochs))
        self.stop_button.setEnabled(not retrainer.ending and not retrainer.waits_for)
        self.cancel_button.setEnabled(retrainer.ending != "cancel")

    def _show_ended(self, run: Run) -> None:
        is_new = run.kind == "ended"
        self.keep_button.setVisible(is_new)
        self.keep_button.setText(f"Keep as {run.job.name}")
        self.go_on_button.setVisible(not is_new)
        self.verdict.setVisible(is_new)
        if is_new:
            self.verdict.show_run(run)
            self.error.show_error("")
        else:
            self.error.show_error(_ended_text(run, stopped=self._retrainer.ending == "stop"))

    def _scan_with_kept(self) -> None:
        kept = self._retrainer.kept
        if kept is not None and not find_task(kept[0].task).scans:
            # The newest is taken.
            self._workspace.mitoses_wanted.emit("view")
        elif kept is not None:
            self._workspace.scan_with_wanted.emit(kept[0].name)

    def show_models(self) -> None:
        """Show all models with what they were made from."""
        self._dialog = ModelsDialog(self)
        self._dialog.models_changed.connect(self._workspace.models_changed)
        self._dialog.comparison_wanted.connect(self._workspace.comparison_wanted)
        self._dialog.finished.connect(lambda _: self._forget_dialog())
        self._dialog.show()

    def _forget_dialog(self) -> None:
        if self._dialog is not None:
            self._dialog.deleteLater()
            self._dialog = None

    # -- two models beside each other ----------------------------------------------------------------------------

    def _offer_comparison(self) -> None:
        """Offer to compare what came out with what it was made from, as soon as there is something."""
        retrainer, run = self._retrainer, self._retrainer.run
        task = None if run is None else self._tasks.get(run.job.model)
        if retrainer.kept is not None:
            task = find_task(retrainer.kept[0].task)
        if task is not None and not task.scans:
            # What is compared is where tumour is.
            self.compare.offer("", "", "")
        elif run is not None and run.kind == "ended" and run.state.ended is not None and not retrainer.busy:
            self.compare.offer(run.job.model, str(run.state.ended), run.job.name)
        elif retrainer.kept is not None:
            entry, parent = retrainer.kept
            self.compare.offer(parent, entry.name, entry.name)
        else:
            self.compare.offer("", "", "")
        self._show_comparison()

    def _show_comparison(self, *_: Any) -> None:
        self.compare.follow(None if self._controller is None else self._controller.comparison, self._is_free)

    @property
    def _is_free(self) -> bool:
        controller = self._controller
        return controller is not None and not controller.busy

    def _on_side(self, side: Any) -> None:
        if self._controller is not None:
            self._controller.comparison.show(side)

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        return (
            (session.activity_changed, self._show_comparison),
            (session.maps_replaced, self._follow_result),
            (session.mitoses.map_changed, self._follow_result),
        )

    def _on_current_changed(self, controller: SlideController | None) -> None:
        if self._controller is not None:
            self._controller.comparison.changed.disconnect(self._show_comparison)
        super()._on_current_changed(controller)
        if controller is not None:
            controller.comparison.changed.connect(self._show_comparison)

    def _show_current(self) -> None:
        self._follow_result()
        self._show_comparison()


def _ended_text(run: Run, *, stopped: bool) -> str:
    """Return why a run ended without a new model."""
    if stopped:
        return "Stopped before anything was learnt. It can go on from where it was."
    if run.failed:
        return for_window(run.failed)
    return "The retraining was interrupted. It can go on from where it was."
