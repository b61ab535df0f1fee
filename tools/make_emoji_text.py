"""Make the training folder of the text-to-emoji model: every embedded emoji, and many of them in other colours.

    python tools/make_emoji_text.py OUT [SIZE]

OUT gets pictures of SIZE (64) pixels and `captions.jsonl`, some of whose captions are drawn more often than
others. Each emoji is there `COPIES` times, so that six of ten draws are emoji as they were drawn; the rest are the
objects of `OBJECTS` recoloured (emoji_colour.py), which teaches that a colour and an object can be asked for apart.

`PAIRS` pairs of a colour and an object are held out: no caption names both, and no picture shows the object where
that colour dominates. They and the prompts of the README's sheet go to docs/models/emoji-prompts.json. The same
files come out every time.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from emoji_colour import COLOURS, dominant, recolour, shares

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "src/unstir/data/embedded"
PROMPTS = ROOT / "docs/models/emoji-prompts.json"
COPIES = 3
PAIRS = 150
CLEAR = 0.45
"""The share of a picture from which its colour is named in a caption."""
SHOWN = 0.3
"""The share of a picture from which it shows a colour, for pairs held out."""

OBJECTS = """
grinning face, slightly smiling face, winking face, smiling face with smiling eyes, smiling face with halo,
star-struck, kissing face, zany face, thinking face, neutral face, smirking face, relieved face, sleeping face,
woozy face, smiling face with sunglasses, nerd face, confused face, frowning face, astonished face, pleading face,
crying face, angry face, yawning face, partying face, skull, pile of poo, goblin, ghost, alien, alien monster, robot,
grinning cat, crying cat, see-no-evil monkey, hear-no-evil monkey, speak-no-evil monkey,
heart with arrow, sparkling heart, growing heart, two hearts, broken heart, kiss mark, collision,

monkey face, monkey, gorilla, dog, poodle, wolf, fox, cat face, cat, tiger face, leopard, horse face, moose, donkey,
horse, unicorn, deer, bison, ox, water buffalo, pig face, pig, boar, goat, camel, giraffe, elephant,
mammoth, rhinoceros, hippopotamus, mouse face, mouse, rat, hamster, rabbit face, rabbit, chipmunk, beaver, hedgehog,
bat, bear, koala, sloth, otter, kangaroo, badger, paw prints, chicken, rooster, baby chick, bird, penguin, dove,
eagle, swan, owl, dodo, feather, flamingo, parrot, phoenix, frog, crocodile, turtle, lizard, snake,
dragon face, dragon, sauropod = dinosaur, T-Rex, spouting whale, whale, dolphin, seal, fish, tropical fish, blowfish,
shark, octopus, spiral shell, coral, jellyfish, crab, lobster, shrimp, squid, snail, bug, ant, beetle,
lady beetle = ladybug, cockroach, spider, scorpion, fly, worm, cherry blossom, lotus, rosette, rose, hibiscus,
sunflower, blossom, tulip, hyacinth, potted plant, evergreen tree, deciduous tree, palm tree, cactus, shamrock,
four leaf clover, maple leaf, fallen leaf, mushroom,

grapes, melon, tangerine, lemon, banana, mango, red apple = apple, pear, peach, cherries, strawberry, blueberries,
tomato, eggplant, potato, hot pepper, bell pepper, cucumber, broccoli, garlic, onion, chestnut, croissant, pretzel,
pancakes, waffle, cheese wedge, hot dog, taco, egg, butter, canned food, dumpling, fortune cookie,
soft ice cream, doughnut, cookie, birthday cake, pie, chocolate bar, custard, honey pot, teapot,
cup with straw, wine glass, spoon, amphora,

mountain, rock, hut, castle, mosque, tent, circus tent, light rail, bus, minibus, ambulance, fire engine,
automobile = car, sport utility vehicle, pickup truck, delivery truck, racing car, motorcycle, motor scooter, bicycle,
skateboard, roller skate, oil drum, police car light, stop sign, anchor, sailboat, canoe, speedboat, ferry, ship,
small airplane, helicopter, flying saucer, full moon, crescent moon, sun, sun with face, full moon face,
ringed planet, star, glowing star, cloud, tornado, cyclone, closed umbrella, umbrella, high voltage,
snowflake, comet, fire, droplet, water wave,

