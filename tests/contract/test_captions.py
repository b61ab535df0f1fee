"""Captions: several per item, drawn by weight; read from texts and tables; told of in the report."""

from __future__ import annotations

import csv
import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unstir.data import Caption, Dataset, describe, describe_lines, open_data
from unstir.data.folder import read_folder
from unstir.data.items import Items, content_keys
from unstir.data.words import common_words
from unstir.rng import Rng

TOOLS = Path(__file__).parents[2] / "tools"


def write(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), value, np.uint8)
    pixels[0, 0] = (255, 0, value)
    Image.fromarray(pixels).save(path)


def captioned(captions: list[tuple[Caption, ...]] | None, n: int = 3) -> Dataset:
    x = np.arange(n * 12, dtype=np.uint8).reshape(n, 2, 2, 3)
    names = [str(k) for k in range(n)]
    return Dataset("test", Items(pixels=x, keys=content_keys(x), names=names, captions=captions))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, name in enumerate(("a.png", "b.png", "deep/c.png")):
        write(tmp_path / name, k)
    return tmp_path


def told(folder: Path) -> dict[str, dict[str, float]]:
    """What the folder tells of each image: {text: weight}."""
    items = read_folder(folder, workers=0)
    captions = items.captions or [()] * len(items)
    return {name: dict(some) for name, some in zip(items.names, captions, strict=True)}


def lines(folder: Path, *rows: object, name: str = "captions.jsonl") -> None:
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows), "utf-8")


# -- drawing ----------------------------------------------------------------------------------------------
def test_captions_are_drawn_by_weight() -> None:
    few = (Caption("rare"), Caption("often", 6.0), Caption("never", 0.0), Caption("some", 3.0))
    data = captioned([few, (), (Caption("one", 5.0),)])
    n = 20_000
    counts = Counter(data.caption(np.zeros(n, int), Rng.of(0, n)))
    for text, weight in few:
        p = weight / 10
        assert abs(counts[text] - n * p) <= 4 * (n * p * (1 - p)) ** 0.5  # 4 standard deviations
    assert data.caption(np.array([1, 2]), Rng.of(0, 2)) == ["", "one"]
    assert data.texts == ["often", "", "one"]


def test_a_drawn_caption_depends_on_its_own_generator_alone() -> None:
    data = captioned([tuple(Caption(str(k)) for k in range(9))] * 3)
    all_of_them = data.caption(np.array([0, 1, 2, 0]), Rng([5, 6, 7, 8]))
    assert data.caption(np.array([2, 0]), Rng([7, 8])) == all_of_them[2:]
    assert data.caption(np.array([0, 1, 2, 0]), Rng([5, 6, 7, 8])) == all_of_them


def test_parts_of_a_set_keep_their_captions() -> None:
    captions = [(Caption(f"item {k}"),) for k in range(40)]
    train, heldout = captioned(captions, 40).split(0.3)
    for part in (train, heldout):
        assert part.texts == [f"item {name}" for name in part.names]
        assert part.caption(np.arange(len(part)), Rng.of(0, len(part))) == part.texts
    assert captioned(None).caption(np.arange(3), Rng.of(0, 3)) == ["", "", ""]
    assert (captioned(None).captions, captioned(None).texts) == (None, None)


def test_the_fingerprint_is_of_the_captions_too_where_there_are_any() -> None:
    marks = {
        name: captioned(captions).info.fingerprint
        for name, captions in {
            "none": None,
            "empty": [(), (), ()],
            "one": [(Caption("a"),), (), ()],
            "another": [(Caption("b"),), (), ()],
            "elsewhere": [(), (Caption("a"),), ()],
            "heavier": [(Caption("a", 2.0),), (), ()],
            "two": [(Caption("a"), Caption("b")), (), ()],
        }.items()
    }
    assert marks["none"] == marks.pop("empty")
    assert len(set(marks.values())) == len(marks)


# -- reading ----------------------------------------------------------------------------------------------
def test_each_line_of_a_text_is_a_caption(folder: Path) -> None:
    (folder / "a.txt").write_bytes("\ufeffa red fox\r\n\r\n  the  fox\tjumps \r\na red fox".encode())
    (folder / "deep/c.txt").write_text("of c")
    assert told(folder) == {
        "a.png": {"a red fox": 2, "the fox jumps": 1},
        "b.png": {},
        "deep/c.png": {"of c": 1},
    }


