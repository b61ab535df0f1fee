"""Every subject keeps the form that the page and the studio draw, within its limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tiny import pipeline
from truth import SCHEDULES, label
from unstir import config
from unstir.cli import main
from unstir.codecs import IdentityConfig
from unstir.errors import ConfigError, IncompatibleError
from unstir.explain import Explanation, Forward, Subject, Trajectory, explain, subjects
from unstir.networks import DiTConfig, MLPConfig, UNetConfig
from unstir.pipeline import Pipeline
from unstir.process.base import Schedule
from unstir.report.explained import explained
from unstir.spec import dump

QUICK: dict[str, dict[str, Any]] = {
    "forward": {"data": "digits", "frames": 3},
    "schedule": {"steps": 10},
    "distribution": {"steps": 3, "particles": 20},
    "trajectory": {"steps": 2, "n": 4},
    "solvers": {"steps": [2, 3]},
    "attention": {"steps": 2},
}
PARTS = {"what", "title", "text", "settings", "charts", "pictures", "movies", "clouds", "table"}
DATA = re.compile(r"data:image/(png|webp);base64,[A-Za-z0-9+/]+=*")


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return pipeline(network=UNetConfig(widths=(8, 16), blocks=1, attention=1, head_width=8))


@pytest.fixture(scope="module")
def found(pipe: Pipeline) -> list[Explanation]:
    return [explain(what, settings, pipe) for what, settings in QUICK.items()]


def test_subjects_are_those_of_the_schema() -> None:
    assert list(subjects()) == list(QUICK)
    assert config.subjects().keys() == QUICK.keys()
    for what, kind in subjects().items():
        assert list(config.subjects()[what]["properties"]) == list(dump(kind(), kind))


def test_every_explanation_has_the_form_that_is_drawn(found: list[Explanation]) -> None:
    for one in found:
        data = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert data.keys() == PARTS
        assert data["title"]
        assert len(data["text"]) < 700
        for chart in data["charts"]:
            assert all(len(curve["values"]) == len(chart["x"]["values"]) for curve in chart["curves"])
        for picture in data["pictures"]:
            assert DATA.fullmatch(picture["src"])
        for movie in data["movies"]:
            assert len(movie["frames"]) == len(movie["labels"]) > 1
            assert all(DATA.fullmatch(frame) for frame in movie["frames"])
        for cloud in data["clouds"]:
            assert {len(frame["points"]) for frame in cloud["frames"]} == {len(cloud["groups"])}
        if data["table"]:
            assert {len(row) for row in data["table"]["rows"]} == {len(data["table"]["head"])}


def test_settings_make_the_same_again(found: list[Explanation], pipe: Pipeline) -> None:
    for one in found:
        assert explain(one.what, one.settings, pipe).to_dict() == one.to_dict(), one.what


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_every_schedule_can_be_seen(schedule: Schedule) -> None:
    for what in ("forward", "schedule", "distribution"):
        one = explain(what, {**QUICK[what], "schedule": dump(schedule)})
        json.dumps(one.to_dict(), allow_nan=False)


@pytest.mark.parametrize("what", ["forward", "schedule", "distribution"])
def test_what_is_asked_for_all_the_time_is_small(what: str) -> None:
    assert len(json.dumps(explain(what).to_dict())) < 1_500_000


def test_one_s_own_picture() -> None:
    for shape in ((300, 200, 3), (50, 40, 1), (8, 9, 3)):
        picture = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
        (movie,) = Forward(frames=2).explain(picture=picture).movies
        assert movie.frames[0].shape[2] == shape[2]
        assert max(movie.frames[0].shape[:2]) < 300


def test_points_move_as_points() -> None:
    points = pipeline(
        classes=(), network=MLPConfig(), shape=(2,), codec=IdentityConfig(), kind="points", sigma_data=1.0
    )
    one = Trajectory(n=5, steps=2).explain(points)
    assert [len(cloud.frames) for cloud in one.clouds] == [2, 2]
    assert one.clouds[0].to_dict()["groups"] is None
    with pytest.raises(IncompatibleError, match="makes points"):
        explain("attention", {}, points)


def test_attention_of_every_kind() -> None:
    dit = pipeline(network=DiTConfig(patch=2, width=16, depth=2, heads=2, embedding=16))
    (picture,) = explain("attention", {"steps": 2, "right": 1.0, "down": 0.0}, dit).pictures
    assert picture.pixels.shape[1] > picture.pixels.shape[0]
    with pytest.raises(
        IncompatibleError, match="has no attention: its network is a UNet without any"
    ) as caught:
        explain("attention", {}, pipeline())
    assert caught.value.field == "model"


# -- limits ------------------------------------------------------------------------------------------------


def limits() -> list[tuple[str, str, Any]]:
    found = []
    for what, schema in config.subjects().items():
        for field, setting in schema["properties"].items():
            for option in (setting, *setting.get("anyOf", ()), setting.get("items", {})):
                if "maximum" in option:
                    found.append((what, field, option["maximum"] + 1))
                if "minimum" in option:
                    found.append((what, field, option["minimum"] - 1))
    return found


@pytest.mark.parametrize(("what", "field", "value"), limits())
def test_out_of_range_is_refused_by_name(what: str, field: str, value: Any) -> None:
    for settings in ({field: value}, {field: [value]}):
        with pytest.raises(ConfigError) as caught:
            explain(what, settings)
        assert caught.value.field is not None
        assert caught.value.field.startswith(field)


@pytest.mark.parametrize(
    ("what", "settings", "field"),
    [
        ("forward", {"schedule": {"name": "BetaLinear", "steps": 10**9}}, "schedule.steps"),
        ("forward", {"schedule": {"name": "Shifted", "shift": 1e9}}, "schedule.shift"),
        ("schedule", {"compare": {"name": "Monotone", "bends": 10**9}}, "compare.bends"),
        ("distribution", {"solver": {"name": "Langevin", "corrections": 10**6}}, "solver.corrections"),
        ("distribution", {"schedule": {"name": "VP", "beta_max": 9000}}, "schedule"),
        ("solvers", {"solvers": ["DDIM"] * 9}, "solvers"),
        ("solvers", {"steps": []}, "steps"),
        ("forward", {"frame": 3}, "frame"),
        ("fourward", {}, "what"),
    ],
)
def test_what_would_cost_too_much_is_refused_by_name(what: str, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        explain(what, settings)
    assert caught.value.field == field


def test_a_subject_built_in_python_has_the_same_limits() -> None:
    for kind in subjects().values():
        assert issubclass(kind, Subject)
        kind()
    with pytest.raises(ConfigError, match="frames"):
        Forward(frames=1000)


# -- the page ----------------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_from_outside(found: list[Explanation]) -> None:
    page = explained(found)
    links = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'>\s]{0,40})""", DATA.sub("data:", page))
    assert set(links) <= {"data:", "movie.frames[k];", *(f"#{one.what}" for one in found)}
    without = DATA.sub("", page).replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|import\(", without)
    assert "default-src 'none'" in page


def test_text_stays_text(pipe: Pipeline) -> None:
    one = explain("schedule", {"steps": 10})
    evil = "</script><script>alert(1)</script>"
    page = explained([Explanation(one.what, evil, evil, {"x": evil}, charts=one.charts, clouds=one.clouds)])
    assert evil not in page


# -- the command -------------------------------------------------------------------------------------------


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["explain", *arguments])
    return code, *capsys.readouterr()


