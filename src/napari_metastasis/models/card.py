"""The contract of a detector, and how any contract is read from a card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

from napari_metastasis.errors import ModelError, brief, first_line
from napari_metastasis.models.calibration import Calibrated
from napari_metastasis.models.inputs import NetworkInput, check_input, without_usual_input
from napari_metastasis.storage import holds_control_characters

__all__ = ["DENSE_COEFFICIENT", "ModelSpec", "check_pixels", "read_contract"]

#: Of a model whose card has none: the paper's best, at a tenth more than none.
DENSE_COEFFICIENT = 2
#: Classes of a model whose answers can be calibrated.
_TUMOUR_AND_NORMAL = 2

_Contract = TypeVar("_Contract")

#: Characters of a name, and sizes: more stands on no card.
_LONGEST, _LARGEST = 200, 1 << 31
#: Side of a patch, and of what is read around it, in model pixels.
_MOST_PX = 1 << 14
#: What a network of images in 0..1 can have been normalised with: 1/255 where it reads them as 0..255.
_MOST_MEAN, _DEVIATIONS = 10.0, (1e-4, 10.0)
#: Of the densest stain: a ten-thousandth of the light comes through.
_MOST_DENSITY = 10.0
#: Channels of inputs, as they are said.
_COUNTED = {2: "two", 3: "three", 5: "five"}


def read_contract(kind: type[_Contract], values: Mapping[str, Any], noun: str) -> _Contract:
    """Return the contract that a card holds.

    Parameters
    ----------
    kind
        A dataclass, whose annotations say what its fields take.
    values
        From the card.
    noun
        What the model is called in messages.

    Raises
    ------
    ModelError
        If a field is missing, unknown or of the wrong kind.
    """
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ModelError(
            f"expected a {noun}'s card with {', '.join(known)}, got also {first_line(', '.join(unknown))}; "
            "correct its card"
        )
    wrong = [
        name
        for name, each in known.items()
        if (name not in values and each.default is MISSING)
        or (name in values and not _fits(values[name], str(each.type)))
    ]
    if wrong:
        raise ModelError(
            f"expected a {noun}'s card with {', '.join(known)}, got {', '.join(wrong)} missing or of another kind; "
            "correct its card"
        )
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _fits(value: Any, annotation: str) -> bool:
    """Return whether a card's value is of the kind that a field is annotated with, and no value gone wild."""
    if annotation.startswith("tuple["):
        kinds = annotation.removeprefix("tuple[").removesuffix("]").split(", ")
        if not isinstance(value, list | tuple):
            return False
        if kinds[-1] == "...":
            kinds = kinds[:1] * len(value)
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if annotation == "str":
        return isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST and not holds_control_characters(value)
    if annotation == "bool":
        return isinstance(value, bool)
    if annotation == "int":
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    if annotation == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return annotation == "Any"


class _OfPixels(Protocol):
    """A contract of a model that looks at pixels."""

    @property
    def mpp(self) -> float: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def stain_density(self) -> tuple[float, ...]: ...
    @property
    def input(self) -> str: ...
    @property
    def stain_matrix(self) -> tuple[float, ...]: ...