@pytest.mark.parametrize("name", ["captions.jsonl", "metadata.jsonl"])
@pytest.mark.parametrize("file", ["file_name", "file", "image"])
@pytest.mark.parametrize("text", ["text", "caption", "prompt"])
def test_lines_of_json(folder: Path, name: str, file: str, text: str) -> None:
    rows: list[object] = [
        {file: "a.png", text: "one"},
        {file: "./a.png", text: ["two", "three"], "weight": 2, "other": None},
        {file: "deep/c.png", text: ["x", "y"], "weights": [0.5, 3]},
    ]
    lines(folder, *rows, name=name)
    expected = {"a.png": {"one": 1, "two": 2, "three": 2}, "b.png": {}, "deep/c.png": {"x": 0.5, "y": 3}}
    assert told(folder) == expected


def test_a_table_names_files_relative_to_itself(folder: Path) -> None:
    lines(folder / "deep", {"file_name": "c.png", "text": "c"}, {"file_name": "../a.png", "text": "a"})
    assert told(folder) == {"a.png": {"a": 1}, "b.png": {}, "deep/c.png": {"c": 1}}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_with_commas_quotes_and_lines_in_quotes(folder: Path, end: str, mark: str) -> None:
    texts = ['red, "green" and blue', "two\nlines", "猫"]
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        writer = csv.writer(file, lineterminator=end)
        writer.writerow(["file_name", "text", "weight"])
        writer.writerows(
            [["a.png", texts[0], ""], ["b.png", texts[1], "2.5"], ["deep\\c.png", texts[2], "1"]]
        )
    expected = {"a.png": {texts[0]: 1}, "b.png": {"two lines": 2.5}, "deep/c.png": {"猫": 1}}
    assert told(folder) == expected


def test_names_and_texts_are_compared_in_composed_form(tmp_path: Path) -> None:
    apart, together = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    assert apart != together
    write(tmp_path / f"{apart}.png", 1)
    write(tmp_path / f"{together} 2.png", 2)
    (tmp_path / f"{together}.txt").write_text(apart)
    lines(tmp_path, {"file": f"{apart} 2.png", "text": f"un {apart}"})
    assert told(tmp_path) == {f"{apart}.png": {together: 1}, f"{together} 2.png": {f"un {together}": 1}}


def test_sources_that_differ_all_count_and_it_is_said(folder: Path) -> None:
    (folder / "a.txt").write_text("a cat")
    (folder / "b.txt").write_text("a dog")
    lines(folder, {"file": "a.png", "text": "a lion"}, {"file": "b.png", "text": "a dog"})
    items = read_folder(folder, workers=0)
    assert told(folder)["a.png"] == {"a cat": 1, "a lion": 1}
    assert told(folder)["b.png"] == {"a dog": 2}
    assert any("1 images have different captions in two sources" in note for note in items.notes)


def test_parquet_beside_the_files(folder: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "image": [{"bytes": b"0" * 9, "path": "a.png"}, {"bytes": b"1", "path": "deep/c.png"}],
        "text": [["one", "two"], ["three"]],
        "label": [0, 1],
    }
    parquet.write_table(arrow.table(columns), folder / "metadata.parquet")
    assert told(folder) == {"a.png": {"one": 1, "two": 1}, "b.png": {}, "deep/c.png": {"three": 1}}
    columns = {"file_name": ["b.png", None], "caption": ["b", "nothing"], "weight": [2.0, 1.0]}
    parquet.write_table(arrow.table(columns), folder / "metadata.parquet")
    assert told(folder)["b.png"] == {"b": 2}
    assert [fault.path for fault in read_folder(folder, workers=0).bad_captions] == ["metadata.parquet:2"]


