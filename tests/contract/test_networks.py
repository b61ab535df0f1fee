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
from unstir.layers import NoiseEmbedding, conv, patchify, unpatchify
from unstir.networks import AutoencoderConfig, DiTConfig, MLPConfig, MMDiTConfig, UNetConfig
from unstir.networks.base import Network, NetworkConfig, count_flops, count_parameters

SMALL: dict[str, NetworkConfig] = {
    "UNet": UNetConfig(widths=(16, 32), blocks=1, attention=1, head_width=8, embedding=32),
    "DiT": DiTConfig(patch=2, width=48, depth=2, heads=2, expansion=2, embedding=32),
    "MMDiT": MMDiTConfig(patch=2, width=48, depth=2, heads=2, expansion=2, embedding=32),
    "Autoencoder": AutoencoderConfig(widths=(32, 48), bottleneck=48, embedding=32),
    "MLP": MLPConfig(width=48, depth=2, embedding=32),
}
SIZES = {0: (), 1: (12,), 2: (8, 8), 3: (4, 4, 4)}
ODD_SIZES = {0: (), 1: (17,), 2: (5, 7), 3: (3, 5, 7)}
CHANNELS, CLASSES, BATCH = 2, 3, 6
TOKENS, LENGTH = 5, 4
ONLY_TOLD = {"MMDiT"}


@dataclass(frozen=True)
class Case:
    """A kind of network in a number of dimensions, that is told tokens or not."""

    kind: str
    dims: int
    told: bool = False

    def __str__(self) -> str:
        return f"{self.kind}-{self.dims}d" + "-told" * self.told

    def build(self, **changes: int | str) -> Network:
        torch.manual_seed(0)
        config = replace(SMALL[self.kind], **changes)
        network = config.build(CHANNELS, SIZES[self.dims], CLASSES, tokens=TOKENS * self.told)
        return network.to(memory_format=network.memory_format)

    def inputs(self, shape: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor, Condition]:
        torch.manual_seed(1)
        x = torch.randn(BATCH, CHANNELS, *(SIZES[self.dims] if shape is None else shape))
        cond = Condition(vector=torch.eye(CLASSES).repeat(2, 1))
        if self.told:
            lengths = torch.tensor([4, 1, 3, 2, 4, 0])
            mask = torch.arange(LENGTH) < lengths[:, None]
            cond = replace(cond, tokens=torch.randn(BATCH, LENGTH, TOKENS), mask=mask)
        return x, torch.linspace(-4, 4, BATCH), cond


def exported() -> Iterator[Case]:
    """A network is tested by being exported; it must have a small configuration above."""
    for word in networks.__all__:
        network = getattr(networks, word)
        if isinstance(network, type) and issubclass(network, Network):
            for dims in network.axes:
                if word not in ONLY_TOLD:
                    yield Case(word, dims)
                if network.attends:
                    yield Case(word, dims, told=True)


@pytest.fixture(params=exported(), ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=(case for case in exported() if case.told), ids=str)
def told(request: pytest.FixtureRequest) -> Case:
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
            network, x, noise = network.double(), x.double(), noise.double()
            cond = cond.map(lambda value: value.double() if value.is_floating_point() else value)
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
    first = network(x, noise, replace(cond, spatial=picture))
    second = network(x, noise, replace(cond, spatial=-picture))
    assert first.shape == x.shape
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    "case", [Case("UNet", 2), Case("UNet", 2, True), Case("DiT", 2), Case("MMDiT", 2, True)], ids=str
)
def test_compiles_into_one_graph(case: Case) -> None:
    """No Python between the layers that `torch.compile` would have to stop at."""
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
        "cond.spatial": (x, noise, replace(cond, spatial=x)),
        "cond.tokens": (x, noise, replace(cond, tokens=torch.zeros(BATCH, LENGTH, CLASSES))),
        "cond.mask": (x, noise, replace(cond, mask=torch.ones(BATCH, LENGTH + 1, dtype=torch.bool))),
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
    for channels, shape, cond_dim, tokens in (
        (0, (8,), 0, 0),
        (1, (0,), 0, 0),
        (1, (8,), -1, 0),
        (1, (8,), 0, -1),
    ):
        with pytest.raises(ConfigError, match="got channels"):
            SMALL["UNet"].build(channels, shape, cond_dim, None, tokens)


