"""Raw data as its publisher ships it: a folder, or an archive that is unpacked with care.

Nothing in an archive is trusted: a member outside the archive's own folder, a link, a device, a name that is
not UTF-8, or contents that swell beyond reason make the whole archive refused.
"""

from __future__ import annotations

import glob
import gzip
import logging
import lzma
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, Self, cast

from tqdm import tqdm

from data_prep.errors import DataPrepError, SourceError, one_line

log = logging.getLogger(__name__)
ENDINGS = (".tar", ".tgz", ".tar.gz", ".zip")
MAX_SWELL = 100
"""An archive may unpack to this many times its own size, and to 64 MB in any case."""
SMALL = 64 * 2**20
PIECE = 2**20
BLOCK = 512  # of a tar file, whose last ones are empty
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError,
    EOFError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether the name is one of an archive this module unpacks."""
    return path.name.lower().endswith(ENDINGS)


class Scratch:
    """A place beside the result for what archives hold; removed when the block is left."""

    def __init__(self, out: Path, *, progress: bool = True) -> None:
        self._progress = progress
        self._parent = out.parent
        self._prefix = f".{out.name}.unpacked-"
        self._folder: Path | None = None
        self._unpacked: dict[Path, Path] = {}  # where to -> which archive

    def __enter__(self) -> Scratch:
        for folder in self._parent.glob(f"{glob.escape(self._prefix)}*"):
            log.warning("%s was left by an interrupted run; delete it if that run is over", folder)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if isinstance(error, DataPrepError) and (text := self.named(str(error))) != str(error):
            raise type(error)(text) from error

    def named(self, text: str) -> str:
        """A sentence with the archives in the place of the folders they were unpacked to, which nobody will find."""
        for folder, archive in self._unpacked.items():
            text = text.replace(f"{folder}/", f"{archive}: ").replace(str(folder), str(archive))
        return text

    def open(self, path: Path) -> Path:
        """The folder `path`, or the folder that archive `path` was unpacked to. Raises SourceError."""
        if path.is_dir():
            return path
        if not path.is_file():
            raise SourceError(f"{path} does not exist; give the folder or the archive as it was downloaded.")
        if not is_archive(path):
            raise SourceError(f"{path} is neither a folder nor an archive ({', '.join(ENDINGS)}).")
        try:
            self._parent.mkdir(parents=True, exist_ok=True)
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._parent))
            target = self._folder / f"{len(list(self._folder.iterdir())):03d}"
            target.mkdir()
        except OSError as error:
            raise SourceError(
                f"{self._parent} cannot be written ({one_line(error)}); choose another --out."
            ) from error
        self._unpacked[target] = path
        unpack(path, target, progress=self._progress)
        return target

    def part(self, root: Path, folder: str, archive: str) -> Path:
        """Sub-folder `folder` of `root`, or the archive beside it that holds it. Raises SourceError."""
        if (root / folder).is_dir():
            return root / folder
        if (root / archive).is_file():
            return locate(self.open(root / archive), folder)
        raise SourceError(f"{root} has neither the folder {folder} nor {archive}; download it there first.")


def locate(folder: Path, name: str) -> Path:
    """The file or folder called `name` in `folder` or up to two levels below. Raises SourceError."""
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        for found in sorted(folder.glob(pattern)):
            return found
    raise SourceError(f"{folder} has no {name}; is this the right folder or archive?")


def unpack(archive: Path, target: Path, *, progress: bool = True) -> None:
    """Unpack `archive` into the existing folder `target`. Raises SourceError; `target` is then incomplete."""
    try:
        with (
            _members(archive) as members,
            tqdm(desc=archive.name, unit="B", unit_scale=True, disable=not progress) as bar,
        ):
            for name, stream in members:
                file = _inside(archive, target, name)
                if stream is None:
                    file.mkdir(parents=True, exist_ok=True)
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as out:
                    while piece := stream.read(PIECE):
                        out.write(piece)
                        bar.update(len(piece))
    except DAMAGED as error:
        raise SourceError(
            f"{archive} is cut short or damaged ({one_line(error)}); download it again."
        ) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise SourceError(
            f"{archive} holds a file and a folder of one name, {file.relative_to(target)}; pack it again."
        ) from error
    except OSError as error:
        raise SourceError(
            f"{archive} cannot be unpacked to {target.parent.parent} ({one_line(error)}); choose another --out."
        ) from error


def _inside(archive: Path, target: Path, name: str) -> Path:
    """Where member `name` goes; refuses names that lead out of the target or are not text."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SourceError(
            f"{archive} has a member whose name is not UTF-8: {name!r}; pack it again."
        ) from error
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise SourceError(
            f"{archive} has a member that leads outside it: {name!r}; do not trust this archive."
        )
    return target / path


