"""What explanations show is what the closed forms say."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from tiny import pipeline
from truth import SCHEDULES, double, label
from unstir import load, times
from unstir.analytic import GaussianMixture
from unstir.explain import Attention, Distribution, Forward, Schedule, Solvers
from unstir.explain.attention import words
from unstir.explain.distribution import energy_distance
from unstir.explain.forward import Way
from unstir.explain.laws import LAWS, law_of
from unstir.layers import Attention as SelfAttention
from unstir.networks import UNetConfig, recording_attention
from unstir.process import BetaLinear, Cosine, Gaussian, Linear
from unstir.process.base import Schedule as NoiseSchedule
from unstir.rng import Rng
from unstir.solvers import DDIM, DDPM, DEIS, DPMpp2M, Euler, Heun, RungeKutta

DIGITS = {"rel": 1e-9, "abs": 1e-12}


def close(a: Any, b: Any, rel: float = 1e-6, abs: float = 0.0) -> bool:
    return torch.allclose(*(torch.as_tensor(x).double() for x in (a, b)), rtol=rel, atol=abs)


@pytest.fixture(params=SCHEDULES, ids=label)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return request.param


class TestSchedule:
    def curves(self, schedule: NoiseSchedule, steps: int) -> list[torch.Tensor]:
        charts = Schedule(schedule=schedule, compare=None, steps=steps).explain().charts
        return [torch.as_tensor(values) for chart in charts for values in chart.curves.values()]

    def test_of_the_process(self, schedule: NoiseSchedule) -> None:
        t = torch.linspace(0, 1, 21, dtype=torch.float64)
        beta, alpha_bar, log_snr, alpha, sigma = self.curves(schedule, 20)
        built = schedule.build()
        with torch.no_grad():
            assert torch.equal(alpha, built.alpha(t))
            assert torch.equal(sigma, built.sigma(t))
            assert torch.equal(log_snr, built.log_snr(t))
        assert torch.equal(alpha_bar, alpha**2)
        ratio = alpha[1:] / alpha[:-1]
        assert close(beta[1:], sigma[1:] ** 2 - ratio**2 * sigma[:-1] ** 2, **DIGITS)
        assert math.isnan(beta[0])

    def test_betas_of_the_first_papers(self) -> None:
        beta, alpha_bar, *_ = self.curves(BetaLinear(), 1000)
        assert close(beta[1:], BetaLinear().betas(), **DIGITS)
        assert close(alpha_bar[1:], (1 - BetaLinear().betas()).cumprod(0), **DIGITS)

    def test_betas_of_the_cosine(self) -> None:
        f = [math.cos((k / 50 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(51)]
        expected = [1 - b / a for a, b in pairwise(f)]
        assert close(self.curves(Cosine(0.008), 50)[0][1:], double(*expected), rel=1e-9, abs=1e-9)


class TestForward:
    def test_both_ways_have_the_moments_of_the_formula(self, schedule: NoiseSchedule) -> None:
        x_0 = Rng.of(3, 1).uniform((1, 1, 100, 100)) - 0.3
        with torch.no_grad():
            way = Way(Gaussian(schedule.build()), x_0, 9, seed=1)
        mean, std = x_0.double().mean(), x_0.double().std(correction=0)
        spread = (way.alpha * std) ** 2 + way.sigma**2
        for x in (way.chain, way.jumps):
            found = x.double().flatten(1)
            # x_0 is given: only the noise makes means and variances uncertain
            reach = 5 * way.sigma / 100 + 1e-6
            assert ((found.mean(1) - way.alpha * mean).abs() <= reach).all()
            off = found.var(1, correction=0) / spread - 1
            assert (off.abs() <= 5 * (2 / 10_000) ** 0.5).all()

    def test_a_jump_has_always_the_same_noise(self) -> None:
        x_0 = Rng.of(3, 1).uniform((1, 3, 8, 8))
        way = Way(Gaussian(Cosine()), x_0, 5, seed=1)
        eps = [(x - a * x_0[0]) / s for x, a, s in zip(way.jumps, way.alpha, way.sigma, strict=True)][1:]
        assert all(torch.allclose(one, eps[0], atol=1e-5) for one in eps)

    def test_the_chain_goes_on_from_where_it_is(self) -> None:
        process, x_0 = Gaussian(Linear()), Rng.of(3, 1).uniform((1, 1, 200, 200))
        way = Way(process, x_0, 5, seed=1)
        for k in range(3):  # the last step keeps nothing
            ratio, std = process.kernel(way.t[k], way.t[k + 1])
            noise = (way.chain[k + 1] - ratio * way.chain[k]) / std
            assert close(noise.mean(), 0.0, abs=0.025)
            assert close(noise.std(), 1.0, abs=0.025)

    def test_correlation(self) -> None:
        chart = next(c for c in Forward(schedule=Cosine(), frames=9).explain().charts if "left" in c.title)
        for way in ("chain", "jump"):
            assert close(torch.as_tensor(chart.curves[way]), chart.curves["formula"], abs=0.05)


class TestDistribution:
    @pytest.mark.parametrize("name", LAWS)
    def test_laws_are_normalised(self, name: str) -> None:
        law = law_of(name)
        assert close(law.mean(), torch.zeros(2).double(), abs=1e-12)
        assert close(law.variance().mean(), 1.0, rel=1e-12)
        drawn = law.denoiser(Gaussian(Cosine())).draw(Rng.of(0, 20_000))
        assert close(drawn.mean(0), law.mean(), abs=0.05)
        assert close(drawn.var(0), law.variance(), rel=0.05)

    def test_a_gaussian_comes_back_along_straight_lines(self) -> None:
        """Of N(m, s^2) the flow is x_t = alpha m + sqrt(alpha^2 s^2 + sigma^2) z, z the same at all times."""
        m, s = torch.tensor([[0.5, -1.0]]).double(), torch.tensor([0.3]).double()
        subject = Distribution(solver=RungeKutta(), particles=50)
        denoiser = GaussianMixture(Gaussian(Cosine()), torch.ones(1).double(), m, s)
        grid = times.uniform(40)
        way = subject.denoised(denoiser, grid)
        alpha, sigma = Cosine().alpha(grid), Cosine().sigma(grid)
        for k in (10, 20, 30, 40):
            expected = alpha[k] * m + torch.sqrt((alpha[k] * s) ** 2 + sigma[k] ** 2) * way[0]
            assert close(way[k], expected, abs=0.01)

    @pytest.mark.parametrize("name", LAWS)
    def test_what_comes_back_is_of_the_law(self, name: str) -> None:
        table = Distribution(law=name, particles=1000).explain().table
        assert table is not None
        for what, law, drawn, back in table.rows:
            assert abs(back - law) < 0.1, what
            assert abs(drawn - law) < 0.1, what
        assert table.rows[-1][3] < 0.01

    def test_what_comes_back_from_any_schedule_is_of_the_law(self, schedule: NoiseSchedule) -> None:
        subject = Distribution(law="clusters", schedule=schedule, steps=60)
        law = law_of("clusters").to(torch.float32)
        with torch.no_grad():
            denoiser = law.denoiser(Gaussian(schedule.build()))
            back = subject.denoised(denoiser, times.uniform(60))[-1]
        assert energy_distance(back, denoiser.draw(Rng.of(7, 400).fork("other"))) < 0.02

    def test_the_way_there_has_the_law_of_one_jump(self, schedule: NoiseSchedule) -> None:
        subject, law = Distribution(law="grid", particles=1000), law_of("grid").to(torch.float32)
        with torch.no_grad():
            denoiser = law.denoiser(Gaussian(schedule.build()))
            grid = times.uniform(8).flip(0)
            for x, t in zip(subject.noised(denoiser, grid), grid, strict=True):
                alpha, sigma = denoiser.process.scales(t, x)
                expected = torch.sqrt(alpha**2 * law.variance() + sigma**2)
                assert close(x.std(0), expected, rel=0.15)

    def test_arrows_point_up_the_density(self) -> None:
        law = law_of("moons").to(torch.float32)
        denoiser = law.denoiser(Gaussian(Cosine()))
        cloud = Distribution(steps=4).explain().clouds[1]
        for frame, t in zip(cloud.frames[:-1], (1.0, 0.75, 0.5, 0.25), strict=True):
            assert frame.arrows is not None
            x, drawn = torch.from_numpy(frame.arrows).split(2, 1)
            x.requires_grad_()
            (score,) = torch.autograd.grad(denoiser.log_prob(x, double(t)).sum(), x)
            strong = score.norm(dim=1) > 1e-3  # in the middle there is no direction
            assert torch.cosine_similarity(score, drawn)[strong].min() > 0.999
        assert cloud.frames[-1].arrows is None  # without noise there is no density


class TestSolvers:
    def test_measured_orders(self) -> None:
        solvers = (DDIM(), Euler(), Heun(), DPMpp2M(), DEIS(), DDPM())
        table = Solvers(solvers=solvers, steps=(32, 64)).explain().table
        assert table is not None
        slopes = {row[0]: (row[4], row[5]) for row in table.rows if row[1] == 64}
        assert slopes["DDPM"][1] is None  # its noise leads elsewhere
        for name, (order, slope) in slopes.items():
            assert slope is None or slope > order - 0.3, name
        assert sum(slope is not None for _, slope in slopes.values()) == 5

    def test_calls_are_counted(self) -> None:
        table = Solvers(solvers=(DDIM(), Heun()), steps=(4, 8)).explain().table
        assert table is not None
        assert [row[2] for row in table.rows] == [4, 8, 8, 16]

    def test_of_a_model_it_starts_where_sampling_does(self) -> None:
        pipe = pipeline()
        explained = Solvers(solvers=(Heun(),), steps=(3,), seed=5, label=1).explain(pipe)
        drawn = pipe.sample(n=1, seed=5, steps=3, solver=Heun(), label=1).images[0]
        (sheet,) = explained.pictures
        cell = sheet.pixels[-68:-4, -68:-4, :1]
        assert (cell == drawn.repeat(8, axis=0).repeat(8, axis=1)).all()


class TestAttention:
    def test_words_have_all_the_tokens(self) -> None:
        pipe = load("emoji")
        found = words(pipe, "Red  hearts, (red:1.5)")
        assert list(found) == ["Red", "hearts,", "red", "(start)"]
        cond = pipe.condition(pipe.asked(None, "Red  hearts, (red:1.5)", Rng.of(0, 1), pipe.chosen({})))
        assert cond is not None
        assert cond.mask is not None
        assert (
            sorted(k for places in found.values() for k in places)
            == cond.mask[0].nonzero().flatten().tolist()
        )

    def test_shares_of_the_words_add_up_to_one(self) -> None:
        explained = Attention(prompt="red heart", steps=2).explain(load("emoji"))
        (chart,) = explained.charts
        assert close(sum(torch.as_tensor(values) for values in chart.curves.values()), torch.ones(2))

    def test_of_places(self) -> None:
        """What self-attention adds is what it takes, times the values."""
        torch.manual_seed(0)
        layer, x = SelfAttention(16, 2, gain=1).double(), torch.randn(3, 12, 16).double()
        p = layer.probabilities(x)
        assert close(p.sum(-1), torch.ones(3, 2, 12).double())
        v = layer.qkv(x).unflatten(-1, (3, 2, -1)).unbind(2)[2]
        assert close(
            layer(x), layer.out(torch.einsum("bhnl,blhd->bnhd", p.double(), v).flatten(-2)), abs=1e-6
        )

    def test_maps_of_places_are_on_the_grid(self) -> None:
        pipe = pipeline(network=UNetConfig(widths=(8, 16), blocks=1, attention=2, head_width=8))
        cond = pipe.condition(torch.tensor([1]))
        with torch.no_grad(), recording_attention(pipe.denoiser, SelfAttention) as maps:
            pipe.denoiser(torch.randn(1, 1, 8, 8), double(0.5), cond)
        assert [tuple(m.shape) for (m,) in maps.values()] == [
            (1, 4, 4, 16),
            (1, 2, 2, 4),
            (1, 2, 2, 4),
            (1, 4, 4, 16),
        ]
