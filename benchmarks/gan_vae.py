"""Is a diffusion model better and stabler than a GAN and a VAE of its size, in the same time?

    python benchmarks/gan_vae.py [--out runs/gan-vae] [--seconds 60 480] [--seeds 5] [--methods GAN VAE] [--report]

Each learns 25 Gaussians on a grid, from several seeds, and Fashion-MNIST without labels, from one; all have as many
parameters as ours has by default, counted together for networks that are trained together, and the same seconds of
one processor. Every result is a file in --out, so that a stopped script goes on where it was; --report writes
docs/gans-and-vaes.md and its pictures from these files and trains nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from unstir import runs
from unstir.data import Dataset, open_data
from unstir.data.points import COUNT, POINTS
from unstir.evaluate import FID, PRDC, Drawn, Evidence, embedded, encoder_for
from unstir.files import read_json, write_atomic
from unstir.modalities.image import encode_png
from unstir.networks.base import count_parameters
from unstir.pipeline import load
from unstir.recipes import Data, Recipe
from unstir.train import Training, network_dtype, trainer as training_loop

Sampler = Callable[[int], np.ndarray]
"""n -> samples, like the items of the data set."""
Build = Callable[[int], nn.Module]
"""width -> a network, or all that are trained together."""

DOCS = Path(__file__).parent.parent / "docs"
POINTS_SOURCE, PICTURES_SOURCE = "points:grid", "fashion-mnist"
POINTS_N, PICTURES_N = 2500, 5000
METHODS = ("GAN", "VAE", "diffusion")
LATENT = {POINTS_SOURCE: 2, PICTURES_SOURCE: 64}


# -- time and size -----------------------------------------------------------------------------------------
def progress(seconds: float) -> Iterator[float]:
    """From 0 to 1 in that many seconds of this process, whatever else the machine does."""
    start = time.process_time()
    while (done := (time.process_time() - start) / seconds) < 1:
        yield done


def fitted(build: Build, parameters: int) -> nn.Module:
    """The network whose number of parameters is nearest."""

    def count(width: int) -> int:
        with torch.device("meta"):
            return count_parameters(build(width))

    above = bisect(range(512), parameters, lo=8, key=count)
    return build(min((above - 1, above), key=lambda width: abs(count(width) - parameters)))


@torch.no_grad()
def average(mean: nn.Module, network: nn.Module, step: int) -> None:
    """mean <- the weights over about the last thousand steps, or tenth of all steps where these are fewer."""
    share = max(0.001, 1 / (1 + step / 10))
    for a, b in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, share)


def batches(data: Dataset, size: int, seed: int) -> Iterator[Tensor]:
    """Points as they are, pictures in [-1, 1], drawn with replacement."""
    draws, x = torch.Generator().manual_seed(seed), torch.tensor(data.x)
    while True:
        part = x[torch.randint(len(x), (size,), generator=draws)]
        yield part if part.ndim == 2 else part.permute(0, 3, 1, 2).float() / 127.5 - 1


def finished(x: Tensor) -> np.ndarray:
    if x.ndim == 2:
        return x.float().numpy()
    return (127.5 * (x.float() + 1)).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def faster() -> torch.autocast:
    """The arithmetic that our own training chooses on this machine."""
    dtype = network_dtype("auto", "cpu")
    return torch.autocast("cpu", dtype, enabled=dtype is not None)


# -- networks ----------------------------------------------------------------------------------------------
def dense(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def deconvolutions(latent: int, w: int) -> nn.Sequential:
    """z -> 28x28 through 4x4, 7x7 and 14x14, with batch normalisation. Radford et al. 2016."""

    def block(a: int, b: int, size: int) -> list[nn.Module]:
        return [nn.ConvTranspose2d(a, b, size, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    return nn.Sequential(
        *(
            nn.Linear(latent, 64 * w, bias=False),
            nn.Unflatten(1, (4 * w, 4, 4)),
            nn.BatchNorm2d(4 * w),
            nn.ReLU(),
        ),
        *(*block(4 * w, 2 * w, 3), *block(2 * w, w, 4)),
        *(nn.ConvTranspose2d(w, 1, 4, 2, 1), nn.Tanh()),
    ).to(memory_format=torch.channels_last)


def convolutions(w: int, out: int, bounded: bool) -> nn.Sequential:
    """28x28 -> numbers; bounded: every map of spectral norm 1 (Miyato et al. 2018), else batch normalisation."""
    bound: Callable[[nn.Module], nn.Module] = spectral_norm if bounded else lambda layer: layer

    def block(a: int, b: int, size: int) -> list[nn.Module]:
        layer = bound(nn.Conv2d(a, b, size, 2, 1))
        return [layer, nn.LeakyReLU(0.1)] if bounded else [layer, nn.BatchNorm2d(b), nn.LeakyReLU(0.1)]

    layers = (*block(1, w, 4), *block(w, 2 * w, 4), *block(2 * w, 4 * w, 3))
    return nn.Sequential(*layers, nn.Flatten(), bound(nn.Linear(64 * w, out))).to(
        memory_format=torch.channels_last
    )


class GAN(nn.Module):
    def __init__(self, source: str, w: int) -> None:
        super().__init__()
        self.latent = LATENT[source]
        if source == POINTS_SOURCE:
            self.generator, self.critic = dense(self.latent, w, w, w, w, 2), dense(2, w, w, w, w, 1)
        else:
            self.generator, self.critic = deconvolutions(self.latent, w), convolutions(w, 1, True)


class VAE(nn.Module):
    def __init__(self, source: str, w: int) -> None:
        super().__init__()
        self.latent = z = LATENT[source]
        if source == POINTS_SOURCE:
            self.encoder, self.decoder = dense(2, w, w, w, w, 2 * z), dense(z, w, w, w, w, 2)
        else:
            self.encoder, self.decoder = convolutions(w, 2 * z, False), deconvolutions(z, w)
        self.log_std = nn.Parameter(torch.full((), -2.0))  # at 0 the latents would be given up


# -- training ----------------------------------------------------------------------------------------------
def train_gan(
    data: Dataset, parameters: int, seconds: float, seed: int, *, rate: float, gamma: float, batch: int
) -> tuple[nn.Module, int, Sampler]:
    """The non-saturating game (Goodfellow et al. 2014), R1 for points (Mescheder et al. 2018)."""
    torch.manual_seed(seed)
    both = fitted(partial(GAN, data.info.source), parameters)
    generator, critic, mean = both.generator, both.critic, deepcopy(both.generator)
    optimizers = [
        torch.optim.Adam(net.parameters(), rate, betas=(0.5, 0.999), fused=True)
        for net in (critic, generator)
    ]
    real = batches(data, batch, seed)
    step = 0
    for step, done in enumerate(progress(seconds), 1):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * min(1.0, 2 * (1 - done))
        x, z = next(real).requires_grad_(gamma > 0), torch.randn(batch, both.latent)
        with faster():
            true, fake = critic(x), critic(generator(z).detach())
        loss = F.softplus(-true.float()).mean() + F.softplus(fake.float()).mean()
        if gamma > 0:
            (slope,) = torch.autograd.grad(true.sum(), x, create_graph=True)
            loss = loss + gamma / 2 * slope.square().flatten(1).sum(1).mean()
        _update(optimizers[0], loss)
        critic.requires_grad_(False)
        with faster():
            fake = critic(generator(torch.randn(batch, both.latent)))
        _update(optimizers[1], F.softplus(-fake.float()).mean())
        critic.requires_grad_(True)
        average(mean, generator, step)
    return both, step, partial(_from_prior, mean.eval(), both.latent, seed, None)


def train_vae(
    data: Dataset, parameters: int, seconds: float, seed: int, *, rate: float, batch: int
) -> tuple[nn.Module, int, Sampler]:
    """The bound on log p(x) (Kingma and Welling 2014), the decoder's deviation learned (Rybkin et al. 2021)."""
    torch.manual_seed(seed)
    net = fitted(partial(VAE, data.info.source), parameters)
    mean = deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), rate, betas=(0.9, 0.99), fused=True)
    real = batches(data, batch, seed)
    step = 0
    for step, done in enumerate(progress(seconds), 1):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * done)) / 2
        x = next(real)
        with faster():
            m, log_var = net.encoder(x).float().chunk(2, 1)
            guess = net.decoder(m + torch.exp(log_var / 2) * torch.randn_like(m)).float()
        size = x[0].numel()
        error = (x - guess).square().flatten(1).sum(1) / 2 * torch.exp(-2 * net.log_std) + size * net.log_std
        far = (m.square() + log_var.exp() - 1 - log_var).sum(1) / 2
        _update(optimizer, (error + far).mean() / size)
        average(mean, net, step)
    noise = (
        mean.log_std.exp().item() if data.info.kind == "points" else None
    )  # of pictures: the mean, as usual
    return net, step, partial(_from_prior, mean.decoder.eval(), net.latent, seed, noise)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def _from_prior(network: nn.Module, latent: int, seed: int, noise: float | None, n: int) -> np.ndarray:
    draws = torch.Generator().manual_seed(seed)
    parts = []
    for first in range(0, n, 500):
        x = network(torch.randn(min(500, n - first), latent, generator=draws))
        parts.append(finished(x if noise is None else x + noise * torch.randn(x.shape, generator=draws)))
    return np.concatenate(parts)