def check_pixels(spec: _OfPixels) -> None:
    """Refuse pixels that no slide has: their size, normalisation, stain and input on a model's card.

    Raises
    ------
    ModelError
        Naming what is wrong.
    """
    mpp, mean, std, stain_density = spec.mpp, spec.mean, spec.std, spec.stain_density
    check_input(spec.input, spec.stain_matrix)
    if not 0.01 <= mpp <= 100:
        raise ModelError(f"expected a model resolution of 0.01 to 100 µm/px, got {mpp}; correct its card")
    if stain_density and not (
        len(stain_density) == 3 and all(0 < density <= _MOST_DENSITY for density in stain_density)
    ):
        raise ModelError(
            f"expected three stain densities over 0, {_MOST_DENSITY:g} at most, got {brief(stain_density)}; "
            "correct its card"
        )
    channels = NetworkInput(spec.input).channels
    numbers = all(isinstance(value, int | float) for value in (*mean, *std))
    if (
        {len(mean), len(std)} != {channels}
        or not numbers
        or not all(abs(value) <= _MOST_MEAN for value in mean)
        or not all(_DEVIATIONS[0] <= value <= _DEVIATIONS[1] for value in std)
    ):
        raise ModelError(
            f"expected {_COUNTED[channels]} means and {_COUNTED[channels]} positive deviations of "
            f"{'red, green and blue' if channels == 3 else 'its input'} in 0 to 1, got {brief(mean)} and {brief(std)}; "
            "correct its card"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Calibrated):
    """What a patch classifier expects of a slide, and what its answers mean.

    Attributes
    ----------
    name
        Name in the zoo, as the command line takes it.
    architecture
        Name of a network in :mod:`napari_metastasis.models.nets`.
    mpp
        Micrometres per pixel that the model was trained at.
    patch_px
        Side of the patch that one answer speaks of, in model pixels: of a training patch.
    stride_px
        Distance between the native network's answers, in model pixels.
    field_px
        Side of the window, around that patch, that one answer depends on; 0 where it is the patch.
    classes
        Names of the output channels, in order.
    tumour_class
        Index in ``classes`` of the one that the heatmap shows.
    mean, std
        Normalisation of red, green and blue, or of what else :attr:`input` says is read, after scaling to 0..1.
    dense_coefficient
        At which scans answer unless they are asked for another (α of Lin et al. 2019).
    stain_density
        Mean optical density (natural logarithm) of red, green and blue over the tissue that it was trained on; empty
        where that is not known.
    input, stain_matrix
        What the network reads, see :class:`~napari_metastasis.models.inputs.NetworkInput`, and the dyes of what it was
        trained on, eight numbers; empty where these are not known.
    temperature, shift, prior, threshold
        See :class:`~napari_metastasis.models.calibration.Calibrated`.
    """

    #: The task of its models.
    task: ClassVar[str] = "detect"

    architecture: str
    mpp: float
    patch_px: int
    stride_px: int
    field_px: int = 0
    classes: tuple[str, ...] = ("normal", "tumour")
    tumour_class: int = 1
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    dense_coefficient: int = DENSE_COEFFICIENT
    stain_density: tuple[float, ...] = ()
    input: str = "rgb"
    stain_matrix: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that no scan can use."""
        check_pixels(self)
        if self.field_px == 0:
            object.__setattr__(self, "field_px", self.patch_px)
        if self.field_px < self.patch_px:
            raise ModelError(
                f"expected a window of at least the patch's {self.patch_px} px, got {self.field_px}; correct its card"
            )
        if not (1 <= self.patch_px <= self.field_px <= _MOST_PX and 1 <= self.stride_px <= _MOST_PX):
            raise ModelError(
                f"expected a patch, a window and a stride of 1 to {_MOST_PX} px, got {self.patch_px}, {self.field_px} "
                f"and {self.stride_px}; correct its card"
            )
        if not 0 <= self.tumour_class < len(self.classes):
            raise ModelError(
                f"expected the tumour class to index {len(self.classes)} classes, got {self.tumour_class}; "
                "correct its card"
            )
        if self.dense_coefficient != DENSE_COEFFICIENT:
            self.dense_stride_px(self.dense_coefficient)
        self.check_calibration()
        if self.prior and len(self.classes) != _TUMOUR_AND_NORMAL:
            raise ModelError(f"expected two classes of a calibrated model, got {len(self.classes)}; correct its card")

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain values that JSON can hold, as earlier versions wrote it where they could."""
        values = without_usual_input(self.without_idle_calibration(asdict(self)))
        if self.field_px == self.patch_px:
            del values["field_px"]
        if not self.stain_density:
            del values["stain_density"]
        if self.dense_coefficient == DENSE_COEFFICIENT:
            del values["dense_coefficient"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Return the contract that :meth:`to_json` wrote.

        Raises
        ------
        ModelError
            If a field is missing, unknown or of the wrong kind.
        """
        return read_contract(cls, values, "detector")

    def dense_stride_px(self, dense_coefficient: int) -> int:
        """Return the distance between answers at a dense coefficient, in model pixels (Lin et al. 2019, II-B).

        Raises
        ------
        ModelError
            If the native stride cannot be divided by it.
        """
        if dense_coefficient < 1 or self.stride_px % dense_coefficient or dense_coefficient & (dense_coefficient - 1):
            powers = [str(1 << k) for k in range(self.stride_px.bit_length()) if self.stride_px % (1 << k) == 0]
            raise ModelError(
                f"expected a dense coefficient of {', '.join(powers)} for {self.name} "
                f"(native stride {self.stride_px} px), "
                f"got {dense_coefficient}; choose one of these"
            )
        return self.stride_px // dense_coefficient
