"""What surviving the death of the server costs on the way to files: the part "survival" of the benchmark.

Two berths serve a directory each of one file system: one as it is, and one that keeps nothing for a successor (its tables in memory
of its own, no request noted). They take turns, a measurement each, and which is first alternates.
"""

import os
import statistics
import sys
from collections import defaultdict

from daemons import BerthProxy
from share import image

MILLISECONDS = 200  # of each measurement
TURNS_A_ROUND = 10
# What is measured (workload.cc): what it prints, and whether the cost is bounded.
WORKLOADS = {"open-read-close": {"open-read-close": True}, "names": {"create": True, "rename": False, "unlink": False}}
MOST = 1.03  # of the time without


class BerthWithout(BerthProxy):
    name = "berth-without"

    def spawn(self, *argv):
        os.environ["BERTH_NO_SURVIVAL"] = "1"
        try:
            super().spawn(*argv)
        finally:
            del os.environ["BERTH_NO_SURVIVAL"]


def measure(bench, add):
    """Calls `add(what, without, with_it, at_most)` for each operation, in ns."""
    if b"BERTH_NO_SURVIVAL" not in bench.options.berth.read_bytes():
        sys.exit(f"survival: {bench.options.berth} has no such switch; build one with -Dcrash_points=true and give it to --berth")
    with image(bench.work) as mountpoint:
        running = []
        try:
            for kind in (BerthWithout, BerthProxy):
                source = mountpoint / kind.name
                source.mkdir()
                bench.client("workload", "prepare", 1, source)
                running.append(kind(bench.work / "survival", source, bench.options.berth))
            taken = take_turns(bench, running, bench.rounds * TURNS_A_ROUND)
        finally:
            for daemon in running:
                daemon.stop()
    for operations in WORKLOADS.values():
        for operation, bounded in operations.items():
            without, with_it = (statistics.median(taken[operation, daemon.name]) for daemon in running)
            add(f"{operation}: median of {bench.rounds * TURNS_A_ROUND}", without, with_it, MOST if bounded else None)


def take_turns(bench, running, turns):
    taken = defaultdict(list)
    for turn in range(turns):
        for workload in WORKLOADS:
            for daemon in running if turn % 2 == 0 else reversed(running):
                for line in bench.client("workload", workload, 1, MILLISECONDS, daemon.share):
                    name, operations, nanoseconds = line.split()
                    taken[name, daemon.name].append(int(nanoseconds) / int(operations))
    return taken
