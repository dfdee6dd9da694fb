"""JSON from disk is parsed strictly: what no file of ours says is refused in one line, whatever its size."""

from __future__ import annotations

import json
import math

import pytest

from napari_metastasis.plain_json import PlainJsonError, parse_json, read_json

#: Longer than what is parsed number by number.
PADDING = "x" * 5000


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 200 + "]" * 200, "inside each other"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "inside each other"),
        ("1" * 400, "an integer of more than 40 digits"),
        ("-" + "1" * 5000, "an integer of more than 40 digits"),
        ("1e400", "a number too large"),
        ("-1.5E+999", "a number too large"),
        ("1" * 400 + ".5", "a number too large"),
        ("NaN", "no number"),
        ("-Infinity", "no number"),
        (r'"\ud800"', "half of a character"),
        (r'{"\uDFFF": 1}', "half of a character"),
        ("{", "Expecting"),
        ("1 2", "Expecting"),
        ('"\0"', "control character"),
    ],
)
def test_what_no_file_of_ours_says_is_refused_in_one_line(text, reason, padded):
    document = f'["{PADDING}", {text}]' if padded else f"[{text}]"
    with pytest.raises(PlainJsonError, match=reason) as caught:
        parse_json(document)
    assert "\n" not in str(caught.value)
    with pytest.raises(PlainJsonError, match=reason):
        parse_json(document.encode())


def test_bytes_that_are_no_text_are_refused():
    for data in (b"\xff\xfe{}", b'"\xed\xa0\x80"', '"\ud800"'):
        with pytest.raises(PlainJsonError, match="UTF-8"):
            parse_json(data)


@pytest.mark.parametrize("value", [0.1, 1e308, 5e-324, 10**39, -(2**63), [[[1.5], {}]], {"e123": "µ 1e400 [[[[ \\"}])
def test_all_else_is_read_as_json_reads_it(value):
    for document in (value, [PADDING, value], ["[" * 500, value], ["1e400", value, '"']):
        text = json.dumps(document)
        assert parse_json(text) == parse_json(text.encode("utf-8-sig")) == document


def test_nan_is_read_as_null_where_other_programs_write_it():
    assert parse_json('{"a": NaN, "b": [-Infinity, 1.5]}', nan_as_null=True) == {"a": None, "b": [None, 1.5]}
    assert math.isnan(json.loads("NaN"))
    with pytest.raises(PlainJsonError, match="too large"):
        parse_json("[1e400]", nan_as_null=True)


def test_a_file_of_another_size_is_not_held(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(PlainJsonError, match="more than 16 MiB"):
        read_json(path)
    path.write_text("[1]")
    assert read_json(path) == [1]
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


def test_what_lies_across_the_pieces_of_a_large_text_is_seen(monkeypatch):
    """A large text is looked at piece by piece."""
    monkeypatch.setattr("napari_metastasis.plain_json._PIECE_BYTES", 5000)
    for before in range(4900, 5010):
        with pytest.raises(PlainJsonError, match="too large"):
            parse_json(f'["{"x" * before}",1e400]')
        with pytest.raises(PlainJsonError, match="too large"):
            parse_json(f'["{"x" * before}",{"1" * 310}.5]')
    deep = ", ".join(["[" * 60 + f'"{"x" * 4000}"'] * 3) + "]" * 180
    with pytest.raises(PlainJsonError, match="inside each other"):
        parse_json(f"[{deep}]")
