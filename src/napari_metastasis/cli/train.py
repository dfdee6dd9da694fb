"""``train``: slides or patches in, a model out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_metastasis.cli.console import say, show_progress
from napari_metastasis.cli.options import WrongUsage, was_given, with_settings
from napari_metastasis.cli.train_spatial import spatial
from napari_metastasis.cli.training import keep_by_name, need_training, read_whole_cohort, run_to_end
from napari_metastasis.settings import (
    AugmentSettings,
    CohortSettings,
    MiningSettings,
    NetworkSettings,
    SamplingSettings,
    ScanSettings,
    TissueSettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from napari_metastasis.models import ModelSpec
    from napari_metastasis.sampling.batches import BalancedPatches, BatchSource

__all__ = ["app"]

app = typer.Typer(help="Train a model.", no_args_is_help=True)


@app.callback()
def _train() -> None:
    """Train a model."""


app.command()(spatial)


@app.command()
@with_settings("settings", TrainSettings, panel="Training")
@with_settings("network", NetworkSettings, panel="Training")
@with_settings("augment", AugmentSettings, panel="Augmentation")
@with_settings("sampling", SamplingSettings, panel="Slides")
@with_settings("splits", CohortSettings, panel="Slides")
@with_settings("mining", MiningSettings, panel="Hard negatives")
def scannet(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option(help="Run folder; a run found there with the same settings and data goes on.")
    ],
    settings: TrainSettings,
    network: NetworkSettings,
    augment: AugmentSettings,
    sampling: SamplingSettings,
    splits: CohortSettings,
    mining: MiningSettings,
    cohort: Annotated[
        Path | None,
        typer.Option(
            help="Slides with annotations: a CSV file, or a folder laid out as CAMELYON16, CAMELYON17 or images/masks.",
            rich_help_panel="Slides",
        ),
    ] = None,
    patches: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5. Give it again for more."
        ),
    ] = None,
    soft_labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV of the columns patch and probability: targets of these patches instead of their class, from "
            "readers who disagree, or distilled from a larger network."
        ),
    ] = None,
    patches_share: Annotated[
        float,
        typer.Option(help="Share of labelled patches in a batch where there are slides as well.", min=0.01, max=0.99),
    ] = 0.5,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Patches from other slides, on which every epoch is measured; the cohort's validation slides by "
            "default."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model; 'scannet-' and the run folder's by default.")] = "",
    initial: Annotated[
        str,
        typer.Option(
            help="Weights that training begins with: a model, the last.ckpt of another run, a file of VGG16 weights, "
            "or vgg16-imagenet; random ones by default."
        ),
    ] = "",
    description: Annotated[
        str, typer.Option(help="What the data are, for the model card; their names by default.")
    ] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the model card.")] = "",
) -> None:
    """Train Fast ScanNet on slides, on patches, or on both, and keep the model by its name.

    On slides, general training is followed by rounds of hard-negative mining. A run that was stopped goes on when the
    same command is run again.
    """
    need_training()
    from napari_metastasis.models import add_model, correct_card
    from napari_metastasis.scanning import resolve_devices
    from napari_metastasis.training.initial_weights import load_initial_weights
    from napari_metastasis.training.lightning_setup import check_devices
    from napari_metastasis.training.train import patch_spec, train_scannet

    if cohort is None and not patches:
        raise WrongUsage("expected --cohort or --patches, got neither; give slides, patches, or both")
    if soft_labels is not None and not patches:
        raise WrongUsage("expected --patches beside --soft-labels, got none; give the patches that it names")
    if cohort is None and validation is None:
        raise WrongUsage("expected --validation beside --patches, got none; give patches from other slides")
    # Both refuse what this machine lacks, before anything is written.
    resolve_devices(settings.device)
    check_devices(settings)
    with show_progress("Fetching weights", unit="MB", scale=1e-6) as fetching:
        beginning = load_initial_weights(initial, progress=fetching) if initial else None
    spec = patch_spec(name or f"scannet-{output.resolve().name}", network.architecture, network.mpp, beginning)
    named = [path for path in (cohort, *(patches or ()), soft_labels, validation) if path is not None]
    run: dict[str, Any] = {
        "output": output,
        "data_description": description or f"Trained on {', '.join(path.name for path in named)}",
        "licence": licence,
        "initial": beginning,
    }
    measured = _all(validation, spec, settings) if validation is not None else None
    if cohort is None:
        training = _stream(patches or [], soft_labels, spec, settings.batch_size, settings.seed)
        assert measured is not None
        weights = train_scannet(spec, training=training, validation=measured, settings=settings, augment=augment, **run)
    else:
        from napari_metastasis.workflows.train.detector import train_on_cohort
        from napari_metastasis.workflows.train.run import CohortTraining

        how = CohortTraining(
            train=settings,
            augment=augment,
            sampling=sampling,
            mining=mining,
            scan=ScanSettings(device=settings.device),
            tissue=TissueSettings(),
        )
        if validation is not None and not was_given(context, "splits_validation_share"):
            # Measured on patches, a run needs all its slides to train on.
            splits = replace(splits, validation_share=0.0)
        share = max(1, round(settings.batch_size * patches_share))
        if share >= settings.batch_size:
            raise WrongUsage(
                f"expected --patches-share to leave room for slides, got {share} of {settings.batch_size} patches; "
                "lower it, or raise the batch size"
            )
        mixed = _stream(patches, soft_labels, spec, share, settings.seed) if patches else None
        whole = read_whole_cohort(cohort, splits, sampling.tumour_value, output)
        weights = run_to_end(
            lambda bars: train_on_cohort(
                whole, spec, how, patches=mixed, validation=measured, bar=bars, should_stop=bars.should_stop, **run
            ),
            output,
        ).weights
    # Of a run that was finished before, too: what is not given keeps what was said then.
    correct_card(weights, {key: text for key, text in (("data", description), ("licence", licence)) if text})
    keep_by_name(weights, add_model)
    say(str(weights))


def _stream(
    patches: list[Path], soft_labels: Path | None, spec: ModelSpec, batch_size: int, seed: int
) -> BalancedPatches:
    from napari_metastasis.cohorts.patches import join_patches, open_patches
    from napari_metastasis.sampling.batches import BalancedPatches
    from napari_metastasis.sampling.soft_labels import read_soft_labels

    source = join_patches([open_patches(path) for path in patches])
    targets = None if soft_labels is None else read_soft_labels(soft_labels, source)
    return BalancedPatches(source, spec.patch_px, batch_size, seed, targets)


def _all(patches: Path, spec: ModelSpec, settings: TrainSettings) -> BatchSource:
    from napari_metastasis.cohorts.patches import open_patches
    from napari_metastasis.sampling.batches import AllPatches

    return AllPatches(open_patches(patches), spec.patch_px, settings.batch_size)
