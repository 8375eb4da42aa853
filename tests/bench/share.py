"""One share, reached in several ways, in comparison with the file system itself: the part "share" of the benchmark.

Everything is on one ext4 file system in memory, with a directory of its own for each way. Every workload runs in each of
them in turn, round after round, so that what disturbs the machine disturbs all.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from daemons import BerthNative, BerthProxy, Bindfs, Mergerfs

CONCURRENT = 4
MILLISECONDS = 200  # of each measurement of the workload program
DIRECTORIES, FILES = 100, 20  # of the tree for tar, cp, du, git and rm
TRANSACTIONS = 100
NATIVE, PROXY, OVERLAID = "native", "berth", "berth-native"
PEERS = ["mergerfs", "bindfs"]

# What must be reached, as a ratio to native (greater is better), and for what must ask the daemon to the better of the peers.
DATA, WARM, ASKS, NO_TARGET = "data", "warm", "asks", ""
TARGETS = {DATA: 0.95, WARM: 0.8}
ASKS_TARGET = 1.5
OVERLAID_TARGET = 0.97


@dataclass(frozen=True)
class Workload:
    """What workload.cc does under a name."""

    name: str
    rows: dict  # what it prints: (title, kind)

    def run(self, bench, subject, concurrent):
        lines = bench.client("workload", self.name, concurrent, MILLISECONDS, subject.path)
        for name, operations, nanoseconds in map(str.split, lines):
            yield name, int(nanoseconds) / int(operations)


@dataclass(frozen=True)
class Command:
    """A real program; '#' is the number of the copy. What it needs to run before is not measured."""

    name: str
    rows: dict
    command: str
    before: tuple = ()
    repeats: int = 1
    operations: int = 1

    def run(self, bench, subject, concurrent):
        lines = [line.format(root=subject.path, work=bench.work) for line in [*self.before, *[self.command] * self.repeats]]
        took = [int(line) for line in bench.client("run_time", concurrent, lines=lines)][len(self.before) :]
        yield self.name, statistics.median(took) / self.operations


def workload(name, title, kind):
    return Workload(name, {name: (title, kind)})


def command(name, title, kind, line, **more):
    return Command(name, {name: (title, kind)}, line, **more)


WORKLOADS = [
    workload("read-4k-random", "read 4k random", DATA),
    workload("read-128k", "read 128k sequential", DATA),
    workload("read-1M", "read 1M sequential", DATA),
    workload("mmap", "mmap, a page", DATA),
    workload("write-4k-random", "write 4k random", DATA),
    workload("write-128k", "write 128k sequential", DATA),
    workload("write-1M", "write 1M sequential", DATA),
    workload("stat-warm", "stat, warm", WARM),
    workload("stat-cold", "stat, cold", NO_TARGET),
    workload("readdir-stat", "readdir with stat, an entry", WARM),
    workload("open-read-close", "open-read-close, 4 KiB", ASKS),
    Workload("names", {"create": ("create", ASKS), "rename": ("rename", ASKS), "unlink": ("unlink", ASKS)}),
    command(
        "untar",
        "untar",
        ASKS,
        "tar -xf {work}/tree.tar -C {root}/new#",
        before=("rm -rf {root}/new#", "mkdir {root}/new#"),
    ),
    command("du", "`du`, again", WARM, "du -s {root}/tree#", before=("du -s {root}/tree#",), repeats=5),
    command(
        "git",
        "`git status`, again",
        WARM,
        "git -C {root}/repository# status",
        before=("git -C {root}/repository# status",),
        repeats=5,
    ),
    command("cp", "`cp -r`", NO_TARGET, "cp -r {root}/tree# {root}/copy#", before=("rm -rf {root}/copy#",)),
    command("rm", "`rm -rf`", NO_TARGET, "rm -rf {root}/old#", before=("cp -r {root}/tree# {root}/old#",)),
    command(
        "sqlite-delete",
        "SQLite, a transaction",
        NO_TARGET,
        "sqlite3 -batch -init {work}/delete.sql {root}/delete#.db .exit",
        before=("rm -f {root}/delete#.db",),
        operations=TRANSACTIONS,
    ),
    command(
        "sqlite-wal",
        "SQLite with WAL, a transaction",
        NO_TARGET,
        "sqlite3 -batch -init {work}/wal.sql {root}/wal#.db .exit",
        before=("rm -f {root}/wal#.db",),
        operations=TRANSACTIONS,
    ),
]


@dataclass
class Subject:
    """One way to the files."""

    name: str
    path: Path


@dataclass
class Row:
    title: str
    kind: str
    concurrent: int
    taken: dict = field(default_factory=lambda: defaultdict(list))  # subject to nanoseconds an operation, by round

    def ratios(self, subject):
        """How much faster than native, by round."""
        return [one / other for one, other in zip(self.taken[NATIVE], self.taken[subject])]

    def ahead(self, subject):
        """How much faster than the better of the peers, by round; empty without one."""
        peers = [self.taken[peer] for peer in PEERS if peer in self.taken]
        return [min(others) / own for own, *others in zip(self.taken[subject], *peers)] if peers else []

    def verdicts(self):
        """What must be reached here: (text, whether it was)."""
        if PROXY in self.taken:
            ahead = self.ahead(PROXY)
            if self.kind in TARGETS:
                yield verdict("proxy", statistics.median(self.ratios(PROXY)), TARGETS[self.kind], "of native")
            elif ahead:
                target = ASKS_TARGET if self.kind == ASKS else 1
                yield verdict("proxy", statistics.median(ahead), target, "of the better peer")
        if OVERLAID in self.taken:
            yield verdict("native", statistics.median(self.ratios(OVERLAID)), OVERLAID_TARGET, "of native")


def verdict(what, reached, target, of):
    good = reached >= target
    return f"{what} {target:g} {of}: {'ok' if good else 'missed'}", good


class ShareTable:
    """A line for each workload: native's time for one operation, and how fast the others are in comparison."""

    def __init__(self):
        self.rows = []
        self.names = []

    def show(self, quantity):
        rows = [row for row in self.rows if row.taken]
        if not rows:
            return
        print("Speed in comparison with native: the median of the rounds' ratios, and the least and the greatest.\n")
        others = self.names[1:]
        titles = {PROXY: "berth, proxy", OVERLAID: "berth, native access"}
        print("| what | threads | native | " + " | ".join(titles.get(name, name) for name in others) + " | proxy to the better peer | target |")
        print("| --- " * (len(others) + 5) + "|")
        for row in rows:
            native = quantity(statistics.median(row.taken[NATIVE]), "ns")
            cells = [spread(row.ratios(name)) for name in others] + [spread(row.ahead(PROXY) if PROXY in row.taken else [])]
            verdicts = "; ".join(text for text, _ in row.verdicts())
            print(f"| {row.title} | {row.concurrent} | {native} | " + " | ".join(cells) + f" | {verdicts} |")
        print()

    @property
    def missed(self):
        return [f"{row.title}, {row.concurrent}: {text}" for row in self.rows for text, good in row.verdicts() if not good]


