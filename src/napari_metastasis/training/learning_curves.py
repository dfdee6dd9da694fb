"""The course of a training run, as a table and a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from napari_metastasis.plain_csv import read_csv
from napari_metastasis.storage import atomic_text, atomic_write

__all__ = ["Curve", "read_curves", "write_curves"]

#: Epoch to the figures that it reached, by name.
Curve = dict[int, dict[str, float]]


def read_curves(run: Path, columns: Sequence[str]) -> Curve:
    """Return what each epoch of a run reached; of an epoch that was begun again after a kill, the last time counts."""
    curves: Curve = {}
    logs = {path: path.parent.name.partition("_")[2] for path in run.glob("log/version_*/metrics.csv")}
    # Numbers, not text: version_10 comes after version_9.
    for log in sorted((log for log, number in logs.items() if number.isdecimal()), key=lambda log: int(logs[log])):
        try:
            rows = read_csv(log)
        except ValueError:
            # A picture of the run is no reason to lose the run.
            continue
        header = rows[0].cells if rows else []
        for row in rows[1:]:
            held = dict(zip(header, row.cells, strict=False))
            try:
                figures = {name: float(held[name]) for name in columns if held.get(name)}
                epoch = int(held.get("epoch") or -1)
            except ValueError:
                # A kill or a full disk tore the line; the epoch was begun again.
                continue
            if figures and epoch >= 0:
                curves.setdefault(epoch, {}).update(figures)
    return dict(sorted(curves.items()))


def write_curves(run: Path, metrics: Sequence[str]) -> None:
    """Write ``curves.csv`` and ``curves.png`` into a run folder, with the losses and the metrics of a task.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    losses, measured = ("train_loss", "validation_loss"), [f"validation_{name}" for name in metrics]
    columns = (*losses, *measured, "wait_share")
    curves = read_curves(run, columns)
    with atomic_text(run / "curves.csv") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("epoch", *columns))
        for epoch, figures in curves.items():
            table.writerow((epoch, *(figures.get(name, "") for name in columns)))
    _draw(curves, (losses, measured), run / "curves.png")


def _draw(curves: Curve, sides: Sequence[Sequence[str]], path: Path) -> None:
    # The class, not pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, names, title in zip(figure.subplots(1, 2), sides, ("loss", "validation"), strict=True):
        for name in names:
            points = [(epoch + 1, figures[name]) for epoch, figures in curves.items() if name in figures]
            axes.plot(*zip(*points, strict=True) if points else ([], []), marker=".", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=120)
