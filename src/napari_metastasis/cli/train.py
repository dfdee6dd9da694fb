"""``train``: patches or slides in, a model out."""

from __future__ import annotations

from pathlib import Path

import typer

from napari_metastasis.cli.options import setting_option
from napari_metastasis.settings import DEFAULT_MODEL, TrainSettings

__all__ = ["app"]

app = typer.Typer(help="Train a model.", no_args_is_help=True)


@app.callback()
def _train() -> None:
    """Train a model."""


@app.command()
def scannet(
    patches: Path = typer.Option(
        ..., help="Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5."
    ),
    validation: Path = typer.Option(..., help="Patches from other slides, on which every epoch is measured."),
    output: Path = typer.Option(..., help="Run folder; a run found there with the same settings goes on."),
    name: str = typer.Option(DEFAULT_MODEL, help="Name of the model."),
    architecture: str = typer.Option("scannet-small", help="Network: scannet-small or scannet-vgg16."),
    mpp: float = typer.Option(0.972, help="Resolution of the patches, µm per pixel."),
    description: str = typer.Option("", help="What the patches are, for the model card; their paths by default."),
    epochs: int = setting_option(TrainSettings, "epochs"),
    batch_size: int = setting_option(TrainSettings, "batch_size"),
    learning_rate: float = setting_option(TrainSettings, "learning_rate"),
    weight_decay: float = setting_option(TrainSettings, "weight_decay"),
    seed: int = setting_option(TrainSettings, "seed"),
    device: str = setting_option(TrainSettings, "device"),
    precision: str = setting_option(TrainSettings, "precision"),
) -> None:
    """Train Fast ScanNet on patches (a first version: patches only, no mining)."""
    from napari_metastasis.patches import open_patches
    from napari_metastasis.training.loop import patch_spec, train_scannet

    settings = TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        device=device,
        precision=precision,
    )
    weights = train_scannet(
        patch_spec(name, architecture, mpp),
        patches=open_patches(patches),
        validation=open_patches(validation),
        output=output,
        settings=settings,
        data_description=description or f"{patches.name}, validated on {validation.name}",
    )
    typer.echo(str(weights))
