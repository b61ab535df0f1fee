"""Methods that differentiate the network or the likelihood, against the posterior in closed form."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from truth import double, label
from unstir import times
from unstir.analytic import GaussianMixture
from unstir.condition import Condition
from unstir.denoiser import Denoiser
from unstir.errors import ConfigError, IncompatibleError
from unstir.guidance import DPS, MMPS, AnnealedLikelihood, Method, PiGDM, Posterior
from unstir.operators import GaussianNoise, Mask, Matrix, Measurement, Operator, PoissonNoise
from unstir.process import EDM, Cosine, Gaussian, Linear, Schedule
from unstir.process.base import unsqueeze_like
from unstir.rng import Rng
from unstir.sampling import sample
from unstir.solvers import DDIM, DDPM, DPMpp2M, DPMpp3M, Heun, Langevin
from unstir.solvers.base import Solver

N, M = 16, 8
SCHEDULES = Linear(), Cosine(), EDM()
METHODS = DPS(), PiGDM(), MMPS(), AnnealedLikelihood()
THROUGH = METHODS[:3]
"""Those that go back through the network."""
SOLVERS = DDIM(), Heun(), DPMpp2M(), DDPM()
EYE = torch.eye(M, dtype=torch.float64)


def normal(seed: int, *shape: int) -> Tensor:
    return Rng.of(seed, shape[0]).normal(shape, torch.float64)


A = normal(1, M, N) / math.sqrt(N)


def covariance(seed: int, low: float, high: float) -> Tensor:
    """With random axes, and variances from low to high."""
    axes = torch.linalg.qr(normal(seed, N, N)).Q
    return axes * torch.logspace(math.log10(low), math.log10(high), N, dtype=torch.float64) @ axes.T


def one(schedule: Schedule) -> GaussianMixture:
    """N(m, C) in 16 dimensions, C full."""
    return GaussianMixture(
        Gaussian(schedule), double(1.0)[None], normal(2, 1, N) / 2, covariance(3, 0.05, 1)[None]
    )


def two(schedule: Schedule) -> GaussianMixture:
    """Two such, both of which may have made y."""
    covariances = torch.stack([covariance(4, 0.025, 0.5), covariance(5, 0.025, 0.5)])
    return GaussianMixture(Gaussian(schedule), double(0.4, 0.6), normal(6, 2, N) / 5, covariances)


def white(schedule: Schedule, std: float, mean: Tensor) -> GaussianMixture:
    return GaussianMixture(Gaussian(schedule), double(1.0)[None], mean, double(std)[None])


def covariances(law: GaussianMixture) -> Tensor:
    return law.axes * law.variances[:, None] @ law.axes.mT


def posterior(prior: GaussianMixture, A: Tensor, y: Tensor, variance: Tensor) -> GaussianMixture:
    """p(x_0|y) of a mixture, y (1, M) with noise of this variance (M,): a mixture, each of its parts

    N(m + K r, C - K A C) with K = C A^T S^-1, S = A C A^T + diag(variance), r = y - A m, weighed by w N(r; 0, S).
    """
    C, r = covariances(prior), y - prior.means @ A.T
    S = A @ C @ A.T + torch.diag(variance)
    K = C @ A.T @ torch.linalg.inv(S)
    likelihood = torch.distributions.MultivariateNormal(torch.zeros_like(r), S).log_prob(r)
    rest = C - K @ A @ C
    weights = (prior.log_weights + likelihood).softmax(0)
    return GaussianMixture(
        prior.process, weights, prior.means + (K @ r[..., None])[..., 0], (rest + rest.mT) / 2
    )


def measured(prior: GaussianMixture, std: float, A: Tensor = A) -> tuple[Measurement, GaussianMixture]:
    """One y = A x_0 + n, and the posterior."""
    y = prior.draw(Rng.of(7, 1)) @ A.T + std * normal(8, 1, len(A))
    law = posterior(prior, A, y, torch.full((len(A),), std**2, dtype=torch.float64))
    return Measurement(Matrix(A), y, GaussianNoise(std)), law


def error(
    method: Method, prior: GaussianMixture, measurement: Measurement, law: GaussianMixture, t: Tensor
) -> float:
    """|D' - E[x_0|x_t,y]|/|D - E[x_0|x_t,y]| for x_t of the posterior: 0 = exact, 1 = as far as without y."""
    x_t = prior.process.corrupt(law.draw(Rng.of(9, 64)), t, Rng.of(10, 64))
    exact = law(x_t, t)
    return float(
        (Posterior(prior, measurement, method)(x_t, t) - exact).norm() / (prior(x_t, t) - exact).norm()
    )


