"""What every schedule and every grid promises."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from truth import SCHEDULES, double, label
from unstir import process
from unstir.errors import ConfigError, IncompatibleError
from unstir.process import (
    EDM,
    VP,
    BetaLinear,
    Cosine,
    Geometric,
    Linear,
    MonotoneConfig,
    Schedule,
    Shifted,
    Sigmoid,
    SubVP,
    ZeroTerminal,
)

INNER = torch.linspace(1e-4, 1 - 1e-4, 1001, dtype=torch.float64)
TO_PURE_NOISE = tuple(s for s in SCHEDULES if s.alpha(double(1.0)) == 0)
PRESERVING = tuple(
    s
    for s in SCHEDULES
    if label(s).partition("(")[0]
    in ("Cosine", "BetaLinear", "Sigmoid", "VP", "ZeroTerminal", "BetaVectorConfig", "MonotoneConfig")
)


@pytest.fixture(params=SCHEDULES, ids=label)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_exact(schedule: Schedule, dtype: torch.dtype) -> None:
    """Solvers branch on sigma(0) = 0 and alpha(1) = 0: 1e-17 there would be divided by."""
    ends = torch.tensor([0.0, 1.0], dtype=dtype)
    alpha, sigma = schedule.alpha(ends), schedule.sigma(ends)
    assert alpha.dtype == sigma.dtype == dtype
    if isinstance(schedule, MonotoneConfig):
        expected = [schedule.log_snr_0, schedule.log_snr_1]
        assert schedule.log_snr(ends).tolist() == pytest.approx(expected, rel=1e-6)
        return
    assert alpha[0] == pytest.approx(1, abs=4 * torch.finfo(dtype).eps)
    if isinstance(schedule, (Geometric, EDM)):
        assert sigma.tolist() == pytest.approx([schedule.sigma_min, schedule.sigma_max], rel=2e-6)
    else:
        assert sigma[0] == 0
        assert sigma[1] == pytest.approx(1, abs=3e-3)
    if isinstance(schedule, (Linear, Cosine, Sigmoid, Shifted, ZeroTerminal)):
        assert alpha[1] == 0
        assert sigma[1] == pytest.approx(1, abs=4 * torch.finfo(dtype).eps)


def test_log_snr_falls(schedule: Schedule) -> None:
    assert (schedule.log_snr(INNER).diff() < 0).all()
    assert (schedule.alpha(INNER).diff() <= 0).all()
    assert (schedule.sigma(INNER).diff() >= 0).all()


def test_log_snr_is_what_it_is_called(schedule: Schedule) -> None:
    expected = torch.log(schedule.alpha(INNER) ** 2 / schedule.sigma(INNER) ** 2)
    assert torch.allclose(schedule.log_snr(INNER), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_inverts_log_snr(schedule: Schedule, dtype: torch.dtype) -> None:
    t = INNER[::10].to(dtype)
    there = schedule.time(schedule.log_snr(t))
    assert there.dtype == dtype
    # log-SNR to within its rounding; where it is flat in t, t itself is known less well
    assert torch.allclose(
        schedule.log_snr(there), schedule.log_snr(t), rtol=0, atol=2e-3 if dtype == torch.float32 else 1e-9
    )


def test_time_stays_within_its_ends(schedule: Schedule) -> None:
    """log-SNRs that no time has, and infinite ones, belong to an end."""
    found = schedule.time(double(-math.inf, -300.0, 0.0, 300.0, math.inf))
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert (found.diff() <= 0).all()
    assert found[0] == pytest.approx(1, abs=1e-12)
    assert found[-1] == pytest.approx(0, abs=1e-12)


def test_derivatives(schedule: Schedule) -> None:
    """Automatic ones against central differences, inside."""
    h, t = 1e-6, (torch.arange(20, 980, 24, dtype=torch.float64) + 0.5) / 1000  # between the steps of a chain
    for function, derivative in ((schedule.alpha, schedule.dalpha), (schedule.sigma, schedule.dsigma)):
        central = (function(t + h) - function(t - h)) / (2 * h)
        assert torch.allclose(derivative(t), central, rtol=1e-6, atol=1e-8)


def test_derivatives_are_never_nan(schedule: Schedule) -> None:
    """Infinite at an end where the curve is vertical, but a number."""
    ends = double(0.0, 1.0)
    assert not schedule.dalpha(ends).isnan().any()
    assert not schedule.dsigma(ends).isnan().any()


def test_elementwise_and_scalar(schedule: Schedule) -> None:
    t = double(0.1, 0.5, 0.9)
    for function in (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.dalpha, schedule.dsigma):
        one_by_one = torch.stack([function(u) for u in t])
        assert torch.allclose(function(t), one_by_one, rtol=1e-13)
        assert function(t.reshape(3, 1)).shape == (3, 1)
        assert function(t[0]).shape == ()


def test_float32_near_the_ends(schedule: Schedule) -> None:
    """1 - (something near 1) loses all digits of a small sigma or alpha; a schedule must not."""
    t = torch.tensor([1e-6, 1e-5, 1e-4, 1e-3, 1 - 1e-3, 1 - 1e-4, 1 - 1e-5], dtype=torch.float32)
    for function in (schedule.alpha, schedule.sigma):
        single, exact = function(t).double(), function(t.double())
        # ZeroTerminal is a difference by definition; a moved time is rounded before alpha sees it
        by_difference = "ZeroTerminal" in label(schedule) or "Shifted(schedule" in label(schedule)
        tolerance = 5e-3 if by_difference and function == schedule.alpha else 2e-5
        assert torch.allclose(single, exact, rtol=tolerance, atol=0)


def test_differentiable_by_autograd_too(schedule: Schedule) -> None:
    """A learned schedule or a likelihood differentiates backwards."""
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(schedule.sigma(t).sum(), t)
    assert torch.allclose(gradient, schedule.dsigma(t.detach()), rtol=1e-10)


@pytest.mark.parametrize("schedule", PRESERVING, ids=label)
def test_variance_is_preserved(schedule: Schedule) -> None:
    t = torch.cat((double(0.0)[None], INNER, double(1.0)[None]))
    assert (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 - 1).abs().max() < 1e-12


# -- each by its formula -------------------------------------------------------------------------------------


def test_linear_is_the_straight_path() -> None:
    assert torch.equal(Linear().alpha(INNER) + Linear().sigma(INNER), torch.ones_like(INNER))


@pytest.mark.parametrize("offset", [0.0, 0.008])
def test_cosine_is_the_published_formula(offset: float) -> None:
    """alpha-bar = f(t)/f(0), f = cos^2((t + s)/(1 + s) pi/2). Nichol & Dhariwal 2021, eq. 17."""

    def f(t: Tensor) -> Tensor:
        return torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2

    assert torch.allclose(Cosine(offset).alpha(INNER) ** 2, f(INNER) / f(double(0.0)), rtol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "betas"),
    [
        (BetaLinear(), torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
        (
            BetaLinear.stable_diffusion(),
            torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2,
        ),
        (BetaLinear(steps=1, beta_1=0.3, beta_T=0.3), double(0.3)[None]),
    ],
    ids=["ddpm", "stable diffusion", "one step"],
)
def test_the_chain_is_the_product_of_its_betas(schedule: BetaLinear, betas: Tensor) -> None:
    t = torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps
    assert torch.allclose(schedule.betas(), betas, rtol=1e-14)
    assert torch.allclose(schedule.alpha(t) ** 2, torch.cumprod(1 - betas, 0), rtol=1e-12)


def test_vp_and_sub_vp_solve_their_equations() -> None:
    """dx = -beta/2 x dt + g dw moves the variance of x_t | x_0 by d(sigma^2)/dt = g^2 - beta sigma^2."""
    t = double(0.05, 0.3, 0.7, 0.95)
    beta = 0.1 + 19.9 * t
    noise = [1 - math.exp(-2 * quad(lambda u: 0.1 + 19.9 * u, 0, float(u))[0]) for u in t]
    for schedule, g2 in ((VP(), beta), (SubVP(), beta * double(*noise))):
        assert torch.allclose(schedule.dalpha(t), -beta / 2 * schedule.alpha(t), rtol=1e-12)
        variance = 2 * schedule.sigma(t) * schedule.dsigma(t)
        assert torch.allclose(variance, g2 - beta * schedule.sigma(t) ** 2, rtol=1e-9)


def test_the_chain_becomes_vp_with_many_steps() -> None:
    """beta_min and beta_max are beta_1 T and beta_T T. Song et al. 2021, appendix B."""
    chain = BetaLinear(steps=100_000, beta_1=0.1 / 100_000, beta_T=20 / 100_000)
    assert torch.allclose(chain.alpha(INNER), VP().alpha(INNER), rtol=1e-3)


def test_geometric_is_even_in_log_sigma() -> None:
    steps = Geometric(0.1, 10.0).sigma(torch.linspace(0, 1, 5, dtype=torch.float64))
    assert steps.tolist() == pytest.approx([0.1, 10**-0.5, 1.0, 10**0.5, 10.0])


def test_edm_is_even_in_the_root_of_sigma() -> None:
    roots = EDM().sigma(torch.linspace(0, 1, 5, dtype=torch.float64)) ** (1 / 7)
    assert torch.allclose(roots.diff(), roots.diff()[0].expand(4), rtol=1e-12)


def test_sigmoid_is_the_published_formula() -> None:
    schedule = Sigmoid(start=-3.0, end=3.0, tau=0.9)
    ends = [torch.sigmoid(double(u) / 0.9) for u in (-3.0, 3.0)]
    here = torch.sigmoid((-3.0 + 6.0 * INNER) / 0.9)
    expected = (ends[1] - here) / (ends[1] - ends[0])
    assert torch.allclose(schedule.alpha(INNER) ** 2, expected, rtol=1e-9)


@pytest.mark.parametrize("inner", TO_PURE_NOISE, ids=label)
@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_shifted_moves_log_snr_by_a_constant(inner: Schedule, shift: float) -> None:
    moved = Shifted(inner, shift).log_snr(INNER[::20]) - inner.log_snr(INNER[::20])
    assert torch.allclose(moved, torch.full_like(moved, -2 * math.log(shift)), atol=1e-8)


def test_a_shift_of_one_changes_nothing() -> None:
    assert torch.allclose(Shifted(Cosine(), 1.0).alpha(INNER), Cosine().alpha(INNER), atol=1e-14)


def test_zero_terminal_is_the_published_algorithm() -> None:
    """sqrt(alpha-bar) is shifted to 0 at the end and scaled to keep its start. Lin et al. 2023, algorithm 1."""
    root = BetaLinear().alpha(INNER)
    first, last = 1.0, BetaLinear().alpha(double(1.0))
    assert torch.allclose(ZeroTerminal().alpha(INNER), (root - last) * first / (first - last), rtol=1e-12)


# -- refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (Cosine, {"offset": -0.1}, "offset"),
        (Cosine, {"offset": 1.0}, "offset"),
        (Cosine, {"offset": math.nan}, "offset"),
        (BetaLinear, {"steps": 0}, "steps"),
        (BetaLinear, {"beta_1": 0.0}, "beta_1"),
        (BetaLinear, {"beta_1": 0.03}, "beta_1"),
        (BetaLinear, {"beta_T": 1.0}, "beta_1"),
        (BetaLinear, {"spacing": "cubic"}, "spacing"),
        (Geometric, {"sigma_min": 0.0}, "sigma_min"),
        (Geometric, {"sigma_max": math.inf}, "sigma_min"),
        (Geometric, {"sigma_min": 60.0}, "sigma_min"),
        (EDM, {"sigma_min": math.nan}, "sigma_min"),
        (EDM, {"rho": 0.0}, "rho"),
        (VP, {"beta_min": 0.0}, "beta_min"),
        (SubVP, {"beta_max": 0.05}, "beta_min"),
        (VP, {"beta_max": math.inf}, "beta_min"),
        (Sigmoid, {"start": 3.0}, "start"),
        (Sigmoid, {"tau": 0.0}, "tau"),
        (Shifted, {"shift": 0.0}, "shift"),
        (Shifted, {"shift": math.inf}, "shift"),
        (Shifted, {"schedule": EDM()}, "schedule"),
        (Shifted, {"schedule": BetaLinear()}, "schedule"),
        (ZeroTerminal, {"schedule": Linear()}, "schedule"),
        (ZeroTerminal, {"schedule": Geometric()}, "schedule"),
    ],
)
def test_wrong_settings_are_named(kind: type, fields: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        kind(**fields)
    assert error.value.field == f"schedule.{field}"
    assert error.value.hint
    assert isinstance(error.value, IncompatibleError) is (field == "schedule")


def test_every_exported_schedule_is_tested() -> None:
    exported = {k.__name__ for n in process.__all__ if issubclass(k := getattr(process, n), Schedule)}
    settings = exported - {
        "Schedule",
        "Learned",
        "BetaVector",
        "Monotone",
    }  # the modules that two settings build
    assert settings == {type(s).__name__ for s in SCHEDULES}
