"""What was corrected in some results: places to learn from, and places to be judged by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from napari_metastasis.annotations import Annotation, AnnotationSet, Correction, CorrectionStore
from napari_metastasis.cohorts.cohort import CohortSlide
from napari_metastasis.cohorts.reference import OutlineReference
from napari_metastasis.errors import MetastasisError, TrainingError, in_one_line
from napari_metastasis.lesions import Mitoses
from napari_metastasis.models import MitosisSpec, ModelSpec
from napari_metastasis.sampling.places import CorrectedSlide, Place
from napari_metastasis.settings import CorrectionSettings, PieceSettings, setting_of
from napari_metastasis.workflows.report import read_result
from napari_metastasis.workflows.report.slide import open_reported_slide
from napari_metastasis.workflows.scan import corrections_folder

__all__ = ["Corrected", "Parted", "gather", "part", "reach_um"]

#: Labels that teach something to a detector, and to a model of mitoses.
_LABELS, _OF_MITOSES = {"normal": 0, "tumour": 1}, {"not-mitosis": 0, "mitosis": 1}
#: A point of a mitosis stands for this much around it, which says no more than where it lies.
_POINT_UM = 1.0
#: Groups of outlines, by label.
_GROUPS = ("normal", "tumor")
#: From so many corrected slides on, whole slides are held out.
_MANY_SLIDES = 8
#: Fewer places of a class are all learnt from.
_FEWEST = 4


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """What was corrected in some results.

    Attributes
    ----------
    slides
        Those with corrections that teach something, in the order of the results.
    fingerprints
        Of these slides.
    places
        Their corrections.
    ignored
        For each slide, what nothing is to be learnt from.
    mpp
        µm per level-0 pixel of each slide.
    left_out
        Results that could not be used, and why, a line each.
    undecided
        How many corrections say nothing yet.
    pending
        For each slide, (n, 2) of (x, y) in level-0 pixels: mitoses that a model found, and of which nobody spoke. Empty
        for a detector.
    """

    slides: tuple[CohortSlide, ...]
    fingerprints: tuple[str, ...]
    places: tuple[Place, ...]
    ignored: tuple[tuple[shapely.Geometry, ...], ...]
    mpp: tuple[float, ...]
    left_out: tuple[str, ...]
    undecided: int
    pending: tuple[npt.NDArray[np.float64], ...] = ()

    def only(self, places: Sequence[Place]) -> tuple[CorrectedSlide, ...]:
        """Return the slides, of which these places alone are known."""
        return tuple(self._slide(number, [one for one in places if one.slide == number]) for number in range(len(self)))

    def __len__(self) -> int:
        return len(self.slides)

    def _slide(self, number: int, places: list[Place]) -> CorrectedSlide:
        tumour = shapely.union_all([one.area_px for one in places if one.label])
        normal = shapely.union_all([one.area_px for one in places if not one.label])
        areas = [(tumour, _GROUPS[1]), (shapely.difference(normal, tumour), _GROUPS[0])]
        areas += [(area, "ignore") for area in self.ignored[number]]
        known = hashlib.sha256(b"".join(shapely.to_wkb(area) for area, _ in areas)).hexdigest()
        drawn = [
            Annotation(group, group, polygon)
            for area, group in areas
            for polygon in shapely.get_parts(area).tolist()
            if isinstance(polygon, shapely.Polygon) and not polygon.is_empty
        ]
        reference = OutlineReference(AnnotationSet(tuple(drawn)))
        return CorrectedSlide(self.slides[number], self.fingerprints[number], reference, known)


@dataclass(frozen=True, slots=True, eq=False)
class Parted:
    """Places to learn from, and places to be judged by.

    Attributes
    ----------
    training, held_out
        No place of one lies near one of the other.
    by
        "slide" or "place".
    """

    training: tuple[Place, ...]
    held_out: tuple[Place, ...]
    by: str


def gather(results: Sequence[Path], spec: ModelSpec | MitosisSpec) -> Corrected:
    """Return what was corrected in results; one that cannot be used is named and left out.

    Parameters
    ----------
    results
        Result folders.
    spec
        The model that is to learn from them: a detector of lesions and tissue, a model of mitoses of their points.

    Raises
    ------
    TrainingError
        If nothing is left.
    """
    of_mitoses = isinstance(spec, MitosisSpec)
    labels = _OF_MITOSES if of_mitoses else _LABELS
    point_um = _POINT_UM if isinstance(spec, MitosisSpec) else spec.stride_px * spec.mpp
    slides: list[CohortSlide] = []
    fingerprints, ignored, mpps, places, left_out, pending, undecided = [], [], [], [], [], [], 0
    for folder in results:
        try:
            result = read_result(folder)
            held = CorrectionStore(corrections_folder(folder), bounds=result.bounds).read()
            with closing(open_reported_slide(result)) as slide:
                path, mpp, fingerprint = slide.path, slide.mpp, slide.fingerprint
        except MetastasisError as error:
            left_out.append(f"{folder.name}: {in_one_line(error)}")
            continue
        undecided += sum(one.label == "undecided" for one in held)
        taught = [one for one in held if one.label in labels]
        if not taught:
            left_out.append(f"{folder.name}: nothing was confirmed, rejected or drawn")
            continue
        if fingerprint in fingerprints:
            left_out.append(f"{folder.name}: its slide, {result.slide_name}, is there twice")
            continue
        cell_px = point_um / mpp
        without = tuple(_area(one, cell_px) for one in held if one.label == "ignore")
        areas = [(one, _polygons(_area(one, cell_px).difference(shapely.union_all(without)))) for one in taught]
        own = [Place(one.key, len(slides), labels[one.label], area) for one, area in areas if not area.is_empty]
        if hidden := len(taught) - len(own):
            left_out.append(f"{folder.name}: {hidden} corrected place{'s' * (hidden != 1)} in what is to be ignored")
        if not own:
            continue
        places += own
        slides.append(
            CohortSlide(
                name=result.slide_name, path=path, mpp=mpp, swap_red_blue=result.swapped, tumour=None, exhaustive=False
            )
        )
        ignored.append(without)
        fingerprints.append(fingerprint)
        mpps.append(mpp)
        if of_mitoses:
            pending.append(_pending(result.mitoses))
    if not places:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        what = "findings that were confirmed or rejected, or areas that were drawn"
        what = "mitoses that were confirmed, rejected or added" if of_mitoses else what
        raise TrainingError(f"expected {what}, got none in {len(results)} results{why}; review them first")
    return Corrected(
        tuple(slides),
        tuple(fingerprints),
        tuple(places),
        tuple(ignored),
        tuple(mpps),
        tuple(left_out),
        undecided,
        tuple(pending),
    )


def _pending(mitoses: Mitoses | None) -> npt.NDArray[np.float64]:
    """Return what a model found and nobody spoke of."""
    if mitoses is None:
        return np.empty((0, 2))
    return mitoses.xy[np.array([one.told in ("pending", "unknown") for one in mitoses.reviews], np.bool_)]


def reach_um(spec: ModelSpec | MitosisSpec, settings: CorrectionSettings) -> float:
    """Return how far a place has to lie from another one, so that no crop of that one shows it, in µm."""
    if isinstance(spec, MitosisSpec):
        # Its crops are shown in what mirrors them.
        return float(setting_of(PieceSettings, "crop_um")[0])
    return (spec.field_px + settings.cells * spec.stride_px) * spec.mpp


def part(
    corrected: Corrected,
    spec: ModelSpec | MitosisSpec,
    settings: CorrectionSettings,
    *,
    seed: int,
    learnt: Collection[str] = (),
) -> Parted:
    """Hold places out: of each class the share that was asked for, where there are at least four.

    Places that a crop of one could show of another stay together. More corrections leave what was held out before held
    out, as far as the share goes.

    Parameters
    ----------
    corrected
        All places.
    spec
        The model.
    settings
        How many are held out.
    seed
        Of which ones.
    learnt
        Keys of the corrections that the model, or one that it was made from, has learnt: it has seen these.
    """
    by = settings.held_out_by
    if by == "auto":
        by = "slide" if len(corrected) >= _MANY_SLIDES else "place"
    if not settings.held_out_share:
        return Parted(corrected.places, (), by)
    groups = [[one for one in corrected.places if one.slide == number] for number in range(len(corrected))]
    if by == "place":
        reach = reach_um(spec, settings)
        groups = [near for own in groups for near in _near(own, reach / corrected.mpp[own[0].slide])]
    unseen = [group for group in groups if not any(one.key in learnt for one in group)]
    # By what they are, not by their number: it stays the same when others come.
    unseen.sort(key=lambda group: hashlib.sha256(f"{seed} {min(one.key for one in group)}".encode()).digest())
    counts = Counter(one.label for one in corrected.places)
    held_out: set[str] = set()
    held: Counter[int] = Counter()
    for label, count in sorted(counts.items()):
        wanted = max(1, round(settings.held_out_share * count)) if count >= _FEWEST else 0
        for group in unseen:
            more = Counter(one.label for one in group if one.key not in held_out)
            # Half of each class at least is learnt from.
            fits = all(held[one] + number <= counts[one] / 2 for one, number in more.items())
            if held[label] < wanted and more[label] and fits:
                held_out.update(one.key for one in group)
                held.update(more)
    training = tuple(one for one in corrected.places if one.key not in held_out)
    return Parted(training, tuple(one for one in corrected.places if one.key in held_out), by)


def _area(correction: Correction, cell_px: float) -> shapely.Polygon | shapely.MultiPolygon:
    """Return what a correction says something of; a point stands for one answer of the model."""
    shape = correction.shape_px
    if isinstance(shape, shapely.Point):
        return shape.buffer(cell_px / 2, cap_style="square")
    return shape if shape.is_valid else shapely.make_valid(shape)


def _polygons(area: shapely.Geometry) -> shapely.Polygon | shapely.MultiPolygon:
    """Return what of an area has any."""
    parts = [one for one in shapely.get_parts(area).tolist() if isinstance(one, shapely.Polygon) and one.area > 0]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _near(places: list[Place], reach_px: float) -> list[list[Place]]:
    """Return places in groups: those of different groups lie farther apart than this."""
    if not places:
        return []
    # Crops are squares: places are apart where they are along x or along y.
    boxes = [shapely.box(*(np.array(one.area_px.bounds) + np.array([-1, -1, 1, 1]) * reach_px / 2)) for one in places]
    first, second = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    group = np.arange(len(places))
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        if group[a] != group[b]:
            group[group == max(group[a], group[b])] = min(group[a], group[b])
    return [[places[k] for k in np.flatnonzero(group == number).tolist()] for number in np.unique(group).tolist()]
