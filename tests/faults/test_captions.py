"""Captions that are damaged, missing, empty, too long or of nothing: named with their line, never silently lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data import captions as reader, open_data, parquet
from unstir.data.folder import read_folder
from unstir.data.items import Items
from unstir.errors import DataError

GOOD = [{"file": f"{k}.png", "text": f"item {k}"} for k in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(3):
        Image.fromarray(np.full((8, 8, 3), 40 * k, np.uint8)).save(tmp_path / f"{k}.png")
    return tmp_path


def read(folder: Path, text: str | bytes, name: str = "captions.jsonl") -> Items:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return read_folder(folder, workers=0)


def texts(items: Items) -> list[list[str]]:
    return [[caption.text for caption in some] for some in items.captions or []]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"file": "1.png", "text": "cut off', "no JSON: Unterminated string starting at (character 27)"),
        ("[" * 100_000, "no JSON"),
        ('["1.png", "a"]', "no object"),
        ("12", "12 is no object"),
        ('{"text": "of what"}', "no file"),
        ('{"file": "", "text": "of what"}', "no file"),
        ('{"file": 3, "text": "of what"}', "no file"),
        ('{"file": "1.png", "text": 3}', "the caption is 3"),
        ('{"file": "1.png", "text": ["a", null]}', "the caption is ['a', None]"),
        ('{"file": "1.png", "text": {"en": "a"}}', "the caption is {'en': 'a'}"),
        ('{"file": "1.png", "text": "a", "weight": -1}', "the weight is -1"),
        ('{"file": "1.png", "text": "a", "weight": NaN}', "the weight is nan"),
        ('{"file": "1.png", "text": "a", "weight": Infinity}', "the weight is inf"),
        ('{"file": "1.png", "text": "a", "weight": 1' + "0" * 400 + "}", "the weight is 1000"),
        ('{"file": "1.png", "text": "a", "weight": "much"}', "the weight is 'much'"),
        ('{"file": "1.png", "text": ["a", "b"], "weight": [0, 0]}', "no caption is ever drawn"),
        ('{"file": "1.png", "text": ["a", "b"], "weight": 1e308}', "the weight is 1e+308"),
        ('{"file": "1.png", "text": "a", "weight": true}', "the weight is True"),
        ('{"file": "1.png", "text": ["a", "b"], "weight": [1]}', "1 weights for 2 captions"),
        ('{"file": "1.png", "text": "half \\ud83d"}', "half of a surrogate pair"),
        ('{"file": "1.png", "text": "' + "x" * 2**20 + '"}', "a line of more than 1,048,576 bytes"),
    ],
)
def test_a_malformed_line_is_named_and_the_others_are_read(folder: Path, line: str, what: str) -> None:
    items = read(folder, "\n".join([json.dumps(GOOD[0]), line, json.dumps(GOOD[2])]))
    assert texts(items) == [["item 0"], [], ["item 2"]]
    (fault,) = items.bad_captions
    assert (fault.path, fault.code) == ("captions.jsonl:2", "caption")
    assert what in fault.detail
    assert any("1 lines of captions cannot be read: captions.jsonl:2" in note for note in items.notes)


def test_too_many_malformed_lines_are_refused_with_their_numbers(folder: Path, tmp_path: Path) -> None:
    (folder / "captions.jsonl").write_text("\n".join([*map(json.dumps, GOOD), "{", "}"]))
    with pytest.raises(DataError, match=r"2 of 5 captions are bad") as caught:
        open_data(folder, report=tmp_path / "bad.jsonl")
    assert "captions.jsonl:4: caption (no JSON" in caught.value.message
    assert caught.value.hint == "repair or remove them, or accept them with max_bad=0.4"
    listed = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [line["path"] for line in listed] == ["captions.jsonl:4", "captions.jsonl:5"]
    train, _ = open_data(folder, max_bad=0.4, heldout=0)
    assert train.texts == ["item 0", "item 1", "item 2"]


@pytest.mark.parametrize(
    ("rows", "number", "what"),
    [
        (["0.png,a", "1.png,red, green", "2.png,c"], 3, "3 fields, the first line names 2"),
        (["0.png,a", '1.png,"b"x', "2.png,c"], 3, "no CSV"),
        (["0.png,a", "1.png", "2.png,c"], 3, "1 fields"),
        (["0.png,a", "2.png,c", '1.png,"open'], 4, "no CSV: unexpected end"),
        (["0.png,a", '2.png,"c"', "", "1.png,b,b"], 5, "3 fields"),
    ],
)
def test_a_malformed_row_of_csv_is_named(folder: Path, rows: list[str], number: int, what: str) -> None:
    items = read(folder, "\r\n".join(["file_name,text", *rows]), "metadata.csv")
    assert texts(items) == [["a"], [], ["c"]]
    (fault,) = items.bad_captions
    assert fault.path == f"metadata.csv:{number}"
    assert what in fault.detail


def test_every_line_that_an_open_quote_swallows_counts(folder: Path) -> None:
    rows = ["file_name,text", "0.png,a", '1.png,"open', *["2.png,c"] * 100]
    items = read(folder, "\n".join(rows), "metadata.csv")
    assert [fault.path for fault in items.bad_captions] == [f"metadata.csv:{n}" for n in range(3, 104)]


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.csv", "1.txt"])
def test_a_line_that_is_no_utf8_is_named(folder: Path, name: str) -> None:
    rows = {
        "captions.jsonl": [b'{"file": "1.png", "text": "one"}', b'{"file": "1.png", "text": "caf\xe9"}'],
        "metadata.csv": [b"file_name,text", b"1.png,one", b"1.png,caf\xe9"],
        "1.txt": [b"one", b"caf\xe9"],
    }[name]
    items = read(folder, b"\n".join(rows), name)
    assert texts(items) == [[], ["one"], []]
    assert [fault.path for fault in items.bad_captions] == [f"{name}:{len(rows)}"]
    assert "no UTF-8 at byte" in items.bad_captions[0].detail


def test_captions_of_nothing_and_of_unreadable_pictures(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    lines = [*GOOD, {"file": "gone.png", "text": "x"}, {"file": "../0.png", "text": "y"}]
    lines.append({"file": "broken.png", "text": "of a file that is there"})
    items = read(folder, "\n".join(map(json.dumps, lines)))
    assert [fault.path for fault in items.bad] == ["broken.png"]
    assert texts(items) == [["item 0"], ["item 1"], ["item 2"]]
    assert any(
        "2 captions are of files that are not there: gone.png, ../0.png" in note for note in items.notes
    )


def test_empty_captions_are_none(folder: Path) -> None:
    lines = [
        {"file": "0.png", "text": ""},
        {"file": "1.png", "text": [" ", "one"]},
        {"file": "2.png", "text": None},
    ]
    items = read(folder, "\n".join(map(json.dumps, lines)))
    assert texts(items) == [[], ["one"], []]
    assert any("3 captions are empty" in note for note in items.notes)
    (folder / "captions.jsonl").unlink()
    (folder / "0.txt").write_text(" \n\n")
    items = read_folder(folder, workers=0)
    assert items.captions is None
    assert any("1 captions are empty" in note for note in items.notes)


def test_a_very_long_caption_is_cut_and_it_is_said(folder: Path) -> None:
    items = read(folder, json.dumps({"file": "0.png", "text": "word " * 100_000}))
    (text,) = texts(items)[0]
    assert len(text) <= reader.LONGEST
    assert text.endswith("word")
    assert any("1 captions are cut to 10,000 characters" in note for note in items.notes)


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_table_of_something_else_is_left_aside(folder: Path, name: str) -> None:
    text = "file_name,age\n0.png,3\n" if name.endswith("csv") else '{"file_name": "0.png", "age": 3}\n'
    items = read(folder, text, name)
    assert (items.captions, items.bad_captions) == (None, ())
    assert any(f"{name} is not used for captions" in note and "age" in note for note in items.notes)


def test_a_table_of_captions_with_other_names_of_columns_is_refused(folder: Path) -> None:
    (folder / "captions.jsonl").write_text('{"path": "0.png", "words": "a"}\n' * 3)
    with pytest.raises(
        DataError, match="needs file_name, file, image and text, caption, prompt; its columns are path"
    ):
        open_data(folder)


def test_a_table_that_may_not_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "captions.jsonl").write_text(json.dumps(GOOD[0]))

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setitem(reader._READERS, ".jsonl", refuse)
    with pytest.raises(DataError, match=r"cannot read captions\.jsonl: Permission denied"):
        read_folder(folder, workers=0)


def test_parquet_without_pyarrow_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "metadata.parquet").write_bytes(b"PAR1")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(parquet, "import_module", missing)
    with pytest.raises(DataError, match="pyarrow is not installed") as caught:
        read_folder(folder, workers=0)
    assert "unstir[parquet]" in (caught.value.hint or "")


def test_damaged_parquet_is_an_error(folder: Path) -> None:
    pytest.importorskip("pyarrow")
    (folder / "metadata.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match=r"cannot read .*metadata\.parquet"):
        read_folder(folder, workers=0)


def test_links_to_captions_outside_the_folder_are_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(inside / "0.png")
    (tmp_path / "captions.jsonl").write_text(json.dumps(GOOD[0]))
    (inside / "captions.jsonl").symlink_to(tmp_path / "captions.jsonl")
    items = read_folder(inside, workers=0)
    assert items.captions is None
    assert [(fault.path, fault.code) for fault in items.bad] == [("captions.jsonl", "outside")]


def test_a_parquet_file_without_images_is_an_error(tmp_path: Path) -> None:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    writer.write_table(arrow.table({"text": ["a"]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="has no column of images, only text"):
        open_data(tmp_path / "x.parquet", cache=tmp_path)
    with pytest.raises(DataError, match="has no column of images, only text"):
        open_data(tmp_path, cache=tmp_path)
