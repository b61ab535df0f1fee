"""Data sets in the latent space of a codec: each item encoded once, and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from unstir.data.cache import cache_folder, key_of, load, store
from unstir.data.dataset import Dataset
from unstir.data.items import Bucket, Items

__all__ = ["encoded"]

AT_ONCE = 64


def encoded(
    data: Dataset,
    encode: Callable[[Tensor], Tensor],
    digest: str,
    *,
    flip: bool = False,
    buckets: bool = True,
    cache: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Dataset:
    """The data set with each picture replaced by its latent, float32 (N, *S, C), the rest as it is.

    With `flip`, the mirrored pictures are encoded as well: the mirrored latent is not the latent of the mirrored
    picture. Both are kept in the cache under the codec's digest, so that they are made once.

    Args:
        data: pictures.
        encode: bytes (B, C, *S) -> latents.
        digest: of the codec.
        flip: whether training will show mirrored pictures.
        buckets: encode the pictures in the shapes of their buckets, too.
        cache: a folder in place of the user's cache.
        say: is told when encoding begins.
    """
    if not len(data):
        return data
    items = data.items

    def both(pictures: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
        """Their latents, and those of the mirrored ones."""
        kept = [_kept(pictures, encode, digest, turned, cache, say) for turned in (False, True)[: 1 + flip]]
        return kept[0], kept[1] if flip else None

    def bucket(rows: np.ndarray, shaped: Bucket) -> Bucket:
        places = np.searchsorted(shaped.rows, data.rows[rows])
        names = [data.names[row] for row in rows.tolist()]
        part = Items(pixels=shaped.pixels[places], keys=shaped.keys[places], names=names)
        pixels, mirrored = both(Dataset(data.info.source, part))
        return Bucket(rows=rows, pixels=pixels, keys=part.keys, mirrored=mirrored)

    pixels, mirrored = both(data)
    members = zip(data.members, items.buckets, strict=True) if buckets else ()
    chosen = replace(
        items,
        pixels=pixels,
        mirrored=mirrored,
        buckets=tuple(bucket(rows, shaped) for rows, shaped in members if len(rows)),
        keys=items.keys[data.rows],
        names=data.names,
        labels=data.y,
        captions=data.captions,
    )
    return Dataset(data.info.source, chosen)


def _kept(
    data: Dataset,
    encode: Callable[[Tensor], Tensor],
    digest: str,
    turned: bool,
    cache: str | os.PathLike[str] | None,
    say: Callable[[str], None],
) -> np.ndarray:
    name = key_of(["latents", digest, data.info.fingerprint, turned])
    entry = cache_folder(cache).with_name("latents") / name
    found, notes = load(entry)
    for note in notes:
        say(note)
    if found is None or len(found) != len(data):
        say(f"encode   {len(data):,} pictures{', mirrored,' if turned else ''} into the latent space, once")
        found = store(entry, _items(data, encode, turned))
    return found.pixels


def _items(data: Dataset, encode: Callable[[Tensor], Tensor], turned: bool) -> Items:
    parts = []
    for first in range(0, len(data), AT_ONCE):
        rows = np.arange(first, min(first + AT_ONCE, len(data)))
        x, _ = data.take(rows, np.ones(len(rows), bool) if turned else None)
        parts.append(encode(x).detach().movedim(1, -1).cpu().numpy())
    return Items(pixels=np.concatenate(parts), keys=data.items.keys[data.rows], names=data.names)
