"""``models``: list, show, add, export, remove, import and calibrate models."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table, show_progress, show_slides, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage, with_settings
from napari_metastasis.errors import ModelError, ScanCancelledError
from napari_metastasis.settings import CalibrationSettings, CohortSettings, EvaluationSettings, ScanSettings
from napari_metastasis.workflows.scan_job import ScanJob

if TYPE_CHECKING:
    from napari_metastasis.cohorts.cohort import Split
    from napari_metastasis.models import Model

__all__ = ["app"]

_Answer = TypeVar("_Answer")
#: Longer lists are counted.
_LISTED = 24

app = typer.Typer(help="List models, and keep your own.")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """List the models of every task; 'scan --model' takes them by name."""
    from napari_metastasis.models import ZooEntry, list_models, load_model, parents_of
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
        names = {task.name: "models" if task.name == DETECT else f"{task.noun}s".replace(" ", "_") for task in TASKS}
        say_json({names[task]: [_told(model) for _, model in models] for task, models in found.items()})
        return
    for task in TASKS:
        rows = [
            {**model.columns(), "from": "shipped" if entry.shipped else next(iter(parents_of(model.card)), "yours")}
            for entry, model in found[task.name]
        ]
        if rows:
            say_table(tuple(rows[0]), [tuple(row.values()) for row in rows], title=f"{task.noun}s")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="Name of a model, or a .safetensors file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show a model's card: what it reads, what it was made from and trained on, its accuracy."""
    from napari_metastasis.models import ZooEntry, load_model, version_of, weights_of

    values = load_model(model).to_json()
    if as_json:
        say_json(values)
        return
    version = version_of(ZooEntry(str(values["spec"]["name"]), weights_of(model), shipped=False))
    for title, text in (("lineage", version.lineage), ("verdict", version.verdict)):
        if text:
            say(f"{title}: {text}")
    for line in _outline(values):
        say(line)


@app.command()
def add(
    weights: Annotated[
        Path, typer.Argument(help="A .safetensors file with its card beside it, or a folder that 'models export' made.")
    ],
    trust: Annotated[bool, typer.Option("--trust", help="Let code of others in it run (TorchScript).")] = False,
) -> None:
    """Keep a model of your own under the name on its card, which no other model may have."""
    from napari_metastasis.models import add_model

    entry = add_model(weights, trusted=trust)
    say(f"{entry.name}: {entry.path}")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Name of a model, or a .safetensors file.")],
    output: Annotated[Path, typer.Argument(help="New folder; a new .onnx file with --to onnx.")],
    to: Annotated[
        Literal["copy", "wsinfer", "onnx"],
        typer.Option(help="A copy for another workstation, a folder that WSInfer runs, or ONNX with a card beside it."),
    ] = "copy",
) -> None:
    """Copy a model into a new folder, which 'models add' takes on another workstation; or write it for others."""
    from napari_metastasis.models import export_model, export_onnx, export_wsinfer

    write = {"copy": export_model, "wsinfer": export_wsinfer, "onnx": export_onnx}[to]
    for path in write(model, output):
        say(str(path))


