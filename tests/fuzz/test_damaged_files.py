"""Files of every kind, damaged at random: each is read, or refused by one of the program's own errors."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from fuzz_kinds import FEATURES, KINDS, Whole, damage, lay_out, read_or_refuse, write_whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: ``make fuzz`` tries more, and others each time: run.py.
CHOSEN = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Whole]:
    """Return what a whole one of each kind holds."""
    return {name: write_whole(kind, tmp_path_factory.mktemp("whole")) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"wsinfer"}))
def test_a_whole_one_of_each_kind_is_read(name, whole, tmp_path) -> None:
    """What is refused whole says nothing of damage; the weights of a WSInfer model are left out, for their size."""
    lay_out(whole[name], tmp_path)
    KINDS[name].read(tmp_path)


@pytest.mark.parametrize("name", KINDS)
@settings(CHOSEN)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_damaged_file_is_read_or_refused(name, whole, tmp_path_factory, seed) -> None:
    folder = tmp_path_factory.getbasetemp() / f"damaged-{name.replace(' ', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    lay_out(damage(KINDS[name], whole[name], np.random.default_rng(seed)), folder)
    read_or_refuse(KINDS[name], folder)


@settings(CHOSEN, max_examples=60)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=6,
    ),
    where=st.integers(0, 10**6),
)
def test_geojson_of_any_shape_is_read_or_refused(value, where, tmp_path_factory) -> None:
    """One value of a whole file, whichever, is exchanged for another."""
    document = json.loads(json.dumps(FEATURES))
    places: list[tuple] = []

    def walk(node) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])

    walk(document)
    node, key = places[where % len(places)]
    node[key] = value
    folder = tmp_path_factory.getbasetemp() / "shape"
    folder.mkdir(exist_ok=True)
    (folder / "a.geojson").write_text(json.dumps(document))
    for name in ("geojson", "geojson points"):
        read_or_refuse(KINDS[name], folder)
