#!/usr/bin/env python3
"""Automount units of systemd, autofs and berth on the same directories: what the part "systemd" runs where systemd is PID 1.

usage: beside_systemd.py BUILD ROUNDS MANY

Prints a JSON object a line: "what", "unit", and the number of each subject by its name.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from daemons import Autofs, Berth, Bind, Daemon, kib, mounted_below, wait_until

SHARES = 200
SSHFS_SHARES = 40
UNITS = Path("/run/systemd/system")


class Sshfs:
    """sshfs over a pipe, each share from a server of its own: what it costs without a network."""

    name = "sshfs"

    def __init__(self, work):
        pipe = work / "pipe"
        pipe.write_text("#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n")
        pipe.chmod(0o755)
        self.options = f"allow_other,ssh_command={pipe}"

    def map_entry(self, source):
        return f"-fstype=fuse,{self.options} :sshfs\\#{source.name}\\:{source}"

    def unit(self, source):
        return f"What={source.name}:{source}\nType=fuse.sshfs\nOptions={self.options}\n"

    def section(self, source):
        return f'type = "fuse.sshfs"\nsource = "{source.name}:{source}"\noptions = "{self.options}"\n'


class Systemd(Daemon):
    """An automount unit and a mount unit for each share. It is PID 1, of whose memory what it had before does not count."""

    name = "systemd"

    def __init__(self, work, shares, backend):
        super().__init__(work)
        self.before = self.memory_of_pid1()
        self.units = {}
        for share, source in shares.items():
            where = self.root / share
            where.mkdir()
            unit = str(where).strip("/").replace("/", "-")
            assert unit.count("-") == str(where).count("/") - 1, f"{where} needs escapes (systemd-escape)"
            head = "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n"
            (UNITS / f"{unit}.mount").write_text(f"{head}[Mount]\nWhere={where}\n{backend.unit(source)}")
            (UNITS / f"{unit}.automount").write_text(f"{head}[Automount]\nWhere={where}\n")
            self.units[share] = unit
        self.systemctl("daemon-reload")
        self.systemctl("start", *(f"{unit}.automount" for unit in self.units.values()))

    @staticmethod
    def systemctl(*words):
        subprocess.run(["systemctl", "--quiet", *words], check=True)

    @staticmethod
    def memory_of_pid1():
        return kib("/proc/1/smaps_rollup", "Rss:"), kib("/proc/1/smaps_rollup", "Pss:")

    def memory(self):
        return tuple(now - before for now, before in zip(self.memory_of_pid1(), self.before))

    def make_idle(self, shares):
        self.systemctl("stop", *(f"{self.units[share]}.mount" for share in shares))
        wait_until("the mounts are gone", lambda: mounted_below(self.root) == len(self.units))

    def stop(self):
        self.systemctl("stop", *(f"{unit}.{kind}" for unit in self.units.values() for kind in ("mount", "automount")))
        for unit in self.units.values():
            (UNITS / f"{unit}.mount").unlink()
            (UNITS / f"{unit}.automount").unlink()
        self.systemctl("daemon-reload")


SUBJECTS = [Systemd, Autofs, Berth]


class Beside:
    def __init__(self, build, rounds, many):
        self.build, self.rounds, self.many = build, rounds, many
        self.berth = shutil.which("berth")
        self.work = Path("/srv/bench")
        self.work.mkdir()
        self.sources = []
        for number in range(SHARES):
            source = self.work / "source" / f"d{number:03}"
            source.mkdir(parents=True)
            (source / "hello").write_text("hello\n")
            self.sources.append(source)

    def shares(self, count):
        return {f"s{number:05}": self.sources[number % SHARES] for number in range(count)}

    def client(self, name, *arguments, lines):
        program = self.build / "tests/bench" / f"bench-{name}"
        done = subprocess.run([program, *arguments], input="".join(f"{line}\n" for line in lines), stdout=subprocess.PIPE, text=True, check=True)
        return [int(line) for line in done.stdout.splitlines()]

    @staticmethod
    def tell(what, unit, values):
        print(json.dumps({"what": what, "unit": unit, **values}), flush=True)

    def compare(self, what, samples, statistic):
        self.tell(what, "ns", {name: statistic(taken) for name, taken in samples.items()})

    def started(self, kind, work, shares, backend):
        return kind(work, shares, self.berth, backend=backend) if kind is Berth else kind(work, shares, backend)

    def first_access(self, backend, count):
        shares = self.shares(count)
        paths = lambda daemon: [daemon.path(name) / "hello" for name in shares]
        with contextlib.ExitStack() as stack:
            running = []
            for kind in SUBJECTS:
                running.append(self.started(kind, self.work / backend.name, shares, backend))
                stack.callback(running[-1].stop)
            one_by_one, at_once = defaultdict(list), defaultdict(list)
            for turn in range(self.rounds):
                order = running[turn % len(running):] + running[: turn % len(running)]
                for mode, samples in (("one-by-one", one_by_one), ("at-once", at_once)):
                    for daemon in order:
                        took = self.client("touch", mode, lines=paths(daemon))
                        samples[daemon.name] += took if mode == "one-by-one" else [max(took)]
                        daemon.make_idle(shares)
        what = f"first access of an idle {backend.name} share"
        self.compare(f"{what}: median", one_by_one, statistics.median)
        self.compare(f"{what}: p99", one_by_one, lambda taken: sorted(taken)[-(len(taken) // 100) - 1])
        self.compare(f"{count} {backend.name} shares touched at once, all of them: median", at_once, statistics.median)

    def many_shares(self):
        """One subject after the other: each has the machine for itself. systemd is the last: it takes minutes to stop its units, and ends
        with the container."""
        shares = self.shares(self.many)
        rows = defaultdict(dict)
        for kind in reversed(SUBJECTS):
            begin = time.monotonic_ns()
            daemon = self.started(kind, self.work / "many", shares, Bind())
            try:
                self.client("touch", "one-by-one", lines=[daemon.path("s00000") / "hello"])
                rows["from the start to the first answer", "ns"][kind.name] = time.monotonic_ns() - begin
                time.sleep(3)
                rows["resident memory", "KiB"][kind.name], rows["proportional (PSS)", "KiB"][kind.name] = daemon.memory()
                rows["`ls`: median", "ns"][kind.name] = self.median_time(f"ls {daemon.root}")
                if kind is Systemd:
                    rows["`berth status`, `systemctl list-units`: median", "ns"][kind.name] = self.median_time("systemctl list-units --type=automount")
                if kind is Berth:
                    rows["`berth status`, `systemctl list-units`: median", "ns"][kind.name] = self.median_time(f"{self.berth} status -n {daemon.root}")
                    self.attached(daemon, rows)
            finally:
                if kind is not Systemd:
                    daemon.stop()
        for (what, unit), values in rows.items():
            self.tell(f"{self.many:,} shares, {what}", unit, values)

    def attached(self, daemon, rows):
        """The next start with each of the shares attached."""
        for share in self.shares(self.many):
            os.makedirs(daemon.root / ".berth/shares" / share / "attachments/vm/disk")
        Daemon.stop(daemon)
        begin = time.monotonic_ns()
        daemon.serve(self.berth)
        self.client("touch", "one-by-one", lines=[daemon.path("s00000") / "hello"])
        rows["each attached, from the start to the first answer", "ns"][daemon.name] = time.monotonic_ns() - begin

    def median_time(self, command):
        return statistics.median(self.client("run_time", lines=[command])[0] for _ in range(self.rounds * 2))


def main():
    build, rounds, many = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    beside = Beside(build, rounds, many)
    beside.first_access(Bind(), SHARES)
    beside.first_access(Sshfs(beside.work), SSHFS_SHARES)
    beside.many_shares()


if __name__ == "__main__":
    main()
