"""An independent judge of samples: a classifier trained on real data alone, and distances in its features.

Not a benchmark itself; the quality benchmarks import it. Its weights come from a fixed seed and are kept
under --cache, so that two runs are judged alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unstir.tensors import load_tensors, save_tensors

__all__ = ["Judge", "frechet", "recall"]


class Judge(nn.Module):
    """A plain convolutional classifier of (B, C, S, S) pictures in [-1, 1]; `features` is its last hidden layer."""

    def __init__(self, channels: int, classes: int, features: int = 128) -> None:
        super().__init__()

        def block(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())

        self.features = nn.Sequential(
            *(block(channels, 32), block(32, 32), nn.MaxPool2d(2)),
            *(block(32, 64), block(64, 64), nn.MaxPool2d(2)),
            *(block(64, 128), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
            *(nn.Linear(512, features), nn.ReLU()),
        )
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]

    @classmethod
    def train_on(cls, x: np.ndarray, y: np.ndarray, epochs: int, cache: Path) -> Judge:
        """The judge of uint8 (N, H, W, C) pictures with labels y, from `cache` where it was trained before."""
        torch.manual_seed(0)
        judge = cls(x.shape[-1], int(y.max()) + 1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if cache.exists():
            judge.load_state_dict(load_tensors(cache, judge.state_dict()))
            return judge.eval()
        steps = epochs * (len(x) // 128)
        optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
        order = torch.cat([torch.randperm(len(x))[: len(x) // 128 * 128] for _ in range(epochs)])
        labels = torch.from_numpy(y)
        judge.train()
        for rows in order.split(128):
            loss = F.cross_entropy(judge(_pixels(x[rows.numpy()])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(cache, judge.state_dict())
        return judge.eval()

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Class numbers."""
        return np.concatenate([self(_pixels(part)).argmax(1).numpy() for part in _parts(x)])

    @torch.no_grad()
    def embed(self, x: np.ndarray) -> np.ndarray:
        """Features (N, D) in float64."""
        return np.concatenate([self.features(_pixels(part)).double().numpy() for part in _parts(x)])


def _pixels(x: np.ndarray) -> Tensor:
    return torch.tensor(x).permute(0, 3, 1, 2).float() / 127.5 - 1


def _parts(x: np.ndarray, size: int = 500) -> list[np.ndarray]:
    return [x[k : k + size] for k in range(0, len(x), size)]


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of features (N, D). Heusel et al. 2017, eq. 6."""
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, axes = np.linalg.eigh(cov_a)
    root = axes * np.sqrt(values.clip(0)) @ axes.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(mean + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> float:
    """Share of real features that lie within the k-th-neighbour ball of a generated one.

    Kynkaanniemi et al. 2019, "Improved Precision and Recall", eq. 2.
    """

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squared = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]
        return np.sqrt(squared.clip(min=0))

    radius = np.sort(distances(generated, generated), axis=1)[:, k]  # column 0 is the point itself
    return float((distances(real, generated) <= radius[None]).any(1).mean())