def test_the_command_writes_a_page_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (90, 60), "red").save("red.png")
    code, out, err = call(
        capsys, "picture=red.png", "frames=3", "schedule=cosine:offset=0.008", "out=here", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["files"] == ["here/index.html", "here/forward.png", "here/forward.gif"]
    assert json.loads(out)["explained"]["forward"]["settings"]["schedule"] == {
        "name": "Cosine",
        "offset": 0.008,
    }
    with Image.open("here/forward.gif") as movie:
        assert movie.n_frames == 3
        assert movie.size == (2 * 128 + 4, 86)


def test_everything_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline().save("plain.safetensors")
    code, out, err = call(
        capsys,
        "plain.safetensors",
        "what=all",
        "steps=3",
        "particles=20",
        "frames=3",
        "n=2",
        "seed=5",
        "--json",
    )
    assert code == 0, err
    assert list(json.loads(out)["explained"]) == [word for word in QUICK if word != "attention"]
    assert "left out: plain.safetensors has no attention" in err
    assert call(capsys, "what=all", "sped=3")[0] == 2


def test_faults_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (("what=foward",), "did you mean 'forward'?"),
        (("frames=1000",), "what.frames: got '1000', accepted is an integer >= 2 and <= 41"),
        (("a", "b"), "one model is taken, got: a b"),
        (("what=schedule", "frames=3"), "unknown setting 'what.frames'"),
    ):
        code, _, err = call(capsys, *arguments)
        assert code == 2
        assert message in err
