"""Options are what the settings say, and nothing else."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Annotated

import pytest
import typer

from napari_metastasis.cli.options import WrongUsage, with_settings
from napari_metastasis.settings import DetectionSettings, ScanSettings, TissueSettings, TrainSettings


def _run(arguments: list[str]) -> dict[str, object]:
    """Run a command that takes two groups and an ``mpp`` of its own, and return what it received."""
    received: dict[str, object] = {}
    app = typer.Typer()

    @app.command()
    @with_settings("tissue", TissueSettings, flags={"mpp": "--tissue-mpp"})
    @with_settings("scan", ScanSettings, flags={"tissue_only": "--tissue-only/--no-tissue"}, leave_out=("queue_rois",))
    def command(scan: ScanSettings, tissue: TissueSettings, mpp: Annotated[float, typer.Option()] = 0.5) -> None:
        received.update(scan=scan, tissue=tissue, mpp=mpp)

    app(arguments, standalone_mode=False)
    return received


def test_no_option_gives_every_default() -> None:
    assert _run([]) == {"scan": ScanSettings(), "tissue": TissueSettings(), "mpp": 0.5}


def test_each_option_reaches_its_own_group() -> None:
    received = _run(["--roi-px", "512", "--no-tissue", "--mpp", "0.25", "--tissue-mpp", "8", "--precision", "float32"])
    assert received == {
        "scan": replace(ScanSettings(), roi_px=512, tissue_only=False, precision="float32"),
        "tissue": replace(TissueSettings(), mpp=8.0),
        "mpp": 0.25,
    }


def test_setting_left_out_is_no_option() -> None:
    with pytest.raises(typer.TyperException, match="queue-rois"):
        _run(["--queue-rois", "2"])


def test_only_what_is_named_is_taken() -> None:
    @with_settings("scan", ScanSettings, only=("threads",))
    def command(scan: ScanSettings) -> None:
        raise AssertionError(scan)

    assert list(inspect.signature(command).parameters) == ["scan_threads"]


def test_value_out_of_range_is_wrong_usage_before_the_command_runs() -> None:
    with pytest.raises(WrongUsage, match="roi-px") as refused:
        _run(["--roi-px", "-1"])
    assert refused.value.exit_code == 2


def test_name_and_doc_of_the_command_are_kept() -> None:
    @with_settings("detection", DetectionSettings)
    def command(detection: DetectionSettings) -> None:
        """Do something."""

    assert (command.__name__, command.__doc__) == ("command", "Do something.")


@pytest.mark.parametrize(("written", "expected"), [([], True), (["--no-tie-orientations"], False)])
def test_a_switch_can_be_turned_off(written: list[str], expected: bool) -> None:
    received: list[bool] = []
    app = typer.Typer()

    @app.command()
    @with_settings("train", TrainSettings, only=("tie_orientations",))
    def command(train: TrainSettings) -> None:
        received.append(train.tie_orientations)

    app(written, standalone_mode=False)
    assert received == [expected]