@app.command()
def remove(
    model: Annotated[str, typer.Argument(help="Name of a model of your own.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a model of your own. Models that were made from it stay, and go on naming it."""
    from napari_metastasis.models import readers_of, remove_model

    readers = readers_of(model)
    for name in readers:
        note(f"{name} reads the features of {model}, and cannot scan without it")
    if not yes:
        if not sys.stdin.isatty():
            raise ModelError(
                f"expected --yes, or a terminal to ask on, before {model} is deleted, got neither; add --yes"
            )
        if not _asked(lambda: typer.confirm(f"Delete {model} for good?", err=True)):
            say(f"kept: {model}")
            return
    say(f"removed: {remove_model(model).path}")


@app.command()
def remember(
    model: Annotated[str, typer.Argument(help="A detector of your own, or a .safetensors file.")],
    patches: Annotated[Path, typer.Option(help="Patches that it was trained on: a folder or zip, or PCam's HDF5.")],
    source: Annotated[str, typer.Option(help="What they were cut from, in words.")],
    count: Annotated[int, typer.Option(min=2, max=4096, help="How many are kept, half of them of each class.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="Of which ones.")] = 2016,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier ones.")] = False,
) -> None:
    """Keep a few patches beside a model, encoded, so that retraining does not forget them."""
    from napari_metastasis.cohorts.patches import open_patches
    from napari_metastasis.models import list_models, load_detector, weights_of
    from napari_metastasis.models.replay import REPLAY_SUFFIX, write_replay
    from napari_metastasis.storage import check_new
    from napari_metastasis.workflows.retrain.remember import encode_replay

    detector, path = load_detector(model), weights_of(model).with_suffix(REPLAY_SUFFIX)
    if any(one.shipped and one.name == model for one in list_models()):
        raise ModelError(f"expected a model of your own, got {model}, which ships with its patches; name another one")
    check_new(path, overwrite=overwrite)
    with show_progress("Encoding patches", unit="patches") as progress:
        replay = encode_replay(
            detector, open_patches(patches), count=count, source=source, seed=seed, progress=progress
        )
    write_replay(path, replay)
    say(f"{len(replay)} patches: {path}")


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="A WSInfer folder, a MONAI bundle, a file (.safetensors, .pth, .pt, .onnx), or owner/name on the hub."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the model; the source's by default.")] = "",
    tumour_class: Annotated[
        str, typer.Option(help="Class that heatmaps show; by default the one called tumour, metastasis or the like.")
    ] = "",
    mpp: Annotated[float | None, typer.Option(help="µm per pixel that it was trained at.", min=0.01, max=100)] = None,
    patch_px: Annotated[int | None, typer.Option(help="Side of its patches, in pixels.", min=1, max=1 << 14)] = None,
    stride: Annotated[
        int | None, typer.Option(help="Distance between patches; side by side by default.", min=1, max=1 << 14)
    ] = None,
    classes: Annotated[str, typer.Option(help="Names of its classes in order, with commas between them.")] = "",
    mean: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Taken off red, green and blue in 0 to 1.")
    ] = None,
    std: Annotated[tuple[float, float, float] | None, typer.Option(help="They are divided by.")] = None,
    activation: Annotated[
        Literal["", "softmax", "sigmoid", "none"],
        typer.Option(help="What makes probabilities of its answers: softmax | sigmoid | none.", show_default=False),
    ] = "",
    trust: Annotated[
        bool, typer.Option("--trust", help="Let TorchScript run, which is code of whoever made it.")
    ] = False,
) -> None:
    """Keep another program's model as one of your own. Its accuracy was not measured here.

    What its files do not say is asked for, or given as options.
    """
    from napari_metastasis.models import GivenCard, import_model

    given = GivenCard(
        mpp=mpp,
        patch_px=patch_px,
        stride_px=stride,
        classes=tuple(each.strip() for each in classes.split(",") if each.strip()),
        tumour_class=tumour_class,
        mean=mean or (),
        std=std or (),
        activation=activation,
    )
    asks = sys.stdin.isatty()

    def consents(what: str) -> bool:
        return trust or (asks and _asked(lambda: typer.confirm(f"{what}. Do you trust where it is from?", err=True)))

    entry = import_model(
        source,
        name=name,
        given=given,
        ask=(lambda question: _asked(lambda: str(typer.prompt(question, err=True)))) if asks else None,
        consents=consents,
        bar=lambda: show_progress("Fetching", unit="bytes"),
    )
    say(f"{entry.name}: {entry.path}")


def _asked(ask: Callable[[], _Answer]) -> _Answer:
    """Return what a person answers at the terminal; an interrupt is one there too."""
    try:
        return ask()
    except typer.Abort:
        raise KeyboardInterrupt from None


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


def _told(model: Model) -> dict[str, Any]:
    """Return what a list says of a model: its contract, and what it was made from, where it was retrained."""
    from napari_metastasis.models import parents_of

    contract: dict[str, Any] = model.spec.to_json()
    parents = parents_of(model.card)
    return {**contract, "parents": list(parents)} if parents else contract


def _outline(values: dict[str, Any], indent: str = "") -> list[str]:
    """Return nested values as indented lines."""
    lines = []
    for key, value in values.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_outline(value, indent + "  ")]
        elif isinstance(value, list | tuple) and any(isinstance(one, dict) for one in value):
            # Under its number, so that none is taken for another.
            numbered = {str(number): one for number, one in enumerate(value, start=1)}
            lines += [f"{indent}{name}:", *_outline(numbered, indent + "  ")]
        elif isinstance(value, list | tuple):
            # Keys of all corrections that a model has learnt say nothing to a person; --json has them.
            few = len(value) <= _LISTED
            lines.append(f"{indent}{name}: {', '.join(map(str, value)) if few else f'{len(value)} of them'}")
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines
