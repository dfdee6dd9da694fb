"""``retrain``: corrections in, a better model out, and whether it is better."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metastasis.cli.console import note, say, say_json, show_progress, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage, with_settings
from napari_metastasis.cli.training import keep_by_name, need_training
from napari_metastasis.errors import ScanCancelledError, StorageError
from napari_metastasis.settings import DEFAULT_MODEL, TUNE_OPTIONS, CorrectionSettings, TuneTrainSettings, WholeSettings

if TYPE_CHECKING:
    from napari_metastasis.workflows.retrain import Retrained

__all__ = ["retrain"]

_UNITS = {"s": 1, "m": 60, "h": 3600}
_LONGEST_S = 7 * 24 * 3600


def _seconds(text: str) -> float:
    """Return a time such as "90s", "10m" or "1.5h" in seconds; a plain number is minutes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    seconds = float(found[1]) * _UNITS[found[2] or "m"] if found else 0.0
    if not 10 <= seconds <= _LONGEST_S:
        raise WrongUsage(f"expected a --budget of 10 s to a week, such as 90s, 10m or 1.5h, got {text!r}; correct it")
    return seconds


@with_settings("corrections", CorrectionSettings, panel="Corrections")
@with_settings("whole", WholeSettings, panel="All layers, with --patches")
@with_settings("settings", TuneTrainSettings, panel="Learning", only=TUNE_OPTIONS)
def retrain(
    settings: TuneTrainSettings,
    corrections: CorrectionSettings,
    whole: WholeSettings,
    results: Annotated[list[Path], typer.Argument(help="Result folders with corrections, or folders that hold such.")],
    model: Annotated[
        str,
        typer.Option(
            help="Detector, or mitosis model, to begin with: its name ('models list'), or a .safetensors file. A "
            "mitosis model learns from mitoses that were confirmed, rejected and added."
        ),
    ] = DEFAULT_MODEL,
    name: Annotated[str, typer.Option(help="Name of the new model; by default the old one's next version.")] = "",
    budget: Annotated[str, typer.Option(help="Time that it may take: 90s, 10m, 1.5h.")] = "5m",
    patches: Annotated[
        Path | None,
        typer.Option(
            help="Patches that the model learnt from before, a folder, zip or HDF5 file: with them all of its layers "
            "learn, where time is left."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Run folder; by default one of your own, named after the model and what it learns from."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep the new model by its name, unless it is judged no better.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Retrain a detector, or a mitosis model, on what was confirmed, rejected and drawn, and say whether it is better.

    Some of the corrected places are held out: old and new model are compared on these. The old model stays. Ctrl-C ends
    it early, and keeps what was learnt; a run that was killed goes on when the same command is run again.
    """
    need_training()
    from napari_metastasis.workflows.report import find_results
    from napari_metastasis.workflows.retrain import Retraining
    from napari_metastasis.workflows.retrain import retrain as run_retraining

    folders = []
    for place in results:
        found = find_results(place)
        if not found:
            raise StorageError(
                f"expected a result folder, or a folder that holds such, got {place}; scan a slide first"
            )
        folders += found
    job = Retraining(
        results=tuple(folders), model=model, name=name, output=output, budget_s=_seconds(budget), patches=patches,
        settings=settings, corrections=corrections, whole=whole,
    )  # fmt: skip
    with stop_on_interrupt() as should_stop:
        try:
            done = run_retraining(
                job, show=lambda title, unit: show_progress(title, unit=unit), should_stop=should_stop
            )
        except ScanCancelledError:
            raise KeyboardInterrupt from None
    for line in done.notes:
        note(line)
    kept = _keep(done) if keep else False
    if as_json:
        say_json({"weights": str(done.weights), "kept": kept, **done.verdict.to_json()})
        return
    for figure, (old, new) in done.verdict.figures.items():
        say(f"{figure}: {_interval(old)} before, {_interval(new)} now")
    if done.verdict.replayed is not None:
        say("earlier patches, AUC: {:.3f} before, {:.3f} now".format(*done.verdict.replayed))
    say(done.verdict.sentence)
    say(str(done.weights))


def _keep(done: Retrained) -> bool:
    """Keep the new model by its name, unless it is judged worse, and note so: or the window would ask."""
    from napari_metastasis.workflows.retrain import decide_run

    kept = False
    if done.verdict.is_better is not False:
        kept = keep_by_name(done.weights)
    else:
        note(f"not kept by its name, since it is not better: 'napari-metastasis models add {done.weights}' keeps it")
    decide_run(done.weights.parent, kept=kept)
    return kept


def _interval(figure: object) -> str:
    from napari_metastasis.evaluation import Estimate

    assert isinstance(figure, Estimate)
    interval = "" if math.isnan(figure.low) else f" ({figure.low:.3f} to {figure.high:.3f})"
    return f"{figure.value:.3f}{interval}"
