"""Give the embedded emoji their captions: the Unicode name in plain words, other ways to say it, keywords.

    npm pack cldr-annotations-modern@45 cldr-annotations-derived-modern@45, each unpacked with tar
    python tools/make_emoji_captions.py annotations/en/annotations.json annotationsDerived/en/annotations.json

Rewrites `captions` in emoji.json: {text: weight}, the name first and heaviest. The name is drawn in half of
the cases or more, the other ways to say it twice as often as a keyword. A keyword is left out that says little, because
more than `COMMON` emoji have it ("face", "person", "flag"), or that is the name of another emoji.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parents[1] / "src/unstir/data/embedded/emoji.json"
COMMON = 5
KEYWORDS = 4  # for one emoji, the rarest
EMPTY = {
    "no",
    "not",
    "forbidden",
    "prohibited",
    "non",
    "right",
    "left",
    "up",
    "down",
    "small",
    "large",
    "big",
}
"""Keywords that ask for no picture."""
COLOURS = {
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "grey",
    "gray",
}
ARTICLES = re.compile(
    r"United|Netherlands|Philippines|Bahamas|Maldives|Seychelles|.*(Islands|Republic)$|Isle|Gambia"
)
PEOPLES = {
    "Argentina": "Argentine", "Australia": "Australian", "Austria": "Austrian", "Belgium": "Belgian",
    "Brazil": "Brazilian", "Canada": "Canadian", "Chile": "Chilean", "China": "Chinese", "Colombia": "Colombian",
    "Cuba": "Cuban", "Czechia": "Czech", "Denmark": "Danish", "Egypt": "Egyptian", "Ethiopia": "Ethiopian",
    "Finland": "Finnish", "France": "French", "Germany": "German", "Greece": "Greek", "Hungary": "Hungarian",
    "Iceland": "Icelandic", "India": "Indian", "Indonesia": "Indonesian", "Iran": "Iranian", "Ireland": "Irish",
    "Israel": "Israeli", "Italy": "Italian", "Jamaica": "Jamaican", "Japan": "Japanese", "Kenya": "Kenyan",
    "Mexico": "Mexican", "Morocco": "Moroccan", "Nepal": "Nepali", "Netherlands": "Dutch", "Nigeria": "Nigerian",
    "Norway": "Norwegian", "Pakistan": "Pakistani", "Peru": "Peruvian", "Poland": "Polish",
    "Portugal": "Portuguese", "Romania": "Romanian", "Russia": "Russian", "South Africa": "South African",
    "South Korea": "South Korean", "Spain": "Spanish", "Sweden": "Swedish", "Switzerland": "Swiss",
    "Thailand": "Thai", "Türkiye": "Turkish", "Ukraine": "Ukrainian", "United Kingdom": "British",
    "United States": "American", "Vietnam": "Vietnamese",
}  # fmt: skip


ANIMALS = {
    "mouse", "cow", "tiger", "rabbit", "cat", "dog", "wolf", "bear", "hamster", "monkey", "horse", "pig", "dragon",
}  # fmt: skip
EVERYDAY = {
    "automobile": ("car",), "red heart": ("heart", "love heart"), "red apple": ("apple",), "lady beetle": ("ladybug",),
    "sauropod": ("dinosaur", "brontosaurus"), "closed book": ("book",), "evergreen tree": ("pine tree", "fir tree"),
    "deciduous tree": ("tree",), "billed cap": ("baseball cap", "cap"), "high voltage": ("lightning bolt", "lightning"),
    "smiling face with sunglasses": ("cool face", "smiley with sunglasses"), "honeybee": ("bee",),
    "smiling face with heart-eyes": ("heart eyes", "face in love"), "grinning face": ("smiley", "happy face"),
    "face with tears of joy": ("laughing with tears", "laughing face"), "loudly crying face": ("sobbing face",),
    "crying face": ("sad face with a tear",), "slightly smiling face": ("smile",), "frowning face": ("sad face",),
    "locked": ("padlock", "lock"), "unlocked": ("open padlock", "open lock"), "red paper lantern": ("lantern",),
    "doughnut": ("donut",), "man’s shoe": ("shoe",), "woman’s hat": ("hat",), "woman’s boot": ("boot",),
    "woman’s sandal": ("sandal",), "woman’s clothes": ("blouse",), "one-piece swimsuit": ("swimsuit",),
    "wrapped gift": ("gift", "present"), "jack-o-lantern": ("halloween pumpkin", "pumpkin"),
    "hot beverage": ("cup of coffee", "cup of tea"), "racing car": ("race car",), "airplane": ("plane",),
    "bicycle": ("bike",), "motorcycle": ("motorbike",), "television": ("TV",), "sun with face": ("smiling sun",),
    "glowing star": ("shining star",), "soft ice cream": ("ice cream cone",), "french fries": ("fries", "chips"),
    "poultry leg": ("chicken leg", "drumstick"), "ear of corn": ("corn",), "beer mug": ("beer", "mug of beer"),
    "wine glass": ("glass of wine", "red wine"), "eggplant": ("aubergine",), "hot pepper": ("chilli", "chili pepper"),
    "pile of poo": ("poo", "poop"), "thumbs up": ("like",), "fire": ("flame",), "cooking": ("fried egg",),
    "houses": ("village",), "dog face": ("puppy face",), "delivery truck": ("truck", "lorry"),
    "T-Rex": ("tyrannosaurus",),
    "person running": ("runner",), "umbrella with rain drops": ("umbrella in the rain",),
    "gem stone": ("diamond", "gem"),
    "rice ball": ("onigiri",), "baby chick": ("chick",), "money bag": ("bag of money",), "party popper": ("confetti",),
    "cherry blossom": ("pink flower",), "globe showing Americas": ("earth", "planet earth"),
}  # fmt: skip
"""What people say to some of them."""
PLURALS = {"man": "two men", "woman": "two women", "person": "two people"}


def name_of(spoken: str) -> tuple[str, list[str]]:
    """The Unicode name in plain words, and other ways to say it."""
    kind, colon, what = spoken.partition(": ")
    if not colon:
        return spoken, _others(spoken)
    if kind == "flag":
        the = "the " if ARTICLES.match(what) else ""
        people = [f"{PEOPLES[what]} flag"] if what in PEOPLES else []
        return f"flag of {the}{what}", [f"flag: {what}", f"{what} flag", *people]
    if kind == "keycap":
        return f"keycap {what}", [f"{what} in a blue square"] if what.isdigit() else []
    parts = what.split(", ")
    if kind == "family":
        text = f"family of {_listed(parts)}"
        return text, [_listed(parts)]
    if kind in ("kiss", "couple with heart"):
        both = _listed(parts)
        both = PLURALS.get(parts[0], both) if parts[0] == parts[-1] else both
        if kind == "kiss":
            return f"{both} kissing", [f"kiss of {both}"]
        return f"{both} with a heart", [f"{kind}: {both}", f"{both} in love"]
    if what == "bald":
        return f"bald {kind}", [f"{kind} without hair"]
    if what == "beard":
        return f"{kind} with a beard", [f"bearded {kind}"]
    return f"{kind} with {what}", [f"{what.removesuffix(' hair')}-haired {kind}"] if "hair" in what else []


def _listed(parts: list[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _others(name: str) -> list[str]:
    """Other word orders: 'face with tears of joy' is also a 'tears of joy face'."""
    says = []
    if match := re.fullmatch(r"(face|cat) with (?:a )?(.+)", name):
        says.append(f"{match[2]} {match[1]}")
    if match := re.fullmatch(r"(.+) face", name):
        says.append(f"face of a {match[1]}" if match[1] in ANIMALS else f"{match[1]} emoji")
    if match := re.fullmatch(r"(man|woman|person) (\w+ing)( .+)?", name):
        says.append(f"a {match[1]} who is {match[2]}{match[3] or ''}")
    if match := re.fullmatch(r"(.+) button", name):
        says.append(f"button that says {match[1]}" if match[1].isupper() else f"{match[1]} sign")
    if re.fullmatch(r"\w+(-| )(thirty|o’clock|o'clock)", name):
        says.append(f"clock at {name.replace('-', ' ')}")
    return says


def weighted(name: str, others: list[str], keywords: list[str]) -> dict[str, float]:
    """{text: weight}; the name has half of the weight or more."""
    rest = dict.fromkeys(others, 2.0)
    rest |= {word: 1.0 for word in keywords if word not in rest}
    return {name: max(6.0, sum(rest.values()))} | rest


def captions_of(entries: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """Sets `captions` of every entry."""
    known = [found.get(entry["char"]) or found[entry["char"].replace("\ufe0f", "")] for entry in entries]
    shared = Counter(word for record in known for word in record["default"])
    told = [name_of(record["tts"][0]) for record in known]
    names = {name.lower() for name, _ in told}
    assert names >= {name.lower() for name in EVERYDAY}, set(EVERYDAY) - names
    ways = [
        [other for other in (*EVERYDAY.get(name, ()), *others) if other.lower() not in names]
        for name, others in told
    ]
    taken = {*names, *EMPTY, *COLOURS, *(other.lower() for others in ways for other in others)}
    for entry, record, (name, _), others in zip(entries, known, told, ways, strict=True):
        taken.add(record["tts"][0].lower())
        words = [
            word
            for word in sorted(record["default"], key=lambda word: shared[word])
            if shared[word] <= COMMON and word.lower() not in taken and not word.isdigit()
        ]
        entry["captions"] = weighted(name, others, words[:KEYWORDS])


def main(annotations: str, derived: str) -> None:
    found: dict[str, Any] = {}
    for path, key in ((derived, "annotationsDerived"), (annotations, "annotations")):
        found |= json.loads(Path(path).read_text())[key]["annotations"]
    entries = json.loads(EMBEDDED.read_text())
    captions_of(entries, found)
    lines = ",\n".join(json.dumps(entry, ensure_ascii=True) for entry in entries)
    EMBEDDED.write_text(f"[\n{lines}\n]\n")
    counts = [len(entry["captions"]) for entry in entries]
    print(f"{len(entries):,} emoji, {sum(counts):,} captions; {EMBEDDED.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
