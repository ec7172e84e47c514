"""Writes TFRecord files in the exact layout of clevr_with_masks_train.tfrecords."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import google_crc32c
import numpy as np


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def one_byte_values(values: np.ndarray) -> bytes:
    triples = np.empty((values.size, 3), np.uint8)
    triples[:] = np.stack([np.full(values.size, 10), np.ones(values.size), values.reshape(-1)], axis=1)
    return field(1, triples.tobytes())


def example(features: dict[str, bytes]) -> bytes:
    entries = [field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()]
    return field(1, b"".join(entries))


def mask_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + mask_crc(length) + data + mask_crc(data)


def scene(objects: int, grey: int = 50, *, packed: bool = True) -> bytes:
    """A scene whose k-th object is an upright bar of grey 100 + k, in the publisher's exact layout."""
    image = np.full((240, 320, 3), grey, np.uint8)
    masks = np.zeros((11, 240, 320, 1), np.uint8)
    for k in range(1, objects + 1):
        columns = slice(64 + 16 * k, 72 + 16 * k)
        image[100:150, columns] = 100 + k
        masks[k, 100:150, columns] = 255
    masks[0] = 255 - masks.max(axis=0)
    visibility = np.array([1.0] * (objects + 1) + [0.0] * (10 - objects), "<f4")
    floats = field(1, visibility.tobytes()) if packed else b"".join(b"\x0d" + v.tobytes() for v in visibility)
    return example(
        {"image": one_byte_values(image), "mask": one_byte_values(masks), "visibility": field(2, floats)}
    )


def write(path: Path, *scenes: bytes, zipped: bool = True) -> Path:
    data = b"".join(frame(data) for data in scenes)
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    return path
