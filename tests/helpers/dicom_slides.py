"""DICOM slides: written from a picture, and one instance split over several files or into scattered tiles."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

__all__ = ["frames_of", "read_volume", "scattered", "split", "write_slide"]

_STUDY, _SERIES, _FRAME_OF_REFERENCE = (generate_uid(entropy_srcs=[name]) for name in ("study", "series", "frame"))


def write_slide(folder: Path, levels: Sequence[npt.NDArray[np.uint8]], *, mpp: float, tile_px: int = 128) -> None:
    """Write a file a level; tiles are JPEG of quality 98 with all of their colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(levels):
        rows, columns = pixels.shape[:2]
        tiles = [
            imagecodecs.jpeg_encode(tile, level=98, subsampling="444", outcolorspace="rgb")
            for tile in _tiles(pixels, tile_px)
        ]
        one = _instance(number, mpp * levels[0].shape[1] / columns)
        one.Rows = one.Columns = tile_px
        one.TotalPixelMatrixRows, one.TotalPixelMatrixColumns, one.NumberOfFrames = rows, columns, len(tiles)
        one.PixelData = encapsulate(tiles)
        one.save_as(folder / f"level{number}.dcm", enforce_file_format=True)


def read_volume(folder: Path) -> Dataset:
    """Return the largest image of a folder."""
    found = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    return max((one for one in found if "VOLUME" in one.ImageType), key=lambda one: one.TotalPixelMatrixColumns)


def frames_of(dataset: Dataset) -> list[bytes]:
    """Return the compressed tiles."""
    return list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)))


def split(dataset: Dataset, parts: int) -> list[Dataset]:
    """Return the files of a concatenation of an instance."""
    frames, found = frames_of(dataset), []
    uid = generate_uid()
    cuts = [len(frames) * part // parts for part in range(parts + 1)]
    for number, (first, last) in enumerate(pairwise(cuts)):
        part = _with_frames(dataset, frames[first:last])
        part.ConcatenationUID, part.SOPInstanceUIDOfConcatenationSource = uid, dataset.SOPInstanceUID
        part.InConcatenationNumber, part.InConcatenationTotalNumber = number + 1, parts
        part.ConcatenationFrameOffsetNumber = first
        found.append(part)
    return found


def scattered(dataset: Dataset, left_out: frozenset[int] = frozenset()) -> Dataset:
    """Return an instance whose tiles say where they lie, in any order, without some."""
    frames = frames_of(dataset)
    across = -(-dataset.TotalPixelMatrixColumns // dataset.Columns)
    order = [index for index in np.random.default_rng(3).permutation(len(frames)).tolist() if index not in left_out]
    sparse = _with_frames(dataset, [frames[index] for index in order])
    sparse.DimensionOrganizationType = "TILED_SPARSE"
    places = []
    for index in order:
        place, group = Dataset(), Dataset()
        place.ColumnPositionInTotalImagePixelMatrix = index % across * dataset.Columns + 1
        place.RowPositionInTotalImagePixelMatrix = index // across * dataset.Rows + 1
        for axis in "XYZ":
            setattr(place, f"{axis}OffsetInSlideCoordinateSystem", 0.0)
        group.PlanePositionSlideSequence = [place]
        places.append(group)
    sparse.PerFrameFunctionalGroupsSequence = places
    return sparse


def _tiles(pixels: npt.NDArray[np.uint8], side: int) -> Iterator[npt.NDArray[np.uint8]]:
    rows, columns = pixels.shape[:2]
    whole = np.pad(pixels, ((0, -rows % side), (0, -columns % side), (0, 0)), mode="edge")
    for y in range(0, rows, side):
        for x in range(0, columns, side):
            yield np.ascontiguousarray(whole[y : y + side, x : x + side])


def _with_frames(dataset: Dataset, frames: list[bytes]) -> Dataset:
    one = copy.deepcopy(dataset)
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.NumberOfFrames, one.PixelData = len(frames), encapsulate(frames)
    return one


def _instance(number: int, mpp: float) -> Dataset:
    """Return what every level states, with a pixel size in µm."""
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    uid = generate_uid(entropy_srcs=["level", str(number)])
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = uid
    one.ImageType = ["DERIVED" if number else "ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED" if number else "NONE"]
    one.Modality, one.SeriesInstanceUID, one.FrameOfReferenceUID = "SM", _SERIES, _FRAME_OF_REFERENCE
    one.StudyInstanceUID = _STUDY
    one.DimensionOrganizationType = "TILED_FULL"
    one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "RGB", 0
    one.BitsAllocated = one.BitsStored = 8
    one.HighBit, one.PixelRepresentation = 7, 0
    one.TotalPixelMatrixFocalPlanes = one.NumberOfOpticalPaths = 1
    measures, path, lens = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    lens.PixelMeasuresSequence = [measures]
    one.SharedFunctionalGroupsSequence = [lens]
    path.OpticalPathIdentifier, path.ObjectiveLensPower = "1", 20
    one.OpticalPathSequence = [path]
    return one