def test_builds_that_cannot_be_told_tokens_are_refused() -> None:
    for config, shape in ((MLPConfig(), ()), (AutoencoderConfig(), (8, 8)), (UNetConfig(), (8, 8))):
        with pytest.raises(IncompatibleError, match="cannot be told tokens") as error:
            config.build(1, shape, tokens=TOKENS)
        assert "network.attention=1" in (error.value.hint or "")
    with pytest.raises(IncompatibleError, match="without text"):
        MMDiTConfig().build(1, (8, 8))


def test_heads_too_narrow_to_rotate_are_refused() -> None:
    DiTConfig(width=24, heads=6, positions="rope").build(1, (8, 8))
    with pytest.raises(
        IncompatibleError, match="4 channels are too narrow to turn a pair for each of 3 axes"
    ):
        DiTConfig(width=24, heads=6, positions="rope").build(1, (8, 8, 8))


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
        (DiTConfig, "positions", "none"),
        (MMDiTConfig, "heads", 7),
        (MMDiTConfig, "positions", 3),
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
    kinds = {kind: Case(kind, 0 if kind == "MLP" else 2, kind in ONLY_TOLD) for kind in SMALL}
    names = {kind: list(case.build().state_dict()) for kind, case in kinds.items()}
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
    both = [
        "attention.qkv",
        "attention.text_qkv",
        "attention.out",
        "modulation.linear",
        "text_modulation.linear",
    ]
    feed = ["feed.widen", "feed.narrow"]
    assert layers["MMDiT"] == sorted(
        [
            *embed,
            *("enter", "enter_text", "leave", "modulation.linear"),
            *(f"blocks.{i}.{part}" for i in range(2) for part in [*both, *feed]),
            *("blocks.0.attention.text_out", "blocks.0.text_feed.widen", "blocks.0.text_feed.narrow"),
        ]
    )
    for kind, places in {"UNet": ["down.1.0", "up.1.0"], "DiT": ["blocks.0", "blocks.1"]}.items():
        more = set(Case(kind, 2, told=True).build().state_dict()) - set(names[kind])
        assert more == {f"{place}.cross.{part}.weight" for place in places for part in ("q", "kv", "out")}
    learned = Case("DiT", 2).build(positions="learned").state_dict()
    assert set(learned) - set(names["DiT"]) == {"positions.table"}


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
        twice = [2 * n for n in network.shape]
        assert count_flops(network, twice, token_count=1) > 1.5 * count_flops(network, token_count=1)


