"""What the benchmark compares: automount, berth, and libfuse's passthrough example, each started on directories of ours."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

DEADLINE = 60  # seconds; decides only how long something broken is waited for
MARK = "BERTH_BENCH"


def wait_until(what, condition):
    """Polls until condition() is true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE} s until {what}")
        time.sleep(0.002)


def mounted_below(directory):
    """How many mounts of our mount namespace are at or below a directory."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        targets = [line.split()[4] for line in table]
    return sum(target == str(directory) or target.startswith(f"{directory}/") for target in targets)


class Daemon:
    """A program that serves a directory, in a session of its own.

    The session matters for automount: processes of its own process group see through it.
    """

    name = ""

    def __init__(self, work):
        self.work = Path(work) / self.name
        self.root = self.work / "root"
        self.root.mkdir(parents=True)
        self.process = None

    def spawn(self, *argv):
        with open(self.work / "log", "ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, MARK: str(self.work)},
            )
        wait_until(f"{self.name} serves", self.is_up)

    def is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: " + (self.work / "log").read_text(errors="replace"))
        return mounted_below(self.root) > 0

    def path(self, share):
        return self.root / share

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):  # automount does not always end when asked to
            self.process.wait(5)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        subprocess.run(["umount", "--recursive", "--lazy", "--quiet", self.root], stderr=subprocess.DEVNULL, check=False)

    def pids(self):
        """All its processes: they have the mark in their environment."""
        mark = f"{MARK}={self.work}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def memory(self):
        """Resident and proportional set size of all its processes, in KiB."""
        resident = proportional = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):  # one that ends just now
                # Exact, while VmRSS in "status" is a sum of per-processor counters that are off by megabytes.
                its_resident = kib(f"/proc/{pid}/smaps_rollup", "Rss:")
                proportional += kib(f"/proc/{pid}/smaps_rollup", "Pss:")
                resident += its_resident
        return resident, proportional


def kib(path, field):
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


class Bind:
    """A directory of this host, as each subject names it."""

    name = "bind"

    def map_entry(self, source):
        return f"-fstype=bind :{source}"

    def unit(self, source):
        return f"What={source}\nType=none\nOptions=bind\n"

    def section(self, source):
        return f'type = "bind"\nsource = "{source}"\n'


class Autofs(Daemon):
    """automount with one indirect map, browsable, so that all keys are listed."""

    name = "autofs"

    def __init__(self, work, shares, backend=Bind()):
        super().__init__(work)
        (self.work / "master").write_text(f"{self.root} {self.work}/map browse\n")
        (self.work / "map").write_text("".join(f"{share} {backend.map_entry(source)}\n" for share, source in shares.items()))
        self.spawn("automount", "-f", "-C", "-t", "3600", "-p", self.work / "pid", self.work / "master")
        wait_until("automount lists its keys", lambda: len(os.listdir(self.root)) == len(shares))

    def make_idle(self, shares):
        # The signal says "expire what is unused now"; what was in use a moment ago wants another.
        while mounted_below(self.root) > 1:
            self.process.send_signal(signal.SIGUSR1)
            before = mounted_below(self.root)
            deadline = time.monotonic() + 1
            while mounted_below(self.root) == before and time.monotonic() < deadline:
                time.sleep(0.002)


class Berth(Daemon):
    """berth with the same directories as shares and otherwise its defaults."""

    name = "berth"
    settings = ""

    def __init__(self, work, shares, program, more="", backend=Bind()):
        """`more` is further lines of configuration for each share."""
        super().__init__(work)
        config = [f'[berth]\nidle_timeout = "1h"\n{self.settings}']
        config += [f"[share.{share}]\n{backend.section(source)}{more}" for share, source in shares.items()]
        (self.work / "berth.toml").write_text("".join(config))
        self.serve(program)

    def serve(self, program):
        self.spawn(program, "serve", "--config", self.work / "berth.toml", "--namespace", self.root,
                   "--state-dir", self.work / "state")

    def is_up(self):
        return super().is_up() and (self.root / ".berth/version").exists()

    def make_idle(self, shares):
        for share in shares:
            control = self.root / ".berth/shares" / share
            wait_until(f"{share} is idle", lambda control=control: self.unmount(control))

    @staticmethod
    def unmount(control):
        if (control / "state").read_text() == "idle\n":
            return True
        with contextlib.suppress(OSError):  # busy: the release of a closed file is still on its way
            (control / "control").write_text("unmount\n")
        return (control / "state").read_text() == "idle\n"


class BerthProxy(Berth):
    """One share whose files are reached through berth alone."""

    access = "proxy"

    def __init__(self, work, source, program):
        super().__init__(work, {"share": source}, program, f'access = "{self.access}"\n')
        self.share = self.path("share")


class BerthNative(BerthProxy):
    """One share that is overmounted by its real mount."""

    name = "berth-native"
    access = "native"


class Mergerfs(Daemon):
    """mergerfs on one directory, with all that it can cache, for as long as berth's shares do by default."""

    name = "mergerfs"
    options = (
        "allow_other,use_ino,category.create=ff,minfreespace=0,cache.files=auto-full,cache.attr=1,cache.entry=1,"
        "cache.negative_entry=1,cache.readdir=true,cache.symlinks=true,cache.statfs=1,cache.open=1"
    )

    def __init__(self, work, source, _):
        super().__init__(work)
        self.spawn("mergerfs", "-f", "-o", self.options, source, self.root)
        self.share = self.root


class Bindfs(Daemon):
    """bindfs on one directory, with threads and libfuse's caching options."""

    name = "bindfs"
    options = "kernel_cache,attr_timeout=1,entry_timeout=1,negative_timeout=1,big_writes"

    def __init__(self, work, source, _):
        super().__init__(work)
        self.spawn("bindfs", "-f", "--multithreaded", "-o", self.options, source, self.root)
        self.share = self.root


class Passthrough(Daemon):
    """libfuse's own example on one directory, with its defaults."""

    name = "passthrough_ll"
    options = ""

    def __init__(self, work, source, program):
        super().__init__(work)
        self.spawn(program, "-f", "-o", f"source={source}{self.options}", self.root)


class CheckedPassthrough(Passthrough):
    """The same as a file system for several users must be mounted: the kernel checks permissions, for which it asks more."""

    name = "passthrough_ll-checked"
    options = ",allow_other,default_permissions"
