"""How fast data sets are prepared and read, with each yardstick measured beside it in the same run.

What is measured and its yardstick take turns, so that both meet the same machine; a ratio is of two runs that
followed each other.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_prep import birds
from data_prep.archives import locate
from data_prep.build import Options
from data_prep.clevr6 import VALUES
from data_prep.errors import DataPrepError, SourceError
from data_prep.store import DatasetWriter, open_dataset
from data_prep.tfrecord import byte_values, parse_example, read_records


class Lap:
    """A stopwatch: context manager around the work; afterwards what it took in seconds."""

    seconds = 0.0
    processor = 0.0
    """Seconds of processor time, all threads together."""

    def __enter__(self) -> Lap:
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._started[0]
        self.processor = time.process_time() - self._started[1]

    @property
    def cores(self) -> float:
        """How many cores were had on average; fewer than there are threads at work if other programs have them."""
        return self.processor / self.seconds


@dataclass(frozen=True)
class Turn:
    """What the same work took here and by the yardstick, one after the other."""

    ours: Lap
    yardstick: Lap

    @property
    def ratio(self) -> float:
        """How many times faster ours was."""
        return self.yardstick.seconds / self.ours.seconds


def take_turns(ours: Callable[[], Lap], yardstick: Callable[[], Lap], rounds: int) -> Iterator[Turn]:
    """Run both `rounds` times, by turns first.

    A run of each before that is not counted: it fills the file cache.
    """
    ours(), yardstick()  # ours first: it says what is wrong with the input
    for number in range(rounds):
        if number % 2:
            mine, other = ours(), yardstick()
        else:
            other, mine = yardstick(), ours()
        yield Turn(mine, other)


def median_ratio(turns: list[Turn]) -> float:
    """The median of the turns' ratios."""
    return statistics.median(turn.ratio for turn in turns)


# --- birds against a plain Pillow loop ---------------------------------------------------------------------


def plain_birds(root: Path, segmentations: Path, out: Path, size: int) -> None:
    """What one would write in an afternoon: Pillow in a loop, one process, two arrays saved at the end.

    Same crop, filters and masks as `birds.prepare` by default; no check, no hash, no index.
    """
    boxes = {}
    for line in (root / "bounding_boxes.txt").read_text().splitlines():
        key, *numbers = line.split()
        boxes[key] = [float(number) for number in numbers]
    images, masks = [], []
    for line in (root / "images.txt").read_text().splitlines():
        key, name = line.split()
        image = Image.open(root / "images" / name).convert("RGB")
        mask = Image.open((segmentations / name).with_suffix(".png")).convert("L")
        x, y, w, h = boxes[key]
        across, down, half = int(x + w / 2), int(y + h / 2), int(0.75 * max(w, h))
        crop = (
            max(0, across - half),
            max(0, down - half),
            min(image.width, across + half),
            min(image.height, down + half),
        )
        small = image.crop(crop).resize((size, size), Image.Resampling.BILINEAR)
        small_mask = mask.crop(crop).resize((size, size), Image.Resampling.NEAREST)
        images.append(np.asarray(small))
        masks.append((np.asarray(small_mask) > 127).astype(np.uint8))
    np.save(out / "images.npy", np.stack(images))
    np.save(out / "masks.npy", np.stack(masks))


def birds_turns(
    root: Path, segmentations: Path, work: Path, *, size: int, workers: int | None, rounds: int
) -> Iterator[tuple[int, Turn]]:
    """How many birds there are, and the turns of `birds.prepare` and the plain loop, both from unpacked folders.

    work: an empty folder for what both write. Raises SourceError if the folders do not fit together, and
    DataPrepError if the two do not write the same pixels.
    """
    root = locate(root, "images.txt").parent
    segmentations = birds.masks_below(segmentations)
    options = Options(size=size, workers=workers, force=True, progress=False)
    plain, prepared = work / "plain", work / "prepared"
    plain.mkdir()

    def ours() -> Lap:
        with Lap() as lap:
            birds.prepare(root, segmentations, prepared, options=options)
        return lap

    def yardstick() -> Lap:
        with Lap() as lap:
            plain_birds(root, segmentations, plain, size)
        return lap

    for turn in take_turns(ours, yardstick, rounds):
        dataset = open_dataset(prepared)
        for name, array in (("images", dataset.images), ("masks", dataset.masks)):
            if not np.array_equal(np.load(plain / f"{name}.npy", allow_pickle=False), array):
                raise DataPrepError(
                    f"The plain loop's {name} differ from the prepared ones; report this fault."
                )
        yield len(dataset), turn


