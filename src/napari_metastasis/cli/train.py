"""``train``: slides or patches in, a model out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_metastasis.cli.console import Progress, note, say, show_progress, show_slides, stop_on_interrupt
from napari_metastasis.cli.options import WrongUsage, was_given, with_settings
from napari_metastasis.errors import MissingDependencyError, ScanCancelledError, StorageError
from napari_metastasis.settings import (
    AugmentSettings,
    CohortSettings,
    MiningSettings,
    NetworkSettings,
    SamplingSettings,
    ScanSettings,
    TissueSettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from napari_metastasis.models import ModelSpec
    from napari_metastasis.pipeline.stages import CohortTraining
    from napari_metastasis.training.cohort import Cohort
    from napari_metastasis.training.streams import BalancedPatches, PatchStream

__all__ = ["app"]

app = typer.Typer(help="Train a model.", no_args_is_help=True)


@app.callback()
def _train() -> None:
    """Train a model."""


@app.command()
@with_settings("settings", TrainSettings, panel="Training")
@with_settings("network", NetworkSettings, panel="Training")
@with_settings("augment", AugmentSettings, panel="Augmentation")
@with_settings("sampling", SamplingSettings, panel="Slides")
@with_settings("splits", CohortSettings, panel="Slides")
@with_settings("mining", MiningSettings, panel="Hard negatives")
def scannet(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option(help="Run folder; a run found there with the same settings and data goes on.")
    ],
    settings: TrainSettings,
    network: NetworkSettings,
    augment: AugmentSettings,
    sampling: SamplingSettings,
    splits: CohortSettings,
    mining: MiningSettings,
    cohort: Annotated[
        Path | None,
        typer.Option(
            help="Slides with annotations: a CSV file, or a folder laid out as CAMELYON16, CAMELYON17 or images/masks.",
            rich_help_panel="Slides",
        ),
    ] = None,
    patches: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labelled patches: a folder or zip with class folders 0 and 1, or PCam's HDF5. Give it again for more."
        ),
    ] = None,
    soft_labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV of the columns patch and probability: targets of these patches instead of their class, from "
            "readers who disagree, or distilled from a larger network."
        ),
    ] = None,
    patches_share: Annotated[
        float,
        typer.Option(help="Share of labelled patches in a batch where there are slides as well.", min=0.01, max=0.99),
    ] = 0.5,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Patches from other slides, on which every epoch is measured; the cohort's validation slides by "
            "default."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model; 'scannet-' and the run folder's by default.")] = "",
    initial: Annotated[
        str,
        typer.Option(
            help="Weights that training begins with: a model, the last.ckpt of another run, a file of VGG16 weights, "
            "or vgg16-imagenet; random ones by default."
        ),
    ] = "",
    description: Annotated[
        str, typer.Option(help="What the data are, for the model card; their names by default.")
    ] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights, for the model card.")] = "",
) -> None:
    """Train Fast ScanNet on slides, on patches, or on both, and keep the model by its name.

    On slides, general training is followed by rounds of hard-negative mining. A run that was stopped goes on when the
    same command is run again.
    """
    _need_training()
    from napari_metastasis.models import correct_card
    from napari_metastasis.scanning import resolve_devices
    from napari_metastasis.training.beginning import load_beginning
    from napari_metastasis.training.loop import patch_spec, train_scannet
    from napari_metastasis.training.trainer import check_devices

    if cohort is None and not patches:
        raise WrongUsage("expected --cohort or --patches, got neither; give slides, patches, or both")
    if soft_labels is not None and not patches:
        raise WrongUsage("expected --patches beside --soft-labels, got none; give the patches that it names")
    if cohort is None and validation is None:
        raise WrongUsage("expected --validation beside --patches, got none; give patches from other slides")
    # Both refuse what this machine lacks, before anything is written.
    resolve_devices(settings.device)
    check_devices(settings)
    with show_progress("Fetching weights", unit="MB", scale=1e-6) as fetching:
        beginning = load_beginning(initial, progress=fetching) if initial else None
    spec = patch_spec(name or f"scannet-{output.resolve().name}", network.architecture, network.mpp, beginning)
    named = [path for path in (cohort, *(patches or ()), soft_labels, validation) if path is not None]
    run: dict[str, Any] = {
        "output": output,
        "data_description": description or f"Trained on {', '.join(path.name for path in named)}",
        "licence": licence,
        "initial": beginning,
    }
    measured = _all(validation, spec, settings) if validation is not None else None
    if cohort is None:
        training = _stream(patches or [], soft_labels, spec, settings.batch_size, settings.seed)
        assert measured is not None
        weights = train_scannet(spec, training=training, validation=measured, settings=settings, augment=augment, **run)
    else:
        from napari_metastasis.pipeline.stages import CohortTraining

        how = CohortTraining(
            train=settings,
            augment=augment,
            sampling=sampling,
            mining=mining,
            scan=ScanSettings(device=settings.device),
            tissue=TissueSettings(),
        )
        if validation is not None and not was_given(context, "splits_validation_share"):
            # Measured on patches, a run needs all its slides to train on.
            splits = replace(splits, validation_share=0.0)
        share = max(1, round(settings.batch_size * patches_share))
        if share >= settings.batch_size:
            raise WrongUsage(
                f"expected --patches-share to leave room for slides, got {share} of {settings.batch_size} patches; "
                "lower it, or raise the batch size"
            )
        mixed = _stream(patches, soft_labels, spec, share, settings.seed) if patches else None
        weights = _on_cohort(
            _read_cohort(cohort, splits, sampling.tumour_value, output),
            spec,
            how,
            patches=mixed,
            validation=measured,
            **run,
        )
    # Of a run that was finished before, too: what is not given keeps what was said then.
    correct_card(weights, {key: text for key, text in (("data", description), ("licence", licence)) if text})
    _keep_by_name(weights)
    say(str(weights))


def _need_training() -> None:
    """Load what training needs, or say what to install."""
    try:
        import napari_metastasis.training.loop  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"expected {error.name} for training, got none installed; pip install 'napari-metastasis[train]'"
        ) from error


def _stream(
    patches: list[Path], soft_labels: Path | None, spec: ModelSpec, batch_size: int, seed: int
) -> BalancedPatches:
    from napari_metastasis.patches import join_patches, open_patches
    from napari_metastasis.training.soft_labels import read_soft_labels
    from napari_metastasis.training.streams import BalancedPatches

    source = join_patches([open_patches(path) for path in patches])
    targets = None if soft_labels is None else read_soft_labels(soft_labels, source)
    return BalancedPatches(source, spec.patch_px, batch_size, seed, targets)


def _all(patches: Path, spec: ModelSpec, settings: TrainSettings) -> PatchStream:
    from napari_metastasis.patches import open_patches
    from napari_metastasis.training.streams import AllPatches

    return AllPatches(open_patches(patches), spec.patch_px, settings.batch_size)


def _read_cohort(path: Path, splits: CohortSettings, tumour_value: int, output: Path) -> Cohort:
    """Return a cohort in which nothing is wrong; name everything that is.

    A run that has begun goes on without slides whose files went bad since: they are named, and passed over.
    """
    from napari_metastasis.errors import CohortError
    from napari_metastasis.settings import SlideSettings
    from napari_metastasis.training.cohort import read_cohort
    from napari_metastasis.training.cohort_check import check_cohort
    from napari_metastasis.training.trainer import LAST

    cohort = read_cohort(
        path, validation_share=splits.validation_share, seed=splits.split_seed, mpp=splits.cohort_mpp or None
    )
    for flawed in cohort.left_out:
        note(f"{flawed.slide.name} is left out: {flawed.reason}")
    with show_progress("Checking the cohort", unit="slides") as progress:
        problems = check_cohort(cohort, threads=SlideSettings().threads, tumour_value=tumour_value, progress=progress)
    for problem in problems:
        note(str(problem))
    begun = any(output.glob(f"stage-*/{LAST}"))
    if not all(begun and problem.of_files for problem in problems):
        raise CohortError(
            f"expected a cohort without faults, got the {len(problems)} above in {path}; put them right first"
        )
    return cohort


class _Bars:
    """Bars of the steps that are no training, and whether Ctrl-C came during one; training minds Ctrl-C itself."""

    def __init__(self) -> None:
        self._asked: Callable[[], bool] | None = None

    def should_stop(self) -> bool:
        return self._asked is not None and self._asked()

    @contextmanager
    def __call__(self, title: str) -> Iterator[Progress]:
        with stop_on_interrupt() as asked, show_slides(title) as progress:
            self._asked = asked
            try:
                yield progress
            finally:
                self._asked = None


def _on_cohort(cohort: Cohort, spec: ModelSpec, how: CohortTraining, *, output: Path, **run: Any) -> Path:
    from napari_metastasis.pipeline.stages import train_on_cohort
    from napari_metastasis.training.failures import JOURNAL, read_failures

    bars = _Bars()
    try:
        done = train_on_cohort(cohort, spec, how, output=output, bar=bars, should_stop=bars.should_stop, **run)
        for number, count in enumerate(done.mined, start=1):
            note(f"round {number}: {count} hard negatives; see {output / f'mining-{number}'}")
    except ScanCancelledError:
        # Nobody but Ctrl-C stops it here.
        raise KeyboardInterrupt from None
    finally:
        # However it ended: a run that was stopped, or failed, has passed over slides all the same. A disk that cannot
        # be read any more must not hide what went wrong first.
        with suppress(StorageError):
            for failure in read_failures(output / JOURNAL):
                note(f"{failure.slide} was passed over: {failure.reason}")
    return done.weights


def _keep_by_name(weights: Path) -> None:
    """Keep the model among the user's own, unless its name is taken: the run itself is done."""
    from napari_metastasis.errors import ModelError
    from napari_metastasis.models import add_model

    try:
        entry = add_model(weights)
    except ModelError as error:
        note(str(error))
    else:
        note(f"scan with it by its name: --model {entry.name}")