@pytest.mark.parametrize("whole", [True, False])
def test_images_inside_parquet(tmp_path: Path, whole: bool) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for k in range(5):
        write(tmp_path / "pictures" / f"{k}.png", 40 * k)
    encoded = [(tmp_path / "pictures" / f"{k}.png").read_bytes() for k in range(5)]
    columns = {
        "image": [{"bytes": data, "path": None} for data in (*encoded, b"no picture")],
        "caption": [["zero", "nought"], ["one"], ["two"], ["three"], [], ["bad"]],
        "label": [0, 1, 0, 1, 0, 1],
    }
    noted = {"huggingface": json.dumps({"info": {"features": {"label": {"names": ["even", "odd"]}}}})}
    table = arrow.table(columns).replace_schema_metadata(noted)
    (tmp_path / "set").mkdir()
    parquet.write_table(table.slice(0, 6 if whole else 3), tmp_path / "set/train-0.parquet")
    if not whole:
        parquet.write_table(table.slice(3), tmp_path / "set/train-1.parquet")
    source = tmp_path / ("set/train-0.parquet" if whole else "set")
    data, _ = open_data(source, heldout=0, max_bad=0.5, cache=tmp_path / "cache")
    captions = [{caption.text for caption in some} for some in data.captions or []]
    by_value = {int(x[4, 4, 0]): told for x, told in zip(data.x, captions, strict=True)}
    assert by_value == {0: {"zero", "nought"}, 40: {"one"}, 80: {"two"}, 120: {"three"}, 160: set()}
    assert (data.info.classes, data.info.class_counts, data.info.bad) == (("even", "odd"), (3, 2), 1)
    again, _ = open_data(source, heldout=0, max_bad=0.5, cache=tmp_path / "cache")
    assert again.info.fingerprint == data.info.fingerprint
    assert len(list((tmp_path / "cache/unpacked").iterdir())) == 1


def test_changed_captions_are_read_although_the_pixels_are_kept(folder: Path, tmp_path: Path) -> None:
    (folder / "a.txt").write_text("before")
    first = open_data(folder, heldout=0, cache=tmp_path / "cache")[0]
    (folder / "a.txt").write_text("after")
    second = open_data(folder, heldout=0, cache=tmp_path / "cache")[0]
    assert (first.texts or [])[0] == "before"
    assert (second.texts or [])[0] == "after"
    assert first.info.fingerprint != second.info.fingerprint


# -- telling ----------------------------------------------------------------------------------------------
def test_the_report_tells_of_the_captions(folder: Path) -> None:
    lines(
        folder,
        {"file": "a.png", "text": ["a red fox", "the fox runs in snow"]},
        {"file": "deep/c.png", "text": "a red fox"},
        {"file": "gone.png", "text": "of nothing"},
        {"file": "b.png", "text": " "},
    )
    description = describe(*open_data(folder, heldout=0))
    told = description["told"]
    assert (told["items"], told["without"], told["captions"], told["fewest"], told["most"]) == (2, 1, 3, 1, 2)
    assert told["length"] == [3, 3, 5]
    assert told["words"][:2] == [("red", 2), ("fox", 2)]
    assert (told["shared"], told["shared_by"], told["shared_texts"]) == (1, 2, [("a red fox", 2)])
    text = "\n".join(describe_lines(description))
    assert "captions 3 for 2 of 3 items, 1 without; 1 to 2 each, of 3 to 5 words, in the middle 3" in text
    assert "1 captions are of files that are not there: gone.png" in text
    assert "1 captions are empty" in text
    json.dumps(description)


def test_words_are_counted_once_for_each_text() -> None:
    assert common_words(["The cat, a CAT", "cat and dog", "dog’s"], 2) == [("cat", 2), ("dog", 2)]


# -- emoji ------------------------------------------------------------------------------------------------
def test_emoji_have_several_captions_each_and_their_name_weighs_most() -> None:
    train, heldout = open_data("emoji", size=8, labels=False)
    captions = dict(
        zip(
            train.names + heldout.names,
            (train.captions or []) + (heldout.captions or []),
            strict=True,
        )
    )
    assert all(captions.values())
    assert all(max(some, key=lambda caption: caption.weight) == some[0] for some in captions.values())
    assert sum(map(len, captions.values())) > 5_000
    sweden = {caption.text for caption in captions["\U0001f1f8\U0001f1ea"]}
    assert {"flag of Sweden", "Swedish flag"} <= sweden
    assert "man with red hair" in {caption.text for caption in captions["\U0001f468\u200d\U0001f9b0"]}
    names = [some[0].text for some in captions.values()]
    assert len(set(names)) == len(names)


# -- the set that text-to-emoji is trained on -------------------------------------------------------------
@pytest.fixture(scope="module")
def tools() -> Iterator[None]:
    pytest.importorskip("scipy")
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def tool(tools: None) -> Any:
    return import_module("make_emoji_text")


@pytest.fixture(scope="module")
def judge(tools: None) -> Any:
    return import_module("emoji_colour")


HUES = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")


