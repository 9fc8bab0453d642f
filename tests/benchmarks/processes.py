"""Camera fields by 1, 2, 4, ... worker processes, in turns: python tests/benchmarks/processes.py [N].

Writes N (300) synthetic fields of 640 x 480 and analyses them without products, by as many processes as there are
cores at most. Rates are those from the first field's end to the last one's, so that no start is in them, and are
compared with one process in the same round.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from fields import make_fields
from many import GIB, analysed

from wbc_cli.resources.cores import available_cores

ROUNDS = 5


def main(count: int) -> None:
    cores = available_cores()
    numbers = [1 << power for power in range(cores.bit_length())]
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    busy: dict[int, list[float]] = {number: [] for number in numbers}
    memory = dict.fromkeys(numbers, 0)
    with tempfile.TemporaryDirectory() as scratch:
        fields = make_fields(Path(scratch, "fields"), count)
        for turn in range(ROUNDS):
            for number in numbers if turn % 2 else numbers[::-1]:
                before = processor_seconds()
                run = analysed(fields, Path(scratch, f"out-{turn}-{number}"), "--processes", str(number))
                busy[number].append((processor_seconds() - before) / run.seconds)
                rates[number].append(count / float(np.ptp(run.ends)))
                memory[number] = max(memory[number], run.peak)
    for number in numbers:
        gains = [rate / one for rate, one in zip(rates[number], rates[1], strict=True)]
        print(
            f"{number} processes on {cores} cores: {statistics.median(rates[number]):.1f} fields/s, "
            f"{statistics.median(gains):.2f} ({min(gains):.2f}-{max(gains):.2f}) times those of one; "
            f"{statistics.median(busy[number]):.2f} cores at work, memory of all {memory[number] / GIB:.2f} GiB"
        )


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
