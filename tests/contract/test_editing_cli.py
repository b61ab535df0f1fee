"""`unstir edit`, `upscale` and `restore`: what is kept, what is written, what is said, and how it is made again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import pipeline
from unstir import load
from unstir.cli import main
from unstir.cli.drawing import _every_few_seconds
from unstir.modalities import read_recipe
from unstir.modalities.image import with_scale

STEPS = "steps=3"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """grey.safetensors and colour.safetensors, both of 8x8 pixels and three classes."""
    folder = tmp_path_factory.mktemp("models")
    pipeline().save(folder / "grey.safetensors")
    pipeline(shape=(3, 8, 8)).save(folder / "colour.safetensors")
    return folder


@pytest.fixture(autouse=True)
def _files(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder but for the models, in.png (8x8, grey), rgb.png (8x8), wide.png (20x12) and mask.png."""
    monkeypatch.chdir(tmp_path)
    for model in models.iterdir():
        (tmp_path / model.name).symlink_to(model)
    rng = np.random.default_rng(0)
    for name, shape in (("in", (8, 8)), ("rgb", (8, 8, 3)), ("wide", (12, 20)), ("true", (16, 16))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(f"{name}.png")
    Image.fromarray(HOLE.astype(np.uint8) * 255).save("mask.png")


HOLE = np.zeros((8, 8), bool)
HOLE[2:6, 3:7] = True


def unstir(line: str, *, model: str = "grey", code: int = 0) -> None:
    """Runs `unstir VERB MODEL REST` of "VERB REST"."""
    verb, _, rest = line.partition(" ")
    assert main([verb, f"{model}.safetensors", *shlex.split(rest), STEPS]) == code


def result(capsys: pytest.CaptureFixture[str], line: str, **more: Any) -> Any:
    """The JSON that the command prints."""
    capsys.readouterr()
    unstir(f"{line} --json -q", **more)
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


# -- what is kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", "strength=0.5", "label=bee n=1", "method=ddnm", "feather=1"])
def test_pixels_outside_of_the_mask_keep_their_bytes(more: str) -> None:
    unstir(f"edit in.png mask=mask.png {more} out=out.png")
    assert (pixels("out.png")[~HOLE] == pixels("in.png")[~HOLE]).all()
    assert (pixels("out.png")[HOLE] != pixels("in.png")[HOLE]).any()


def test_outpainting_keeps_the_picture_inside() -> None:
    unstir("edit rgb.png extend=left:3,bottom:5 out=out.png", model="colour")
    assert pixels("out.png").shape == (13, 11, 3)
    assert (pixels("out.png")[:8, 3:] == pixels("rgb.png")).all()


def test_a_mask_and_a_border_at_once() -> None:
    unstir("edit in.png mask=mask.png extend=right:4 out=out.png")
    assert pixels("out.png").shape == (8, 12)
    assert (pixels("out.png")[:, :8][~HOLE] == pixels("in.png")[~HOLE]).all()


def test_image_to_image_stays_near_where_it_is_weak() -> None:
    far = {}
    for strength in (0.05, 1):
        unstir(f"edit in.png strength={strength} out=out.png")
        far[strength] = np.abs(pixels("out.png").astype(float) - pixels("in.png")).mean()
    assert 0 < far[0.05] < far[1] / 2


@pytest.mark.parametrize("scale", [2, 3])
def test_an_upscaled_picture_is_as_large_as_was_asked(capsys: pytest.CaptureFixture[str], scale: int) -> None:
    told = result(capsys, f"upscale wide.png scale={scale} tile=8 overlap=4 out=out.png")
    assert pixels("out.png").shape == (12 * scale, 20 * scale)
    assert (told["recipe"]["tile"], told["recipe"]["overlap"]) == (8, 4)


# -- what is measured --------------------------------------------------------------------------------------


def test_simulating_writes_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """From the array that it wrote, the same picture is restored."""
    first = result(capsys, "restore in.png operator=downsample:scale=2 std=0.1 simulate=1 n=2 out=sim.npz")
    assert (first["y"], first["measured"]) == ("sim-measured.npy", "sim-measured.png")
    y = np.load("sim-measured.npy")
    assert y.shape == (1, 4, 4)
    shown = (y[0] * 127.5 + 127.5).round().clip(0, 255)
    assert (pixels("sim-measured.png") == shown).all()
    again = "restore sim-measured.npy operator=downsample operator.scale=2 std=0.1 reference=in.png n=2"
    second = result(capsys, f"{again} out=again.npz")
    with np.load("sim.npz") as one, np.load("again.npz") as other:
        np.testing.assert_array_equal(one["x"], other["x"])
    assert first["psnr"] == second["psnr"]


def test_quality_is_that_of_the_picture_as_it_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    told = result(capsys, "upscale in.png scale=2 kernel=box reference=true.png out=out.png")
    off = pixels("out.png").astype(float) - pixels("true.png")
    assert told["psnr"] == [pytest.approx(10 * np.log10(255**2 / (off**2).mean()), abs=1e-3)]
    assert -1 <= told["ssim"][0] <= 1
    gap = pixels("out.png").reshape(8, 2, 8, 2).mean((1, 3)) - pixels("in.png")
    assert told["consistency"] == [pytest.approx(np.sqrt((gap**2).mean()), rel=1e-3)]


@pytest.mark.parametrize(
    "operator",
    [
        "operator=mask mask=mask.png",
        "operator=kernel kernel=k.npy",
        "operator=kernel kernel=k.png std=0.1",
        "operator=blur:sigma=1 peak=100",
        "operator=randompixels:share=0.5,seed=3",
        "operator=phase std=0.01",
        "operator=sensing:share=0.5",
        "operator=jpeg:quality=20",
        "operator=hdr",
    ],
)
def test_every_kind_of_operator_is_simulated_and_restored(
    capsys: pytest.CaptureFixture[str], operator: str
) -> None:
    np.save("k.npy", np.ones((3, 3)))
    Image.fromarray(np.full((3, 3), 9, np.uint8)).save("k.png")
    told = result(capsys, f"restore in.png {operator} simulate=1 out=out.png")
    assert pixels("out.png").shape == (8, 8)
    assert len(told["consistency"]) == len(told["psnr"]) == 1
    assert Path("out-measured.png").exists() == (not operator.startswith(("operator=phase", "operator=sens")))


def test_a_mask_of_the_measured_says_what_is_unknown() -> None:
    unstir("restore in.png operator=mask mask=mask.png method=ddnm out=out.png")
    assert (np.abs(pixels("out.png").astype(int) - pixels("in.png"))[~HOLE] <= 1).all()


def test_grey_is_restored_to_colour() -> None:
    unstir("restore in.png operator=grayscale out=out.png", model="colour")
    assert pixels("out.png").shape == (8, 8, 3)


def test_numbers_may_come_as_an_archive(capsys: pytest.CaptureFixture[str]) -> None:
    unstir("restore in.png operator=phase simulate=1 out=out.png")
    np.savez("y.npz", y=np.load("out-measured.npy"), z=np.zeros(3))
    unstir("restore y.npz operator=phase out=again.png")
    assert (pixels("again.png") == pixels("out.png")).all()


# -- several samples ---------------------------------------------------------------------------------------


def test_a_sample_depends_on_its_seed_alone() -> None:
    unstir("edit in.png mask=mask.png n=3 seed=7 out=many.npz")
    unstir("edit in.png mask=mask.png seed=8 out=one.npz")
    with np.load("many.npz") as many, np.load("one.npz") as one:
        np.testing.assert_array_equal(many["x"][1], one["x"][0])
        assert (many["x"][1] != many["x"][2]).any()


def test_uncertainty_writes_the_mean_and_the_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    told = result(capsys, "edit in.png mask=mask.png n=4 uncertainty=1 out=out.npz")
    assert (told["mean"], told["uncertainty"]) == ("out-mean.png", "out-uncertainty.png")
    with np.load("out.npz") as arrays:
        x = arrays["x"][..., 0].astype(float)
    assert (pixels("out-mean.png") == x.mean(0).round()).all()
    shown = pixels("out-uncertainty.png")[:128, :128][8::16, 8::16]
    deviation = x.std(0, ddof=1)
    np.testing.assert_allclose(shown, 255 * deviation / deviation.max(), atol=1)
    assert (shown[~HOLE] == 0).all()


def test_a_folder_holds_every_result() -> None:
    unstir("restore in.png operator=downsample:scale=2 simulate=1 n=2 uncertainty=1 out=all/")
    names = {"000000.png", "000001.png", "mean.png", "uncertainty.png", "measured.npy", "measured.png"}
    assert {path.name for path in Path("all").iterdir()} == names


def test_a_scale_stands_beneath_numbers_shown_as_a_picture() -> None:
    shown = with_scale(np.arange(12.0).reshape(3, 4), "m")
    assert shown.shape[1] >= 4 * 43
    bar = shown[3 * 43 + 4 : 3 * 43 + 12]
    assert (np.diff(bar.astype(int)) >= 0).all()
    assert ((bar[:, 0] == 0) & (bar[:, -1] == 255)).all()
    number = (shown[3 * 43 + 16 :, shown.shape[1] // 2 :] < 255).any(0)
    assert number.nonzero()[0].max() >= len(number) - 4  # ends where the bar does
    assert (shown[0, 0], shown[128, 4 * 43 - 1]) == (0, 255)
    assert with_scale(np.zeros((200, 300)), "m").max() == 255  # the words


# -- what is said ------------------------------------------------------------------------------------------


def test_paths_go_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    unstir("restore true.png operator=blur std=0.1 simulate=1 n=2 seed=5 uncertainty=1")
    out, err = capsys.readouterr()
    names = ("", "-measured", "-measured", "-mean", "-uncertainty")
    endings = (".png", ".npy", ".png", ".png", ".png")
    assert out.split() == [f"true-restored{a}{b}" for a, b in zip(names, endings, strict=True)]
    assert all(Path(path).is_file() for path in out.split())
    method, drawn, consistency, quality, uncertainty = err.splitlines()
    assert method.startswith("method       ")
    assert ": " in method
    assert "2 of 16x16, 3 steps, " in drawn
    assert drawn.endswith("seed 5..6")
    assert consistency.startswith("consistency  |A x - y| ")
    assert consistency.endswith("the noise alone is 12.75")
    assert quality.startswith("quality      PSNR ")
    assert "grey levels" in uncertainty


def test_where_results_go_when_nobody_says(tmp_path: Path) -> None:
    for line in ("edit rgb.png strength=1", "upscale rgb.png", "restore rgb.png operator=hdr"):
        unstir(line, model="colour")
    found = {path.stem for path in tmp_path.glob("*-*")}
    assert found == {"rgb-edited", "rgb-upscaled", "rgb-restored"}


def test_quiet_and_dry_run_say_and_write_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for line, size, windows in (
        ("edit in.png mask=mask.png n=2", [8, 8], 1),
        ("upscale wide.png overlap=0 n=2", [24, 40], 15),
        ("restore in.png operator=blur simulate=1 n=2", [8, 8], 1),
    ):
        told = result(capsys, f"{line} --dry-run")
        assert told["parameters"] > 0
        assert told["request"]["n"] == 2
        assert told["out"].endswith("ed.png")
        assert (told["plan"]["size"], told["plan"]["windows"]) == (size, windows)
        assert told["plan"]["steps"] == 3
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_says_what_was_asked_for_and_what_would_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    unstir("upscale wide.png overlap=0 n=2 solver.eta=0.5 out=large.png --dry-run")
    out, err = capsys.readouterr()
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert list(rows) == ["model", "input", "settings", "size", "method", "steps", "windows", "out"]
    assert rows["settings"] == "overlap=0 n=2 solver.eta=0.5 steps=3"
    assert (rows["size"], rows["steps"], rows["windows"], rows["out"]) == ("40x24", "3", "15", "large.png")
    assert ": " in rows["method"]
    assert "None" not in out
    assert "{" not in out
    assert err == ""
    assert not Path("large.png").exists()


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("rgb.png", "grey", "in colour, converted to grey"),
        ("in.png", "colour", "grey, taken as colour"),
        ("alpha.png", "grey", "with transparency, laid on white"),
        ("deep.png", "grey", "16-bit grey, reduced to 8 bits"),
    ],
)
def test_a_picture_is_converted_aloud(
    capsys: pytest.CaptureFixture[str], name: str, model: str, said: str
) -> None:
    alpha = Image.open("in.png").convert("LA")
    alpha.putalpha(Image.open("mask.png"))
    alpha.save("alpha.png")
    Image.fromarray(pixels("in.png").astype(np.uint16) * 257).save("deep.png")
    capsys.readouterr()
    unstir(f"edit {name} mask=mask.png out=out.png", model=model)
    assert f"{name}: {said}" in capsys.readouterr().err
    assert pixels("out.png").ndim == (2 if model == "grey" else 3)
    if name == "alpha.png":
        assert (pixels("out.png")[~HOLE] == 255).all()
    if name == "deep.png":
        assert (pixels("out.png")[~HOLE] == pixels("in.png")[~HOLE]).all()


READ = "{}: painted where it is {}, {} of the picture"


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "1"])
def test_a_mask_of_any_kind(capsys: pytest.CaptureFixture[str], mode: str) -> None:
    Image.open("mask.png").convert(mode).save("other.png")
    capsys.readouterr()
    unstir("edit in.png mask=other.png out=out.png")
    assert capsys.readouterr().err.splitlines()[0] == READ.format("other.png", "white", "25%")
    assert (pixels("out.png")[~HOLE] == pixels("in.png")[~HOLE]).all()


