"""Methods that need no gradient of the network, against posteriors known in closed form.

With a normal prior everything here is affine in its noise, so one batch whose rows are the unit vectors of all the
noise there is carries the whole law of the samples: mean and covariance are measured without sampling error.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from truth import SOLVERS, double, label
from unstir import times
from unstir.analytic import GaussianMixture
from unstir.condition import Condition
from unstir.denoiser import Denoiser, Move
from unstir.errors import ConfigError, IncompatibleError
from unstir.guidance import DDNM, DDRM, ClassifierFree, DiffPIR, Method, Posterior, Replacement
from unstir.noise import Noise
from unstir.operators import (
    HDR,
    Blur,
    Crop,
    GaussianNoise,
    Kernel,
    Mask,
    Matrix,
    Measurement,
    Operator,
    PoissonNoise,
)
from unstir.process import EDM, Cosine, Gaussian, Geometric, Linear, Schedule
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, DDPM, DPMpp2M, Euler, Heun
from unstir.solvers.base import Bound, Solver

SIDE, D = 4, 16
STD = 0.3
SHAPE = (1, SIDE, SIDE)
METHODS = (DDNM(), DDRM(), Replacement(), DiffPIR())
KEEP = torch.arange(D).reshape(SIDE, SIDE) % 3 > 0
IMPLICIT, STOCHASTIC = DDIM(), DDIM(eta=1.0)


class Pictures(Denoiser):
    """A law of vectors as one of pictures (1, 4, 4)."""

    def __init__(self, vectors: GaussianMixture) -> None:
        super().__init__()
        self.vectors, self.process = vectors, vectors.process

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.vectors(x_t.flatten(1), t, cond).reshape(x_t.shape)


class Directions:
    """A generator whose draws are unit vectors: of draw k, number j is 1 in row 1 + 16 k + j and 0 elsewhere."""

    def __init__(
        self, draws: int, path: tuple[object, ...] = (), found: dict[object, int] | None = None
    ) -> None:
        self.draws, self.path, self.found = draws, path, {} if found is None else found

    @property
    def rows(self) -> int:
        return 1 + D * self.draws

    def fork(self, *labels: object) -> Directions:
        words = (float(word) if isinstance(word, Tensor) else word for word in labels)
        return Directions(self.draws, (*self.path, *words), self.found)

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype, device: object = None) -> Tensor:
        z = torch.zeros(self.rows, D, dtype=dtype)
        if self.draws:
            place = self.found.setdefault(self.path, len(self.found))
            assert place < self.draws, "give it more draws"
            z[1 + D * place : 1 + D * (place + 1)] = torch.eye(D, dtype=dtype)
        return z.reshape(shape)


class Law(NamedTuple):
    mean: Tensor
    covariance: Tensor


class Problem(NamedTuple):
    """A normal prior, a measurement and the law of x_0 given y."""

    denoiser: Pictures
    measurement: Measurement
    A: Tensor
    truth: Law


def matrix() -> Tensor:
    """A (8, 16) with singular values from 0.2 to 2."""
    z = Rng.of(5, D).normal((D, 40), torch.float64)
    U, V = torch.linalg.qr(z[:8, :8])[0], torch.linalg.qr(z[:, 8:24])[0]
    return U @ torch.diag(torch.linspace(2, 0.2, 8, dtype=torch.float64)) @ V[:8]


def problem(
    operator: str = "matrix", std: float = 0.0, schedule: Schedule | None = None, prior: str = "blocks"
) -> Problem:
    """The prior has full blocks of covariance in what A sees and in what it does not ("blocks"), a diagonal one in
    A's basis ("diagonal"), or is that of smooth pictures ("smooth"), whose pixels all depend on each other.
    """
    A = matrix() if operator == "matrix" else torch.eye(D, dtype=torch.float64)[KEEP.flatten()]
    V = torch.linalg.svd(A)[2].T
    z = Rng.of(7, D).normal((D, D), torch.float64)
    if prior == "smooth":
        places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).double()
        C = 0.3 * torch.exp(-torch.cdist(places, places) / 2)
    elif prior == "blocks":
        seen = torch.arange(D) < len(A)
        C = 0.1 * torch.eye(D, dtype=torch.float64) + torch.where(seen == seen[:, None], z @ z.T / 40, 0)
        C = V @ C @ V.T
    else:
        C = V * torch.linspace(0.05, 0.5, D, dtype=torch.float64) @ V.T
    m = torch.linspace(-0.5, 0.5, D, dtype=torch.float64)
    x_0 = m + torch.linalg.cholesky(C) @ z[0]
    y = A @ x_0 + std * z[1, : len(A)]
    gain = C @ A.T @ torch.linalg.inv(A @ C @ A.T + std**2 * torch.eye(len(A), dtype=torch.float64))
    vectors = GaussianMixture(Gaussian(schedule or Cosine()), double(1.0)[None], m[None], C[None])
    given = (Matrix(A), y[None]) if operator == "matrix" else (Mask(KEEP), (A.T @ y).reshape(1, *SHAPE))
    measurement = Measurement(*given, GaussianNoise(std))
    return Problem(Pictures(vectors), measurement, A, Law(m + gain @ (y - A @ m), C - gain @ A @ C))


def law(given: Problem, method: Method, solver: Solver, grid: Tensor, draws: int | None = None) -> Law:
    """Of the samples; draws=0 for the mean alone."""
    grid = method.times(grid)
    # a step of Brownian motion takes about five draws, one of a method one
    draws = len(grid) * (7 if solver.stochastic else 1) + 20 if draws is None else draws
    rng, denoiser = Directions(draws), Posterior(given.denoiser, given.measurement, method)
    x = denoiser.process.prior((rng.rows, *SHAPE), rng.fork("prior"), torch.float64)
    x = sample(denoiser, solver, grid, x, rng=rng).flatten(1)
    rows = x[1:] - x[0]
    return Law(x[0], rows.T @ rows)


def errors(found: Law, truth: Law) -> tuple[float, float]:
    """Of the mean, by the standard deviation of the posterior; of the covariance, relative, by Frobenius' norm."""
    mean, covariance = found.mean - truth.mean, found.covariance - truth.covariance
    return (
        float(mean.norm() / truth.covariance.trace().sqrt()),
        float(covariance.norm() / truth.covariance.norm()),
    )


