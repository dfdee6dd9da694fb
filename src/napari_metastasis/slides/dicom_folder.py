"""The DICOM files of one slide in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from napari_metastasis.errors import NotASlideError

__all__ = ["dicom_files"]

#: What stands behind 128 bytes of a DICOM file.
_MAGIC, _MAGIC_AT = b"DICM", 128
#: SeriesInstanceUID (0020,000E), little endian, with its kind or without; it stands before anything that is long.
_SERIES = re.compile(rb"\x20\x00\x0e\x00(?:UI(?P<short>..)|(?P<long>....))(?P<value>[0-9.]{1,64})", re.DOTALL)
_READ_BYTES = 1 << 18
_NAMED = 3


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files of a folder, by name; files of DICOM need no suffix.

    Raises
    ------
    NotASlideError
        If they are of more than one series: of two slides, or of a slide that was scanned twice.
    OSError
        If the folder or a file cannot be read.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            start = file.read(_READ_BYTES)
        if start[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC:
            found.setdefault(_series(start), []).append(path)
        elif path.suffix.lower() == ".dcm":
            # The reader says what is wrong with it.
            found.setdefault("", []).append(path)
    known = sorted(series for series in found if series)
    if len(known) > 1:
        named = "; ".join(f"{found[series][0].name} (series {series})" for series in known[:_NAMED])
        raise NotASlideError(
            f"expected the DICOM files of one slide in {folder}, got {len(known)} series: {named}; "
            "give one of these files, or put each slide into a folder of its own"
        )
    return [path for series in (*known, "") for path in found.get(series, [])]


def _series(start: bytes) -> str:
    """Return the SeriesInstanceUID of a file that begins so; nothing where it is not found."""
    match = _SERIES.search(start)
    if match is None:
        return ""
    length = int.from_bytes(match["short"] or match["long"], "little")
    return match["value"][:length].decode("ascii").rstrip(".")
