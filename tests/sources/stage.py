"""What the tests of catalog sources have in common."""

import contextlib
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

DEADLINE = 30  # seconds; only what is broken takes as long


def skip(reason):
    print(reason)
    sys.exit(77)


def in_own_mount_namespace():
    if os.geteuid() != 0:
        skip("needs root")
    if not os.environ.get("BERTH_IN_NAMESPACE"):
        os.environ["BERTH_IN_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *sys.argv])
    # What berth makes there is the test's own.
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)


def wait_for(what, condition, deadline=DEADLINE):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited for {what}")


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def scratch():
    """A directory in memory: databases sync what they write."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="berth-sources-", dir=where) as directory:
        yield pathlib.Path(directory)


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait()


class Source:
    """A source program, and the shares that it has named, as berth would have them."""

    def __init__(self, argv, **environment):
        self.process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"], **environment}
        )
        self.messages = queue.Queue()
        self.shares, self.wrong, self.listed, self.lists, self.syncs, self.error = {}, {}, set(), 0, 0, ""
        self.is_listing = True
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.messages.put(json.loads(line))

    def take(self):
        with contextlib.suppress(queue.Empty):
            while True:
                self.apply(self.messages.get_nowait())

    def apply(self, message):
        if "list" in message:
            self.listed, self.is_listing = set(), True
        elif "put" in message:
            self.shares[message["put"]] = message.get("share")
            self.wrong[message["put"]] = message.get("wrong")
            self.listed.add(message["put"])
        elif "delete" in message:
            self.shares.pop(message["delete"], None)
            self.listed.discard(message["delete"])
        elif "error" in message:
            self.error = message["error"]
        elif "synced" in message:
            if self.is_listing:
                check("empty" not in message, "a source that knows a list alone says that the store is meant to be empty")
                if self.listed:
                    self.shares = {name: share for name, share in self.shares.items() if name in self.listed}
                self.lists += 1
            self.is_listing, self.error = False, ""
            self.syncs += 1

    def until(self, what, condition):
        def holds():
            self.take()
            check(self.process.poll() is None, f"the source has ended with {self.process.poll()}")
            return condition(self)

        try:
            wait_for(what, holds)
        except AssertionError as failure:
            raise AssertionError(f"{failure}: shares {len(self.shares)}, lists {self.lists}, error {self.error!r}") from None

    def end(self):
        end(self.process)


class Berth:
    """A berth that has one catalog source."""

    def __init__(self, program, directory, argv):
        self.directory, self.volumes = directory, directory / "volumes"
        for name in ("volumes", "state", "data"):
            (directory / name).mkdir()
        (directory / "data" / "file").write_text("text", encoding="utf-8")
        (directory / "berth.toml").write_text(
            f'[[catalog_source]]\nname = "store"\nprogram = {json.dumps([str(word) for word in argv])}\n', encoding="utf-8"
        )
        self.log = open(directory / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [program, "serve", "--config", directory / "berth.toml", "--namespace", self.volumes, "--state-dir", directory / "state"],
            stdout=self.log,
            stderr=self.log,
        )
        wait_for("berth", lambda: (self.volumes / ".berth").exists())

    def source(self):
        return json.loads((self.volumes / ".berth/status.json").read_text(encoding="utf-8"))["sources"][0]

    def end(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.log.close()
