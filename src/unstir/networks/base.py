"""What every network is: F(x, noise, condition), its configuration, and what it costs.

A network knows nothing of processes, losses or solvers: `denoiser.Preconditioned` scales its input and
output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from ..condition import Condition
from ..errors import ConfigError, IncompatibleError
from ..layers import (
    Attention,
    Context,
    JointAttention,
    NoiseEmbedding,
    PassThrough,
    Unmixed,
    UnmixedJoint,
    memory_format,
)
from ..modules import Part, replaced
from ..spec import validate
from .draft import Draft, stretched

__all__ = [
    "Network",
    "NetworkConfig",
    "count_flops",
    "count_parameters",
]


class NetworkConfig(ABC):
    """The settings of one kind of network: a frozen dataclass; every field is JSON-able and has a default."""

    spatial_channels: int
    """Channels of `Condition.spatial`, a field of every kind."""
    embedding: int
    """Width of the embedding of the noise level and the condition, a field of every kind."""
    draft: int = 0
    """Hidden width of a `Draft`, 0 = none; a field of the kinds that can have one."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming each field that is outside its annotated type or range."""
        validate(self)

    @abstractmethod
    def build(
        self,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int = 0,
        out: int | None = None,
        tokens: int = 0,
    ) -> Network:
        """A network for x (B, channels, *shape), `Condition.vector` (B, cond_dim) and `.tokens` (B, L, tokens).

        A width of 0 = not told. F has `out` channels, those of x where it is None.

        The weights are drawn from torch's global generator. Raises ConfigError for a size below 1 and
        IncompatibleError for a number of spatial axes, or for tokens, that this network has no layers for.
        """


