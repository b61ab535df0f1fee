"""Encoders: one trained on the data, a user's own, and what is kept of both."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from unstir.data import Dataset, open_data
from unstir.errors import ConfigError, DataError, IncompatibleError, NumericError
from unstir.evaluate import Encoder, OnnxEncoder, Raw, Trained, embedded, encoder_for
from unstir.evaluate.onnx import Reading
from unstir.evaluate.trained import trained
from unstir.files import read_header
from unstir.train import Trainer

Sets = tuple[Dataset, Dataset]


@pytest.fixture(scope="module")
def digits() -> Sets:
    return open_data("digits")


@pytest.fixture(scope="module")
def unlabelled() -> Sets:
    return open_data("digits", labels=False)


@pytest.fixture(scope="module")
def classifier(digits: Sets, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(*digits, cache=tmp_path_factory.mktemp("classifier"), samples=8_000)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every training."""
    begun: list[int] = []
    steps = Trainer.steps
    monkeypatch.setattr(Trainer, "steps", lambda self: (begun.append(1), steps(self))[1])
    return begun


# -- trained on the data -----------------------------------------------------------------------------------
def test_a_classifier_tells_digits_apart_and_says_how_well(digits: Sets, classifier: Trained) -> None:
    _, heldout = digits
    p = classifier.probabilities(heldout.x)
    assert p.shape == (len(heldout), 10)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)
    accuracy = (p.argmax(1) == heldout.y).mean()
    assert accuracy > 0.9
    assert classifier.header.right == round(accuracy * len(heldout))
    assert classifier.about.startswith(f"classifier of digits, {accuracy:.1%} (")
    assert classifier.classes == digits[0].info.classes
    assert len(classifier.digest) == 12


def test_features_do_not_depend_on_the_batch(digits: Sets, classifier: Trained) -> None:
    x = digits[1].x
    features = classifier.embed(x)
    assert features.shape == (len(x), 128)
    assert features.dtype == np.float32
    np.testing.assert_allclose(classifier.embed(x[5:9]), features[5:9], atol=1e-4)
    assert classifier.embed(x[:0]).shape == (0, 128)


def test_features_separate_classes_better_than_pixels(digits: Sets, classifier: Trained) -> None:
    """The variance between classes over that within, summed over features."""

    def separation(encoder: Encoder) -> float:
        x, y = encoder.embed(digits[1].x), digits[1].y
        assert y is not None
        means = np.stack([x[y == k].mean(0) for k in range(10)])
        return float(means.var(0).sum() / (x - means[y]).var(0).sum())

    assert separation(classifier) > 2 * separation(Raw())


def test_training_is_a_function_of_the_data(digits: Sets, tmp_path: Path) -> None:
    once, again, other = (
        trained(*sets, cache=tmp_path / name, samples=256)
        for name, sets in (("a", digits), ("b", digits), ("c", digits[0].split(0.5)))
    )
    assert once.digest == again.digest != other.digest


def test_an_encoder_is_trained_once(digits: Sets, tmp_path: Path, trainings: list[int]) -> None:
    said: list[str] = []
    first = trained(*digits, cache=tmp_path, samples=256, say=said.append)
    assert (len(trainings), len(said)) == (1, 2)
    again = trained(*digits, cache=tmp_path, samples=256, say=said.append)
    assert (len(trainings), len(said)) == (1, 2)
    assert (again.digest, again.about, again.classes) == (first.digest, first.about, first.classes)
    np.testing.assert_array_equal(again.embed(digits[1].x), first.embed(digits[1].x))
    renamed = [Dataset("digits under another name", part.items, part.rows) for part in digits]
    assert "digits under another name" in trained(*renamed, cache=tmp_path, samples=256).about
    assert len(trainings) == 1, "the content decides, not the name"
    trained(*digits[0].split(0.5), cache=tmp_path, samples=256)
    assert len(trainings) == 2, "other data, another encoder"


def test_the_file_says_what_it_is(digits: Sets, tmp_path: Path) -> None:
    encoder = trained(*digits, cache=tmp_path, samples=256)
    (file,) = (tmp_path / "encoders").iterdir()
    header = {name: json.loads(text) for name, text in read_header(file).metadata.items()}
    assert header["fingerprints"] == [part.info.fingerprint for part in digits]
    assert (header["size"], header["channels"], header["samples"]) == ([8, 8], 1, 256)
    assert header["digest"].startswith(encoder.digest)
    assert header["n"] == len(digits[1])