def train_ours(data: Dataset, seconds: float, seed: int, run: Path) -> tuple[nn.Module, int, Sampler]:
    """All defaults, as `unstir train DATA labels=false time=...` has them; its clock is this process's."""
    never = 10**9
    recipe = Recipe(
        data=Data(source=data.info.source, labels=False),
        training=Training(
            time=seconds, seed=seed, threads=1,
            preview_every=never, heldout_every=never, checkpoint_every=never,
        ),
    )  # fmt: skip
    clock, training_loop.time = training_loop.time, SimpleNamespace(monotonic=time.process_time)
    try:
        runs.train(recipe, run, overwrite=True, say=lambda line: None, progress=False)
    finally:
        training_loop.time = clock
    pipe = load(run)
    return pipe.module, runs.read_metrics(run)[-1]["step"], lambda n: pipe.sample(n=n, exact=False).images


def train(method: str, data: Dataset, seconds: float, seed: int, run: Path) -> tuple[nn.Module, int, Sampler]:
    torch.set_num_threads(1)
    if method == "diffusion":
        return train_ours(data, seconds, seed, run)
    recipe = Recipe(data=Data(source=data.info.source, labels=False), training=Training(steps=1))
    parameters = count_parameters(runs.prepare(recipe, None, lambda line: None).module)
    points = data.info.kind == "points"
    if method == "GAN":  # the rates, batches and gamma that did best in a third of the time
        chosen = (
            {"rate": 1e-3, "gamma": 0.1, "batch": 128}
            if points
            else {"rate": 2e-4, "gamma": 0.0, "batch": 32}
        )
        return train_gan(data, parameters, seconds, seed, **chosen)
    chosen = {"rate": 3e-3, "batch": 128} if points else {"rate": 1e-3, "batch": 64}
    return train_vae(data, parameters, seconds, seed, **chosen)


