"""Segmenters that give pseudo ground truth: Mask R-CNN of detectron2 or of torchvision, behind one interface.

Neither package is needed by anything else here; each is imported when it is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from data_prep.annotations import AnnotationFile, Instance
from data_prep.errors import DataPrepError, SourceError, one_line
from data_prep.parallel import batched

CONFIG = "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml"
MIN_SCORE = 0.3
"""Instances below this score are not kept at all; the rules of selection choose among the rest."""
INSTALL = (
    "install it as the section on Mask R-CNN pseudo ground truth in README.md tells: the extra "
    "'maskrcnn' of this package first"
)


class AnnotatorError(DataPrepError):
    """The segmenter is not installed, or its weights cannot be loaded."""


class Annotator(Protocol):
    """Finds objects in images."""

    def settings(self) -> dict[str, Any]:
        """What its results depend on, as JSON values: model, weights, threshold."""
        ...

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        """The instances found in each image (H,W,3) uint8 RGB; the images may differ in size."""
        ...


class Detectron2:
    """Mask R-CNN with ResNet-101 and FPN from detectron2's model zoo, trained on COCO.

    weights: a local file; without it detectron2 downloads the zoo's own. random_weights leaves the network
    untrained, which serves nothing but trying out the path. Raises AnnotatorError.
    """

    def __init__(
        self,
        weights: Path | None = None,
        *,
        device: str = "cuda",
        random_weights: bool = False,
    ) -> None:
        try:
            import torch
            from detectron2 import model_zoo
            from detectron2.checkpoint import DetectionCheckpointer
            from detectron2.config import get_cfg
            from detectron2.data import MetadataCatalog
            from detectron2.data.transforms import ResizeShortestEdge
            from detectron2.modeling import build_model
        except (ImportError, RuntimeError) as error:  # the latter: torchvision of another build
            raise AnnotatorError(
                f"detectron2 is not there ({one_line(error)}); {INSTALL}, then detectron2."
            ) from error
        cfg = get_cfg()
        cfg.merge_from_file(model_zoo.get_config_file(CONFIG))
        cfg.MODEL.DEVICE = device
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = MIN_SCORE
        source = "random" if random_weights else str(weights or model_zoo.get_checkpoint_url(CONFIG))
        self._torch, self._model = torch, _on_device("detectron2", device, lambda: build_model(cfg))
        if not random_weights:
            before = {name: value.detach().clone() for name, value in self._model.named_parameters()}
            _load(source, lambda: DetectionCheckpointer(self._model).load(source))
            _check_loaded(self._model, before, source)
        self._model.eval()
        self._resize = ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST
        )
        self._bgr = cfg.INPUT.FORMAT == "BGR"
        self._categories = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes
        self._settings = _settings("detectron2", CONFIG, source, weights)

    def settings(self) -> dict[str, Any]:
        return self._settings

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        inputs = []
        for image in images:
            pixels = image[:, :, ::-1] if self._bgr else image
            resized = self._resize.get_transform(pixels).apply_image(np.ascontiguousarray(pixels))
            tensor = self._torch.from_numpy(
                np.ascontiguousarray(resized.transpose(2, 0, 1)).astype(np.float32)
            )
            inputs.append({"image": tensor, "height": image.shape[0], "width": image.shape[1]})
        with self._torch.inference_mode():
            outputs = self._model(inputs)
        return [self._instances(output["instances"].to("cpu")) for output in outputs]

    def _instances(self, found: Any) -> list[Instance]:
        rows = zip(found.pred_classes.tolist(), found.scores.tolist(), found.pred_masks.numpy(), strict=True)
        return [Instance(self._categories[number], score, mask.astype(bool)) for number, score, mask in rows]


class Torchvision:
    """Mask R-CNN with ResNet-50 and FPN (version 2) of torchvision, trained on COCO.

    weights: a local file with its state; without it torchvision downloads its own. random_weights as for
    Detectron2. Raises AnnotatorError.
    """

    def __init__(
        self,
        weights: Path | None = None,
        *,
        device: str = "cuda",
        random_weights: bool = False,
    ) -> None:
        try:
            import torch
            from torchvision.models.detection import (
                MaskRCNN_ResNet50_FPN_V2_Weights,
                maskrcnn_resnet50_fpn_v2,
            )
        except (ImportError, RuntimeError) as error:  # the latter with a torch of another build
            raise AnnotatorError(f"torchvision does not work here ({one_line(error)}); {INSTALL}.") from error
        own = MaskRCNN_ResNet50_FPN_V2_Weights.DEFAULT
        download = None if random_weights or weights else own
        model = _load(
            str(weights or own.url),
            lambda: maskrcnn_resnet50_fpn_v2(
                weights=download, weights_backbone=None, box_score_thresh=MIN_SCORE
            ),
        )
        if weights is not None and not random_weights:
            _load(
                str(weights),
                lambda: model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)),
            )
        self._torch, self._device = torch, device
        self._model = _on_device("torchvision", device, lambda: model.to(device)).eval()
        self._categories = own.meta["categories"]
        source = "random" if random_weights else str(weights or own.url)
        self._settings = _settings("torchvision", "maskrcnn_resnet50_fpn_v2", source, weights)

    def settings(self) -> dict[str, Any]:
        return self._settings

    def __call__(self, images: Sequence[np.ndarray]) -> list[list[Instance]]:
        tensors = [
            self._torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(self._device).float()
            / 255
            for image in images
        ]
        with self._torch.inference_mode():
            outputs = self._model(tensors)
        return [self._instances(output) for output in outputs]

    def _instances(self, found: Any) -> list[Instance]:
        masks = (found["masks"][:, 0] > 0.5).cpu().numpy()
        rows = zip(found["labels"].tolist(), found["scores"].tolist(), masks, strict=True)
        return [Instance(self._categories[number], score, mask) for number, score, mask in rows]


ANNOTATORS: dict[str, Callable[..., Annotator]] = {"detectron2": Detectron2, "torchvision": Torchvision}


def make_annotator(name: str, weights: Path | None, *, device: str) -> Annotator:
    """The annotator of that name, ready to run. Raises AnnotatorError."""
    if name not in ANNOTATORS:
        raise AnnotatorError(f"There is no annotator {name!r}; choose from {', '.join(ANNOTATORS)}.")
    if weights is not None and not weights.is_file():
        raise AnnotatorError(f"{weights} does not exist; give the weights' file or leave the option out.")
    return ANNOTATORS[name](weights, device=device)


Result = TypeVar("Result")


def _load(source: str, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except Exception as error:  # of a damaged file or a broken download the libraries raise nearly anything
        raise AnnotatorError(
            f"The weights {source} cannot be loaded ({one_line(error)}); "
            "download them by hand and give the file with --annotator-weights."
        ) from error


def _check_loaded(model: Any, before: dict[str, Any], source: str) -> None:
    """Raise AnnotatorError if a weight kept its random value: the checkpointer passes over names it lacks."""
    kept = [name for name, value in model.named_parameters() if value.ndim > 1 and value.equal(before[name])]
    if kept:
        raise AnnotatorError(
            f"The weights {source} are not this network's: {len(kept)} layers, {kept[0]} first, are not in it; "
            "give the file of the model zoo for " + CONFIG + "."
        )


def _on_device(name: str, device: str, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except (RuntimeError, AssertionError) as error:
        raise AnnotatorError(
            f"{name} cannot use device {device!r} ({one_line(error)}); try --device cpu."
        ) from error


def _settings(package: str, model: str, source: str, weights: Path | None) -> dict[str, Any]:
    settings = {"annotator": package, "model": model, "weights": source, "min_score": MIN_SCORE}
    if weights is not None:
        with weights.open("rb") as stream:
            settings |= {"weights": weights.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    return settings


def annotate(
    annotator: Annotator,
    images: Iterable[tuple[str, str, np.ndarray]],
    file: AnnotationFile,
    *,
    batch: int,
    done: int,
    total: int,
    progress: bool,
) -> None:
    """Annotate the images (id, SHA-256 of the file, (H,W,3) uint8) that come and append the results batch by batch.

    done, total: how many images were annotated before, and are in the end, for the time left. Raises SourceError if the
    disk refuses, and AnnotatorError if the network fails.
    """
    with tqdm(total=total, initial=done, desc="annotate", unit="image", disable=not progress) as bar:
        for group in batched(images, batch):
            try:
                results = annotator([image for *_, image in group])
            except RuntimeError as error:  # such as a GPU's memory that does not suffice
                raise AnnotatorError(
                    f"the network failed ({one_line(error)}); try a lower --batch, or --device cpu. "
                    "What was annotated before is kept."
                ) from error
            for (id, picture, image), instances in zip(group, results, strict=True):
                if any(found.mask.shape != image.shape[:2] for found in instances):
                    raise SourceError(f"The annotator gave {id} a mask of another size than the image.")
                file.append(id, picture, (image.shape[0], image.shape[1]), instances)
            bar.update(len(group))