@pytest.mark.parametrize("fault", ["cut", "weights", "header", "text"])
def test_a_damaged_encoder_is_trained_again(
    digits: Sets, tmp_path: Path, trainings: list[int], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    first = trained(*digits, cache=tmp_path, samples=128)
    (file,) = (tmp_path / "encoders").iterdir()
    whole = file.read_bytes()
    damaged = {
        "cut": whole[:-100],
        "weights": whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        "header": whole.replace(b'"samples":"128"', b'"samples":"129"'),
        "text": b"not an encoder",
    }[fault]
    assert damaged != whole
    file.write_bytes(damaged)
    again = trained(*digits, cache=tmp_path, samples=128)
    assert len(trainings) == 2
    assert "the cached encoder was damaged" in caplog.text
    assert again.digest == first.digest
    trained(*digits, cache=tmp_path, samples=128)
    assert len(trainings) == 2, "it was kept"


def test_a_cache_that_cannot_be_written_stops_nothing(
    digits: Sets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "encoders").write_text("in the way")
    assert trained(*digits, cache=tmp_path, samples=128).digest
    assert "the encoder is not kept" in caplog.text


def test_without_labels_pictures_are_found_again(unlabelled: Sets, tmp_path: Path) -> None:
    encoder = trained(*unlabelled, cache=tmp_path, samples=4_000)
    header = encoder.header
    assert header.among == len(unlabelled[1]) < 256
    assert header.right / header.n > 20 / header.among, "20 times chance"
    assert "found again among" in encoder.about
    assert encoder.classes == ()
    with pytest.raises(IncompatibleError, match="knows no classes"):
        encoder.probabilities(unlabelled[1].x)


@pytest.mark.parametrize(
    ("shape", "resized"),
    [((20, 13, 3), (20, 13)), ((100, 100, 1), (64, 64)), ((256, 96, 3), (64, 24)), ((9, 9, 1), (9, 9))],
)
def test_any_picture(tmp_path: Path, shape: tuple[int, int, int], resized: tuple[int, int]) -> None:
    data = _random(tmp_path, 24, shape)
    encoder = trained(*data, cache=tmp_path / "cache", samples=32)
    assert encoder.header.size == resized
    assert np.isfinite(encoder.embed(data[0].x)).all()


def test_nothing_held_out(tmp_path: Path) -> None:
    data, _ = _random(tmp_path, 24, (8, 8, 1))
    encoder = trained(data, data.split(0)[1], cache=tmp_path / "cache", samples=32)
    assert "never measured" in encoder.about


def test_other_channels_are_refused(classifier: Trained) -> None:
    with pytest.raises(IncompatibleError, match="was given an array") as refused:
        classifier.embed(np.zeros((2, 8, 8, 3), np.uint8))
    assert refused.value.field == "features"


def _random(folder: Path, n: int, shape: tuple[int, int, int]) -> Sets:
    x = np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)
    np.savez(folder / "random.npz", x=x, y=np.arange(n) % 2)
    return open_data(folder / "random.npz", cache=folder / "decoded")


# -- by name -----------------------------------------------------------------------------------------------
def test_points_are_compared_as_they_are() -> None:
    train, heldout = open_data("points:moons")
    encoder = encoder_for(None, train, heldout)
    assert isinstance(encoder, Raw)
    np.testing.assert_array_equal(embedded(encoder, train), train.x)


def test_pixels(digits: Sets) -> None:
    encoder = encoder_for("pixels", *digits)
    assert encoder.digest == "raw"
    assert encoder.embed(digits[1].x).shape == (len(digits[1]), 64)


