"""What every network promises, in every number of dimensions it has; and the label embedder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unstir import networks, spec
from unstir.condition import Condition
from unstir.embedders import Label, LabelConfig
from unstir.errors import ConfigError, IncompatibleError
from unstir.networks import AutoencoderConfig, DiTConfig, MLPConfig, UNetConfig
from unstir.networks.base import Network, NetworkConfig, count_flops, count_parameters
from unstir.networks.layers import NoiseEmbedding, conv, patchify, unpatchify

SMALL: dict[str, NetworkConfig] = {
    "UNet": UNetConfig(widths=(16, 32), blocks=1, attention=1, head_width=8, embedding=32),
    "DiT": DiTConfig(patch=2, width=48, depth=2, heads=2, expansion=2, embedding=32),
    "Autoencoder": AutoencoderConfig(widths=(32, 48), bottleneck=48, embedding=32),
    "MLP": MLPConfig(width=48, depth=2, embedding=32),
}
SIZES = {0: (), 1: (12,), 2: (8, 8), 3: (4, 4, 4)}
ODD_SIZES = {0: (), 1: (17,), 2: (5, 7), 3: (3, 5, 7)}
CHANNELS, CLASSES, BATCH = 2, 3, 6


@dataclass(frozen=True)
class Case:
    """A kind of network in a number of dimensions."""

    kind: str
    dims: int

    def build(self, **changes: int) -> Network:
        torch.manual_seed(0)
        network = replace(SMALL[self.kind], **changes).build(CHANNELS, SIZES[self.dims], CLASSES)
        return network.to(memory_format=network.memory_format)

    def inputs(self, shape: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor, Condition]:
        torch.manual_seed(1)
        x = torch.randn(BATCH, CHANNELS, *(SIZES[self.dims] if shape is None else shape))
        return x, torch.linspace(-4, 4, BATCH), Condition(vector=torch.eye(CLASSES).repeat(2, 1))


def exported() -> Iterator[Case]:
    """A network is tested by being exported; it must have a small configuration above."""
    for word in networks.__all__:
        network = getattr(networks, word)
        if isinstance(network, type) and issubclass(network, Network):
            yield from (Case(word, dims) for dims in network.axes)


@pytest.fixture(params=exported(), ids=lambda case: f"{case.kind}-{case.dims}d")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def shaken(network: Network) -> Network:
    """The network away from its start, where some layers are zero."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network


def test_starts_as_zero_and_finite(case: Case) -> None:
    assert torch.equal(case.build()(*case.inputs()), torch.zeros_like(case.inputs()[0]))


@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16])
def test_any_size_keeps_shape_and_dtype(case: Case, precision: torch.dtype) -> None:
    """Trained sizes, odd ones and ones that no patch divides; bf16 by autocast, as the trainer runs it."""
    network = shaken(case.build())
    for size in {SIZES[case.dims], ODD_SIZES[case.dims], (1,) * case.dims}:
        x, noise, cond = case.inputs(size)
        if precision == torch.float64:
            network, x, noise, cond = network.double(), x.double(), noise.double(), cond.map(Tensor.double)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            y = network(x, noise, cond)
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        assert y.isfinite().all()


def test_gradient_reaches_every_parameter_and_the_input(case: Case) -> None:
    network = shaken(case.build())
    x, noise, cond = case.inputs()
    x.requires_grad_()
    (network(x, noise, cond) * torch.randn_like(x)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).any()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not (p.grad != 0).any()]
    assert silent == []


def test_trains(case: Case) -> None:
    """From an output of 0 it learns a function of all its inputs: gain by noise level, offset by class.

    The data are ramps, smooth enough for the bottleneck of an autoencoder.
    """
    network = case.build()
    x, noise, cond = case.inputs()
    for axis in range(2, x.ndim):
        x = x.narrow(axis, 0, 1) * torch.linspace(0, 1, x.shape[axis]).view(-1, *[1] * (x.ndim - 1 - axis))
    assert cond.vector is not None
    offset = cond.vector @ torch.tensor([-1.0, 0.0, 1.0])
    target = (noise.sign() * x.movedim(0, -1) + offset).movedim(-1, 0)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = F.mse_loss(network(x, noise, cond), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_rows_do_not_see_each_other(case: Case) -> None:
    network = shaken(case.build())
    x, noise, cond = case.inputs()
    with torch.no_grad():
        together = network(x, noise, cond)
        alone = torch.cat([network(x[i : i + 1], noise[i : i + 1], cond[i : i + 1]) for i in range(BATCH)])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5 * together.abs().max().item())