def law_errors(x: Tensor, law: GaussianMixture) -> tuple[float, float]:
    """Of samples: |mean - m|/sqrt(tr C), how many posterior standard deviations they are off, and |cov - C|/|C|."""
    weights = law.log_weights.exp()
    mean = weights @ law.means
    away = law.means - mean
    C = (weights[:, None, None] * (covariances(law) + away[:, :, None] * away[:, None])).sum(0)
    return float((x.mean(0) - mean).norm() / C.trace().sqrt()), float((torch.cov(x.T) - C).norm() / C.norm())


def matched(n: int) -> Tensor:
    """n draws of N(0, I) whose own mean and covariance are 0 and I, which leaves a sampler's error alone to be seen."""
    z = normal(11, n, N)
    z = z - z.mean(0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(z.T)), z.T, upper=False).T


# -- where they are exact ----------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.3, 0.05])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_mmps_is_exact_for_gaussians(schedule: Schedule, std: float) -> None:
    prior = one(schedule)
    measurement, law = measured(prior, std)
    for t in (0.998, 0.9, 0.5, 0.1, 0.01):
        assert error(MMPS(2 * M), prior, measurement, law, double(t)) < 1e-6
    assert (
        error(MMPS(100), prior, measurement, law, torch.linspace(0.01, 0.99, 64, dtype=torch.float64)) < 1e-6
    )


@pytest.mark.parametrize("std", [0.3, 0.05])
def test_mmps_samples_the_posterior_of_a_gaussian(std: float) -> None:
    prior = one(Linear())
    measurement, law = measured(prior, std)
    x = sample(
        Posterior(prior, measurement, MMPS(M)),
        DPMpp3M(),
        times.log_snr(20, Linear()),
        matched(10_000),
        rng=Rng.of(0, 10_000),
    )
    mean, cov = law_errors(x, law)
    assert mean < 0.01
    assert cov < 0.05


@pytest.mark.parametrize("std", [0.3, 0.05, 0.0])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_pigdm_is_exact_for_white_data(schedule: Schedule, std: float) -> None:
    prior = white(schedule, 0.7, normal(2, 1, N))
    measurement, law = measured(prior, std)
    for t in (0.99, 0.5, 0.05):
        assert error(PiGDM(std=0.7), prior, measurement, law, double(t)) < 1e-9


@pytest.mark.parametrize("std", [0.3, 0.05])
def test_the_annealed_likelihood_is_exact_for_white_data_around_zero(std: float) -> None:
    prior = white(Linear(), 0.7, torch.zeros(1, N, dtype=torch.float64))
    measurement, law = measured(prior, std)
    for t in (1.0, 0.99, 0.5, 0.05):
        assert error(AnnealedLikelihood(std=0.7), prior, measurement, law, double(t)) < 1e-9


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_dps_is_exact_for_one_number_and_for_white_measurements(schedule: Schedule) -> None:
    """Wherever the residual is an eigenvector of the covariance of y."""
    orthogonal = 0.4 * torch.linalg.qr(A.T).Q.T
    for prior, A_ in ((one(schedule), A[:1]), (white(schedule, 0.7, normal(2, 1, N)), orthogonal)):
        measurement, law = measured(prior, 0.1, A_)
        for t in (0.99, 0.5, 0.05):
            assert error(DPS(), prior, measurement, law, double(t)) < 1e-9


# -- what they are elsewhere -------------------------------------------------------------------------------


class Saturated(Operator):
    """tanh(2 x)."""

    linear: ClassVar[bool] = False

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(2 * x)


