"""Beside automount units of systemd: the part "systemd" of the benchmark, in a container of tests/system, where systemd is PID 1."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
MANY = 10_000
AHEAD = 1  # of both, in every row
ROUNDS = 3  # automount takes a fifth of a minute to unmount 200 shares
LIMIT = 1800  # seconds; decides only how long something broken is waited for


def measure(bench, add):
    """`add(what, unit, reference, other, berth, at_most)` takes a row."""
    done = subprocess.run(
        [TESTS / "system/in-container", bench.options.build, "../bench/beside-systemd", str(bench.options.rounds or ROUNDS), str(MANY)],
        env={**os.environ, "CASE_LIMIT": str(LIMIT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise RuntimeError(f"tests/system/in-container: exit status {done.returncode}")
    for line in done.stdout.splitlines():
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        others = [name for name in ("systemd", "autofs") if name in row] or [""]
        for name in others:
            add(row["what"], row["unit"], name, row.get(name), row["berth"], AHEAD if name else None)
