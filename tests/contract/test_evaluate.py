"""`unstir evaluate`: numbers that say how sure they are, samples that are drawn once, refusals before the work."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
import unstir
from unstir.assessment import Assessment, Bench, Sweep, bits_of, losses_of, sweep
from unstir.cli import main
from unstir.codecs import IdentityConfig
from unstir.data import open_data
from unstir.errors import ConfigError, DataError, IncompatibleError, NumericError, UnstirError
from unstir.evaluate import FID, KID, Finding, Number
from unstir.networks import ClassifierConfig, MLPConfig
from unstir.objectives import Denoising, Target
from unstir.pipeline import Pipeline
from unstir.recipes import Evaluation
from unstir.rng import Rng

QUICK = ("features=pixels", "n=12")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "tiny"
    assert tiny.train("digits", path, "steps=10") == 0
    return path


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _without_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of a run has tests of its own, and draws samples."""
    monkeypatch.setattr(import_module("unstir.cli.evaluate"), "_report", lambda run, tell: None)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real pictures and their labels."""
    data = open_data("digits")[0]
    assert data.y is not None
    return np.asarray(data.x[:40]), data.y[:40]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["evaluate", *arguments])
    return code, *capsys.readouterr()


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON that the command prints; NaN is none."""
    given = {word.partition("=")[0] for word in arguments}
    usual = (word for word in QUICK if word.partition("=")[0] not in given)
    code, out, err = call(capsys, *arguments, *usual, "--json")
    assert code == 0, err

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(out, parse_constant=refuse)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the error."""
    code, _, err = call(capsys, *arguments, "--json", "-q")
    return code, json.loads(err.splitlines()[-1])["error"]


# -- what is told ----------------------------------------------------------------------------------------------


def test_every_number_says_how_sure_it_is(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    found = result(capsys, str(run), f"out={Path.cwd() / 'results'}", "seed=3")
    assert {"model", "sha256", "step", "data", "n", "seeds", "sampling", "encoder", "skipped"} <= found.keys()
    assert (found["step"], found["n"], found["seeds"]) == (10, 12, [3, 14])
    assert found["data"]["source"] == "digits"
    assert found["data"]["against"] == 1623
    assert found["data"]["heldout"] == 174
    assert {"fid", "kid", "sliced_wasserstein"} <= {number["name"] for number in found["numbers"]}
    for number in found["numbers"]:
        assert number["n"] > 0
        assert number["better"] in ("low", "high", "neither")
        if number["low"] is not None:
            assert number["low"] <= number["value"] <= number["high"]
        assert number["metric"] in found["findings"]
    fid = next(number for number in found["numbers"] if number["name"] == "fid")
    assert (fid["n"], fid["against"], fid["features"], fid["seeds"]) == (12, 1623, "raw", [3, 14])
    (file,) = (Path(file) for file in found["files"] if file.endswith(".json"))
    written = json.loads(file.read_text())
    assert written["numbers"] == found["numbers"]
    assert written["date"].endswith("+00:00")


def test_what_cannot_be_measured_is_named_with_the_reason(
    capsys: pytest.CaptureFixture[str], run: Path
) -> None:
    skipped = result(capsys, str(run), f"out={Path.cwd()}")["skipped"]
    assert skipped["InceptionScore"] == "the encoder knows no classes"
    assert skipped["BitsPerDim"] == "it takes long; ask for it: metrics=bitsperdim"


def test_the_table_has_a_line_a_number(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    code, out, err = call(capsys, str(run), *QUICK, "metrics=fid", f"out={Path.cwd()}")
    assert code == 0
    head, row = out.splitlines()[:2]
    assert head.split()[:6] == ["metric", "value", "95%", "n", "against", "better"]
    assert row.split()[0] == "fid"
    assert "1,623" in row
    assert "seeds 0 to 11" in out
    assert "12 samples" in err
    assert call(capsys, str(run), *QUICK, "metrics=fid", f"out={Path.cwd()}", "-q")[2] == ""


def test_metrics_take_their_settings_along(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    found = result(capsys, str(run), "metrics=prdc:k=3,fid,PRDC", f"out={Path.cwd()}")
    assert list(found["findings"]) == ["PRDC:k=3", "FID", "PRDC"]


def test_likelihood_and_losses_need_no_samples_and_no_encoder(
    capsys: pytest.CaptureFixture[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unstir.assessment.bench.encoder_for", None)  # it would be called
    found = result(capsys, str(run), "metrics=heldoutloss", "features=auto", f"out={Path.cwd()}")
    assert (found["n"], found["seeds"], found["sampling"]) == (0, None, {})
    assert found["numbers"][0]["seeds"] is None
    assert not list(Path.cwd().glob("samples-*"))


def test_results_go_into_the_run(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    found = result(capsys, str(run), "metrics=fid", "seed=77")
    assert [Path(file).parent for file in found["files"]] == [run / "eval"]


def test_labels_are_known_before_samples_are_drawn(run: Path) -> None:
    """Whether each label has enough samples is asked before the first is drawn."""
    bench = Bench(run, Evaluation(n=20, seed=5))
    drawn = unstir.load(run).sample(n=20, seed=5, steps=1, exact=False)
    assert bench._imagined().y is not None
    np.testing.assert_array_equal(bench._imagined().y, drawn.labels)
    assert "Consistency" in Bench(run, Evaluation(n=64)).metrics(unstir.evaluate.Raw())[0]


def test_a_plan_draws_and_writes_nothing(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    code, out, _ = call(capsys, str(run), "n=50", "seed=1000", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["n"], plan["seeds"], plan["kept"]) == (50, [1000, 1049], 0)
    assert {"FID", "Accuracy"} <= set(plan["metrics"])  # the encoder will know classes
    assert plan["seconds"] > 0
    code, out, _ = call(capsys, str(run), "sweep=steps", "values=1,2", "--dry-run")
    assert code == 0
    assert "sweep      steps 1, 2" in out
    assert not list(Path.cwd().iterdir())
    assert not list((run / "eval").glob("*1000*"))


# -- samples are drawn once --------------------------------------------------------------------------------------


def test_samples_are_drawn_once(
    capsys: pytest.CaptureFixture[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    original = Pipeline.sample

    def sample(self: Pipeline, n: int = 16, **more: Any) -> Any:
        if n > 1:  # one is drawn to see whether it can be
            drawn.append(n)
        return original(self, n, **more)

    monkeypatch.setattr(Pipeline, "sample", sample)
    first = result(capsys, str(run), "metrics=fid", "out=a", "micro_batch=5")
    assert drawn == [5, 5, 2]
    again = result(capsys, str(run), "metrics=fid,kid", "out=a", "micro_batch=5")
    assert drawn == [5, 5, 2]
    assert again["numbers"][0] == first["numbers"][0]
    more = result(capsys, str(run), "metrics=fid", "out=a", "n=15", "micro_batch=5")
    assert drawn == [5, 5, 2, 3]
    whole = result(capsys, str(run), "metrics=fid", "out=b", "n=15", "micro_batch=5")
    assert whole["numbers"][0]["value"] == pytest.approx(more["numbers"][0]["value"], rel=1e-3)
    result(capsys, str(run), "metrics=fid", "out=a", "seed=1", "micro_batch=5")
    result(capsys, str(run), "metrics=fid", "out=a", "steps=3", "micro_batch=5")
    assert len(list(Path("a").glob("samples-*.npz"))) == 3


def test_exact_samples_are_those_of_unstir_sample(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    result(capsys, str(run), "metrics=fid", "out=a", "exact=1", "label=3")
    (kept,) = Path("a").glob("samples-*.npz")
    with np.load(kept) as arrays:
        np.testing.assert_array_equal(arrays["x"], unstir.load(run).sample(n=12, label=3).images)
        assert arrays["y"].tolist() == [3] * 12
    assert main(["inspect", str(kept)]) == 0


def test_what_was_drawn_survives_an_interruption(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, count = Pipeline.sample, 0

    def sample(self: Pipeline, *more: Any, **words: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return original(self, *more, **words)

    monkeypatch.setattr(Pipeline, "sample", sample)
    with pytest.raises(KeyboardInterrupt):
        unstir.assess(run, features="pixels", n=12, micro_batch=4, out="a", metrics=["fid"])
    (kept,) = Path("a").glob("samples-*.npz")
    with np.load(kept) as arrays:
        assert arrays["seed"].tolist() == list(range(8))


def test_damaged_samples_are_drawn_again(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    first = result(capsys, str(run), "metrics=fid", "out=a")
    (kept,) = Path("a").glob("samples-*.npz")
    kept.write_bytes(kept.read_bytes()[:-100])
    code, out, err = call(capsys, str(run), *QUICK, "metrics=fid", "out=a", "--json")
    assert code == 0
    assert "they are drawn again" in err
    assert json.loads(out)["numbers"] == first["numbers"]


# -- in Python -------------------------------------------------------------------------------------------------


def test_python_measures_the_same(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    found = unstir.assess(run, n=12, features="pixels", metrics=[FID(), "kid"], out="a", sampling__steps=3)
    again = result(capsys, str(run), "metrics=fid,kid", "out=a", "steps=3")
    assert found.numbers["fid"].value == again["numbers"][0]["value"]
    assert found.to_dict()["sampling"]["steps"] == 3


def test_a_model_in_memory_leaves_no_files() -> None:
    pipe = tiny.pipeline(classes=())
    found = unstir.assess(pipe, "digits", n=4, features="pixels", metrics=["fid"], steps=2)
    assert found.numbers["fid"].n == 4
    assert not list(Path.cwd().iterdir())
    with pytest.raises(ConfigError, match="does not say what it was trained on"):
        unstir.assess(pipe, n=4)


def test_samples_of_one_class_are_compared_with_that_class(run: Path) -> None:
    found = unstir.assess(run, n=6, features="pixels", metrics=["fid"], label=3, out="a")
    data = open_data("digits")[0]
    assert data.y is not None
    assert found.data["real"] == "train, class 3"
    assert found.numbers["fid"].against == (data.y == 3).sum()


def test_held_out_items_may_be_what_samples_are_compared_with(run: Path) -> None:
    found = unstir.assess(run, n=6, features="pixels", metrics=["fid"], real="heldout", out="a")
    assert found.numbers["fid"].against == 174


def test_other_data_than_the_model_s_is_said(run: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez("part.npz", x=digits[0], y=digits[1].astype(str))
    found = unstir.assess(run, "part.npz", n=6, features="pixels", metrics=["fid"], out="a")
    assert "part.npz is not what" in found.words[0]
    assert not unstir.assess(run, n=6, features="pixels", metrics=["fid"], out="a").notes


def test_points_are_measured_as_they_are(run: Path) -> None:
    pipe = tiny.pipeline(
        classes=(),
        network=MLPConfig(width=16),
        codec=IdentityConfig(),
        shape=(2,),
        kind="points",
        source="points:moons",
        embedder=None,
    )
    found = unstir.assess(pipe, n=50, metrics=["fid"])
    assert found.features == "raw"
    assert found.numbers["fid"].against > 10_000
    x = open_data("points:moons")[0].x[:400]
    np.savez("theirs.npz", x=x.astype(np.float64))
    theirs = unstir.assess("theirs.npz", "points:moons", metrics=["fid"])
    assert theirs.n == 400
    assert theirs.numbers["fid"].value < found.numbers["fid"].value / 10


# -- samples from elsewhere --------------------------------------------------------------------------------------


def test_their_samples(capsys: pytest.CaptureFixture[str], digits: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez("theirs.npz", x=digits[0], y=digits[1])
    found = result(capsys, "theirs.npz", "data=digits", "n=30")
    assert (found["n"], found["seeds"], found["sampling"]) == (30, None, {})
    assert found["notes"] == []
    assert found["skipped"]["HeldOutLoss"] == "there is no model, only its samples"
    assert Path(found["files"][0]).parent == Path.cwd() / "eval"
    assert result(capsys, "theirs.npz", "data=digits", "metrics=fid", "n=none")["n"] == 40


def test_their_labels_mean_the_same_classes(digits: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez("named.npz", x=digits[0], y=np.array([*"abcdefghij"])[digits[1]])
    np.savez("same.npz", x=digits[0], y=digits[1].astype(str))
    request = Evaluation(data="named.npz", heldout=0.2)
    bench = Bench("same.npz", request)  # digits as words: numbers of classes a to j
    assert bench.subject.drawn is not None
    assert bench.subject.drawn.y is not None
    np.testing.assert_array_equal(bench.subject.drawn.y, digits[1])
    named = Bench("named.npz", Evaluation(data="digits")).subject
    assert named.drawn is not None
    assert named.drawn.y is None
    assert "count for nothing" in named.notes[-1]


def test_a_folder_of_their_pictures(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert main(["sample", str(run), "n=4", "out=pictures/", "-q"]) == 0
    found = result(capsys, "pictures", "data=digits", "metrics=fid", "n=none")
    assert found["n"] == 4
    assert not (Path("pictures") / "eval").exists()


def test_data_is_resized_to_their_pictures(digits: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez("small.npz", x=digits[0][:, ::2, ::2])
    found = unstir.assess("small.npz", "digits", features="pixels", metrics=["fid"])
    assert found.numbers["fid"].n == 40


# -- variants of a model -----------------------------------------------------------------------------------------


def test_a_sweep_measures_the_same_seeds_for_each(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    found = result(capsys, str(run), "sweep=steps", "values=1,4,2", "metrics=fid", "out=a")["sweep"]
    assert (found["over"], found["by"], found["default"]) == ("steps", "fid", 2)
    assert [row["steps"] for row in found["rows"]] == [1, 2, 4]
    best = min(found["rows"], key=lambda row: row["fid"])
    assert found["best"] == best["steps"]
    assert {tuple(number["seeds"]) for v in found["variants"] for number in v["numbers"]} == {(0, 11)}
    code, out, _ = call(capsys, str(run), *QUICK, "sweep=steps", "values=1,2", "metrics=fid", "out=a", "-q")
    assert code == 0
    assert "best steps:" in out
    assert "(default)" in out


def test_the_variants_are_chosen_around_the_default(run: Path) -> None:
    assert Bench(run, Evaluation(sweep="guidance")).values() == (1, 1.25, 1.5, 2, 3, 4)
    assert Bench(run, Evaluation(sweep="steps")).values() == (1, 2, 4)


def test_a_sweep_says_whether_the_best_is_sure() -> None:
    def assessment(value: float, half: float) -> Assessment:
        number = Number(name="fid", value=value, low=value - half, high=value + half, n=9, better="low")
        return Assessment(
            model="m", digest="", step=None, data={"real": "train", "against": 9}, n=9, seeds=(0, 8), sampling={},
            features="raw", encoder="", findings={"FID": Finding(numbers=(number,))}, skipped={}, notes=(), seconds={},
        )  # fmt: skip

    sure = Sweep(over="guidance", variants={1.0: assessment(9, 1), 2.0: assessment(5, 1)}, default=1.0)
    assert sure.best == 2
    assert "differ by 4, more than" in sure.words[0]
    assert "flatter it" in sure.words[1]
    unsure = Sweep(over="guidance", variants={1.0: assessment(9, 3), 2.0: assessment(5, 3)}, default=1.0)
    assert "no more than" in unsure.words[0]
    assert len(Sweep(over="guidance", variants={1.0: assessment(9, 1)}, default=1.0).words) == 1


def test_a_variant_that_diverges_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Pipeline.sample

    def sample(self: Pipeline, *more: Any, **words: Any) -> Any:
        if words["guidance"] == 2:
            raise NumericError("it diverged")
        return original(self, *more, **words)

    monkeypatch.setattr(Pipeline, "sample", sample)
    found = sweep(run, "guidance", values=[1, 2], n=6, features="pixels", metrics=["fid"], out="a")
    assert found.best == 1
    assert found.words[-1] == "guidance=2: it diverged"


# -- sheets and failures -----------------------------------------------------------------------------------------


def test_sheets_are_written_beside_the_numbers(tmp_path: Path) -> None:
    sheet = np.zeros((8, 8, 1), np.uint8)
    curve = ([0.0, 1.0], [1.0, math.nan])
    finding = Finding(
        sheets={"copies above": sheet, "b": sheet}, curves={"c": curve}, rows=({"class": "a", "n": 1},)
    )
    found = Assessment(
        model="runs/x@ema:0.05", digest="", step=None, data={"real": "train", "against": 9}, n=9, seeds=(0, 8),
        sampling={}, features="raw", encoder="", findings={"PRDC:k=3": finding}, skipped={}, notes=(), seconds={},
    )  # fmt: skip
    document, *sheets = found.save(tmp_path / "eval")
    assert document.name == f"{found.title}.json"
    assert document.name.startswith("x-ema-0.05-")
    written = json.loads(document.read_text())["findings"]["PRDC:k=3"]
    assert [path.name for path in sheets] == list(written["sheets"].values())
    assert all(
        (tmp_path / "eval" / name).read_bytes().startswith(b"\x89PNG") for name in written["sheets"].values()
    )
    assert list(written["sheets"]) == ["copies above", "b"]
    assert written["curves"] == {"c": [[0, 1], [1, None]]}
    assert written["rows"] == [{"class": "a", "n": 1}]


def test_a_metric_that_fails_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FID, evidence: Any) -> Finding:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(FID, "measure", fail)
    found = unstir.assess(run, n=6, features="pixels", out="a")
    assert found.skipped["FID"] == "it failed: by zero"
    assert "kid" in found.numbers
    with pytest.raises(UnstirError, match="FID: ZeroDivisionError: by zero"):
        unstir.assess(run, n=6, features="pixels", out="a", metrics=["fid"])

    def refuse(self: KID, evidence: Any) -> Finding:
        raise DataError("too few", hint="more")

    monkeypatch.setattr(KID, "measure", refuse)
    with pytest.raises(DataError, match="KID: too few") as error:
        unstir.assess(run, n=6, features="pixels", out="a", metrics=["kid"])
    assert error.value.hint == "more"


# -- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "field"),
    [
        ("", 2, "SUBJECT"),
        ("m n=1", 2, "n"),
        ("m metrics=fdi", 2, "metrics[0]"),
        ("m metrics=fid:3", 2, "metrics"),
        ("m metrics=prdc:l=3", 2, "metrics[0].l"),
        ("m metrics=", 2, "metrics"),
        ("m sweep=solver", 2, "sweep"),
        ("m sampling.solver=hein", 2, "sampling.solver"),
        ("m real=all", 2, "real"),
        ("m", 4, "model"),
        ("RUN metrics=accuracy features=pixels", 2, "metrics"),
        ("RUN features=inception", 2, "features"),
        ("RUN heldout=0 real=heldout", 2, "real"),
        ("RUN data=no-such-folder", 3, "data.source"),
        ("RUN data=points:moons", 2, "data"),
        ("RUN data=named.npz", 2, "data"),
        ("RUN label=eleven", 2, "label"),
        ("RUN weaker=layers", 2, "weaker"),
        ("RUN guidance=2 weaker=no-such-model", 4, "weaker"),
        ("RUN sweep=steps values=1.5", 2, "values"),
        ("RUN sweep=steps values=", 2, "values"),
        ("RUN sweep=ema values=0.03,0.5", 2, "values"),
        ("RUN values=1,2", 2, "values"),
        ("theirs.npz", 2, "data"),
        ("theirs.npz data=digits n=50", 2, "n"),
        ("single.npz data=digits", 2, "n"),
        ("theirs.npz data=digits label=3", 2, "label"),
        ("theirs.npz data=digits sweep=steps", 2, "sweep"),
        ("theirs.npz data=digits steps=3", 2, "sampling"),
        ("theirs.npz data=points:moons", 3, "model"),
        ("theirs.npz data=digits metrics=heldoutloss", 2, "metrics"),
        ("wide.npz data=digits", 2, "data"),
        ("broken.npz data=digits", 3, "data.source"),
        ("broken.npz data=points:moons", 3, "model"),
    ],
)
def test_what_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str],
    run: Path,
    digits: tuple[np.ndarray, np.ndarray],
    line: str,
    code: int,
    field: str,
) -> None:
    np.savez("theirs.npz", x=digits[0])
    np.savez("wide.npz", x=digits[0][:, :, ::2])
    np.savez("single.npz", x=digits[0][:1])
    np.savez("named.npz", x=digits[0], y=np.array([*"abcdefghij"])[digits[1]])
    Path("broken.npz").write_bytes(b"PK")
    got, error = refusal(capsys, *line.replace("RUN", str(run)).split())
    assert (got, error["field"]) == (code, field)
    assert error["hint"]


def test_data_that_is_gone_is_asked_for(run: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    pipe = unstir.load(run)
    pipe.config = tiny.pipeline(classes=pipe.config.classes, source="moved.npz").config
    with pytest.raises(DataError, match=r"the data that .* was trained on: moved\.npz") as error:
        unstir.assess(pipe, n=4)
    assert error.value.hint == "say where it is now: data=..."


@pytest.mark.parametrize("task", ["classifier", "upscale"])
def test_models_that_generate_nothing_are_refused(task: str, tmp_path: Path) -> None:
    from unstir.embedders import LowResolution

    changes: dict[str, Any] = {
        "classifier": {"network": ClassifierConfig(widths=(8,), blocks=1), "embedder": None},
        "upscale": {"spatial": LowResolution(scale=2), "network": tiny.pipeline().config.network},
    }
    config = tiny.pipeline(source="digits").config
    pipe = Pipeline(type(config)(**{**vars(config), **changes["classifier"]}), tiny.pipeline().module)
    if task == "classifier":
        pipe.module = pipe.config.build()
    else:
        pipe.config = type(config)(**{**vars(config), "spatial": LowResolution(scale=2)})
    with pytest.raises(IncompatibleError):
        unstir.assess(pipe, n=4)


def test_classes_of_other_names_are_refused(digits: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez("named.npz", x=digits[0], y=np.array([*"abcdefghij"])[digits[1]])
    pipe = tiny.pipeline(source="named.npz")
    with pytest.raises(IncompatibleError, match=r"the classes of named\.npz are a, b") as error:
        unstir.assess(pipe, n=4)
    assert error.value.hint == "those of the model are ant, bee, cat"


def test_classes_in_another_order_are_the_same_classes(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x = digits[0][:9]
    np.savez("named.npz", x=x, y=np.array(["ant", "bee", "cat"] * 3))
    pipe = tiny.pipeline(classes=("cat", "ant", "bee"), source="named.npz")
    bench = Bench(pipe, Evaluation(n=8))
    drawn = pipe.sample(n=8, steps=1)
    found = bench._numbered(unstir.evaluate.Drawn(drawn.images, np.array(drawn.labels)), bench.draws)  # type: ignore[arg-type]
    names = [pipe.config.classes[k] for k in drawn.labels or ()]
    assert found.y is not None
    assert [bench.train.info.classes[k] for k in found.y] == names


# -- what a model says of data -----------------------------------------------------------------------------------


def test_losses_are_those_of_the_objective(digits: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez("named.npz", x=digits[0][:12], y=np.array(["ant", "bee", "cat"] * 4))
    data, pipe = open_data("named.npz", heldout=0)[0], tiny.pipeline()
    losses = losses_of(pipe, micro_batch=5)(data, 12)
    assert losses.shape == (12, 10)
    assert torch.allclose(losses_of(pipe)(data, 12), losses, rtol=1e-4)
    x, y = data.take(np.array([7]))
    batch = unstir.Batch(pipe.codec.encode(x), pipe.condition(y))
    rng = Rng(torch.tensor([0])).fork("losses", torch.tensor([7])).fork("level", 4)
    with torch.no_grad():
        expected = Denoising(weight=Target()).loss_at(
            pipe.denoiser, batch, torch.tensor([0.45]).double(), rng
        )
    assert losses[7, 4] == pytest.approx(expected.item(), rel=1e-4)
    few = losses_of(pipe)(data, 4)
    assert torch.allclose(few[[0, -1]], losses[[0, -1]], rtol=1e-4)


def test_bits_are_those_of_unstir_likelihood(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    pipe, (train, heldout) = unstir.load(run), open_data("digits")
    bits, errors = bits_of(pipe, train, heldout)(3)
    capsys.readouterr()
    assert main(["likelihood", str(run), "n=3", "--json", "-q"]) == 0
    score = json.loads(capsys.readouterr().out)["scores"][0]
    assert bits.mean().item() == pytest.approx(score["bits_per_dimension"], rel=1e-6)
    assert (errors > 0).all()
