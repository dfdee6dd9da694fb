"""The course of a training run, as a table and a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_metastasis.storage import atomic_text, atomic_write

__all__ = ["Curve", "read_curves", "write_curves"]

#: Figures of one epoch, in the order of the table's columns.
_COLUMNS = ("train_loss", "validation_loss", "validation_auc", "validation_accuracy", "wait_share")

#: Epoch to the figures that it reached, by name.
Curve = dict[int, dict[str, float]]


def read_curves(run: Path) -> Curve:
    """Return what each epoch of a run reached; of an epoch that was begun again after a kill, the last time counts."""
    curves: Curve = {}
    # Numbers, not text: version_10 comes after version_9.
    logs = sorted(run.glob("log/version_*/metrics.csv"), key=lambda path: int(path.parent.name.partition("_")[2]))
    for log in logs:
        with log.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                figures = {name: float(row[name]) for name in _COLUMNS if row.get(name)}
                if figures and row.get("epoch"):
                    curves.setdefault(int(row["epoch"]), {}).update(figures)
    return dict(sorted(curves.items()))


def write_curves(run: Path) -> None:
    """Write ``curves.csv`` and ``curves.png`` into a run folder.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    curves = read_curves(run)
    with atomic_text(run / "curves.csv") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("epoch", *_COLUMNS))
        for epoch, figures in curves.items():
            table.writerow((epoch, *(figures.get(name, "") for name in _COLUMNS)))
    _draw(curves, run / "curves.png")


def _draw(curves: Curve, path: Path) -> None:
    # The class, not pyplot: no global state, no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, names, title in zip(
        figure.subplots(1, 2), (_COLUMNS[:2], _COLUMNS[2:4]), ("loss", "validation"), strict=True
    ):
        for name in names:
            points = [(epoch + 1, figures[name]) for epoch, figures in curves.items() if name in figures]
            axes.plot(*zip(*points, strict=True) if points else ([], []), marker=".", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    with atomic_write(path) as stream:
        figure.savefig(stream, format="png", dpi=120)
