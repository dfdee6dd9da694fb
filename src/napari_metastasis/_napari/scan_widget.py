"""The "Scan" part: two buttons, how far a scan is, and under "Advanced" how it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_metastasis._napari.earlier_list import earlier_hint, earlier_texts
from napari_metastasis._napari.forms import SettingsForm, label_of
from napari_metastasis._napari.model_choice import ModelChoice
from napari_metastasis._napari.part import Part
from napari_metastasis._napari.parts import ErrorLine, Folded, ProgressBar, form_layout, probability_slider, time_text
from napari_metastasis._napari.regions import Where, view_focus, wanted_outlines, wanted_region
from napari_metastasis._napari.scan_requests import ScanRequests
from napari_metastasis._napari.session import Activity
from napari_metastasis._napari.slide_state import not_told_above
from napari_metastasis._napari.timers import single_shot
from napari_metastasis._napari.worker import tell
from napari_metastasis._napari.workspace import KEYS
from napari_metastasis.errors import MetastasisError
from napari_metastasis.settings import ScanSettings, setting_of
from napari_metastasis.tasks import Task, pass_tasks
from napari_metastasis.workflows.scan_job import PassRequest, ScanJob

if TYPE_CHECKING:
    from napari import Viewer
    from psygnal import SignalInstance

    from napari_metastasis._napari.session import SlideSession
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis._napari.slide_work import AvailableModel, AvailableModels
    from napari_metastasis.models import ModelSpec

__all__ = ["ScanWidget"]

#: The network is made ready once the form was left alone for so long.
_WARM_UP_MS = 300

_MAIN = ("dense_coefficient", "augment_views", "device")
_ADVANCED = ("stain", "tissue_only", "precision", "engine", "roi_px", "threads", "queue_rois")
_VIEWS = {1: "fast", 8: "thorough (8 times slower)"}
_DEVICES = {"auto": "Automatic", "cpu": "Processor", "cuda": "Graphics card", "mps": "Apple graphics"}
_PRECISIONS = {"auto": "Automatic", "float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
_STAINS = {
    "auto": "Automatic",
    "as-is": "As it is",
    "normalise": "As dense as in training",
    "macenko": "In the dyes of a reference",
}
_ENGINES = {"auto": "Automatic", "torch": "PyTorch", "openvino": "OpenVINO"}


class ScanWidget(Part):
    """Starts scans of the current slide, and cancels them.

    Parameters
    ----------
    napari_viewer
        The viewer; napari fills it in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "Scan")
        self._workspace.scan_wanted.connect(lambda: self.scan("slide"))
        self._requests = ScanRequests(self, self._workspace)
        self.model.fill()
        passes = (self.switches, self.details, self.keeping)
        for form in (self.main, self.advanced, *(form for forms in passes for form in forms.values())):
            for widget in form.widgets.values():
                widget.changed.connect(lambda _: self._warm_up.start())

    def _build(self, layout: QVBoxLayout) -> None:
        self._results: Path | None = None
        self._switched_for = ""
        #: What the activity that was shown last says that failed.
        self._failed = ""
        self._warm_up = single_shot(self, _WARM_UP_MS, self._on_warm_up)
        self._build_buttons(layout)
        self._build_progress(layout)
        self._build_advanced(layout)

    def _build_buttons(self, layout: QVBoxLayout) -> None:
        self.slide_button, self.view_button = QPushButton("Scan whole slide"), QPushButton("Scan this view")
        self.slide_button.setToolTip(
            f"Scan all tissue of the slide, from the middle of the window outwards ({KEYS['scan']})"
        )
        self.view_button.setToolTip("Scan only what the window shows: no result for the slide")
        self.slide_button.setStyleSheet("QPushButton:enabled { font-weight: bold; background: #2f6fb3; color: white; }")
        self.slide_button.clicked.connect(lambda _: self.scan("slide"))
        self.view_button.clicked.connect(lambda _: self.scan("view"))
        row = QHBoxLayout()
        row.addWidget(self.slide_button, 1)
        row.addWidget(self.view_button, 1)
        layout.addLayout(row)

    def _build_progress(self, layout: QVBoxLayout) -> None:
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip(
            f"Stop; what was scanned is kept, and a new scan goes on from there ({KEYS['cancel']})"
        )
        self.cancel_button.clicked.connect(self._cancel)
        row = QHBoxLayout()
        row.addWidget(self.status, 1)
        row.addWidget(self.cancel_button)
        layout.addLayout(row)
        self.progress = ProgressBar()
        layout.addWidget(self.progress)
        self.error = ErrorLine()
        layout.addWidget(self.error)

    def _build_advanced(self, layout: QVBoxLayout) -> None:
        inside = QWidget()
        form = form_layout()
        inside.setLayout(form)
        self.earlier = QComboBox()
        self.earlier.setToolTip("Results beside the slide, of these and of other settings; choose one to see it")
        self.earlier.activated.connect(self._on_earlier)
        form.addRow(QLabel("Results"))
        form.addRow(self.earlier)
        self._add_model(form)
        self.main = SettingsForm(
            ScanSettings, _MAIN, choices={"augment_views": _VIEWS, "device": {"auto": _DEVICES["auto"]}}
        )
        #: By task: whether its pass is made, how, and what is kept for a later one.
        self.switches: dict[str, SettingsForm] = {}
        self.details: dict[str, SettingsForm] = {}
        self.keeping: dict[str, SettingsForm] = {}
        #: By the name of the map whose share each of them is.
        self.shares: dict[str, QLabeledDoubleSlider] = {}
        #: By the name of the map that findings are read from.
        self.alone: dict[str, QCheckBox] = {}
        for task in pass_tasks():
            self._add_pass(form, task)
        self.main.add_to(form)
        self.shape_button = QPushButton("Scan selected shape")
        self.shape_button.setToolTip(
            "Scan the rectangle around the shape that is selected in a Shapes layer; mitoses are looked for only inside"
        )
        self.shape_button.clicked.connect(lambda _: self.scan("shape"))
        form.addRow(self.shape_button)
        self.advanced = SettingsForm(
            ScanSettings, _ADVANCED, choices={"stain": _STAINS, "precision": _PRECISIONS, "engine": _ENGINES}
        )
        self.advanced.add_to(form)
        for kept in self.keeping.values():
            kept.add_to(form)
        self.results_button = QPushButton("beside the slide")
        self.results_button.setToolTip("Folder for the results; choose one where the slides' folder is read-only")
        self.results_button.clicked.connect(self._choose_results_folder)
        form.addRow("Folder", self.results_button)
        self.more = Folded("Advanced", inside)
        layout.addWidget(self.more)

    def _add_model(self, form: QFormLayout) -> None:
        self.model = ModelChoice()
        self.model.currentIndexChanged.connect(self._on_model_changed)
        self.model.filled.connect(self._on_models)
        self.model.failed.connect(self.error.show_failure)
        more = QPushButton("…")
        more.setFixedWidth(32)
        more.setToolTip("Take a model from a .safetensors file")
        more.clicked.connect(self.model.ask_for_file)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.model, 1)
        row.addWidget(more)
        form.addRow(QLabel("Model"))
        form.addRow(row)
        self.made_from = QLabel()
        self.made_from.setWordWrap(True)
        self.made_from.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        form.addRow(self.made_from)

    def _add_pass(self, form: QFormLayout, task: Task) -> None:
        """Add what is asked of a pass, and a slider for the share of its map; a switch where that is not blended."""
        settings = task.settings
        assert settings is not None
        wanted = self.switches[task.name] = SettingsForm(settings, (settings.SWITCH,))
        details = self.details[task.name] = SettingsForm(settings, settings.details())
        self.keeping[task.name] = SettingsForm(settings, tuple(filter(None, (settings.KEEP,))))
        wanted.add_to(form)
        details.add_to(form)
        (switched,) = wanted.widgets.values()
        switched.changed.connect(details.enable)
        details.enable(switched.value)
        if not settings.SHARE:
            return
        if settings.stands_alone():
            switch = self.alone[task.writes] = QCheckBox(label_of(settings.SHARE))
            _, share_setting = setting_of(settings, settings.SHARE)
            switch.setToolTip(f"{share_setting.help}\nGrey where the slide has no such map")
            switch.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            switch.toggled.connect(partial(self._on_share, task.writes))
            form.addRow(switch)
            return
        share = self.shares[task.writes] = probability_slider(0.0, 1.0, step=0.05)
        share.setToolTip(
            "How much of the findings is read from this map; the rest is read from the one before.\n"
            "Grey where the slide has no such map"
        )
        share.valueChanged.connect(partial(self._on_share, task.writes))
        # Below its label, which would leave no room beside it at the panel's narrowest.
        form.addRow(QLabel(label_of(settings.SHARE)))
        form.addRow(share)

    # -- models --------------------------------------------------------------------------------------------------

    def _on_models(self, found: AvailableModels) -> None:
        self.main.offer("device", {device: _DEVICES[device] for device in found.devices})
        self._on_model_changed()
        self._follow_result()

    def _on_model_changed(self) -> None:
        model = self.model.chosen
        if model is not None:
            spec = model.spec
            own = spec.dense_coefficient
            densities = [
                1 << power for power in range(spec.stride_px.bit_length()) if not spec.stride_px % (1 << power)
            ]
            offered = {
                each: f"{'coarse' if each < own else 'fine'} (an answer every {_cell_um(spec, each)})"
                for each in densities
                if each != own
            }
            normal = f"normal (an answer every {_cell_um(spec, own)})"
            self.main.offer("dense_coefficient", {0: normal, **offered})
        for name, form in self.switches.items():
            (switch,) = form.widgets.values()
            # Grey where there is no choice: no model makes the pass, or the file that was chosen is a model for it.
            possible = model is not None and name in model.passes
            certain = model is not None and name in model.named
            switch.enabled = possible and not certain
            # What the user switched stays for as long as the model.
            ships = model is not None and model.ships
            usual = next(task.settings for task in pass_tasks() if task.name == name)
            assert usual is not None
            wanted = switch.value if self.model.name == self._switched_for else ships and usual.USUAL
            switch.value = certain or (possible and wanted)
        self._switched_for = self.model.name
        self._workspace.offer_mitoses(possible=model is not None and "mitosis" in model.passes)
        told = "" if model is None else _made_from_text(model)
        self.made_from.setText(told)
        self.made_from.setVisible(bool(told))
        self._warm_up.start()
        self._show_activity()

    def add_model_file(self, path: str | Path) -> None:
        """Offer the model whose weights lie at ``path``, and choose it."""
        self.model.add_file(path)

    def _choose_results_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for results")
        # Cancelling the dialog chooses the folder beside the slide again.
        self._results = Path(name) if name else None
        self.results_button.setText(Path(name).name if name else "beside the slide")

    # -- results of other settings -------------------------------------------------------------------------------

    def _on_share(self, name: str, value: float) -> None:
        if self._session is not None:
            self._session.set_share(name, round(value, 2))

    def _show_shares(self, *_: object) -> None:
        session = self._session
        for name, share in self.shares.items():
            shown = None if session is None else session.maps.get(name)
            share.setEnabled(shown is not None and shown.kind.is_probability)
            share.blockSignals(True)
            share.setValue(1.0 if session is None else session.share_of(name))
            share.blockSignals(False)
        for name, switch in self.alone.items():
            switch.setEnabled(session is not None and name in session.maps)
            switch.blockSignals(True)
            switch.setChecked(session is None or session.share_of(name) > 0)
            switch.blockSignals(False)

    def _follow_result(self) -> None:
        """Set the form as the earlier result that is shown was made, so that going on goes on with that."""
        session = self._session
        made = {} if session is None else session.made_with
        if session is None or not made or session.activity.busy or not self.model.choose(str(made.get("model"))):
            return
        own = self.model.chosen.spec.dense_coefficient if self.model.chosen is not None else 0
        dense = made.get("dense_coefficient")
        for name, value in (
            ("dense_coefficient", 0 if dense == own else dense),
            ("augment_views", made.get("augment_views")),
        ):
            widget = self.main.widgets[name]
            assert isinstance(widget, ComboBox)
            if value in widget.choices:
                widget.value = value
        for task in pass_tasks():
            (switch,) = self.switches[task.name].widgets.values()
            if switch.enabled:
                switch.value = task.name in session.passes
            for name, detail in self.details[task.name].widgets.items():
                if task.name in session.passes:
                    detail.value = made.get(name, detail.value)

    def _list_earlier(self, *_: object) -> None:
        """List the results that lie beside the slide; the one that is shown is chosen."""
        controller = self._controller
        self.earlier.clear()
        scans = () if controller is None else controller.results.earlier
        for scan, text in zip(scans, earlier_texts(scans), strict=True):
            self.earlier.addItem(text, scan)
            self.earlier.setItemData(self.earlier.count() - 1, earlier_hint(scan), Qt.ItemDataRole.ToolTipRole)
        folders = [scan.folder for scan in scans]
        folder = None if self._session is None else self._session.folder
        self.earlier.setCurrentIndex(folders.index(folder) if folder in folders else -1)
        self.earlier.setEnabled(bool(scans))
        self.earlier.setPlaceholderText("other results" if scans else "none yet")

    def _on_earlier(self, index: int) -> None:
        scan = self.earlier.itemData(index)
        if self._controller is not None and scan is not None:
            self._controller.results.show(scan)

    # -- scanning ------------------------------------------------------------------------------------------------

    def scan(self, where: Where) -> None:
        """Start a scan, as the form says, of the whole slide, of what the window shows, or of the selected shape."""
        controller = self._controller
        if controller is None or controller.busy or not self.model.name:
            return
        job = self.asked(where)
        if job is not None:
            controller.scan(job)

    def asked(self, where: Where) -> ScanJob | None:
        """Return the scan that the form asks for; ``None`` where there is none to make, and the form says why."""
        session = self._session
        if session is None or not self.model.name:
            return None
        slide = session.slide
        try:
            job = replace(
                self._job(session),
                region=wanted_region(where, self._viewer, slide),
                outlines=wanted_outlines(where, self._viewer, slide),
                focus=view_focus(self._viewer, slide),
                detection=session.chosen_detection,
                output=None if self._results is None else self._results / f"{slide.name}.metastasis",
            )
        except MetastasisError as error:
            self.error.show_failure(tell(error))
            return None
        self.error.show_failure("")
        return job

    def _job(self, session: SlideSession) -> ScanJob:
        """Return the scan that the form asks for, without region and output."""
        requests = []
        for task in pass_tasks():
            assert task.settings is not None
            values = {
                name: value
                for forms in (self.switches, self.details, self.keeping)
                for name, value in forms[task.name].values.items()
            }
            if task.settings.SHARE:
                of_map = session.share_of(task.writes)
                values[task.settings.SHARE] = of_map > 0 if task.settings.stands_alone() else of_map
            if task.settings.SLIDER:
                values[task.settings.SLIDER] = session.mitoses.asked_threshold
            requests.append(PassRequest(task=task.name, settings=task.settings(**values)))
        slide = session.slide
        return ScanJob(
            slide=slide.path,
            mpp=slide.mpp if slide.mpp_supplied else None,
            swap_red_blue=slide.swapped,
            model=self.model.name,
            passes=tuple(requests),
            scan=ScanSettings(**self.main.values, **self.advanced.values),
        )

    def _on_warm_up(self) -> None:
        """Make the engine that the next scan will need."""
        if self._controller is not None and not self._controller.busy and self.model.name:
            # Errors of the form are told when the scan is started.
            with suppress(MetastasisError):
                self._workspace.engines.warm(self._job(self._controller.session))

    def _cancel(self) -> None:
        if self._controller is not None:
            self._controller.cancel()

    def _heard(self, session: SlideSession) -> Iterable[tuple[SignalInstance, Callable[..., Any]]]:
        return (
            (session.activity_changed, self._show_activity),
            (session.maps_replaced, self._show_shares),
            (session.maps_replaced, self._follow_result),
            (session.share_changed, self._show_shares),
        )

    def _on_current_changed(self, controller: SlideController | None) -> None:
        if self._controller is not None:
            self._controller.results.earlier_changed.disconnect(self._list_earlier)
        super()._on_current_changed(controller)
        if controller is not None:
            controller.results.earlier_changed.connect(self._list_earlier)

    def _show_current(self) -> None:
        if self._controller is not None:
            self._warm_up.start()
        self._show_shares()
        self._follow_result()
        self._list_earlier()
        self._show_activity()

    def _show_activity(self, *_: object) -> None:
        activity = Activity() if self._session is None else self._session.activity
        ready = self._controller is not None and not activity.busy and self.model.currentIndex() >= 0
        for button in (self.slide_button, self.view_button, self.shape_button):
            button.setEnabled(ready)
        self.cancel_button.setVisible(activity.busy)
        if activity.error != self._failed:
            # Else what failed in the form stays: a scan reports all the time.
            self._failed = activity.error
            self.error.show_error(activity.error)
        self.progress.setVisible(activity.busy)
        self.progress.show_progress(activity.done, activity.total)
        parts = [activity.stage if self._session is None else not_told_above(self._session)]
        if activity.mpx_per_s:
            parts.append(f"{activity.mpx_per_s:.1f} Mpx/s")
        if activity.seconds_left is not None:
            parts.append(f"{time_text(activity.seconds_left)} left")
        self.status.setText(" · ".join(part for part in parts if part))
        self.status.setVisible(bool(self.status.text()))


def _made_from_text(model: AvailableModel) -> str:
    """Return what has to be said of a retrained model; empty of any other."""
    if not model.parents:
        return ""
    lacks = [task for task in pass_tasks() if task.name in model.lacks and task.settings is not None]
    said = f"Retrained from {model.parents[0]}, which is in this list, too, and as it was."
    for task in lacks:
        assert task.settings is not None
        said += f" “{label_of(task.settings.SWITCH)}” was made for that one, and does not fit this one."
    return said


def _cell_um(spec: ModelSpec, dense_coefficient: int) -> str:
    return f"{spec.dense_stride_px(dense_coefficient) * spec.mpp:.3g}\N{NO-BREAK SPACE}µm"