# -- judgement ---------------------------------------------------------------------------------------------
def modes() -> tuple[np.ndarray, float]:
    """The centres (25, 2) of the Gaussians and their standard deviation, in the units of the data set."""
    raw = POINTS["grid"](np.random.default_rng(0), COUNT)
    scale = (raw - raw.mean(0)).std()
    corners = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2), -1).reshape(-1, 2)
    return (corners - raw.mean(0)) / scale, 0.05 / scale


def judge_points(x: np.ndarray) -> dict[str, Any]:
    """Good: within 3 standard deviations of a centre, as 98.9% of the data are. A mode counts when it has at
    least a fifth of its share of the samples, good ones."""
    centres, std = modes()
    distance = np.linalg.norm(x[:, None] - centres[None], axis=-1)
    good = distance.min(1) < 3 * std
    counts = np.bincount(distance.argmin(1)[good], minlength=len(centres))
    covered = int((counts >= len(x) / len(centres) / 5).sum())
    return {"modes": covered, "good": float(good.mean())}


def judge_pictures(out: Path) -> None:
    """Complete the rows of pictures: FID, precision, coverage and so on, by one encoder for all."""
    rows = {path: read_json(path) for path in sorted(out.glob(f"{PICTURES_SOURCE}-*.json"))}
    digests = {row.get("digest") for row in rows.values()}
    if len(digests) <= 1 and None not in digests:
        return
    train_set, heldout = open_data(PICTURES_SOURCE)
    encoder = encoder_for(None, train_set, heldout, say=print)
    for path, row in rows.items():
        drawn = Drawn(np.load(path.with_suffix(".npz"))["x"])
        evidence = Evidence(train_set, heldout, encoder, drawn, embed=embedded)
        numbers = [n for metric in (FID(), PRDC()) for n in metric.measure(evidence).numbers]
        judged = {n.name: {"value": n.value, "low": n.low, "high": n.high} for n in numbers}
        _write(path, row | judged | {"encoder": encoder.about, "digest": encoder.digest})


def measure(out: Path, source: str, method: str, seed: int, seconds: float) -> None:
    """Train, draw, and judge points; nothing where that was done before."""
    path = out / f"{source.partition(':')[0]}-{method}-{seed}.json"
    if path.exists() and read_json(path)["seconds"] == seconds:
        return
    data, _ = open_data(source, labels=False)
    network, steps, sampler = train(method, data, seconds, seed, out / "runs" / path.stem)
    points = data.info.kind == "points"
    start = time.process_time()
    x = sampler(POINTS_N if points else PICTURES_N)
    pace = (time.process_time() - start) / len(x)
    row = {
        "data": source, "method": method, "seed": seed, "seconds": seconds, "steps": steps,
        "parameters": count_parameters(network), "n": len(x), "seconds_per_sample": pace,
    }  # fmt: skip
    np.savez_compressed(path.with_suffix(".npz"), x=x)
    _write(path, row | (judge_points(x) if points else {}))


def _write(path: Path, row: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(row).encode())
    print(json.dumps(row), flush=True)


