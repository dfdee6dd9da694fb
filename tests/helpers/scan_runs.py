"""One scan as the tests of workflows run it: a small piece at a time, in float32, so that answers can be compared."""

from __future__ import annotations

from napari_metastasis.settings import DetectionSettings, ScanSettings, TissueSettings
from napari_metastasis.workflows.scan import ScanResult, scan_slide

__all__ = ["SCAN", "run"]

SCAN = ScanSettings(device="cpu", engine="torch", precision="float32", roi_px=160)


def run(slide, model, output, **changes) -> ScanResult:
    """Scan ``slide`` into ``output``; ``changes`` take the place of what is usual here."""
    usual = {"scan": SCAN, "tissue": TissueSettings(), "detection": DetectionSettings(), "output": output}
    return scan_slide(slide, model, **(usual | changes))
