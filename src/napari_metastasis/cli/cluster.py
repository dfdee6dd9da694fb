"""Options and output of commands that may scan on several processes and machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_metastasis.cli.console import note
from napari_metastasis.cli.options import with_settings
from napari_metastasis.settings import ClusterSettings, ScanSettings

if TYPE_CHECKING:
    from napari_metastasis.workflows.scan import SlideScanner

__all__ = ["CLUSTER_PANEL", "opened_cluster", "with_cluster"]

#: Heading of the options.
CLUSTER_PANEL = "Several workers"
with_cluster = with_settings("cluster", ClusterSettings, panel=CLUSTER_PANEL)


@contextmanager
def opened_cluster(
    cluster: ClusterSettings, scan: ScanSettings, should_stop: Callable[[], bool]
) -> Iterator[SlideScanner | None]:
    """Yield what scans, and say where dask shows what it does; ``None`` where this process is to scan alone.

    Raises
    ------
    MetastasisError
        As :func:`~napari_metastasis.workflows.cluster.opening.open_cluster` does.
    """
    from napari_metastasis.workflows.cluster.opening import open_cluster

    with open_cluster(cluster, scan, should_stop) as scanner:
        if scanner is not None and scanner.dashboard:
            note(f"what the workers do is shown at {scanner.dashboard}")
        yield scanner
