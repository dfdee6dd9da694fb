"""``models``: what can scan a slide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table
from napari_metastasis.errors import ModelError

if TYPE_CHECKING:
    from napari_metastasis.models import ZooEntry

__all__ = ["app"]

_Loaded = TypeVar("_Loaded")

app = typer.Typer(help="See which models there are, and keep your own.")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """List the models and refiners that 'scan --model' takes by name."""
    from napari_metastasis.models import list_models, list_refiners, load_model, load_refiner

    def readable(entries: Sequence[ZooEntry], load: Callable[[str], _Loaded]) -> list[tuple[ZooEntry, _Loaded]]:
        found = []
        for entry in entries:
            try:
                found.append((entry, load(entry.name)))
            except ModelError as error:
                note(f"{entry.name} is left out: {error}")
        return found

    models, refiners = readable(list_models(), load_model), readable(list_refiners(), load_refiner)
    if as_json:
        say_json(
            {
                "models": [model.spec.to_json() for _, model in models],
                "refiners": [refiner.spec.to_json() for _, refiner in refiners],
            }
        )
        return
    say_table(
        ("name", "network", "µm/px", "patch", "stride", "weights", "from"),
        [
            (
                model.spec.name,
                model.spec.architecture,
                f"{model.spec.mpp:g}",
                str(model.spec.patch_px),
                str(model.spec.stride_px),
                model.weights_sha256[:8],
                "shipped" if entry.shipped else "yours",
            )
            for entry, model in models
        ],
    )
    if refiners:
        say_table(
            ("refiner", "of", "order", "grid", "step", "weights", "from"),
            [
                (
                    refiner.spec.name,
                    refiner.spec.encoder,
                    refiner.spec.order,
                    f"{refiner.spec.grid} x {refiner.spec.grid}",
                    str(refiner.spec.grid_step),
                    refiner.weights_sha256[:8],
                    "shipped" if entry.shipped else "yours",
                )
                for entry, refiner in refiners
            ],
        )


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="A model's or a refiner's name, or a .safetensors file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show a model's card: what it expects, what it was trained on, how well it does."""
    from napari_metastasis.models import load_with_refiner

    both = load_with_refiner(model)
    loaded = both.refiner if both.refiner is not None and both.asked_for_refiner else both.model
    values = {"spec": loaded.spec.to_json(), "weights_sha256": loaded.weights_sha256, "card": dict(loaded.card)}
    if as_json:
        say_json(values)
        return
    for line in _outline(values):
        say(line)


@app.command()
def add(
    weights: Annotated[Path, typer.Argument(help="A .safetensors file with its card beside it.")],
) -> None:
    """Keep a model or a refiner of your own, so that it goes by its name; no model takes another's name."""
    from napari_metastasis.models import add_model, add_refiner, is_refiner

    entry = add_refiner(weights) if is_refiner(weights) else add_model(weights)
    say(f"{entry.name}: {entry.path}")


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
