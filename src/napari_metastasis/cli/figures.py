"""Figures with their intervals, and names of samples, as every kind of evaluation prints them."""

from __future__ import annotations

import math
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
        [(name, _number(one.value), _interval(one)) for name, one in figures.items()],
        title=title,
    )


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.4f}"


def _interval(figure: Estimate) -> str:
    return "" if math.isnan(figure.low) else f"{figure.low:.4f} to {figure.high:.4f}"