def saturated(std: float) -> Measurement:
    x_0 = two(Linear()).draw(Rng.of(7, 1))
    return Measurement(Saturated(), torch.tanh(2 * x_0) + std * normal(8, 1, N), GaussianNoise(std))


@pytest.mark.parametrize("operator", ["linear", "saturated"])
def test_dps_is_a_gradient_and_the_step_of_algorithm_1(operator: str) -> None:
    prior, t, s = two(Linear()), double(0.4), double(0.38)
    measurement = measured(prior, 0.1)[0] if operator == "linear" else saturated(0.1)
    x_t = normal(12, 1, N).requires_grad_()
    alpha, sigma = Linear().alpha(t), Linear().sigma(t)
    r = measurement.residual(prior(x_t, t))
    (slope,) = torch.autograd.grad((r**2).sum(), x_t)

    V = sigma**2 / alpha * torch.autograd.functional.jacobian(lambda x: prior(x, t), x_t.detach())[0, :, 0].T
    J = torch.autograd.functional.jacobian(measurement.operator.forward, prior(x_t, t).detach())[0, :, 0]
    along = r[0] / r.norm()
    s2 = along @ J @ V @ J.T @ along + 0.1**2
    guided = Posterior(prior, measurement, DPS(scale=0.7))
    expected = prior(x_t, t) - 0.7 * sigma**2 / alpha * slope / (2 * s2)
    assert torch.allclose(guided(x_t, t), expected, rtol=1e-9)

    grid, rng = torch.stack([t, s]), Rng.of(0, 1)
    plain, stepped = (sample(d, DDPM(), grid, x_t.detach(), rng=rng) for d in (prior, guided))
    beta = Linear().alpha(s) / alpha * prior.process.kernel(s, t)[1] ** 2
    zeta = 0.7 * beta * r.norm() / (2 * s2)
    assert torch.allclose(stepped, plain - zeta * slope / r.norm(), rtol=1e-9)


def test_the_annealed_likelihood_is_a_factor_of_the_law() -> None:
    """The score of D' is that of q(x_t) N(y; A w x_t, r_t^2 A A^T + Var[n]), whatever the data."""
    prior, t = two(Linear()), double(0.4)
    measurement, _ = measured(prior, 0.1)
    alpha, sigma = Linear().alpha(t), Linear().sigma(t)
    total = (alpha * 0.7) ** 2 + sigma**2
    S = (sigma * 0.7) ** 2 / total * A @ A.T + 0.1**2 * EYE
    x_t = normal(12, 5, N).requires_grad_()
    factor = torch.distributions.MultivariateNormal(alpha * 0.7**2 / total * x_t @ A.T, S)
    joint = prior.log_prob(x_t, t) + factor.log_prob(measurement.y)
    (score,) = torch.autograd.grad(joint.sum(), x_t)
    guided = Posterior(prior, measurement, AnnealedLikelihood(std=0.7))
    assert torch.allclose(prior.process.score(x_t, guided(x_t, t), t), score, rtol=1e-9)


def test_langevin_dynamics_reaches_the_posterior_through_annealed_likelihoods() -> None:
    """Though no D' before the last is that of the posterior, whose samples other solvers therefore miss."""
    prior = one(Linear())
    measurement, law = measured(prior, 0.3)
    guided, n = Posterior(prior, measurement, AnnealedLikelihood()), 500

    def errors(solver: Solver) -> tuple[float, float]:
        return law_errors(sample(guided, solver, times.uniform(80), matched(n), rng=Rng.of(0, n)), law)

    # of 500 draws of the posterior they are 0.045 and 0.16
    mean, cov = errors(Langevin(10, 0.4))
    assert mean < 0.1
    assert cov < 0.2
    assert errors(DDIM())[0] > 0.25


