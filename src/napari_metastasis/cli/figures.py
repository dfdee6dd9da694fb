"""Figures with their intervals, and names of samples, as every kind of evaluation prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from napari_metastasis.cli.console import say_table

if TYPE_CHECKING:
    from napari_metastasis.evaluation import Estimate

__all__ = ["named", "say_figures"]

#: Most names in one line.
_NAMED = 8


def named(names: Sequence[str]) -> str:
    """Return names in one line, not too many of them."""
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def say_figures(title: str, figures: Mapping[str, Estimate]) -> None:
    """Print figures with their intervals."""
    say_table(
        ("measure", "value", "95 % interval"),
        [(name, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}") for name, one in figures.items()],
        title=title,
    )