def drawn(given: Problem, method: Method, solver: Solver, steps: int, n: int, **settings: Tensor) -> Tensor:
    """n samples, (n, 16)."""
    rng, measurement = Rng.of(3, n), replace(given.measurement, **settings)
    denoiser = Posterior(given.denoiser, measurement, method)
    x = denoiser.process.prior((n, *SHAPE), rng.fork("prior"), torch.float64)
    return sample(denoiser, solver, method.times(times.uniform(steps)), x, rng=rng).flatten(1)


def fits(method: Method, solver: Solver) -> bool:
    try:
        method.check_solver(solver)
    except IncompatibleError:
        return False
    return True


# -- samples against the posterior -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "prior", "schedule"),
    [("matrix", "diagonal", Cosine()), ("matrix", "blocks", Linear()), ("mask", "blocks", EDM())],
)
@pytest.mark.parametrize("method", METHODS, ids=label)
def test_without_noise_the_posterior_is_exact_where_what_is_open_is_independent(
    method: Method, operator: str, prior: str, schedule: Schedule
) -> None:
    if operator == "matrix" and isinstance(method, Replacement):
        pytest.skip("for masks")
    given = problem(operator, 0.0, schedule, prior)
    found = law(given, method, IMPLICIT, times.uniform(120))
    mean, covariance = errors(found, given.truth)
    assert mean < 0.01
    assert covariance < 0.05
    assert float((given.A @ found.covariance @ given.A.T).norm()) < 1e-14


