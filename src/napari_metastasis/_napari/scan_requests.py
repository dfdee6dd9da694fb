"""Scans that other parts of the panel ask for: with a model of theirs, or with two, to compare them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_metastasis._napari.regions import Where
from napari_metastasis.settings import MitosisSettings
from napari_metastasis.tasks import find_task
from napari_metastasis.workflows.scan_job import PassRequest

if TYPE_CHECKING:
    from napari_metastasis._napari.scan_widget import ScanWidget
    from napari_metastasis._napari.slide_controller import SlideController
    from napari_metastasis._napari.workspace import Workspace
    from napari_metastasis.workflows.scan_job import ScanJob

__all__ = ["ScanRequests"]


#: Which part of the slide is scanned where mitoses are looked for.
_WHERE: dict[str, Where] = {"view": "view", "tumour": "slide", "shape": "shape"}


class ScanRequests(QObject):
    """Makes the scans that other parts ask for, as the scan's own form has them otherwise.

    Parameters
    ----------
    part
        The scan's form.
    workspace
        Where they ask.
    """

    def __init__(self, part: ScanWidget, workspace: Workspace) -> None:
        super().__init__(part)
        self._part = part
        self._workspace = workspace
        self._wanted = ""
        workspace.scan_with_wanted.connect(self._on_scan_with)
        workspace.comparison_wanted.connect(self._on_comparison)
        workspace.mitoses_wanted.connect(self._on_mitoses)
        workspace.models_changed.connect(part.model.fill)
        part.model.filled.connect(lambda _: self._on_filled())

    def _on_scan_with(self, model: str) -> None:
        """Choose a model, once it is in the list, and scan the view with it."""
        self._wanted = model
        self._part.model.fill()

    def _on_filled(self) -> None:
        wanted, self._wanted = self._wanted, ""
        if wanted and self._part.model.choose(wanted):
            self._part.scan("view")

    def _on_comparison(self, old: str, new: str) -> None:
        controller = self._workspace.current
        if controller is None or controller.busy:
            return
        job = self._part.asked("view")
        if job is not None:
            controller.comparison.start(self._with(job, controller, old), self._with(job, controller, new))

    def _on_mitoses(self, where: str) -> None:
        """Look for mitoses in the view, in the selected shape, or in the tumour that a scan found; lesions stay."""
        controller = self._workspace.current
        job = self._part.asked(_WHERE[where])
        if controller is None or controller.busy or job is None:
            return
        (settings,) = (one.settings for one in job.passes if isinstance(one.settings, MitosisSettings))
        above = settings.mitosis_above
        if where == "tumour":
            above = above or controller.session.threshold
        request = PassRequest(task="mitosis", settings=replace(settings, mitosis=True, mitosis_above=above))
        controller.scan(replace(job, detects=False, passes=(request,)))

    def _with(self, job: ScanJob, controller: SlideController, model: str) -> ScanJob:
        """Return a job for another model, with the passes that its results have, or that are usual for it."""
        known = self._part.model.known.get(model)
        held = next((one for one in controller.results.earlier if one.model_name == model), None)
        passes = []
        for request in job.passes:
            task = find_task(request.task)
            assert task.settings is not None
            possible = known is not None and request.task in known.passes
            usual = known is not None and known.ships and task.settings.USUAL
            wanted = task.writes in held.shown.shares if held is not None else usual
            passes.append(replace(request, settings=request.settings.wanting(wanted=possible and wanted)))
        return replace(job, model=model, passes=tuple(passes))
