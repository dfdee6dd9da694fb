"""``train spatial``: slides in, a refiner out, behind a finished model or with an encoder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metastasis.cli.console import note, say, show_progress
from napari_metastasis.cli.options import refuse_options, with_settings
from napari_metastasis.cli.training import keep_by_name, need_training, read_whole_cohort, run_to_end
from napari_metastasis.settings import (
    DEFAULT_MODEL,
    CohortSettings,
    GridSettings,
    MiningSettings,
    SamplingSettings,
    ScanSettings,
    SpatialAugmentSettings,
    SpatialTrainSettings,
    TissueSettings,
)

if TYPE_CHECKING:
    from napari_metastasis.training.jobs import EncoderJob, RefinerJob

__all__ = ["spatial"]

#: Encoders that are trained along with their refiner, at the resolution that they are trained at.
_LEARNING = {"resnet34": 0.243}


@with_settings("settings", SpatialTrainSettings, panel="Training", leave_out=("tie_orientations", "label_smoothing"))
@with_settings("grid", GridSettings, panel="Grids", flags={"residual": "--residual/--no-residual"})
@with_settings("augment", SpatialAugmentSettings, panel="Augmentation", leave_out=("affine_share",))
@with_settings("sampling", SamplingSettings, panel="Slides")
@with_settings("splits", CohortSettings, panel="Slides")
@with_settings("mining", MiningSettings, panel="Hard negatives", leave_out=("mining_epochs", "mining_rate"))
def spatial(
    context: typer.Context,
    cohort: Annotated[
        Path,
        typer.Option(
            help="Slides with annotations: a CSV file, or a folder laid out as CAMELYON16, CAMELYON17 or images/masks.",
            rich_help_panel="Slides",
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="Run folder; a run found there with the same settings and data goes on.")
    ],
    settings: SpatialTrainSettings,
    grid: GridSettings,
    augment: SpatialAugmentSettings,
    sampling: SamplingSettings,
    splits: CohortSettings,
    mining: MiningSettings,
    encoder: Annotated[
        str,
        typer.Option(
            help="A finished model whose features are refined, and which stays as it is; or resnet34, which is trained "
            "along as in the paper."
        ),
    ] = DEFAULT_MODEL,
    initial: Annotated[
        str,
        typer.Option(help="Weights that resnet34 begins with: a file under torchvision's names, or resnet34-imagenet."),
    ] = "",
    mpp: Annotated[
        float | None, typer.Option(metavar="µm", help="Resolution of an encoder that is trained along.")
    ] = None,
    dense_coefficient: Annotated[
        int, typer.Option(help="Dense coefficient of the scans that a finished model's refiner is for.")
    ] = ScanSettings().dense_coefficient,
    name: Annotated[str, typer.Option(help="Name of the refiner; 'spatial-' and the run folder's by default.")] = "",
    description: Annotated[
        str, typer.Option(help="What the data are, for the model card; their names by default.")
    ] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the model card.")] = "",
) -> None:
    """Train a refiner: an LSTM that reads every patch together with its neighbours (Zheng et al. 2022).

    The defaults are the paper's. A run that was stopped goes on when the same command is run again.
    """
    need_training()
    from napari_metastasis.models import add_model
    from napari_metastasis.scanning import resolve_devices
    from napari_metastasis.training.jobs import EncoderJob
    from napari_metastasis.training.lightning_setup import check_devices
    from napari_metastasis.workflows.train.refiner import train_refiner_on_cohort
    from napari_metastasis.workflows.train.run import CohortTraining

    name = name or f"spatial-{output.resolve().name}"
    if encoder in _LEARNING:
        refuse_options(context, ("dense_coefficient", "mining_"), f"an encoder that is trained along ({encoder})")
    else:
        refuse_options(context, ("initial", "mpp"), f"a finished model ({encoder})")
    resolve_devices(settings.device)
    check_devices(settings)
    job: RefinerJob | EncoderJob
    if encoder in _LEARNING:
        job = _learning(name, encoder, mpp or _LEARNING[encoder], grid, initial)
    else:
        job = _finished(name, encoder, grid, dense_coefficient)
    how = CohortTraining(
        train=settings,
        augment=augment,
        sampling=sampling,
        mining=mining,
        scan=ScanSettings(device=settings.device),
        tissue=TissueSettings(),
    )
    whole = read_whole_cohort(cohort, splits, sampling.tumour_value, output)
    done = run_to_end(
        lambda bars: train_refiner_on_cohort(
            whole,
            job,
            how,
            output=output,
            data_description=description or f"Trained on {cohort.name}",
            licence=licence,
            bar=bars,
            should_stop=bars.should_stop,
        ),
        output,
    )
    # The encoder is found beside the refiner, too, where its own name is taken.
    if isinstance(job, EncoderJob):
        keep_by_name(done.weights.with_name(f"{job.encoder.name}.safetensors"), add_model)
    if not keep_by_name(done.weights, add_model):
        note(f"scan with it by its file: --model {done.weights}")
    say(str(done.weights))


def _finished(name: str, encoder: str, grid: GridSettings, dense_coefficient: int) -> RefinerJob:
    from napari_metastasis.models import load_detector
    from napari_metastasis.training.jobs import RefinerJob

    model = load_detector(encoder)
    model.spec.dense_stride_px(dense_coefficient)  # refuses what the model cannot do
    return RefinerJob(name, model, grid, dense_coefficient)


def _learning(name: str, encoder: str, mpp: float, grid: GridSettings, initial: str) -> EncoderJob:
    from napari_metastasis.models import load_initial
    from napari_metastasis.training.jobs import EncoderJob, encoder_name
    from napari_metastasis.training.train import patch_spec

    with show_progress("Fetching weights", unit="MB", scale=1e-6) as fetching:
        beginning = load_initial(initial, progress=fetching) if initial else None
    spec = patch_spec(encoder_name(name), encoder, mpp, beginning)
    return EncoderJob(name, spec, grid, beginning)
