"""What a file is, by its bytes alone, and whether all of it is there.

A decoder is lenient where training must not be: it fills a cut JPEG with grey and a cut GIF with the
background. So the structure of a file is walked to its end before any decoder sees it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["EXTENSIONS", "FORMATS", "BadFile", "identify", "require_whole"]

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
"""Names that are looked at; the content then decides what the file is."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are decoded, in Pillow's words."""


class BadFile(Exception):
    """One file cannot be used: a reason `code` and, for people, a `detail`. Never leaves the reader."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def identify(data: bytes) -> str:
    """The format of an image, one of `FORMATS`.

    Raises `BadFile`: `empty`, `unsupported` (an image of another format) or `not_media`.
    """
    if not data:
        raise BadFile("empty", "0 bytes")
    for kind, matches in _SIGNATURES.items():
        if matches(data):
            return kind
    for kind, matches in _OTHER_MEDIA.items():
        if matches(data):
            raise BadFile("unsupported", f"{kind}; accepted are {', '.join(FORMATS)}")
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        raise BadFile("not_media", "a git-LFS pointer, not the image itself; run 'git lfs pull'")
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise BadFile("not_media", "a web page saved under an image's name; download the image again")
    raise BadFile("not_media", f"no known image format; begins with {data[:8]!r}")


def require_whole(kind: str, data: bytes) -> None:
    """Raise `BadFile("truncated")` when an image of the format `kind` ends before its structure does."""
    try:
        whole = _IS_WHOLE[kind](data)
    except (IndexError, struct.error):
        whole = False
    if not whole:
        raise BadFile("truncated", f"this {kind} ends early, after {len(data):,} bytes")


# -- signatures -------------------------------------------------------------------------------------------
def _starts(*magic: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(magic)


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """An ISO media file (HEIF, AVIF, MP4) of one of these brands; no brand: of any."""
    return lambda data: data[4:8] == b"ftyp" and (not brands or data[8:12] in brands)


_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "PNG": _starts(b"\x89PNG\r\n\x1a\n"),
    "JPEG": _starts(b"\xff\xd8\xff"),
    "WEBP": lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    "GIF": _starts(b"GIF87a", b"GIF89a"),
    "BMP": lambda data: data[:2] == b"BM" and data[6:10] == bytes(4),
    "TIFF": _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}

_OTHER_MEDIA: dict[str, Callable[[bytes], bool]] = {
    "AVIF": _brand(b"avif", b"avis"),
    "HEIC": _brand(b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"),
    "a video": _brand(),
    "JPEG XL": _starts(b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "JPEG 2000": _starts(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    "PSD": _starts(b"8BPS"),
    "ICO": _starts(b"\0\0\x01\0", b"\0\0\x02\0"),
    "PPM": _starts(b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n"),
    "DDS": _starts(b"DDS "),
    "QOI": _starts(b"qoif"),
    "OpenEXR": _starts(b"v/1\x01"),
    "PDF": _starts(b"%PDF"),
    "SVG": lambda data: b"<svg" in data[:1024].lower() and b"<html" not in data[:1024].lower(),
}


# -- structure --------------------------------------------------------------------------------------------
def _png(data: bytes) -> bool:
    """Chunks (length, type, content, CRC) up to IEND."""
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _jpeg(data: bytes) -> bool:
    """Segments up to the start of scan; the end-of-image marker cannot occur inside the scan's coded data."""
    at = 2
    while data[at] == 0xFF:
        _, marker, length = struct.unpack_from(">BBH", data, at)
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        lone = marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD8  # no length follows these; FF FF is padding
        at += (1 if marker == 0xFF else 2) if lone else 2 + length
    return True  # bytes that are no segment: damaged, not cut


def _gif(data: bytes) -> bool:
    """Blocks up to the end of the first image."""

    def colours(flags: int) -> int:
        return 3 * 2 ** (flags % 8 + 1) if flags >= 128 else 0

    at = 13 + colours(data[10])
    while data[at] in (0x21, 0x2C):
        image = data[at] == 0x2C
        at += 11 + colours(data[at + 9]) if image else 2
        while data[at]:  # sub-blocks: a length, then that many bytes
            at += 1 + data[at]
        at += 1
        if image:
            return at <= len(data)
    return True


def _webp(data: bytes) -> bool:
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _bmp(data: bytes) -> bool:
    """The pixels start where the header says; the decoder itself refuses too few of them."""
    return len(data) > int.from_bytes(data[10:14], "little") and len(data) >= 26


def _tiff(data: bytes) -> bool:
    """The first directory and the values it points at are inside; the decoder checks the pixels' length."""
    order = "<" if data[:1] == b"I" else ">"
    if 43 in data[2:4]:  # BigTIFF
        return struct.unpack_from(order + "Q", data, 8)[0] + 8 <= len(data)
    (first,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, first)
    for at in range(first + 2, first + 2 + 12 * count, 12):
        _, kind, n, offset = struct.unpack_from(order + "HHII", data, at)
        size = n * _TIFF_BYTES.get(kind, 0)
        if size > 4 and offset + size > len(data):
            return False
    return True


_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # of each data type

_IS_WHOLE: dict[str, Callable[[bytes], bool]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
}