def test_the_judge_names_the_colours_that_unicode_names(tool: Any, judge: Any) -> None:
    emoji = {one.name: one.picture for one in tool.embedded(64)}
    for colour in HUES:
        for thing in ("heart", "circle"):
            picture = emoji.get(f"{colour} {thing}")
            assert picture is None or judge.shares(picture)[colour] > 0.6
    for name, colour in {
        "red apple": "red", "green apple": "green", "tangerine": "orange", "lemon": "yellow", "frog": "green",
        "eggplant": "purple", "whale": "blue", "cherry blossom": "pink", "teddy bear": "brown", "elephant": "grey",
        "ghost": "white", "grinning face": "yellow", "polar bear": "white", "pig face": "pink", "star": "yellow",
    }.items():  # fmt: skip
        assert judge.colour_of(emoji[name]) == colour, name
    assert judge.colour_of(np.full((64, 64, 3), 255, np.uint8)) is None


@pytest.mark.parametrize("name", ["red apple", "elephant", "grinning face", "eggplant"])
def test_recolouring_changes_the_main_colour_and_leaves_white_and_the_rest(
    tool: Any, judge: Any, name: str
) -> None:
    picture = next(one.picture for one in tool.embedded(64) if one.name == name)
    region = judge.dominant(picture)
    for colour in HUES:
        changed = judge.recolour(picture, colour)
        assert judge.colour_of(changed) == colour
        assert (abs(changed[region.weight == 0].astype(int) - picture[region.weight == 0]) == 0).all()
        white = (picture == 255).all(-1)
        assert (changed[white] == 255).all()


def test_no_item_of_the_training_set_teaches_a_pair_held_out(tool: Any, judge: Any) -> None:
    """The tool's own logic on a part of the emoji, judged by another way to look for pairs."""
    things = tool.objects()
    wanted = ("apple", "heart", "cat", "book", "square", "star", "mouse", "horse", "car", "automobile")
    emoji = [one for one in tool.embedded(64) if any(word in one.name.split() for word in wanted)]
    items, pairs = tool.training_set(emoji, things, count=8)
    assert len(pairs) == len({pair.object for pair in pairs}) == 8
    for pair in pairs:
        words = [text.lower().replace("gray", "grey").split() for item in items for text in item.captions]
        assert not any(
            pair.colour in text and all(word.lower() in text for word in name.split())
            for text in words
            for name in pair.names
        )
        of_it = [item for item in items if any(text.endswith(pair.object) for text in item.captions)]
        assert of_it
        assert all(judge.colour_of(item.picture) != pair.colour for item in of_it)
        assert any(
            item.file.endswith(f"-{pair.colour}") for item in items
        )  # the colour is learned from others
        assert sum(text.endswith(f" {pair.object}") for item in items for text in item.captions) >= 3
    again, same = tool.training_set(emoji, things, count=8)
    assert same == pairs
    assert [item.file for item in again] == [item.file for item in items]


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        ("blue apple", True), ("a gray car", False), ("Apples in BLUE", True), ("blue heart", False),
        ("apple, blue-ish", False), ("an apple on a blue table", True), ("red apple", False),
    ],
)  # fmt: skip
def test_what_names_a_pair(tool: Any, text: str, leak: bool) -> None:
    assert tool.names_pair(text, tool.Pair("blue", "apple", ("apple", "red apple"))) is leak


def test_the_prompts_held_out_are_those_of_the_tool(tool: Any) -> None:
    prompts = json.loads(tool.PROMPTS.read_text())
    things, emoji = tool.objects(), tool.embedded(64)
    pairs = prompts["compositional"]
    assert len(pairs) == len({pair["object"] for pair in pairs}) == 150
    counts = Counter(pair["colour"] for pair in pairs)
    assert set(counts) == set(HUES)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert {pair["object"] for pair in pairs} <= set(things.values())
    names = {word: name for name, word in things.items()}
    told = {text for one in emoji for text in one.captions}
    for pair in pairs:
        assert pair["prompt"] == f"{pair['colour']} {pair['object']}"
        made = tool.Pair(pair["colour"], pair["object"], (pair["object"], names[pair["object"]]))
        assert not any(tool.names_pair(text, made) for text in told)
    assert len(prompts["sheet"]) == 64
    held = {pair["prompt"] for pair in pairs}
    assert sum(prompt in held for prompt in prompts["sheet"]) == 8
    assert all(prompt in told or prompt in held for prompt in prompts["sheet"])