def test_one_noise_level_stands_for_all(case: Case) -> None:
    network = shaken(case.build())
    x, _, cond = case.inputs()
    level = torch.tensor(0.7)
    assert torch.equal(network(x, level, cond), network(x, level.expand(BATCH), cond))


def test_spatial_condition_is_seen(case: Case) -> None:
    network = shaken(case.build(spatial_channels=1))
    x, noise, cond = case.inputs()
    picture = torch.randn_like(x[:, :1])
    first = network(x, noise, Condition(vector=cond.vector, spatial=picture))
    second = network(x, noise, Condition(vector=cond.vector, spatial=-picture))
    assert first.shape == x.shape
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("kind", ["UNet", "DiT"])
def test_compiles_into_one_graph(kind: str) -> None:
    """No Python between the layers that `torch.compile` would have to stop at."""
    case = Case(kind, 2)
    network = shaken(case.build())
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    inputs = case.inputs()
    torch.testing.assert_close(compiled(*inputs), network(*inputs))


def test_wrong_inputs_are_named(case: Case) -> None:
    network = case.build()
    x, noise, cond = case.inputs()
    more = torch.cat([x, x], 1)
    for field, arguments in {
        "x": (more, noise, cond),
        "noise": (x, noise[:-1], cond),
        "cond.vector": (x, noise, None),
        "cond.spatial": (x, noise, Condition(vector=cond.vector, spatial=x)),
        "cond.tokens": (x, noise, Condition(vector=cond.vector, tokens=torch.zeros(BATCH, 1, CLASSES))),
    }.items():
        with pytest.raises(IncompatibleError) as error:
            network(*arguments)
        assert error.value.field == field
        assert error.value.hint
    with pytest.raises(IncompatibleError, match=f"{2 * CHANNELS}.*{CHANNELS}"):
        network(more, noise, cond)


def test_wrong_builds_are_refused() -> None:
    with pytest.raises(IncompatibleError, match="spatial axes"):
        UNetConfig().build(1, ())
    with pytest.raises(IncompatibleError, match="spatial axes"):
        MLPConfig().build(1, (28, 28))
    for channels, shape, cond_dim in ((0, (8,), 0), (1, (0,), 0), (1, (8,), -1)):
        with pytest.raises(ConfigError, match="got channels"):
            SMALL["UNet"].build(channels, shape, cond_dim)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (UNetConfig, "widths", ()),
        (UNetConfig, "widths", (64, 0)),
        (UNetConfig, "blocks", 0),
        (UNetConfig, "blocks", (2, 2)),
        (UNetConfig, "unshuffle", 0),
        (UNetConfig, "attention", 4),
        (UNetConfig, "dropout", 1.0),
        (UNetConfig, "spatial_channels", -1),
        (DiTConfig, "patch", 2.5),
        (DiTConfig, "heads", 7),
        (AutoencoderConfig, "widths", ()),
        (AutoencoderConfig, "bottleneck", 0),
        (MLPConfig, "width", -1),
        (MLPConfig, "dropout", float("nan")),
    ],
)
def test_wrong_settings_are_named(kind: type, field: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        kind(**{field: value})
    assert (error.value.field or "").startswith(field)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="does not divide width 48"):
        UNetConfig(widths=(32, 48), attention=1)
    UNetConfig(widths=(48, 64), attention=1)


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_settings_survive_a_round_trip(config: NetworkConfig) -> None:
    assert spec.load(spec.dump(config), NetworkConfig) == config
    assert type(config)() == spec.load({"name": spec.name(type(config))}, NetworkConfig)


def test_state_names_are_stable() -> None:
    """These are the names in every saved model: changing one needs a migration."""
    names = {kind: list(Case(kind, 0 if kind == "MLP" else 2).build().state_dict()) for kind in SMALL}
    layers = {kind: sorted({n.rpartition(".")[0] for n in words}) for kind, words in names.items()}
    embed = ["embed.cond", "embed.hidden", "embed.out"]
    residual = ["film.modulation", "first", "second"]
    assert layers["MLP"] == sorted(
        [*embed, "enter", "leave", *(f"blocks.{i}.{part}" for i in range(2) for part in residual)]
    )
    assert layers["DiT"] == sorted(
        [
            *embed,
            *("enter", "leave", "modulation.linear"),
            *(f"blocks.{i}.attention.{part}" for i in range(2) for part in ("out", "qkv")),
            *(f"blocks.{i}.{part}" for i in range(2) for part in ("modulation.linear", "narrow", "widen")),
        ]
    )
    assert layers["Autoencoder"] == sorted(
        [
            *embed,
            "leave",
            *(
                f"{place}.{part}"
                for place in ("code", "decoder.0", "decoder.1", "encoder.0", "encoder.1")
                for part in ("conv", "film.modulation")
            ),
        ]
    )
    assert layers["UNet"] == sorted(
        [
            *embed,
            *("enter", "leave", "shrink.0", "grow.0", "keep.0"),
            *(
                f"{way}.{i}.0.residual.{part}"
                for way in ("down", "up")
                for i in range(2)
                for part in residual
            ),
            *(f"{way}.1.0.attention.{part}" for way in ("down", "up") for part in ("out", "qkv")),
        ]
    )