@pytest.mark.parametrize(
    ("method", "solver", "steps"), [(DDRM(), IMPLICIT, 80), (DDNM(), Heun(), 20), (DiffPIR(), DPMpp2M(), 30)]
)
def test_ten_thousand_samples_have_its_mean_and_covariance(
    method: Method, solver: Solver, steps: int
) -> None:
    given = problem("matrix", 0.0, prior="diagonal")
    x = drawn(given, method, solver, steps, 10_000)
    vectors = given.denoiser.vectors
    error = (x.mean(0) - given.truth.mean) @ vectors.axes[0] / vectors.variances[0].sqrt()
    assert float(error.square().mean().sqrt()) < 0.01
    assert errors(Law(x.mean(0), x.T.cov()), given.truth)[1] < 0.05


@pytest.mark.parametrize("method", [DDNM(), DiffPIR()], ids=label)
def test_as_an_exact_denoiser_it_keeps_the_order_of_the_solver(method: Method) -> None:
    given = problem()
    coarse, fine = (errors(law(given, method, Heun(), times.uniform(n)), given.truth)[1] for n in (15, 30))
    assert math.log2(coarse / fine) > 1.65


def test_replacement_is_exact_with_noise_where_pixels_are_independent() -> None:
    given = problem("mask", STD)
    level = Cosine().time(-2 * double(STD).log()) + 1e-9  # a grid that stops where x_t is as noisy as y
    found = []
    for n in (8, 16, 32):
        grid = torch.cat((torch.linspace(1, level, n + 1), torch.linspace(level, 0, n + 1)[1:])).double()
        found.append(errors(law(given, Replacement(), DDPM(), grid), given.truth))
    for coarse, fine in pairwise(found):
        assert all(math.log2(a / b) > 0.8 for a, b in zip(coarse, fine, strict=True))


@pytest.mark.parametrize(("std", "jump"), [(0.0, 5), (STD, 10)])
def test_repaint_makes_both_parts_agree(std: float, jump: int) -> None:
    given = problem("mask", std, prior="smooth")
    plain, repaint = (
        float((law(given, method, DDPM(), times.uniform(50), draws=0).mean - given.truth.mean).norm())
        for method in (Replacement(), Replacement(resample=6, jump=jump))
    )
    assert repaint < plain / 3


@pytest.mark.parametrize("std", [0.0, STD])
@pytest.mark.parametrize("method", METHODS, ids=label)
def test_fresh_noise_brings_smooth_pictures_nearer(method: Method, std: float) -> None:
    """What is open depends on what is known: none of these is exact then, and the solver's noise lets both agree."""
    given = problem("mask", std, prior="smooth")
    implicit, stochastic = (
        float((law(given, method, solver, times.uniform(40), draws=0).mean - given.truth.mean).norm())
        for solver in (IMPLICIT, STOCHASTIC)
    )
    prior = float((given.denoiser.vectors.means[0] - given.truth.mean).norm())
    assert stochastic < implicit < 0.9 * prior


