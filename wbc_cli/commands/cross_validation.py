"""`cross-validate`: how good the recipe is in laboratories that the model has not seen."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbc_cli.commands.options import Device, terminal_of
from wbc_cli.errors import UsageError

if TYPE_CHECKING:
    from wbc_cli.cross_validation.measuring import Laboratory
    from wbc_cli.model.config import ModelConfig
    from wbc_cli.training.settings import TrainSettings


def cross_validate(
    manifest: Annotated[Path, typer.Argument(help="CSV of labelled images with a split column.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the folds' models and figures, and the table.")],
    fold: Annotated[list[str], typer.Option(help="Data sets to leave out together, joined by commas; once a fold.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value for every fold, as for `train`; may be repeated.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which rows of the left-out sets to measure on; val where a set has none.")
    ] = "test",
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Measure weights that were trained elsewhere: a folder for each fold, in their order."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure every fold anew, as after a change of the program.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Leave-one-group-out cross-validation: train without some data sets, measure on them, in turn.

    Run it again with the same options to go on after a stop: what is trained is not trained again, and what is
    measured is measured again only where the weights or the manifest have changed.
    """
    terminal = terminal_of(False, True)
    from wbc_cli.cross_validation.away import away_tables, write_away  # noqa: PLC0415
    from wbc_cli.cross_validation.folds import held_out_samples, parse_folds, refuse_seen  # noqa: PLC0415
    from wbc_cli.cross_validation.measuring import SCALES, measure_fold  # noqa: PLC0415
    from wbc_cli.manifest import read_manifest  # noqa: PLC0415
    from wbc_cli.model.files import checksum  # noqa: PLC0415
    from wbc_cli.training.settings import apply_settings  # noqa: PLC0415

    config, recipe = apply_settings(settings or ())
    samples = read_manifest(manifest)
    folds = parse_folds(fold, samples)
    if weights and len(weights) != len(folds):
        raise UsageError(f"--weights: {len(weights)} folders for {len(folds)} folds; give one for each, in their order")
    chosen = [held_out_samples(part, samples, split) for part in folds]
    for part, elsewhere in zip(folds, weights or (), strict=False):
        if not refuse_seen(part, elsewhere):
            terminal.note(
                f"{elsewhere}: nothing says what these weights have seen; see that it was not fold {part.number}"
            )
    out.mkdir(parents=True, exist_ok=True)
    measured: dict[str, list[Laboratory]] = {scale: [] for scale in SCALES}
    facts = [f"`{shlex.join(['wbc-cli', *sys.argv[1:]])}`"]
    for index, (part, images) in enumerate(zip(folds, chosen, strict=True)):
        folder = out / f"fold-{part.number}"
        trained = weights[index] if weights else folder
        if not weights:
            _train(manifest, folder, config, recipe, part.held_out, device)
        with terminal.progress(f"fold {part.number}, images") as advance:
            found = measure_fold(part, images, folder, trained, device=device, again=again, progress=advance)
        for scale, laboratories in found.items():
            measured[scale] += laboratories
        facts.append(f"fold {part.number}, without {', '.join(part.held_out)}: weights {checksum(trained)[:8]}")
        left = len(folds) - part.number
        write_away(measured, out, [*facts, f"not finished: {left} more folds are to come"] if left else facts)
        terminal.note(f"fold {part.number} of {len(folds)} is done; the table so far is {out / 'away.md'}")
    for table in away_tables(measured):
        terminal.out.print(table)


def _train(
    manifest: Path, folder: Path, config: ModelConfig, recipe: TrainSettings, exclude: tuple[str, ...], device: str
) -> None:
    """Train a fold's model, or go on with it, unless it is there."""
    import torch  # noqa: PLC0415

    from wbc_cli.inference.engine import choose_device  # noqa: PLC0415
    from wbc_cli.resources.cores import available_cores  # noqa: PLC0415
    from wbc_cli.training.run import is_trained, train  # noqa: PLC0415

    if not is_trained(folder, config, recipe, exclude):
        torch.set_num_threads(available_cores())  # measuring the fold before left one for each pass
        train(manifest, folder, config, recipe, exclude, choose_device(device))