# --- CLEVR's records against the tfrecord package ----------------------------------------------------------


def our_records(file: Path) -> Iterator[dict[str, np.ndarray]]:
    """Image and masks of each record as flat uint8 arrays, with all checksums checked. Raises SourceError."""
    for record in read_records(file):
        if record.fault:
            raise SourceError(f"{record.name}: {record.fault}.")
        features = parse_example(record.data)
        yield {name: byte_values(features, name, count) for name, count in VALUES.items()}


def package_records(file: Path) -> Iterator[dict[str, np.ndarray]]:
    """The same by the tfrecord package, which checks nothing. Raises SourceError if it is not installed."""
    try:
        from tfrecord.reader import tfrecord_loader
    except ImportError as error:
        raise SourceError("The yardstick, the tfrecord package, is missing: pip install tfrecord.") from error
    description = dict.fromkeys(VALUES, "byte")
    for record in tfrecord_loader(str(file), None, description, compression_type="gzip"):
        yield {name: values.view(np.uint8) for name, values in record.items()}


def clevr_turns(file: Path, *, records: int, rounds: int) -> Iterator[Turn]:
    """Turns of decoding `records` records of a GZIP file here and with the tfrecord package.

    The clock starts when the first record is there, so the package's pass over the whole file before it is not
    held against it. Raises SourceError if the file is too short or damaged, the package is missing, or the
    records differ.
    """
    same = zip(our_records(file), package_records(file), strict=False)
    ours, theirs = next(same, ({}, {}))
    if not ours or any(not np.array_equal(ours[name], theirs[name]) for name in VALUES):
        raise SourceError(f"{file} is empty or is read otherwise by the tfrecord package; is it GZIP?")

    def decode(stream: Iterator[dict[str, np.ndarray]]) -> Lap:
        next(stream)
        with Lap() as lap:
            for _ in range(records):
                if next(stream, None) is None:
                    raise SourceError(f"{file} has fewer than {records + 1} records; ask for fewer.")
        return lap

    return take_turns(lambda: decode(our_records(file)), lambda: decode(package_records(file)), rounds)


# --- a prepared store of any size --------------------------------------------------------------------------


@dataclass(frozen=True)
class StoreSpeed:
    """What a synthetic store of a given size costs."""

    written: float
    """Images a second, hashes included."""
    opening: float
    """Seconds to open it, the median of several."""
    batches: float
    """Images a second in random batches, once in the file cache."""
    memory: int
    """Most memory of this process until all was written, in bytes."""


def measure_store(out: Path, count: int, size: int) -> StoreSpeed:
    """Write `count` images of noise to `out`, open them, and read random batches. Raises StoreError."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(16, size, size, 3), dtype=np.uint8)
    masks = (images[..., 0] > 127).astype(np.uint8)
    with (
        Lap() as writing,
        DatasetWriter(out, name="noise", size=(size, size), settings={}, expected=count) as writer,
    ):
        for i in tqdm(range(count), desc="write", unit="image"):
            writer.add(images[i % 16], masks[i % 16], id=f"{i:06d}", split="train", source="noise")
    memory = peak_memory()
    openings = []
    for _ in range(9):
        with Lap() as opening:
            dataset = open_dataset(out)
        openings.append(opening.seconds)
    for start in tqdm(range(0, count, 4096), desc="fill the file cache"):
        dataset.images[start : start + 4096].max()
    rows = rng.integers(count, size=(400, 48))  # batches, images in each
    with Lap() as reading:
        for chosen in tqdm(rows, desc="read", unit="batch"):
            dataset.images[chosen]
    return StoreSpeed(
        count / writing.seconds, statistics.median(openings), rows.size / reading.seconds, memory
    )


def peak_memory() -> int:
    """The most memory this process has held so far, in bytes; 0 where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
