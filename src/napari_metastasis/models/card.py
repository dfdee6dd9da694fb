"""The contract of a detector, and how any contract is read from a card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

from napari_metastasis.errors import ModelError
from napari_metastasis.settings import THRESHOLD

__all__ = ["ModelSpec", "read_contract"]

#: Classes of a model whose answers can be calibrated, and the fields that say how.
_TUMOUR_AND_NORMAL = 2
_CALIBRATION = ("temperature", "shift", "prior", "threshold")

_Contract = TypeVar("_Contract")

#: Kinds of values that cards hold, by the annotation of a contract's field.
_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}


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
            f"expected a {noun}'s card with {', '.join(known)}, got also {', '.join(unknown)}; correct its card"
        )
    wrong = [
        name
        for name, each in known.items()
        if (name not in values and each.default is MISSING) or (name in values and not _fits(values[name], each.type))
    ]
    if wrong:
        raise ModelError(
            f"expected a {noun}'s card with {', '.join(known)}, got {', '.join(wrong)} missing or of another kind; "
            "correct its card"
        )
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _fits(value: Any, annotation: Any) -> bool:
    kinds = _KINDS.get(str(annotation), (list, tuple))
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
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
        Normalisation of red, green and blue after scaling to 0..1.
    temperature, shift
        From the network's log-odds z to the logarithm of how much likelier a cell is on tumour than on normal tissue,
        z / temperature + shift (Platt 1999).
    prior
        Share of tumour among the tissue of a slide, which answers are probabilities for; 0 where the model was not
        calibrated, so that the network's own probabilities stand.
    threshold
        Probability, at this prior, from which a cell counts as tumour.
    """

    #: The task of its models.
    task: ClassVar[str] = "detect"

    name: str
    architecture: str
    mpp: float
    patch_px: int
    stride_px: int
    field_px: int = 0
    classes: tuple[str, ...] = ("normal", "tumour")
    tumour_class: int = 1
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    temperature: float = 1.0
    shift: float = 0.0
    prior: float = 0.0
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        """Refuse values that no scan can use."""
        if not 0.01 <= self.mpp <= 100:
            raise ModelError(f"expected a model resolution of 0.01 to 100 µm/px, got {self.mpp}; correct its card")
        if self.field_px == 0:
            object.__setattr__(self, "field_px", self.patch_px)
        if self.field_px < self.patch_px:
            raise ModelError(
                f"expected a window of at least the patch's {self.patch_px} px, got {self.field_px}; correct its card"
            )
        if self.patch_px < 1 or self.stride_px < 1:
            raise ModelError(
                f"expected a patch and a stride of at least 1 px, got {self.patch_px} and {self.stride_px}; "
                "correct its card"
            )
        if not 0 <= self.tumour_class < len(self.classes):
            raise ModelError(
                f"expected the tumour class to index {len(self.classes)} classes, got {self.tumour_class}; "
                "correct its card"
            )
        self._check_calibration()
        numbers = all(isinstance(value, int | float) for value in (*self.mean, *self.std))
        if [len(values) for values in (self.mean, self.std)] != [3, 3] or not numbers or min(self.std) <= 0:
            raise ModelError(
                f"expected three means and three positive deviations, got {self.mean} and {self.std}; correct its card"
            )

    def _check_calibration(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature) and math.isfinite(self.shift)):
            raise ModelError(
                f"expected a positive temperature and a finite shift, got {self.temperature} and {self.shift}; "
                "correct its card"
            )
        if not (0 <= self.prior < 1 and 0 < self.threshold <= 1):
            raise ModelError(
                f"expected a prior from 0 to 1 and a threshold over 0, got {self.prior} and {self.threshold}; "
                "correct its card"
            )
        if self.prior and len(self.classes) != _TUMOUR_AND_NORMAL:
            raise ModelError(f"expected two classes of a calibrated model, got {len(self.classes)}; correct its card")

    @property
    def prior_log_odds(self) -> float:
        """Return what the prior adds to the log-odds of tumour; 0 without one."""
        return math.log(self.prior / (1 - self.prior)) if self.prior else 0.0

    def with_prior(self, prior: float) -> ModelSpec:
        """Return the contract for slides with another share of tumour, whose threshold marks the same cells.

        Raises
        ------
        ModelError
            If the model was not calibrated.
        """
        if not self.prior:
            raise ModelError(
                f"expected a calibrated model for a prior of {prior:g}, got {self.name}, whose card has none; leave "
                "--prior out, or calibrate it"
            )
        other = replace(self, prior=prior)
        # A threshold of 1 marks nothing at any prior.
        if self.threshold == 1:
            return other
        odds = math.log(self.threshold / (1 - self.threshold)) - self.prior_log_odds + other.prior_log_odds
        return replace(other, threshold=1 / (1 + math.exp(-odds)))

    def uncalibrated(self) -> ModelSpec:
        """Return the contract of the network's own answers."""
        return replace(self, temperature=1.0, shift=0.0, prior=0.0, threshold=THRESHOLD)

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain values that JSON can hold, as earlier versions wrote it where they could."""
        values = asdict(self)
        if self.field_px == self.patch_px:
            del values["field_px"]
        if not self.prior:
            for name in _CALIBRATION:
                del values[name]
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