class Readable(Protocol):
    """All that is asked of a member's stream."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; none at the end."""


Members = Iterator[tuple[str, Readable | None]]


class Swelling:
    """Counts what an archive has been unpacked to, headers included; refuses it beyond MAX_SWELL."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._left = max(SMALL, MAX_SWELL * archive.stat().st_size)

    def counted(self, stream: Readable) -> Counted:
        """The stream; reading raises SourceError once the limit is passed."""
        return Counted(stream, self._take)

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise SourceError(
                f"{self._archive} swells to more than {MAX_SWELL} times its size, as a zip bomb does; "
                "download it again from its publisher or, if you trust it, unpack it and give the folder."
            )


class Counted:
    """A stream whose bytes are counted; `last` holds the end of what was read."""

    def __init__(self, stream: Readable, take: Callable[[int], None]) -> None:
        self._stream, self._take, self.last = stream, take, b""

    def read(self, size: int = -1, /) -> bytes:
        """As of the stream itself."""
        piece = self._stream.read(size)
        self._take(len(piece))
        self.last = (self.last + piece)[-BLOCK:]
        return piece


@contextmanager
def _members(archive: Path) -> Iterator[Members]:
    """Names and streams of an archive's files, in their order; the stream of a folder is None."""
    swelling = Swelling(archive)
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(archive, opened, swelling)
    else:
        with archive.open("rb") as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(raw) if packed else nullcontext(raw) as stream:
                yield _tar_members(archive, swelling.counted(stream))


class Whole(tarfile.TarInfo):
    """A member of an archive whose every header is sound; tarfile takes a damaged one for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As of TarInfo; raises ReadError where the block is neither a header nor empty."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.strip(b"\0"):
                raise tarfile.ReadError(one_line(error)) from error
            raise


def _tar_members(archive: Path, stream: Counted) -> Members:
    # Empty blocks are passed over, for another archive may follow, or what had a header that is empty now.
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", ignore_zeros=True, tarinfo=Whole) as opened:
        for member in opened:
            if member.isdir():
                yield member.name, None
            elif member.isfile() and not member.issparse():
                yield member.name, opened.extractfile(member)
            else:
                kind = "a link" if member.issym() or member.islnk() else "a device or pipe"
                kind = "a sparse file, whose holes take no place in it," if member.issparse() else kind
                raise SourceError(f"{archive} holds {kind}, {member.name!r}; do not trust this archive.")
    while stream.read(PIECE):  # to the end, where gzip keeps its check sum
        pass
    if stream.last.strip(b"\0") or len(stream.last) < BLOCK:
        raise EOFError("it has no closing block")


def _zip_members(archive: Path, opened: zipfile.ZipFile, swelling: Swelling) -> Members:
    for member in opened.infolist():
        kind = (member.external_attr >> 16) & 0o170000
        if kind not in (0, 0o100000, 0o040000):
            raise SourceError(
                f"{archive} holds a link or device, {member.filename!r}; do not trust this archive."
            )
        if member.is_dir():
            yield member.filename, None
        else:
            with opened.open(member) as stream:
                yield member.filename, swelling.counted(stream)
