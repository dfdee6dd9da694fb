"""What a user says of a model whose file does not: options of the command, or answers at a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from napari_metastasis.errors import ModelError, brief, first_line
from napari_metastasis.models.programs import ACTIVATIONS
from napari_metastasis.plain_json import read_json

__all__ = ["Ask", "Consent", "GivenCard", "read_object", "tumour_index"]

#: Takes what is asked for, and returns what a person answers.
Ask = Callable[[str], str]
#: Takes what would run, and returns whether a person trusts it.
Consent = Callable[[str], bool]

#: Names of the class that is looked for. Compared whole: "non-tumor" is none of them.
_TUMOUR_NAMES = frozenset({"cancer", "malignant", "metastases", "metastasis", "metastatic", "tumor", "tumour"})
#: What is asked for each value.
_QUESTIONS = {
    "mpp": "Micrometres per pixel that it was trained at",
    "patch_px": "Side of its patches, in pixels",
    "classes": "Names of its classes in order, with commas between them",
    "tumour_class": "Class that heatmaps show",
    "mean": "Mean that is taken off red, green and blue in 0 to 1, three numbers",
    "std": "Deviation that they are divided by, three numbers",
    "activation": f"What makes probabilities of its answers ({', '.join(ACTIVATIONS)})",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCard:
    """What is known of a model beside its weights; ``None`` and empty values are not known.

    Attributes
    ----------
    mpp, patch_px, stride_px, classes, mean, std, activation
        As on the card, :class:`~napari_metastasis.models.programs.ProgramSpec`.
    tumour_class
        Name of the class that heatmaps show.
    threshold
        Probability from which a cell counts as tumour.
    """

    mpp: float | None = None
    patch_px: int | None = None
    stride_px: int | None = None
    classes: tuple[str, ...] = ()
    tumour_class: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    activation: str = ""
    threshold: float | None = None

    def over(self, known: Self) -> Self:
        """Return the card with what it lacks taken from another one."""
        return replace(known, **{name: value for name, value in _values(self).items() if value not in (None, "", ())})

    def complete(self, wanted: Sequence[str], name: str, ask: Ask | None) -> Self:
        """Return the card with every value that is wanted.

        Parameters
        ----------
        wanted
            Names of values.
        name
            Of the model, for messages.
        ask
            Asks a person for what is missing; ``None`` where there is nobody.

        Raises
        ------
        ModelError
            If a value is missing, or no such value.
        """
        missing = [each for each in wanted if not getattr(self, each)]
        if missing and ask is None:
            options = ", ".join(f"--{each.replace('_', '-')}" for each in missing)
            raise ModelError(
                f"expected a card for {name}, whose file does not say all of it, got none of {options}; give them"
            )
        answered = self
        for each in missing:
            assert ask is not None
            answered = replace(answered, **{each: _parsed(each, ask(_QUESTIONS[each]))})
        return answered

    def with_tumour_class(self, ask: Ask | None) -> Self:
        """Return the card with the class that heatmaps show, if the names of the classes do not say it."""
        if ask is None or self.tumour_class or len(self.classes) == 1 or _called_tumour(self.classes):
            return self
        return replace(self, tumour_class=ask(f"{_QUESTIONS['tumour_class']} ({', '.join(self.classes)})").strip())


def _called_tumour(classes: tuple[str, ...]) -> list[str]:
    return [name for name in classes if name.lower() in _TUMOUR_NAMES]


def _values(card: GivenCard) -> dict[str, Any]:
    return {each.name: getattr(card, each.name) for each in fields(card)}


def _parsed(name: str, text: str) -> Any:
    words = [word for word in text.replace(",", " , ").split() if word != ","]
    try:
        if name == "mpp":
            return float(text)
        if name == "patch_px":
            return int(text)
        if name in ("mean", "std"):
            red, green, blue = (float(word) for word in words)
            return red, green, blue
    except ValueError as error:
        raise ModelError(f"expected an answer to {_QUESTIONS[name]!r}, got {brief(text)}; import it again") from error
    if name == "classes":
        return tuple(each.strip() for each in text.split(",") if each.strip())
    return text.strip()


def tumour_index(classes: tuple[str, ...], wanted: str) -> int:
    """Return which class heatmaps show: the one that is wanted, or else the one that is called tumour or the like.

    Raises
    ------
    ModelError
        If there is none, or several.
    """
    found = [name for name in classes if name == wanted] if wanted else _called_tumour(classes)
    if len(found) != 1:
        what = repr(wanted) if wanted else "of tumour"
        raise ModelError(
            f"expected one class {what}, got {first_line(', '.join(classes))}; name it with --tumour-class"
        )
    return classes.index(found[0])


def read_object(path: Path, what: str, *, remedy: str) -> Mapping[str, Any]:
    """Return the JSON object that another program wrote of its model.

    Parameters
    ----------
    path
        Of the file.
    what
        It is, in a message.
    remedy
        What a person does where it cannot be read.

    Raises
    ------
    ModelError
        If it is missing or damaged.
    """
    try:
        values = read_json(path)
        if not isinstance(values, dict):
            raise TypeError("no object")
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ModelError(f"expected {what} at {path}, got {reason}; {remedy}") from error
    return values
