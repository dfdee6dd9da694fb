"""Open a slide at an address: an OME-Zarr, or a TIFF in any dialect that tifffile reads."""

from __future__ import annotations

from napari_metastasis.errors import NotASlideError
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlideUrl
from napari_metastasis.slides.backend import Backend
from napari_metastasis.slides.network import Network
from napari_metastasis.slides.ome_zarr_backend import OmeZarrBackend
from napari_metastasis.slides.remote_file import RemoteFile
from napari_metastasis.slides.tifffile_backend import TifffileBackend, begins_as_tiff
from napari_metastasis.slides.zarr_files import open_zarr_files

__all__ = ["open_remote"]

#: Of a slide's cache, the part that holds bytes as they are stored; the rest holds decoded tiles.
_STORED_SHARE = 4


def open_remote(address: SlideUrl, settings: SlideSettings) -> Backend:
    """Open the slide at an address.

    Raises
    ------
    NotASlideError
        If nothing is there, or it cannot be read over a network.
    CorruptSlideError, FluorescenceError
        As the backends do.
    NetworkError
        If the network fails.
    MissingDependencyError
        If what reads such addresses is not installed.
    """
    cache_bytes = settings.cache_mib << 20
    stored_bytes = cache_bytes // _STORED_SHARE
    files = open_zarr_files(address, settings)
    if files is not None:
        return OmeZarrBackend(files, cache_bytes=cache_bytes - stored_bytes)
    source = RemoteFile(Network(address, settings), capacity_bytes=stored_bytes)
    try:
        if not begins_as_tiff(source):
            raise NotASlideError(
                f"expected a TIFF (SVS, NDPI, OME-TIFF …) or an OME-Zarr at {address}, got another kind of file; "
                "copy it to this machine"
            )
        return TifffileBackend(source, cache_bytes=cache_bytes - stored_bytes)
    except BaseException:
        source.close()
        raise