# -- formulas of the papers --------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Cosine(), EDM()], ids=label)
@pytest.mark.parametrize("eta_b", [1.0, 0.7])
def test_ddrm_is_equation_8_of_its_paper(eta_b: float, schedule: Schedule) -> None:
    given, eta, rng = problem("matrix", STD, schedule), 0.6, Directions(2)
    s = schedule.time(-2 * double(0.4).log())  # between the levels of y, 0.15 to 1.5
    z = Rng.of(1, 2).normal((2, *SHAPE), torch.float64)
    x_0, x_s = (z[i : i + 1].expand(rng.rows, *SHAPE) for i in (0, 1))
    move = Move(x_s, x_0, x_s, s + 0.05, s)
    noise = Noise(rng, x_s)
    x = DDRM(eta, eta_b).settle(Bound(given.denoiser), move, given.measurement, noise, {}).flatten(1)

    U, S, V = torch.linalg.svd(given.A, full_matrices=True)
    y, old, theta = (given.measurement.y[0] @ U) / S, V @ x_s[0].flatten(), V @ x_0[0].flatten()
    alpha, sigma = float(schedule.alpha(s)), float(schedule.sigma(s) / schedule.alpha(s))
    mean, variance = old.clone(), torch.zeros(D, dtype=torch.float64)
    for i, std in enumerate((STD / S).tolist()):
        if sigma >= std:
            mean[i] = alpha * ((1 - eta_b) * theta[i] + eta_b * y[i])
            variance[i] = alpha**2 * (sigma**2 - (std * eta_b) ** 2)
        else:
            mean[i] = alpha * (theta[i] + math.sqrt(1 - eta**2) * sigma * (y[i] - theta[i]) / std)
            variance[i] = (alpha * eta * sigma) ** 2
    assert {bool(sigma >= std) for std in STD / S} == {True, False}
    rows = x[1:] - x[0]
    torch.testing.assert_close(x[0], V.T @ mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(rows.T @ rows, V.T * variance @ V, rtol=0, atol=1e-10 * alpha**2)


def published_times(T: int, jump: int, resample: int) -> list[int]:
    """Levels of noise, T to 0, of the schedule in RePaint's appendix B, with rises in single steps."""
    left = dict.fromkeys(range(0, T - jump, jump), resample - 1)
    t, levels = T, [T]
    while t >= 1:
        t -= 1
        levels.append(t)
        if left.get(t, 0) > 0:
            left[t] -= 1
            for _ in range(jump):
                t += 1
                levels.append(t)
    return [level + 1 for level in [*levels[1:], -1]]


@pytest.mark.parametrize(("T", "jump", "resample"), [(20, 5, 3), (50, 10, 10), (12, 3, 1), (6, 2, 2)])
def test_repaint_takes_the_published_times(T: int, jump: int, resample: int) -> None:
    levels = published_times(T, jump, resample)
    inside = zip(levels, levels[1:], levels[2:], strict=False)
    turns = [levels[0], *(b for a, b, c in inside if not a < b < c), levels[-1]]  # a rise in one step
    grid = Replacement(resample, jump).times(torch.arange(T, -1, -1))
    assert grid.tolist() == turns


def test_short_grids_do_not_rise() -> None:
    for n in (1, 2, 3, 11):
        grid = times.uniform(n)
        assert torch.equal(Replacement(resample=4).times(grid), grid)


@pytest.mark.parametrize("t", [1.0, 0.6, 0.1])
def test_ddnm_never_brings_more_noise_of_y_than_x_t_has(t: float) -> None:
    given = problem("matrix", STD)
    x_t, bound, measurement = (
        torch.ones(1, *SHAPE, dtype=torch.float64),
        Bound(given.denoiser),
        given.measurement,
    )
    alpha, sigma = float(Cosine().alpha(double(t))), float(Cosine().sigma(double(t)))
    U, S, V = torch.linalg.svd(given.A, full_matrices=False)

    def share(y: Tensor) -> Tensor:
        return DDNM().denoise(bound, x_t, double(t), replace(measurement, y=y)).flatten(1)

    zero = share(torch.zeros_like(measurement.y))
    slope = torch.cat([share(u[None]) - zero for u in torch.eye(8, dtype=torch.float64)]).T  # (16, 8)
    r2 = sigma**2 / (alpha**2 + sigma**2)
    expected = V.T @ torch.diag(torch.minimum(1 / S, r2 * S / STD**2)) @ U.T
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-10)
    assert float(torch.linalg.matrix_norm(alpha * STD * slope, 2)) <= sigma * (1 + 1e-10)


