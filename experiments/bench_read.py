"""Seconds and memory to read a CSV file: ours against pandas, each in a process of its own, in one
run.

    python experiments/bench_read.py

The file has floats, whole numbers, and texts of few and of many levels; some cells are missing.
``read_csv`` gives cells as text, ``from_table`` the arrays of a training, exactly as a study gets
them. Memory is the peak of a process that reads, less that of one that only imports. Rounds
alternate, and the median of each counts. The last line is ``read=... table=... memory=...``: the
seconds of both over pandas', and the larger memory over pandas'.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS = 20  # five of every kind
SIDES = ("pandas.read_csv", "fairjax read_csv", "fairjax from_table")


def write(path: Path, rows: int, seed: int = 0) -> None:
    """A file of made-up people."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    columns = {}
    for i in range(COLUMNS // 4):
        columns[f"float{i}"] = rng.normal(size=rows).round(6)
        columns[f"whole{i}"] = rng.integers(0, 100_000, rows)
        columns[f"few{i}"] = rng.choice(["left", "right", "middle", "none of them"], rows)
        columns[f"many{i}"] = [f"street {n}" for n in rng.integers(0, 5_000, rows)]
    columns["few0"] = rng.choice(["f", "m"], rows)
    columns["few1"] = rng.choice(["no", "yes"], rows)
    frame = pd.DataFrame(columns)
    for name in ("float0", "whole1", "few2", "many3"):
        frame[name] = frame[name].mask(rng.random(rows) < 0.05)
    frame.to_csv(path, index=False)


def read(side: str, path: str) -> None:
    """Print seconds and peak memory of one side; without a path, of its imports.

    A small file comes first, because some imports wait for the first cell.
    """
    if side == SIDES[0]:
        import pandas as pd

        work = pd.read_csv
    else:
        from fairjax.data import Roles, from_table
        from fairjax.data.read import read_csv

        roles = Roles(tasks=("few1",), sensitive=("few0",))
        work = read_csv if side == SIDES[1] else lambda path: from_table(path, roles)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.csv"
        small.write_text("few0,few1,x,c\n" + "f,no,1,a\nm,yes,2,b\n" * 50)
        work(small)
    begin = time.perf_counter()
    if path:
        work(path)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**20  # kilobytes on Linux
    print(json.dumps({"seconds": seconds, "megabytes": peak}))


def in_process(*arguments: str) -> str:
    """What this program prints in a fresh process; a small one, whose peak a child inherits."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measure(side: str, path: str) -> dict:
    """What :func:`read` prints."""
    return json.loads(in_process("--side", side, "--path", path))


def compare(rows: int, rounds: int) -> None:
    seconds = {side: [] for side in SIDES}
    megabytes = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        in_process("--side", "write", "--path", str(path), "--rows", str(rows))
        size = path.stat().st_size / 2**20
        base = {side: measure(side, "")["megabytes"] for side in SIDES}
        for _ in range(rounds):
            for side in SIDES:
                result = measure(side, str(path))
                seconds[side].append(result["seconds"])
                megabytes[side].append(result["megabytes"] - base[side])
    print(f"{rows:,} rows, {COLUMNS} columns, {size:.0f} MB, median of {rounds}")
    time_of = {side: statistics.median(seconds[side]) for side in SIDES}
    memory_of = {side: statistics.median(megabytes[side]) for side in SIDES}
    for side in SIDES:
        ratio = time_of[side] / time_of[SIDES[0]]
        memory_ratio = memory_of[side] / memory_of[SIDES[0]]
        print(
            f"{side:20s} {time_of[side]:6.2f} s {ratio:5.2f} x "
            f"{memory_of[side]:7.0f} MB {memory_ratio:5.2f} x"
        )
    own = SIDES[1:]
    read_ratio, table_ratio = (time_of[side] / time_of[SIDES[0]] for side in own)
    memory_ratio = max(memory_of[side] for side in own) / memory_of[SIDES[0]]
    print(f"read={read_ratio:.2f} table={table_ratio:.2f} memory={memory_ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side == "write":
        write(Path(args.path), args.rows)
    elif args.side:
        read(args.side, args.path)
    else:
        compare(args.rows, args.rounds)


if __name__ == "__main__":
    main()