jack-o-lantern, Christmas tree, firecracker, sparkles, balloon, ribbon, wrapped gift, reminder ribbon, ticket, trophy,
baseball, basketball, volleyball, american football, rugby football, flying disc, boxing glove, ice skate,
diving mask, running shirt, sled, yo-yo, kite, water pistol, pool 8 ball, crystal ball, video game, joystick,
game die, puzzle piece, teddy bear, spade suit, diamond suit, club suit, chess pawn, yarn,

glasses, goggles, necktie, t-shirt, jeans, scarf, gloves, coat, socks, dress, kimono, sari,
one-piece swimsuit = swimsuit, briefs, shorts, bikini, woman’s clothes = blouse, folding hand fan, purse, handbag,
clutch bag, backpack, thong sandal, man’s shoe = shoe, running shoe, hiking boot, flat shoe, high-heeled shoe,
woman’s sandal = sandal, ballet shoes, woman’s boot = boot, crown, woman’s hat = hat, top hat, graduation cap,
billed cap = cap, military helmet, lipstick, gem stone,
megaphone, bell, musical note, musical notes, studio microphone, microphone, headphone, radio, saxophone, accordion,
guitar, trumpet, violin, banjo, maracas, flute, telephone, telephone receiver, battery, electric plug, keyboard,
computer mouse, floppy disk, television, video camera, candle, light bulb, flashlight, red paper lantern = lantern,
closed book = book, notebook, bookmark, label, money bag, coin, credit card, package, postbox, fountain pen, pen,
crayon, briefcase, file folder, pushpin, round pushpin, straight ruler, triangular ruler, wastebasket,
locked = padlock, unlocked = open padlock, key, old key, bomb, shield, wrench, nut and bolt, gear, hook, toolbox,
magnet, ladder, test tube, syringe, adhesive bandage, door, couch and lamp, chair, toilet, plunger, bathtub, razor,
lotion bottle, broom, basket, bucket, soap, toothbrush, sponge, coffin, moai
"""
"""Objects that may be of any colour, by the name of their emoji; `= word` where they are called otherwise."""

SAME_COLOUR = {"gray": "grey", "violet": "purple"}

SHEET = (
    "grinning face", "face with tears of joy", "smiling face with heart-eyes", "smiling face with sunglasses",
    "thinking face", "loudly crying face", "star-struck", "ghost",
    "red heart", "blue heart", "broken heart", "sparkling heart", "fire", "star", "rainbow", "sun with face",
    "fox", "panda", "tiger face", "unicorn", "penguin", "frog", "octopus", "butterfly",
    "red apple", "strawberry", "avocado", "pizza", "hamburger", "doughnut", "birthday cake", "sushi",
    "rose", "sunflower", "cactus", "four leaf clover", "snowman", "full moon", "umbrella with rain drops",
    "snowflake",
    "rocket", "automobile", "sailboat", "bicycle", "castle", "balloon", "wrapped gift", "trophy",
    "guitar", "soccer ball", "crown", "gem stone", "light bulb", "key", "flag of Sweden", "robot",
)  # fmt: skip
"""Training captions of the README's sheet."""

SHEET_OBJECTS = (
    "bird", "rabbit", "castle", "swan", "horse", "cat", "fox", "tulip", "crown", "helicopter", "doughnut", "unicorn",
    "kangaroo", "snake", "dolphin", "sailboat", "deer", "taco", "hedgehog", "crocodile", "bicycle", "dragon",
)  # fmt: skip
"""Of the pairs held out, the first eight of these come after them."""


@dataclass(frozen=True)
class Emoji:
    char: str
    captions: Mapping[str, float]
    picture: np.ndarray
    """uint8 (H, W, 3)"""

    @property
    def name(self) -> str:
        return next(iter(self.captions))

    @property
    def file(self) -> str:
        return "-".join(f"{ord(c):x}" for c in self.char)