class Network(nn.Module, ABC):
    """F(x, noise, condition), (B, C, *S) -> (B, out, *S) in x's dtype; out = C unless asked otherwise.

    noise: () or (B,), log-SNR / 4, finite. `condition.vector` (B, cond_dim) joins the noise level in one
    embedding e, `condition.spatial` (B, spatial_channels, *S) joins x as channels, `condition.tokens`
    (B, L, token_dim) are attended to, L >= 1; one that `condition.mask` (B, L) leaves out cannot change a bit.
    S may differ from `shape`, the spatial size built for. Every row of the batch is computed on its own.

    With a draft, E[x_0 | condition.vector] joins x as channels too: what to draw is then known before there is
    anything to see, and the rest of the network learns how to get there. Text to speech does so (Popov et al. 2021,
    Grad-TTS, arXiv:2105.06337, section 3). Objectives teach it, by its own error.
    """

    axes: ClassVar[tuple[int, ...]] = (1, 2, 3)  # the numbers of spatial axes there are layers for
    attends: ClassVar[bool] = False  # whether there are layers for tokens

    def __init__(
        self,
        config: NetworkConfig,
        channels: int,
        shape: tuple[int, ...],
        cond_dim: int,
        out: int | None = None,
        tokens: int = 0,
    ) -> None:
        super().__init__()
        if min(channels, cond_dim + 1, tokens + 1, *shape, 1) < 1:
            raise ConfigError(
                f"got channels {channels}, shape {tuple(shape)}, cond_dim {cond_dim}, tokens {tokens}; "
                "a network takes channels and sizes >= 1, cond_dim and tokens >= 0",
                field="network",
            )
        if len(shape) not in self.axes:
            raise IncompatibleError(
                f"{type(self).__name__} works on data with {' or '.join(map(str, self.axes))} spatial axes, "
                f"got shape {tuple(shape)}",
                field="network",
                hint="use mlp for points, unet or dit for sound, images and video",
            )
        if tokens and not self.attends:
            raise deaf(type(self).__name__, "has no attention")
        self.config = config
        self.channels = channels
        self.out = channels if out is None else out
        self.shape = tuple(shape)
        self.cond_dim = cond_dim
        self.token_dim = tokens
        self.spatial_channels = config.spatial_channels
        self.draft = Draft(cond_dim, config.draft, channels, self.shape) if config.draft else None
        self.inputs = channels + config.spatial_channels + (channels if config.draft else 0)
        """Channels of what `body` is given."""
        self.embed = NoiseEmbedding(config.embedding, cond_dim)

    def trunk(self) -> list[nn.Module]:
        """Its residual blocks (x, e, ...) -> x in the order of the forward pass: those that can be left out."""
        return []

    def without(self, part: Part, blocks: tuple[int, ...] | None = None) -> Network:
        """The same network, weights shared, with some blocks left out, or with their attention switched off.

        Args:
            part: "blocks": x passes them unchanged. "attention": every position attends to itself alone, and
                to the tokens as before.
            blocks: places in `trunk`; None = the middle one of those that have the part.

        Raises:
            IncompatibleError: no block has the part.
            ConfigError: one of the blocks does not have it, or is not there.
        """
        trunk = self.trunk()
        having = {k: found for k, block in enumerate(trunk) if (found := _parts(block, part))}
        if not having:
            raise IncompatibleError(
                f"{type(self).__name__} has no {part} to switch off",
                field="weaker",
                hint="use a dit or an mmdit, or train a unet with attention=1 or more",
            )
        chosen = (list(having)[len(having) // 2],) if blocks is None else blocks
        if wrong := [k for k in chosen if k not in having]:
            there = 0 <= wrong[0] < len(trunk)
            raise ConfigError(
                f"block {wrong[0]} has no {part}" if there else f"there is no block {wrong[0]}",
                field="weaker",
                hint="there are " + ", ".join(map(str, having)) + f" with {part}" * there,
            )
        return replaced(self, {module: _off(module) for k in chosen for module in having[k]})

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format that its weights and inputs are fastest in."""
        return memory_format(len(self.shape))

    def forward(self, x: Tensor, noise: Tensor, cond: Condition | None = None) -> Tensor:
        cond = cond or Condition()
        self._check(x, noise, cond)
        e = self.embed(noise.expand(len(x)), cond.vector)
        joined = [x] if cond.spatial is None else [x, cond.spatial]
        if self.draft is not None:
            joined.append(stretched(self.draft(cond.vector), x))
        return self.body(torch.cat(joined, 1), e, _context(cond)).to(x.dtype)

    @abstractmethod
    def body(self, x: Tensor, e: Tensor, context: Context | None) -> Tensor:
        """(B, inputs, *S), e (B, embedding), tokens where built for them -> (B, out, *S)."""

    def _check(self, x: Tensor, noise: Tensor, cond: Condition) -> None:
        """Raises IncompatibleError where an input is not what the network was built for."""
        axes = len(self.shape)
        if x.ndim != 2 + axes or x.shape[1] != self.channels:
            wanted = ", ".join(["B", str(self.channels), *(f"S{i + 1}" for i in range(axes))])
            raise _refused("x", x, f"({wanted})", "give data of the kind the network was built for")
        if noise.ndim > 1 or (noise.ndim == 1 and len(noise) != len(x)):
            raise _refused("noise", noise, f"() or ({len(x)},)", "give one noise level, or one per sample")
        for name, value, width, shape in (
            ("vector", cond.vector, self.cond_dim, (len(x), self.cond_dim)),
            ("spatial", cond.spatial, self.spatial_channels, (len(x), self.spatial_channels, *x.shape[2:])),
        ):
            if (None if value is None else tuple(value.shape)) != (shape if width else None):
                hint = "give the condition the network was built for, or build it for this one"
                raise _refused(f"cond.{name}", value, str(shape) if width else "None", hint)
        tokens, mask, width = cond.tokens, cond.mask, self.token_dim
        if width == 0 and tokens is not None:
            hint = "build the network for tokens, or pool them into `vector`"
            raise _refused("cond.tokens", tokens, "None (built for no tokens)", hint)
        if width and (tokens is None or tokens.ndim != 3 or tokens.shape[::2] != (len(x), width)):
            hint = "give the tokens the network was built for: an empty text has them too"
            raise _refused("cond.tokens", tokens, f"({len(x)}, L, {width})", hint)
        if tokens is not None and tokens.shape[1] == 0:
            hint = "give one token at least, or a mask of False for those that do not count"
            raise _refused("cond.tokens", tokens, f"({len(x)}, L, {width}) with L >= 1", hint)
        if mask is not None:
            if tokens is None or mask.shape != tokens.shape[:2]:
                wanted = "None (no tokens)" if tokens is None else str(tuple(tokens.shape[:2]))
                raise _refused("cond.mask", mask, wanted, "give one entry for each token, or None: all count")
            if mask.dtype != torch.bool:
                raise IncompatibleError(
                    f"cond.mask is of {mask.dtype}, the network takes torch.bool",
                    field="cond.mask",
                    hint="give True where a token counts; scale a token to weaken it",
                )


def _context(cond: Condition) -> Context | None:
    """The tokens, those that do not count replaced by zeros: nothing of them is left to enter anything."""
    if cond.tokens is None or cond.mask is None:
        return None if cond.tokens is None else Context(cond.tokens, None)
    return Context(cond.tokens.masked_fill(~cond.mask[:, :, None], 0), cond.mask)


def deaf(network: str, why: str) -> IncompatibleError:
    return IncompatibleError(
        f"{network} cannot be told tokens: it {why}",
        field="network",
        hint="use network=mmdit, network=dit, or network=unet with network.attention=1 or more",
    )


def _parts(block: nn.Module, part: Part) -> list[nn.Module]:
    """What has to be exchanged to run a block without the part; [] where it has none."""
    return (
        [block]
        if part == "blocks"
        else [m for m in block.modules() if isinstance(m, Attention | JointAttention)]
    )


def _off(module: nn.Module) -> nn.Module:
    """What takes the place of an attention, or of a block."""
    if isinstance(module, JointAttention):
        return UnmixedJoint(module)
    return Unmixed(module) if isinstance(module, Attention) else PassThrough()


def _refused(field: str, got: Tensor | None, wanted: str, hint: str) -> IncompatibleError:
    shape = None if got is None else tuple(got.shape)
    return IncompatibleError(f"{field} has shape {shape}, the network takes {wanted}", field=field, hint=hint)


def count_parameters(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_flops(
    network: Network, shape: Sequence[int] | None = None, *, token_count: int = 64, backward: bool = False
) -> int:
    """Floating-point operations for one sample of size `shape`, default the one built for.

    A network that is told tokens is told `token_count` of them.
    A multiply-add is two. Counts matrix products, convolutions and attention of the forward pass, and with
    `backward` of the backward pass as well. It runs on the meta device: nothing is computed or allocated.
    """

    def meta(*size: int) -> Tensor:
        return torch.empty(1, *size, device="meta")

    size = tuple(shape or network.shape)
    weights = {
        name: torch.empty_like(weight, device="meta", requires_grad=True)
        for name, weight in network.named_parameters()
    }
    cond = Condition(
        vector=meta(network.cond_dim) if network.cond_dim else None,
        tokens=meta(token_count, network.token_dim) if network.token_dim else None,
        spatial=meta(network.spatial_channels, *size) if network.spatial_channels else None,
    )
    with FlopCounterMode(display=False) as counter:
        y = functional_call(network, weights, (meta(network.channels, *size), meta(), cond))
        if backward:
            y.sum().backward()
    return counter.get_total_flops()
