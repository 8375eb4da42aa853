"""What shares that do not answer cost the others: the part "hang" of the benchmark.

Twenty shares of sshfs over a pipe, and twenty healthy shares beside them. All is measured with nothing hung, and again with the other
sides of the twenty stopped (SIGSTOP) and callers in each of them. The two take turns.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections import defaultdict
from pathlib import Path

from daemons import Berth

SHARES = 20
CALLERS = 15  # in each hung share
SAMPLES = 1000  # of each operation, a turn
AT_MOST = 1.5  # of the p99 with nothing hung
PIPE = """#!/bin/sh
BERTH_BENCH_SHARE=hung
export BERTH_BENCH_SHARE
exec /usr/lib/openssh/sftp-server
"""


class BerthBeside(Berth):
    """Shares "h0", "h1", ... of a directory, and "r0", "r1", ... of sshfs."""

    name = "berth-beside"

    def __init__(self, bench, near, far):
        pipe = bench.work / "pipe"
        pipe.write_text(PIPE)
        pipe.chmod(0o755)
        self.settings = "".join(
            f'[share.r{number}]\ntype = "fuse.sshfs"\nsource = "root@host{number}:{far}"\n'
            f'options = "allow_other,cache=no,attr_timeout=0,entry_timeout=0,ssh_command={pipe}"\nattr_timeout = "0"\n'
            for number in range(SHARES)
        )
        healthy = {f"h{number}": near for number in range(SHARES)}
        super().__init__(bench.work, healthy, bench.options.berth, 'access = "proxy"\nattr_timeout = "0"\n')

    @staticmethod
    def signal_other_sides(number):
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and b"BERTH_BENCH_SHARE=hung" in (process / "environ").read_bytes():
                    if b"sftp-server" in (process / "cmdline").read_bytes():
                        os.kill(int(process.name), number)

    @contextlib.contextmanager
    def hung(self):
        self.signal_other_sides(signal.SIGSTOP)
        callers = []
        try:
            for number in range(SHARES):
                file = self.root / f"r{number}/hello"
                callers += [subprocess.Popen(["stat", file], stdout=subprocess.DEVNULL) for _ in range(CALLERS)]
            time.sleep(1)
            yield
        finally:
            self.signal_other_sides(signal.SIGCONT)
            for caller in callers:
                caller.wait()


def read(path):
    with open(path, "rb") as file:
        file.read()


def samples(daemon):
    """Of each operation, in ns."""
    root = daemon.root
    file = root / "h0/hello"
    operations = {
        "stat": lambda: os.stat(file),
        "open-read-close": lambda: read(file),
        "reading a state": lambda: read(root / ".berth/shares/h0/state"),
    }
    taken = {what: [timed(operation) for _ in range(SAMPLES)] for what, operation in operations.items()}
    taken["first access"] = []
    for _ in range(10):
        idle = [f"h{number}" for number in range(1, SHARES)]
        daemon.make_idle(idle)
        taken["first access"] += [timed(lambda share=share: read(root / share / "hello")) for share in idle]
    return taken


def timed(operation):
    start = time.perf_counter_ns()
    operation()
    return time.perf_counter_ns() - start


def measure(bench, add):
    """Calls `add(what, with nothing hung, with all hung, at_most)` for the p99 of each operation, in ns."""
    far = bench.work / "far"
    far.mkdir()
    (far / "hello").write_text("hello\n")
    daemon = BerthBeside(bench, bench.sources[0], far)
    try:
        for number in range(SHARES):
            read(daemon.root / f"r{number}/hello")
        quiet, hung = defaultdict(list), defaultdict(list)
        for _ in range(bench.rounds):
            for what, taken in samples(daemon).items():
                quiet[what] += taken
            with daemon.hung():
                for what, taken in samples(daemon).items():
                    hung[what] += taken
        for what, taken in quiet.items():
            add(f"{what}, p99", p99(taken), p99(hung[what]), AT_MOST)
    finally:
        daemon.stop()


def p99(taken):
    return statistics.quantiles(taken, n=100)[98]