@dataclass(frozen=True)
class Pair:
    """A colour and an object that no training item may show or name together."""

    colour: str
    object: str
    names: tuple[str, ...]
    """What the object is called: its own word and the name of its emoji."""

    @property
    def prompt(self) -> str:
        return f"{self.colour} {self.object}"


@dataclass(frozen=True)
class Item:
    file: str
    captions: Mapping[str, float]
    picture: np.ndarray

    @cached_property
    def shares(self) -> Mapping[str, float]:
        """Of the picture's colours."""
        return shares(self.picture)


def embedded(size: int) -> list[Emoji]:
    """All of them, in the order of the Unicode charts."""
    side = 32 if size <= 32 else 64
    entries = json.loads((EMBEDDED / "emoji.json").read_text())
    with Image.open(EMBEDDED / f"emoji-{side}.webp") as image:
        sheet = np.asarray(image.convert("RGB"))
    rows, columns = sheet.shape[0] // side, sheet.shape[1] // side
    tiles = sheet.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    return [
        Emoji(entry["char"], entry["captions"], tile)
        for entry, tile in zip(entries, tiles[: len(entries)], strict=True)
    ]


def objects() -> dict[str, str]:
    """{name of an emoji: what to call the object}"""
    found = {}
    for line in filter(None, (line.strip() for line in OBJECTS.replace("\n", " ").split(","))):
        name, _, word = line.partition(" = ")
        found[name] = word or name
    return found


# -- words ------------------------------------------------------------------------------------------------
@cache
def words_of(text: str) -> frozenset[str]:
    """The words of a text in one form: lower case, the plural as the singular, one word for each colour."""
    words = (word for word in re.findall(r"[\w’'-]+", text.lower()))
    plural = re.compile(r"\w{3,}(?<!s)s")
    singular = (word[:-1] if plural.fullmatch(word) else word for word in words)
    return frozenset(SAME_COLOUR.get(word, word) for word in singular)


def names_pair(text: str, pair: Pair) -> bool:
    """Whether the text has the colour and all words of one of the object's names, in any order."""
    words = words_of(text)
    return pair.colour in words and any(words_of(name) <= words for name in pair.names)


def leaks(captions: Iterable[str], shown: Mapping[str, float], pair: Pair) -> bool:
    """Whether an item would teach the pair: a caption names it, or the object is named and the colour is seen."""
    captions = list(captions)
    if any(names_pair(text, pair) for text in captions):
        return True
    named = any(words_of(name) <= words_of(text) for text in captions for name in pair.names)
    return named and (shown.get(pair.colour, 0) >= SHOWN or max(shown, key=lambda c: shown[c]) == pair.colour)


def coloured(colour: str, thing: str) -> dict[str, float]:
    """The captions of an object in a colour, with their weights."""
    article = "an" if colour[0] in "aeiou" else "a"
    plural = thing.endswith("s") and not thing.endswith(("ss", "cactus", "octopus", "bus"))
    return {
        f"{colour} {thing}": 4.0,
        **({} if plural else {f"{article} {colour} {thing}": 1.0}),
        f"{thing} in {colour}": 1.0,
    }


# -- pictures ---------------------------------------------------------------------------------------------
def originals(emoji: list[Emoji], things: Mapping[str, str]) -> list[Item]:
    """Each emoji once, with the colour of what is clearly of one as a further caption."""
    items = []
    for one in emoji:
        captions = dict(one.captions)
        thing, seen = things.get(one.name), shares(one.picture)
        main = max(seen, key=lambda colour: seen[colour], default=None)
        if thing and main and seen[main] >= CLEAR:
            captions |= {text: w / 4 for text, w in coloured(main, thing).items() if text not in captions}
        items.append(Item(one.file, captions, one.picture))
    return items


