"""How close a picture is to the true one, and how visible its seams are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["psnr", "seam_ratio", "ssim"]

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def psnr(x: Tensor, y: Tensor, span: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """10 log10(extent^2/mean (x - y)^2) in dB, extent = white - black, (B,) float64; infinite for equal pictures.

    Args:
        x, y: (B, C, *S).
        span: black and white, (0, 255) for bytes.
    """
    extent = span[1] - span[0]
    error = (x.double() - y.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(extent**2 / error)


def ssim(x: Tensor, y: Tensor, span: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """The mean over places and channels of

        (2 m_x m_y + c_1) (2 v_xy + c_2)/((m_x^2 + m_y^2 + c_1) (v_x + v_y + c_2)),

    with the means m and the (co)variances v in a Gaussian window of 11 pixels and sigma = 1.5 that lies within
    the picture, c = (0.01 extent)^2 and (0.03 extent)^2 with extent = white - black; (B,) float64, 1 for equal
    pictures. On an axis of fewer pixels the window is as many pixels, less one if that is even.
    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", eq. 13.

    Args:
        x, y: (B, C, *S).
        span: black, which is 0 to the formula, and white; (0, 255) for bytes.
    """
    extent = span[1] - span[0]
    x, y = x.double() - span[0], y.double() - span[0]
    c_1, c_2 = (K1 * extent) ** 2, (K2 * extent) ** 2
    m_x, m_y = _smooth(x), _smooth(y)
    v_x, v_y = _smooth(x * x) - m_x**2, _smooth(y * y) - m_y**2
    v_xy = _smooth(x * y) - m_x * m_y
    light = (2 * m_x * m_y + c_1) / (m_x**2 + m_y**2 + c_1)
    structure = (2 * v_xy + c_2) / (v_x + v_y + c_2)
    return (light * structure).flatten(1).mean(1)


def _smooth(x: Tensor) -> Tensor:
    """Weighted means in windows that lie within x, along every axis of space."""
    for axis in range(2, x.ndim):
        n = min(WINDOW, (x.shape[axis] - 1) // 2 * 2 + 1)
        k = torch.arange(n, dtype=x.dtype, device=x.device) - n // 2
        weight = torch.exp(-(k**2) / (2 * SIGMA**2))
        x = x.unfold(axis, n, 1) @ (weight / weight.sum())
    return x


def seam_ratio(x: Tensor, borders: Sequence[Sequence[int]]) -> Tensor:
    """Mean |difference of neighbours| across borders over that elsewhere, (B,): about 1 where no seam shows.

    Args:
        x: (B, C, *S).
        borders: for every axis of space the places k with a border between k - 1 and k; an axis without any is
            left out.
    """
    across, elsewhere = [], []
    for axis, places in enumerate(borders, start=2):
        if not places:
            continue
        jumps = x.double().diff(dim=axis).abs().movedim(axis, 0).flatten(2)
        cut = torch.zeros(len(jumps), dtype=torch.bool, device=x.device)
        cut[[k - 1 for k in places]] = True
        across.append(jumps[cut].movedim(1, 0).flatten(1))
        elsewhere.append(jumps[~cut].movedim(1, 0).flatten(1))
    return torch.cat(across, 1).mean(1) / torch.cat(elsewhere, 1).mean(1)