@pytest.mark.parametrize(
    ("features", "message", "hint"),
    [
        ("pixel", "'pixel' is no encoder", "FILE.onnx; did you mean 'pixels'?"),
        ("inception", "'inception' is no encoder", "a file, FILE.onnx"),
        ("none.onnx", "cannot read none.onnx: No such file", "path of an .onnx file"),
        ("none.onnx:scale", "'scale' is no FIELD=VALUE", "scale=unit"),
        ("none.onnx:scale=half", "scale: got 'half'", "unit"),
        ("none.onnx:scal=unit", "unknown setting 'scal'", "did you mean 'scale'"),
    ],
)
def test_unknown_encoders(digits: Sets, features: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        encoder_for(features, *digits)
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


# -- features on disk --------------------------------------------------------------------------------------
class Counting(Encoder):
    """The mean, and how often it was asked."""

    digest, about = "0123456789ab", "the mean"

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, x: np.ndarray) -> np.ndarray:
        self.calls += 1
        return x.reshape(len(x), -1).mean(1, keepdims=True, dtype=np.float32)


def test_features_are_computed_once(digits: Sets, tmp_path: Path) -> None:
    encoder, (train, heldout) = Counting(), digits
    first = embedded(encoder, train, tmp_path)
    np.testing.assert_array_equal(embedded(encoder, train, tmp_path), first)
    assert encoder.calls == 1
    embedded(encoder, heldout, tmp_path)
    assert encoder.calls == 2, "other data"
    encoder.digest = "ba9876543210"
    embedded(encoder, train, tmp_path)
    assert encoder.calls == 3, "another encoder"


