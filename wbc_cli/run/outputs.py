"""What a run leaves beside the slides' folders: tables, report and run.json."""

from __future__ import annotations

from typing import Any

import wbc_cli
from wbc_cli.profile.file import read_profile
from wbc_cli.run.execution import Run
from wbc_cli.run.reviews import kept_review
from wbc_cli.run.stopping import Stop


def write_outputs(run: Run, stop: Stop, seconds: float) -> None:
    """Write the tables, the report and run.json, but where they stand; a shard leaves all but the last to `merge`.

    Args:
        run: at its end.
        stop: whether a signal has come.
        seconds: wall time.

    Raises:
        SetupError: the run folder cannot be written.
    """
    record, folder, options = _run_record(run, stop, seconds), run.folder, run.options
    if options.shard:
        folder.write_run(record, run.records, f"run-{options.shard.label}.json")
        return
    review, problem = kept_review(folder, run.records)
    if problem:
        run.terminal.note(f"the reviews do not count: {problem}")
        record["review"] = {"problem": problem}
    elif review:
        record["review"] = review.log.summary
    if folder.stands(record, run.records):
        return
    records = folder.with_overlaps(run.records)
    folder.write_tables(records, options.stop_width)
    if "report" in options.write:
        folder.write_report(record, records, review, problem)
    else:
        folder.remove_report()
    folder.write_run(record, run.records)


def _run_record(run: Run, stop: Stop, seconds: float) -> dict[str, Any]:
    profile = run.options.compute.profile
    return {
        "tool": "wbc-cli",
        "version": wbc_cli.__version__,
        "weights_sha256": run.plan.model["weights"],
        "status": "stopped" if stop else "finished",
        "left": run.left,
        "not_in_input": run.absent,
        "unread": dict(run.unread),
        "skipped": [{"path": str(path), "reason": reason} for path, reason in run.discovery.skipped],
        "options": run.options.to_dict(),
        **({"profile": read_profile(profile).summary()} if profile else {}),
        "used": run.runtime or next((r["used"] for r in run.records if "used" in r), None),
        "seconds": round(seconds, 2),
    }
