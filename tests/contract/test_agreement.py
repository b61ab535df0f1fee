"""Text and pictures in one space, and what is measured by it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from unstir.assessment import Bench, draw, losses_of, prompts_of
from unstir.assessment.subject import Subject
from unstir.cli import main
from unstir.data import Caption, Dataset, open_data
from unstir.data.items import Items, content_keys
from unstir.embedders import PromptConfig, TransformerConfig
from unstir.errors import ConfigError, DataError, IncompatibleError
from unstir.evaluate import FID, Agreement, Drawn, Encoder, Evidence, Raw, Retrieval, TwoTowers, two_towers
from unstir.evaluate.retrieval import places
from unstir.evaluate.two_towers import Texts
from unstir.networks import UNetConfig
from unstir.pipeline import Pipeline
from unstir.recipes import Evaluation
from unstir.train import Trainer
from unstir.tune import tune

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 220), "yellow": (230, 220, 40)}
SHAPES = ("square", "bar", "column", "frame")
SIDE = 8


def picture(colour: str, shape: str, seed: int) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = (rows > 1) & (rows < 6) & (columns > 1) & (columns < 6)
    inside = {
        "square": inside,
        "bar": (rows > 2) & (rows < 5),
        "column": (columns > 2) & (columns < 5),
        "frame": ~inside,
    }[shape]
    noise = np.random.default_rng(seed).normal(0, 8, (SIDE, SIDE, 3))
    return (np.where(inside[..., None], COLOURS[colour], 255) + noise).clip(0, 255).astype(np.uint8)


def captioned(n: int = 160) -> Dataset:
    """Pictures of 16 kinds, each with its own number, a short caption and a long one; the last one has none."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    x = np.stack([picture(*kinds[k % 16], k) for k in range(n)])
    texts: list[tuple[Caption, ...]] = [
        (Caption(f"{c} {s}", 3.0), Caption(f"a {s} in {c}")) for c, s in (kinds[k % 16] for k in range(n - 1))
    ]
    items = Items(pixels=x, keys=content_keys(x), names=[f"{k}.png" for k in range(n)], captions=[*texts, ()])
    return Dataset("shapes", items)


