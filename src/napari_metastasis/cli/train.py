"""``train``: patches or slides in, a model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_metastasis.cli.console import say
from napari_metastasis.cli.options import with_settings
from napari_metastasis.errors import MissingDependencyError
from napari_metastasis.settings import DEFAULT_MODEL, AugmentSettings, NetworkSettings, TrainSettings

__all__ = ["app"]

app = typer.Typer(help="Train a model.", no_args_is_help=True)


@app.callback()
def _train() -> None:
    """Train a model."""


@app.command()
@with_settings("settings", TrainSettings, panel="Training")
@with_settings("network", NetworkSettings)
def scannet(
    patches: Annotated[
        list[Path],
        typer.Option(
            help="Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5. Give it again for more."
        ),
    ],
    validation: Annotated[Path, typer.Option(help="Patches from other slides, on which every epoch is measured.")],
    output: Annotated[
        Path, typer.Option(help="Run folder; a run found there with the same settings and patches goes on.")
    ],
    settings: TrainSettings,
    network: NetworkSettings,
    name: Annotated[str, typer.Option(help="Name of the model.")] = DEFAULT_MODEL,
    initial: Annotated[
        str,
        typer.Option(
            help="Weights that training begins with: a model, a file of VGG16 weights, or vgg16-imagenet; random ones "
            "by default."
        ),
    ] = "",
    description: Annotated[
        str, typer.Option(help="What the patches are, for the model card; their names by default.")
    ] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the model card.")] = "",
) -> None:
    """Train Fast ScanNet on patches (a first version: patches only, no mining)."""
    from napari_metastasis.models import load_initial
    from napari_metastasis.patches import join_patches, open_patches
    from napari_metastasis.scanning import resolve_devices

    try:
        from napari_metastasis.training.loop import patch_spec, train_scannet
        from napari_metastasis.training.streams import AllPatches, BalancedPatches
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"expected {error.name} for training, got none installed; pip install 'napari-metastasis[train]'"
        ) from error
    resolve_devices(settings.device)  # refuses what this machine lacks, before anything is written
    beginning = load_initial(initial) if initial else None
    spec = patch_spec(name, network.architecture, network.mpp, beginning)
    weights = train_scannet(
        spec,
        training=BalancedPatches(
            join_patches([open_patches(path) for path in patches]), spec.patch_px, settings.batch_size, settings.seed
        ),
        validation=AllPatches(open_patches(validation), spec.patch_px, settings.batch_size),
        output=output,
        settings=settings,
        augment=AugmentSettings(),
        licence=licence,
        data_description=description or f"{', '.join(path.name for path in patches)}; measured on {validation.name}",
        initial=beginning,
    )
    say(str(weights))
