"""A made-up laboratory: images whose right answers are known, and a pipeline that answers as told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from wbc_cli.cells import Cell, Explanation, Scale, SlideResult
from wbc_cli.classes import CLASS_NAMES
from wbc_cli.errors import SlideError
from wbc_cli.evaluation import Conditions, evaluate
from wbc_cli.manifest import Sample
from wbc_cli.model.reference_head import MEASURED

SIDE = 100  # of every made-up image


def make_cell(name, box=(40, 40, 60, 60), *, confidence=0.9, likeliest=None, nucleus=None, cam=None, window=None):
    """A rectangular cell whose window is the whole image, and whose Grad-CAM is its own outline."""
    x0, y0, x1, y1 = box
    mask = np.ones((y1 - y0, x1 - x0), np.uint8)
    if nucleus:
        mask[nucleus[1] - y0 : nucleus[3] - y0, nucleus[0] - x0 : nucleus[2] - x0] = 2
    likeliest = likeliest or (name if name in CLASS_NAMES else CLASS_NAMES[0])
    probabilities = np.full(len(CLASS_NAMES), (1 - confidence) / (len(CLASS_NAMES) - 1), np.float32)
    probabilities[CLASS_NAMES.index(likeliest)] = confidence
    if cam is None:
        cam = np.zeros((SIDE, SIDE), np.float32)
        cam[y0:y1, x0:x1] = 1
    inside = np.zeros_like(cam, bool)
    inside[y0:y1, x0:x1] = True
    return Cell(
        id=1,
        x=(x0 + x1) / 2,
        y=(y0 + y1) / 2,
        box=box,
        mask=mask,
        class_name=name,
        features=np.zeros(len(CLASS_NAMES), np.float16),
        measures=np.zeros(MEASURED, np.float32),
        probabilities=probabilities,
        confidence=confidence,
        area_um2=1.0,
        nucleus_area_um2=0.0,
        saliency=1.0,
        cam_in_cell=float(cam[inside].sum() / cam.sum()),
        cam_saliency=1.0,
        cam_stability=None,
        explanation=Explanation(*(window or (0, 0, SIDE)), cam, cam),
    )


class Lab:
    """A folder of made-up images, and a pipeline that finds in each what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples: list[Sample] = []
        self.found: dict[Path, list[Cell] | SlideError] = {}
        self.scales: list[float | None] = []

    def add(self, labels, found, *, dataset="lab", group=None, boxes=(), mask=None, grey=128, morphology=None):
        """An image, its truth, and what the pipeline finds in it."""
        number = len(self.samples)
        image = self.folder / f"{number}.png"
        cv2.imwrite(str(image), np.full((SIDE, SIDE, 3), grey, np.uint8))
        mask_path = None
        if mask is not None:
            mask_path = self.folder / f"{number}_mask.png"
            cv2.imwrite(str(mask_path), mask)
        labels = tuple(part for part in labels.split(";") if part)
        sample = Sample(
            image,
            dataset,
            "test",
            labels,
            group or f"g{number}",
            0.1,
            mask_path,
            tuple(boxes),
            morphology=morphology or {},
        )
        self.samples.append(sample)
        self.found[image] = found

    def analyse(self, reader, um_per_px, shared=None):
        self.scales.append(um_per_px)
        found = self.found[reader.path]
        if isinstance(found, SlideError):
            raise found
        return SlideResult(reader.path.name, reader.path, SIDE, SIDE, Scale(0.1, "file"), tuple(found), 1)

    def evaluate(
        self,
        *,
        analyse=None,
        check=None,
        find_candidates=None,
        measure_scale=None,
        progress=lambda done, total: None,
        **conditions,
    ):
        conditions = Conditions(min_confidence=0.5, **conditions)
        analyse = analyse or self.analyse
        return evaluate(
            self.samples,
            analyse,
            conditions,
            progress=progress,
            find_candidates=find_candidates,
            check=check,
            measure_scale=measure_scale,
        )

    def figures(self, **options):
        return self.evaluate(**options).pooled.figures


def rectangle(box, nucleus=None):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for value, (x0, y0, x1, y1) in ((1, box), *(((2, nucleus),) if nucleus else ())):
        mask[y0:y1, x0:x1] = value
    return mask
