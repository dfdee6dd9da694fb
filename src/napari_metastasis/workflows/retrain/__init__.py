"""Retraining on corrections: what was corrected, how a model learns from it, and whether it is better for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_metastasis.lazy_names import import_on_use
from napari_metastasis.workflows.retrain.run_job import RunJob
from napari_metastasis.workflows.retrain.run_log import CANCEL, STOP, RunState
from napari_metastasis.workflows.retrain.runs import (
    LOG,
    Run,
    begin_run,
    decide_run,
    look_at_run,
    open_runs,
    restart_run,
    runs_folder,
    wish,
)

if TYPE_CHECKING:
    from napari_metastasis.workflows.retrain.corrected import Corrected, Parted, gather, part
    from napari_metastasis.workflows.retrain.job import Retraining
    from napari_metastasis.workflows.retrain.run import Retrained, retrain
    from napari_metastasis.workflows.retrain.verdict import PlaceAnswer, Verdict

__all__ = [
    "CANCEL",
    "LOG",
    "STOP",
    "Corrected",
    "Parted",
    "PlaceAnswer",
    "Retrained",
    "Retraining",
    "Run",
    "RunJob",
    "RunState",
    "Verdict",
    "begin_run",
    "decide_run",
    "gather",
    "look_at_run",
    "open_runs",
    "part",
    "restart_run",
    "retrain",
    "runs_folder",
    "wish",
]

# What trains needs packages that those who only look on may lack.
__getattr__ = import_on_use(
    __name__,
    {
        "Corrected": "corrected",
        "Parted": "corrected",
        "PlaceAnswer": "verdict",
        "Retrained": "run",
        "Retraining": "job",
        "Verdict": "verdict",
        "gather": "corrected",
        "part": "corrected",
        "retrain": "run",
    },
)
