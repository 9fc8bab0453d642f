"""`analyze`, `merge` and `slurm`: runs over many slides."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from wbc_cli.commands.options import (
    BatchSize,
    Device,
    MinConfidence,
    Precision,
    PrecisionName,
    Processes,
    ProfileFile,
    Quiet,
    Verbose,
    Weights,
    Workers,
    auto_or_number,
    compute_options,
    log_level,
    products,
    terminal_of,
)
from wbc_cli.errors import SetupError, UsageError
from wbc_cli.products.constants import STOP_WIDTH
from wbc_cli.products.registry import PRODUCT_NAMES, PRODUCTS, USUAL_PRODUCTS
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.samples import BY_FOLDER, NO_SAMPLES
from wbc_cli.run.shards import Shard
from wbc_cli.run.slurm import PROGRAM, Resources, batch_script
from wbc_cli.run.stopping import stopping
from wbc_cli.slides.formats import PICTURES, SLIDES
from wbc_cli.slides.watchdog import TIME_LIMIT

_SCRIPTS_OWN = frozenset({"--shard", "--restart", "--prune", "--out", "-o", "--dry-run"})
_WITH_PATHS = frozenset({"--weights", "--samples", "--profile"})


def analyze(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help=f"Images ({', '.join(own.name for own in PICTURES)}), slides "
            f"({', '.join(own.name for own in SLIDES)}), folders (walked), or a .txt or .csv list of them."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("wbc-results"),
    mpp: Annotated[
        float | None,
        typer.Option(min=0.01, max=10, help="Micrometres a pixel, for files that do not say or say it wrong."),
    ] = None,
    write: Annotated[
        str,
        typer.Option(
            help=f"Products to write beside the tables, of {','.join(PRODUCT_NAMES)}; or none. "
            f"{' '.join(product.note for product in PRODUCTS if product.note)}"
        ),
    ] = ",".join(USUAL_PRODUCTS),
    min_confidence: MinConfidence = None,
    profile: ProfileFile = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Look closely everywhere, not only where the saliency prior points.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Do all slides anew, and not only what is missing or has changed.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out the results of slides whose files are not among PATHS any more.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I (from 0) of N; `merge` joins the parts.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds without progress after which a slide is given up.")
    ] = TIME_LIMIT,
    samples: Annotated[
        str,
        typer.Option(
            metavar="folder|FILE.csv|none",
            help="What is one sample: the pictures of a folder, or what a table with the columns path, sample and "
            "(if known) mpp says.",
        ),
    ] = BY_FOLDER,
    stop_width: Annotated[
        float,
        typer.Option(min=1, max=100, help="Percentage points that the widest interval of a sample may have."),
    ] = STOP_WIDTH,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the slides that would be analysed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A summary as JSON on standard output.")] = False,
    device: Device = "auto",
    precision: Precision = PrecisionName.auto,
    weights: Weights = None,
    batch_size: BatchSize = "auto",
    workers: Workers = None,
    processes: Processes = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Count the white cells of every image and slide under PATHS.

    Writes differential.csv, cells.csv, run.json, report.html, and for each slide a mask, an overlay and an explanation
    sheet.
    """
    _see_folder(out)
    terminal = terminal_of(quiet, verbose)
    compute = compute_options(device, precision, weights, batch_size, workers, min_confidence, profile)
    part = Shard.parse(shard) if shard else None
    if part and prune:
        raise UsageError("--prune: a shard does not know the others' slides; prune in a run without --shard")
    choice = AnalyzeOptions(
        tuple(paths),
        out,
        mpp,
        products(write),
        exhaustive,
        compute,
        restart,
        prune,
        part,
        time_limit,
        samples,
        stop_width,
        auto_or_number("--processes", processes),
    )
    with stopping() as stop:  # from the first moment on: schedulers do not wait for imports
        from wbc_cli.run import analyze as analysis  # noqa: PLC0415 - it takes a second, which `--help` must not

        if dry_run:
            for slide in analysis.find_slides(choice, terminal).slides:
                if slide.problem:
                    terminal.note(slide.problem)
                else:
                    terminal.out.print(slide.path, markup=False, highlight=False, soft_wrap=True)
            return
        summary = analysis.analyze(choice, terminal, stop, log_level(quiet, verbose))
        if as_json:
            terminal.out.print_json(json.dumps(summary.to_dict()))
        else:
            terminal.out.print(summary.table())
        kept = f" ({summary.kept} of them before)" if summary.kept else ""
        terminal.note(f"slides done: {len(summary.done)}{kept}, failed: {len(summary.failed)}; results in {out}")
        if summary.left:
            terminal.note(f"stopped with {summary.left} slides left; the same command goes on from here")
        raise typer.Exit(summary.exit_code)


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `analyze -o` wrote, or one with shards.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what they have together; may be one of them.")],
    review: Annotated[
        list[Path] | None,
        typer.Option(help="CSV of corrections (slide, cell, class), as the report saves it; may be repeated."),
    ] = None,
    reviewer: Annotated[
        str | None,
        typer.Option(help="Who signs, and who made corrections that do not say whose they are; else your account."),
    ] = None,
    sign: Annotated[
        list[str] | None,
        typer.Option(metavar="SLIDE", help="Sign the reviewed slide, or all that fit a pattern; may be repeated."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Join the tables of several runs, or of the shards of one, as if all had been done at once.

    With --review or --sign enters who said what, and when, into review-log.jsonl, and writes differential-reviewed.csv:
    for every slide that the corrections name, which counts as reviewed in full, the counts before and after, and their
    agreement (Cohen's kappa); and reviewers.csv, where two have reviewed the same slide.
    """
    from wbc_cli.run.merge import merge as join  # noqa: PLC0415 - it takes a second, which `--help` must not
    from wbc_cli.run.reviews import NewReview  # noqa: PLC0415

    _see_folder(out)
    terminal = terminal_of(quiet, False)
    merged = join(runs, out, NewReview(review or (), sign or (), reviewer))
    for what in merged.review.in_words if merged.review else ():
        terminal.note(what)
    for what in merged.missing:
        terminal.note(f"missing: {what}")
    terminal.note(f"slides: {merged.slides}, failed: {merged.failed}; tables in {out}")
    raise typer.Exit(merged.exit_code)


def slurm(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH... [-- OPTION...]", help="As for `analyze`; its options follow after two hyphens."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("wbc-results"),
    tasks: Annotated[int, typer.Option(min=1, help="Shards, each a task of the array.")] = 16,
    gpus: Annotated[int | None, typer.Option("--gpus-per-task", min=0, help="GPUs of each task.")] = None,
    cpus: Annotated[int | None, typer.Option("--cpus-per-task", min=1, help="Cores of each task.")] = None,
    time: Annotated[
        str | None, typer.Option(help="Time limit of a task, as sbatch takes it; it goes on after it.")
    ] = None,
    mem: Annotated[str | None, typer.Option(help="Memory of a task, as sbatch takes it, such as 16G.")] = None,
) -> None:
    """Print a batch script for Slurm: an array of tasks, each with its shard, and the merge after them.

    wbc-cli slurm ./slides -o results --tasks 16 --gpus-per-task 1 -- --mpp 0.25 > job.sh && sbatch job.sh
    """
    count = next((i for i, word in enumerate(paths) if word.startswith("-")), len(paths))
    places = [Path(path) for path in paths[:count]]
    resources = Resources(gpus, cpus, time, mem)
    sys.stdout.write(batch_script(places, out, tasks, resources, _for_analyze(places, paths[count:])))


def _see_folder(out: Path) -> None:
    """See that no file is where the results go.

    Raises:
        SetupError: one is.
    """
    with suppress(OSError):  # whatever else is wrong with the folder is said by who reads or makes it
        if file := next((place for place in (out, *out.parents) if place.is_file()), None):
            raise SetupError(f"-o {out}: {file} is a file; give a folder, which is made where there is none")


def _for_analyze(paths: list[Path], options: list[str]) -> list[str]:
    """Options of `analyze` for the script, their paths absolute; tried out here and not when the job begins.

    Raises:
        UsageError: the script sets them itself.
        Exit: `analyze` finds no slides, or does not take the options.
    """
    for option in _SCRIPTS_OWN.intersection(word.partition("=")[0] for word in options):
        raise UsageError(f"{option}: the batch script sets this itself or has no use for it; leave it out")
    trial = subprocess.run(
        [*PROGRAM, "analyze", *map(str, paths), "--dry-run", *options], stdout=subprocess.DEVNULL, check=False
    )
    if trial.returncode:
        raise typer.Exit(trial.returncode)  # it has said why
    return [
        str(Path(word).absolute()) if before in _WITH_PATHS and word not in (BY_FOLDER, NO_SAMPLES) else word
        for before, word in zip(["", *options], options, strict=False)
    ]
