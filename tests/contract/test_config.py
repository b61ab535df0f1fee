"""Settings: one declaration in the dataclasses, checked from every source, refused with reasons."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from unstir import config, process, solvers, spec, times
from unstir.errors import ConfigError
from unstir.networks import UNetConfig
from unstir.objectives import Denoising, MinSNR
from unstir.process import Cosine, Schedule, Shifted
from unstir.recipes import Data, Recipe, Request, Sampling
from unstir.schema import check
from unstir.solvers import DDIM, DPMpp2M, Heun
from unstir.train import AdamW, Muon, Training

COMMANDS = ["train", "sample", "edit", "upscale", "restore", "likelihood"]
DATA = config.Layer("command line", {"data.source": "digits"})


def settings(*layers: config.Layer | dict[str, Any]) -> config.Settings:
    wrapped = [x if isinstance(x, config.Layer) else config.Layer("command line", x) for x in layers]
    return config.settings("train", [DATA, *wrapped])


def recipe(**pairs: Any) -> Recipe:
    return config.build("train", settings({k.replace("__", "."): v for k, v in pairs.items()}).values)


def refused(*layers: config.Layer | dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        settings(*layers)
    return caught.value


# -- the schema --------------------------------------------------------------------------------------------


def test_committed_schema_is_that_of_the_dataclasses() -> None:
    assert json.loads(config.SCHEMA.read_text()) == config.generate(), "run tools/schema.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_default_of_the_schema_is_legal(command: str) -> None:
    root = config.document(command)
    for path, setting in config.paths(command).items():
        if "default" in setting:
            assert check(setting["default"], setting, root, path)[1] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_of_a_command_has_help(command: str) -> None:
    own = {p: s for p, s in config.paths(command).items() if p.count(".") < 2 and "schedule." not in p}
    groups = ("data.", "training.", "sampling.")
    assert [p for p, s in own.items() if p.startswith(groups) and not s.get("description")] == []


def test_grids_of_the_settings_are_those_there_are() -> None:
    (grid,) = (o for o in config.paths("sample")["sampling.grid"]["anyOf"] if "enum" in o)
    assert sorted(grid["enum"]) == sorted([*times.__all__, "optimised"])


# -- components as data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [process, solvers], ids=lambda m: m.__name__)
def test_every_component_is_read_back_from_its_dump(folder: Any) -> None:
    for name, component in spec.choices(folder).items():
        assert spec.load(spec.dump(component()), folder) == component(), name


def test_components_nest() -> None:
    shifted = Shifted(Cosine(offset=0.008), shift=2.0)
    data = {"name": "Shifted", "schedule": {"name": "Cosine", "offset": 0.008}, "shift": 2.0}
    assert spec.dump(shifted) == data
    assert spec.load(data, Schedule) == shifted


@pytest.mark.parametrize("name", ["BetaLinear", "beta_linear", "betalinear", "BETA-LINEAR"])
def test_names_in_any_case(name: str) -> None:
    assert spec.load(name, Schedule) == process.BetaLinear()


def test_a_resolved_recipe_is_read_back_from_its_dump() -> None:
    full = Recipe(
        data=Data(source="x"),
        schedule=Cosine(),
        network=UNetConfig(),
        objective=Denoising(weight=MinSNR(gamma=3.0)),
        optimizer=AdamW(betas=(0.9, 0.95)),
        training=Training(steps=7),
        sampling=Sampling(solver=DDIM(eta=0.5)),
    )
    assert spec.load(spec.dump(full, Recipe), Recipe) == full


def test_validate_refuses_text_for_a_number() -> None:
    @dataclass(frozen=True)
    class Part:
        width: spec.Count = 3

    spec.validate(Part(5))
    for width in ("5", 0, 2.5, math.nan):
        with pytest.raises(ConfigError, match=r"width: got .* an integer >= 1"):
            spec.validate(Part(width))  # type: ignore[arg-type]


def test_load_names_every_fault_of_every_part() -> None:
    with pytest.raises(ConfigError) as caught:
        spec.load({"data": {"source": 3}, "schedule": "cosin", "training": {"keep": 0}}, Recipe)
    for part in ("data.source", "did you mean 'cosine'", "training.keep: got 0, accepted is an integer >= 1"):
        assert part in str(caught.value)


# -- fields of a component whose kind is open --------------------------------------------------------------


def test_fields_alone_change_what_was_measured() -> None:
    given = recipe(lr="2e-3", optimizer__weight_decay="0.1")
    assert spec.complete(given.optimizer, Muon(momentum=0.9)) == Muon(lr=2e-3, momentum=0.9, weight_decay=0.1)
    assert spec.complete(given.network, UNetConfig(widths=(8,))) == UNetConfig(widths=(8,))


def test_fields_the_measured_kind_lacks_choose_the_kind_that_has_them() -> None:
    assert spec.complete(recipe(churn="0.1").sampling.solver, DPMpp2M()) == Heun(churn=0.1)
    assert spec.complete(recipe(gamma="3").objective, Denoising()) == Denoising(weight=MinSNR(3.0))


def test_a_component_chosen_by_name_is_not_completed() -> None:
    assert spec.complete(recipe(optimizer="adamw", lr="2e-3").optimizer, Muon()) == AdamW(lr=2e-3)


# -- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("steps", "training.steps"),  # three groups have one: the command's own counts
        ("training.steps", "training.steps"),
        ("sampling.steps", "sampling.steps"),
        ("size", "data.size"),
        ("lr", "optimizer.lr"),
        ("solver", "sampling.solver"),
        ("solver.churn", "sampling.solver.churn"),  # a solver may hold a solver: the outer one is meant
        ("weight.gamma", "objective.weight.gamma"),
        ("schedule", "schedule"),
        ("schedule.schedule.offset", "schedule.schedule.offset"),
    ],
)
def test_last_names_are_enough_where_one_path_ends_so(key: str, path: str) -> None:
    assert config.locate(key, "train") == path


def test_an_ambiguous_name_names_all_it_could_be() -> None:
    error = refused({"sigma_data": "1"})
    assert "parameterization.sigma_data" in str(error)
    assert "objective.weight.sigma_data" in str(error)
    assert error.hint == "write it in full"


@pytest.mark.parametrize(
    ("key", "hint"), [("stesp", "'steps'"), ("network.widht", "'width"), ("xyzzy", "unstir config train")]
)
def test_unknown_keys_get_the_nearest(key: str, hint: str) -> None:
    error = refused({key: "1"})
    assert key in str(error)
    assert hint in str(error.hint)


# -- layers ------------------------------------------------------------------------------------------------


def test_later_layers_win_and_every_setting_knows_its_source() -> None:
    got = settings(
        config.Layer("preset p", {"training": {"steps": 1, "batch": 2}}),
        config.Layer("f.yaml", {"training.steps": 3}),
        {"steps": "4"},
    )
    assert got.values["training"] == {"steps": 4, "batch": 2}
    assert got.sources["training.steps"] == "command line"
    assert got.sources["training.batch"] == "preset p"


def test_another_component_drops_the_fields_of_the_former() -> None:
    got = settings(config.Layer("f", {"network": {"name": "unet", "widths": [8]}}), {"network": "dit"})
    assert got.values["network"] == {"name": "DiT"}
    assert "network.widths" not in got.sources
    same = settings(config.Layer("f", {"network": {"name": "unet", "widths": [8]}}), {"network": "UNet"})
    assert same.values["network"] == {"name": "UNet", "widths": [8]}


def test_another_family_drops_what_the_former_decided() -> None:
    """A resolved config.yaml names everything: with it, process=ve alone would change nothing."""
    resolved = {"process": None, "schedule": {"name": "cosine", "offset": 0.1}, "sampling": {"steps": 9}}
    got = settings(config.Layer("f", resolved | {"training": {"batch": 8}}), {"process": "ve"})
    assert got.values == {"data": {"source": "digits"}, "process": "ve", "training": {"batch": 8}}
    same = settings(config.Layer("f", resolved), {"process": "none"})
    assert same.values["schedule"] == {"name": "Cosine", "offset": 0.1}
    chosen = settings({"process": "ve", "schedule": "cosine"})
    assert chosen.values["schedule"] == {"name": "Cosine"}


@pytest.mark.parametrize("name", config.presets())
def test_presets_are_legal(name: str) -> None:
    chosen = settings(config.read_preset(name))
    assert set(chosen.sources.values()) == {"command line", f"preset {name}"}
    config.build("train", chosen.values)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match="no preset 'cpu-smal'") as caught:
        config.read_preset("cpu-smal")
    assert caught.value.hint == "did you mean 'cpu-small'?"


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("45", 45), ("1e2", 100), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert settings({"time": text}).values["training"]["time"] == seconds


@pytest.mark.parametrize(
    ("text", "value"), [(t, True) for t in ("true", "1", "yes", "True")] + [("no", False)]
)
def test_booleans(text: str, value: bool) -> None:
    assert settings({"training.compile": text}).values["training"]["compile"] is value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", "1.5"),
        ("steps", "nan"),
        ("steps", "0"),
        ("steps", "-3"),
        ("steps", ""),
        ("steps", "true"),
        ("steps", True),
        ("steps", "9" * 5000),
        ("steps", [1, 2]),
        ("steps", {"a": 1}),
        ("time", "10x"),
        ("time", "0"),
        ("time", "inf"),
        ("lr", "nan"),
        ("lr", "-inf"),
        ("lr", "1e999"),
        ("seed", str(2**63)),
        ("training.compile", "maybe"),
        ("precision", "fp16"),
        ("channels", "2"),
        ("size", "1"),
        ("max_bad", "1.1"),
        ("betas", "0.9"),
        ("widths", "a,b"),
        ("schedule", "5"),
        ("network", "resnet"),
        ("optimizer.lr.x", "1"),
        ("process", "vpp"),
        ("task", "classify"),
        ("solver.tableau", "rk5"),
    ],
)
def test_wrong_values_are_refused_with_the_field_and_what_is_accepted(key: str, value: Any) -> None:
    error = refused({key: value})
    path = config.locate(key, "train")
    assert isinstance(path, str)
    assert path.startswith(str(error.field).partition("[")[0])
    assert str(error.field).partition("[")[0] in str(error)
    assert len(str(error)) < 1000


def test_all_faults_are_reported_at_once() -> None:
    error = refused({"stesp": "1", "size": "a", "lr": "nan"})
    assert all(part in str(error) for part in ("stesp", "data.size", "optimizer.lr"))


def test_a_key_given_twice_is_refused() -> None:
    assert "twice" in str(refused({"steps": "1", "training.steps": "2"}))
    with pytest.raises(ConfigError, match="twice"):
        config.parse_pairs(["steps=1", "steps=2"])


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), min_size=1, max_size=4))
def test_any_text_is_accepted_or_refused_but_never_crashes(pairs: dict[str, str]) -> None:
    with suppress(ConfigError):
        settings(pairs)


def test_labels_may_be_numbers_names_or_one_per_sample() -> None:
    def label(text: str) -> Any:
        chosen = config.settings("sample", [config.Layer("command line", {"label": text})])
        return config.build("sample", chosen.values).label

    assert label("3") == 3
    assert label("cat") == "cat"
    assert label("1,dog") == (1, "dog")


def test_settings_out_of_the_schema_s_reach_are_refused_when_built() -> None:
    chosen = settings({"steps": "5", "time": "1m"})
    with pytest.raises(ConfigError, match="both given"):
        config.build("train", chosen.values)


# -- a component and its fields in one word ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ({"solver": "ddim:eta=1"}, {"solver": "ddim", "solver.eta": "1"}),
        ({"solver": " DDIM : eta = 1 "}, {"solver": "ddim", "solver.eta": "1"}),
        (
            {"solver": "heun:churn=0.1,variable=sigma"},
            {"solver": "heun", "churn": "0.1", "solver.variable": "sigma"},
        ),
        (
            {"solver": "heun:churn=0.1", "solver.variable": "sigma"},
            {"solver": "heun:variable=sigma,churn=0.1"},
        ),
        (
            {"network": "unet:widths=8,16,blocks=1"},
            {"network": "unet", "widths": "8,16", "network.blocks": "1"},
        ),
        ({"optimizer": "adamw:betas=0.9,0.95"}, {"optimizer": {"name": "adamw", "betas": [0.9, 0.95]}}),
        ({"solver": "ancestral:solver=heun,eta=0.5"}, {"solver": "ancestral:eta=0.5,solver=heun"}),
        (
            {"solver": "ancestral:solver=heun:churn=0.1"},
            {"solver": "ancestral", "solver.solver": "heun:churn=0.1"},
        ),
        ({"objective": "denoising:weight=minsnr:gamma=3"}, {"objective": "denoising", "gamma": "3"}),
    ],
)
def test_a_component_takes_its_fields_along(words: dict[str, Any], same: dict[str, Any]) -> None:
    values = config.settings("train", [DATA, config.Layer("x", words)]).values
    assert values == config.settings("train", [DATA, config.Layer("x", same)]).values


def test_a_component_with_fields_replaces_the_former_one() -> None:
    got = settings(config.Layer("f", {"solver": "heun:churn=0.1"}), {"solver": "ddim:eta=1"})
    assert got.values["sampling"] == {"solver": {"name": "DDIM", "eta": 1.0}}
    kept = settings(config.Layer("f", {"solver": "ddim:eta=1"}), {"solver.eta": "0.5"})
    assert kept.values["sampling"] == {"solver": {"name": "DDIM", "eta": 0.5}}
    assert kept.sources["sampling.solver.eta"] == "command line"


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        ({"solver": "ddim:1"}, "sampling.solver", "fields of ddim: eta"),
        ({"solver": "ddim:eta=1,"}, "sampling.solver.eta", "a number"),
        ({"solver": "ddim:"}, "sampling.solver", "fields of ddim: eta"),
        ({"solver": "dim:eta=1"}, "sampling.solver", "did you mean 'ddim'"),
        ({"solver": "ddim:etta=1"}, "sampling.solver.etta", "did you mean 'eta'"),
        ({"solver": "ddim:eta=1", "solver.eta": "0"}, "sampling.solver.eta", "given twice"),
        ({"solver": "ddim:eta=1,eta=0"}, "sampling.solver.eta", "given twice"),
    ],
)
def test_a_component_written_wrongly_is_refused(words: dict[str, Any], field: str, reason: str) -> None:
    error = refused(words)
    assert error.field == field
    assert reason in f"{error}; {error.hint}"


def test_a_colon_in_what_is_no_component_is_text() -> None:
    values = config.settings("sample", [config.Layer("x", {"weaker": "layers:3,4", "label": "a:b=c"})]).values
    assert (values["sampling"]["weaker"], values["label"]) == ("layers:3,4", "a:b=c")


def test_tuples_need_no_brackets() -> None:
    values = config.settings("sample", [config.Layer("x", {"times": "1,0.8,0"})]).values
    assert values["sampling"]["times"] == [1, 0.8, 0]


# -- files -------------------------------------------------------------------------------------------------


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_yaml_takes_groups_paths_and_last_names(tmp_path: Path) -> None:
    text = "training: {steps: 5}\nnetwork.widths: [8, 16]\nlr: 1e-3\nschedule: {name: cosine, offset: 0.1}\n"
    got = settings(config.read_file(file(tmp_path, text))).values
    assert got["training"] == {"steps": 5}
    assert got["network"] == {"widths": [8, 16]}
    assert got["optimizer"] == {"lr": 1e-3}
    assert got["schedule"] == {"name": "Cosine", "offset": 0.1}


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [1]\nb: *x",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]",
        "steps: 1\nsteps: 2",
        "training:\n  steps: 1\n  steps: 2",
        "!!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "- 1\n- 2",
        "just text",
        "1: 2",
        "a: [1, 2",
        "a: b: c",
        "[" * 5000,
        "a: " + "x" * 2**20,
        "a: \x00",
        "? [1, 2]\n: 3",
    ],
)
def test_hostile_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"settings\.yaml is no settings file"):
        config.read_file(file(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        config.read_file(tmp_path / "none.yaml")


def test_the_written_configuration_reads_back_and_names_sources(tmp_path: Path) -> None:
    chosen = settings({"steps": "5", "lr": "1e-3", "optimizer": "adamw", "network": "dit"})
    built = config.build("train", chosen.values)
    text = config.to_yaml(spec.dump(built, Recipe), chosen.sources)
    again = config.settings("train", [config.read_file(file(tmp_path, text))])
    assert config.build("train", again.values) == built
    for line in ("steps: 5  # command line", "name: AdamW  # command line", "keep: 2  # default"):
        assert line in text
    measured = config.to_yaml(spec.dump(replace(built, schedule=Cosine()), Recipe), chosen.sources)
    assert "name: Cosine  # measured" in measured
    assert "offset: 0.0  # default" in measured


def test_a_request_has_the_defaults_of_the_schema() -> None:
    assert config.build("sample", config.settings("sample", []).values) == Request()
