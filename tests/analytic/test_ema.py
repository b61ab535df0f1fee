"""Averages of the weights after the fact: profiles in closed form, the fit and its error, what a run keeps, names."""

from __future__ import annotations

import errno
import json
import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unstir
from failpoints import failures
from tiny import resume, train
from unstir import Rng
from unstir.cli import main
from unstir.errors import CheckpointError, ConfigError, NumericError
from unstir.files import write_link
from unstir.model import ema_addresses, find_model, run_of
from unstir.tensors import load_tensors
from unstir.train import EMA, Averages, Snapshots, Trainer, Training, snapshots
from unstir.train.ema import Profile, exponent, fit, inner
from unstir.train.snapshots import LENGTHS, TOLERANCE, kept

TRAINED = (0.03, 0.1)

# -- profiles ----------------------------------------------------------------------------------------------


def remaining(profile: Profile, t: np.ndarray) -> np.ndarray:
    """F(t) = min(1, (t/n)^p)"""
    return np.minimum(1, (t / profile.n) ** (exponent(profile.length) + 1))


@pytest.mark.parametrize("length", [0.01, 0.03, 0.1, 0.25, 0.28])
def test_the_width_of_a_profile_is_its_length(length: float) -> None:
    """The derivative of F has the mean p/(p+1) and the variance p/((p+2) (p+1)^2), in units of n."""
    p = exponent(length) + 1
    assert np.sqrt(p / (p + 2)) / (p + 1) == pytest.approx(length, rel=1e-9)
    i = np.arange(1, 20001)
    weights = np.diff(remaining(Profile(20000, length), np.arange(20001)))
    mean = (weights * i).sum() / 20000
    assert np.sqrt((weights * (i / 20000 - mean) ** 2).sum()) == pytest.approx(length, rel=1e-4)


def test_the_average_is_the_sum_that_the_profile_says() -> None:
    module = nn.Linear(3, 1)
    ema = EMA(module, TRAINED)
    walk = Rng.of(0, 30).normal((30, 3)).cumsum(0)
    for n, row in enumerate(walk, 1):
        module.weight.data = row[None].float()
        ema.update(n)
    for length, average in zip(TRAINED, ema.averages, strict=True):
        weights = np.diff(remaining(Profile(30, length), np.arange(31)))
        np.testing.assert_allclose(average["weight"][0], weights @ walk.numpy(), rtol=1e-5)


def test_inner_products_against_quadrature() -> None:
    profiles = [Profile(n, length) for n in (50, 120, 400) for length in (0.012, 0.1, 0.28)]
    n, p = (np.array(x) for x in zip(*((a.n, exponent(a.length) + 1) for a in profiles), strict=True))
    t = (np.arange(400_000) + 0.5) / 1000
    values = np.stack([remaining(profile, t) for profile in profiles])
    np.testing.assert_allclose(inner(n[:, None], p[:, None], n, p, 400), values @ values.T / 1000, rtol=1e-6)


# -- the fit -----------------------------------------------------------------------------------------------


def stored(steps: int, every: int) -> list[Profile]:
    return [Profile(n, length) for n in range(every, steps + 1, every) for length in TRAINED]


@pytest.mark.parametrize("length", TRAINED)
def test_what_is_there_is_taken_as_it_is(length: float) -> None:
    profiles = stored(1600, 100)
    weights, error = fit(Profile(1600, length), profiles)
    expected = [float(profile == Profile(1600, length)) for profile in profiles]
    np.testing.assert_allclose(weights, expected, atol=1e-7)
    assert error < 1e-6


@pytest.mark.parametrize("length", [0.015, 0.02, 0.05, 0.17, 0.25])
def test_the_error_of_the_fit_is_that_of_a_random_walk(length: float) -> None:
    """|sum - average| / |last weights - average|, root mean squares over 1000 walks; the sum of the weights is 1."""
    steps, walks = 512, 1000
    walk = Rng.of(3, walks).normal((walks, steps), torch.float32).numpy().cumsum(1)

    def average(profile: Profile) -> np.ndarray:
        return walk @ np.diff(remaining(profile, np.arange(steps + 1)))

    profiles, target = stored(steps, 32), Profile(steps, length)
    weights, error = fit(target, profiles)
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    missed = sum(w * average(profile) for w, profile in zip(weights, profiles, strict=True)) - average(target)
    away = walk[:, -1] - average(target)
    assert np.sqrt((missed**2).mean() / (away**2).mean()) == pytest.approx(error, rel=0.1)


