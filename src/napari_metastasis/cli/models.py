"""``models``: list, show, add and import models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_metastasis.cli.console import note, say, say_json, say_table
from napari_metastasis.errors import ModelError

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