# -- the page ----------------------------------------------------------------------------------------------
def report(out: Path) -> str:
    """Write the pictures, and the tables between the marks of the page; returns the tables."""
    rows = [read_json(path) for path in sorted(out.glob("*.json"))]
    tables = {"points": _points_table(rows), "pictures": _pictures_table(rows)}
    page = DOCS / "gans-and-vaes.md"
    text = page.read_text()
    for name, table in tables.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        text = before + mark + table + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    write_atomic(page, text.encode())
    images = DOCS / "images"
    write_atomic(images / "gan_vae_points.svg", _scatter(out).encode())
    sheets = [
        np.load(path)["x"][:12] for m in METHODS if (path := out / f"{PICTURES_SOURCE}-{m}-0.npz").exists()
    ]
    if sheets:
        real = open_data(PICTURES_SOURCE)[0].x[:12]
        write_atomic(images / "gan_vae_pictures.png", encode_png(np.concatenate([real, *sheets]), columns=12))
    return "\n\n".join(tables.values())


def _points_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| model | parameters | steps | modes covered, of 25 | worst seed | good samples | worst seed |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for method in METHODS:
        of = [row for row in rows if row["method"] == method and row["data"] == POINTS_SOURCE]
        if of:
            covered, good = ([row[key] for row in of] for key in ("modes", "good"))
            lines.append(
                f"| {method} | {of[0]['parameters']:,} | {np.mean([row['steps'] for row in of]):,.0f} "
                f"| {np.mean(covered):.1f} | {min(covered)} | {np.mean(good):.1%} | {min(good):.1%} |"
            )
            seconds, seeds = of[0]["seconds"], len(of)
    if len(lines) > 2:
        lines.append(f"\n{seconds:g} seconds of one processor each, {seeds} seeds, {POINTS_N:,} samples.")
    return "\n".join(lines)


def _pictures_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| model | parameters | steps | FID | precision | coverage | ms per sample |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for method in METHODS:
        for row in rows:
            if row["method"] == method and row["data"] == PICTURES_SOURCE and "fid" in row:
                seconds, about = row["seconds"], row["encoder"]
                lines.append(
                    f"| {method} | {row['parameters']:,} | {row['steps']:,} | {_within(row['fid'], '.2f')} "
                    f"| {_within(row['precision'], '.3f')} | {_within(row['coverage'], '.3f')} "
                    f"| {1000 * row['seconds_per_sample']:.2f} |"
                )
    if len(lines) > 2:
        lines.append(
            f"\n{seconds:g} seconds of one processor each, {PICTURES_N:,} samples. Features: {about}."
        )
    return "\n".join(lines)


def _within(number: dict[str, float], form: str) -> str:
    if number["low"] is None:
        return f"{number['value']:{form}}"
    return f"{number['value']:{form}} ({number['low']:{form}} to {number['high']:{form}})"


def _scatter(out: Path) -> str:
    """Samples of seed 0, side by side, over circles of 3 standard deviations."""
    centres, std = modes()
    side, span = 220, 2.0
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {3 * side} {side + 20}" font-size="12">']
    parts.append('<rect width="100%" height="100%" fill="#fff"/>')
    for k, method in enumerate(METHODS):
        path = out / f"points-{method}-0.npz"
        if not path.exists():
            continue

        def place(x: np.ndarray, k: int = k) -> tuple[float, float]:
            return k * side + (x[0] + span) / (2 * span) * side, 20 + (span - x[1]) / (2 * span) * side

        for centre in centres:
            a, b = place(centre)
            radius = 3 * std / (2 * span) * side
            parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}" fill="none" stroke="#c05621"/>')
        dots = [place(x) for x in np.load(path)["x"][:1000] if np.abs(x).max() < span]
        spots = "".join(f"M{a:.1f} {b:.1f}h.1" for a, b in dots)
        parts.append(f'<path d="{spots}" stroke="#2b6cb0" stroke-width="1.2" stroke-linecap="round"/>')
        parts.append(f'<text x="{(k + 0.5) * side}" y="14" text-anchor="middle">{method}</text>')
    return "".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gan-vae"))
    parser.add_argument(
        "--seconds",
        type=float,
        nargs=2,
        default=[60.0, 480.0],
        help="for points, for pictures; 0 = not at all",
    )
    parser.add_argument("--seeds", type=int, default=5, help="of the points; pictures have one")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--report", action="store_true", help="write the page from what was measured")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.report:
        print(report(options.out))
    else:
        plan = [(POINTS_SOURCE, method, seed) for seed in range(options.seeds) for method in options.methods]
        plan += [(PICTURES_SOURCE, method, 0) for method in options.methods]
        for source, method, seed in plan:
            if seconds := options.seconds[source == PICTURES_SOURCE]:
                measure(options.out, source, method, seed, seconds)
        if options.seconds[1]:
            judge_pictures(options.out)


if __name__ == "__main__":
    main()