@pytest.mark.parametrize("method", [DPS(), PiGDM(), MMPS(M)], ids=label)
@pytest.mark.parametrize("std", [0.3, 0.05])
def test_a_mixture_is_approximated(method: Method, std: float) -> None:
    """As far as D' without y they never are, and near the data all of them become exact."""
    prior = two(Linear())
    measurement, law = measured(prior, std)
    bound = 0.35 if isinstance(method, MMPS) else 0.8
    assert max(error(method, prior, measurement, law, double(t)) for t in (0.9, 0.5, 0.2)) < bound
    assert error(method, prior, measurement, law, double(0.001)) < 1e-3


def test_mmps_linearises_an_operator_and_weighs_by_the_noise() -> None:
    """D' = D + C J^T (J C J^T + Var[n])^-1 (y - A(D)), C = Var[x_0|x_t] of a Gaussian."""
    prior, t = one(Linear()), double(0.4)
    alpha, sigma = Linear().alpha(t), Linear().sigma(t)
    C = (
        prior.axes[0]
        * (sigma**2 * prior.variances[0] / (alpha**2 * prior.variances[0] + sigma**2))
        @ prior.axes[0].T
    )
    x_t = normal(12, 1, N)
    x_0 = prior(x_t, t)
    counts = Measurement(
        Matrix(A), PoissonNoise(20).corrupt(0.3 * normal(13, 1, M), Rng.of(0, 1)), PoissonNoise(20)
    )
    for measurement, J in ((saturated(0.1), torch.diag(2 - 2 * torch.tanh(2 * x_0[0]) ** 2)), (counts, A)):
        S = J @ C @ J.T + torch.diag(
            measurement.variance.expand(len(J)) if J is not A else measurement.variance[0]
        )
        expected = x_0 + (C @ J.T @ torch.linalg.solve(S, measurement.residual(x_0)[0]))
        assert torch.allclose(Posterior(prior, measurement, MMPS(2 * N))(x_t, t), expected, rtol=1e-8)


# -- any solver, any operator, any noise -------------------------------------------------------------------


def residual(method: Method, measurement: Measurement, solver: Solver, steps: int) -> float:
    """Root mean square of y - A x over the noise, of 32 samples: 1 for the truth."""
    grid, x = times.uniform(steps), normal(14, 32, N)
    x_0 = sample(Posterior(two(Linear()), measurement, method), solver, grid, x, rng=Rng.of(0, 32))
    return float((measurement.residual(x_0) ** 2 / measurement.variance).mean().sqrt())


@pytest.mark.parametrize("operator", ["linear", "saturated", "counts"])
def test_dps_guides_every_solver_as_hard(operator: str) -> None:
    y = 0.3 * normal(13, 1, M)
    measurement = {
        "linear": measured(two(Linear()), 0.1)[0],
        "saturated": saturated(0.1),
        "counts": Measurement(Matrix(A), PoissonNoise(200).corrupt(y, Rng.of(0, 1)), PoissonNoise(200)),
    }[operator]
    found = [residual(DPS(), measurement, solver, steps) for solver in SOLVERS for steps in (20, 40)]
    assert max(found) < 1.4 * min(found)
    assert max(found) < 1.8


@pytest.mark.parametrize("method", METHODS, ids=label)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_finite_without_noise_from_end_to_end(schedule: Schedule, method: Method) -> None:
    prior = two(schedule)
    measurement, _ = measured(prior, 0.0)
    x = prior.process.prior((8, N), Rng.of(0, 8)).double()
    for solver in (Heun(), DDPM(), method.solver or DPMpp2M()):
        x_0 = sample(Posterior(prior, measurement, method), solver, times.uniform(12), x, rng=Rng.of(0, 8))
        assert float(measurement.residual(x_0).square().mean().sqrt()) < 0.5 * float(measurement.y.std())


@pytest.mark.parametrize("method", THROUGH, ids=label)
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=label)
def test_without_guidance_where_x_t_is_noise_alone(schedule: Schedule, method: Method) -> None:
    prior = two(schedule)
    guided = Posterior(prior, measured(prior, 0.1)[0], method)
    x_t, t = normal(12, 3, N), double(1.0, 0.99999, 0.9)
    changed = (guided(x_t, t) != prior(x_t, t)).any(1)
    assert changed.tolist() == [False, False, True]


