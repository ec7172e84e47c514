"""Prepared data sets as a budget uses them: found or generated, at the budget's size, some of the rows."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.registry import DATASETS, PRESETS, Budget, dataset_path, prepare_command
from data_prep.errors import DataPrepError
from data_prep.pictures import box_around
from data_prep.reader import content_digest, read_manifest
from data_prep.store import PreparedDataset, StoreError, open_dataset
from data_prep.target import BusyError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Images that are scored together."""

    images: np.ndarray
    """(N, S, S, 3) uint8."""
    objects: np.ndarray
    """(N, S, S) uint8: 0 background, k the k-th object."""
    ids: list[str]

    @property
    def truth(self) -> np.ndarray:
        """The true foreground, (N, S, S) bool."""
        return self.objects > 0


class Library:
    """The data sets under one folder, as one budget uses them; each is opened once."""

    def __init__(self, folder: Path, preset: str) -> None:
        self.folder, self.preset = folder, preset
        self.budget: Budget = PRESETS[preset]
        self._open: dict[str, PreparedDataset] = {}
        self._verified: set[str] = set()

    def path(self, name: str) -> Path:
        """Where the data set lies, or will."""
        return dataset_path(self.folder, name, self.preset)

    def prepare_command(self, name: str) -> str:
        """The one command that prepares the data set there."""
        return prepare_command(self.folder, name, self.preset)

    def is_prepared(self, name: str) -> bool:
        """Whether something lies at its path (it may still turn out to be damaged)."""
        return self.path(name).exists()

    def dataset(self, name: str) -> PreparedDataset:
        """Open a data set; generate it first if it is of that kind and not there.

        Raises BenchmarkError if it is not there, naming the command that prepares it, or holds fewer images than the
        budget uses, StoreError if it is damaged.
        """
        if name not in self._open:
            spec, path = DATASETS[name], self.path(name)
            if path.exists():
                found = open_dataset(path)
            elif spec.generated:
                found = self._made(name)
            else:
                raise BenchmarkError(f"not prepared: {self.prepare_command(name)}")
            self._check_counts(name, found)
            self._open[name] = found
        return self._open[name]

    def verify(self, name: str) -> None:
        """Check the data set's hashes, once; StoreError names what is damaged."""
        if name not in self._verified:
            self.dataset(name).verify()
            self._verified.add(name)

    def training_rows(self, name: str) -> np.ndarray:
        """Rows that methods are trained on."""
        spec = DATASETS[name]
        return self.dataset(name).rows(spec.train, self.budget.train_images if spec.generated else None)

    def training_images(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Images to train on, without labels: (N, S, S, 3) uint8 at the budget's size, which cannot be written to."""
        return locked(resize_images(take(self.dataset(name).images, rows), self.budget.image_size))

    def evaluation_rows(self, name: str, split: str) -> np.ndarray:
        """Rows that are scored: the subset's, thinned evenly to the budget's number.

        Of rows to train on, only those that every method trains on.
        """
        subset, most = DATASETS[name].splits[split], self.budget.eval_images
        if subset.rows == DATASETS[name].train:
            rows = self.training_rows(name)[: self.budget.scored_of]
        else:
            rows = self.dataset(name).rows(subset.rows)
        rows = rows[: subset.limit]
        if most is None or len(rows) <= most:
            return rows
        return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]

    def evaluation(self, name: str, split: str) -> Evaluation:
        """The images and masks that are scored, at the budget's size; neither can be written to."""
        dataset, rows = self.dataset(name), self.evaluation_rows(name, split)
        size = self.budget.image_size
        return Evaluation(
            images=locked(resize_images(take(dataset.images, rows), size)),
            objects=locked(resize_objects(take(dataset.masks, rows), size)),
            ids=[str(i) for i in dataset.index["id"].iloc[rows]],
        )

    def _made(self, name: str) -> PreparedDataset:
        """Generated here or by another process that is at it, which is waited for."""
        waiting = False
        while True:
            try:
                return self._generate(name)
            except StoreError as error:
                if self.path(name).exists():  # by now
                    return open_dataset(self.path(name))
                if not isinstance(error, BusyError):
                    raise
                if not waiting:
                    log.warning("another process is making %s, which is waited for", self.path(name))
                waiting = True
                time.sleep(0.5)

    def _generate(self, name: str) -> PreparedDataset:
        """Make the TM-dSprites of that name at the budget's size, seed 0."""
        from data_prep.tm_dsprites import TMDspritesConfig, generate

        spec, budget = DATASETS[name], self.budget
        config = TMDspritesConfig(
            variant=spec.variant,
            shapes=spec.shapes,
            count=budget.train_images,
            heldout=budget.heldout_images,
            size=budget.image_size,
        )
        return generate(self.path(name), config, command=self.prepare_command(name))

    def _check_counts(self, name: str, dataset: PreparedDataset) -> None:
        spec = DATASETS[name]
        if not spec.generated:
            return
        for split, needed in (("train", self.budget.train_images), ("test", self.budget.heldout_images)):
            held = len(dataset.rows(split))
            if held < needed:
                raise BenchmarkError(
                    f"{dataset.path} holds {held} {split} images and this preset uses {needed}: "
                    f"move it away and prepare it again: {self.prepare_command(name)}"
                )


