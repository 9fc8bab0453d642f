"""Recall of the saliency prior at its working threshold: python tests/benchmarks/prior.py MANIFEST.csv [SPLIT ...].

For each data set: the share of the labelled cells whose middle lies in the window of 32 um around a candidate, 4 um or
more from its border (a cell that the border cuts gets a window of its own), candidates an image and a square
millimetre, and the share of the area whose saliency reaches the threshold.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np

from wbc_cli.evaluation.scoring import MAX_CANDIDATE_DISTANCE_UM
from wbc_cli.inference.prior_candidates import prior_candidates
from wbc_cli.inference.scale_estimation import slide_scale
from wbc_cli.manifest import read_manifest
from wbc_cli.run.loading import ComputeOptions, load_analyser
from wbc_cli.slides import open_slide
from wbc_cli.training.data import load_image


def main(manifest: Path, splits: list[str]) -> None:
    analyser, _ = load_analyser(ComputeOptions())
    engine = analyser.stream.engine
    threshold = engine.config.saliency_threshold
    sets = defaultdict(lambda: defaultdict(float))
    with analyser.stream as stream:
        for sample in read_manifest(manifest):
            if sample.split not in splits:
                continue
            with closing(open_slide(sample.image)) as reader:
                scale = slide_scale(engine.network.scale, reader, sample.um_per_px).um_per_px
                seen = prior_candidates(stream, reader, scale)
                area = reader.width * reader.height * scale**2 / 1e6
            found = seen.positions
            platelet = sample.labels == ("platelet",)
            count = sets[sample.dataset + (" platelets" if platelet else "")]
            count["images"] += 1
            count["windows"] += len(found)
            count["area"] += area
            count["shown"] += seen.area_share * area
            image = load_image(sample, scale)
            for target in () if platelet else image.targets:
                middle = np.array([target.x, target.y]) * image.um_per_px / scale
                near = len(found) and np.abs(found - middle).max(axis=1).min() * scale <= MAX_CANDIDATE_DISTANCE_UM
                count["cells"] += 1
                count["found"] += bool(near)
    print(f"splits {', '.join(splits)}, threshold {threshold}")
    for name, count in sorted(sets.items()):
        recall = (
            f"recall {count['found'] / count['cells']:.4f} of {count['cells']:.0f} cells, " if count["cells"] else ""
        )
        print(
            f"{name}: {recall}{count['windows'] / count['images']:.2f} windows an image, "
            f"{count['shown'] / count['area']:.4f} of the area, {count['windows'] / count['area']:.0f} windows/mm2"
        )
    cells = sum(count["cells"] for count in sets.values())
    print(f"all: recall {sum(count['found'] for count in sets.values()) / cells:.4f} of {cells:.0f} cells")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["val", "test"])
