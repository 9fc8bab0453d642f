"""What several files share: the command line as a function, and a network whose answers are known beforehand."""

from __future__ import annotations

import os

# Read once, as torch is imported: where the cores are busy, threads of a training that spin while they wait for each
# other take three times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import json
import logging
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import pytest
import torch
from lab import Lab
from runs_apart import COUNT, tables
from schemas import complaints, misfits

from wbc_cli.cli import main
from wbc_cli.model.config import ModelConfig
from wbc_cli.model.network import SGCLDFF
from wbc_cli.model.saliency import SaliencyPrior
from wbc_cli.model.storage import save
from wbc_cli.run.stopping import STOP_SIGNALS

# The same examples on every machine, however busy it is.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("suite")

# As many tests run side by side as there are cores: threads beside each of them would only wait for each other.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start

# The files that take longest come first, lest one of them be left to one core in the end.
LONGEST = [
    f"test_{name}.py" for name in ("slurm_real", "training", "processes", "resuming", "stopping", "acquisitions")
]

TOY_UM_PER_PX = 0.2
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


def pytest_collection_modifyitems(items):
    """Put the tests of the longest files first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@dataclass(frozen=True)
class Outcome:
    """What a call of the program came to."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def every_record_fits_its_schema(tmp_path_factory):
    """Hold all slide.json and run.json that the tests of this process have had written against their schemas."""
    yield
    assert misfits(tmp_path_factory.getbasetemp()) == {}


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the program in this process: `call("analyze", folder)`; what it prints as JSON has to fit its schema."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    signals = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wbc-cli", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        outcome = Outcome(int(stopped.value.code or 0), *capsys.readouterr())
        if arguments[0] == "analyze" and "--json" in arguments and outcome.out:
            assert complaints("summary", json.loads(outcome.out)) == []
        return outcome

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    for number, handler in signals.items():
        signal.signal(number, handler)


# For `sabotage`: a worker that needs the network fails.
NO_NETWORK = """
import sys
if "wbc_cli.run.worker" in " ".join(sys.orig_argv):
    import wbc_cli.run.loading
    def load_analyser(*_):
        raise SystemError("no network was to be loaded")
    wbc_cli.run.loading.load_analyser = load_analyser
"""


@pytest.fixture
def sabotage(monkeypatch, tmp_path):
    """Have every Python process that is started from now on run some lines first: `sabotage("import os; ...")`."""

    def prepare(lines):
        folder = tmp_path / "sabotage"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(lines)
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    return prepare


@pytest.fixture(scope="session")
def dark_prior():
    """A prior that finds what is darker than its surroundings: a mean over 3 x 3 pixels, nothing trained."""
    prior = SaliencyPrior().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.zero_()
        prior.stem[0].weight[0, :3] = 1 / 27
        prior.widen[0].weight[0, 0] = 1
        for layers in (prior.stem, prior.widen):
            layers[1].weight.fill_(1)
        prior.weight[0], prior.bias[()] = 16, -4  # steep: windows with a spot are salient enough for cells
    return prior


@pytest.fixture(scope="session")
def toy_network(dark_prior):
    """A network that looks at dark spots and takes each whole window for one cell, a neutrophil."""
    torch.manual_seed(0)
    # Its cells are windows, most of which is pale.
    network = SGCLDFF(ModelConfig(min_confidence=0.0, saliency_threshold=0.03)).eval()
    network.prior.load_state_dict(dark_prior.state_dict())
    with torch.no_grad():
        network.segmentation.out.weight.zero_()
        network.segmentation.out.bias.copy_(torch.tensor([0.0, 4.0, 2.0, 0.0, 0.0]))
        network.types.classify.bias[0] += 3.0
    return network


@pytest.fixture(scope="session")
def toy_weights(toy_network, tmp_path_factory):
    """The folder of the toy network's weights."""
    folder = tmp_path_factory.mktemp("weights")
    save(toy_network, toy_network.config, folder)
    return folder


def spots(*places, width=480, height=200, radius=25):
    """A pale picture with dark discs at the places (x, y): uint8 [height, width, 3]."""
    rgb = np.full((height, width, 3), (236, 224, 216), np.uint8)
    for place in places:
        cv2.circle(rgb, place, radius, (96, 60, 140), -1)
    return rgb


def write_picture(path: Path, rgb: np.ndarray) -> Path:
    """Write RGB pixels by the path's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return path


@pytest.fixture(scope="session")
def eight_pictures(tmp_path_factory):
    """Pictures with one cell more on each than on the one before, but never more than three."""
    folder = tmp_path_factory.mktemp("eight")
    for number in range(COUNT):
        places = [(100 + 130 * i, 100) for i in range(1 + number % 3)]
        write_picture(folder / f"s{number}.png", spots(*places))
    return folder


@pytest.fixture
def command(eight_pictures, toy_weights):
    """The command of an analysis."""

    def arguments(out, *more, source=eight_pictures):
        common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "none")
        return [*map(str, (sys.executable, "-m", "wbc_cli.cli", "analyze", source, "-o", out, *common, *more))]

    return arguments


@pytest.fixture
def analyze_apart(command):
    """Run an analysis to its end, in a process of its own."""

    def run(out, *more, **source):
        return subprocess.run(command(out, *more, **source), capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def undisturbed(eight_pictures, toy_weights, tmp_path_factory):
    """The tables of a run that nothing disturbed, by name."""
    out = tmp_path_factory.mktemp("undisturbed")
    common = ("--weights", toy_weights, "--mpp", TOY_UM_PER_PX, "--device", "cpu", "--write", "none", "-q")
    arguments = (sys.executable, "-m", "wbc_cli.cli", "analyze", eight_pictures, "-o", out, *common)
    subprocess.run([*map(str, arguments)], check=True, capture_output=True)
    return tables(out)


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A Chromium without a window; its downloads go to `browser.downloads`."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs the Debian packages chromium and chromium-driver")
    from selenium import webdriver  # noqa: PLC0415 - the other tests do without

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.downloads = tmp_path_factory.mktemp("downloads")
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(driver.downloads)})
    yield driver
    driver.quit()