def spread(ratios):
    if not ratios:
        return ""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def run(*words, **more):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, **more)


@contextlib.contextmanager
def image(work, size="6G"):
    """A fresh ext4 file system in memory."""
    ram, mountpoint = work / "ram", work / "image"
    ram.mkdir(exist_ok=True)
    mountpoint.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", ram)
    try:
        run("truncate", "--size", size, ram / "image")
        # All of it is initialised here, so that the kernel does not go on with that later.
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", ram / "image")
        run("mount", "-o", "loop", ram / "image", mountpoint)
        try:
            yield mountpoint
        finally:
            run("umount", "--lazy", mountpoint)
    finally:
        run("umount", "--lazy", ram)


@contextlib.contextmanager
def real_mount(work, source):
    """What berth mounts, mounted by hand; its path is as long as that of a share, for each name of it takes time."""
    place = work / NATIVE / "root/share"
    place.mkdir(parents=True)
    run("mount", "--bind", source, place)
    try:
        yield place
    finally:
        run("umount", "--lazy", place)


def make_tree(directory):
    """Source files, as far as tar, du and git can tell."""
    for number in range(DIRECTORIES):
        inner = directory / f"d{number % 10}" / f"d{number}"
        inner.mkdir(parents=True)
        for name in range(FILES):
            text = f"{number} {name}\n" * (50 + 37 * name)  # 400 bytes to 7 KiB
            (inner / f"file{name}.c").write_text(text)


def make_repository(directory, tree):
    run("cp", "-a", tree, directory)
    settings = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    run("git", "-C", directory, "init", "--quiet")
    run("git", "-C", directory, "add", ".")
    run("git", "-C", directory, *settings, "commit", "--quiet", "--message", "All")


