"""How slides are scanned by several processes and machines."""

from __future__ import annotations

from dataclasses import dataclass

from napari_metastasis.errors import SettingsError
from napari_metastasis.settings._core import SettingsGroup, setting

__all__ = ["ClusterSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings(SettingsGroup):
    """Who scans slides: this process alone, processes of this machine, or the workers of a dask scheduler."""

    workers: int | None = setting(
        None,
        "Processes of this machine that scan side by side, each a slide, on its share of the cores and a GPU of its "
        "own where there are several; 0 takes one for each GPU. Without it this process scans alone.",
        minimum=0,
        maximum=256,
    )
    scheduler: str = setting(
        "",
        "Scan on the workers of a dask scheduler: its address, such as tcp://host:8786, or its scheduler file.",
    )
    part_mpx: float = setting(
        256.0,
        "Slides of more tissue than this are scanned in parts by several workers; 0 never does. About the tissue of "
        "a large slide at 1 µm per pixel.",
        unit="Mpx of the model's pixels",
        minimum=0.0,
        maximum=1_000_000.0,
    )
    retries: int = setting(
        2,
        "Times that a slide is begun again elsewhere after it failed, or after its worker died; then it is named and "
        "left out.",
        minimum=0,
        maximum=20,
    )
    worker_wait_s: float = setting(
        60.0, "How long the first worker of a scheduler is waited for.", unit="s", minimum=0.0, maximum=86_400.0
    )

    @property
    def wanted(self) -> bool:
        """Return whether other processes than this one are to scan."""
        return self.workers is not None or bool(self.scheduler)

    @property
    def part_px(self) -> int:
        """Return from how many model pixels on a slide is scanned in parts; 0 for never."""
        return round(self.part_mpx * 1e6)

    def __post_init__(self) -> None:
        """Refuse values out of range, and two clusters."""
        SettingsGroup.__post_init__(self)
        if self.workers is not None and self.scheduler:
            raise SettingsError("expected workers of this machine or of a scheduler, got both; leave one out")
