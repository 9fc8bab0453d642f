"""Every command explains itself and does what its help says; help, completion and colours are as on other programs."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
import typer
from fakes import rows

import wbc_cli
from wbc_cli.cli import app

HEAVY = {"torch", "torchvision", "timm", "numpy", "scipy", "pandas", "cv2", "openslide", "tifffile", "matplotlib"}
COLOUR = re.compile(r"\x1b\[[\d;]*m")
HUE = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d)[;m]")


@pytest.mark.parametrize("arguments", ["--help", "--version", "analyze --help", "guide outputs", "no-such-command"])
def test_help_answers_at_once_since_it_loads_none_of_the_heavy_libraries(arguments):
    script = "import sys\nfrom wbc_cli.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments.split()], capture_output=True, text=True, check=False
    )
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert not HEAVY & loaded


def test_an_analysis_loads_no_library_that_takes_as_long_as_torch_and_is_not_needed():
    """Timm and torchvision take as long as torch, above all for its compiler; a picture is done before they were in."""
    script = (
        "import sys\nimport wbc_cli.run.worker\nfrom wbc_cli.run.loading import ComputeOptions, load_analyser\n"
        "load_analyser(ComputeOptions())[0].stream.close()\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not {"timm", "torchvision", "torch._dynamo", "sympy", "pandas", "matplotlib"} & loaded


def test_version_is_that_of_the_package(call):
    assert call("--version").out == f"wbc-cli {wbc_cli.__version__}\n"


@pytest.mark.parametrize("command", typer.main.get_command(app).commands)
def test_every_command_explains_itself_and_names_a_wrong_option(call, command):
    answer = call(command, "--help")
    assert answer.code == 0
    assert f"wbc-cli {command}" in answer.out
    wrong = call(command, "--no-such-option")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--no-such-option" in COLOUR.sub("", wrong.err)


@pytest.mark.parametrize("command, extra", [("train", "train"), ("export", "export")])
def test_help_names_the_extra_that_a_command_needs(call, command, extra):
    assert f"wbc-cli[{extra}]" in call(command, "--help").out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_options_values_and_topics(tmp_path):
    program = tmp_path / "wbc-cli"
    program.write_text(f"#!{sys.executable}\nfrom wbc_cli.cli import main\nmain()\n")
    program.chmod(0o755)
    script = [f'PATH="{tmp_path}:$PATH"', 'eval "$(wbc-cli --show-completion)"']
    for line in ("ana", "merge --sig", "analyze --precision bf", "guide outp"):
        words = ["wbc-cli", *line.split()]
        script.append(f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _wbc_cli_completion wbc-cli")
        script.append('echo "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", "\n".join(script)], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["analyze", "--sign", "bf16", "outputs"], done.stderr


def test_colours_on_a_terminal_only_and_never_with_no_color():
    assert HUE.search(on_a_terminal({}))
    assert not HUE.search(on_a_terminal({"NO_COLOR": "1"}))


def on_a_terminal(extra):
    """What `--help` says to a terminal."""
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "wbc_cli.cli", "--help"]
    with subprocess.Popen(command, stdout=follower, env=environment | {"TERM": "xterm-256color"} | extra):
        os.close(follower)
        said = b""
        try:
            while part := os.read(leader, 65536):
                said += part
        except OSError:  # how Linux says that the other side of a terminal is closed
            pass
    os.close(leader)
    assert b"analyze" in said
    return said.decode()


def test_doctor_says_what_is_missing(call, toy_weights, tmp_path):
    well = call("doctor", "--weights", toy_weights)
    assert well.code == 0
    assert "MISSING" not in well.out
    assert "torch" in well.out
    ill = call("doctor", "--weights", tmp_path)
    assert ill.code == 5
    assert "MISSING" in ill.out


def test_a_wrong_training_setting_is_wrong_usage(call, tmp_path):
    answer = call("train", tmp_path / "manifest.csv", "-o", tmp_path / "model", "--set", "speed=high")
    assert answer.code == 2
    assert "--set speed=high" in answer.err
    assert not (tmp_path / "model").exists()


def test_the_demo_says_what_it_wrote(call, tmp_path):
    answer = call("demo", tmp_path / "demo")
    assert (answer.code, answer.out) == (0, "")
    files = [path.name for path in (tmp_path / "demo").iterdir()]
    assert f"wrote {len(files) - 1} slides and truth.csv" in answer.err
    assert {row["slide"] for row in rows(tmp_path / "demo" / "truth.csv")} == {*files} - {"truth.csv"}