def test_flops_of_a_known_network() -> None:
    """By hand: a matrix product costs 2 x inputs x outputs, each of its two gradients as much again."""
    width, embedding = 16, 8
    network = MLPConfig(width=width, depth=1, embedding=embedding).build(3, (), 0)
    e = 64 * embedding + embedding * embedding
    body = 3 * width + 2 * width * width + embedding * 2 * width + width * 3
    assert count_flops(network) == 2 * (e + body)
    first = 64 * embedding + 3 * width  # their inputs need no gradient
    assert count_flops(network, backward=True) == 3 * 2 * (e + body) - 2 * first
    assert count_parameters(network) == sum(p.numel() for p in network.parameters())


def test_flops_grow_with_the_size(case: Case) -> None:
    network = case.build()
    assert 0 < count_flops(network) < count_flops(network, backward=True)
    assert all(p.grad is None for p in network.parameters())
    if case.dims:
        assert count_flops(network, [2 * n for n in network.shape]) > 1.5 * count_flops(network)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_go_back(dims: int, patch: int) -> None:
    x = torch.randn(2, 3, *ODD_SIZES[dims])
    patches = patchify(x, patch)
    assert patches.shape[1:-1] == tuple(-(-n // patch) for n in x.shape[2:])
    assert torch.equal(unpatchify(patches, patch, x.shape[2:]), x)


def test_patches_are_pixel_unshuffling() -> None:
    x = torch.randn(2, 3, 8, 6)
    unshuffled = patchify(x, 2).movedim(-1, 1)
    assert torch.equal(unshuffled, F.pixel_unshuffle(x, 2))
    assert unshuffled.is_contiguous(memory_format=torch.channels_last)


def test_unet_keeps_channels_last() -> None:
    """One layer that fell back to the contiguous format would cost a copy each way at every block."""
    network = Case("UNet", 2).build(attention=0)
    seen: list[bool] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(
                lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
            )
    network(*Case("UNet", 2).inputs())
    assert seen
    assert all(seen)


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_layers_keep_the_variance(dims: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 32, *(8,) * dims)
    y = conv(dims, 32, 64, kernel=1)(x)
    assert y.var().item() == pytest.approx(1.0, abs=0.15)


def test_embedding_tells_noise_levels_apart() -> None:
    """Within the range |log-SNR| <= 20, no two of 200 levels look alike."""
    torch.manual_seed(0)
    e = NoiseEmbedding(32, 0)(torch.linspace(-5, 5, 200), None)
    distance = torch.cdist(e, e) + 1e9 * torch.eye(200)
    assert distance.min() > 1e-2


class TestLabel:
    def test_rows_are_the_tables(self) -> None:
        label = LabelConfig(width=4).build(10)
        y = torch.tensor([3, 0, 10])
        vector = label(y).vector
        assert vector is not None
        assert torch.equal(vector, label.table.weight[y])

    def test_no_label_is_the_last_row(self) -> None:
        label = Label(10, 4)
        y = torch.arange(4)
        dropped = label.drop(y, torch.tensor([True, False, True, False]))
        assert dropped.tolist() == [10, 1, 10, 3]
        assert dropped.dtype == torch.int64
        assert torch.equal(label(None, 2).vector, label.table.weight[[10, 10]])

    def test_empty_tables_are_refused(self) -> None:
        for classes, width in ((0, 4), (10, 0)):
            with pytest.raises(ConfigError, match=f"got {classes}, {width}"):
                LabelConfig(width).build(classes)

    @pytest.mark.parametrize("y", [-1, 11])
    def test_unknown_labels_are_refused(self, y: int) -> None:
        with pytest.raises(ConfigError, match=r"0\.\.9"):
            Label(10, 4)(torch.tensor([0, y]))
