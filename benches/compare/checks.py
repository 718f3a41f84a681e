#!/usr/bin/env python3
"""`sallyport file check` beside polars, DuckDB, pyarrow and frictionless, one core, in turns.

    cargo build --release
    benches/compare/checks.py [--mib 200] [--rounds 5] [--dir /dev/shm]

Installs the peers into target/peers (PyPI). Prints MB/s, peak memory, and the ratio sallyport / peer:
the median of the ratios within the rounds. A peer that finds faults in the good file ends the run.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PINS = ["polars==2.1.0", "duckdb==2.0.1", "pyarrow==26.0.1", "frictionless==5.21.0"]

POLICY = """version = 1

[partner]
id = "acme"
name = "ACME"

[[feed]]
id = "orders"
match = 'orders\\.{ending}'
store = "lake"
key = "acme/orders/{{submission}}.{ending}"
max_size = "50 GB"
format = {{ type = "{kind}" }}
output = {{ format = "{output}" }}

[feed.schema]
columns = [
  {{ name = "order_id", type = "string", required = true, {unique}pattern = 'O-\\d{{8}}' }},
  {{ name = "name", type = "string", max_length = 200 }},
  {{ name = "email", type = "string", format = "email"{email} }},
  {{ name = "phone", type = "string", pattern = '\\+[0-9 ]{{8,20}}' }},
  {{ name = "card", type = "string", format = "pan"{card} }},
  {{ name = "iban", type = "string", format = "iban"{iban} }},
  {{ name = "born", type = "date" }},
  {{ name = "ordered_at", type = "datetime" }},
  {{ name = "amount", type = "decimal(12,2)" }},
  {{ name = "quantity", type = "integer" }},
  {{ name = "country", type = "string", enum = ["DE", "AT", "CH", "FR", "IT", "ES", "PL", "NL"] }},
  {{ name = "note", type = "string" }},
]
"""


def policy(folder, kind, tokens=False, unique=True, output="same"):
    ending = "ndjson" if kind == "ndjson" else "csv"
    token = {name: f', token = {{ kind = "cmac", domain = "{name}" }}' if tokens else ""
             for name in ("email", "card", "iban")}
    text = POLICY.format(ending=ending, kind=kind, output=output, unique="unique = true, " if unique else "",
                         **token)
    home = folder / f"{kind}-{tokens}-{unique}-{output}"
    home.mkdir()
    path = home / "acme.toml"
    path.write_text(text)
    return path


def run(command):
    """(seconds, peak MiB, output) of one run on the last core."""
    core = max(os.sched_getaffinity(0))
    started = time.monotonic()
    child = subprocess.Popen(["taskset", "-c", str(core), *map(str, command)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out = child.stdout.read()
    err = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{command}: exit {child.returncode}\n{out[-2000:]}{err[-2000:]}")
    return time.monotonic() - started, usage.ru_maxrss / 1024, out


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--mib", type=float, default=200)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--dir", default="/dev/shm")
    arguments.add_argument("--binary", default=ROOT / "target/release/sallyport")
    arguments.add_argument("--json")
    given = arguments.parse_args()
    peers = ROOT / "target/peers"
    if not (peers / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", peers], check=True)
    subprocess.run([peers / "bin/pip", "install", "-q", *PINS], check=True)
    python = peers / "bin/python"
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        folder = Path(folder)
        files = {}
        for name, kind, mib in [("orders.csv", "csv", given.mib), ("orders.ndjson", "ndjson", given.mib),
                                ("small.csv", "csv", 4)]:
            files[name] = folder / name
            subprocess.run([sys.executable, HERE / "generate.py", files[name], "--mib", str(mib),
                            "--format", kind], check=True, stderr=subprocess.DEVNULL)
        csv, ndjson, small = files["orders.csv"], files["orders.ndjson"], files["small.csv"]

        def check(path, rules, *more):
            def once():
                out = folder / "out"
                shutil.rmtree(out, ignore_errors=True)
                extra = ["--out", out] if more else []
                name = "orders." + ("ndjson" if path.suffix == ".ndjson" else "csv")
                return run([given.binary, "file", "check", path, "--policy", rules, "--name", name, *extra])
            return once

        def peer(tool, path):
            def once():
                out = folder / "peer-out.csv"
                seconds, peak, said = run([python, HERE / "peers.py", tool, path, out])
                if tool != "frictionless" and int(said.split()[-1]) != 0:
                    sys.exit(f"{tool} finds {said.strip()} faults in a file that has none")
                return seconds, peak, said
            return once

        plain = policy(folder, "csv")
        groups = [
            ("csv, full checks", csv, check(csv, plain),
             {tool: peer(tool, csv) for tool in ("polars", "pyarrow", "duckdb")}),
            ("csv, full checks, 4 MiB", small, check(small, plain), {"frictionless": peer("frictionless", small)}),
            ("csv, 3 token columns to csv", csv, check(csv, policy(folder, "csv", tokens=True), "out"),
             {"duckdb-tokens": peer("duckdb-tokens", csv)}),
            ("csv, 3 token columns to parquet", csv,
             check(csv, policy(folder, "csv", tokens=True, output="parquet"), "out"),
             {"duckdb-parquet": peer("duckdb-parquet", csv)}),
            ("ndjson, full checks", ndjson, check(ndjson, policy(folder, "ndjson")),
             {tool: peer(tool, ndjson) for tool in ("polars", "duckdb")}),
            ("csv, nothing unique", csv, check(csv, policy(folder, "csv", unique=False)), {}),
        ]
        kept = {}
        print(f"{'work':31} {'tool':14} {'MB/s':>7} {'peak MiB':>9}  sallyport / it (range)")
        for title, path, ours, theirs in groups:
            size = path.stat().st_size / 1e6
            rounds = []
            for number in range(given.rounds + 1):
                values = {"sallyport": ours(), **{name: work() for name, work in theirs.items()}}
                if number:
                    rounds.append({name: value[:2] for name, value in values.items()})
            for name in rounds[0]:
                speed = statistics.median(size / r[name][0] for r in rounds)
                peak = statistics.median(r[name][1] for r in rounds)
                ratios = [r[name][0] / r["sallyport"][0] for r in rounds]
                ratio = "" if name == "sallyport" else (
                    f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
                print(f"{title:31} {name:14} {speed:7.1f} {peak:9.0f}  {ratio}", flush=True)
                kept[f"{title}: {name}"] = {"mb_per_s": speed, "peak_mib": peak, "ratios": ratios}
        if given.json:
            Path(given.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
