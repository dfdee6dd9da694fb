"""``models``: list, show, add, import and calibrate models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table, show_progress, show_slides, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage, with_settings
from napari_metastasis.errors import ModelError, ScanCancelledError
from napari_metastasis.settings import CalibrationSettings, CohortSettings, EvaluationSettings, ScanSettings
from napari_metastasis.workflows.scan_job import ScanJob

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Split

__all__ = ["app"]

app = typer.Typer(help="List models, and keep your own.")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """List the models of every task; 'scan --model' takes them by name."""
    from napari_metastasis.models import Model, ZooEntry, list_models, load_model
    from napari_metastasis.tasks import DETECT, TASKS

    found: dict[str, list[tuple[ZooEntry, Model]]] = {task.name: [] for task in TASKS}
    for entry in list_models():
        try:
            model = load_model(entry.name)
            found[model.task].append((entry, model))
        except ModelError as error:
            note(f"{entry.name} is left out: {error}")
    if as_json:
        # Detectors were the first models, and are called so here.
        names = {task.name: "models" if task.name == DETECT else f"{task.noun}s" for task in TASKS}
        say_json({names[task]: [model.spec.to_json() for _, model in models] for task, models in found.items()})
        return
    for task in TASKS:
        rows = [
            {**model.columns(), "from": "shipped" if entry.shipped else "yours"} for entry, model in found[task.name]
        ]
        if rows:
            say_table(tuple(rows[0]), [tuple(row.values()) for row in rows], title=f"{task.noun}s")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="Name of a model, or a .safetensors file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show a model's card: what it reads, what it was trained on, its accuracy."""
    from napari_metastasis.models import load_model

    values = load_model(model).to_json()
    if as_json:
        say_json(values)
        return
    for line in _outline(values):
        say(line)


@app.command()
def add(
    weights: Annotated[Path, typer.Argument(help="A .safetensors file with its card beside it.")],
) -> None:
    """Keep a model of your own under the name on its card, which no other model may have."""
    from napari_metastasis.models import add_model

    entry = add_model(weights)
    say(f"{entry.name}: {entry.path}")


@app.command()
def remember(
    model: Annotated[str, typer.Argument(help="A detector of your own, or a .safetensors file.")],
    patches: Annotated[Path, typer.Option(help="Patches that it was trained on: a folder or zip, or PCam's HDF5.")],
    source: Annotated[str, typer.Option(help="What they were cut from, in words.")],
    count: Annotated[int, typer.Option(min=2, max=4096, help="How many are kept, half of them of each class.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="Of which ones.")] = 2016,
) -> None:
    """Keep a few patches beside a model, encoded, so that retraining does not forget them."""
    from napari_metastasis.cohorts.patches import open_patches
    from napari_metastasis.models import load_detector, weights_of
    from napari_metastasis.models.replay import REPLAY_SUFFIX, write_replay
    from napari_metastasis.workflows.retrain.remember import encode_replay

    detector, path = load_detector(model), weights_of(model).with_suffix(REPLAY_SUFFIX)
    with show_progress("Encoding patches", unit="patches") as progress:
        replay = encode_replay(
            detector, open_patches(patches), count=count, source=source, seed=seed, progress=progress
        )
    write_replay(path, replay)
    say(f"{len(replay)} patches: {path}")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder of a WSInfer model, with config.json and model.safetensors.")],
    name: Annotated[str, typer.Option(help="Name of the model; the folder's by default.")] = "",
    tumour_class: Annotated[
        str, typer.Option(help="Class that heatmaps show; by default the one called tumour, metastasis or the like.")
    ] = "",
) -> None:
    """Keep another program's model as one of your own. Its accuracy was not measured here."""
    from napari_metastasis.models import import_model

    entry = import_model(folder, name=name, tumour_class=tumour_class)
    say(f"{entry.name}: {entry.path}")


@app.command()
@with_settings("settings", CalibrationSettings)
@with_settings("splits", CohortSettings)
@with_settings("scan", ScanSettings, only=("dense_coefficient", "device", "precision", "engine"))
def calibrate(
    settings: CalibrationSettings,
    splits: CohortSettings,
    scan: ScanSettings,
    model: Annotated[str, typer.Argument(help="Name of a detector or a refiner, or a .safetensors file.")],
    cohort: Annotated[Path, typer.Option(help="Slides with annotations that the model was not trained on.")],
    output: Annotated[
        Path, typer.Option(help="New .safetensors file of the calibrated model; its scans go beside it, in a folder.")
    ],
    split: Annotated[str, typer.Option(help="Slides to calibrate on: train, validation or test.")] = "validation",
    name: Annotated[str, typer.Option(help="Name of the calibrated model; '<model>-calibrated' by default.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make a model's answers probabilities of tumour on slides, and set its threshold by the false area it may mark.

    What is stopped goes on when the same command is run again.
    """
    from napari_metastasis.cohorts.cohort import read_cohort
    from napari_metastasis.models import check_name
    from napari_metastasis.tasks import DETECT
    from napari_metastasis.workflows.calibrate import calibrate_on, store_calibrated
    from napari_metastasis.workflows.evaluate import CohortEvaluation
    from napari_metastasis.workflows.scan import answering_task, load_job_models, settle_job

    if split not in ("train", "validation", "test"):
        raise WrongUsage(f"expected a --split of train, validation or test, got {split!r}; correct it")
    if output.suffix != ".safetensors" or os.path.exists(output):
        raise ModelError(f"expected a new .safetensors file, got {output}; choose another --output")
    # A refiner's name asks for its pass.
    job = settle_job(ScanJob(slide=cohort, model=model, scan=scan))
    models = load_job_models(job)
    task = answering_task(job, models)
    called = name or f"{(models.detector if task == DETECT else models.others[task]).name}-calibrated"
    check_name(called)
    found = read_cohort(
        cohort, validation_share=splits.validation_share, seed=splits.split_seed, mpp=splits.cohort_mpp or None
    )
    how = CohortEvaluation(
        job=job,
        scoring=EvaluationSettings(resamples=100),
        split=cast("Split", split),
    )
    with stop_on_interrupt() as should_stop:
        try:
            made, calibration, report = calibrate_on(
                found, models, how, settings,
                output=output.with_suffix(".calibration"), bar=show_slides, should_stop=should_stop,
            )  # fmt: skip
        except ScanCancelledError:
            raise KeyboardInterrupt from None
    said = store_calibrated(made, calibration, report, output, name=called)
    for one in report.left_out:
        note(f"left out {one.slide}: {one.why}")
    if as_json:
        say_json(said)
        return
    for line in _outline({called: said}):
        say(line)
    say(f"Model: {output}")


def _outline(values: dict[str, Any], indent: str = "") -> list[str]:
    """Return nested values as indented lines."""
    lines = []
    for key, value in values.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_outline(value, indent + "  ")]
        elif isinstance(value, list | tuple):
            lines.append(f"{indent}{name}: {', '.join(map(str, value))}")
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines
