"""Other sizes than in training, and training on pictures of several aspect ratios."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
import unstir
from unstir.cli import main
from unstir.codecs import VAEConfig
from unstir.command import remake
from unstir.data import Dataset, Loader, buckets, describe, describe_lines, open_data
from unstir.data.items import Bucket, Items, content_keys
from unstir.data.latents import encoded
from unstir.errors import ConfigError, IncompatibleError
from unstir.modalities import read_recipe
from unstir.networks import DiTConfig, UNetConfig
from unstir.pipeline import Pipeline
from unstir.process import EDM, Linear, Shifted

SIZES = ["16x8", "8x16", "9x7", 5, 12]


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return tiny.pipeline()


# -- sampling ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", SIZES)
def test_samples_of_any_size_are_what_they_are_alone(pipe: Pipeline, size: int | str) -> None:
    together = pipe.sample(n=5, steps=3, size=size, guidance=2.0, record=True)
    width, height = (int(x) for x in str(size).split("x")) if isinstance(size, str) else (size, size)
    assert together.images.shape == (5, height, width, 1)
    assert all(frame.shape == together.images.shape for pair in together.frames for frame in pair)
    alone = pipe.sample(n=1, seed=3, steps=3, size=size, guidance=2.0, label=together.labels[3])  # type: ignore[index]
    np.testing.assert_array_equal(together.images[3], alone.images[0])
    assert together.recipe["size"] == size


@pytest.mark.parametrize(
    "network", [UNetConfig(widths=(8, 16), blocks=1), DiTConfig(width=16, depth=1, heads=2)]
)
def test_networks_of_both_kinds_take_pictures_that_are_not_square(network: UNetConfig | DiTConfig) -> None:
    pipe = tiny.pipeline(network=network)
    assert pipe.sample(n=2, steps=2, size="13x6").images.shape == (2, 6, 13, 1)


def test_the_size_of_training_is_a_size_like_any_other(pipe: Pipeline) -> None:
    plain = pipe.sample(n=2, steps=3)
    for size in (8, "8x8", "8X8"):
        same = pipe.sample(n=2, steps=3, size=size)
        assert same.images.tobytes() == plain.images.tobytes()
        assert same.recipe["size"] == 8
        assert "shift" not in same.recipe


def test_larger_samples_are_drawn_in_smaller_batches(pipe: Pipeline) -> None:
    values: list[int] = []
    handle = pipe.denoiser.register_forward_hook(lambda _, inputs, __: values.append(inputs[0].numel()))
    try:
        for exact in (True, False):
            pipe.sample(n=70, steps=1, size="24x16", exact=exact)
    finally:
        handle.remove()
    assert max(values) <= 64 * 8 * 8
    assert pipe.micro_batch((1, 16, 24)) <= 2
    assert pipe.micro_batch((1, 4, 4)) == pipe.micro_batch() == 16


def test_the_noise_grows_with_the_size_unless_told_otherwise(pipe: Pipeline) -> None:
    auto = pipe.sample(n=1, steps=4, size="16x16")
    assert auto.recipe["shift"] == 2.0
    assert auto.images.tobytes() == pipe.sample(n=1, steps=4, size=16, shift=2.0).images.tobytes()
    off = pipe.sample(n=1, steps=4, size=16, shift=1)
    assert off.recipe["shift"] == 1.0
    assert off.images.tobytes() != auto.images.tobytes()
    smaller = pipe.sample(n=1, steps=4, size=4)
    assert smaller.recipe["shift"] == 0.5
    asked = pipe.sample(n=1, steps=4, shift=3.0)
    shifted = pipe.sample(n=1, steps=4, grid="shifted")
    assert np.abs(asked.images.astype(int) - shifted.images).max() <= 1


def test_the_shift_is_that_of_positions_for_every_schedule() -> None:
    for schedule in (Linear(), Shifted(Linear(), 2.0), EDM()):
        pipe = tiny.pipeline(schedule=schedule)
        assert pipe.sample(n=1, steps=2, size="32x8").recipe["shift"] == 2.0


@pytest.mark.parametrize("shift", [0, -1, float("nan"), "much"])
def test_a_shift_that_is_none_is_refused(pipe: Pipeline, shift: object) -> None:
    with pytest.raises(ConfigError) as caught:
        pipe.sample(n=1, steps=2, shift=shift)
    assert caught.value.field == "shift"


def test_points_have_no_size() -> None:
    from unstir.codecs import IdentityConfig
    from unstir.networks import MLPConfig

    points = tiny.pipeline(
        classes=(), network=MLPConfig(width=16, depth=1), codec=IdentityConfig(), shape=(2,), kind="points"
    )
    with pytest.raises(ConfigError, match="makes points"):
        points.sample(n=1, size=8)


def test_latents_of_any_size_are_decoded_and_cut_to_it() -> None:
    config = VAEConfig(widths=(8, 8), blocks=1, unshuffle=2, data_channels=1)
    pipe = tiny.pipeline(codec=config, shape=config.shape((1, 16, 16)), data_shape=(1, 16, 16), classes=())
    for size, shape in (("18x9", (9, 18)), (16, (16, 16)), ("40x7", (7, 40))):
        both = pipe.sample(n=2, steps=2, size=size)
        assert both.images.shape == (2, *shape, 1)
        np.testing.assert_array_equal(both.images[1], pipe.sample(n=1, seed=1, steps=2, size=size).images[0])
    assert pipe.sample(n=1, steps=2, size="40x7").recipe["shift"] == pytest.approx((10 * 2 / 16) ** 0.5)


def test_a_size_survives_the_file_and_the_command_that_makes_it_again(
    pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipe.save("m.safetensors")
    assert main(["sample", "m.safetensors", "n=2", "steps=2", "size=12x10", "out=a.png", "-q"]) == 0
    recipe = read_recipe(Path("a.png"))
    assert (recipe["size"], recipe["shift"]) == ("12x10", pytest.approx((120 / 64) ** 0.5))
    words = shlex.split(remake(recipe))
    assert "size=12x10" in words
    assert main([*words[1:], "-q"]) == 0
    assert np.array_equal(np.asarray(Image.open("a.png")), np.asarray(Image.open("again.png")))
    assert (
        main(["sample", "m.safetensors", "size=12x10", "steps=2", "movie=1", "n=1", "out=a.gif", "-q"]) == 0
    )


@pytest.mark.parametrize("size", ["1", "x", "12x", "8x8x8", "12x9999"])
def test_the_command_line_refuses_sizes_before_any_work(
    pipe: Pipeline, size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe.save(tmp_path / "m.safetensors")
    for more in ([], ["--dry-run"]):
        assert (
            main(["sample", str(tmp_path / "m.safetensors"), f"size={size}", f"out={tmp_path}/a.png", *more])
            != 0
        )
        said = capsys.readouterr().err
        assert f"size is '{size}'" in said
        assert "size=96x64" in said
    assert not (tmp_path / "a.png").exists()


# -- buckets: the order ------------------------------------------------------------------------------------
def three(counts: tuple[int, ...] = (5, 11, 8), captions: bool = False) -> Dataset:
    """Items whose bucket and number can be read from their pixels."""
    shapes, n = ((12, 4), (8, 8), (4, 12)), sum(counts)
    of = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = np.zeros((n, 8, 8, 1), np.uint8)
    pixels[:] = np.arange(n)[:, None, None, None]
    held = []
    for k in range(len(counts)):
        rows = np.flatnonzero(of == k)
        shaped = np.zeros((len(rows), *shapes[k], 1), np.uint8)
        shaped[:] = rows[:, None, None, None]
        shaped[:, 0, 0] = 200 + k  # the corner that mirroring moves
        held.append(Bucket(rows=rows, pixels=shaped, keys=content_keys(shaped)))
    names = [str(row) for row in range(n)]
    items = Items(pixels=pixels, keys=content_keys(pixels), names=names, buckets=tuple(held))
    return Dataset("three", items)


def test_a_round_shows_every_item_equally_often_in_batches_of_one_bucket() -> None:
    data = three()
    loader, n, size = Loader(data, 3, 4, buckets=True), len(data), 4
    seen = np.zeros((3 * n, n), int)
    for batch in range(3 * n):
        rows = loader.indices(size * batch, size)
        np.add.at(seen[batch], rows, 1)
        x, _ = loader.batch(size * batch)
        bucket = int(x[0, 0, 0, 0]) - 200
        assert x.shape[2:] == ((12, 4), (8, 8), (4, 12))[bucket]
        assert x[:, 0, -1, -1].tolist() == rows.tolist()
        assert set(rows.tolist()) <= set(data.members[bucket].tolist())
    total = seen.cumsum(0)
    for rounds in (1, 2, 3):
        assert (total[rounds * n - 1] == rounds * size).all()
    for members in data.members:  # at every time
        shown = total[:, members]
        assert (shown.max(1) - shown.min(1)).max() <= 1


def test_a_batch_with_buckets_is_a_pure_function_that_micro_batches_share() -> None:
    data = three()
    loader = Loader(data, 7, 6, flip=True, buckets=True)
    for batch in (0, 1, 50, 10**9):
        whole, _ = loader.batch(6 * batch)
        again, _ = Loader(data, 7, 6, flip=True, buckets=True).batch(6 * batch)
        assert torch.equal(whole, again)
        parts = [loader.batch(6 * batch + k, 2)[0] for k in (0, 2, 4)]
        assert torch.equal(whole, torch.cat(parts))
    with pytest.raises(ValueError, match="two batches"):
        loader.batch(4, 4)


def test_mirrored_pictures_keep_the_shape_of_their_bucket() -> None:
    data = three()
    for k, members in enumerate(data.members):
        some = members[:3]
        plain, _ = data.take(some, bucket=k)
        turned, _ = data.take(some, np.array([True, False, True]), bucket=k)
        assert torch.equal(turned[[0, 2]], plain[[0, 2]].flip(3))
        assert torch.equal(turned[1], plain[1])


def test_a_part_of_the_items_has_a_part_of_the_buckets() -> None:
    data = three()
    train, heldout = data.split(0.3)
    assert sum(map(len, train.members)) == len(train)
    assert [count for *_, count in train.info.buckets] == [len(members) for members in train.members]
    for part in (train, heldout):
        for k, members in enumerate(part.members):
            if len(members):
                x, _ = part.take(members, bucket=k)
                assert x[:, 0, -1, -1].tolist() == [int(part.names[i]) for i in members]
    only = Dataset("one", data.items, data.items.buckets[1].rows)
    loader = Loader(only, 0, 4, buckets=True)
    assert {tuple(loader.batch(4 * k)[0].shape) for k in range(12)} == {(4, 1, 8, 8)}


def test_without_buckets_the_order_and_the_pictures_are_as_ever() -> None:
    data = three()
    bare = Dataset("bare", replace(data.items, buckets=()))
    for first in (0, 4, 100):
        x, _ = Loader(data, 1, 4, flip=True).batch(first)
        y, _ = Loader(bare, 1, 4, flip=True, buckets=True).batch(first)
        assert torch.equal(x, y)
        assert x.shape == (4, 1, 8, 8)
    assert data.info.fingerprint == bare.info.fingerprint


def test_latents_are_made_in_the_shapes_of_the_buckets_mirrored_ones_too(tmp_path: Path) -> None:
    data, calls = three(), []

    def encode(x: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return x[:, :, ::4, ::4].float() + torch.arange(x.shape[3] // 4)

    train = data.split(0.2)[0]
    made = encoded(train, encode, "codec", flip=True, cache=tmp_path)
    assert {shape[2:] for shape in calls} == {(12, 4), (8, 8), (4, 12)}
    loaders = [Loader(d, 5, 4, flip=True, buckets=True) for d in (made, train)]
    for batch in range(10):
        z, x = (loader.batch(4 * batch)[0] for loader in loaders)
        torch.testing.assert_close(z, encode(x))
    count = len(calls)
    calls.clear()
    encoded(train, encode, "codec", flip=True, cache=tmp_path)
    assert count > 0
    assert not calls
    assert encoded(train, encode, "codec", buckets=False, cache=tmp_path).items.buckets == ()


# -- buckets: folders --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 wide, 18 tall, 17 about square and 2 very wide pictures, each of one colour with a frame."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for k, (width, height) in enumerate([(30, 20)] * 20 + [(20, 30)] * 18 + [(21, 20)] * 17 + [(60, 15)] * 2):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[2:-2, 2:-2] = rng.integers(60, 256, 3)
        Image.fromarray(picture).save(root / f"{k:02}.png")
    return root


def test_a_folder_is_read_in_the_shapes_of_its_pictures(photos: Path, tmp_path: Path) -> None:
    train, heldout = open_data(photos, buckets=True, cache=tmp_path, heldout=0.1)
    squares, _ = open_data(photos, cache=tmp_path, heldout=0.1)
    shapes = [bucket.pixels.shape[1:] for bucket in train.items.buckets]
    assert shapes == [(20, 12, 3), (16, 16, 3), (12, 20, 3)]
    assert [len(bucket.rows) for bucket in train.items.buckets] == [18, 17, 22]
    assert sorted(np.concatenate([bucket.rows for bucket in train.items.buckets]).tolist()) == list(range(57))
    assert train.info.fingerprint == squares.info.fingerprint  # the same items, kept aside alike
    np.testing.assert_array_equal(train.x, squares.x)
    lines = describe_lines(describe(train, heldout))
    counts = [count for *_, count in train.info.buckets]
    assert f"buckets  12x20 {counts[0]}, 16x16 {counts[1]}, 20x12 {counts[2]}" in lines
    assert json.loads(json.dumps(describe(train, heldout)))["buckets"] == [
        [20, 12, counts[0]], [16, 16, counts[1]], [12, 20, counts[2]],
    ]  # fmt: skip
    wide = train.items.buckets[2]
    expected = buckets.fit(Image.open(photos / train.items.names[wide.rows[0]]), (12, 20))
    np.testing.assert_array_equal(wide.pixels[0], np.asarray(expected))


def test_what_was_decoded_is_kept(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = open_data(photos, buckets=True, cache=tmp_path, heldout=0)
    monkeypatch.setattr(buckets, "Pool", lambda _: pytest.fail("decoded again"))
    second, _ = open_data(photos, buckets=True, cache=tmp_path, heldout=0)
    for a, b in zip(first.items.buckets, second.items.buckets, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        np.testing.assert_array_equal(a.keys, b.keys)


@pytest.mark.parametrize(("shape", "said"), [((12, 12), "about square"), ((20, 12), "needs no buckets")])
def test_pictures_of_one_shape_have_no_buckets(shape: tuple[int, int], said: str, tmp_path: Path) -> None:
    for k in range(3):
        Image.fromarray(np.full((shape[1], shape[0], 3), 40 * k + 9, np.uint8)).save(tmp_path / f"{k}.png")
    train, _ = open_data(tmp_path, buckets=True, cache=tmp_path / "cache", heldout=0)
    assert train.items.buckets == ()
    assert any(said in note for note in train.info.notes)


def test_grey_pictures_stay_grey(tmp_path: Path) -> None:
    for k in range(40):
        shape = (20, 30) if k % 2 else (30, 20)
        Image.fromarray(np.full(shape, 3 * k, np.uint8)).save(tmp_path / f"{k}.png")
    train, _ = open_data(tmp_path, buckets=True, cache=tmp_path / "cache", heldout=0)
    assert {bucket.pixels.shape[3] for bucket in train.items.buckets} == {1}
    for bucket in train.items.buckets:
        np.testing.assert_array_equal(bucket.pixels[:, 0, 0], train.x[bucket.rows, 0, 0])


def test_only_folders_have_buckets() -> None:
    with pytest.raises(ConfigError, match="digits is none") as caught:
        open_data("digits", buckets=True)
    assert caught.value.field == "data.buckets"


def test_tasks_that_take_squares_refuse_buckets(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="task=inpaint"):
        unstir.fit(photos, out=tmp_path / "run", task="inpaint", buckets=True, steps=1)


# -- buckets: training -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert tiny.train(photos, run, "buckets=on", "steps=10", "small_data=off", "network.blocks=1") == 0
    return run


def test_training_on_buckets_goes_on_bit_for_bit(trained: Path, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "part"
    shutil.copytree(trained, run, symlinks=True)
    last = run / "checkpoints" / "last"
    last.unlink()
    shutil.rmtree(run / "checkpoints" / "step-10")
    last.symlink_to("step-5")
    assert tiny.resume(run) == 0
    assert tiny.tensors(run) == tiny.tensors(trained)


def test_the_held_out_loss_and_the_previews_are_those_of_squares(trained: Path, photos: Path) -> None:
    losses = [record["heldout_loss"] for record in tiny.records(trained) if "heldout_loss" in record]
    assert losses
    pipe = unstir.load(trained)
    assert pipe.config.shape == (3, 16, 16)
    assert pipe.sample(n=1, steps=1, size="20x12").images.shape == (1, 12, 20, 3)
    assert (trained / "samples").is_dir()


def test_training_sees_every_shape(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unstir.objectives import Denoising

    shapes: set[tuple[int, ...]] = set()
    loss = Denoising.loss

    def seen(self: Denoising, denoiser: object, batch: object, rng: object) -> torch.Tensor:
        shapes.add(tuple(batch.x_0.shape[1:]))  # type: ignore[attr-defined]
        return loss(self, denoiser, batch, rng)  # type: ignore[arg-type]

    monkeypatch.setattr(Denoising, "loss", seen)
    assert tiny.train(photos, tmp_path / "run", "buckets=on", "steps=6", "small_data=off") == 0
    assert shapes == {(3, 20, 12), (3, 16, 16), (3, 12, 20)}


# -- recipes -----------------------------------------------------------------------------------------------
def test_pictures_up_to_64_pixels_are_learned_on_the_plain_path_larger_ones_with_more_noise() -> None:
    from unstir.recipes.image import _schedule

    assert _schedule((3, 64, 64)) == _schedule((1, 8, 8)) == _schedule((3, 32, 100)) == Linear()
    assert _schedule((3, 128, 128)) == Shifted(Linear(), 2.0)
    assert _schedule((3, 96, 192)) == Shifted(Linear(), round((96 * 192) ** 0.5 / 64, 3))