def test_more_snapshots_are_nearer_to_an_average_that_was_tracked() -> None:
    """Seven lengths tracked in one training, five of them made of the other two as they were at times."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    tracked, steps = (*TRAINED, 0.022, 0.05, 0.07, 0.17, 0.25), 320
    ema = EMA(module, tracked)
    kept_: dict[Profile, torch.Tensor] = {}
    for n in range(1, steps + 1):
        x = Rng.of(64 * n, 64).normal((64, 2)).float()
        loss = ((module(x) - (3 * x[:, :1]).sin() * x[:, 1:]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(n)
        if n % 10 == 0:
            for length, average in zip(TRAINED, ema.averages, strict=False):
                kept_[Profile(n, length)] = flat(average)
    now = {length: flat(average) for length, average in zip(tracked, ema.averages, strict=True)}
    last = flat(dict(module.named_parameters()))
    worst = []
    for every in (40, 20, 10):  # 8, 16, 32 snapshots
        profiles, missed = stored(steps, every), []
        for length in tracked[2:]:
            weights, error = fit(Profile(steps, length), profiles)
            made = sum(w * kept_[profile] for w, profile in zip(weights.tolist(), profiles, strict=True))
            off = (made - now[length]).norm() / (last - now[length]).norm()
            assert off < 5 * error + 1e-3
            missed.append(float((made - now[length]).norm() / now[length].norm()))
        worst.append(max(missed))
    assert worst[0] < 2e-3
    assert worst[1] < 5e-4
    assert worst[2] < 2e-4


def flat(tensors: dict[str, Any]) -> torch.Tensor:
    return torch.cat([x.detach().double().reshape(-1) for x in tensors.values()])


# -- which are kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 5, 16])
def test_the_interval_doubles_and_nothing_that_went_is_asked_for_again(most: int) -> None:
    sets = [set(kept(step, most)) for step in range(2000)]
    assert max(map(len, sets)) == most
    assert all(most // 2 <= len(found) for found in sets[4 * most :])
    for step, (before, after) in enumerate(pairwise(sets), 1):
        assert after <= before | {step}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 steps that nothing interrupted, and at most 6 snapshots of them."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train("digits", run, *SETTINGS) == 0
    return run


SETTINGS = ("steps=40", "snapshots=6", "checkpoint_every=20", "preview_every=40", "heldout_every=40")


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "averages").iterdir()}


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to, symlinks=True)
    for path in (to / "averages").glob("ema-*"):
        path.unlink()
    return to


def test_a_run_that_died_and_went_on_has_the_snapshots_of_one_that_did_not(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"step-{step}.safetensors" for step in (8, 16, 24, 32, 40)}
    assert {name for name in files(whole) if name.startswith("step")} == names
    real, run = Trainer._train_step, tmp_path / "run"

    def dies(trainer: Trainer) -> dict[str, float]:
        if trainer.step == 35:
            raise NumericError("died")
        return real(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", dies)
        assert train("digits", run, *SETTINGS) == NumericError.exit_code
    died = files(run)
    assert "step-32.safetensors" in died  # later than the checkpoint of step 20
    (run / "averages/step-32.safetensors").write_bytes(died["step-16.safetensors"])
    (run / "averages/.step-36.safetensors.tmp-1").write_bytes(b"half")
    assert resume(run) == 0
    assert files(run) == {name: data for name, data in files(whole).items() if name in names}


def test_overwriting_a_run_leaves_no_average_of_it(whole: Path, tmp_path: Path) -> None:
    run = copy(whole, tmp_path / "run")
    find_model(f"{run}@ema:0.05")
    assert train("digits", run, "steps=3", "--overwrite") == 0
    assert not (run / "averages").exists()
    with pytest.raises(CheckpointError, match="kept no averages") as error:
        find_model(f"{run}@ema:0.05")
    assert "snapshots=16" in str(error.value.hint)


def test_no_snapshots_are_kept_where_none_are_wanted(tmp_path: Path) -> None:
    assert train("digits", tmp_path / "run", "steps=4", "snapshots=0") == 0
    assert not (tmp_path / "run/averages").exists()


# -- disks -------------------------------------------------------------------------------------------------


def consumer(run: Path, steps: int = 0, **settings: Any) -> Snapshots:
    """Of a trainer of two parameters that is at that step."""
    module = nn.Linear(2, 1)
    trainer = SimpleNamespace(ema=EMA(module, TRAINED), step=steps, skipped=0, settings=Training(**settings))
    return Snapshots(run, trainer)  # type: ignore[arg-type]


def test_a_full_disk_costs_a_snapshot_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    consume = consumer(tmp_path, snapshots=4)
    steps = iter([step for step in range(4, 10_000, 4) if step in kept(step, 4)])
    faults = 0

    def one() -> None:
        consume.trainer.step = next(steps)
        consume(consume.trainer.step)

    for raised in failures(one, errno.ENOSPC):
        assert raised is None
        faults += 1
    assert faults >= 5  # the folder, the file, its fsync, its name, the fsync of the folder
    assert caplog.text.count("training goes on") == faults
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.rglob(".*"))
    step = next(steps)
    caplog.clear()
    consume.trainer.step = step
    consume(step)
    assert not caplog.text
    assert (tmp_path / f"averages/step-{step}.safetensors").is_file()
    assert {int(path.stem[5:]) for path in (tmp_path / "averages").iterdir()} <= set(kept(step, 4))


def test_a_run_on_a_full_disk_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshots, "save_tensors", full)
    assert train("digits", tmp_path / "run", "steps=8") == 0
    assert caplog.text.count("training goes on, and RUN@ema:LENGTH will do without step") == 2
    with pytest.raises(CheckpointError, match="kept no averages"):
        find_model(f"{tmp_path / 'run'}@ema:0.05")


DAMAGE = {
    "a bit": lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "no safetensors": lambda data: b"not a safetensors file at all",
    "another file": lambda data: data.replace(b"averages", b"somewhat", 1),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_snapshot_is_named_and_left_out(
    damage: Any, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copy(whole, tmp_path / "run")
    path = run / "averages/step-24.safetensors"
    before, good = Averages(whole / "checkpoints/last"), path.read_bytes()
    path.write_bytes(damage(good))
    assert path.read_bytes() != good
    averages = Averages(run / "checkpoints/last")
    assert str(path) in caplog.text
    assert "made without it" in caplog.text
    assert len(averages.fit(0.1).weights) == len(before.fit(0.1).weights) - 2
    assert averages.fit(0.07).error > before.fit(0.07).error
    torch.testing.assert_close(averages.average(0.07), before.average(0.07), rtol=0, atol=1e-3)
    for step in (8, 16, 24, 32):
        (run / f"averages/step-{step}.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="kept no averages"):
        Averages(run / "checkpoints/last")


def test_a_damaged_checkpoint_is_named(whole: Path, tmp_path: Path) -> None:
    run = copy(whole, tmp_path / "run")
    (run / "checkpoints/step-40/state/ema.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-40/state/ema\.safetensors: 0 bytes"):
        find_model(f"{run}@ema:0.05")
    assert find_model(f"{run}@20,ema:0.1").is_file()


# -- names -------------------------------------------------------------------------------------------------


def test_every_checkpoint_has_averages_of_every_length(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole.parent)
    whole.parent.joinpath("runs").symlink_to(".")
    write_link(whole / "checkpoints/best", "step-20")
    last, first = (f"ema-0.1-step-{step}" for step in (40, 20))
    for name, start in (
        (f"{whole}@ema:0.1", last), ("run@ema:0.1", last), ("run@last,ema:0.1", last), ("run@40,ema:0.10", last),
        ("run@20,ema:0.1", first), ("run@best,ema:0.1", first), ("run/checkpoints/step-20@ema:0.1", first),
    ):  # fmt: skip
        path = find_model(name)
        assert path.parent.resolve() == whole.resolve() / "averages"
        assert path.name.startswith(start), name
        assert run_of(path) == whole.resolve()
    assert find_model("run@best").parent.resolve().name == "step-20"
    assert run_of(find_model("run@best")) == whole.resolve()
    assert run_of(whole / "config.yaml") is None


@pytest.mark.parametrize(("index", "length"), list(enumerate(TRAINED)))
def test_the_lengths_of_training_give_its_own_averages(whole: Path, index: int, length: float) -> None:
    path = find_model(f"{whole}@ema:{length}")
    own = load_tensors(whole / "checkpoints/last/state/ema.safetensors")
    made, model = load_tensors(path), load_tensors(whole / "checkpoints/last/model.safetensors")
    assert made.keys() == model.keys()
    assert any(name.startswith(f"ema.{index}.") for name in own)
    for name, x in made.items():
        torch.testing.assert_close(x, own.get(f"ema.{index}.{name}", model[name]), rtol=1e-6, atol=1e-7)
    a, b = unstir.load(path), unstir.load(whole)
    assert a.config == b.config
    assert (a.digest == b.digest) is (index == 0)  # to the last bit


def test_lengths_that_a_run_has_none_of(whole: Path) -> None:
    for name, kind, message, hint in (
        (f"{whole}@ema:0.001", CheckpointError, "no average of the length 0.001", "those from 0.03 to 0.25"),
        (f"{whole}@ema:0.3", ConfigError, "cannot have the length 0.3", "above 0 to 0.28"),
        (f"{whole}@ema:nan", ConfigError, "cannot have the length nan", "above 0 to 0.28"),
        (f"{whole}@20,ema:wide", ConfigError, "'wide' is no length", f"{whole}@20,ema:0.05"),
        (f"{whole}@30,ema:0.1", CheckpointError, "no checkpoint of step 30", f"{whole}@20, {whole}@40"),
        (f"{whole}@emma:0.1", CheckpointError, "no checkpoint of step emma:0.1", f"{whole}@ema:0.05"),
        ("nowhere@ema:0.1", CheckpointError, "no model 'nowhere'", ""),
    ):
        with pytest.raises(kind, match=message) as error:
            find_model(name)
        assert hint in str(error.value.hint)


def test_a_file_holds_no_other_averages(whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole / "checkpoints/last/model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="is no checkpoint of a run") as error:
        find_model(f"{tmp_path}@ema:0.1")
    assert "RUN@ema:0.05" in str(error.value.hint)


def test_there_is_no_best_checkpoint_before_the_first_measurement(whole: Path, tmp_path: Path) -> None:
    run = copy(whole, tmp_path / "run")
    (run / "checkpoints/best").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="no best checkpoint yet") as error:
        find_model(f"{run}@best")
    assert f"{run}@40" in str(error.value.hint)


def test_a_file_is_made_once_and_never_taken_for_another_checkpoint(whole: Path, tmp_path: Path) -> None:
    run = copy(whole, tmp_path / "run")
    path = find_model(f"{run}@ema:0.05")
    made = path.stat()
    assert find_model(f"{run}@40,ema:0.05") == path
    assert path.stat() == made
    earlier = find_model(f"{run}@20,ema:0.1")
    # the model's defaults change, as `unstir tune` changes them: the manifest does
    manifest = run / "checkpoints/step-40/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()), indent=2))
    again = find_model(f"{run}@ema:0.05")
    assert again != path
    assert not path.exists()
    assert earlier.exists()
    torch.testing.assert_close(load_tensors(again), load_tensors(find_model(f"{whole}@ema:0.05")))


def test_the_names_of_all_lengths(whole: Path) -> None:
    found = ema_addresses(whole)
    assert list(found) == sorted(found)
    assert set(TRAINED) <= set(found) <= {*TRAINED, *LENGTHS}
    assert found[0.1] == f"{whole}@40,ema:0.1"
    averages = Averages(whole / "checkpoints/last")
    assert all((averages.fit(x).error <= TOLERANCE) == (x in found) for x in (*LENGTHS, *TRAINED))
    assert ema_addresses(f"{whole}@20")[0.1] == f"{whole}@20,ema:0.1"
    assert ema_addresses(find_model(f"{whole}@20")) == ema_addresses(f"{whole.resolve()}@20")


# -- use ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_model_is_guided_by_another_average_of_itself(whole: Path) -> None:
    """2 D(x_t) - D_weaker(x_t)."""
    pipe, weaker = unstir.load(whole), unstir.load(f"{whole}@ema:0.25")
    x_t, t = Rng.of(0, 2).normal((2, *pipe.config.shape), torch.float32), torch.tensor(0.4)
    labels = torch.tensor([1, 2])
    chosen = pipe.chosen({"guidance": 2.0, "weaker": f"{whole}@ema:0.25"})
    guided, cond = pipe.guided(chosen, labels)
    expected = 2 * pipe.denoiser(x_t, t, cond) - weaker.denoiser(x_t, t, weaker.condition(labels))
    torch.testing.assert_close(guided(x_t, t, cond), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(guided(x_t, t, cond), pipe.denoiser(x_t, t, cond), atol=1e-3)


def test_averages_are_named_on_the_command_line(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    asked = [f"{whole}@20,ema:0.1", "n=2", "steps=2", "guidance=1.5", f"weaker={whole}@40,ema:0.25"]
    assert main(["sample", *asked, f"out={out}", "-q"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert recipe["model"] == f"{whole}@20,ema:0.1"
    assert recipe["weaker"] == f"{whole}@40,ema:0.25"
    assert main(["inspect", f"{whole}@ema:0.1", "--json"]) == 0
    assert main(["sample", f"{whole}@ema:0.9", f"out={out}", "-q"]) == 2
    assert "cannot have the length 0.9" in capsys.readouterr().err