@pytest.mark.parametrize("noise", [GaussianNoise(STD), PoissonNoise(20.0)])
@pytest.mark.parametrize(
    "operator", [Blur(0.7), Kernel(torch.tensor([[0.2, 0.1], [0.5, 0.2]])), Mask(KEEP), HDR(1.5)]
)
def test_diffpir_is_at_the_minimum(operator: Operator, noise: GaussianNoise | PoissonNoise) -> None:
    given, t = problem(), double(0.4)
    x_t, truth = (0.4 * Rng.of(4, 6).normal((6, *SHAPE), torch.float64)).split(3)
    measurement = Measurement(operator, operator.forward(truth), noise)
    found = DiffPIR(weight=3.0).denoise(Bound(given.denoiser), x_t, t, measurement)
    prior = given.denoiser(x_t, t)
    if not operator.linear:  # one step of Gauss and Newton: exact where A is straight between D and D'
        assert bool((operator.forward(found) == 1.5 * found).all())
    r2 = float(Cosine().sigma(t)) ** 2
    x = found.clone().requires_grad_()
    fit = (measurement.residual(x) ** 2 / (2 * measurement.variance)).sum()
    objective = fit + 3 * ((x - prior) ** 2).sum() / (2 * r2)
    (slope,) = torch.autograd.grad(objective, x)
    assert float(slope.abs().max()) < 2e-5
    assert float((found - prior).abs().max()) > 0.1


# -- every solver, schedule, batch -------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Cosine(), Linear(), EDM(), Geometric()], ids=label)
@pytest.mark.parametrize("method", METHODS, ids=label)
def test_a_few_steps_end_on_the_measurement(method: Method, schedule: Schedule) -> None:
    given = problem("mask", 0.0, schedule, "smooth")
    noisy = problem("mask", STD, schedule, "smooth")
    for solver in (DDIM(), DDIM(eta=0.85), DDPM(), Heun(), DPMpp2M()):
        if not fits(method, solver):
            continue
        for steps in (1, 2, 3):
            x = drawn(given, method, solver, steps, 2)
            gap = given.measurement.residual(x.reshape(-1, *SHAPE))
            assert float(gap.abs().max()) < 1e-12
            assert bool(drawn(noisy, method, solver, steps, 2).isfinite().all())


@pytest.mark.parametrize("method", METHODS, ids=label)
def test_every_solver_is_taken_or_refused(method: Method) -> None:
    given = problem("mask")
    denoiser = Posterior(given.denoiser, given.measurement, method)
    assert method.solver is not None
    method.check_solver(method.solver)
    for solver in SOLVERS:
        if fits(method, solver):
            continue
        with pytest.raises(IncompatibleError) as refusal:
            denoiser.check(solver)
        assert refusal.value.field == "solver"
        assert refusal.value.hint
    takes = {type(solver) for solver in (DDIM(), DDPM(), Euler(), Heun(), DPMpp2M()) if fits(method, solver)}
    every = {DDIM, DDPM, Euler, Heun, DPMpp2M}
    assert takes == {DDRM: {DDIM, DDPM, Euler}, Replacement: every - {DPMpp2M}}.get(type(method), every)


