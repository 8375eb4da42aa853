"""What shares that do not answer cost the others: the part "hang" of the benchmark.

Twenty shares that hang, each with callers in it, beside healthy ones. All is measured with nothing hung, and again with the twenty hung.
The two take turns. autofs has the same map beside the same stopped servers.
"""

import contextlib
import fcntl
import os
import signal
import statistics
import subprocess
import time
from collections import defaultdict
from pathlib import Path

from daemons import Autofs, Berth

SHARES = 20
CALLERS = 15  # in each hung share
SAMPLES = 1000  # of each operation, a turn
FIRST_ACCESSES = 190  # a turn
AT_MOST = 1.5  # of the p99 with nothing hung
OTHER_SIDE = """#!/bin/sh
BERTH_BENCH_SHARE=hung
export BERTH_BENCH_SHARE
exec /usr/lib/openssh/sftp-server
"""
FIFREEZE = 0xC0045877  # linux/fs.h
FITHAW = 0xC0045878


class Beside(Berth):
    """Shares "h0", "h1", ... of a directory, and "r0", "r1", ... of one kind that can hang."""

    def __init__(self, bench, kind):
        self.name = f"berth-beside-{kind.name.replace(' ', '-')}"
        self.settings = "".join(f"[share.r{number}]\n{kind.section(number)}" for number in range(SHARES))
        healthy = {f"h{number}": bench.sources[0] for number in range(SHARES)}
        super().__init__(bench.work, healthy, bench.options.berth, 'access = "proxy"\nattr_timeout = "0"\n')

    def first_accesses(self):
        shares = [f"h{number}" for number in range(1, SHARES)]
        for _ in range(FIRST_ACCESSES // len(shares)):
            self.make_idle(shares)
            yield from (self.root / share / "hello" for share in shares)


class StoppedServer:
    """sshfs to servers that are stopped (SIGSTOP). The callers look up a name."""

    name = "stopped sshfs servers"

    def __init__(self, bench):
        self.directory = bench.work / "far"
        self.directory.mkdir()
        (self.directory / "hello").write_text("hello\n")
        self.program = bench.work / "other-side"
        self.program.write_text(OTHER_SIDE)
        self.program.chmod(0o755)

    def options(self):
        return f"allow_other,cache=no,attr_timeout=0,entry_timeout=0,ssh_command={self.program}"

    def section(self, number):
        return f'type = "fuse.sshfs"\nsource = "root@host{number}:{self.directory}"\noptions = "{self.options()}"\nattr_timeout = "0"\n'

    def map_entry(self, number):
        return f"-fstype=fuse.sshfs,{self.options()} :root@host{number}\\:{self.directory}"

    @staticmethod
    def prepare(daemon):
        for number in range(SHARES):
            read(daemon.root / f"r{number}/hello")

    @staticmethod
    def caller(daemon, number):
        return ["stat", daemon.root / f"r{number}/hello"]

    def hang(self, _daemon):
        self.signal_other_sides(signal.SIGSTOP)

    def release(self, _daemon, _callers):
        self.signal_other_sides(signal.SIGCONT)

    @staticmethod
    def signal_other_sides(number):
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and b"BERTH_BENCH_SHARE=hung" in (process / "environ").read_bytes():
                    if b"sftp-server" in (process / "cmdline").read_bytes():
                        os.kill(int(process.name), number)


class EndlessMount:
    """Mount programs that do not end. The callers wait for the mount."""

    name = "mounts that do not end"

    def __init__(self, bench):
        self.program = bench.work / "endless"
        self.program.write_text("#!/bin/sh\nexec sleep 1h\n")
        self.program.chmod(0o755)

    def section(self, _number):
        return f'type = "command"\nmount = ["{self.program}", "{{mountpoint}}"]\nmount_timeout = "1h"\n'

    def prepare(self, daemon):
        pass

    @staticmethod
    def caller(daemon, number):
        # After a forced unmount a share is refused for some time.
        return ["sh", "-c", 'until stat "$0"; do sleep 0.1; done', daemon.root / f"r{number}/hello"]

    def hang(self, daemon):
        pass

    @staticmethod
    def release(daemon, callers):
        for caller in callers:
            caller.kill()
        for number in range(SHARES):
            (daemon.root / f".berth/shares/r{number}/control").write_text("force-unmount\n")


class FrozenImage:
    """Images whose file systems take no change (fsfreeze(8)). The callers change times."""

    name = "frozen images"

    def __init__(self, bench):
        self.images = [bench.work / f"image{number}" for number in range(SHARES)]
        for image in self.images:
            with open(image, "wb") as file:
                file.truncate(16 << 20)
            subprocess.run(["mkfs.ext4", "-q", image], check=True)
        self.roots = []

    def section(self, number):
        return f'type = "ext4"\naccess = "proxy"\nsource = "{self.images[number]}"\nattr_timeout = "0"\n'

    @staticmethod
    def prepare(daemon):
        for number in range(SHARES):
            os.listdir(daemon.root / f"r{number}")

    @staticmethod
    def caller(daemon, number):
        return ["touch", daemon.root / f"r{number}/new"]

    def hang(self, daemon):
        self.roots = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in real_mounts(daemon, "ext4")]
        for root in self.roots:
            fcntl.ioctl(root, FIFREEZE, 0)

    def release(self, _daemon, _callers):
        for root in self.roots:
            fcntl.ioctl(root, FITHAW, 0)
            os.close(root)
        self.roots = []