def test_a_soft_mask_is_cut_at_half_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.where(HOLE, 128, 127).astype(np.uint8)).save("soft.png")
    capsys.readouterr()
    unstir("edit in.png mask=soft.png out=out.png")
    assert "soft.png: not just black and white" in capsys.readouterr().err
    assert (pixels("out.png")[~HOLE] == pixels("in.png")[~HOLE]).all()
    assert (pixels("out.png")[HOLE] != pixels("in.png")[HOLE]).any()


def layer(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGBA of colours (..., 3) or one grey, and of an alpha, both as they spread over the picture."""
    colours = np.broadcast_to(colours, (8, 8, 3))
    return np.dstack([colours, np.broadcast_to(alpha, (8, 8))]).astype(np.uint8)


PHOTO = np.random.default_rng(1).integers(0, 256, (8, 8, 3))
TOP = np.arange(8)[:, None] < 4
LAYERS = {
    "a white stroke": (layer(np.array(255), 255 * HOLE), HOLE, "opaque"),
    "a black stroke": (layer(np.array(0), 255 * HOLE), HOLE, "opaque"),
    "a red stroke": (layer(np.array([255, 0, 0]), 255 * HOLE), HOLE, "opaque"),
    "a soft stroke": (layer(np.array([9, 0, 200]), np.where(HOLE, 200, 100)), HOLE, "opaque"),
    "a stroke over leftover colours": (
        layer(np.where(HOLE[..., None], 7, PHOTO), 255 * HOLE),
        HOLE,
        "opaque",
    ),
    "black and white": (layer(255 * HOLE[..., None], 255 * (HOLE | TOP)), HOLE, "white"),
    "a hole": (layer(PHOTO, 255 * ~HOLE), HOLE, "transparent, a hole in a picture"),
    "all half there": (layer(255 * HOLE[..., None], np.array(250)), HOLE, "white"),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_mask_with_transparency(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    pixels_of_it, painted, where = LAYERS[kind]
    Image.fromarray(pixels_of_it).save("layer.png")
    capsys.readouterr()
    unstir("edit in.png mask=layer.png out=out.png")
    assert capsys.readouterr().err.splitlines()[0] == READ.format("layer.png", where, "25%")
    assert (pixels("out.png")[~painted] == pixels("in.png")[~painted]).all()
    assert (pixels("out.png")[painted] != pixels("in.png")[painted]).mean() > 0.5
    unstir("restore in.png operator=mask mask=layer.png out=again.png")
    said = capsys.readouterr().err.splitlines()[0]
    assert said == f"layer.png: unknown where it is {where}, 25% of the picture"


def test_a_model_and_a_picture_may_come_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["upscale", "in.png", "grey.safetensors", STEPS, "out=out.png"]) == 0
    said = "in.png is no model: taken as the input, and grey.safetensors as the model"
    assert capsys.readouterr().err.splitlines()[0] == said
    assert read_recipe("out.png")["model"] == "grey.safetensors"


def test_none_is_left_out() -> None:
    unstir("upscale in.png label=none negative=None reference=none out=none")
    unstir("restore in.png operator=blur mask=none kernel=none")
    unstir("edit in.png extend=right:1 mask=none weaker=none")
    assert {"in-upscaled.png", "in-restored.png", "in-edited.png"} < {path.name for path in Path().iterdir()}
    assert not Path("none").exists()
    assert read_recipe("in-upscaled.png")["label"] is None


@pytest.mark.parametrize("noise", ["std=0.1", "peak=30"])
def test_consistency_is_told_beside_what_the_noise_alone_gives(
    capsys: pytest.CaptureFixture[str], noise: str
) -> None:
    told = result(capsys, f"restore in.png operator=blur {noise} simulate=1 out=out.png")
    y = np.load("out-measured.npy")
    variance = 0.01 if noise == "std=0.1" else np.maximum(2 * (y + 1) / 30, 0).mean()
    assert told["noise"] == pytest.approx(127.5 * variance**0.5, rel=0.02)
    unstir(f"restore in.png operator=blur {noise} simulate=1 out=out.png")
    assert f"; the noise alone is {told['noise']:.2f}" in capsys.readouterr().err


def test_progress_says_of_how_many_steps() -> None:
    said: list[str] = []
    on_step = _every_few_seconds(said.append, 3, interval=0)
    for _ in range(4):
        on_step(None)
    assert said == [
        "step 1 of 3  0 s",
        "step 2 of 3  0 s",
        "step 3 of 3  0 s",
        "step 1 of 3, round 2  0 s",
    ]


# -- making it again ---------------------------------------------------------------------------------------

MADE = [
    "edit in.png mask=mask.png n=3 seed=5 label=cat guidance=2 out=first.png",
    "edit in.png mask=mask.png label=0 negative=bee guidance=2 strength=0.7 feather=2 out=first.npz",
    "edit wide.png extend=top:2,right:3 tile=6 overlap=2 solver=ddim:eta=0.5 out=first.png",
    "edit in.png strength=0.4 grid=trailing n=2 out=first.png",
    "edit in.png mask=mask.png n=2 seed=3 out=first/",
    "upscale wide.png scale=3 kernel=box label=1 out=first.png",
    "upscale in.png n=2 uncertainty=1 out=first.png",
    "restore in.png operator=blur:sigma=1.5 std=0.05 method=diffpir:weight=2 out=first.png",
    "restore in.png operator=downsample:scale=2,kernel=box peak=20 simulate=1 seed=3 out=first.png",
    "restore in.png operator=mask mask=mask.png out=first.png",
    "restore in.png operator=kernel kernel=k.npy std=0.1 solver=heun solver.variable=sigma out=first.png",
]


@pytest.mark.parametrize("line", MADE)
def test_the_printed_command_makes_the_same_bytes(capsys: pytest.CaptureFixture[str], line: str) -> None:
    np.save("k.npy", np.ones((3, 3)))
    unstir(line)
    name = line.partition("out=")[2]
    name = "first/000004.png" if name == "first/" else name
    capsys.readouterr()
    assert main(["inspect", name, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["command"].startswith(
        f"unstir {' '.join(line.split()[:1])} grey.safetensors {line.split()[1]} "
    )
    assert len(told["recipe"]["input_sha256"]) == len(told["recipe"]["model_sha256"]) == 64
    assert main([*shlex.split(told["command"])[1:], "-q"]) == 0
    assert Path(f"again{Path(name).suffix}").read_bytes() == Path(name).read_bytes()
    if "uncertainty=1" in line:
        for word in ("mean", "uncertainty"):
            assert Path(f"again-{word}.png").read_bytes() == Path(f"first-{word}.png").read_bytes()


FOLDERS = [
    "edit in.png mask=mask.png n=2 uncertainty=1",
    "restore in.png operator=downsample:scale=2 std=0.1 simulate=1 n=2 seed=3 uncertainty=1",
    "restore in.png operator=blur peak=30 simulate=1 n=2",
]


@pytest.mark.parametrize("line", FOLDERS)
def test_every_picture_of_a_folder_is_made_again_alone(capsys: pytest.CaptureFixture[str], line: str) -> None:
    unstir(f"{line} out=first/")
    for path in sorted(Path("first").glob("0*.png")):
        capsys.readouterr()
        assert main(["inspect", str(path), "--json"]) == 0
        command = json.loads(capsys.readouterr().out)["command"]
        assert "uncertainty" not in command
        assert "simulate" not in command
        assert main([*shlex.split(command)[1:], "-q"]) == 0
        assert Path("again.png").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("part", ["mean", "uncertainty", "measured"])
@pytest.mark.parametrize("out", ["first.png", "first/"])
def test_a_picture_beside_the_result_says_what_it_is(
    capsys: pytest.CaptureFixture[str], part: str, out: str
) -> None:
    unstir(f"restore in.png operator=blur std=0.1 simulate=1 n=2 uncertainty=1 out={out}")
    path = Path(f"first/{part}.png" if out.endswith("/") else f"first-{part}.png")
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 0
    told, _, command = capsys.readouterr().out.rpartition("\n\n")
    head, command = command.splitlines()
    assert json.loads(told)["part"] == part
    assert head == f"made again, as again-{part}.png, by"
    assert main([*shlex.split(command)[1:], "-q"]) == 0
    assert Path(f"again-{part}.png").read_bytes() == path.read_bytes()


def test_a_picture_made_in_python_is_not_said_to_be_made_by_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    load("grey.safetensors").upscale(pixels("in.png"), 2, steps=3).save("out.png")
    capsys.readouterr()
    assert main(["inspect", "out.png"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "made in Python, of a picture without a name: no command makes it again"
    assert main(["inspect", "out.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] is None


def test_settings_from_a_file(tmp_path: Path) -> None:
    Path("s.yaml").write_text("operator: {name: blur, sigma: 1}\nstd: 0.1\nsampling: {steps: 3}\n")
    assert (
        main(["restore", "grey.safetensors", "in.png", "--config", "s.yaml", "std=0.2", "out=out.png"]) == 0
    )
    recipe = read_recipe("out.png")
    assert (recipe["operator"], recipe["std"]) == ({"name": "Blur", "sigma": 1.0}, 0.2)
