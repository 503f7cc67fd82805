"""Blocks of whole records, whatever their size; shapes of files; what is no record."""

from __future__ import annotations

import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.replay import sources
from router.replay.records import records_of
from router.replay.rows import BadRow
from router.replay.sources import Block, LogError, Position, blocks, find_logs, size_of
from tests.support.logs import as_csv, as_lines, write

RECORDS: list[dict[str, Any]] = [
    {"model": "gpt-4", "prompt": 'A "quoted" word, and\na new line', "n": 1},
    {"model": "gpt-4", "prompt": "[{ not a bracket ]", "n": 2},
    {"model": "x", "prompt": "汉字 \\ \" }", "n": 3, "deep": {"list": [1, {"a": "]"}]}},
    {"model": "y", "prompt": "plain", "n": 4},
]  # fmt: skip


def read(paths: list[str], start: Position = Position(), block_bytes: int = 1 << 20) -> list[Any]:  # noqa: B008
    return [found for block in blocks(paths, start, block_bytes) for found in records_of(block, {})]


def numbers(found: list[Any]) -> list[int]:
    return [int(record["n"]) for _, record in found]


SHAPES = {
    "lines": as_lines(RECORDS),
    "lines without an end": as_lines(RECORDS).rstrip(),
    "byte order mark": b"\xef\xbb\xbf" + as_lines(RECORDS),
    "windows": as_lines(RECORDS).replace(b"\n", b"\r\n"),
    "blank lines": as_lines(RECORDS).replace(b"\n", b"\n\n"),
    "csv": as_csv([{**record, "deep": ""} for record in RECORDS]),
    "csv with semicolons": as_csv([{**record, "deep": ""} for record in RECORDS], delimiter=";"),
    "csv with tabs, as a spreadsheet writes it": (
        as_csv([{**record, "deep": ""} for record in RECORDS], delimiter="\t").decode().encode("utf-16")
    ),
    "array": json.dumps(RECORDS).encode(),
    "pretty array": json.dumps(RECORDS, indent=2, ensure_ascii=False).encode(),
    "wrapped": json.dumps({"object": "list", "data": RECORDS, "has_more": False}, indent=1).encode(),
    "pretty objects": "\n".join(json.dumps(record, indent=1) for record in RECORDS).encode(),
    "wrapped, one a line": as_lines([{"records": RECORDS[:2]}, {"records": RECORDS[2:]}]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("packed", [False, True])
def test_every_shape_gives_its_records_in_blocks_of_any_size(
    shape: str, block_bytes: int, packed: bool, tmp_path: Path
) -> None:
    content = SHAPES[shape]
    path = write(tmp_path / "log", gzip.compress(content) if packed else content)
    found = read([path], block_bytes=block_bytes)
    assert numbers(found) == [1, 2, 3, 4]
    assert [record["prompt"] for _, record in found] == [record["prompt"] for record in RECORDS]


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_can_go_on_behind_any_block(shape: str, tmp_path: Path) -> None:
    paths = [write(tmp_path / "a", SHAPES[shape]), write(tmp_path / "b.gz", gzip.compress(SHAPES[shape]))]
    parts = list(blocks(paths, block_bytes=32))
    assert numbers(read(paths)) == [1, 2, 3, 4] * 2
    for at, block in enumerate(parts):
        before = [found for part in parts[: at + 1] for found in records_of(part, {})]
        assert before + read(paths, block.next, 32) == read(paths)


def test_each_record_has_its_line(tmp_path: Path) -> None:
    lines = write(tmp_path / "lines", b"\n".join([b"", *SHAPES["lines"].splitlines()]))
    assert [line for line, _ in read([lines])] == [2, 3, 4, 5]
    table = write(tmp_path / "table", SHAPES["csv"])
    assert [line for line, _ in read([table])] == [2, 4, 5, 6]  # the first prompt has two lines
    array = write(tmp_path / "array", json.dumps([{"n": 1}, {"n": 2}], indent=1).encode())
    assert [line for line, _ in read([array], block_bytes=8)] == [2, 5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.text() | st.integers() | st.lists(st.text()), min_size=1)
        | st.none()
        | st.booleans()
        | st.integers()
        | st.text()
    ),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
)
def test_an_array_is_what_json_says_it_is(values: list[Any], block_bytes: int, indent: int | None) -> None:
    content = json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    stream = io.BytesIO(content)
    found = sources.array_blocks(stream.read, block_bytes, 1 << 20)
    assert [json.loads(element) for _, _, elements, _ in found for _, element in elements] == values


def bad(found: list[Any]) -> list[tuple[int, str]]:
    return [(line, record.kind) for line, record in found if isinstance(record, BadRow)]


def test_what_is_no_record_is_told_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "log", b'{"n": 1}\n{"n": \n[1]\n"text"\n\xff\xfe\n{"n": 2}\n')
    found = read([path])
    assert bad(found) == [(2, "broken record"), (3, "broken record"), (4, "broken record"), (5, "broken record")]
    assert [record["n"] for _, record in found if isinstance(record, dict)] == [1, 2]


def test_what_is_no_record_in_an_array_is_told_too(tmp_path: Path) -> None:
    found = read([write(tmp_path / "log", b'[1, "{\\"n\\": 1}",\n null, {"n": 2}]')], block_bytes=3)
    assert bad(found) == [(1, "broken record"), (1, "broken record"), (2, "broken record")]
    assert found[-1] == (2, {"n": 2})


