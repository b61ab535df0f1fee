"""Make the embedded emoji set from the Noto Color Emoji font: two sheets of pictures and their captions.

    apt-get install fonts-noto-color-emoji
    pip install fonttools && pip download --no-deps emoji && unzip emoji-*.whl -d emoji-pypi
    npm pack emoji-datasource-google && tar xzf emoji-datasource-google-*.tgz package/emoji.json
    python tools/make_emoji.py FONT.ttf emoji-pypi package/emoji.json

Every fully-qualified emoji without a skin tone that the font draws is kept, in the order of the Unicode
charts. The font's 136x128 bitmaps are laid on white, centred in a square and scaled down with antialiasing.
It takes some minutes. Names are those of CLDR; categories are those of emoji-test.txt. Then
make_emoji_captions.py gives them their captions.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTFont
from PIL import Image

OUT = Path(__file__).parents[1] / "src/unstir/data/embedded"
SIZES = (32, 64)
COLUMNS = 44
SKIN_TONES = {chr(c) for c in range(0x1F3FB, 0x1F400)}
VARIATION_SELECTOR = "\ufe0f"
FULLY_QUALIFIED = 2


class Font:
    """Finds the bitmap of a character sequence: `cmap`, then the ligatures that join its glyphs into one."""

    def __init__(self, path: str) -> None:
        font = TTFont(path, lazy=True)
        self.glyphs = font.getBestCmap()
        self.bitmaps = font["CBDT"].strikeData[0]
        self.ligatures: dict[tuple[str, ...], str] = {}
        for lookup in font["GSUB"].table.LookupList.Lookup:
            for table in lookup.SubTable:
                table = getattr(table, "ExtSubTable", table)
                for first, choices in getattr(table, "ligatures", {}).items():
                    self.ligatures |= {(first, *choice.Component): choice.LigGlyph for choice in choices}

    def picture(self, sequence: str) -> Image.Image | None:
        """The RGBA bitmap of an emoji; None when the font has no single glyph for it."""
        names = tuple(self.glyphs.get(ord(c), "") for c in sequence if c != VARIATION_SELECTOR)
        glyph = names[0] if len(names) == 1 else self.ligatures.get(names)
        if glyph not in self.bitmaps:
            return None
        return Image.open(io.BytesIO(self.bitmaps[glyph].imageData)).convert("RGBA")


def square(picture: Image.Image) -> Image.Image:
    """The picture on white, centred in the smallest square that holds it."""
    side = max(picture.size)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return canvas.convert("RGB")


def entries(names: dict[str, dict[str, Any]], datasource: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Character, caption, category and subcategory of every wanted emoji, in chart order."""
    found = []
    for entry in sorted(datasource, key=lambda e: e["sort_order"]):
        char = "".join(chr(int(code, 16)) for code in entry["unified"].split("-"))
        known = names.get(char)
        if known and known["status"] == FULLY_QUALIFIED and not SKIN_TONES & set(char):
            caption = known["en"].strip(":").replace("_", " ")
            found.append({
                "char": char,
                "caption": caption,
                "category": entry["category"],
                "subcategory": entry["subcategory"],
            })  # fmt: skip
    return found


def sheet(pictures: list[Image.Image], size: int) -> Image.Image:
    rows = -(-len(pictures) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * size, rows * size), "white")
    for i, picture in enumerate(pictures):
        place = (i % COLUMNS * size, i // COLUMNS * size)
        canvas.paste(picture.resize((size, size), Image.Resampling.LANCZOS), place)
    return canvas


def main(font_path: str, emoji_package: str, datasource_path: str) -> None:
    sys.path.insert(0, emoji_package)
    from emoji import EMOJI_DATA

    font = Font(font_path)
    datasource = json.loads(Path(datasource_path).read_text())
    wanted = entries(EMOJI_DATA, datasource)
    drawn = [(entry, picture) for entry in wanted if (picture := font.picture(entry["char"]))]
    pictures = [square(picture) for _, picture in drawn]
    for size in SIZES:
        path = OUT / f"emoji-{size}.webp"
        sheet(pictures, size).save(path, lossless=True, quality=100, method=6)
        print(f"{path}: {path.stat().st_size:,} bytes")
    lines = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry, _ in drawn)
    (OUT / "emoji.json").write_text(f"[\n{lines}\n]\n")
    missing = [entry["caption"] for entry in wanted if not font.picture(entry["char"])]
    print(f"{len(drawn):,} of {len(wanted):,} emoji; the font lacks: {', '.join(missing) or 'none'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
