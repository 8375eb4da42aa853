"""The catalog: reloads of many shares, look-ups of what templates make, executable maps beside automount, and the memory of an idle share."""

import contextlib
import os
import statistics
import time

from daemons import Autofs, Berth, Daemon

SHARES = 10_000
FEW = 1_000
LOOK_UPS = 500
KEYS = 50  # of the executable map, in each round
RELOAD = 1_000_000_000  # ns
MEMORY_OF_SHARE = 600  # bytes beside its text

MAP = """#!/bin/sh
echo "-fstype=bind :{source}"
"""


class Configured(Berth):
    """berth with the text of a configuration."""

    def __init__(self, work, text, program):
        Daemon.__init__(self, work)
        self.configuration = self.work / "berth.toml"
        self.configuration.write_text(text)
        self.spawn(program, "serve", "--config", self.configuration, "--namespace", self.root, "--state-dir", self.work / "state")

    def reload(self, text):
        """In nanoseconds, from the question to the answer."""
        self.configuration.write_text(text)
        begin = time.monotonic_ns()
        (self.root / ".berth/control").write_text("reload\n")
        return time.monotonic_ns() - begin


class ProgramAutofs(Autofs):
    """automount with an executable map."""

    def __init__(self, work, program):
        Daemon.__init__(self, work)
        (self.work / "master").write_text(f"{self.root} program:{program}\n")
        self.spawn("automount", "-f", "-C", "-t", "3600", "-p", self.work / "pid", self.work / "master")


def shares_text(count, source="/srv", idle="1h"):
    return f'[berth]\nidle_timeout = "{idle}"\n' + "".join(
        f'[share.share-{number:06}]\ntype = "bind"\nsource = "{source}/{number:06}"\n' for number in range(count)
    )


def reloads(bench, add):
    one, all_of_them = [], []
    daemon = Configured(bench.work / "reload", shares_text(SHARES), bench.options.berth)
    try:
        for turn in range(bench.rounds):
            daemon.reload(shares_text(SHARES, idle=f"{turn + 2}h"))
            one.append(daemon.reload(shares_text(SHARES, idle=f"{turn + 2}h") + f'[share.added-{turn}]\ntype = "tmpfs"\n'))
            all_of_them.append(daemon.reload(shares_text(SHARES, f"/srv/{turn}", idle=f"{turn + 2}h")))
        if len(os.listdir(daemon.root)) < SHARES:
            raise RuntimeError("berth does not list its shares after a reload")
    finally:
        daemon.stop()
    add(f"reload of {SHARES:,} shares, one added: median", "ns", None, statistics.median(one), limit=RELOAD)
    add(f"reload of {SHARES:,} shares, each changed: median", "ns", None, statistics.median(all_of_them), limit=RELOAD)


def look_ups(bench, add):
    homes = bench.work / "homes"
    for number in range(LOOK_UPS):
        (homes / f"user-{number:04}").mkdir(parents=True)
    daemon = Configured(bench.work / "template", f'[share."home/*"]\ntype = "bind"\nsource = "{homes}/&"\n', bench.options.berth)
    took = []
    try:
        for number in range(LOOK_UPS):
            path = daemon.root / "home" / f"user-{number:04}"
            begin = time.monotonic_ns()
            os.stat(path)
            took.append(time.monotonic_ns() - begin)
    finally:
        daemon.stop()
    add("first look-up of what a template makes: median", "ns", None, statistics.median(took))


def program_maps(bench, add):
    """The first access through an executable map, each key once."""
    program = bench.work / "map"
    program.write_text(MAP.format(source=bench.sources[0]))
    program.chmod(0o755)
    samples = {"autofs": [], "berth": []}
    for turn in range(bench.rounds):
        with contextlib.ExitStack() as stack:
            place = bench.work / f"program-{turn}"
            running = [ProgramAutofs(place, program)]
            stack.callback(running[0].stop)
            text = f'[share."*"]\nprogram = ["{program}", "{{key}}"]\n'
            running.append(Configured(place, text, bench.options.berth))
            stack.callback(running[1].stop)
            for daemon in running if turn % 2 == 0 else reversed(running):
                samples[daemon.name] += bench.touch("one-by-one", [daemon.path(f"key-{number}") / "hello" for number in range(KEYS)])
                time.sleep(0.2)
    autofs, berth = (statistics.median(samples[name]) for name in ("autofs", "berth"))
    add("first access through an executable map: median", "ns", autofs, berth)


def memory(bench, add):
    idle, listed = [], []
    for count in (FEW, FEW + SHARES):
        daemon = Configured(bench.work / f"memory-{count}", shares_text(count), bench.options.berth)
        try:
            time.sleep(3)  # what the start alone needed has been given back
            idle.append(daemon.memory()[1])
            if len(os.listdir(daemon.root)) < count:
                raise RuntimeError("berth does not list its shares")
            time.sleep(3)
            listed.append(daemon.memory()[1])
        finally:
            daemon.stop()
    text = len("share-000000") + len("/srv/000000")
    of_share = lambda few, many: (many - few) * 1024 / SHARES - text
    add(f"memory for each of {SHARES:,} idle shares, beside its text", "B", None, of_share(*idle), limit=MEMORY_OF_SHARE)
    add("the same when a program has listed them", "B", None, of_share(*listed))


def measure(bench, add):
    """`add(what, unit, autofs, berth, limit=None)` takes a row."""
    for part in (reloads, look_ups, program_maps, memory):
        part(bench, add)