@pytest.mark.parametrize("fault", ["byte", "cut", "manifest", "missing"])
def test_damaged_features_are_computed_again(
    digits: Sets, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    encoder, train = Counting(), digits[0]
    first = embedded(encoder, train, tmp_path)
    (entry,) = (tmp_path / "features").iterdir()
    file = entry / "features.npy"
    whole = file.read_bytes()
    match fault:
        case "byte":
            file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "cut":
            file.write_bytes(whole[:-1])
        case "manifest":
            (entry / "manifest.json").write_text("{}")
        case "missing":
            file.unlink()
    np.testing.assert_array_equal(embedded(encoder, train, tmp_path), first)
    assert encoder.calls == 2
    assert "were damaged and are computed again" in caplog.text
    embedded(encoder, train, tmp_path)
    assert encoder.calls == 2, "the entry is whole again"


def test_large_features_are_not_kept(digits: Sets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unstir.evaluate.encoders.KEPT", 1000)
    embedded(Counting(), digits[0], tmp_path)
    assert not (tmp_path / "features").exists()


def test_a_full_disk_costs_only_time(digits: Sets, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "features").write_text("in the way")
    assert len(embedded(Counting(), digits[0], tmp_path)) == len(digits[0])
    assert "the features are not kept" in caplog.text


# -- ONNX --------------------------------------------------------------------------------------------------
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)


def save(
    path: Path,
    nodes: list[Any],
    shape: list[int | str],
    *,
    output: list[int | str],
    kind: int = TensorProto.FLOAT,
    made: int = TensorProto.FLOAT,
    weights: dict[str, np.ndarray] | None = None,
    more: tuple[Any, ...] = (),
) -> Path:
    """A network x -> y of these nodes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape), *more],
        [helper.make_tensor_value_info("y", made, output)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def flat(path: Path, shape: list[int | str], **words: Any) -> Path:
    """A network that gives the values it was fed."""
    return save(path, [helper.make_node("Flatten", ["x"], ["y"])], shape, output=[shape[0], "d"], **words)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("unit", lambda v: v / 255),
        ("signed", lambda v: v / 127.5 - 1),
        ("bytes", lambda v: v),
        ("imagenet", lambda v: (v / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        (None, lambda v: (v / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_a_network_is_fed_what_it_was_trained_on(tmp_path: Path, scale: Any, expected: Any) -> None:
    encoder = OnnxEncoder(flat(tmp_path / "a.onnx", ["n", 3, 6, 6]), Reading(scale=scale))
    wanted = expected(PICTURES.astype(np.float64)).transpose(0, 3, 1, 2).reshape(5, -1)
    np.testing.assert_allclose(encoder.embed(PICTURES), wanted, atol=1e-3 if scale == "bytes" else 1e-5)
    assert f"scale={scale or 'imagenet'}" in encoder.about


def test_channels_last_bytes_and_a_fixed_batch(tmp_path: Path) -> None:
    cast = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["y"]),
    ]
    path = save(tmp_path / "a.onnx", cast, [2, 6, 6, 3], output=[2, 108], kind=TensorProto.UINT8)
    np.testing.assert_array_equal(OnnxEncoder(path).embed(PICTURES), PICTURES.reshape(5, -1))
    with pytest.raises(IncompatibleError, match="takes bytes, not scale=unit"):
        OnnxEncoder(path, Reading(scale="unit"))


def test_grey_becomes_colour_and_colour_luma(tmp_path: Path) -> None:
    colour = OnnxEncoder(flat(tmp_path / "colour.onnx", ["n", 3, 6, 6]), Reading(scale="bytes"))
    grey = PICTURES[..., :1]
    np.testing.assert_allclose(
        colour.embed(grey).reshape(5, 3, 36), np.repeat(grey.reshape(5, 1, 36), 3, 1), atol=1e-3
    )
    one = OnnxEncoder(flat(tmp_path / "one.onnx", ["n", 1, 6, 6]), Reading(scale="bytes"))
    np.testing.assert_allclose(
        one.embed(PICTURES), (PICTURES @ [0.299, 0.587, 0.114]).reshape(5, -1), atol=1e-3
    )


@pytest.mark.parametrize("side", [3, 17])
def test_pictures_are_resized_as_pillow_does(tmp_path: Path, side: int) -> None:
    encoder = OnnxEncoder(flat(tmp_path / "a.onnx", ["n", 3, "h", "w"]), Reading(scale="bytes", size=side))
    ours = encoder.embed(PICTURES).reshape(5, 3, side, side)
    for picture, resized in zip(PICTURES, ours, strict=True):
        for channel, found in zip(picture.transpose(2, 0, 1).astype(np.float32), resized, strict=True):
            wanted = Image.fromarray(channel).resize((side, side), Image.Resampling.BICUBIC)
            np.testing.assert_allclose(found, np.asarray(wanted).clip(0, 255), atol=1e-2)


def test_an_open_size_is_224(tmp_path: Path) -> None:
    path = identity(tmp_path / "a.onnx", ["n", 3, "h", "w"])
    assert "224x224 pixels" in OnnxEncoder(path).about
    assert "96x96 pixels" in OnnxEncoder(path, Reading(size=96)).about
    assert OnnxEncoder(path).digest != OnnxEncoder(path, Reading(size=96)).digest


def identity(path: Path, shape: list[int | str]) -> Path:
    """A network that gives the picture it was fed, as maps (N, C, H, W)."""
    weights = {"w": np.eye(3, dtype=np.float32)[:, :, None, None]}
    return save(path, [helper.make_node("Conv", ["x", "w"], ["y"])], shape, output=shape, weights=weights)


def test_an_output_of_places_is_averaged(tmp_path: Path) -> None:
    encoder = OnnxEncoder(identity(tmp_path / "a.onnx", ["n", 3, 6, 6]), Reading(scale="unit"))
    np.testing.assert_allclose(encoder.embed(PICTURES), PICTURES.mean((1, 2)) / 255, atol=1e-5)
    assert "mean over places of output 'y' of 3 numbers" in encoder.about
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("Transpose", ["r"], ["y"], perm=[0, 2, 1]),
    ]
    shape = {"s": np.array([0, 3, 36])}
    tokens = save(tmp_path / "b.onnx", nodes, ["n", 3, 6, 6], output=["n", 36, 3], weights=shape)
    np.testing.assert_allclose(
        OnnxEncoder(tokens, Reading(scale="unit")).embed(PICTURES), PICTURES.mean((1, 2)) / 255, atol=1e-5
    )


def test_a_classifier_gives_probabilities_when_asked(tmp_path: Path, digits: Sets) -> None:
    weights = {"w": np.random.default_rng(1).normal(size=(192, 10)).astype(np.float32)}
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    path = save(tmp_path / "a.onnx", nodes, ["n", 3, 8, 8], output=["n", 10], weights=weights)
    encoder = encoder_for(f"{path}:scale=unit,classes=logits", *digits)
    x = digits[1].x[:7]
    logits = encoder.embed(x).astype(np.float64)
    np.testing.assert_allclose(
        encoder.probabilities(x), np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-9
    )
    assert encoder.classes == digits[0].info.classes
    plain = encoder_for(f"{path}:scale=unit", *digits)
    assert plain.classes == ()
    assert plain.digest == encoder.digest
    with pytest.raises(IncompatibleError, match="knows no classes"):
        plain.probabilities(x)
    with pytest.raises(IncompatibleError, match="gives no probabilities"):
        encoder_for(f"{path}:scale=unit,classes=probabilities", *digits).probabilities(x)


def test_the_digest_is_of_file_and_scale(tmp_path: Path) -> None:
    a, b = flat(tmp_path / "a.onnx", ["n", 3, 6, 6]), flat(tmp_path / "b.onnx", ["n", 3, 6, 6])
    assert OnnxEncoder(a).digest == OnnxEncoder(b).digest != OnnxEncoder(a, Reading(scale="unit")).digest


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    weights = {"w": np.ones((108, 8), np.float32)}
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    path = save(tmp_path / "a.onnx", nodes, ["n", 3, 6, 6], output=["n", 8], weights=weights)
    assert OnnxEncoder(path).embed(PICTURES).shape == (5, 8)
    apart = tmp_path / "apart.onnx"
    model = onnx.load_model(path)
    onnx.save_model(model, apart, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (tmp_path / "w.bin").exists()
    with pytest.raises(DataError, match="keeps weights in other files"):
        OnnxEncoder(apart)


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Log", ["f"], ["y"])]
    path = save(tmp_path / "a.onnx", nodes, ["n", 3, 6, 6], output=["n", 108])
    encoder = OnnxEncoder(path, Reading(scale="unit"))
    with pytest.raises(NumericError, match="NaN or infinity for 1 of 5 pictures"):
        encoder.embed(np.concatenate([np.zeros_like(PICTURES[:1]), PICTURES[1:].clip(1)]))


def test_a_batch_may_be_empty(tmp_path: Path) -> None:
    assert OnnxEncoder(flat(tmp_path / "a.onnx", [2, 3, 6, 6])).embed(PICTURES[:0]).shape == (0, 108)


@pytest.mark.parametrize("content", [b"", b"text, not a network", b"\x08\x09"])
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(DataError, match="no ONNX file"):
        OnnxEncoder(tmp_path / "a.onnx")


def test_networks_that_do_not_fit(tmp_path: Path) -> None:
    second = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 7])
    add = [helper.make_node("Cast", ["ids"], ["y"], to=TensorProto.FLOAT)]
    alien = [helper.make_node("Dream", ["x"], ["y"], domain="elsewhere")]
    count = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0)
    pooled = [mean, helper.make_node("Unsqueeze", ["m", "a"], ["y"])]
    shape: list[int | str] = ["n", 3, 6, 6]
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (IncompatibleError, "has 2 inputs", {"nodes": add, "output": ["n", 7], "more": (second,)}),
        (IncompatibleError, "takes x", {"nodes": _flatten(), "shape": ["n", 108], "output": ["n", 108]}),
        (IncompatibleError, "takes 4 channels", {"nodes": _flatten(), "shape": ["n", 4, 6, 6], "output": ["n", 144]}),
        (IncompatibleError, "gives no features", {"nodes": count, "output": []}),
        (IncompatibleError, "gives 1 numbers", {"nodes": pooled, "output": ["n", 1], "weights": {"a": np.array([1])}}),
        (DataError, "cannot be run", {"nodes": alien, "output": ["n", 3]}),
    ]  # fmt: skip
    for error, message, words in cases:
        with pytest.raises(error, match=message):
            OnnxEncoder(save(tmp_path / "a.onnx", **{"shape": shape} | words))
    with pytest.raises(IncompatibleError, match="not size=7"):
        OnnxEncoder(flat(tmp_path / "a.onnx", shape), Reading(size=7))
    with pytest.raises(IncompatibleError, match="no pictures"):
        OnnxEncoder(flat(tmp_path / "a.onnx", shape)).embed(np.zeros((3, 2), np.float32))


def _flatten() -> list[Any]:
    return [helper.make_node("Flatten", ["x"], ["y"])]


def test_without_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = flat(tmp_path / "a.onnx", ["n", 3, 6, 6])
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="not installed") as refused:
        OnnxEncoder(path)
    assert refused.value.hint == 'run: pip install "unstir[onnx]"'


def test_a_trained_encoder_warns_on_nothing(
    digits: Sets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        trained(*digits, cache=tmp_path, samples=128)
        trained(*digits, cache=tmp_path, samples=128)
    assert not caplog.records
