"""Read files behind a network with fsspec: bounded waits, a few more tries, and one clear line where it fails."""

from __future__ import annotations

import importlib
import time
from typing import Any

from napari_metastasis.errors import MissingDependencyError, NetworkError, first_line
from napari_metastasis.settings import SlideSettings
from napari_metastasis.slide_address import SlideUrl

__all__ = ["Network"]

#: Protocols that the extra ``remote`` brings; fsspec knows others, each by a package of its own.
_OF_EXTRA = ("http", "https", "s3", "s3a")
_PARTIAL_CONTENT = 206
_GONE = (404, 410)
_FORBIDDEN = (401, 403, 407)
#: What a server says that is overloaded, or being mended: another try may be answered.
_BUSY = (408, 425, 429, 500, 502, 503, 504)
#: A request may take so many times as long as a server may be silent in between.
_WHOLE_REQUEST = 4


class _WholeFileError(OSError):
    """A server answers a request for a part of a file with all of it."""


class Network:
    """The files at an address and below it; may be used from many threads.

    Parameters
    ----------
    address
        Of a file or a folder.
    settings
        How long an answer is waited for, and how often it is asked for.

    Raises
    ------
    MissingDependencyError
        If what reads such addresses is not installed.
    NetworkError
        If the address cannot be one.
    """

    def __init__(self, address: SlideUrl, settings: SlideSettings) -> None:
        self._address = address
        self._settings = settings
        self._anonymous = False
        self._files = self._opened()
        self._failures = _failures()

    @property
    def address(self) -> SlideUrl:
        """Return the address."""
        return self._address

    def size(self, key: str = "") -> int | None:
        """Return the length of a file, in bytes; ``None`` where there is none.

        Raises
        ------
        NetworkError
            If the network fails, or the server does not tell.
        """
        found = self._tried("info", key)
        if found is None or found.get("type") == "directory":
            return None
        if not isinstance(found.get("size"), int):
            raise NetworkError(
                f"expected a file of a known length at {self._shown(key)}, got one whose length the server does not "
                "tell; copy the slide to this machine"
            )
        return int(found["size"])

    def read(self, key: str = "", start: int | None = None, stop: int | None = None) -> bytes | None:
        """Return a file, or the bytes of it from ``start`` to before ``stop``; ``None`` where there is none.

        Raises
        ------
        NetworkError
            If the network fails, also after some more tries.
        """
        if start is not None and start == stop:
            return b""
        data = self._tried("cat_file", key, start=start, end=stop)
        return None if data is None else bytes(data)

    def _opened(self) -> Any:
        """Return fsspec's file system for the address."""
        protocol = self._address.protocol
        try:
            url_to_fs = importlib.import_module("fsspec.core").url_to_fs
            files, _ = url_to_fs(self._address.url, **self._options())
        except ImportError as error:
            raise MissingDependencyError(
                f"expected what reads {protocol}:// addresses, got none installed ({first_line(error)}); "
                + ("pip install 'napari-metastasis[remote]'" if protocol in _OF_EXTRA else "install what it names")
            ) from error
        except ValueError as error:
            raise NetworkError(
                f"expected an address that begins with https:// or s3://, got {self._address} ({first_line(error)}); "
                "check it"
            ) from error
        return files

    def _options(self) -> dict[str, Any]:
        """Return what the file system is opened with: no request without an end."""
        wait = self._settings.network_timeout_s
        if self._address.protocol in ("http", "https"):
            timeout = importlib.import_module("aiohttp").ClientTimeout(
                total=wait * _WHOLE_REQUEST, sock_connect=wait, sock_read=wait
            )
            # Hospitals have proxies, which the environment names.
            return {"client_kwargs": {"timeout": timeout, "raise_for_status": _check_answer, "trust_env": True}}
        if self._address.protocol in ("s3", "s3a"):
            config = {"connect_timeout": wait, "read_timeout": wait, "retries": {"max_attempts": 1}}
            return {"config_kwargs": config, **({"anon": True} if self._anonymous else {})}
        return {}

    def _tried(self, call: str, key: str, **options: int | None) -> Any:
        """Return what a call of the file system returns, ``None`` where nothing is there; it is tried again."""
        path = self._address.inside(key)
        tries = self._settings.network_tries
        for number in range(1, tries + 1):
            try:
                return self._asked(call, path, options)
            except self._failures as failure:
                error = failure.__cause__ if isinstance(failure, FileNotFoundError) and failure.__cause__ else failure
                if _is_gone(error):
                    return None
                if number == tries or not _may_pass(error):
                    raise self._told(error, key, tries=number) from failure
                time.sleep(self._settings.network_wait_s * 2 ** (number - 1))
        raise AssertionError("the last try returns or raises")

    def _asked(self, call: str, path: str, options: dict[str, int | None]) -> Any:
        try:
            return getattr(self._files, call)(path, **options)
        except self._failures as error:
            if type(error).__name__ != "NoCredentialsError" or self._anonymous:
                raise
            # Public buckets ask for none.
            self._anonymous = True
            self._files = self._opened()
            return getattr(self._files, call)(path, **options)

    def _told(self, error: BaseException, key: str, *, tries: int) -> NetworkError:
        """Return what to say of a failure."""
        where, status = self._shown(key), _status(error)
        again = "" if tries == 1 else f", {tries} times"
        if isinstance(error, _WholeFileError):
            expected, got = f"parts of {where}", "a server that sends whole files only"
            remedy = "serve the slide with one that answers range requests, or copy it to this machine"
        elif status in _FORBIDDEN or isinstance(error, PermissionError):
            expected, got = f"leave to read {where}", f"a refusal{f' ({status})' if status else ''}"
            remedy = "check the address and your credentials"
        elif status is not None:
            expected, got = f"{where} to answer", f"server error {status}{again}"
            remedy = "try again later; what was finished is kept"
        elif isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            expected, got = f"an answer from {where} within {self._settings.network_timeout_s:g} s", f"none{again}"
            remedy = "check the network, then try again; what was finished is kept"
        else:
            expected, got = f"{where} to answer", f"a failed connection{again} ({first_line(error)})"
            remedy = "check the address and the network, then try again; what was finished is kept"
        return NetworkError(f"expected {expected}, got {got}; {remedy}")

    def _shown(self, key: str) -> str:
        return str(SlideUrl(self._address.inside(key)))


