"""The pause that a caller sees when the server dies (kill -9) and over an upgrade: the part "takeover" of the benchmark.

The kernel knows so many files of the share when the server is killed, again and again. What is asked is a name that was never
asked for, so that the kernel cannot answer by itself.
"""

import json
import os
import signal
import statistics
import time

from daemons import BerthProxy, wait_until
from share import image

FILES_A_DIRECTORY = 200
# How many nodes the kernel knows, and the greatest p99 that is good, in ns.
KNOWN = {10: None, 1_000: 50e6, 100_000: 250e6}
KILLS_A_ROUND = 10


class BerthThatDies(BerthProxy):
    name = "berth-that-dies"
    settings = "crash_limit = 1000000\n"
    kills = 0

    def server(self):
        return json.loads((self.root / ".berth/status.json").read_text(encoding="utf-8"))["server_pid"]

    def kill(self):
        server = self.server()
        self.kills += 1
        os.kill(server, signal.SIGKILL)

    def upgrade(self):
        """To the same program; the next server answers."""
        self.kills += 1
        (self.root / ".berth/control").write_text("upgrade\n")
        self.await_takeover()

    def await_takeover(self):
        wait_until("the next server serves", self.has_taken_over)

    def has_taken_over(self):
        return (self.work / "log").read_text(errors="replace").count("has taken over") == self.kills


def make_files(directory, count):
    for number in range(count):
        if number % FILES_A_DIRECTORY == 0:
            inner = directory / f"d{number // FILES_A_DIRECTORY:04}"
            inner.mkdir(parents=True)
        os.mknod(inner / f"f{number}", 0o100644)


def look_up(path):
    """How long it takes to hear that there is none."""
    start = time.perf_counter_ns()
    try:
        os.stat(path)
    except FileNotFoundError:
        return time.perf_counter_ns() - start
    raise FileExistsError(path)


class Loop:
    """A process that looks up one name after another, and tells the longest that one took since it was last asked."""

    def __init__(self, share):
        self.questions, asked = os.pipe()
        answers, self.answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.set_blocking(self.questions, False)
            self.work(share)
        self.asked, self.answers = asked, answers

    def work(self, share):
        longest, number = 0, 0
        while True:
            longest, number = max(longest, look_up(share / f"loop-{number}")), number + 1
            try:
                os.read(self.questions, 1)
            except BlockingIOError:
                continue
            os.write(self.answer, longest.to_bytes(8, "little"))
            longest = 0

    def longest(self):
        os.write(self.asked, b"?")
        return int.from_bytes(os.read(self.answers, 8), "little")

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        for end in (self.questions, self.asked, self.answers, self.answer):
            os.close(end)


def kill_and_look(daemon, kills):
    taken = []
    for number in range(kills):
        daemon.kill()
        taken.append(look_up(daemon.share / f"none-{number}"))
        daemon.await_takeover()
    return taken


def succeed_under_a_loop(daemon, times, succeed):
    loop = Loop(daemon.share)
    taken = []
    try:
        for _ in range(times):
            loop.longest()
            succeed()
            taken.append(loop.longest())  # once the request that was under way is over
    finally:
        loop.end()
    return taken


def kill_under_a_loop(daemon, kills):
    def kill():
        daemon.kill()
        daemon.await_takeover()

    return succeed_under_a_loop(daemon, kills, kill)


def upgrade_under_a_loop(daemon, upgrades):
    return succeed_under_a_loop(daemon, upgrades, daemon.upgrade)


# When an upgrade lets go of the old server is its own affair, so nothing can be begun right after it.
SERIES = {
    "kill -9 with {} nodes, look-up begun right after it": kill_and_look,
    "kill -9 with {} nodes, longest of a loop of look-ups": kill_under_a_loop,
    "upgrade with {} nodes, longest of a loop of look-ups": upgrade_under_a_loop,
}


def measure(bench, add):
    """Calls `add(what, value, limit)` for each number, in ns."""
    kills = bench.rounds * KILLS_A_ROUND
    with image(bench.work) as mountpoint:
        for known, limit in KNOWN.items():
            source = mountpoint / str(known)
            make_files(source, known)
            daemon = BerthThatDies(bench.work / f"takeover-{known}", source, bench.options.berth)
            try:
                bench.client("run_time", lines=[f"find {daemon.share} -newermt 2100-01-01"])
                for what, work in SERIES.items():
                    taken = sorted(work(daemon, kills))
                    title = what.format(f"{known:,}")
                    add(f"{title}: median", statistics.median(taken), None)
                    add(f"{title}: p99", taken[-(-len(taken) * 99 // 100) - 1], limit)
                    add(f"{title}: worst of {len(taken)}", taken[-1], None)
            finally:
                daemon.stop()