@pytest.mark.parametrize("positions", ["sincos", "learned", "rope"])
@pytest.mark.parametrize("kind", ["DiT", "MMDiT"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_positions_of_any_kind_tell_places_apart_at_any_size(kind: str, dims: int, positions: str) -> None:
    """A picture that is the same everywhere but for one patch, moved: the answer is not the moved answer."""
    case = Case(kind, dims, told=True)
    network = shaken(case.build(positions=positions)).requires_grad_(False)
    for size in ((8,) * dims, (11, 6, 4)[:dims], (1,) * dims):
        x, noise, cond = case.inputs(size)
        assert network(x, noise, cond).isfinite().all()
    first, second = torch.zeros(2, 1, CHANNELS, *(8,) * dims)
    first[(0, 0, *[slice(0, 2)] * dims)] = 3.0
    second[(0, 0, *[slice(4, 6)] * dims)] = 3.0
    moved = network(first, noise[:1], cond[:1]).roll((4,) * dims, tuple(range(2, 2 + dims)))
    assert not torch.allclose(moved, network(second, noise[:1], cond[:1]), atol=1e-3)


class TestTokens:
    """What every network that is told tokens promises."""

    def test_one_that_is_masked_out_changes_no_bit(self, told: Case) -> None:
        network = shaken(told.build())
        x, noise, cond = told.inputs()
        assert cond.tokens is not None
        assert cond.mask is not None
        x.requires_grad_()

        def outcome(filled: float | Tensor) -> list[Tensor]:
            tokens = torch.where(cond.mask[:, :, None], cond.tokens, filled)
            y = network(x, noise, replace(cond, tokens=tokens))
            return [y, *torch.autograd.grad(y.square().sum(), [x, *network.parameters()])]

        first = outcome(0.0)
        assert all(value.isfinite().all() for value in first)
        for filled in (torch.randn_like(cond.tokens), float("inf"), float("nan")):
            assert all(torch.equal(a, b) for a, b in zip(first, outcome(filled), strict=True))

    def test_every_one_that_counts_is_seen(self, told: Case) -> None:
        network = shaken(told.build()).requires_grad_(False)
        x, noise, cond = told.inputs()
        assert cond.tokens is not None
        assert cond.mask is not None
        for place in range(LENGTH):
            tokens = cond.tokens.clone()
            tokens[:, place] *= -1
            moved = (network(x, noise, replace(cond, tokens=tokens)) - network(x, noise, cond)).flatten(1)
            assert torch.equal(moved.abs().amax(1) > 1e-5, cond.mask[:, place])

    def test_their_order_and_padding_do_not_matter(self, told: Case) -> None:
        """Text has no positions here: its encoder gave it those."""
        network = shaken(told.build()).requires_grad_(False)
        x, noise, cond = told.inputs()
        expected = network(x, noise, cond)
        order = torch.tensor([2, 0, 3, 1])
        close = {"rtol": 1e-4, "atol": 1e-5 * expected.abs().max().item()}
        turned = replace(cond, tokens=cond.tokens[:, order], mask=cond.mask[:, order])
        torch.testing.assert_close(network(x, noise, turned), expected, **close)
        longer = replace(
            cond, tokens=F.pad(cond.tokens, (0, 0, 0, 3), value=7.0), mask=F.pad(cond.mask, (0, 3))
        )
        torch.testing.assert_close(network(x, noise, longer), expected, **close)

    def test_no_mask_is_a_mask_of_true(self, told: Case) -> None:
        network = shaken(told.build()).requires_grad_(False)
        x, noise, cond = told.inputs()
        without = network(x, noise, replace(cond, mask=None))
        everything = network(x, noise, replace(cond, mask=torch.ones_like(cond.mask)))
        torch.testing.assert_close(without, everything, rtol=1e-4, atol=1e-5 * everything.abs().max().item())

    def test_rows_change_places(self, told: Case) -> None:
        network = shaken(told.build()).requires_grad_(False)
        x, noise, cond = told.inputs()
        order = torch.randperm(BATCH)
        expected = network(x, noise, cond)[order]
        close = {"rtol": 1e-5, "atol": 1e-5 * expected.abs().max().item()}
        torch.testing.assert_close(network(x[order], noise[order], cond[order]), expected, **close)

    @pytest.mark.parametrize("kind", ["UNet", "DiT"])
    def test_none_of_them_is_as_if_there_were_no_cross_attention(self, kind: str) -> None:
        told, plain = Case(kind, 2, told=True), Case(kind, 2)
        network, deaf = shaken(told.build()).requires_grad_(False), plain.build().requires_grad_(False)
        missing = deaf.load_state_dict(network.state_dict(), strict=False)
        assert missing.missing_keys == []
        x, noise, cond = told.inputs()
        expected = deaf(x, noise, Condition(vector=cond.vector))
        nothing = replace(cond, mask=torch.zeros_like(cond.mask))
        assert torch.equal(network(x, noise, nothing), expected)
        assert torch.equal(network(x, noise, cond)[-1], expected[-1])  # the row without a token
        # and so does it start
        for name, weight in network.named_parameters():
            if name.endswith("cross.out.weight"):
                assert torch.equal(dict(told.build().named_parameters())[name], torch.zeros_like(weight))

    @pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
    def test_perturbed_attention_keeps_the_text(self, told: Case, precision: torch.dtype) -> None:
        network = shaken(told.build()).requires_grad_(False)
        weaker = network.without("attention")
        x, noise, cond = told.inputs((8,) * told.dims)  # two places a side where the UNet attends
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            for masked in (cond, replace(cond, mask=None)):
                expected = weaker(x, noise, masked)
                assert expected.isfinite().all()
                assert not torch.allclose(expected, network(x, noise, masked), atol=1e-2)
                moved = weaker(x, noise, replace(masked, tokens=-cond.tokens)) - expected
                assert (moved[:-1].flatten(1).abs().amax(1) > 1e-3).all()
        skipped = network.without("blocks")
        assert skipped(x, noise, cond).isfinite().all()

    @pytest.mark.parametrize("kind", ["UNet", "DiT", "MMDiT"])
    def test_what_they_say_is_learned(self, kind: str) -> None:
        """One token says which side is bright, another how bright it all is; they come in any order."""
        case = Case(kind, 2, told=True)
        network = case.build()
        rows = 32
        asked = torch.randn(rows, 2).sign()
        tokens = torch.zeros(rows, 2, TOKENS)
        tokens[:, 0, 0] = tokens[:, 1, 1] = 1
        tokens[:, 0, 2], tokens[:, 1, 3] = asked.T
        tokens = torch.where(torch.rand(rows, 1, 1) < 0.5, tokens.flip(1), tokens)
        cond = Condition(vector=torch.zeros(rows, CLASSES), tokens=tokens)
        target = (asked[:, :1, None] * torch.linspace(-1, 1, 8) + asked[:, 1:, None])[:, :, None]
        x, noise = torch.randn(rows, CHANNELS, 8, 8), torch.zeros(())
        target = target.expand_as(x)
        optimizer = torch.optim.Adam(network.parameters(), 5e-3)
        losses = []
        for _ in range(60):
            loss = F.mse_loss(network(x, noise, cond), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.1 * losses[0]

    def test_an_empty_text_is_refused(self, told: Case) -> None:
        x, noise, cond = told.inputs()
        nothing = replace(cond, tokens=torch.zeros(BATCH, 0, TOKENS), mask=None)
        with pytest.raises(IncompatibleError, match="L >= 1"):
            told.build()(x, noise, nothing)
        with pytest.raises(IncompatibleError, match=r"torch.float32.*torch.bool"):
            told.build()(x, noise, replace(cond, mask=cond.mask.float()))
        with pytest.raises(IncompatibleError, match="None") as error:
            told.build()(x, noise, Condition(vector=cond.vector))
        assert error.value.field == "cond.tokens"

    @pytest.mark.parametrize("kind", ["UNet", "DiT", "MMDiT"])
    def test_what_they_cost(self, kind: str) -> None:
        """By hand: 2 W (2 D + 2 N) operations for a token in cross-attention of N positions."""
        network = Case(kind, 2, told=True).build()
        at = {n: count_flops(network, token_count=n) for n in (1, 2, 5, 9)}
        assert at[1] < count_flops(network, token_count=1, backward=True)
        if kind == "MMDiT":  # into both blocks, all of the first one, keys and values of the last; N = 16
            width, tokens = 48, 16
            row = 2 * width * (TOKENS + (3 + 1 + 2 * 2) * width + 2 * width)
            pairs = lambda n: 2 * 2 * width * ((tokens + n) ** 2 + tokens * (tokens + n))  # noqa: E731
            assert at[9] - at[5] == 4 * row + pairs(9) - pairs(5)
        else:
            width, positions = {"UNet": (32, 4), "DiT": (48, 16)}[kind]
            each = 2 * width * (2 * TOKENS + 2 * positions)
            assert at[2] - at[1] == 2 * each
            assert at[9] - at[5] == 4 * 2 * each


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


@pytest.mark.parametrize(("told", "attention"), [(False, 0), (False, 1), (True, 2)])
def test_unet_keeps_channels_last(told: bool, attention: int) -> None:
    """One layer that fell back to the contiguous format would cost a copy each way at every block."""
    case = Case("UNet", 2, told)
    network = case.build(attention=attention)
    seen: list[bool] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(
                lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
            )
    network(*case.inputs())
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
