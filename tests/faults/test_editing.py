"""What `unstir edit`, `upscale` and `restore` refuse: the exit code, the field, the reason, and nothing written."""

from __future__ import annotations

import json
import os
import shlex
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tiny import pipeline
from unstir.__main__ import run
from unstir.cli import main
from unstir.codecs import IdentityConfig
from unstir.data import picture
from unstir.limits import Limits
from unstir.networks import ClassifierConfig, MLPConfig
from unstir.pipeline import restoration


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 8x8 pixels: grey, colour, plain (without labels) and judge, a classifier; and points."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "grey": {},
        "colour": {"shape": (3, 8, 8)},
        "plain": {"classes": ()},
        "judge": {"network": ClassifierConfig(widths=(8,), blocks=1), "embedder": None},
        "points": {
            "network": MLPConfig(width=8),
            "shape": (2,),
            "codec": IdentityConfig(),
            "kind": "points",
            "classes": (),
        },
    }
    for name, changes in made.items():
        pipeline(**changes).save(folder / name)  # type: ignore[arg-type]
    return folder


@pytest.fixture(autouse=True)
def _files(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """in.png and rgb.png (8x8), masks, arrays, and files that are none of these."""
    monkeypatch.chdir(tmp_path)
    for model in models.iterdir():
        (tmp_path / f"{model.name}.safetensors").symlink_to(model)
    rng = np.random.default_rng(0)
    for name, shape in (("in", (8, 8)), ("rgb", (8, 8, 3)), ("small", (4, 6)), ("long", (1, 20_000))):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(f"{name}.png")
    for name, value in (("white", 255), ("black", 0)):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(f"{name}.png")
    Path("all").mkdir()
    for name in ("000000", "000007", "mean"):
        Path(f"all/{name}.png").write_bytes(Path("white.png").read_bytes())
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save("clear.png")
    whole = Path("in.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("empty.png").touch()
    Path("text.png").write_text("no picture")
    Path("folder.png").mkdir()
    np.save("y.npy", np.zeros((1, 8, 8), np.float32))
    np.save("all/measured.npy", np.zeros((1, 8, 8), np.float32))
    np.save("nan.npy", np.full((1, 8, 8), np.nan, np.float32))
    np.save("words.npy", np.array(["a", "b"]))
    np.save("pickle.npy", np.array([{}]), allow_pickle=True)
    np.save("zeros.npy", np.zeros((3, 3)))
    np.save("cube.npy", np.ones((1, 3, 3)))
    np.save("large.npy", np.ones((9, 9)))
    np.savez("two.npz", a=np.zeros(2), b=np.zeros(2))
    Path("text.npy").write_text("no array")
    Path("text.npz").write_text("no archive")
    Path("closed").touch()
    lying = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
    with Path("lying.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, lying)
    os.mkfifo("pipe.png")


EDIT, UP, RESTORE = "edit grey in.png", "upscale grey in.png", "restore grey in.png"

FAULTS = [
    # -- what is asked for
    ("edit grey", 2, "SUBJECT", "a model and a file are needed, got: grey"),
    ("edit", 2, "SUBJECT", "got: nothing"),
    ("edit grey in.png more.png", 2, "SUBJECT", "got: grey.safetensors in.png more.png"),
    (EDIT, 2, "mask", "there is nothing to edit"),
    (f"{EDIT} mask=white.png strenght=0.5", 2, "strenght", "did you mean 'strength'"),
    (f"{EDIT} strength=0", 2, "strength", "a number > 0 and <= 1"),
    (f"{EDIT} strength=1.2", 2, "strength", "a number > 0 and <= 1"),
    (f"{EDIT} strength=nan", 2, "strength", "a number > 0 and <= 1"),
    (f"{EDIT} mask=white.png feather=0", 2, "feather", "an integer >= 1"),
    (f"{EDIT} mask=white.png n=0", 2, "n", "an integer >= 1"),
    (f"{EDIT} mask=white.png uncertainty=1", 2, "uncertainty", "n=8 uncertainty=1"),
    (f"{EDIT} extend=up:0", 2, "extend", "left, right, top, bottom"),
    (f"{EDIT} extend=right:0", 2, "extend", "left, right, top, bottom"),
    (f"{EDIT} extend=sideways:3", 2, "extend", "left, right, top, bottom"),
    (f"{EDIT} extend=right", 2, "extend", "left, right, top, bottom"),
    (f"{EDIT} extend=right:-4", 2, "extend", "left, right, top, bottom"),
    (f"{EDIT} extend=right:999999999", 2, "extend", "at most 64,000,000 pixels"),
    (f"{UP} scale=0", 2, "scale", "an integer >= 2"),
    (f"{UP} scale=-1", 2, "scale", "an integer >= 2"),
    (f"{UP} scale=1", 2, "scale", "an integer >= 2"),
    (f"{UP} scale=1.5", 2, "scale", "an integer >= 2"),
    (f"{UP} kernel=bicubik", 2, "kernel", "did you mean 'bicubic'"),
    ("upscale grey long.png scale=64", 2, "scale", "1280000x64 pixels; at most 64,000,000"),
    (f"{UP} n=10000 scale=64", 2, "scale", "10000 of 512x512 pixels"),
    (f"{UP} tile=16", 2, "tile", "accepted: 2 to 8"),
    (f"{UP} tile=4 overlap=4", 2, "overlap", "accepted: 0 to 3"),
    (f"{UP} overlap=8", 2, "overlap", "accepted: 0 to 7"),
    (f"{UP} method=mmpss", 2, "method", "did you mean 'mmps'"),
    (f"{UP} method=mmps:iterations=0", 2, "method.iterations", "an integer >= 1"),
    (f"{UP} solver=dim", 2, "sampling.solver", "did you mean 'ddim'"),
    # -- operators
    (RESTORE, 2, "operator", "operator is missing"),
    (f"{RESTORE} operator=blurr", 2, "operator", "did you mean 'blur'?"),
    (f"{RESTORE} operator=blur:sigma=-1", 2, "operator.sigma", "above 0"),
    (f"{RESTORE} operator=blur:sigma=x", 2, "operator.sigma", "a number"),
    (f"{RESTORE} operator=blur:sgima=2", 2, "operator.sgima", "did you mean 'sigma'"),
    (f"{RESTORE} operator=blur:2", 2, "operator", "fields of blur: sigma"),
    (f"{RESTORE} operator=motionblur:length=9", 2, "operator.length", "does not fit data of 8 x 8"),
    (f"{RESTORE} operator=downsample:scale=1", 2, "operator.scale", "2 or more"),
    (f"{RESTORE} operator=downsample:scale=3 simulate=1", 2, "operator.scale", "does not divide 8 x 8"),
    (f"{RESTORE} operator=blur std=-1", 2, "std", "a number >= 0"),
    (f"{RESTORE} operator=blur peak=0", 2, "peak", "a number > 0"),
    (f"{RESTORE} operator=blur std=0.1 peak=30", 2, "peak", "give one of them"),
    (f"{RESTORE} operator=blur mask=white.png", 2, "mask", "is for operator=mask"),
    (f"{RESTORE} operator=mask", 2, "mask", "give mask=mask.png"),
    (f"{RESTORE} operator=mask mask=black.png", 2, "mask", "black everywhere"),
    (f"{RESTORE} operator=kernel", 2, "kernel", "give kernel=kernel.npy"),
    (f"{RESTORE} operator=kernel kernel=large.npy", 2, "operator.kernel", "9 x 9 does not fit data of 8 x 8"),
    (f"{RESTORE} operator=kernel kernel=zeros.npy", 2, "kernel", "has the sum 0"),
    (f"{RESTORE} operator=kernel kernel=cube.npy", 2, "operator.kernel", "1 x 3 x 3 does not fit"),
    (f"{RESTORE} operator=phase", 2, "input", "what Phase makes is no picture"),
    (f"{RESTORE} operator=sensing", 2, "input", "what Sensing makes is no picture"),
    ("restore grey y.npy operator=sensing", 2, "y", "Sensing gives"),
    (f"{RESTORE} operator=grayscale", 2, "operator", "data with shape (3, 8, 8)"),
    ("restore colour rgb.png operator=grayscale", 2, "input", "what Grayscale makes is grey"),
    ("restore grey rgb.png operator=grayscale simulate=1", 2, "operator", "takes 3 channels"),
    (f"{RESTORE} operator=jpeg method=ddnm", 2, "method", "JPEG is not linear"),
    (f"{RESTORE} operator=blur peak=30 method=ddrm", 2, "method", "PoissonNoise"),
    (f"{RESTORE} operator=blur method=ddrm solver=heun", 2, "solver", "takes single steps"),
    (f"{RESTORE} operator=blur simulate=1 reference=in.png", 2, "reference", "leave it out"),
    # -- files
    (f"{EDIT} mask=small.png", 2, "mask", "small.png has 6x4 pixels, the picture 8x8"),
    (f"{EDIT} mask=black.png", 2, "mask", "black everywhere"),
    (f"{EDIT} mask=clear.png", 2, "mask", "black everywhere"),
    (f"{EDIT} mask=none label=none", 2, "mask", "there is nothing to edit"),
    (f"{EDIT} --config none.yaml", 2, "none.yaml", "give a file of key: value lines, in YAML"),
    (f"{EDIT} mask=none.png", 3, "mask", "none.png: there is no such file"),
    (f"{EDIT} mask=cut.png", 3, "mask", "cannot read cut.png"),
    (f"{UP} reference=small.png", 2, "reference", "6x4 pixels, the result 16x16"),
    (f"{UP} reference=none.png", 3, "reference", "there is no such file"),
    (f"{RESTORE} operator=blur reference=small.png", 2, "reference", "6x4 pixels, the result 8x8"),
    ("edit grey none.png mask=white.png", 3, "input", "none.png: there is no such file"),
    ("upscale grey cut.png", 3, "input", "truncated"),
    ("upscale grey empty.png", 3, "input", "0 bytes"),
    ("upscale grey text.png", 3, "input", "no known image format"),
    ("upscale grey folder.png", 3, "input", "folder.png is a folder"),
    ("upscale grey y.npy", 3, "input", "no known image format"),
    ("restore grey none.npy operator=blur", 3, "input", "No such file"),
    ("restore grey nan.npy operator=blur", 3, "input", "give finite numbers"),
    ("restore grey words.npy operator=blur", 3, "input", "give finite numbers"),
    ("restore grey pickle.npy operator=blur", 3, "input", "cannot read pickle.npy"),
    ("restore grey text.npy operator=blur", 3, "input", "cannot read text.npy"),
    ("restore grey text.npz operator=blur", 3, "input", "cannot read text.npz"),
    ("restore grey lying.npy operator=blur", 3, "input", "cannot read lying.npy"),
    ("upscale grey pipe.png", 3, "input", "not a regular file"),
    ("restore grey two.npz operator=blur", 3, "input", "it holds a, b, and no array y"),
    (f"{RESTORE} operator=kernel kernel=none.npy", 3, "kernel", "cannot read none.npy"),
    # -- models
    ("edit points in.png mask=white.png", 2, "model", "points"),
    ("upscale judge in.png", 2, "model", "is a classifier"),
    ("edit plain in.png mask=white.png label=3", 2, "label", "trained without labels"),
    ("edit grey in.png mask=white.png label=be", 2, "label", "did you mean 'bee'"),
    ("edit grey in.png mask=white.png guidance=2", 2, "guidance", "label"),
    ("edit none in.png mask=white.png", 4, None, "there is no model 'none.safetensors'"),
    # -- results
    (
        f"{UP} out=x.jpg",
        2,
        "out",
        "unknown ending '.jpg'; use .png (a sheet of several), .npz (arrays) or a folder/",
    ),
    (
        f"{UP} out=x.npy",
        2,
        "out",
        "unknown ending '.npy'; use .png (a sheet of several), .npz (arrays) or a folder/",
    ),
    (f"{UP} out=", 2, "out", "out= is empty"),
    (f"{UP} out=' '", 2, "out", "out= is empty"),
    (f"{UP} out=folder.png", 2, "out", "folder.png is a folder"),
    (f"{UP} out=/proc/x.png", 4, "out", "/proc cannot be written to"),
    (f"{UP} out=closed", 4, "out", "cannot be written to"),
    (f"{UP} out=x.gif", 2, "out", "no movie"),
    (f"{UP} out=in.png", 2, "out", "is an input and would be lost"),
    ("upscale grey all/000000.png out=all/", 2, "out", "all/000000.png is an input"),
    ("upscale grey all/000007.png out=all seed=5 n=3", 2, "out", "all/000007.png is an input"),
    (f"{EDIT} mask=all/000000.png out=all/", 2, "out", "all/000000.png is an input"),
    (f"{EDIT} mask=all/mean.png n=2 uncertainty=1 out=all/", 2, "out", "all/mean.png is an input"),
    (f"{UP} reference=all/000000.png out=./all/", 2, "out", "all/000000.png is an input"),
    (f"{RESTORE} operator=kernel kernel=all/000000.png out=all/", 2, "out", "all/000000.png is an input"),
    ("restore grey all/measured.npy operator=blur simulate=1 out=all/", 2, "out", "measured.npy is an input"),
    (f"{EDIT} mask=white.png out=./white.png", 2, "out", "is an input and would be lost"),
    (f"{EDIT} mask=white-mean.png n=2 uncertainty=1 out=white.png", 2, "out", "white-mean.png is an input"),
    (f"{UP} out=closed/x.png", 4, "out", "cannot be written to"),
]


@pytest.mark.parametrize(("line", "code", "field", "reason"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    line: str,
    code: int,
    field: str | None,
    reason: str,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    words = shlex.split(line)
    words[1:2] = [f"{model}.safetensors" for model in words[1:2] if words[2:]] or words[1:2]
    got = main([*words, "steps=2", "--json"])
    out, err = capsys.readouterr()
    error = json.loads(err.splitlines()[-1])["error"]
    assert (got, out) == (code, "")
    assert reason in f"{error['message']}; {error['hint']}"
    assert field is None or error["field"] == field
    assert error["hint"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


PLANNED = ("extend", "guidance", "label", "method", "overlap", "solver", "tile")
DRY = [fault for fault in FAULTS if fault[2] in PLANNED]


@pytest.mark.parametrize(("line", "code", "field", "reason"), DRY, ids=[fault[0] for fault in DRY])
def test_a_dry_run_refuses_the_same(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    field: str | None,
    reason: str,
) -> None:
    monkeypatch.setattr(restoration, "sample", None)  # so that nothing can be drawn
    test_what_cannot_be_done_is_refused_and_nothing_is_written(
        capsys, Path.cwd(), f"{line} --dry-run", code, field, reason
    )


def test_two_pictures_and_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(["upscale", "in.png", "nowhere", "--json", "-q"]) == 4
    assert json.loads(capsys.readouterr().err)["error"]["message"].startswith("there is no model 'nowhere'")
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupt_while_loading_is_one_like_any_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def find_spec(self, *_: object) -> None:
            raise KeyboardInterrupt

    capsys.readouterr()
    monkeypatch.delitem(sys.modules, "unstir.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted()])
    assert run() == 130
    assert capsys.readouterr() == ("", "")


def test_a_mask_that_is_white_everywhere_repaints_everything() -> None:
    assert main(["edit", "grey.safetensors", "in.png", "mask=white.png", "steps=2", "out=out.png", "-q"]) == 0
    assert (np.asarray(Image.open("out.png")) != np.asarray(Image.open("in.png"))).any()


def test_a_bomb_is_refused_before_it_is_decoded(capsys: pytest.CaptureFixture[str]) -> None:
    size = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    written = [struct.pack(">I", len(x)) + k + x + struct.pack(">I", zlib.crc32(k + x)) for k, x in chunks]
    Path("bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    capsys.readouterr()
    assert main(["upscale", "grey.safetensors", "bomb.png", "--json"]) == 3
    assert "too_large" in json.loads(capsys.readouterr().err)["error"]["message"]


def test_an_archive_that_unpacks_to_too_much_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "LIMITS", Limits(pixels=100))
    np.savez_compressed("bomb.npz", y=np.zeros(1000))
    assert main(["restore", "grey.safetensors", "bomb.npz", "operator=blur", "--json"]) == 3
    assert "at most 800 are read" in json.loads(capsys.readouterr().err)["error"]["message"]
