"""A file behind a network, read by position: in blocks that are kept, each fetched once."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from napari_metastasis.errors import CorruptSlideError, NetworkError, NotASlideError, SlideError
from napari_metastasis.slides.fetching import Fetching
from napari_metastasis.slides.lifetime import ByteSource
from napari_metastasis.slides.network import Network

__all__ = ["REQUESTS_AT_ONCE", "RemoteFile", "SourceReader"]

#: A few tiles, which lie beside each other in most files: half of the time of a request goes into these bytes where the
#: network answers in 20 ms and carries 100 Mbit/s.
_BLOCK_BYTES = 1 << 18
#: Blocks that are fetched by one request.
_MOST_BLOCKS = 8
#: Requests at once: what a browser allows itself, and no server takes offence at.
REQUESTS_AT_ONCE = 8
_LEAST_BYTES = 16 * _BLOCK_BYTES


class RemoteFile:
    """Bytes of a remote file by position, from many threads.

    It is a :class:`~napari_metastasis.slides.lifetime.ByteSource`.

    Parameters
    ----------
    network
        Where it lies.
    capacity_bytes
        Of the blocks that are kept; some megabytes at least.

    Raises
    ------
    NotASlideError
        If nothing is there.
    NetworkError
        If the network fails.
    """

    def __init__(self, network: Network, *, capacity_bytes: int) -> None:
        size = network.size()
        if size is None:
            raise NotASlideError(
                f"expected a slide at {network.address}, but nothing is there; check the address"
            ).in_window(f"Nothing lies at {network.address}. Check the address.")
        self._network = network
        self.name = network.address.name
        self.size = size
        self._capacity = max(capacity_bytes, _LEAST_BYTES)
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._fetching: Fetching[int, bytes] = Fetching()
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="remote-file")

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``.

        Raises
        ------
        CorruptSlideError
            If the file ends before.
        NetworkError
            If the network fails.
        """
        if offset + count > self.size:
            raise CorruptSlideError(
                f"expected {count} bytes of {self.name} at {offset}, but the file ends after "
                f"{max(0, self.size - offset)}; copy the slide again from its source"
            )
        if not count:
            return b""
        blocks = self._blocks(_numbers(offset, count))
        joined = b"".join(blocks[number] for number in _numbers(offset, count))
        start = offset % _BLOCK_BYTES
        return joined[start : start + count]

    def expect(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Fetch what will be read next, many requests at once: (offset, count) of each piece.

        Raises
        ------
        NetworkError
            If the network fails.
        """
        wanted = dict.fromkeys(
            number for offset, count in pieces if 0 < count <= self.size - offset for number in _numbers(offset, count)
        )
        # What does not fit would be dropped before it is read.
        self._blocks(sorted(wanted)[: self._capacity // _BLOCK_BYTES])

    def close(self) -> None:
        """Drop the blocks; requests that are under way end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._held.clear()

    def _blocks(self, numbers: Iterable[int]) -> dict[int, bytes]:
        return self._fetching.get(list(numbers), self._of_memory, self._fetch)

    def _of_memory(self, number: int) -> bytes | None:
        with self._lock:
            block = self._held.get(number)
            if block is not None:
                self._held.move_to_end(number)
            return block

    def _fetch(self, numbers: list[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for part in self._pool.map(self._run, list(_runs(sorted(numbers)))):
            found |= part
        with self._lock:
            self._held |= found
            held = sum(map(len, self._held.values()))
            while held > self._capacity:
                held -= len(self._held.popitem(last=False)[1])
        return found

    def _run(self, run: range) -> dict[int, bytes]:
        """Return blocks that lie beside each other, by one request."""
        start, stop = run.start * _BLOCK_BYTES, min(run.stop * _BLOCK_BYTES, self.size)
        data = self._network.read(start=start, stop=stop)
        if data is None or len(data) != stop - start:
            raise NetworkError(
                f"expected {stop - start} bytes of {self.name} at {start}, got {0 if data is None else len(data)}: it "
                "was changed or deleted while it was read; open it again"
            )
        return {number: data[(number - run.start) * _BLOCK_BYTES :][:_BLOCK_BYTES] for number in run}


def _numbers(offset: int, count: int) -> range:
    return range(offset // _BLOCK_BYTES, (offset + count - 1) // _BLOCK_BYTES + 1)


def _runs(numbers: list[int]) -> Iterator[range]:
    """Yield runs of neighbouring blocks, none longer than one request fetches."""
    start = previous = None
    for number in numbers:
        if start is None or previous is None or number != previous + 1 or number - start >= _MOST_BLOCKS:
            if start is not None and previous is not None:
                yield range(start, previous + 1)
            start = number
        previous = number
    if start is not None and previous is not None:
        yield range(start, previous + 1)


class SourceReader(io.RawIOBase):
    """A source as a file with a cursor of its own, for libraries that read headers."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__()
        self._source = source
        self.name = source.name
        self._at = 0
        #: What reading failed with: libraries take it for a fault of the file, and go on without what they lack.
        self.failure: SlideError | None = None

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it has a cursor."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the cursor, and return where it is."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise ValueError(f"a place before the beginning of {self.name}")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """Return where the cursor is."""
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill a buffer from the cursor on, and return how many bytes there were."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        count = max(0, min(len(view), self._source.size - self._at))
        try:
            view[:count] = self._source.read(self._at, count)
        except SlideError as error:
            self.failure = error
            raise
        self._at += count
        return count
