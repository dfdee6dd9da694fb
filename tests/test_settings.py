"""The one home of defaults: every one within its own range, and nothing out of range gets in."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass

import pytest

from napari_metastasis import settings
from napari_metastasis.errors import SettingsError
from napari_metastasis.settings import EvaluationSettings, Setting, TuningSettings, setting_of

GROUPS = [
    group
    for name in settings.__all__
    if is_dataclass(group := getattr(settings, name)) and isinstance(group, type) and group is not Setting
]


@pytest.mark.parametrize("group", GROUPS)
def test_every_default_has_its_reason_and_passes_its_own_check(group):
    group()
    for field in fields(group):
        assert field.default is not MISSING, field.name
        default, setting = setting_of(group, field.name)
        assert default == field.default
        # One sentence for a person, as it stands in --help.
        assert setting.help[0].isupper(), field.name
        assert setting.help[-1] in ".)", field.name


@pytest.mark.parametrize("rates", [(0.0, 1.2), (0.25, 5000.0), (float("nan"), 1.0)])
def test_every_number_of_a_tuple_is_checked(rates):
    with pytest.raises(SettingsError, match=r"expected fp-rates between 0.001 and 1000, got"):
        EvaluationSettings(fp_rates=rates)


def test_a_number_that_is_none_is_refused():
    with pytest.raises(SettingsError, match="expected tolerance between 0 and 1"):
        TuningSettings(tolerance=float("nan"))


def test_a_setting_that_there_is_not():
    with pytest.raises(SettingsError, match="expected a setting of TuningSettings, got 'speed'"):
        setting_of(TuningSettings, "speed")


def test_public_names_are_those_of_the_modules():
    assert len(GROUPS) >= 11
    assert all(group.__module__.startswith("napari_metastasis.settings.") for group in GROUPS)
