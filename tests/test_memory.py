"""Memory that is free does not stay with the process, though some is kept in between."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from wbc_cli.run.slide_task import room_of

PROGRAM = """
import resource
from pathlib import Path
from wbc_cli.resources.memory import keep_freed_memory, release_holes

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20

keep_freed_memory()
kept = []
for _ in range(100):
    batch = bytearray(b"1") * (2 << 20)
    kept.append(bytearray(b"1") * 5000)  # between this batch and the next
    kept.append(batch)
before = resident()
del kept[1::2]
held = resident()
release_holes()
print(before, held, resident())
"""


def test_a_compressed_picture_takes_the_room_of_its_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((1500, 2000, 3), 230, np.uint8), compression="zlib", photometric="rgb")
    assert (tmp_path / "a.tif").stat().st_size < 100_000
    assert room_of(tmp_path / "a.tif", None) >= 1500 * 2000 * 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library manages its memory itself")
def test_what_lies_free_between_pieces_in_use_is_kept_for_the_next_batch_until_it_is_released():
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdout=subprocess.PIPE, text=True)
    before, held, after = map(int, run.stdout.split())
    assert held > before - 20  # megabytes
    assert after < held - 180