def test_a_row_of_csv_has_the_columns_of_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", b"model,n\nx,1\nx\nx,2,3\nx,4\n")
    found = read([path])
    assert bad(found) == [(3, "broken record"), (4, "broken record")]
    assert [record["n"] for _, record in found if isinstance(record, dict)] == ["1", "4"]


@pytest.mark.parametrize("block_bytes", [16, 1 << 20])
def test_a_huge_line_is_passed_over(tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_RECORD_BYTES", 64)
    monkeypatch.setattr("router.replay.records.MAX_RECORD_BYTES", 64)
    huge = json.dumps({"n": 9, "prompt": "x" * 200}).encode()
    path = write(tmp_path / "log", b'{"n": 1}\n' + huge + b'\n{"n": 2}\n' + huge)
    found = read([path], block_bytes=block_bytes)
    assert bad(found) == [(2, "record too large"), (4, "record too large")]
    assert [record["n"] for _, record in found if isinstance(record, dict)] == [1, 2]


def test_a_huge_element_ends_an_array_and_a_cut_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = write(tmp_path / "cut", json.dumps([{"n": 1}, {"n": 2}]).encode()[:-6])
    assert [each[1] for each in bad(read([cut]))] == ["broken record"]
    monkeypatch.setattr(sources, "MAX_RECORD_BYTES", 64)
    huge = write(tmp_path / "huge", json.dumps([{"n": 1}, {"prompt": "x" * 200}, {"n": 2}]).encode())
    assert [each[1] for each in bad(read([huge], block_bytes=16))] == ["record too large"]


def test_folders_are_searched_and_nothing_is_read_twice(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    first = write(tmp_path / "a.jsonl", b"{}\n")
    second = write(tmp_path / "deep" / "b.csv.gz", gzip.compress(b"model,n\n"))
    write(tmp_path / "picture.png", b"")
    assert find_logs([str(tmp_path)]) == (first, second)
    assert size_of([first, second]) == sum(Path(name).stat().st_size for name in (first, second))
    with pytest.raises(LogError, match="twice"):
        find_logs([str(tmp_path), first])
    with pytest.raises(LogError, match="twice"):
        find_logs([first, str(tmp_path / "deep" / ".." / "a.jsonl")])
    with pytest.raises(LogError, match="twice"):
        find_logs(["-", "-"])
    with pytest.raises(LogError, match="no such file"):
        find_logs([str(tmp_path / "missing")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogError, match="no logs"):
        find_logs([str(tmp_path / "empty")])


def test_of_a_damaged_archive_all_is_read_that_precedes_the_damage(tmp_path: Path) -> None:
    lines = as_lines({"n": n, "noise": random.Random(n).random()} for n in range(20_000))
    packed = gzip.compress(lines)
    cut = write(tmp_path / "cut.gz", packed[: len(packed) // 2])
    found = read([cut])
    whole = [record["n"] for _, record in found if isinstance(record, dict)]
    assert whole == list(range(len(whole)))
    assert len(whole) > 5_000
    assert [kind for _, kind in bad(found)][-1] == "broken record"
    assert "damaged" in str(found[-1][1])
    junk = write(tmp_path / "junk.gz", packed[:10] + b"junk" * 99)
    assert "damaged" in str(read([junk])[-1][1])


@pytest.mark.parametrize(
    "content", [gzip.compress(SHAPES["lines"] * 50)[:-40], SHAPES["array"][:-6], SHAPES["pretty objects"][:-6], b"PAR1"]
)
def test_what_is_cut_off_is_told_once_however_often_one_goes_on(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "log", content)
    parts = list(blocks([path]))
    assert any(part.broken for part in parts)
    assert list(blocks([path], parts[-1].next)) == []


@pytest.mark.parametrize("most", [64, 1 << 20])
def test_a_quote_that_never_closes_takes_its_line_alone(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_RECORD_BYTES", most)
    rows = "".join(f"x,{n}\n" for n in range(1, 40))
    path = write(tmp_path / "log.csv", f'model,n\nx,"0\n{rows}'.encode())
    found = read([path], block_bytes=16)
    assert bad(found) == [(2, "broken record")]
    assert numbers([each for each in found if isinstance(each[1], dict)]) == list(range(1, 40))


def test_a_quote_amid_a_field_is_part_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", b'n,prompt\n1,a 5" pipe\n2,x\n3,y')
    assert [record["prompt"] for _, record in read([path], block_bytes=8)] == ['a 5" pipe', "x", "y"]


def test_columns_that_cannot_be_told_are_no_crash(tmp_path: Path) -> None:
    assert bad(read([write(tmp_path / "a.csv", b"model,\rn\nx,1\n")])) == [(2, "broken record")]
    assert numbers(read([write(tmp_path / "b.csv", b'model,"a"b,n\nx,,1\n')])) == [1]


def test_a_file_of_another_kind_says_which(tmp_path: Path) -> None:
    (found,) = read([write(tmp_path / "log.csv", b"PAR1\n,\n")])
    assert "Parquet" in str(found[1])


def test_an_empty_file_has_no_blocks(tmp_path: Path) -> None:
    assert [block for block in blocks([write(tmp_path / "log", b"")]) if isinstance(block, Block)] == []