def real_mounts(daemon, kind):
    """The mounts of berth's own of a type, as paths that lead into its mount namespace."""
    for pid in daemon.pids():
        with contextlib.suppress(OSError):
            rows = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8").splitlines()]
            found = [f"/proc/{pid}/root{row[4]}" for row in rows if kind in row and row[4].rpartition("/")[2].startswith("r")]
            if len(found) == SHARES:
                return found
    raise RuntimeError(f"berth has no {SHARES} mounts of type {kind}")


class AutofsBeside(Autofs):
    """The same directories, each a first access once, and the same shares of sshfs. It starts afresh for each turn."""

    name = "autofs-beside"

    def __init__(self, bench, kind, turn):
        self.name = f"{self.name}-{turn}"
        shares = {f"h{number}": f":{bench.sources[0]}" for number in range(FIRST_ACCESSES + 1)}
        shares |= {f"r{number}": number for number in range(SHARES)}
        super().__init__(bench.work, shares, Entries(kind))

    def first_accesses(self):
        return (self.root / f"h{number}/hello" for number in range(1, FIRST_ACCESSES + 1))

    def stop(self):
        self.process.kill()  # it waits for each of its mounts else
        self.process.wait()
        with open("/proc/self/mountinfo", encoding="utf-8") as table:
            targets = [line.split()[4] for line in table]
        for target in reversed(targets):
            if target == str(self.root) or target.startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", "--quiet", target], check=False)
        super().stop()


class Entries:
    """Map entries of healthy shares, by their source, and of those that hang, by their number."""

    def __init__(self, kind):
        self.kind = kind

    def map_entry(self, source):
        return self.kind.map_entry(source) if isinstance(source, int) else f"-fstype=bind {source}"


@contextlib.contextmanager
def hung(kind, daemon):
    kind.hang(daemon)
    callers = []
    try:
        for number in range(SHARES):
            argv = kind.caller(daemon, number)
            callers += [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(CALLERS)]
        time.sleep(2)
        if any(caller.poll() is not None for caller in callers):
            raise RuntimeError(f"{kind.name}: a caller does not wait")
        yield
    finally:
        kind.release(daemon, callers)
        for caller in callers:
            caller.wait()


def read(path):
    with open(path, "rb") as file:
        file.read()


def samples(daemon):
    """Of each operation, in ns."""
    file = daemon.root / "h0/hello"
    operations = {"stat": lambda: os.stat(file), "open-read-close": lambda: read(file)}
    state = daemon.root / ".berth/shares/h0/state"
    if isinstance(daemon, Berth):
        operations["reading a state"] = lambda: read(state)
    for operation in operations.values():
        operation()  # the first access of h0 is none of these
    taken = {what: [timed(operation) for _ in range(SAMPLES)] for what, operation in operations.items()}
    taken["first access"] = [timed(lambda path=path: read(path)) for path in daemon.first_accesses()]
    return taken


def timed(operation):
    start = time.perf_counter_ns()
    operation()
    return time.perf_counter_ns() - start


def p99(taken):
    return statistics.quantiles(taken, n=100)[98]


def measure_kind(bench, kind, start, rounds):
    """The p99 of each operation with nothing hung, and with all hung, in ns. `start(turn)` starts a daemon, or answers the one that runs."""
    quiet, beside = defaultdict(list), defaultdict(list)
    for turn in range(rounds):
        daemon = start(turn * 2)
        for what, taken in samples(daemon).items():
            quiet[what] += taken
        daemon = start(turn * 2 + 1)
        with hung(kind, daemon):
            for what, taken in samples(daemon).items():
                beside[what] += taken
    return {what: (p99(taken), p99(beside[what])) for what, taken in quiet.items()}


def of_berth(bench, kind):
    daemon = Beside(bench, kind)
    try:
        kind.prepare(daemon)
        return measure_kind(bench, kind, lambda _turn: daemon, bench.rounds)
    finally:
        daemon.stop()


def of_autofs(bench, kind):
    running = []

    def start(turn):
        while running:
            running.pop().stop()
        running.append(AutofsBeside(bench, kind, turn))
        kind.prepare(running[0])
        return running[0]

    try:
        return measure_kind(bench, kind, start, min(bench.rounds, 3))
    finally:
        while running:
            running.pop().stop()


def measure(bench, add):
    """Calls `add(what, with what it is compared, its p99, berth's, at_most)` for each kind and operation, in ns."""
    for make in (StoppedServer, EndlessMount, FrozenImage):
        kind = make(bench)
        ours = of_berth(bench, kind)
        for what, (without, value) in ours.items():
            add(f"{what} beside {SHARES} {kind.name}: p99", "berth with nothing hung", without, value, AT_MOST)
        if not hasattr(kind, "map_entry"):
            continue
        for what, (without, value) in of_autofs(bench, kind).items():
            add(f"{what} beside {SHARES} {kind.name}: p99", f"autofs ({value / without:.2f} of autofs with nothing hung)", value, ours[what][1], None)
