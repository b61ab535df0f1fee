"""Compression as of JPEG files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import IncompatibleError
from .base import Operator, check
from .colour import check_channels
from .separable import along, cosines

__all__ = ["JPEG"]

BLOCK = 8
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99, 99, 99, 99, 99, 99, 99, 99),) * 4,
)
YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


@dataclass(frozen=True)
class JPEG(Operator):
    """y = what a JPEG file keeps of x: the DCT of 8 x 8 blocks of luma and chroma, rounded to multiples of a table.

    Tables and their scaling with quality are libjpeg's (ITU-T T.81, annex K). Chroma is not subsampled. The coding of
    the numbers loses nothing and is left out; x and y are not rounded to bytes.
    Rounding has no slope: derivatives are those of the identity ("straight-through"), J v = v.

    Args:
        quality: 1 to 100, from worst to best.
    """

    quality: int = 50
    linear = False

    def __post_init__(self) -> None:
        check("quality", self.quality, isinstance(self.quality, int) and 1 <= self.quality <= 100, "1 to 100")

    def tables(self) -> Tensor:
        """The steps of luma and chroma, (2, 8, 8)."""
        percent = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((torch.tensor((LUMA, CHROMA)) * percent + 50) // 100).clamp(1, 255)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self._decoded(x) - x).detach()

    def _decoded(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise IncompatibleError(
                f"JPEG is of pictures, the data has {x.ndim - 2} axes", field="operator", hint="use pictures"
            )
        check_channels(self, tuple(x.shape[1:]), 1, 3)
        height, width = x.shape[2:]
        turn = torch.tensor(YCBCR if x.shape[1] == 3 else ((1.0,),)).to(x)
        planes = along(127.5 * x - 0.5, {1: turn})  # -128 ... 127
        planes = self._rounded(pad(planes, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate"))
        planes = planes[..., :height, :width].clamp(-128, 127)  # decoders do so before they mix them
        return ((along(planes, {1: torch.linalg.inv(turn)}) + 0.5) / 127.5).clamp(-1, 1)

    def _rounded(self, planes: Tensor) -> Tensor:
        """Planes (B, 1 or 3, H, W) with their coefficients rounded, H and W multiples of 8."""
        C, steps = cosines(BLOCK).to(planes), self.tables().to(planes)
        steps = steps[[0, 1, 1][: planes.shape[1]], None, :, None]  # (channels, 1, 8, 1, 8)
        blocks = planes.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
        coefficients = torch.round(along(blocks, {3: C, 5: C}) / steps) * steps
        return along(coefficients, {3: C.T, 5: C.T}).flatten(4, 5).flatten(2, 3)
