"""The JSON Schemas take what the program writes and refuse what is broken.

All records that the whole suite has written are held against them when it ends, see conftest.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TOY_UM_PER_PX, spots, write_picture
from fakes import NO_PRODUCTS, blank, small_result
from schemas import complaints, misfits, schema

from wbc_cli.classes import BY_NAME, DIFFERENTIAL_NAMES
from wbc_cli.products.constants import SCHEMA_VERSION
from wbc_cli.products.folder import RunFolder


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Records of a slide that is done, one that was refused, and one that failed."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.commit(small_result("done"), blank(), NO_PRODUCTS)
    folder.commit(replace(small_result("refused"), refusal="out of focus"), blank(), NO_PRODUCTS)
    folder.record_failure("failed", Path("failed.png"), "cut off")
    return {name: folder.record(name) for name in folder.names()}


def test_runs_shards_merges_and_summaries_of_the_program_fit(call, toy_weights, tmp_path):
    for number in range(3):
        write_picture(tmp_path / "in" / f"{number}.png", spots(*[(100 + 130 * i, 100) for i in range(number)]))
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in" / "unread.heic").write_bytes(b"x")
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "none", "-q")
    out = tmp_path / "out"
    answer = call("analyze", tmp_path / "in", "-o", out, *common, "--json")
    assert answer.code == 3
    summary = json.loads(answer.out)
    assert complaints("summary", summary) == []
    assert summary["failed"] and summary["unread"]
    run = json.loads((out / "run.json").read_text())
    assert complaints("run", run) == []
    for shard in ("0/2", "1/2"):
        call("analyze", tmp_path / "in", "-o", tmp_path / "shards", *common, "--shard", shard)
    call("merge", tmp_path / "shards", "-o", tmp_path / "shards")
    merged = json.loads((tmp_path / "shards" / "run.json").read_text())
    assert complaints("run", merged) == []
    assert len(merged["merged_from"]) == 2
    assert misfits(tmp_path) == {}
    broken_runs(run, merged)
    broken_summaries(summary)


def refuse(kind, good, *breaks):
    """Break a good record in several ways, each of which its schema has to see."""
    assert complaints(kind, good) == []
    for change in breaks:
        broken = copy.deepcopy(good)
        change(broken)
        assert complaints(kind, broken), change


def broken_runs(run, merged):
    refuse(
        "run",
        run,
        lambda r: r.pop("slides"),
        lambda r: r.update(schema_version=SCHEMA_VERSION + 1),
        lambda r: r.update(status="done"),
        lambda r: r.update(weights_sha256="4df191c2"),
        lambda r: r.pop("options"),
        lambda r: r["slides"][0].pop("name"),
        lambda r: r["slides"][0].update(status="failed", reason=""),
        lambda r: r.update(review={"entries": 3}),
        lambda r: r.update(seconds=-1),
        lambda r: r.update(unread=["heic"]),
    )
    refuse(
        "run",
        merged,
        lambda r: r.pop("missing"),
        lambda r: r["merged_from"][0].pop("tool"),
        lambda r: r.update(merged_from=[]),
    )


def broken_summaries(summary):
    refuse(
        "summary",
        summary,
        lambda s: s.update(exit_code=1),
        lambda s: s.update(left=["a"]),
        lambda s: s["failed"][0].pop("reason"),
        lambda s: s["differential"]["classes"].pop("monocyte"),
        lambda s: s.pop("differential"),
    )


def test_slides_of_every_fate_fit(slides):
    assert {name: complaints("slide", record) for name, record in slides.items()} == {name: [] for name in slides}


def test_broken_slides_are_refused(slides):
    refuse(
        "slide",
        slides["done"],
        lambda s: s.pop("name"),
        lambda s: s.update(schema_version=SCHEMA_VERSION + 1),
        lambda s: s.update(status="fine"),
        lambda s: s.update(reason="out of focus"),
        lambda s: s.pop("differential"),
        lambda s: s["differential"]["classes"]["monocyte"].update(percent=120),
        lambda s: s["differential"]["classes"]["monocyte"].update(count=-1),
        lambda s: s["differential"]["classes"].pop("basophil"),
        lambda s: s["differential"]["others"].update(smudge=3),
        lambda s: s["scale"].update(um_per_px=0),
        lambda s: s.update(pixel_um=[0.1]),
        lambda s: s.update(flags="blurred"),
        lambda s: s["quality"].pop("focus"),
        lambda s: s.update(width="300"),
        lambda s: s.update(unreadable_area=1.5),
        lambda s: s.update(products={"cells.csv": "large"}),
    )
    refuse("slide", slides["refused"], lambda s: s.update(reason=""))
    refuse("slide", slides["failed"], lambda s: s.update(reason=""), lambda s: s.update(status="done", reason=""))


def test_the_schemas_know_every_class_and_the_version_of_the_records():
    for kind in ("slide", "summary"):
        known = schema(kind).schema["$defs"]["differential"]["properties"]
        assert tuple(known["classes"]["required"]) == DIFFERENTIAL_NAMES
        assert {*known["classes"]["required"], *known["others"]["required"]} == set(BY_NAME)
    for kind in ("slide", "run"):
        assert schema(kind).schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
