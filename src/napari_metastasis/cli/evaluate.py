"""``evaluate``: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_metastasis.cli.console import say_json, say_table, show_progress
from napari_metastasis.cli.options import with_settings
from napari_metastasis.settings import DEFAULT_MODEL, ScanSettings

__all__ = ["evaluate"]


@with_settings("settings", ScanSettings, only=("augment_views", "device"))
def evaluate(
    patches: Annotated[
        Path, typer.Option(help="Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5.")
    ],
    settings: ScanSettings,
    model: Annotated[str, typer.Option(help="A model's name ('models list'), or a .safetensors file.")] = DEFAULT_MODEL,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure a model on labelled patches: AUC and accuracy, each with its 95 % interval."""
    from napari_metastasis.evaluation import evaluate_patches
    from napari_metastasis.models import load_model
    from napari_metastasis.patches import open_patches
    from napari_metastasis.scanning import resolve_devices

    # Patches are few: one device is enough.
    device = resolve_devices(settings.device)[0]
    source = open_patches(patches)
    loaded = load_model(model)
    with show_progress(f"Evaluating {loaded.spec.name}", unit="patches") as progress:
        report = evaluate_patches(loaded, source, views=settings.augment_views, device=device, progress=progress)
    if as_json:
        say_json(report.to_json())
        return
    say_table(
        ("measure", "value", "95 % interval"),
        [
            (name, f"{figure.value:.4f}", f"{figure.low:.4f} to {figure.high:.4f}")
            for name, figure in (("AUC", report.auc), ("accuracy", report.accuracy))
        ],
        title=f"{loaded.spec.name} on {report.n:,} patches",
    )
