"""Checkpoints are looked at before torch reads them: what is damaged, or claims more than it holds, is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch

from napari_metastasis.errors import WeightsError
from napari_metastasis.models import load_initial
from napari_metastasis.models.checkpoint_file import check_tensors, read_checkpoint

STATE = OrderedDict(a=torch.arange(12.0).reshape(3, 4), count=torch.tensor(3))


def stored(values, *, legacy: bool = False) -> bytes:
    data = io.BytesIO()
    torch.save(values, data, _use_new_zipfile_serialization=not legacy)
    return data.getvalue()


def written(tmp_path, data: bytes):
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_whole_checkpoints_of_either_format_are_read(tmp_path, legacy):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    for values in (STATE, network.state_dict(), {"state_dict": dict(STATE), "epoch": 3, "loss": 0.5, "none": None}):
        found, sha256 = read_checkpoint(written(tmp_path, stored(values, legacy=legacy)))
        assert len(sha256) == 64
        assert list(found) == list(values)
        tensors = {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
        assert all(torch.equal(found[name], value) for name, value in tensors.items())


def test_tensors_as_the_first_versions_of_torch_wrote_them_are_read(tmp_path):
    class Old:
        def __reduce__(self):
            untyped = torch.arange(12.0).untyped_storage()
            storage = torch.storage.TypedStorage(wrap_storage=untyped, dtype=torch.float32, _internal=True)
            return torch._utils._rebuild_tensor, (storage, 0, (3, 4), (4, 1))

    found, _ = read_checkpoint(written(tmp_path, stored(OrderedDict(a=Old()), legacy=True)))
    assert torch.equal(check_tensors(found, tmp_path)["a"], STATE["a"])


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_is_cut_off_anywhere_is_refused(tmp_path, legacy):
    """What torch raises of such files is IndexError, KeyError, AssertionError, struct.error and more."""
    data = stored(STATE, legacy=legacy)
    for end in range(0, len(data), max(1, len(data) // 80)):
        with pytest.raises(WeightsError, match=r"expected a file of tensors, got .*; fetch") as caught:
            read_checkpoint(written(tmp_path, data[:end]))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b".", b"l", b"\x80\x02.", b"h\x00.", b"garbage", b"\x80\x02]q\x00K\x01a." * 5])
def test_what_is_no_checkpoint_is_refused(tmp_path, data):
    with pytest.raises(WeightsError, match="expected"):
        load_initial(written(tmp_path, data))


def test_arrays_of_terabytes_are_refused_before_they_are_made(tmp_path):
    """torch takes a zip's word for how long its arrays are, and reads past their end."""
    for legacy in (False, True):
        data = stored({"a": torch.zeros(200)}, legacy=legacy)
        if legacy:
            # 200 as BININT1, beside the place where the array lies.
            assert data.count(b"K\xc8") == 2
            claimed = data.replace(b"K\xc8", b"J\xff\xff\xff\x7f")
        else:
            claimed = io.BytesIO()
            with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(claimed, "w") as other:
                for name in whole.namelist():
                    other.writestr(name, whole.read(name).replace(b"K\xc8", b"J\xff\xff\xff\x7f"))
            claimed = claimed.getvalue()
        with pytest.raises(WeightsError, match="larger than the file"):
            read_checkpoint(written(tmp_path, claimed))


def test_one_number_repeated_to_terabytes_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="expected arrays of numbers"):
        check_tensors({"a": torch.zeros(1).expand(1 << 40)}, tmp_path)


def test_packed_entries_are_refused(tmp_path):
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(stored(STATE))) as whole,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for name in whole.namelist():
            other.writestr(name, whole.read(name))
    with pytest.raises(WeightsError, match="packed arrays"):
        read_checkpoint(written(tmp_path, packed.getvalue()))


def test_pickles_that_make_anything_else_are_refused(tmp_path):
    def nested(value) -> bytes:
        return pickle.dumps(value, protocol=2)

    class Fills:
        def __reduce__(self):
            return bytearray, (1 << 36,)

    # The value follows a number, a version and what machine wrote it.
    head = (
        pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001, protocol=2) + pickle.dumps({}, protocol=2)
    )
    for value in (nested(Fills()), nested(print), b"\x80\x02]r\xff\xff\xff\x7f."):
        with pytest.raises(WeightsError, match="expected a file of tensors"):
            read_checkpoint(written(tmp_path, head + value + pickle.dumps([], protocol=2)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "tensors by name"),
        ([torch.zeros(1)], "tensors by name"),
        (torch.zeros(1), "tensors by name"),
        ({"a": 3}, "tensors alone, got int as a"),
        ({"a": (torch.zeros(3, 4),)}, "tensors alone, got tuple as a"),
        ({"state_dict": {"a": torch.zeros(1)}}, "tensors alone"),
        ({3: torch.zeros(1)}, "one called 3"),
        ({"a\nb": torch.zeros(1)}, "one called"),
        ({"a": torch.full((2,), float("nan"))}, "finite"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "arrays of numbers"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused(tmp_path, values, message):
    with pytest.raises(WeightsError, match=message) as caught:
        check_tensors(values, tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