class Turning(Denoiser):
    """A denoiser whose Jacobian is not symmetric: D = alpha R x_t, R = cos(angle) I + sin(angle) S with S^T = -S."""

    def __init__(self, angle: float) -> None:
        super().__init__()
        skew = torch.block_diag(*[torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()] * (N // 2))
        self.process: Gaussian = Gaussian(Linear())
        self.matrix = math.cos(angle) * torch.eye(N).double() + math.sin(angle) * skew

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return unsqueeze_like(1 - t, x_t) * x_t @ self.matrix


@pytest.mark.parametrize("angle", [0.2, 1.0, 1.6, 3.0])
def test_mmps_stops_where_the_jacobian_is_of_no_covariance(angle: float) -> None:
    """Neither more iterations nor a Jacobian that is turned or negative carry D' away."""
    denoiser = Turning(angle)
    measurement, x_t = Measurement(Matrix(A), normal(8, 1, M), GaussianNoise(0.01)), normal(12, 20, N)
    before = denoiser(x_t, double(0.5))
    few, many = (Posterior(denoiser, measurement, MMPS(k))(x_t, double(0.5)) for k in (3, 30))
    if angle > math.pi / 2:
        assert torch.equal(few, before)
        assert torch.equal(many, before)
    assert float((many - before).norm()) < 1.1 * float((few - before).norm()) + 1e-12


@pytest.mark.parametrize("method", METHODS, ids=label)
@pytest.mark.parametrize("noise", [GaussianNoise(0.1), PoissonNoise(30)], ids=label)
def test_a_row_is_what_it_would_be_alone(method: Method, noise: GaussianNoise | PoissonNoise) -> None:
    """Times and measurements may differ by the row; the result keeps the dtype and no graph."""
    prior = two(Cosine())
    y, t, x_t = 0.3 * normal(13, 5, M), double(1.0, 0.9, 0.5, 0.2, 0.01), normal(12, 5, N)
    together = Posterior(prior, Measurement(Matrix(A), y, noise), method)(x_t, t)
    assert together.isfinite().all()
    assert not together.requires_grad
    for i in range(5):
        with torch.no_grad():
            alone = Posterior(prior, Measurement(Matrix(A), y[i : i + 1], noise), method)(
                x_t[i : i + 1], t[i]
            )
        assert torch.allclose(together[i : i + 1], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", METHODS, ids=label)
def test_pictures_in_single_precision(method: Method) -> None:
    """(B, 1, 4, 4) with a mask, times in double precision: what is not known does not enter."""

    class Picture(Denoiser):
        process = Gaussian(Linear())
        points = two(Linear()).float()

        def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
            return self.points(x_t.flatten(1), t).reshape(x_t.shape)

    keep = torch.tensor([1, 0, 1, 1]).expand(4, 4)
    picture = normal(12, 1, N).reshape(1, 1, 4, 4).float()
    x_t, t = normal(13, 3, N).reshape(3, 1, 4, 4).float(), double(0.3, 0.6, 0.9)
    guided = Posterior(Picture(), Measurement(Mask(keep), keep * picture, GaussianNoise(0.1)), method)(x_t, t)
    assert guided.dtype == torch.float32
    assert guided.isfinite().all()
    matrix = torch.eye(N)[keep.flatten() == 1]
    rows = Measurement(Matrix(matrix), picture.flatten(1) @ matrix.T, GaussianNoise(0.1))
    assert torch.allclose(guided, Posterior(Picture(), rows, method)(x_t, t), atol=1e-4)


# -- what they take ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [PiGDM(), AnnealedLikelihood()], ids=label)
def test_inverses_are_of_linear_operators(method: Method) -> None:
    with pytest.raises(IncompatibleError, match="Saturated is not linear") as refused:
        Posterior(two(Linear()), saturated(0.1), method)
    assert refused.value.field == "method"


@pytest.mark.parametrize(
    ("method", "field"), [(DPS, "scale"), (PiGDM, "std"), (MMPS, "iterations"), (AnnealedLikelihood, "std")]
)
def test_settings_out_of_range(method: type[Method], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        method(**{field: 0})
