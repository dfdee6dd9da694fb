"""What the files of a result list: what a model found, and what the corrections of the slide say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from napari_metastasis.annotations import CorrectionStore
from napari_metastasis.errors import AnnotationError, StorageError
from napari_metastasis.geometry import Region, Size
from napari_metastasis.lesions import Lesion, ListedLesions, list_lesions, unread_lesions
from napari_metastasis.workflows.scan.result_folder import corrections_folder

__all__ = ["ListedFindings", "list_findings"]

_Lesion = TypeVar("_Lesion", bound=Lesion)


@dataclass(frozen=True, slots=True)
class ListedFindings(Generic[_Lesion]):
    """The lesions of a result with what people said of them.

    Attributes
    ----------
    listed
        The lesions.
    fault
        Why what people said cannot be read, in one line; empty where it can.
    """

    listed: ListedLesions[_Lesion]
    fault: str = ""

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """Return all of them: a model's, then the outlines of people."""
        return (*self.listed.found, *self.listed.drawn)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what has to be said besides, a line each."""
        told = [
            f"{count} finding{'' if count == 1 else 's'} that {'was' if count == 1 else 'were'} {state} "
            f"{'is' if count == 1 else 'are'} not among these"
            for state, count in self.listed.not_shown.items()
        ]
        return (*told, *([f"What people said of the findings is not known: {self.fault}"] if self.fault else []))


def list_findings(
    folder: Path,
    lesions: Sequence[_Lesion],
    *,
    bounds: Region | None,
    size: Size,
    mpp: float,
    nuclei_per_mm2: float | None,
) -> ListedFindings[_Lesion]:
    """Return lesions with what the corrections of their slide say; a damaged file of these is told, and stops nothing.

    Parameters
    ----------
    folder
        The result folder.
    lesions
        What a model found, with outlines.
    bounds, size, mpp
        Of the slide.
    nuclei_per_mm2
        By which nuclei are estimated; ``None`` takes the setting's default.
    """
    try:
        corrections = CorrectionStore(corrections_folder(folder), bounds=bounds).read()
        # An outline may be read, and lie farther off than any slide.
        listed = list_lesions(lesions, corrections, size=size, mpp=mpp, nuclei_per_mm2=nuclei_per_mm2)
    except (AnnotationError, StorageError) as error:
        return ListedFindings(unread_lesions(lesions), str(error))
    return ListedFindings(listed)
