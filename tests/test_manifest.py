"""What a manifest says is what training and evaluation see, and a wrong row is named by its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wbc_cli.errors import UsageError
from wbc_cli.manifest import RED_CELL, WHITE_CELL, Box, read_manifest
from wbc_cli.morphology import ATTRIBUTES

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def write(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def write_with_files(folder: Path, text: str) -> Path:
    """Write a manifest, and an empty file for each that it names."""
    for name in re.findall(r"[\w/]+\.(?:png|jpg)", text):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return write(folder, text)


def test_only_image_and_label_are_required(tmp_path):
    folder = tmp_path / "my_lab"
    folder.mkdir()
    (sample,) = read_manifest(write_with_files(folder, "label,image\nneutrophil,a.png\n"))
    assert sample.image == folder / "a.png"
    assert (sample.dataset, sample.split, sample.labels) == ("my_lab", "test", ("neutrophil",))
    assert (sample.group, sample.um_per_px, sample.mask, sample.boxes) == ("a.png", None, None, ())


def test_every_column_is_read_in_any_order_and_others_are_ignored(tmp_path):
    path = write_with_files(
        tmp_path,
        "mask,um_per_px,group,subtype,label,split,dataset,image,remark\n"
        'm/a.png,0.1,patient 1,band,neutrophil;lymphocyte,val,lab,a.png,"one, two"\n',
    )
    (sample,) = read_manifest(path)
    assert sample.labels == ("neutrophil", "lymphocyte")
    assert (sample.dataset, sample.split, sample.group, sample.um_per_px) == ("lab", "val", "patient 1", 0.1)
    assert sample.mask == tmp_path / "m/a.png"


def test_morphology_beside_the_manifest_goes_to_its_image(tmp_path):
    values = {name: choice[-1] for name, choice in ATTRIBUTES.items()}
    rows = [["img_name", "label", *values], ["a.jpg", "Neutrophil", *values.values()]]
    write(tmp_path, "".join(",".join(row) + "\n" for row in rows), "wbcatt.csv")
    first, second = read_manifest(write_with_files(tmp_path, "image,label\nsub/a.jpg,neutrophil\nb.jpg,neutrophil\n"))
    assert first.morphology == values
    assert not second.morphology


def test_a_value_that_no_attribute_has_is_named(tmp_path):
    values = {name: choice[0] for name, choice in ATTRIBUTES.items()} | {"granule_colour": "green"}
    write(tmp_path, f"img_name,{','.join(values)}\na.jpg,{','.join(values.values())}\n", "wbcatt.csv")
    with pytest.raises(UsageError, match="line 2: unknown granule_colour 'green'"):
        read_manifest(write_with_files(tmp_path, "image,label\na.jpg,neutrophil\n"))


def test_an_empty_label_means_no_cell_and_not_blast_is_a_label(tmp_path):
    samples = read_manifest(write_with_files(tmp_path, "image,label\na.png,\nb.png,not_blast\n"))
    assert [s.labels for s in samples] == [(), ("not_blast",)]


def test_a_file_saved_by_excel_is_read(tmp_path):
    (sample,) = read_manifest(write_with_files(tmp_path, "\ufeffimage,label\r\na.png,blast\r\n"))
    assert sample.labels == ("blast",)


def test_boxes_beside_the_manifest_go_to_their_images(tmp_path):
    write(
        tmp_path,
        "image,label,x0,y0,x1,y1\na.png,WBC,1,2,30,40\na.png,rbc,5,5,6.5,7\nb.png,Platelets,0,0,2,2\n"
        "b.png,Neutrophil,0,0,9,9\nb.png,RBC,7,3,7,3\nnot_listed.png,WBC,0,0,1,1\n",
        "boxes.csv",
    )
    first, second, third = read_manifest(write_with_files(tmp_path, "image,label\na.png,\nb.png,\nc.png,\n"))
    assert first.boxes == (Box(WHITE_CELL, 1, 2, 30, 40), Box(RED_CELL, 5, 5, 6.5, 7))
    assert second.boxes == (Box("platelet", 0, 0, 2, 2), Box("neutrophil", 0, 0, 9, 9))
    assert third.boxes == ()


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a.png,leukocyte,test,0.1", "unknown label 'leukocyte'"),
        ("a.png,neutrophil;oops,test,0.1", "unknown label 'oops'"),
        ("a.png,unidentified,test,0.1", "unknown label 'unidentified'"),
        ("a.png,blast,tset,0.1", "unknown split 'tset'"),
        ("a.png,blast,test,wide", "um_per_px is 'wide'"),
        ("a.png,blast,test,nan", "um_per_px is 'nan'"),
        ("a.png,blast,test,0", "um_per_px is 0"),
        (",blast,test,0.1", "image is empty"),
        ("ok.png,blast,test,0.1", "also on line 2"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path, row, complaint):
    path = write(tmp_path, f"image,label,split,um_per_px\nok.png,,,\n{row}\n")
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert "line 3: " in str(caught.value)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a.png,cell,0,0,1,1", "unknown label 'cell'"),
        ("a.png,WBC,0,0,1,x", "y1 is 'x'"),
        ("a.png,WBC,0,0,1", "y1 is ''"),
        ("a.png,WBC,6,0,5,1", "the corners are swapped"),
    ],
)
def test_a_wrong_box_is_named_by_its_line(tmp_path, row, complaint):
    boxes = write(tmp_path, f"image,label,x0,y0,x1,y1\n{row}\n", "boxes.csv")
    with pytest.raises(UsageError) as caught:
        read_manifest(write_with_files(tmp_path, "image,label\na.png,\n"))
    assert f"{boxes}: " in str(caught.value)
    assert "line 2: " in str(caught.value)
    assert complaint in str(caught.value)


def test_all_wrong_rows_are_named_but_the_message_stays_short(tmp_path):
    path = write(tmp_path, "image,label\n" + "".join(f"{i}.png,what\n" for i in range(25)))
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert "line 2: " in message
    assert "line 11: " in message
    assert "line 12: " not in message
    assert "and 15 more" in message


def test_missing_files_are_named(tmp_path):
    (tmp_path / "a.png").touch()
    path = write(tmp_path, "image,label,mask\na.png,blast,\nb.png,blast,m.png\na2.png,blast,\n")
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert "line 2" not in message
    assert message.count("line 3: ") == 1
    assert message.count("line 4: ") == 1


@pytest.mark.parametrize("content", [b"image;label\n", b"", b"\xff\xfe\x00\x01image,label\n", b"image,label\n"])
def test_what_is_no_manifest_is_a_usage_error(tmp_path, content):
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"manifest\.csv"):
        read_manifest(path)


def test_a_missing_manifest_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_manifest(tmp_path / "nowhere.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.skipif(not (DATA / "manifest.csv").exists(), reason="the shared data folder is absent")
def test_the_shared_data_is_read_whole():
    samples = read_manifest(DATA / "manifest.csv")
    bccd = [s for s in samples if s.dataset == "bccd"]
    assert len(samples) == 20_051
    assert sum(box.label == WHITE_CELL for s in bccd for box in s.boxes) == 372
    assert sum(s.split == "test" for s in bccd) == 71
    assert all(s.labels == () and s.um_per_px is None for s in samples if s.dataset == "negatives")
    typed = [box.label for s in samples if s.dataset == "rvpbs" for box in s.boxes]
    assert (len(typed), typed.count("blast"), typed.count(WHITE_CELL)) == (719, 149, 0)


@pytest.mark.parametrize("scale", ["700", "0.001", "-1", "nan", "a few"])
def test_a_scale_that_no_microscope_has_is_refused_with_its_line(tmp_path, scale):
    (tmp_path / "m.csv").write_text(f"image,label,um_per_px\na.png,neutrophil,0.1\nb.png,neutrophil,{scale}\n")
    with pytest.raises(UsageError, match=f"line 3: um_per_px is '?{scale}"):
        read_manifest(tmp_path / "m.csv")