@pytest.mark.parametrize("operator", ["matrix", "mask"])
@pytest.mark.parametrize("method", METHODS, ids=label)
def test_no_row_depends_on_its_neighbours(method: Method, operator: str) -> None:
    if operator == "matrix" and isinstance(method, Replacement):
        pytest.skip("for masks")
    given = problem(operator, STD, prior="smooth")
    y = given.measurement.y
    shared, own = (
        drawn(given, method, DDIM(eta=0.85), 4, 3, y=rows) for rows in (y, y.expand(3, *y.shape[1:]))
    )
    torch.testing.assert_close(shared, own, rtol=0, atol=1e-12)
    alone = drawn(given, method, DDIM(eta=0.85), 4, 1)
    torch.testing.assert_close(own[:1], alone, rtol=0, atol=1e-12)
    moved = torch.cat((y, y + 1, y - 1))
    torch.testing.assert_close(
        drawn(given, method, DDIM(eta=0.85), 4, 3, y=moved)[:1], alone, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("method", METHODS, ids=label)
def test_times_may_differ_by_row(method: Method) -> None:
    given, t = problem("mask", STD), double(0.9, 0.3, 0.1)
    x_t, bound = Rng.of(2, 3).normal((3, *SHAPE), torch.float64), Bound(given.denoiser)
    together = method.denoise(bound, x_t, t, given.measurement)
    alone = [method.denoise(bound, x_t[i : i + 1], t[i], given.measurement) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=label)
def test_it_wraps_guidance(method: Method) -> None:
    given = problem("mask", prior="smooth")
    means = torch.stack((torch.full((D,), -0.5), torch.full((D,), 0.5))).double()
    two = Pictures(GaussianMixture(Gaussian(Cosine()), double(0.5, 0.5), means, double(0.3, 0.3)))
    cond = Condition(vector=double(-20.0, 0.0).expand(2, 2))
    rng = Rng.of(0, 2)
    x = two.process.prior((2, *SHAPE), rng, torch.float64)
    guided, plain = (
        sample(
            Posterior(ClassifierFree(two, scale), given.measurement, method),
            DDIM(),
            times.uniform(5),
            x,
            cond=cond,
            rng=rng,
        )
        for scale in (3.0, 1.0)
    )
    for x in (guided, plain):
        assert float(given.measurement.residual(x).abs().max()) < 1e-12
    assert float((guided - plain)[:, ~KEEP[None]].mean()) > 0.02


# -- what they are not made for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "operator", "noise"),
    [
        (DDNM(), HDR(), GaussianNoise()),
        (DDNM(), Kernel(torch.ones(2, 2) / 4), GaussianNoise(STD)),
        (DDNM(), Mask(KEEP), PoissonNoise()),
        (DDRM(), HDR(), GaussianNoise()),
        (DDRM(), Kernel(torch.ones(2, 2) / 4), GaussianNoise()),
        (DDRM(), Mask(KEEP), PoissonNoise()),
        (Replacement(), Blur(), GaussianNoise()),
        (Replacement(), Matrix(torch.eye(D)), GaussianNoise()),
        (Replacement(), HDR(), GaussianNoise()),
    ],
)
def test_other_measurements_are_refused(method: Method, operator: Operator, noise: GaussianNoise) -> None:
    y = operator.forward(torch.ones(1, *SHAPE))
    with pytest.raises(IncompatibleError) as refusal:
        Posterior(problem().denoiser, Measurement(operator, y, noise), method)
    assert refusal.value.field in ("method", "operator")
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (DDRM, "eta", 1.5),
        (DDRM, "eta_b", -0.1),
        (Replacement, "resample", 0),
        (Replacement, "jump", 0),
        (DiffPIR, "weight", 0.0),
    ],
)
def test_settings_out_of_range_are_refused(kind: type[Method], field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        kind(**{field: value})


def test_replacement_takes_all_that_selects_pixels_with_any_noise() -> None:
    x = Rng.of(6, 1).normal((1, *SHAPE), torch.float64).clamp(-1, 1)
    for operator in (Crop(1, 1, 1, 1), Mask(KEEP)):
        given = problem()._replace(measurement=Measurement(operator, operator.forward(x), PoissonNoise()))
        found = drawn(given, Replacement(), DDPM(), 5, 2).reshape(-1, *SHAPE)
        clean = replace(given.measurement, noise=GaussianNoise())
        restored = drawn(given._replace(measurement=clean), Replacement(), DDPM(), 5, 2).reshape(-1, *SHAPE)
        assert bool(found.isfinite().all())
        assert torch.equal(
            operator.forward(restored), operator.forward(x).expand_as(operator.forward(restored))
        )