async def _check_answer(response: Any) -> None:
    """Refuse an answer that is none, before any of it is read; aiohttp calls it with each."""
    response.raise_for_status()
    asked = response.request_info.headers.get("Range")
    if asked is not None and response.status != _PARTIAL_CONTENT:
        raise _WholeFileError(f"status {response.status} for {asked}")


def _failures() -> tuple[type[BaseException], ...]:
    """Return what file systems raise where a network fails, as far as they are installed."""
    kinds: list[type[BaseException]] = [OSError]
    for module, names in (("aiohttp", ("ClientError",)), ("botocore.exceptions", ("BotoCoreError", "ClientError"))):
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        kinds += [getattr(found, name) for name in names]
    return tuple(kinds)


def _status(error: BaseException) -> int | None:
    """Return the status that a server answered with; ``None`` where it did not answer."""
    status = getattr(error, "status", None)
    if not isinstance(status, int):
        answered = getattr(error, "response", None)
        about = answered.get("ResponseMetadata") if isinstance(answered, dict) else None
        status = about.get("HTTPStatusCode") if isinstance(about, dict) else None
    return status if isinstance(status, int) and status else None


def _is_gone(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError) or _status(error) in _GONE


def _may_pass(error: BaseException) -> bool:
    """Return whether another try may be answered."""
    if isinstance(error, _WholeFileError | PermissionError):
        return False
    return (status := _status(error)) is None or status in _BUSY
