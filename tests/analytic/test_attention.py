"""Attention against formulas written out, and a transformer of two streams against one written naively."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unstir.condition import Condition
from unstir.layers import Attention, Context, CrossAttention, JointAttention, UnmixedJoint, attend, directions
from unstir.networks import DiTConfig, MMDiTConfig, UNetConfig, recording_attention
from unstir.networks.base import Network
from unstir.networks.mmdit import MMDiT
from unstir.networks.positions import Positions, resized, rotation, waves

B, N, L, D, W, HEADS = 3, 7, 5, 6, 16, 2
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(autouse=True)
def exact() -> None:
    torch.manual_seed(0)


def shaken(network: Network) -> Network:
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network.double().requires_grad_(False)


def normed(x: Tensor) -> Tensor:
    """x of unit mean square over the last axis."""
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def naive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of one head, q (N, d), k and v (L, d), mask (L,) or (N, L), by the formula."""
    logits = normed(q) @ normed(k).T / math.sqrt(q.shape[1])
    if mask is not None:
        logits = torch.where(mask, logits, -math.inf)
    weights = logits.exp() / logits.exp().sum(1, keepdim=True)
    return weights @ v


def heads(x: Tensor) -> list[Tensor]:
    return list(x.chunk(HEADS, -1))


class TestCrossAttention:
    def setup_method(self) -> None:
        torch.manual_seed(0)
        self.layer = CrossAttention(W, HEADS, D, gain=1).double().requires_grad_(False)
        self.x = torch.randn(B, N, W, dtype=torch.float64)
        self.tokens = torch.randn(B, L, D, dtype=torch.float64)
        self.mask = torch.arange(L) < torch.tensor([[5], [2], [3]])

    def test_is_the_formula(self) -> None:
        layer = self.layer
        found = layer(self.x, Context(self.tokens * self.mask[:, :, None], self.mask))
        for row in range(B):
            q = self.x[row] @ layer.q.weight.T
            k, v = (self.tokens[row] @ layer.kv.weight.T).chunk(2, -1)
            of_heads = [naive(*qkv, self.mask[row]) for qkv in zip(heads(q), heads(k), heads(v), strict=True)]
            torch.testing.assert_close(found[row], torch.cat(of_heads, -1) @ layer.out.weight.T, **CLOSE)

    def test_is_that_of_torch_where_directions_are_given(self) -> None:
        """`multi_head_attention_forward` normalises nothing: with one head it can be given what is normal already."""
        layer = CrossAttention(W, 1, D, gain=1).double().requires_grad_(False)
        q = normed(self.x @ layer.q.weight.T)
        k, v = (self.tokens @ layer.kv.weight.T).chunk(2, -1)
        eye = torch.eye(W, dtype=torch.float64)
        expected, shares = F.multi_head_attention_forward(
            q.transpose(0, 1), normed(k).transpose(0, 1), v.transpose(0, 1), W, 1, None, None, None, None, False, 0.0,
            layer.out.weight, None, key_padding_mask=~self.mask, use_separate_proj_weight=True,
            q_proj_weight=eye, k_proj_weight=eye, v_proj_weight=eye,
        )  # fmt: skip
        context = Context(self.tokens, self.mask)
        torch.testing.assert_close(layer(self.x, context), expected.transpose(0, 1), **CLOSE)
        assert shares is not None
        found = layer.probabilities(self.x, context)[:, 0]
        torch.testing.assert_close(found.double(), shares, rtol=1e-5, atol=1e-6)  # maps are of float32

    def test_nothing_to_look_at_adds_exactly_nothing(self) -> None:
        nothing = torch.zeros_like(self.mask)
        context = Context(torch.zeros_like(self.tokens), nothing)
        assert torch.equal(self.layer(self.x, context), torch.zeros_like(self.x))
        assert torch.equal(self.layer.probabilities(self.x, context), torch.zeros(B, HEADS, N, L))
        with torch.autocast("cpu", torch.bfloat16):
            assert (self.layer.float()(self.x.float(), Context(context.tokens.float(), nothing)) == 0).all()

    def test_a_scaled_token_scales_its_value_alone(self) -> None:
        """Keys are directions: the weight of a token changes what it says, not who listens."""
        one = self.tokens[:, :1]
        said = self.layer(self.x, Context(one, None))
        torch.testing.assert_close(
            self.layer(self.x, Context(1.3 * one, None)), 1.3 * said, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("factor", [1e-2, 1.0, 1e4])
def test_logits_stay_within_the_root_of_the_width(factor: float) -> None:
    """However large queries and keys have grown, so that no share falls below e^(-2 sqrt d) of another."""
    q, k = factor * torch.randn(2, 50, HEADS, 32), factor * torch.randn(2, 40, HEADS, 32)
    q[:, :10] = factor * k[:, :10]  # the same direction: the largest there is
    logits = torch.einsum("bnhd,blhd->bhnl", directions(q), directions(k)) / math.sqrt(32)
    assert logits.abs().max() <= math.sqrt(32) * (1 + 1e-5)
    if factor == 1:
        assert logits.max().item() == pytest.approx(math.sqrt(32), rel=1e-4)


@pytest.mark.parametrize("length", [5, 3000])
def test_training_in_bf16_has_the_gradients_of_float32(length: int) -> None:
    """Whether its logits are spelled out or too many for that."""
    mask = torch.rand(2, 1, 1, length) > 0.4
    tensors = [torch.randn(2, n, HEADS, 16).bfloat16() for n in (50, length, length)]
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (t.to(dtype).requires_grad_() for t in tensors)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = attend(directions(q), directions(k), v, mask)
        assert y.dtype == dtype
        results.append([y, *torch.autograd.grad(y.float().square().sum(), (q, k, v))])
    for exact, found in zip(*results, strict=True):
        assert (found.float() - exact).norm() < 0.02 * exact.norm()


class TestJointAttention:
    def setup_method(self) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(B, N, W, dtype=torch.float64)
        self.y = torch.randn(B, L, W, dtype=torch.float64)
        mask = torch.arange(L) < torch.tensor([[5], [2], [0]])
        self.mask = torch.cat((torch.ones(B, N, dtype=torch.bool), mask), 1)

    def naive(self, layer: JointAttention, row: int, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both outputs of one row; mask (N + L, N + L) or (N + L,)."""
        streams = (layer.qkv(self.x[row]), layer.text_qkv(self.y[row]))
        q, k, v = torch.cat(streams).chunk(3, -1)
        found = torch.cat([naive(*qkv, mask) for qkv in zip(heads(q), heads(k), heads(v), strict=True)], -1)
        assert layer.text_out is not None
        return layer.out(found[:N]), layer.text_out(found[N:])

    def test_is_the_formula(self) -> None:
        layer = JointAttention(W, HEADS, gain=1).double().requires_grad_(False)
        for_x, for_y = layer(self.x, self.y, self.mask[:, None, None])
        maps = layer.probabilities(self.x, self.y, self.mask[:, None, None])
        assert (maps.sum(-1) < 1).all()
        assert (maps[1, :, :, 2:] == 0).all()
        for row in range(B):
            expected = self.naive(layer, row, self.mask[row])
            torch.testing.assert_close(for_x[row], expected[0], **CLOSE)
            torch.testing.assert_close(for_y[row], expected[1], **CLOSE)

    def test_switched_off_a_place_sees_itself_and_the_text(self) -> None:
        layer = JointAttention(W, HEADS, gain=1).double().requires_grad_(False)
        alone = torch.ones(N + L, N + L, dtype=torch.bool)
        alone[:N, :N] = torch.eye(N, dtype=torch.bool)
        for mask in (None, self.mask):
            for_x, for_y = UnmixedJoint(layer)(self.x, self.y, None if mask is None else mask[:, None, None])
            for row in range(B):
                expected = self.naive(layer, row, alone if mask is None else alone & mask[row])
                torch.testing.assert_close(for_x[row], expected[0], **CLOSE)
                torch.testing.assert_close(for_y[row], expected[1], **CLOSE)

    @pytest.mark.parametrize("kind", [JointAttention, UnmixedJoint])
    def test_the_last_one_is_the_picture_half_of_a_whole_one(self, kind: type) -> None:
        whole = JointAttention(W, HEADS, gain=1).double().requires_grad_(False)
        last = JointAttention(W, HEADS, last=True, gain=1).double().requires_grad_(False)
        state = {k: v for k, v in whole.state_dict().items() if not k.startswith("text_out")}
        last.load_state_dict({k: v[W:] if k.startswith("text_qkv") else v for k, v in state.items()})
        layers = (whole, last) if kind is JointAttention else (UnmixedJoint(whole), UnmixedJoint(last))
        turned = rotation((N,), (N,), 2)
        expected, found = (layer(self.x, self.y, self.mask[:, None, None], turned) for layer in layers)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=1e-7)
        assert found[1] is None

    def test_without_text_it_is_attention(self) -> None:
        """A mask that leaves no token: the picture attends to itself as in a transformer of one stream."""
        joint = JointAttention(W, HEADS, gain=1).double().requires_grad_(False)
        plain = Attention(W, HEADS).double().requires_grad_(False)
        plain.load_state_dict({k: v for k, v in joint.state_dict().items() if not k.startswith("text")})
        mask = self.mask.clone()
        mask[:, N:] = False
        turned = rotation((N,), (N,), 3)
        found, _ = joint(self.x, self.y, mask[:, None, None], turned)
        torch.testing.assert_close(found, plain(self.x, turned), rtol=1e-6, atol=1e-7)


class TestPositions:
    @pytest.mark.parametrize("grid", [(9,), (4, 3), (3, 2, 4)])
    def test_rotated_scores_depend_on_differences_alone(self, grid: tuple[int, ...]) -> None:
        """One query and one key everywhere: q_i k_j is the same for all i, j that are as far apart."""
        q, k = torch.randn(2, 1, 1, 1, 24).double()
        places = math.prod(grid)
        turned = tuple(r.double() for r in rotation(grid, grid, 24 // (2 * len(grid))))
        rows, columns = (directions(h.expand(1, places, 1, 24), turned)[0, :, 0] for h in (q, k))
        scores = rows @ columns.T
        axes = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
        coordinates = torch.stack(axes, -1).reshape(places, -1)
        apart: dict[tuple[int, ...], list[float]] = {}
        for i in range(places):
            for j in range(places):
                apart.setdefault(tuple((coordinates[i] - coordinates[j]).tolist()), []).append(
                    scores[i, j].item()
                )
        for values in apart.values():
            assert max(values) - min(values) < 1e-5
        assert len({round(values[0], 4) for values in apart.values()}) == len(
            apart
        )  # and they tell them apart

    def test_rotations_are_the_formula_and_keep_lengths(self) -> None:
        q = torch.randn(1, 3, 1, 6).double()
        cos, sin = rotation((3,), (3,), 2)
        turned = directions(q, (cos.double(), sin.double()))
        torch.testing.assert_close(turned.square().sum(-1), directions(q).square().sum(-1), rtol=1e-6, atol=0)
        expected = directions(q).clone()
        for place, u in enumerate((-1.0, 0.0, 1.0)):
            for pair, f in enumerate((1.0, 0.1)):
                a, b = directions(q)[0, place, 0, pair], directions(q)[0, place, 0, pair + 2]
                expected[0, place, 0, pair] = a * math.cos(f * u) - b * math.sin(f * u)
                expected[0, place, 0, pair + 2] = a * math.sin(f * u) + b * math.cos(f * u)
        torch.testing.assert_close(turned, expected, rtol=1e-6, atol=1e-7)
        assert torch.equal(turned[:, 1], directions(q)[:, 1])  # the middle, where the text is

    def test_rotations_of_a_larger_picture_span_the_same(self) -> None:
        cos, sin = rotation((8, 8), (4, 4), 1)
        angles = torch.atan2(sin, cos)
        assert angles.unique().tolist() == pytest.approx([-1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75])
        wide = torch.atan2(*rotation((1, 4), (2, 2), 1)[::-1])
        assert wide[:, 1].tolist() == pytest.approx([-1.5, -0.5, 0.5, 1.5])  # a patch away is a patch away

    @pytest.mark.parametrize("trained", [(5,), (3, 4), (2, 3, 4)])
    def test_a_learned_table_is_stretched(self, trained: tuple[int, ...]) -> None:
        table = torch.randn(math.prod(trained), 3)
        grid = tuple(2 * n + 1 for n in trained)
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(trained)]
        expected = F.interpolate(table.T.unflatten(1, trained)[None], size=grid, mode=mode)[0].flatten(1).T
        torch.testing.assert_close(resized(table, trained, grid), expected)
        assert resized(table, trained, trained) is table
        assert resized(table, trained, (1,) * len(trained)).shape == (1, 3)

    def test_a_learned_table_starts_as_the_waves(self) -> None:
        learned, fixed = (Positions(kind, (4, 5), 16, 2) for kind in ("learned", "sincos"))
        assert [name for name, _ in learned.named_parameters()] == ["table"]
        assert list(fixed.parameters()) == []
        h = torch.randn(2, 20, 16)
        assert torch.equal(learned(h, (4, 5))[0], fixed(h, (4, 5))[0])
        assert learned.table is not None
        assert torch.equal(learned.table, waves((4, 5), (4, 5), 16))


def naive_mmdit(network: MMDiT, x: Tensor, noise: Tensor, cond: Condition) -> Tensor:
    """One picture x (C, H, W), without batch, mask or clever tensor work."""
    config, state = network.config, {k: v.double() for k, v in network.state_dict().items()}
    channels, height, width = x.shape
    side = config.patch

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def modulated(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        h = h - h.mean(-1, keepdim=True)
        return h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift

    assert cond.vector is not None
    assert cond.tokens is not None
    f = torch.logspace(math.log10(0.3), math.log10(30.0), 32).double()
    e = F.silu(linear("embed.hidden", torch.cat([(noise * f).sin(), (noise * f).cos()])))
    e = F.silu(linear("embed.out", e) + linear("embed.cond", cond.vector))
    grid = [(i, j) for i in range(height // side) for j in range(width // side)]
    patches = [x[:, i * side : (i + 1) * side, j * side : (j + 1) * side].flatten() for i, j in grid]
    h, y = linear("enter", torch.stack(patches)), linear("enter_text", cond.tokens)
    middle = (height // side - 1) / 2, (width // side - 1) / 2

    def turned(q: Tensor) -> Tensor:
        """Each place's pairs turned, first those of the rows, then those of the columns; q (places, d)."""
        pairs = q.shape[1] // 4
        q = normed(q)
        out = q.clone()
        for place, where in enumerate(grid):
            for axis in (0, 1):
                for n in range(pairs):
                    angle = torch.tensor(100.0 ** (-n / pairs) * (where[axis] - middle[axis])).double()
                    first = axis * pairs + n
                    a, b = q[place, first], q[place, first + 2 * pairs]
                    out[place, first] = a * angle.cos() - b * angle.sin()
                    out[place, first + 2 * pairs] = a * angle.sin() + b * angle.cos()
        return out

    for block in range(config.depth):
        name, last = f"blocks.{block}", block == config.depth - 1
        own = linear(f"{name}.modulation.linear", e).chunk(6)
        text = linear(f"{name}.text_modulation.linear", e).chunk(2 if last else 6)
        qkv = linear(f"{name}.attention.qkv", modulated(h, *own[:2])).chunk(3, -1)
        told = linear(f"{name}.attention.text_qkv", modulated(y, *text[:2])).chunk(2 if last else 3, -1)
        found = []
        for head in range(config.heads):
            q, k, v = (part.chunk(config.heads, -1)[head] for part in qkv)
            told_k, told_v = (part.chunk(config.heads, -1)[head] for part in told[-2:])
            queries = [turned(q)] + ([] if last else [normed(told[0].chunk(config.heads, -1)[head])])
            logits = torch.cat(queries) @ torch.cat((turned(k), normed(told_k))).T / math.sqrt(q.shape[1])
            found.append(logits.softmax(-1) @ torch.cat((v, told_v)))
        both = torch.cat(found, -1)
        h = h + own[2] * linear(f"{name}.attention.out", both[: len(grid)])
        wide = F.gelu(linear(f"{name}.feed.widen", modulated(h, *own[3:5])), approximate="tanh")
        h = h + own[5] * linear(f"{name}.feed.narrow", wide)
        if not last:
            y = y + text[2] * linear(f"{name}.attention.text_out", both[len(grid) :])
            wide = F.gelu(linear(f"{name}.text_feed.widen", modulated(y, *text[3:5])), approximate="tanh")
            y = y + text[5] * linear(f"{name}.text_feed.narrow", wide)
    h = linear("leave", modulated(h, *linear("modulation.linear", e).chunk(2)))
    out = torch.zeros(channels, height, width).double()
    for patch, (i, j) in zip(h, grid, strict=True):
        out[:, i * side : (i + 1) * side, j * side : (j + 1) * side] = patch.view(channels, side, side)
    return out


def condition(rows: int = B) -> Condition:
    mask = torch.arange(L) < torch.tensor([5, 2, 3])[:rows, None]
    vector, tokens = torch.randn(rows, 4).double(), torch.randn(rows, L, D).double()
    return Condition(vector=vector, tokens=tokens, mask=mask)


def test_two_streams_are_what_they_are_naively() -> None:
    config = MMDiTConfig(patch=2, width=16, depth=3, heads=2, expansion=2, embedding=12)
    network = config.build(2, (8, 6), 4, tokens=D)
    shaken(network)
    x, noise, cond = torch.randn(B, 2, 8, 6).double(), torch.randn(B).double(), condition()
    found = network(x, noise, cond)
    for row in range(B):
        assert cond.mask is not None
        alone = replace(cond[row], mask=None)
        told = replace(alone, tokens=alone.tokens[cond.mask[row]])
        # the frequencies of the noise and the angles of the places are of float32
        torch.testing.assert_close(
            found[row], naive_mmdit(network, x[row], noise[row], told), rtol=1e-4, atol=1e-5
        )


def test_two_streams_without_text_are_one() -> None:
    """With every token masked out an MMDiT is the DiT of its picture's weights."""
    settings = {"patch": 2, "width": 16, "depth": 2, "heads": 2, "expansion": 2, "embedding": 12}
    for positions in ("sincos", "rope"):
        two = shaken(MMDiTConfig(**settings, positions=positions).build(2, (8, 6), 4, tokens=D))
        one = DiTConfig(**settings, positions=positions).build(2, (8, 6), 4).double().requires_grad_(False)
        state = {k.replace(".feed.", "."): v for k, v in two.state_dict().items() if "text" not in k}
        one.load_state_dict(state)
        x, noise, cond = torch.randn(B, 2, 8, 6).double(), torch.randn(B).double(), condition()
        found = two(x, noise, replace(cond, mask=torch.zeros(B, L, dtype=torch.bool)))
        torch.testing.assert_close(found, one(x, noise, Condition(vector=cond.vector)), **CLOSE)


class TestMaps:
    def test_of_every_place_and_call(self) -> None:
        unet = UNetConfig(widths=(16, 16), blocks=1, attention=2, head_width=8, embedding=12)
        network = shaken(unet.build(2, (9, 14), 4, tokens=D))
        x, noise, cond = torch.randn(B, 2, 9, 14).double(), torch.randn(B).double(), condition()
        expected = network(x, noise, cond)
        with recording_attention(network) as maps:
            assert torch.equal(network(x, noise, cond), expected)
            network(x[..., :5], noise, cond)
        network(x, noise, cond)
        assert list(maps) == [
            f"{way}.{i}.0.cross" for way, i in (("down", 0), ("down", 1), ("up", 1), ("up", 0))
        ]
        assert [m.shape[1:3] for m in maps["down.0.0.cross"]] == [(5, 7), (5, 3)]
        assert [m.shape[1:3] for m in maps["up.1.0.cross"]] == [(3, 4), (3, 2)]
        for shares in maps.values():
            assert len(shares) == 2
            for share in shares:
                torch.testing.assert_close(share.sum(-1), torch.ones(share.shape[:-1]))
                assert (share[1, ..., 2:] == 0).all()  # masked out
                assert (share[1, ..., :2] > 0).all()

    def test_of_two_streams_in_any_dimension(self) -> None:
        for size, grid in {(9,): (5,), (3, 4, 5): (2, 2, 3)}.items():
            config = MMDiTConfig(patch=2, width=16, depth=2, heads=2, expansion=2, embedding=12)
            network = shaken(config.build(2, size, 4, tokens=D))
            with recording_attention(network) as maps:
                network(torch.randn(B, 2, *size).double(), torch.randn(()).double(), condition())
            assert list(maps) == ["blocks.0.attention", "blocks.1.attention"]
            for (share,) in maps.values():
                assert share.shape == (B, *grid, L)
                assert (share.sum(-1) < 1).all()

    def test_nothing_stays(self) -> None:
        network = DiTConfig(patch=2, width=16, depth=1, heads=2, embedding=12).build(2, (8, 8), 4, tokens=D)
        with pytest.raises(RuntimeError, match="mine"), recording_attention(network):
            raise RuntimeError("mine")
        assert not any(part._forward_pre_hooks for part in network.modules())
