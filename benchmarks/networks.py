"""How fast do the networks train, and how much of the machine do they use?

    python benchmarks/networks.py [--seconds 5] [--batch 128] [--size 28] [--json networks.json]

For each network and precision: images per second of forward + backward + AdamW, the floating-point
operations counted per image, and the share that is of the machine's own rate for one large matrix product,
measured in the same run and precision. Compare ratios within one run; absolute numbers belong to one machine
on one day.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from unstir.condition import Condition
from unstir.networks import AutoencoderConfig, DiTConfig, MMDiTConfig, UNetConfig
from unstir.networks.base import NetworkConfig, count_flops, count_parameters

CONFIGS: dict[str, NetworkConfig] = {
    "unet 48-96": UNetConfig(widths=(48, 96)),
    "unet 64-128": UNetConfig(widths=(64, 128)),
    "unet 48-96-160, 1-1-2 blocks (default)": UNetConfig(widths=(48, 96, 160), blocks=(1, 1, 2)),
    "unet 64-128-192": UNetConfig(widths=(64, 128, 192)),
    "unet 64-128-192, 2 blocks": UNetConfig(widths=(64, 128, 192), blocks=2),
    "unet 64-128-192, attention 1": UNetConfig(widths=(64, 128, 192), attention=1),
    "unet 32-64-128, no unshuffling": UNetConfig(widths=(32, 64, 128), unshuffle=1),
    "dit 192 x 6, patch 4": DiTConfig(patch=4, width=192, depth=6),
    "dit 192 x 6, patch 2": DiTConfig(patch=2, width=192, depth=6),
    "autoencoder 32-64-128": AutoencoderConfig(),
}
TOLD: dict[str, NetworkConfig] = {
    "unet 64-128-192, attention 2, text": UNetConfig(widths=(64, 128, 192), attention=2),
    "dit 192 x 6, patch 2, text": DiTConfig(patch=2),
    "dit 192 x 6, patch 2, rope, text": DiTConfig(patch=2, positions="rope"),
    "mmdit 192 x 6, patch 2": MMDiTConfig(patch=2),
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CLASS_WIDTH = 64
TOKEN_WIDTH = 256


@dataclass(frozen=True)
class Row:
    """One measurement: rates in images/s and GFLOP/s, operations per image of forward + backward in MFLOP."""

    network: str
    precision: str
    parameters: int
    images_per_s: float
    mflop_per_image: float
    gflop_per_s: float
    share: float


def rate(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """How often per second `work` runs, after two runs to warm up."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(2):
        work()
    wait()
    runs, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or runs == 0:
        work()
        wait()
        runs += 1
    return runs / elapsed


def matrix_rate(precision: torch.dtype, seconds: float, device: torch.device) -> float:
    """GFLOP/s of a square matrix product large enough to reach the machine's limit."""
    n = 8192 if device.type == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=precision)
    return rate(lambda: a @ a, seconds, device) * 2 * n**3 / 1e9


def training_step(
    config: NetworkConfig, told: bool, precision: torch.dtype, options: argparse.Namespace
) -> tuple[int, int, Callable[[], object]]:
    """(parameters, operations per image, one training step); told: texts of half to all of `--tokens` tokens."""
    shape, device = (options.size, options.size), options.device
    network = config.build(options.channels, shape, CLASS_WIDTH, tokens=TOKEN_WIDTH * told)
    operations = count_flops(network, token_count=options.tokens, backward=True)
    cost = count_parameters(network), operations
    network = network.to(device, memory_format=network.memory_format)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    call = torch.compile(network) if options.compile else network
    x = torch.randn(options.batch, options.channels, *shape, device=device)
    noise = torch.randn(options.batch, device=device)
    cond = Condition(vector=torch.randn(options.batch, CLASS_WIDTH, device=device))
    if told:
        lengths = torch.randint(options.tokens // 2, options.tokens + 1, (options.batch, 1), device=device)
        tokens = torch.randn(options.batch, options.tokens, TOKEN_WIDTH, device=device)
        mask = torch.arange(options.tokens, device=device) < lengths
        cond = replace(cond, tokens=tokens, mask=mask)

    def step() -> None:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            loss = (call(x, noise, cond) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return *cost, step


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of the table, each as soon as it is measured."""
    for word, precision in PRECISIONS.items():
        peak = matrix_rate(precision, options.seconds, options.device)
        yield Row("matrix product", word, 0, 0.0, 0.0, peak, 1.0)
        for name, config in (CONFIGS | TOLD).items():
            if options.only in name:
                parameters, flops, step = training_step(config, name in TOLD, precision, options)
                images = rate(step, options.seconds, options.device) * options.batch
                achieved = images * flops / 1e9
                yield Row(name, word, parameters, images, flops / 1e6, achieved, achieved / peak)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time of each measurement")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=28, help="side of the images in pixels")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=48, help="tokens of a text")
    parser.add_argument("--only", default="", help="only the networks whose name contains this")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", type=torch.device)
    parser.add_argument(
        "--compile", action="store_true", help="through torch.compile; its warm-up is not counted"
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    print(
        f"torch {torch.__version__}, {options.device}, {options.threads} threads, batch {options.batch}, "
        f"{options.channels} x {options.size} x {options.size}, texts of {options.tokens} tokens\n"
    )
    print("| network | precision | parameters | images/s | MFLOP/image | GFLOP/s | of a matrix product |")
    print("|---|---|--:|--:|--:|--:|--:|")
    rows = []
    for row in measure(options):
        rows.append(asdict(row))
        print(
            f"| {row.network} | {row.precision} | {row.parameters / 1e6:.2f} M | {row.images_per_s:.0f} "
            f"| {row.mflop_per_image:.0f} | {row.gflop_per_s:.0f} | {row.share:.0%} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