def make_inputs(work, tree):
    """What commands read that is not on the share."""
    run("tar", "-C", tree, "-cf", work / "tree.tar", ".")
    for mode in ["delete", "wal"]:
        lines = [f"PRAGMA journal_mode={mode};", "PRAGMA synchronous=NORMAL;", "CREATE TABLE t (a INTEGER PRIMARY KEY, b);"]
        lines += [f"INSERT INTO t (b) VALUES ('{'x' * 200}');"] * TRANSACTIONS
        (work / f"{mode}.sql").write_text("\n".join(lines) + "\n")


def is_fuse(path):
    done = subprocess.run(["stat", "-f", "-c", "%T", path], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.startswith("fuse")


class ShareBench:
    """The measurements; `bench` has the options, the place and the client programs."""

    def __init__(self, bench, table):
        self.bench = bench
        self.options = bench.options
        self.table = table
        self.rounds = bench.options.rounds or 5

    def run(self):
        os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
        os.environ["GIT_CONFIG_GLOBAL"] = "/dev/null"
        with image(self.bench.work) as mountpoint, contextlib.ExitStack() as stack:
            subjects = [Subject(NATIVE, stack.enter_context(real_mount(self.bench.work / "share", self.prepared(mountpoint, NATIVE))))]
            for kind in self.kinds():
                daemon = kind(self.bench.work / "share", self.prepared(mountpoint, kind.name), self.options.berth)
                stack.callback(daemon.stop)
                if daemon.name == OVERLAID and not self.is_overlaid(daemon.share):
                    print("access = \"native\" has no effect here: left out", file=sys.stderr)
                    continue
                subjects.append(Subject(daemon.name, daemon.share))
            self.table.names = [subject.name for subject in subjects]
            self.measure(subjects)

    def kinds(self):
        ours = [BerthProxy, BerthNative] if self.options.berth else []
        wanted = self.options.subject or [PROXY, OVERLAID, *PEERS]
        return [kind for kind in [*ours, Mergerfs, Bindfs] if kind.name in wanted]

    def prepared(self, mountpoint, name):
        source = mountpoint / name
        source.mkdir()
        self.bench.client("workload", "prepare", CONCURRENT, source)
        tree, repository = mountpoint / "tree", mountpoint / "repository"
        if not tree.exists():
            make_tree(tree)
            make_repository(repository, tree)
            make_inputs(self.bench.work, tree)
        for copy in range(CONCURRENT):
            run("cp", "-a", repository, source / f"repository{copy}")
            run("cp", "-a", tree, source / f"tree{copy}")
        return source

    @staticmethod
    def is_overlaid(path):
        """Goes in, and gives berth a moment to hand the share over."""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            os.listdir(path)
            if not is_fuse(path):
                return True
            time.sleep(0.05)
        return False

    def measure(self, subjects):
        workloads = [one for one in WORKLOADS if self.is_wanted(one)]
        rows = {
            (name, concurrent): Row(title, kind, concurrent)
            for one in workloads
            for name, (title, kind) in one.rows.items()
            for concurrent in self.options.threads or [1, CONCURRENT]
        }
        self.table.rows = list(rows.values())
        for turn in range(self.rounds):
            order = subjects[turn % len(subjects) :] + subjects[: turn % len(subjects)]
            for concurrent in self.options.threads or [1, CONCURRENT]:
                for one in workloads:
                    self.in_turns(one, order, concurrent, rows)
            print(f"round {turn + 1} of {self.rounds}", file=sys.stderr)

    def is_wanted(self, one):
        return not self.options.workload or one.name in self.options.workload

    def in_turns(self, one, order, concurrent, rows):
        os.sync()  # what was written before is written back now and not while others are measured
        if one.name == "stat-cold":
            self.drop_caches(order)
        for subject in order:
            for name, took in one.run(self.bench, subject, concurrent):
                rows[name, concurrent].taken[subject.name].append(took)

    def drop_caches(self, order):
        """Forgets all names and inodes: those of the real file system too, which makes native work for them as well."""
        Path("/proc/sys/vm/drop_caches").write_text("2\n", encoding="ascii")
        time.sleep(0.5)  # the daemons are told what was forgotten
        for subject in order:
            os.listdir(subject.path)
