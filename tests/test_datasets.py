"""A data set is read as its authors publish it, on small made-up folders of that shape."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from conftest import spots, write_picture

from wbc_cli.datasets import read_dataset
from wbc_cli.errors import UsageError
from wbc_cli.evaluation.regions import read_mask, score_overlap
from wbc_cli.manifest import RED_CELL, WHITE_CELL, Box, select

VOC = """<annotation><size><width>640</width></size>
<object><name>WBC</name><bndbox><xmin>260</xmin><ymin>177</ymin><xmax>491</xmax><ymax>376</ymax></bndbox></object>
<object><name>RBC</name><bndbox><xmin>78</xmin><ymin>336</ymin><xmax>184</xmax><ymax>435</ymax></bndbox></object>
<object><name>RBC</name><bndbox><xmin>7</xmin><ymin>3</ymin><xmax>7</xmax><ymax>3</ymax></bndbox></object>
</annotation>"""


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def facts(name, folder):
    """What is known of each image, by its name below the folder."""
    return {s.group: (s.dataset, s.split, s.labels) for s in read_dataset(name, folder)}


@pytest.fixture
def bccd(tmp_path):
    root = tmp_path / "BCCD_Dataset" / "BCCD"
    for number in range(4):
        touch(root / "JPEGImages", f"BloodImage_0000{number}.jpg")
        text(root / "Annotations" / f"BloodImage_0000{number}.xml", VOC)
    for number, split in enumerate(("train", "val", "test")):
        text(root / "ImageSets" / "Main" / f"{split}.txt", f"BloodImage_0000{number}\n")
    text(root / "ImageSets" / "Main" / "trainval.txt", "BloodImage_00000\nBloodImage_00001\n")
    return root


def test_bccd_has_its_published_lists_and_boxes(bccd):
    samples = read_dataset("bccd", bccd.parent)
    assert [s.split for s in samples] == ["train", "val", "test", "drop"]
    assert {s.labels for s in samples} == {()}
    assert {s.um_per_px for s in samples} == {0.0688}
    assert samples[0].boxes == (Box(WHITE_CELL, 260, 177, 491, 376), Box(RED_CELL, 78, 336, 184, 435))
    assert [s.image for s in select(samples, "test", ())] == [bccd / "JPEGImages" / "BloodImage_00002.jpg"]


def test_bccd_takes_cell_types_from_the_table_of_older_copies(bccd):
    text(
        bccd.parent / "labels.csv",
        ',Image,Category\n,0,NEUTROPHIL\n,1,"LYMPHOCYTE, MONOCYTE"\n,2,\n,410,BASOPHIL\n',
    )
    assert [s.labels for s in read_dataset("bccd", bccd.parent)] == [
        ("neutrophil",),
        ("lymphocyte", "monocyte"),
        (),
        (),
    ]


def test_bccd_without_lists_is_all_test_but_for_what_nothing_is_known_of(tmp_path):
    touch(tmp_path, "JPEGImages/BloodImage_00000.jpg", "JPEGImages/BloodImage_00001.jpg", "JPEGImages/cover.jpg")
    text(tmp_path / "Annotations" / "BloodImage_00000.xml", VOC)
    text(tmp_path / "labels.csv", ",Image,Category\n,1,EOSINOPHIL\n")
    assert [s.split for s in read_dataset("bccd", tmp_path)] == ["test", "test", "drop"]


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("Annotations/BloodImage_00000.xml", VOC[:300], "not an annotation"),
        ("Annotations/BloodImage_00000.xml", VOC.replace("260", "left"), "not an annotation"),
        ("labels.csv", ",Image,Category\n,0,LEUKOCYTE\n", "line 2: "),
        ("labels.csv", ",Image,Category\n,first,NEUTROPHIL\n", "line 2: "),
        ("labels.csv", ",Image,Kind\n,0,NEUTROPHIL\n", "no column Category"),
    ],
)
def test_a_damaged_file_of_bccd_is_named(bccd, file, content, complaint):
    text(bccd / file, content)
    with pytest.raises(UsageError) as caught:
        read_dataset("bccd", bccd)
    assert str(bccd / file) in str(caught.value)
    assert complaint in str(caught.value)


def test_lisc_pairs_images_with_the_masks_of_their_class(tmp_path):
    root = tmp_path / "LISC Database"
    touch(root / "Main Dataset", "Baso/1.bmp", "Baso/2.bmp", "neut/1.bmp", "mixt/1.bmp", "mixt/2.bmp")
    truth = root / "Ground Truth Segmentation"
    touch(truth, *(f"{kind}/areaforexpert1/1_expert.bmp" for kind in ("Baso", "neut", "mixt")))
    touch(truth, "Baso/areaforexpert2/1_expert.bmp")
    touch(root / "More Dataset without Ground Truth", "alll/7.bmp")
    found = {s.image.relative_to(root / "Main Dataset").as_posix(): s for s in read_dataset("lisc", root)}
    # A mixture without a mask tells nothing, and would count as an image without white cells.
    assert {name: s.labels for name, s in found.items()} == {
        "Baso/1.bmp": ("basophil",),
        "Baso/2.bmp": ("basophil",),
        "neut/1.bmp": ("neutrophil",),
        "mixt/1.bmp": (),
    }
    assert found["Baso/1.bmp"].mask == truth / "Baso" / "areaforexpert1" / "1_expert.bmp"
    assert found["neut/1.bmp"].mask == truth / "neut" / "areaforexpert1" / "1_expert.bmp"
    assert found["Baso/2.bmp"].mask is None
    assert {(s.dataset, s.split, s.um_per_px) for s in found.values()} == {("lisc", "test", None)}


def test_lisc_masks_are_read_by_their_greys_and_widened_to_their_images(tmp_path):
    touch(tmp_path, "Main Dataset/mono/3.bmp")
    grey = np.zeros((52, 92), np.uint8)
    grey[10:30, 20:50] = 150
    grey[15:25, 30:40] = 255
    mask = tmp_path / "Ground Truth Segmentation/mono/areaforexpert1/3_expert.bmp"
    mask.parent.mkdir(parents=True)
    cv2.imwrite(str(mask), np.dstack([grey] * 3))  # published as colour
    (sample,) = read_dataset("lisc", tmp_path)
    truth = read_mask(sample.mask, (100, 60), sample.mask_levels)
    wanted = np.zeros((60, 100), np.uint8)
    wanted[14:34, 24:54] = 1
    wanted[19:29, 34:44] = 2
    assert np.array_equal(truth, wanted)
    with pytest.raises(UsageError, match="its image 90 x 60"):
        read_mask(sample.mask, (90, 60), sample.mask_levels)


def test_allidb2_tells_blasts_by_the_name(tmp_path):
    touch(tmp_path, "ALL_IDB2/img/Im001_1.tif", "ALL_IDB2/img/Im131_0.tif", "ALL_IDB2/img/Thumbs.png")
    touch(tmp_path, "ALL_IDB1/im/Im001_1.jpg", "ALL_IDB2/gt/Im001_1.tif")
    samples = read_dataset("allidb2", tmp_path)
    assert [(s.image.name, s.labels, s.split) for s in samples] == [
        ("Im001_1.tif", ("blast",), "test"),
        ("Im131_0.tif", ("not_blast",), "test"),
    ]
    assert facts("allidb2", tmp_path / "ALL_IDB2" / "img").keys() == {"Im001_1.tif", "Im131_0.tif"}


def test_pbc_knows_its_eight_classes_and_what_copies_were_shrunk_to(tmp_path):
    root = tmp_path / "PBC_dataset_normal_DIB"
    for name, width in (("basophil/BA_1.jpg", 360), ("ig/MMY_2.jpg", 366), ("platelet/PLATELET_3.jpg", 224)):
        write_picture(root / name, spots(width=width, height=width))
    touch(root, "neutrophil/.DS_169665.jpg", "neutrophil/BNE_4.jpg", "remarks/x.jpg")
    samples = read_dataset("pbc", tmp_path)
    assert [s.labels for s in samples] == [("basophil",), ("immature_granulocyte",), ("neutrophil",), ("platelet",)]
    assert [round(s.um_per_px, 4) for s in samples] == [0.1, 0.1, 0.1, 0.1607]
    assert {(s.dataset, s.split) for s in samples} == {("pbc", "test")}


def test_raabin_has_its_published_parts(tmp_path):
    touch(tmp_path, "Train/Basophil/a.jpg", "TestA/Monocyte/b.jpg", "Test-B/Neutrophil/c.jpg", "TestB/Burst/d.jpg")
    assert facts("raabin", tmp_path) == {
        "Train/Basophil/a.jpg": ("raabin-train", "train", ("basophil",)),
        "TestA/Monocyte/b.jpg": ("raabin-testa", "test", ("monocyte",)),
        "Test-B/Neutrophil/c.jpg": ("raabin-testb", "test", ("neutrophil",)),
    }
    assert facts("raabin", tmp_path / "TestA") == {"Monocyte/b.jpg": ("raabin-testa", "test", ("monocyte",))}


def test_raabin_masks_are_compared_as_whole_cells(tmp_path):
    root = tmp_path / "Nucleus_cytoplasm_Ground truths" / "GrTh"
    touch(root, "Original/Eosinophil/95-1.jpg", "Original/Eosinophil/95-2.jpg")
    grey = np.zeros((60, 60), np.uint8)
    grey[10:50, 10:50] = 255
    grey[20:40, 20:40] = 100
    write_picture(root / "Ground Truth/Eosinophil/95-1.png", np.dstack([grey] * 3))
    first, second = read_dataset("raabin", tmp_path)
    assert (first.dataset, first.split, first.labels) == ("raabin-masks", "test", ("eosinophil",))
    assert second.mask is None
    truth = read_mask(first.mask, (60, 60), first.mask_levels)
    assert np.array_equal(truth, grey > 0)
    assert score_overlap(truth, truth).nucleus is None


def test_krd_takes_types_from_its_table_and_masks_by_number(tmp_path):
    root = tmp_path / "KRD-WBC dataset"
    for number in (1, 12, 3, 4):
        write_picture(root / "Dataset" / "image" / f"image{number}.jpg", spots((60, 60), width=256, height=256))
    grey = np.full((256, 256), 3, np.uint8)
    grey[40:80, 40:80] = 250
    for number in (1, 12, 3):
        write_picture(root / "Dataset" / "mask" / f"mask{number}.jpg", np.dstack([grey] * 3))
    text(root / "class labels.csv", "Image ID,Categoriy\nImage1,Neutrophil\nImage12,lymphocytes\n")
    found = {s.image.name: s for s in read_dataset("krd", tmp_path)}
    assert {name: (s.labels, s.split) for name, s in found.items()} == {
        "image1.jpg": (("neutrophil",), "test"),
        "image12.jpg": (("lymphocyte",), "test"),
        "image3.jpg": ((), "test"),  # of no type, and a mask alone is to be found
        "image4.jpg": ((), "drop"),
    }
    assert found["image1.jpg"].um_per_px == pytest.approx(0.184)  # shrunk to half
    assert found["image12.jpg"].mask == root / "Dataset" / "mask" / "mask12.jpg"
    truth = read_mask(found["image1.jpg"].mask, (256, 256), found["image1.jpg"].mask_levels)
    assert np.array_equal(truth, grey > 128)
    assert score_overlap(truth, truth).nucleus is None


@pytest.mark.parametrize("row", ["Image1,Smudge", "first,Neutrophil"])
def test_a_damaged_table_of_krd_is_named(tmp_path, row):
    touch(tmp_path, "image/image1.jpg")
    text(tmp_path / "class labels.csv", f"Image ID,Categoriy\n{row}\n")
    with pytest.raises(UsageError, match=r"class labels\.csv: line 2: "):
        read_dataset("krd", tmp_path)


def cvat(*images):
    """What CVAT writes of images: a name, and the labels and corners of its polygons."""
    fields = "".join(
        f'<image id="0" name="{name}" width="400" height="300">'
        + "".join(
            f'<polygon label="{label}" points="{x0}.5,{y0}.00;{x1}.0,{y0}.0;{x1}.0,{y1}.0"></polygon>'
            for label, x0, y0, x1, y1 in polygons
        )
        + "</image>"
        for name, *polygons in images
    )
    return f"<annotations><meta><labels><label><name>bg</name></label></labels></meta>{fields}</annotations>"


def test_rvpbs_joins_the_outlines_of_all_classes_that_a_field_shows(tmp_path):
    root = tmp_path / "RV-PBS-main"
    band = ("band cell", 40, 40, 140, 140)
    for name in (
        "BAND CELLS/IMG_1.jpg",
        "MYELOCYTE/IMG_1.jpg",
        "NEUTROPHILS/neutrophils/IMG_2.jpg",
        "MYELOCYTE/IMG_3.jpg",
    ):
        write_picture(root / name, spots(width=200, height=150))
    touch(root, "assets/10_json_outputs.png")
    text(root / "BAND CELLS" / "annotations.xml", cvat(("IMG_1.jpg", band), ("gone.png", band)))
    again = ("myelocyte", 42, 41, 141, 141)
    text(root / "MYELOCYTE" / "annotations.xml", cvat(("IMG_1.jpg", again, ("myelocyte", 200, 100, 300, 200))))
    text(
        root / "NEUTROPHILS" / "annotations.xml", cvat(("IMG_2.jpg", ("neutrophil", 0, 0, 50, 60), ("bg", 0, 0, 9, 9)))
    )
    found = {s.image.relative_to(root).as_posix(): s for s in read_dataset("rvpbs", tmp_path)}
    assert {name: (s.labels, s.split) for name, s in found.items()} == {
        "BAND CELLS/IMG_1.jpg": (("neutrophil", "immature_granulocyte"), "test"),
        "NEUTROPHILS/neutrophils/IMG_2.jpg": (("neutrophil",), "test"),
        "MYELOCYTE/IMG_3.jpg": ((), "drop"),
    }
    first = found["BAND CELLS/IMG_1.jpg"]
    # The copy is half as wide as what was outlined.
    assert first.boxes == (Box("neutrophil", 20.25, 20, 70, 70), Box("immature_granulocyte", 100.25, 50, 150, 100))
    assert first.um_per_px == pytest.approx(0.017 * 4032 / 200)


@pytest.mark.parametrize("damage", [("</image>", ""), ("band cell", "smudge"), ("40.5", "left"), ('width="400"', "")])
def test_damaged_outlines_of_rvpbs_are_named(tmp_path, damage):
    touch(tmp_path, "BAND CELLS/IMG_1.jpg")
    table = tmp_path / "BAND CELLS" / "annotations.xml"
    text(table, cvat(("IMG_1.jpg", ("band cell", 40, 40, 140, 140))).replace(*damage))
    with pytest.raises(UsageError, match=r"annotations\.xml: not outlines from CVAT"):
        read_dataset("rvpbs", tmp_path)


@pytest.mark.parametrize("name", ["bccd", "lisc", "allidb2", "pbc", "raabin", "krd", "rvpbs"])
def test_a_folder_of_another_shape_says_what_was_looked_for(tmp_path, name):
    touch(tmp_path, "a.png", "cells/b.jpg")
    with pytest.raises(UsageError, match=f"holds no {name} as published; looked for "):
        read_dataset(name, tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        read_dataset(name, tmp_path / "a.png")


def test_an_unknown_layout_says_which_there_are(tmp_path):
    with pytest.raises(UsageError, match="--layout coco: use one of bccd, lisc, allidb2, pbc, raabin, krd, rvpbs"):
        read_dataset("coco", tmp_path)


def test_evaluate_reads_a_published_folder(call, toy_weights, tmp_path):
    for name in ("Main Dataset/eosi/1.bmp", "Main Dataset/lymp/1.bmp"):
        write_picture(tmp_path / name, spots((100, 100), width=200))
    masked = np.zeros((192, 192, 3), np.uint8)
    masked[72:121, 72:121] = 150
    write_picture(tmp_path / "Ground Truth Segmentation/eosi/areaforexpert1/1_expert.bmp", masked)
    common = ("evaluate", tmp_path, "--weights", toy_weights, "--device", "cpu", "--quiet")
    done = call(*common, "--layout", "lisc", "--json")
    assert done.code == 0, done.err
    lisc = json.loads(done.out)["datasets"]["lisc"]
    assert (lisc["images"], lisc["failed"]) == (2, 0)
    assert lisc["figures"]["cell_iou"]["n"] == 1
    wrong = call(*common, "--layout", "raabin")
    assert wrong.code == 2
    assert "looked for Train, TestA, TestB" in wrong.err
    assert call(*common, "--layout", "lisc", "--split", "train").code == 2
