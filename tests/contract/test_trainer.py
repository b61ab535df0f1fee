"""The trainer against its promises: resuming bit for bit, planning, averaging, refusing."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unstir.condition import Batch
from unstir.errors import CheckpointError, ConfigError, DeviceError, NumericError
from unstir.rng import Rng
from unstir.train import (
    EMA,
    AdamW,
    MetricsLog,
    Muon,
    Trainer,
    Training,
    checkpoint,
    load_latest,
    network_dtype,
)
from unstir.train.ema import exponent
from unstir.train.muon import orthogonalize


class Net(nn.Module):
    """A kernel in channels-last, dropout and an unused parameter: what resuming could trip over."""

    def __init__(self) -> None:
        super().__init__()
        torch.random.manual_seed(0)
        self.enter = nn.Conv2d(1, 4, 3, padding=1)
        self.hidden = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)))
        self.dropout = nn.Dropout(0.1)
        self.leave = nn.Conv2d(4, 1, 1)
        self.unused = nn.Parameter(torch.zeros(3))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.dropout(self.hidden(self.enter(x)).relu()))


class Denoising:
    """|net(x + noise) - x|^2; at the steps in `poison` the loss is NaN."""

    def __init__(self, poison: set[int] = frozenset()) -> None:
        self.poison = poison

    def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
        error = denoiser(batch.x_0 + 0.5 * rng.normal(tuple(batch.x_0.shape))) - batch.x_0
        first = int(batch.index[0]) // 4
        return error.square().flatten(1).mean(1) * (math.nan if first in self.poison else 1.0)


def batches(first: int, n: int) -> Batch:
    index = torch.arange(first, first + n)
    return Batch(torch.sin(index[:, None] + torch.arange(36.0)).reshape(n, 1, 6, 6), index=index)


def make(objective: Any = None, optimizer: Any = None, **settings: Any) -> Trainer:
    settings = {"batch": 4, "steps": 10, "checkpoint_every": 5} | settings
    return Trainer(Net(), objective or Denoising(), batches, optimizer or Muon(), Training(**settings))


def model_file(path: Path) -> None:
    path.write_bytes(b"stand-in")


def test_resuming_is_bit_for_bit_what_never_stopping_is(tmp_path: Path) -> None:
    for name, stops in (("whole", [10]), ("parts", [5, 7, 10])):
        run = tmp_path / name
        run.mkdir()
        for stop in stops:
            trainer = make()
            found = load_latest(run)
            if found is not None:
                trainer.load_state_dict(found.state)
            with MetricsLog(run / "metrics.jsonl", trainer.step) as log:
                saver = checkpoint.Checkpointer(run, trainer, model_file, metrics=log)
                for step in trainer.steps():
                    log(step)
                    saver(step.step)
                    if step.step == stop:
                        saver.save()
                        break

    whole, parts = (load_latest(tmp_path / name) for name in ("whole", "parts"))
    assert whole is not None
    assert parts is not None
    assert whole.state.tensors.keys() == parts.state.tensors.keys()
    for name, tensor in whole.state.tensors.items():
        assert torch.equal(tensor, parts.state.tensors[name]), name
    kinds = {name.split(".")[0] for name in whole.state.tensors}
    assert kinds == {"weights", "ema", "optimizer"}
    assert "optimizer.hidden.0.weight.momentum" in whole.state.tensors
    assert "optimizer.enter.weight.exp_avg_sq" in whole.state.tensors
    assert {"ema.0.enter.weight", "ema.1.enter.weight"} <= whole.state.tensors.keys()
    logs = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    exact = [[(r["step"], r["loss"].hex(), r["grad_norm"].hex(), r["lr"]) for r in log] for log in logs]
    assert exact[0] == exact[1]
    assert [step for step, *_ in exact[0]] == list(range(1, 11))


def test_the_log_is_cut_to_the_checkpoint_and_a_torn_line_goes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in (1, 2, 3):
            log({"step": step, "loss": math.nan, "levels": [1.5, math.inf]})
    with path.open("ab") as file:
        file.write(b'{"step": 4, "lo')
    with MetricsLog(path, step=2) as log:
        log({"step": 3, "loss": 0.5})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "loss": None, "levels": [1.5, None]},
        {"step": 2, "loss": None, "levels": [1.5, None]},
        {"step": 3, "loss": 0.5},
    ]


def test_micro_batches_change_no_noise() -> None:
    class Keys(Denoising):
        def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
            seen.append(rng.normal((len(rng), 2)))
            return super().loss(denoiser, batch, rng)

    draws, norms = [], []
    for micro in (4, 3, 1):
        seen: list[Tensor] = []
        norms.append([step.grad_norm for step in make(Keys(), steps=2, micro_batch=micro).steps()])
        draws.append(torch.cat(seen))
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


def test_the_gradient_is_clipped_and_its_norm_is_the_one_before() -> None:
    trainer = make(clip=1e-3)
    _, norm = trainer._gradient()
    clipped = torch.nn.utils.get_total_norm(
        [p.grad for p in trainer.denoiser.parameters() if p.grad is not None]
    )
    assert norm > 1e-2
    assert clipped == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_the_rate_rises_and_falls_as_planned(decay: str) -> None:
    rates = [step.lr for step in make(decay=decay, warmup=4, steps=20).steps()]
    fall = {
        "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
        "linear": lambda p: 1 - p,
        "constant": lambda p: 1.0,
    }[decay]
    assert rates == pytest.approx([1e-3 * min(1, (k + 1) / 4) * fall(k / 20) for k in range(20)])


class Clock:
    """A clock that the objective moves by a known duration."""

    def __init__(self, durations: list[float]) -> None:
        self.now, self.durations = 0.0, durations

    def __call__(self) -> float:
        return self.now

    def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
        self.now += self.durations.pop(0) if len(self.durations) > 1 else self.durations[0]
        return Denoising().loss(denoiser, batch, rng)


@pytest.mark.parametrize("first", [1.0, 20.0])  # 20 s: a first step that compiles
def test_a_time_budget_ends_on_time_with_the_rate_at_its_end(
    monkeypatch: pytest.MonkeyPatch, first: float
) -> None:
    clock = Clock([first, 1.0])
    monkeypatch.setattr("unstir.train.trainer.time.monotonic", clock)
    steps = []
    for step in make(clock, steps=None, time=60.0).steps():
        steps.append(step)
        clock.now += 100.0  # a preview or a checkpoint: not training
    assert steps[-1].seconds == pytest.approx(60.0, abs=1.01)
    assert steps[-1].lr < 1e-3 * 0.01
    assert steps[-1].eta < 1.1


def test_time_goes_on_where_it_was_after_resuming(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock([1.0])
    monkeypatch.setattr("unstir.train.trainer.time.monotonic", clock)
    trainer = make(clock, steps=None, time=30.0)
    for step in trainer.steps():
        if step.step == 12:
            break
    resumed = make(clock, steps=None, time=30.0)
    resumed.load_state_dict(trainer.state_dict())
    assert [step.seconds for step in resumed.steps()][-1] == pytest.approx(30.0, abs=1.01)


def test_more_steps_replan_the_rate_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    trainer = make()
    assert len(list(trainer.steps())) == 10
    longer = make(steps=20)
    with caplog.at_level(logging.WARNING):
        longer.load_state_dict(trainer.state_dict())
    assert "steps was 10 and is 20" in caplog.text
    steps = list(longer.steps())
    assert [step.step for step in steps] == list(range(11, 21))
    assert steps[0].lr == pytest.approx(0.5e-3)  # half way down the cosine of 20 steps


def test_a_step_that_is_not_finite_changes_nothing_but_the_counters() -> None:
    trainer = make(Denoising(poison={3, 6}))
    skipped = []
    before = {k: v.clone() for k, v in trainer.state_dict().tensors.items()}
    for step in trainer.steps():
        now = trainer.state_dict().tensors
        if not math.isfinite(step.loss):
            skipped.append(step.step)
            assert all(torch.equal(before[name], now[name]) for name in now)
        before = {k: v.clone() for k, v in now.items()}
    assert skipped == [4, 7]
    assert step.skipped == 2
    assert trainer.samples == 40


def test_ten_in_a_row_stop_the_run() -> None:
    trainer = make(Denoising(poison=set(range(3, 99))), steps=50)
    with pytest.raises(NumericError, match=r"10 steps in a row, up to step 13 \(samples 12\.\.51") as error:
        list(trainer.steps())
    assert error.value.exit_code == 5
    assert all(x.isfinite().all() for x in trainer.state_dict().tensors.values())


def test_out_of_memory_gives_advice_and_leaves_the_state_alone() -> None:
    class Hungry(Denoising):
        def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
            if len(batch.x_0) > 1:
                torch.empty(2**60)
            return super().loss(denoiser, batch, rng)

    trainer = make(Hungry())
    before = {k: v.clone() for k, v in trainer.state_dict().tensors.items()}
    with pytest.raises(DeviceError) as error:
        next(trainer.steps())
    assert "micro_batch=2" in str(error.value.hint)
    assert all(torch.equal(before[k], v) for k, v in trainer.state_dict().tensors.items())
    assert len(list(make(Hungry(), micro_batch=1).steps())) == 10


def test_another_bug_in_the_step_is_not_called_out_of_memory() -> None:
    class Broken(Denoising):
        def loss(self, denoiser: nn.Module, batch: Batch, rng: Rng) -> Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        next(make(Broken()).steps())


def test_torch_generators_of_the_caller_stay_as_they_were() -> None:
    trainer = make()
    state = torch.random.get_rng_state()
    next(trainer.steps())
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_state_of_another_model_or_optimizer_is_refused() -> None:
    state = make().state_dict()
    with pytest.raises(CheckpointError, match=r"optimizer\.hidden\.0\.weight\.exp_avg: missing"):
        make(optimizer=AdamW()).load_state_dict(state)
    smaller = {**state.tensors, "weights.enter.weight": torch.zeros(2, 1, 3, 3)}
    with pytest.raises(CheckpointError, match=r"float32 \[2, 1, 3, 3\], expected float32 \[4, 1, 3, 3\]"):
        make().load_state_dict(state._replace(tensors=smaller))


def test_what_is_not_chosen_is_refused() -> None:
    for field in ("batch", "steps"):
        with pytest.raises(ConfigError, match=field):
            make(**{field: None})
    with pytest.raises(ConfigError, match="both given"):
        Training(steps=3, time=60.0)
    with pytest.raises(ConfigError, match="larger than batch"):
        Training(batch=4, micro_batch=8)


@pytest.mark.parametrize("length", [0.03, 0.1, 0.25])
def test_an_average_has_the_width_it_is_named_after(length: float) -> None:
    """Weights that are the unit vectors e_1, e_2, ... make the average the list of its own coefficients."""
    n = 4000
    net = nn.Linear(1, 1, bias=False)
    ema = EMA(net, (length,))
    times, profile = torch.arange(1.0, n + 1).double() / n, torch.zeros(n).double()
    for k in range(1, n + 1):
        beta = (1 - 1 / k) ** (exponent(length) + 1)
        profile[:k] *= beta
        profile[k - 1] = 1 - beta
    assert profile.sum() == pytest.approx(1)
    mean = (profile * times).sum()
    assert ((profile * (times - mean) ** 2).sum().sqrt()) == pytest.approx(length, rel=0.01)

    for k in range(1, n + 1):
        with torch.no_grad():
            net.weight.fill_(k / n)
        ema.update(k)
    assert ema.averages[0]["weight"].item() == pytest.approx(mean.item(), rel=1e-3)


def test_the_average_can_be_borrowed_and_is_given_back() -> None:
    trainer = make()
    list(trainer.steps())
    raw = {name: p.detach().clone() for name, p in trainer.denoiser.named_parameters()}

    def interrupted() -> None:
        with trainer.ema.average(1):
            assert all(torch.equal(p, averages[name]) for name, p in trainer.denoiser.named_parameters())
            assert not torch.equal(averages["enter.weight"], raw["enter.weight"])
            raise KeyboardInterrupt

    averages = trainer.ema.averages[1]
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(torch.equal(p, raw[name]) for name, p in trainer.denoiser.named_parameters())


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 30), (2, 30, 4)])
def test_orthogonalized_matrices_keep_their_singular_vectors(shape: tuple[int, ...]) -> None:
    matrices = Rng.of(0, shape[0]).normal(shape, torch.float64)
    U, _, V = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices)
    diagonal = U.mT @ result @ V.mT
    values = diagonal.diagonal(dim1=1, dim2=2)
    assert (values > 0.6).all()
    assert (values < 1.3).all()
    assert (diagonal - torch.diag_embed(values)).abs().max() < 1e-4


def test_muon_takes_hidden_matrices_only() -> None:
    muon, adamw = Muon(adamw=("enter", "leave")).build(Net().named_parameters())
    assert [p.shape for p in muon.param_groups[0]["params"]] == [(4, 4, 3, 3)] * 2
    assert sum(len(group["params"]) for group in adamw.param_groups) == 2 + 4 + 1


def test_both_optimizers_learn() -> None:
    for optimizer in (AdamW(lr=1e-2), Muon(lr=1e-2)):
        losses = [step.loss for step in make(optimizer=optimizer, steps=150).steps()]
        assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


def test_precision_is_what_was_asked_for() -> None:
    assert network_dtype("fp32", "cpu") is None
    assert network_dtype("bf16", "cpu") is torch.bfloat16
    assert network_dtype("auto", "cpu") in (None, torch.bfloat16)


def test_numbers_that_are_too_small_for_the_processor_are_zero() -> None:
    """In training; what comes after it computes as before."""
    tiny = torch.full((1,), 1e-30)
    seen: list[float] = []

    class Watched(Denoising):
        def loss(self, denoiser: Any, batch: Batch, rng: Rng) -> Tensor:
            seen.append((tiny * 1e-9).item())
            return super().loss(denoiser, batch, rng)

    for before in (False, True):
        torch.set_flush_denormal(before)
        for _ in make(objective=Watched(), steps=2).steps():
            assert ((tiny * 1e-9).item() == 0) == before
        assert ((tiny * 1e-9).item() == 0) == before
    torch.set_flush_denormal(False)
    assert seen == [0.0] * 4
