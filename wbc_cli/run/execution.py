"""Having the slides of a plan done, and what becomes of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from wbc_cli.acquisition.grouping import pictures_by_folder
from wbc_cli.errors import SetupError
from wbc_cli.products.folder import RunFolder
from wbc_cli.products.tables import DONE, FAILED, NOT_IN_INPUT
from wbc_cli.run.job import Event, Job, Order
from wbc_cli.run.options import AnalyzeOptions
from wbc_cli.run.plan import Plan, absent
from wbc_cli.run.samples import Samples
from wbc_cli.run.stopping import Stop
from wbc_cli.run.supervisor import Supervisor
from wbc_cli.slides.discover import Discovery, SlideSource, file_size
from wbc_cli.terminal.console import Terminal
from wbc_cli.terminal.progress import RunProgress, run_progress

_BYTES_A_PROCESS = 64 << 20  # of files; of less a process and four cores are done before another has loaded torch
# Of pictures there are many to a process, and one for each core does the most: two on two cores 1.3 times as much as
# one with both. A slide is done by one process, so that the last slides of a run would have a core each; of four cores
# the interpreter's lock is held half of the time, 0.135 for each core at work.
_CORES_FOR_PICTURES, _CORES_FOR_SLIDES = 1, 4


class Run:
    """Has a plan's slides done and keeps account of what becomes of them.

    Attributes:
        records: of the slides that are done or have failed, by name.
        kept: names of those whose earlier results stand.
        absent: the names, in their order, of those of them whose files are not in the input any more.
        unread: see Discovery.
        runtime: what the workers ran on; None where there was nothing to do.
    """

    def __init__(
        self,
        options: AnalyzeOptions,
        folder: RunFolder,
        plan: Plan,
        samples: Samples,
        terminal: Terminal,
        discovery: Discovery,
    ) -> None:
        self.options, self.folder, self.plan, self.samples, self.terminal = options, folder, plan, samples, terminal
        self.records = plan.kept.copy()
        self.kept = set(plan.kept.names())
        self.absent: list[str] = []
        self.discovery, self.unread = discovery, discovery.unread
        self.runtime: dict[str, Any] | None = None

    @property
    def left(self) -> list[str]:
        """The names of the slides that are neither done nor have failed, in their order."""
        return sorted(name for name in self.plan.slides if name not in self.records)

    def do(self, stop: Stop, locks: tuple[int, ...], log_level: int) -> None:
        """Have done what is to be done.

        Raises:
            SetupError, UsageError: as the workers say.
        """
        missing = {name: slide for name, slide in self.plan.slides.items() if name not in self.plan.kept}
        if not missing:
            return
        able = {name: slide for name, slide in missing.items() if not slide.problem}
        sizes = {name: file_size(slide.path) for name, slide in missing.items()}
        with run_progress(self.terminal, sizes) as progress:

            def on_event(event: Event) -> None:
                match event["event"]:
                    case "ready":
                        self.runtime = event["runtime"]
                    case "watch":
                        progress.watch(event["slide"], event["done"], event["planned"], event["cells"])
                    case "kept":
                        self.kept.add(event["slide"])
                        self._finished(event["slide"], progress)
                    case "done" | "failed":
                        self._finished(event["slide"], progress)

            def on_failure(name: str, reason: str) -> None:
                path = missing[name].path
                key = self.samples.keys.get(name)
                provenance = {"source": str(path.absolute()), "model": self.plan.model, "sample": key}
                self.folder.record_failure(name, path, reason, provenance)
                self._finished(name, progress)

            for name in missing.keys() - able.keys():
                on_failure(name, missing[name].problem)
            job = self._job(able, sum(sizes[name] for name in able), log_level)
            Supervisor(job, able, self._order, stop, locks, on_event, on_failure).run()

    def _job(self, able: Mapping[str, SlideSource], size: int, log_level: int) -> Job:
        processes = self.options.processes
        pictures = pictures_by_folder(self.discovery.slides, able.values(), self.samples.um_per_px)
        plain = {picture.name for found in pictures.values() for picture in found}
        return Job(
            out=str(self.folder.out),
            scratch=str(self.folder.scratch),
            pictures=pictures,
            unmeasurable=[],
            unknown=bool(able.keys() - self.plan.known.keys()),
            model=self.plan.model,
            um_per_px=self.options.um_per_px,
            write=sorted(self.options.write),
            exhaustive=self.options.exhaustive,
            compute=self.options.compute.to_dict(),
            processes=processes and max(1, min(processes, len(able))),
            most_processes=max(1, min(size // _BYTES_A_PROCESS, len(able))),
            cores_a_process=_CORES_FOR_PICTURES if able.keys() <= plain else _CORES_FOR_SLIDES,
            locks=None,
            alone=False,
            time_limit=self.options.time_limit,
            log_level=log_level,
        )

    def _order(self, name: str) -> Order:
        slide = self.plan.slides[name]
        return Order(
            name=name,
            files=[str(file) for file in slide.files],
            field=slide.field,
            known=self.plan.known.get(name),
            sample=self.samples.keys.get(name),
            um_per_px=self.samples.um_per_px.get(name),
        )

    def revise(self, plan: Plan) -> None:
        """Take up what another look at kept slides says: those that do not stand any more are to be done after all."""
        for name in plan.slides:
            if name not in plan.kept:
                self.records.remove(name)
                self.kept.discard(name)
        self.plan = replace(self.plan, kept=self.records.copy(), known=plan.known)

    def _finished(self, name: str, progress: RunProgress) -> None:
        record = self.folder.record(name)
        if record is None:
            raise SetupError(f"{self.folder.slides / name}: what was written there is gone; run again to go on")
        self.records.add(record)
        if record["status"] != DONE:
            self.terminal.note(f"{record['status']} {record['path']}: {record['reason']}")
        progress.finish(name, 0 if record["status"] == FAILED else record["differential"]["cells"])

    def keep_absent(self, mine: Callable[[str], bool], stop: Stop) -> None:
        """Keep the rows of slides whose files have left the input, or take them out if that is wished.

        Args:
            mine: whether a slide, by its name, is one of this shard's.
            stop: whether a signal has come: then nothing is taken out.

        Raises:
            SetupError: the run folder cannot be read or written.
        """
        present = self.discovery.slides
        whole = not any(slide.problem for slide in present)
        if self.options.prune and not whole:
            self.terminal.note("nothing is pruned, as a part of the input cannot be read")
        elif self.options.prune and not stop:
            for name in set(self.folder.names()) - {slide.name for slide in present}:
                self.folder.remove_slide(name)
        for record in absent(self.folder, present, self.records):
            if mine(record["name"]):
                self.records.add(record)
                self.absent.append(record["name"])
        self.kept.update(self.absent)
        if self.absent:
            self.terminal.note(
                f"slides that are not in the input any more: {len(self.absent)}; their rows stay, with the flag "
                f"{NOT_IN_INPUT}, until --prune takes them out"
            )