def hashes_below(folder: Path) -> Callable[[str, str], str]:
    """Gives the hash of a data set as a budget finds it below a folder, by its manifest; empty if it has none there."""

    @functools.cache
    def sha256(name: str, preset: str) -> str:
        if name not in DATASETS or preset not in PRESETS:
            return ""
        try:
            return content_digest(read_manifest(dataset_path(folder, name, preset)))
        except DataPrepError:
            return ""

    return sha256


def take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array; without a copy where they follow one another, so that it stays on disk."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return array[rows[0] : rows[-1] + 1]
    return array[rows]


def locked(array: np.ndarray) -> np.ndarray:
    """The array as others may see it: a method that writes to it fails, and changes nothing that is scored."""
    view = array.view()
    view.flags.writeable = False
    return view


def resize_images(images: np.ndarray, size: int) -> np.ndarray:
    """(N, H, W, 3) uint8 -> (N, size, size, 3) uint8: areas are averaged when smaller, linear when larger."""
    if images.shape[1:3] == (size, size):
        return images
    result = np.empty((len(images), size, size, 3), np.uint8)
    for i, image in enumerate(images):
        result[i] = cv2.resize(image, (size, size), interpolation=_interpolation(image, size))
    return result


def resize_objects(objects: np.ndarray, size: int) -> np.ndarray:
    """(N, H, W) uint8 -> (N, size, size) uint8, by majority.

    A pixel is foreground where objects together cover more than half of it, and then belongs to the object
    that covers most of it.
    """
    if objects.shape[1:3] == (size, size):
        return objects
    result = np.zeros((len(objects), size, size), np.uint8)
    for i, image in enumerate(objects):
        names = [k for k in np.unique(image) if k]
        if names:
            layers = [(image == k).astype(np.float32) for k in names]
            cover = np.stack(
                [cv2.resize(x, (size, size), interpolation=_interpolation(x, size)) for x in layers]
            )
            result[i] = np.where(cover.sum(axis=0) > 0.5, np.array(names)[cover.argmax(axis=0)], 0)
    return result


def _interpolation(image: np.ndarray, size: int) -> int:
    return cv2.INTER_AREA if size < max(image.shape[:2]) else cv2.INTER_LINEAR


def object_boxes(objects: np.ndarray) -> np.ndarray:
    """The box around all objects of an image: (N, H, W) uint8 -> (N, 4) int64, x, y, width, height in pixels.

    All zero where there is no object.
    """
    return np.array([box_around(image) for image in objects], np.int64).reshape(-1, 4)