def variants(emoji: list[Emoji], things: Mapping[str, str]) -> Iterator[tuple[str, str, Emoji, Item]]:
    """(colour, object, emoji, item) for every object in each colour that it has not, where that colour is clear."""
    known = {words_of(text) for one in emoji for text in one.captions}
    for one in emoji:
        if one.name not in things:
            continue
        thing, seen, region = things[one.name], shares(one.picture), dominant(one.picture)
        for colour in COLOURS:
            if seen[colour] >= SHOWN or words_of(f"{colour} {thing}") in known:
                continue
            picture = recolour(one.picture, colour, region)
            item = Item(f"{one.file}-{colour}", coloured(colour, thing), picture)
            if item.shares[colour] >= CLEAR and max(item.shares, key=lambda c: item.shares[c]) == colour:
                yield colour, thing, one, item


# -- what is held out -------------------------------------------------------------------------------------
def held_out(candidates: Mapping[str, list[Pair]], first: list[Item], count: int = PAIRS) -> list[Pair]:
    """`count` of the pairs, the colours in turn, an object once, none that an unchanged emoji teaches.

    Args:
        candidates: the pairs of each colour.
        first: the unchanged emoji.
    """
    order = {c: sorted(pairs, key=lambda pair: _digest(pair.prompt)) for c, pairs in candidates.items()}
    chosen: list[Pair] = []
    while len(chosen) < count and any(order.values()):
        for colour in order:
            while order[colour] and len(chosen) < count:
                pair = order[colour].pop(0)
                taken = any(pair.object == other.object for other in chosen)
                if not taken and not any(leaks(item.captions, item.shares, pair) for item in first):
                    chosen.append(pair)
                    break
    return chosen


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def training_set(
    emoji: list[Emoji], things: Mapping[str, str], count: int = PAIRS
) -> tuple[list[Item], list[Pair]]:
    """(items to train on, pairs that none of them teaches)"""
    first = originals(emoji, things)
    made = list(variants(emoji, things))
    candidates: dict[str, list[Pair]] = {colour: [] for colour in COLOURS}
    for colour, thing, one, _ in made:
        candidates[colour].append(Pair(colour, thing, tuple(dict.fromkeys((thing, one.name)))))
    pairs = held_out(candidates, first, count)
    kept = [
        item
        for colour, _, one, item in made
        if not any(leaks([*item.captions, f"{colour} {one.name}"], item.shares, pair) for pair in pairs)
    ]
    return [*first, *kept], pairs


def main(out: str, size: str = "64") -> None:
    folder, side = Path(out), int(size)
    folder.mkdir(parents=True, exist_ok=True)
    emoji = embedded(side)
    things = objects()
    unknown = set(things) - {one.name for one in emoji}
    assert not unknown, unknown
    items, pairs = training_set(emoji, things)
    lines = []
    for k, item in enumerate(items):
        files = (
            [f"{item.file}_{copy}.png" for copy in range(COPIES)] if k < len(emoji) else [f"{item.file}.png"]
        )
        for file in files:
            image = Image.fromarray(item.picture)
            if image.size != (side, side):
                image = image.resize((side, side), Image.Resampling.LANCZOS)
            image.save(folder / file)
            texts, weights = list(item.captions), list(item.captions.values())
            lines.append(
                json.dumps({"file_name": file, "text": texts, "weight": weights}, ensure_ascii=False)
            )
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    PROMPTS.parent.mkdir(parents=True, exist_ok=True)
    PROMPTS.write_text(json.dumps(prompts_of(pairs), indent=1, ensure_ascii=False) + "\n", "utf-8")
    changed = len(items) - len(emoji)
    share = COPIES * len(emoji) / len(lines)
    print(
        f"{len(emoji):,} emoji, {changed:,} recoloured pictures of {len(things):,} objects, {len(lines):,} files;"
    )
    print(f"{share:.0%} of them as they were drawn; {len(pairs)} pairs held out")


def prompts_of(pairs: list[Pair]) -> dict[str, list[object]]:
    """What docs/models/emoji-prompts.json holds."""
    attractive = [pair.prompt for pair in pairs if pair.object in SHEET_OBJECTS]
    return {
        "compositional": [
            {"prompt": pair.prompt, "colour": pair.colour, "object": pair.object} for pair in pairs
        ],
        "sheet": [*SHEET, *attractive][:64],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
