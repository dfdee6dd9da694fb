"""Checkpoints as torch writes them, of this program and of others: looked at before torch reads them.

torch takes a file's word for how large its arrays are, and reads past their end where it lies. Here a file is unpickled
once without torch: it may hold plain values and tensors alone, whose arrays have to be in it.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from napari_metastasis.errors import WeightsError, brief, first_line
from napari_metastasis.storage import holds_control_characters, read_at_most

__all__ = ["check_tensors", "read_checkpoint"]

#: Bytes of a checkpoint: half as many again as the largest weights that are published.
_MOST_BYTES = 3 << 28
#: Values that a pickle refers to again.
_MOST_REMEMBERED = 1 << 20
#: Values of a state are called no longer than that.
_LONGEST = 200
#: What torch's own files are pickled with; the rest can make Python fill the memory, or run code.
_OPCODES = frozenset({
    "PROTO", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "BINSTRING", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET",
    "LONG_BINGET", "GLOBAL", "REDUCE", "BUILD", "BINPERSID",
})  # fmt: skip
#: Bytes of a number in each kind of array.
_ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1,
}  # fmt: skip
#: What stands for tensors; the first is of torch before 0.4, which VGG16's published weights were written with.
_MADE = frozenset(
    {
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.Size",
    }
)
#: Of a legacy file: a number, a version, what machine wrote it, the values, and which arrays follow.
_LEGACY_PICKLES = 5
_NUMBERS = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8}
)


def read_checkpoint(path: Path) -> tuple[Any, str]:
    """Return what a checkpoint holds, plain values and tensors, and the file's SHA-256. No code in it is run.

    Raises
    ------
    WeightsError
        If it cannot be read, is damaged, holds anything else, or claims more than is in it.
    """
    try:
        data = read_at_most(path, _MOST_BYTES)
        _check_claims(data)
        # A damaged file makes torch's unpickler and its readers raise whatever they happen to meet.
        values = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise WeightsError(
            f"expected a file of tensors, got {reason} in {path}; fetch the file again, or choose another file"
        ) from error
    return values, hashlib.sha256(data).hexdigest()


def check_tensors(values: Any, path: Path) -> Mapping[str, Tensor]:
    """Return values if they are tensors by name, each of finite numbers that it holds itself.

    Raises
    ------
    WeightsError
        If they are anything else.
    """
    if not isinstance(values, Mapping) or not values:
        what = "none" if isinstance(values, Mapping) else type(values).__name__
        raise WeightsError(f"expected tensors by name, got {what} in {path}; choose another file")
    for name, value in values.items():
        if not isinstance(name, str) or len(name) > _LONGEST or holds_control_characters(name):
            raise WeightsError(f"expected tensors by name, got one called {brief(name)} in {path}; choose another file")
        if not isinstance(value, Tensor):
            what = type(value).__name__
            raise WeightsError(f"expected tensors alone, got {what} as {name} in {path}; choose another file")
        dense = value.layout == torch.strided and value.device.type == "cpu" and value.dtype in _NUMBERS
        # One number can be repeated to any size.
        if not dense or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsError(
                f"expected arrays of numbers, got {value.dtype} {brief(list(value.shape))} as {name} in {path}; choose "
                "another file"
            )
        if not value.isfinite().all():
            raise WeightsError(f"expected finite weights, got others as {name} in {path}; fetch the file again")
    return values


def _check_claims(data: bytes) -> None:
    """Refuse a checkpoint whose arrays are not in it.

    Raises
    ------
    Exception
        Of any kind where it is damaged.
    """
    file = io.BytesIO(data)
    if not zipfile.is_zipfile(io.BytesIO(data)):
        if sum(_claims(file, _LEGACY_PICKLES).values()) > len(data):
            raise ValueError("arrays that are larger than the file")
        return
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        # torch packs nothing; what is packed, or lies in several entries at once, may unpack to any size.
        if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("packed arrays")
        (pickled,) = (entry.filename for entry in entries if entry.filename.endswith("/data.pkl"))
        sizes = {entry.filename: entry.file_size for entry in entries}
        folder = pickled.removesuffix("data.pkl")
        for key, claimed in _claims(io.BytesIO(archive.read(pickled)), 1).items():
            if claimed > sizes[f"{folder}data/{key}"]:
                raise ValueError("arrays that are larger than the file")


def _claims(file: BinaryIO, pickles: int) -> dict[str, int]:
    """Return how many bytes a file's pickles claim for each array, by its key."""
    start, claims = file.tell(), {}
    for _ in range(pickles):
        # Until the next one begins.
        for opcode, argument, _place in pickletools.genops(file):
            # The unpickler keeps a list as long as the largest number that a value is remembered by.
            if opcode.name not in _OPCODES or (opcode.name == "LONG_BINPUT" and (argument or 0) > _MOST_REMEMBERED):
                raise ValueError(f"a pickle of another kind ({opcode.name})")
    file.seek(start)
    for _ in range(pickles):
        looked = _Look(file)
        looked.load()
        claims.update(looked.claims)
    return claims


class _Look(pickle.Unpickler):
    """Unpickles plain values, and nothing in the place of tensors; keeps what their arrays claim."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.claims: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        called = f"{module}.{name}"
        if called == "collections.OrderedDict":
            return OrderedDict
        if called in _MADE:
            return _nothing
        if module in ("torch", "torch.storage") and name in _ITEM_BYTES:
            return _Kind(_ITEM_BYTES[name])
        raise pickle.UnpicklingError(f"{brief(called)}, which no weights are made of")

    def persistent_load(self, pid: Any) -> None:
        what, kind, key, _, count, *_ = pid
        if what != "storage" or not isinstance(kind, _Kind) or count < 0:
            raise pickle.UnpicklingError("no array")
        self.claims[str(key)] = max(self.claims.get(str(key), 0), count * kind.item_bytes)


class _Kind:
    """A kind of array, of which only the bytes of a number are known here."""

    def __init__(self, item_bytes: int) -> None:
        self.item_bytes = item_bytes


def _nothing(*_: Any) -> None:
    """Stand for a tensor."""
