"""Where a slide lies: on this machine, or at an address behind a network.

``pathlib`` takes one of the two slashes out of ``https://host/a.svs``. An address is therefore a value of its own,
which has a name and a suffix as a path has, and no folder that results could go to.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname

from napari_metastasis.errors import NotASlideError

__all__ = ["SlidePath", "SlideUrl", "real_place", "results_place", "slide_path"]

#: A protocol has two letters at least: C:// is a disk.
_ADDRESS = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
_ENDS = "/"
#: Addresses in which ? and # begin something else; a bucket's names may hold them.
_WEB = ("http", "https")


@dataclass(frozen=True, slots=True, repr=False)
class SlideUrl:
    """The address of a slide, such as ``https://host/a.svs`` or ``s3://bucket/a.ome.zarr``.

    As text it is what may be shown and recorded: without a password, and without what stands behind the path, which
    may grant access to whoever holds the address.

    Attributes
    ----------
    url
        The whole address.
    """

    url: str

    @property
    def protocol(self) -> str:
        """Return how it is reached, such as ``https`` or ``s3``."""
        return self._parts.scheme.lower()

    @property
    def name(self) -> str:
        """Return the last part of its path; the host where there is none."""
        return unquote(self._parts.path.rstrip(_ENDS).rpartition(_ENDS)[2]) or (self._parts.hostname or self.protocol)

    @property
    def stem(self) -> str:
        """Return the name without its suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """Return what the name ends in, from the last dot on."""
        return Path(self.name).suffix

    def inside(self, key: str) -> str:
        """Return the whole address of a file below this one."""
        parts = self._parts
        return parts._replace(path=f"{parts.path.rstrip(_ENDS)}/{key}").geturl() if key else parts.geturl()

    @property
    def _parts(self) -> SplitResult:
        parts = urlsplit(self.url)
        if parts.scheme.lower() in _WEB:
            return parts
        _, _, rest = self.url.partition("://")
        place, slash, path = rest.partition(_ENDS)
        return SplitResult(parts.scheme, place, f"{slash}{path}", "", "")

    def __str__(self) -> str:
        parts = self._parts
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()

    def __repr__(self) -> str:
        return f"SlideUrl({str(self)!r})"


#: A file or folder of this machine, or an address.
SlidePath = Path | SlideUrl


def slide_path(text: str | SlidePath) -> SlidePath:
    """Return where a text says that a slide lies.

    Raises
    ------
    NotASlideError
        If it is an address that cannot be one.
    """
    if not isinstance(text, str):
        return text
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return Path(text)
    if match["protocol"].lower() == "file":
        return Path(url2pathname(urlsplit(text.strip()).path))
    address = SlideUrl(text.strip())
    try:
        address.name  # noqa: B018 (a host may be none)
    except ValueError as error:
        raise NotASlideError(f"expected the address of a slide, got {text.strip()} ({error}); correct it") from error
    return address


def real_place(path: SlidePath) -> str:
    """Return what two names of one file or address share."""
    return path.url if isinstance(path, SlideUrl) else os.path.realpath(path)


def results_place(path: SlidePath) -> Path:
    """Return the folder that results go to unless told otherwise: the slide's; of an address, the current one."""
    return Path.cwd() if isinstance(path, SlideUrl) else path.parent
