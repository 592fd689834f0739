#!/usr/bin/python3
"""Benchmarks of the built binary, end to end. Prints a table in Markdown; bench/README.md says what the workloads mean.

    tools/bench.py --build build                     all workloads (make bench)
    tools/bench.py --build build --quick             small sizes, three rates (what CI prints)
    tools/bench.py --build build --only ingest       one workload
    tools/bench.py --build build --json results.json also as JSON; --markdown FILE also writes the table
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]
sys.dont_write_bytecode = True

from workloads import QUICK, WORKLOADS, Bench  # noqa: E402


def machine():
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {memory_gib:.0f} GiB, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def quantity(number):
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number:,.0f}"


def row(result):
    if result.values and not result.seconds:
        figures = ", ".join(f"{name.replace('_ms', '').replace('_', ' ')} {value} ms" for name, value in result.values.items())
        cells = [result.name, figures, "", "", result.goal, result.note]
    else:
        cells = [result.name, f"{quantity(result.rate)}/s", quantity(result.cpu_rate), f"{result.peak_mib:.0f} MiB", result.goal,
                 result.note or f"{quantity(result.events)} events"]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--quick", action="store_true", help="small sizes, three rates")
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), help="these workloads")
    parser.add_argument("--events", type=int, help="events of most workloads (5,000,000; quick 300,000)")
    parser.add_argument("--runs", type=int, help="runs of which the median counts (3; quick 1)")
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    given = parser.parse_args()

    events = given.events or (300_000 if given.quick else 5_000_000)
    runs = given.runs or (1 if given.quick else 3)
    names = given.only or (QUICK if given.quick else list(WORKLOADS))
    head = [f"{machine()}; median of {runs}, {quantity(events)} orders of 158 bytes, DuckDB's memory 512 MiB", "",
            "| workload | rate | events a core-second | peak RSS | goal | |", "|---|---|---|---|---|---|"]
    lines, results, failed = head[:], [], False
    print("\n".join(head), flush=True)
    with tempfile.TemporaryDirectory(prefix="millstream_bench_") as folder:
        bench = Bench((given.build / "millstream").resolve(), Path(folder), events, runs, full=not given.quick)
        for name in names:
            try:
                found = WORKLOADS[name](bench)
            except (RuntimeError, OSError, ValueError, KeyError) as error:
                failed = True
                print(f"{name}: {error}", file=sys.stderr)
                continue
            results += found
            for result in found:
                lines.append(row(result))
                print(lines[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps({"machine": machine(), "runs": runs, "results": [
            {**vars(r), "events_per_second": round(r.rate), "events_per_core_second": round(r.cpu_rate)} for r in results]}, indent=1))
    if given.markdown:
        given.markdown.write_text("\n".join(lines) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
