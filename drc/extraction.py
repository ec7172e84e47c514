"""The foreground of a user's own pictures: into a folder of masks, overlays, contact sheets and a table."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from drc.config import completed
from drc.files import alone_in, write_csv, write_json, write_png
from drc.kept import add_weights
from drc.method import DRC
from drc.model import DRCModel
from drc.pictures import (
    AREAS,
    KINDS,
    SHEET,
    UNREADABLE,
    Picture,
    PictureError,
    Source,
    known_as,
    open_picture,
)
from drc.sheets import column, figure_columns, sheet
from drc.tensors import DivergedError, to_signed
from drc.trainer import Progress

HEADER = (
    "file",
    "mask",
    "width",
    "height",
    "foreground_pixels",
    "foreground_share",
    "reconstruction_error",
    "key",
)
COLUMNS = 12  # pictures on a contact sheet
REFUSED = "refused.csv"  # in a folder of results: what was not segmented, and why
OUTLINE = (255, 210, 0)


class OutputError(Exception):
    """The folder for the results cannot be used; the message is one sentence for the user."""


class Extraction(NamedTuple):
    """What was found in one picture."""

    picture: Picture
    pi_fg: np.ndarray  # (S, S) float32: the foreground's π, or responsibility, at the model's size
    panels: dict[str, np.ndarray]  # the rows of Figure 3, (S, S, 3) uint8 each
    error: float  # mean |x̂ - x| over the square, pixels in [-1, 1]

    def mask(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """π_f > 0.5 at a width and height, the picture's own if none is given: (height, width) bool."""
        pi = Image.fromarray(self.pi_fg).resize(size or self.picture.size, Image.Resampling.BILINEAR)
        return np.asarray(pi) > 0.5

    def overlay(self) -> Image.Image:
        """The preview with its background darkened and the foreground outlined."""
        preview = self.picture.preview
        mask = Image.fromarray(self.mask(preview.size).astype(np.uint8) * 255)
        shown = Image.composite(preview, preview.point(lambda value: value // 4), mask)
        radius = max(1, max(preview.size) // 400)
        shown.paste(OUTLINE, mask=ring(mask, radius))
        return shown


def ring(mask: Image.Image, radius: int) -> Image.Image:
    """The pixels just outside a mask of 0 and 255, up to `radius` away, as such a mask."""
    grown = mask.filter(ImageFilter.MaxFilter(2 * radius + 1))
    return Image.fromarray(np.asarray(grown) - np.asarray(mask))


def extract(
    method: DRC, pictures: Sequence[Picture], progress: Progress | None = None
) -> Iterator[Extraction]:
    """Infer the regions of pictures from noise, keyed by each picture's content.

    A mask is a function of the model, its settings, the seed and the picture, whatever batch that is in: see
    `infer_regions`.
    """
    if not pictures:
        return
    images = np.stack([picture.square for picture in pictures])
    keys, done = [picture.key for picture in pictures], 0
    for regions in method.regions(images, keys=keys, progress=progress):
        inputs = images[done : done + len(regions.pi)]
        errors = (regions.image.cpu() - to_signed(inputs, "cpu")).abs().mean(dim=(1, 2, 3))
        pi_fg = regions.pi[:, 0].cpu().numpy()
        for i, panels in enumerate(figure_columns(inputs, regions)):
            yield Extraction(pictures[done + i], pi_fg[i], panels, float(errors[i]))
        done += len(inputs)


class ResultFolder:
    """A folder of results of one model, settings and seed.

    `masks`, `overlays` and `panels` hold a PNG for every picture, areas.csv a line, settings.json what they were made
    with. A picture that is done already is not done again.
    """

    def __init__(self, folder: Path, method: DRC) -> None:
        """OutputError if the folder holds the results of another model, settings or seed, or pictures not ours."""
        self.folder = folder
        settings = {
            "model_sha256": digest(method.model),
            "seed": method.seed,
            "config": {k: v for k, v in asdict(method.config).items() if k != "inference_batch_size"},
        }
        file = folder / "settings.json"
        begun = any((folder / kind).exists() for kind in KINDS)  # else all its pictures were refused
        if begun and file.exists() and _read_settings(file) != settings:
            raise OutputError(
                f"{folder} holds the results of another model, other settings or another seed; name another "
                "folder, or delete this one"
            )
        ours = (*KINDS, AREAS, REFUSED, *sorted(path.name for path in sheets_in(folder)))
        if not file.exists() and (others := [name for name in ours if (folder / name).exists()]):
            raise OutputError(
                f"{folder} holds {' and '.join(others)} that are not known to be results of this command, and might be "
                "overwritten; name another folder"
            )
        self._before = {row[1]: row for row in _read_rows(folder)}
        self._rows: dict[str, tuple[str, ...]] = {}
        write_json(file, settings)

    def has(self, source: Source, picture: Picture) -> bool:
        """Whether the picture was done before; if so, its line is taken over."""
        row = self._before.get(f"masks/{source.name}.png")
        width, height = picture.size
        if row is None or (row[2], row[3], row[-1]) != (str(width), str(height), f"{picture.key:016x}"):
            return False
        if not all(_is_picture(self.folder / kind / f"{source.name}.png") for kind in KINDS):
            return False
        self._rows[source.name] = row
        return True

    def add(self, source: Source, found: Extraction) -> None:
        """Write the pictures of one result."""
        mask = found.mask()
        self._write("masks", source, Image.fromarray(mask.astype(np.uint8) * 255))
        self._write("overlays", source, found.overlay())
        self._write("panels", source, column(found.panels))
        width, height = found.picture.size
        area = int(mask.sum())
        figures = (
            width,
            height,
            area,
            f"{area / mask.size:.6f}",
            f"{found.error:.6f}",
            f"{found.picture.key:016x}",
        )
        file = source.file.absolute()  # a relative one would be another file from another folder
        self._rows[source.name] = tuple(map(str, (file, f"masks/{source.name}.png", *figures)))

    def write_table(self) -> None:
        """areas.csv as far as it goes; lines of earlier calls with other files stay."""
        rows = self._before | {row[1]: row for row in self._rows.values()}
        write_csv(self.folder / AREAS, HEADER, rows.values())

    def write_sheets(self) -> None:
        """contact-sheet-001.png and so on: the panels of this call's pictures, in place of an earlier call's."""
        names, written = list(self._rows), set[Path]()
        for number, first in enumerate(range(0, len(names), COLUMNS), start=1):
            page = names[first : first + COLUMNS]
            columns = [Image.open(self.folder / "panels" / f"{name}.png") for name in page]
            file = self.folder / f"{SHEET}{number:03d}.png"
            write_png(file, sheet(columns, page))
            written.add(file)
        for old in sheets_in(self.folder) - written:
            old.unlink()

    def _write(self, kind: str, source: Source, picture: Image.Image) -> None:
        write_png(self.folder / kind / f"{source.name}.png", picture)


def segment_into(
    method: DRC,
    sources: Sequence[Source],
    folder: Path,
    *,
    seen: Callable[[Source, str | None], None] = lambda source, why: None,
    progress: Progress | None = None,
) -> int:
    """Segment `sources` into a folder, a batch at a time; returns how many were refused.

    `seen(source, why)` is called for each one as it is done, `why` being the reason of a refusal. An interruption
    keeps what is done and, in the folder .chains, the chains of the batch in hand that had ended. OutputError if the
    folder holds other results, or another process writes there.
    """
    busy = f"{folder} is being written by another process; wait for that, stop it, or name another folder"
    with alone_in(folder, OutputError(busy)), chains_kept_in(method, folder / ".chains"):
        return _segment_alone(method, sources, folder, seen, progress)


@contextmanager
def chains_kept_in(method: DRC, folder: Path) -> Iterator[None]:
    """Within it the method keeps its chains there."""
    before, method.chains_dir = method.chains_dir, folder
    try:
        yield
    finally:
        method.chains_dir = before


def drop_chains(folder: Path) -> None:
    """Delete what chains were kept there."""
    with suppress(OSError):  # where none were there is no folder
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _segment_alone(
    method: DRC,
    sources: Sequence[Source],
    folder: Path,
    seen: Callable[[Source, str | None], None],
    progress: Progress | None,
) -> int:
    results, refused = ResultFolder(folder, method), list[tuple[str, str]]()
    waiting: list[tuple[Source, Picture]] = []

    def infer(batch: list[tuple[Source, Picture]]) -> None:
        """Of pictures whose chain diverges each is refused by its name, and the others are done without it."""
        try:
            found = list(extract(method, [picture for _, picture in batch], progress))
        except DivergedError as error:
            if len(batch) == 1:
                refused.append((str(batch[0][0].file), str(error)))
                seen(batch[0][0], str(error))
            else:
                for one in batch:
                    infer([one])
            return
        for (source, _), extraction in zip(batch, found, strict=True):
            results.add(source, extraction)
            seen(source, None)

    def work_off() -> None:
        infer(waiting)
        results.write_table()
        drop_chains(folder / ".chains")  # the batch is written
        waiting.clear()

    try:
        for source in sources:
            try:
                picture = open_picture(source.file, method.config.image_size)
            except PictureError as error:
                refused.append((str(source.file), str(error)))
                seen(source, str(error))
                continue
            if results.has(source, picture):
                seen(source, None)
                continue
            waiting.append((source, picture))
            if len(waiting) == method.config.inference_batch_size:
                work_off()
        work_off()
    finally:
        results.write_table()
        write_csv(folder / REFUSED, ("file", "reason"), refused)
        results.write_sheets()
    return len(refused)


def sheets_in(folder: Path) -> set[Path]:
    """The contact sheets of a folder, by their names."""
    return {file for file in folder.glob(f"{SHEET}*.png") if file.stem.removeprefix(SHEET).isdecimal()}


def earlier_names(folder: Path) -> dict[Path, str]:
    """Which files, by what they are `known_as`, a folder of results has results of, and under which names."""
    return {
        known_as(Path(row[0])): row[1].removeprefix("masks/").removesuffix(".png")
        for row in _read_rows(folder)
    }


def digest(model: DRCModel) -> str:
    """SHA-256 of a model's weights."""
    total = hashlib.sha256()
    add_weights(total, model)
    return total.hexdigest()


def _is_picture(file: Path) -> bool:
    """Whether a file is there and is a whole picture."""
    try:
        with Image.open(file) as opened:
            opened.verify()  # its checksums, which are not looked at when its pixels are read
        with Image.open(file) as opened:
            opened.load()
    except UNREADABLE:
        return False
    return True


def _read_settings(file: Path) -> Any:
    """What results were made with; None if the file does not say."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return found | {"config": completed(found["config"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _read_rows(folder: Path) -> list[tuple[str, ...]]:
    """The lines of an earlier areas.csv of our shape and without NUL bytes; a foreign table has none."""
    file = folder / AREAS
    if not file.exists():
        return []
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [tuple(row) for row in csv.reader(lines)]
    except (ValueError, csv.Error):
        return []
    if rows[:1] != [HEADER]:
        return []
    return [row for row in rows[1:] if len(row) == len(HEADER) and "\0" not in "".join(row)]
