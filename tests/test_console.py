"""Words go where they can, and nowhere where nobody listens: that is no error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = "import sys\nfrom wbc_cli.terminal.console import Terminal, secure_streams\nsecure_streams()\n"
SAY = "t = Terminal()\nfor i in range(10000): t.out.print('line', i); t.note('note')\nprint('end')\n"


def python(script, **options):
    return subprocess.run([sys.executable, "-c", SCRIPT + script], check=False, timeout=120, **options)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_stream_that_is_closed_from_the_start_is_no_error_and_no_file_gets_its_number(closed):
    check = "import os\nassert os.open('/dev/null', os.O_RDONLY) > 2\n"
    done = python(check + SAY, preexec_fn=lambda: [os.close(number) for number in closed])
    assert done.returncode == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_ends_nothing(stream):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + SAY], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        getattr(running, stream).readline()
        getattr(running, stream).close()
        other = running.stderr if stream == "stdout" else running.stdout
        said = other.read()
    assert running.returncode == 0
    assert b"Traceback" not in said
    assert said.count(b"\n") >= 10_000


def test_a_full_disk_is_an_error_for_results_and_none_for_notes():
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        assert python(SAY, stdout=full, stderr=subprocess.DEVNULL).returncode != 0
        assert python(SAY, stdout=subprocess.DEVNULL, stderr=full).returncode == 0


@pytest.mark.parametrize(("encoding", "umlaut"), [("utf-8:strict", "ü".encode()), ("ascii:strict", b"\\xfc")])
def test_names_that_are_no_text_come_out_as_the_bytes_that_they_are(encoding, umlaut):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = python("Terminal().out.print('bad\\udcffü.png')", env=environment, capture_output=True)
    assert done.stdout == b"bad\xff" + umlaut + b".png\n"