@pytest.fixture(scope="module")
def sets() -> tuple[Dataset, Dataset]:
    return captioned().split(0.2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("towers")


@pytest.fixture(scope="module")
def towers(sets: tuple[Dataset, Dataset], cache: Path) -> TwoTowers:
    return two_towers(*sets, cache=cache, samples=4_000)


def reader(**changes: Any) -> Pipeline:
    """A small model that reads, with random weights."""
    encoder = TransformerConfig(width=16, depth=1, heads=2, length=12)
    return tiny.pipeline(
        classes=(),
        shape=(3, 8, 8),
        network=UNetConfig(widths=(8, 16), blocks=1, attention=1, head_width=8),
        prompt=PromptConfig(encoders=(encoder,), width=16),
        source="emoji",
        **changes,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """48 pictures with a text beside each."""
    path, data = tmp_path_factory.mktemp("pictures"), captioned(49)
    for k, some in enumerate((data.captions or [])[:48]):
        Image.fromarray(data.x[k]).save(path / f"{k}.png")
        (path / f"{k}.txt").write_text("\n".join(caption.text for caption in some))
    return str(path)


# -- the two towers ----------------------------------------------------------------------------------------
def test_they_find_the_other_half_of_held_out_pairs(towers: TwoTowers, sets: tuple[Dataset, Dataset]) -> None:
    n, heldout = towers.header.n, sets[1]
    assert n == heldout.info.captions
    assert towers.header.captions[1] > 0.8 * n
    assert towers.header.pictures[0] > 0.5 * n
    assert f"two towers of shapes; of {n} held-out pairs" in towers.about
    x, texts = heldout.x[:9], [text or "red bar" for text in (heldout.texts or [])[:9]]
    similarity = towers.similarity(x, texts)
    np.testing.assert_allclose(similarity, (towers.embed(x) * towers.read(texts)).sum(1), rtol=1e-5)
    wrong = towers.similarity(x, ["blue frame" if "red" in text else "red column" for text in texts])
    assert similarity.mean() > wrong.mean() + 0.3


def test_vectors_have_length_one_and_no_neighbour_matters(
    towers: TwoTowers, sets: tuple[Dataset, Dataset]
) -> None:
    z, w = towers.embed(sets[1].x), towers.read(["red bar", "", "(red:9) bar", "red bar"])
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(w[0], w[3])
    assert not np.allclose(w[0], w[2]), "parentheses are characters"
    np.testing.assert_allclose(towers.embed(sets[1].x[3:5]), z[3:5], atol=1e-4)
    assert towers.read([]).shape == (0, 128)
    assert towers.embed(sets[1].x[:0]).shape == (0, 128)
    with pytest.raises(IncompatibleError, match="two towers of shapes"):
        towers.embed(sets[1].x[..., :1])


def test_a_picture_agrees_with_its_own_caption(towers: TwoTowers) -> None:
    x = np.stack([picture(colour, "square", 999) for colour in COLOURS])
    own = [f"{colour} square" for colour in COLOURS]
    assert isinstance(towers, Encoder)
    assert towers.agrees(x, own).all()
    assert (towers.ranks(x, own) == 1).mean() > 0.7
    assert (towers.ranks(x, own[::-1]) > 1).all()


def test_captions_that_say_the_same_do_not_compete() -> None:
    texts = Texts(captioned(17))
    assert len(texts) == 16
    assert texts.kin("a square in red") == texts.kin("red square") == [0]
    assert texts.kin("no caption") == []


def test_they_are_trained_once_and_kept(
    sets: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    begun: list[int] = []
    steps = Trainer.steps
    monkeypatch.setattr(Trainer, "steps", lambda self: (begun.append(1), steps(self))[1])
    said: list[str] = []
    first = two_towers(*sets, cache=tmp_path, samples=64, say=said.append)
    again = two_towers(*sets, cache=tmp_path, samples=64)
    assert (len(begun), len(said)) == (1, 2)
    assert (first.digest, first.about) == (again.digest, again.about)
    np.testing.assert_array_equal(first.read(["red bar"]), again.read(["red bar"]))
    (file,) = (tmp_path / "encoders").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    assert two_towers(*sets, cache=tmp_path, samples=64).digest == first.digest
    assert len(begun) == 2
    assert "damaged" in caplog.text
    other = replace(sets[0].items, captions=[(Caption(str(k)), Caption("another")) for k in range(160)])
    told = two_towers(Dataset("shapes", other, sets[0].rows), sets[1], cache=tmp_path, samples=64)
    assert told.digest != first.digest


def test_data_without_captions_is_refused(sets: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    items = replace(sets[0].items, captions=None)
    with pytest.raises(DataError, match="shapes has 0 different captions"):
        two_towers(Dataset("shapes", items), sets[1], cache=tmp_path)
    blind = two_towers(sets[0], Dataset("shapes", items, sets[1].rows), cache=tmp_path, samples=32)
    assert blind.about == "two towers of shapes, never measured: no captioned pictures were held out"


# -- what is measured --------------------------------------------------------------------------------------
def evidence(
    sets: tuple[Dataset, Dataset], towers: TwoTowers, x: np.ndarray, prompts: Sequence[str]
) -> Evidence:
    return Evidence(*sets, Raw(), Drawn(x, prompts=tuple(prompts)), towers=lambda: towers)


def test_agreement_tells_right_prompts_from_wrong_ones(
    sets: tuple[Dataset, Dataset], towers: TwoTowers
) -> None:
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES] * 3
    x = np.stack([picture(*kind, 5000 + k) for k, kind in enumerate(kinds)])
    right = [f"{colour} {shape}" for colour, shape in kinds]
    good = Agreement().measure(evidence(sets, towers, x, right))
    cosine, share = good.numbers
    assert (cosine.name, share.name, cosine.features) == ("agreement", "agreement_top5", towers.digest)
    assert share.value > 0.9
    assert f"of {sets[1].info.captions} held-out pairs" in cosine.note
    assert f"{5 / 16:.1%} by chance" in share.note
    poor = Agreement(k=1).measure(evidence(sets, towers, x, right[1:] + right[:1])).numbers
    assert poor[0].high is not None
    assert poor[0].high < (cosine.low or 0)
    assert poor[1].name == "agreement_top1"
    assert poor[1].value < 0.4
    assert {row["word"] for row in good.rows} == {*COLOURS, *SHAPES}
    (caption,) = good.sheets
    assert "1. " in caption


def test_words_that_are_not_drawn_are_named(sets: tuple[Dataset, Dataset], towers: TwoTowers) -> None:
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES] * 4
    x = np.stack([picture("green" if c == "red" else c, s, 7000 + k) for k, (c, s) in enumerate(kinds)])
    found = Agreement(k=1).measure(evidence(sets, towers, x, [f"{c} {s}" for c, s in kinds]))
    assert any(text.startswith('"red": ') for text in found.words)


def test_empty_prompts_ask_for_nothing(sets: tuple[Dataset, Dataset], towers: TwoTowers) -> None:
    x = sets[0].x[:8]
    assert Agreement().lacks(evidence(sets, towers, x, [""] * 8)) == "every prompt is empty"
    some = Agreement().measure(evidence(sets, towers, x, [""] * 6 + ["red bar"] * 2))
    assert some.numbers[0].n == 2
    bare = Evidence(*sets, Raw(), Drawn(x))
    assert Agreement().lacks(bare) == Retrieval().lacks(bare) == "the samples have no prompts"
    unsaid = Dataset("shapes", replace(sets[0].items, captions=None), sets[0].rows)
    assert Agreement().lacks(Evidence(unsaid, unsaid, Raw(), Drawn(x, prompts=("a",) * 8))) == (
        "the data has no captions"
    )


def test_places_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(0)
    features, known = rng.normal(size=(7, 3)), rng.normal(size=(40, 3))
    owners = {"a": [3, 9], "b": [17]}
    prompts = ["a", "b", "a", "a", "b", "b", "a"]
    order = np.argsort(((features[:, None] - known) ** 2).sum(2), 1)
    wanted = [1 + min(list(order[i]).index(o) for o in owners[prompts[i]]) for i in range(7)]
    np.testing.assert_array_equal(places(features, prompts, known, owners), wanted)


def test_retrieval_finds_the_pictures_themselves(sets: tuple[Dataset, Dataset]) -> None:
    train, heldout = sets
    rows = [0, 3, 5]
    texts = [(train.texts or [])[row] for row in rows]
    right = Evidence(*sets, Raw(), Drawn(train.x[rows], prompts=(*texts,)))
    (number,) = Retrieval(k=1).measure(right).numbers
    assert (number.name, number.value, number.against) == ("retrieval_top1", 1.0, len(train) + len(heldout))
    strange = Evidence(*sets, Raw(), Drawn(train.x[rows], prompts=("x", "y", texts[2])))
    assert Retrieval().measure(strange).numbers[0].n == 1
    nothing = Evidence(*sets, Raw(), Drawn(train.x[rows], prompts=("x", "y", "z")))
    assert Retrieval().lacks(nothing) == "no prompt is the caption of a picture"


# -- models that read --------------------------------------------------------------------------------------
def test_prompts_are_captions_by_weight_and_by_seed(sets: tuple[Dataset, Dataset]) -> None:
    data = captioned(32)
    prompts = prompts_of(data, 7, 400)
    assert prompts[5:9] == prompts_of(data, 12, 4)
    assert {*prompts} - {""} <= {c.text for some in data.captions or () for c in some}
    assert 0.65 < np.mean([not p.startswith("a ") for p in prompts]) < 0.85
    brackets = Dataset("x", replace(data.items, captions=[(Caption("a (b:2)"),)] * 32))
    assert prompts_of(brackets, 0, 1) == (r"a \(b:2\)",)


def test_samples_know_their_prompts() -> None:
    pipe = reader()
    drawn = draw(pipe, 3, seed=4, prompts=("red bar", "(blue:1.5) bar", r"a \(b\)"), steps=1, micro_batch=2)
    assert drawn.prompts == ("red bar", "blue bar", "a (b)")
    alone = draw(pipe, 1, seed=6, prompts=(r"a \(b\)",), steps=1)
    np.testing.assert_array_equal(drawn.x[2:], alone.x)


SOME = (FID(), Agreement(), Retrieval())


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Training of two towers in a second, in an empty folder."""
    from importlib import import_module

    bench = import_module("unstir.assessment.bench")
    monkeypatch.setattr(bench, "two_towers", lambda *sets, say: two_towers(*sets, cache=tmp_path, samples=32))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("few")
def test_a_model_that_reads_is_evaluated(tmp_path: Path, folder: str) -> None:
    path = reader().save(tmp_path / "reader.safetensors")
    settings: dict[str, Any] = {"features": "pixels", "n": 6, "data": folder, "metrics": SOME}
    bench = Bench(path, Evaluation(**settings))
    found = bench.assess()
    assert {"fid", "agreement", "agreement_top5", "retrieval_top5"} <= found.numbers.keys()
    _, skipped, _ = Bench(path, Evaluation(features="pixels", n=6, data=folder)).metrics(Raw())
    assert skipped["Accuracy"] == "the samples have no labels"
    assert found.sampling["prompts"].startswith("train ")
    (kept,) = bench.folder.glob("samples-*.npz") if bench.folder else ()
    with np.load(kept) as arrays:
        assert json.loads(str(arrays["recipe"]))["prompts"] == found.sampling["prompts"]
    said: list[str] = []
    again = Bench(path, Evaluation(**settings), said.append).assess()
    assert any("were drawn before" in text for text in said)
    assert again.numbers["agreement"] == found.numbers["agreement"]
    more = Bench(path, Evaluation(**settings | {"n": 8}))
    assert more.draws is not None
    assert bench.draws is not None
    assert (more.draws.texts or ())[:6] == bench.draws.texts
    other = Bench(path, Evaluation(**settings, prompts="heldout"))
    assert other.draws is not None
    known = {c.text for some in other.heldout.captions or () for c in some}
    assert {*(other.draws.texts or ())} <= known
    assert other.draws.path(tmp_path) != bench.draws.path(tmp_path)


@pytest.mark.usefixtures("few")
def test_one_prompt_alone(folder: str) -> None:
    bench = Bench(
        reader(), Evaluation(features="pixels", n=4, prompt="(red:1.2) bar", data=folder, metrics=SOME)
    )
    found = bench.assess()
    assert bench.draws is not None
    assert bench.draws.texts == ("red bar",) * 4
    assert found.sampling["prompt"] == "(red:1.2) bar"
    assert found.data["real"] == "train, of this caption"
    other = Bench(reader(), Evaluation(features="pixels", n=4, prompt="a dog", data=folder, metrics=SOME[:1]))
    assert "samples of one prompt are compared with all items" in other.assess().notes


@pytest.mark.usefixtures("few")
def test_a_sweep_over_guidance_tells_agreement_beside_fid(folder: str) -> None:
    request = Evaluation(
        features="pixels",
        n=4,
        data=folder,
        sweep="guidance",
        values=(1.0, 2.0),
        metrics=(FID(), Agreement()),
    )
    swept = Bench(reader(), request).sweep()
    assert [row["guidance"] for row in swept.rows] == [1.0, 2.0]
    assert all({"fid", "agreement", "agreement_top5"} <= row.keys() for row in swept.rows)
    assert len({row["agreement"] for row in swept.rows}) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompts": "heldout", "heldout": 0.0}, "no captioned items were held out"),
        ({"prompts": "heldout", "prompt": "x"}, "prompt= is given"),
        ({"label": "x"}, "this model reads prompts"),
        ({"prompt": "(x:99)"}, "weight 99"),
    ],
)
def test_what_cannot_be_asked_is_refused(settings: dict[str, Any], words: str, folder: str) -> None:
    with pytest.raises((ConfigError, IncompatibleError), match=words):
        Bench(reader(), Evaluation(features="pixels", n=4, data=folder, **settings))


def test_prompts_are_for_models_that_read(tmp_path: Path) -> None:
    model = tiny.pipeline(("0", "1"), source="digits")
    for wrong in ({"prompts": "heldout"}, {"prompt": "red heart"}):
        with pytest.raises((ConfigError, IncompatibleError), match=r"reads none|without captions"):
            Bench(model, Evaluation(features="pixels", n=4, data="digits", **wrong))


def test_losses_depend_on_captions() -> None:
    pipe, (data, _) = reader(), open_data("emoji", size=8, heldout=0)
    told = losses_of(pipe)(data, 6)
    other = Dataset(
        "emoji", replace(data.items, captions=[(Caption(f"number {k} (x:99)"),) for k in range(1898)])
    )
    assert told.shape == (6, 10)
    assert not torch.equal(told, losses_of(pipe)(other, 6))
    torch.testing.assert_close(told, losses_of(pipe, micro_batch=2)(data, 6), rtol=1e-4, atol=1e-5)


def test_captioned_pictures_from_elsewhere_are_asked_for_their_captions(
    few: None, folder: str, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for k in range(8):
        for ending in ("png", "txt"):
            (theirs / f"{k}.{ending}").write_bytes((Path(folder) / f"{k}.{ending}").read_bytes())
    found = Bench(theirs, Evaluation(features="pixels", data=folder, metrics=SOME[1:])).assess()
    assert found.numbers["agreement"].n == 8
    assert found.numbers["retrieval_top5"].value == 1.0


def test_tuning_a_model_that_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = reader(defaults=replace(tiny.pipeline().config.defaults, guidance=2.0))
    module = __import__("unstir.tune", fromlist=["tune"])
    seen: list[Any] = []
    monkeypatch.setattr(module, "Bench", lambda *a: seen.append(a[4]) or (_ for _ in ()).throw(KeyError))
    for given, wanted in ((None, 8), (["red heart", "(x:2)"], 8)):
        with pytest.raises(KeyError):
            tune(pipe, 4, n=8, prompts=given)
        assert len(seen[-1]) == wanted
    assert seen[-1][:3] == ["red heart", "(x:2)", "red heart"]
    assert len({*seen[0]}) > 4
    with pytest.raises(ConfigError, match="cannot be read"):
        tune(Pipeline(replace(pipe.config, source="gone/"), pipe.module), 4, n=8)
    with pytest.raises(IncompatibleError, match="without captions"):
        tune(tiny.pipeline(), 4, n=8, prompts=["x"])


def test_the_likelihood_of_latents_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from unstir.codecs import VAEConfig

    config = VAEConfig(widths=(8,), blocks=1, unshuffle=2, data_channels=3)
    pipe = tiny.pipeline((), shape=(4, 8, 8), data_shape=(3, 16, 16), codec=config, source="emoji")
    path = pipe.save(tmp_path / "latent.safetensors")
    assert main(["likelihood", str(path), "n=4"]) == 2
    assert "latent space of an autoencoder" in capsys.readouterr().err
    bench = Bench(path, Evaluation(features="pixels", n=4))
    assert bench.train.info.shape == (3, 16, 16)
    assert losses_of(pipe)(bench.train, 3).shape == (3, 10)
    _, skipped, _ = bench.metrics(Raw())
    assert skipped["BitsPerDim"] == "there is no likelihood"
    found = Bench(path, Evaluation(features="pixels", n=4, metrics=(FID(),))).assess()
    assert found.numbers["fid"].n == 4


# -- the benchmark -----------------------------------------------------------------------------------------
def test_the_benchmark_measures_and_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    path = Path(__file__).parents[2] / "benchmarks/text_to_image.py"
    spec = importlib.util.spec_from_file_location("text_to_image", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    pipe, data = reader(), captioned(33)
    own = benchmark.training(pipe, data, {"pixels": Raw()}, n=4)
    assert (own["pixels"]["n"], own["pictures"]) == (4, 33)
    asked = [{"prompt": f"{colour} heart", "colour": colour, "object": "heart"} for colour in ("red", "blue")]
    coloured = benchmark.compositional(pipe, asked)
    assert sum(sum(seen.values()) for seen in coloured["colours"].values()) == coloured["n"] == 2
    number = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    curve = {f"{scale}": dict.fromkeys(("fid", "agreement", "agreement_top5"), number) for scale in (1, 2)}
    rows = {
        "training": own,
        "compositional": coloured,
        "quality": {"numbers": {"fid": number, "seconds": {"value": 0.1, "n": 1}}, "parameters": 10**6},
        "guidance": {"default": 1, "failed": {}, "scales": curve},
    }
    for part, row in rows.items():
        assert benchmark.kept(tmp_path / f"tiny-{part}.json", lambda row=row: row) == json.loads(
            json.dumps(row)
        )
    once = benchmark.kept(tmp_path / "tiny-training.json", dict)
    assert once["pictures"] == 33, "a row that is there is not measured again"
    text = benchmark.report(benchmark.rows_of(tmp_path), tmp_path / "curve.svg")
    assert "| tiny | 1.0 M | 0.5 ± 0.1 | 0.1 |" in text
    assert "| 2 | 0.5 ± 0.1 | 0.5 ± 0.1 | 50.0% (40% to 60%) |" in text
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_results_of_a_shipped_model_stay_out_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "pretrained"
    shipped.mkdir()
    path = reader().save(shipped / "reader.safetensors")
    subject = Subject("reader", "", path)
    assert subject.folder == shipped / "eval"
    monkeypatch.setattr("unstir.assessment.subject.SHIPPED", shipped)
    assert subject.folder == Path("eval")


def test_a_plan_of_a_model_that_reads_measures_agreement(folder: str) -> None:
    pipe = reader()
    plan = Bench(pipe, Evaluation(n=2, data=folder, sweep="guidance")).plan()
    assert {"FID", "Agreement"} <= {*plan["metrics"]}
    assert plan["sweep"] == {"guidance": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]}
    assert plan["sampling"]["prompts"].startswith("train ")
