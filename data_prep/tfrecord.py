"""TensorFlow's record files without TensorFlow: framing, checksums, and the features of an Example.

A record is its length (8 bytes), a checksum of the length (4), the data, and a checksum of the data (4); the
checksums are masked CRC-32C. The data is a protobuf Example: a map from names to lists of strings or floats.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import google_crc32c
import numpy as np

from data_prep.errors import ItemError, SourceError, one_line

MAX_RECORD = 2**28
"""Longest record that is believed, in bytes."""
BYTES_LIST, FLOAT_LIST = 1, 2
"""Field numbers of the two kinds of list inside a Feature."""


@dataclass(frozen=True)
class Record:
    """One record of a file, or what is wrong with it."""

    file: Path
    number: int
    """Counted from 0."""
    data: bytes = b""
    fault: str = ""
    """Why the data cannot be used; empty if it is sound."""

    @property
    def name(self) -> str:
        return f"{self.file} record {self.number}"


def masked(crc: int) -> int:
    """TensorFlow's mask over a CRC: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_records(file: Path, on_bytes: Callable[[int], object] = lambda count: None) -> Iterator[Record]:
    """The records of a file, GZIP-compressed or plain, one at a time in constant memory.

    A record with a wrong checksum comes with its fault, and reading goes on; where the file is cut short or a
    length is wrong, the last record tells so. `on_bytes` is called with the bytes read from the disk.
    Raises SourceError if the file cannot be opened.
    """
    try:
        raw = file.open("rb")
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
    except OSError as error:
        raise SourceError(f"{file} cannot be opened ({one_line(error)}); check its name.") from error
    number = at = 0
    with raw, gzip.open(raw) if packed else nullcontext(raw) as stream:
        while (record := _read_record(stream, file, number)) is not None:
            on_bytes(raw.tell() - at)
            at = raw.tell()
            yield record
            if record.fault and not record.data:
                return
            number += 1


def _read_record(stream: BufferedIOBase, file: Path, number: int) -> Record | None:
    """The next record; None at the end of the file; a fault without data where reading cannot go on."""
    try:
        head = stream.read(12)
        if not head:
            return None
        if len(head) < 12:
            return Record(file, number, fault="the file is cut short")
        length, length_crc = struct.unpack("<QI", head)
        if masked(google_crc32c.value(head[:8])) != length_crc:
            return Record(file, number, fault="its length has a wrong checksum, so the rest cannot be read")
        if length > MAX_RECORD:
            return Record(file, number, fault=f"it has {length:,} bytes and at most {MAX_RECORD:,} are read")
        data = stream.read(length)
        tail = stream.read(4)
    except (zlib.error, EOFError, OSError) as error:
        return Record(file, number, fault=f"the file is cut short or damaged ({one_line(error)})")
    if len(tail) < 4:
        return Record(file, number, fault="the file is cut short")
    if masked(google_crc32c.value(data)) != struct.unpack("<I", tail)[0]:
        return Record(file, number, data, fault="its data has a wrong checksum (CRC-32C)")
    return Record(file, number, data)


# --- protobuf ----------------------------------------------------------------------------------------------


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each length-delimited field of a message; ItemError on other wire types."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 != 2:
            raise ItemError(f"a field of wire type {key & 7} where a message or string is expected")
        length, at = _varint(data, at)
        if at + length > len(data):
            raise ItemError("a field that is longer than its message")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ItemError("a number that does not end")


def parse_example(data: bytes) -> dict[str, memoryview]:
    """The features of an Example by name, each still encoded. Raises ItemError on other bytes."""
    features = {}
    for number, message in _fields(memoryview(data)):
        for _, entry in _fields(message) if number == 1 else ():
            parts = dict(_fields(entry))
            try:
                features[bytes(parts[1]).decode("utf-8")] = parts[2]
            except (KeyError, UnicodeDecodeError) as error:
                raise ItemError("a feature without a UTF-8 name or a value") from error
    return features


def _values(features: dict[str, memoryview], name: str, kind: int) -> memoryview:
    if name not in features:
        raise ItemError(f"it has no feature {name!r}")
    lists = dict(_fields(features[name]))
    if kind not in lists:
        raise ItemError(f"feature {name!r} is of another kind")
    return lists[kind]


def byte_values(features: dict[str, memoryview], name: str, count: int) -> np.ndarray:
    """A list of `count` strings of one byte each, (count,) uint8. Raises ItemError on another length.

    Each value is encoded in three bytes: tag 10, length 1, the byte.
    """
    encoded = np.frombuffer(_values(features, name, BYTES_LIST), dtype=np.uint8)
    if len(encoded) != 3 * count:
        raise ItemError(
            f"feature {name!r} has {len(encoded) / 3:g} one-byte values where {count} are expected"
        )
    triples = encoded.reshape(count, 3)
    if not ((triples[:, 0] == 10).all() and (triples[:, 1] == 1).all()):
        raise ItemError(f"feature {name!r} holds values that are not one byte long")
    return triples[:, 2]


def float_values(features: dict[str, memoryview], name: str, count: int) -> np.ndarray:
    """A list of `count` floats, packed or not, (count,) float32. Raises ItemError on another length."""
    encoded = bytes(_values(features, name, FLOAT_LIST))
    if len(encoded) == 5 * count and encoded[::5] == b"\x0d" * count:
        return np.frombuffer(encoded, dtype=np.uint8).reshape(count, 5)[:, 1:].copy().view("<f4")[:, 0]
    packed = b"".join(bytes(content) for _, content in _fields(memoryview(encoded)))
    if len(packed) != 4 * count:
        raise ItemError(f"feature {name!r} has {len(packed) / 4:g} floats where {count} are expected")
    return np.frombuffer(packed, dtype="<f4")
