#!/usr/bin/env python3
"""How long a CLOSE waits for its verdict, at the end of a tokenizing upload over a line of 1 Gbit/s.

    cargo build --release
    benches/compare/verdict.py [--mib 1024] [--rounds 9] [--mbit 1000]

One partner file (generate.py), all checks and three token columns, over SFTP into a gateway of its own;
the answer to CLOSE stands for: checked, tokenized, durable, receipt written. Prints the median and the
worst of it, and how far the gateway's memory grew.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import checks
import run

HERE = pathlib.Path(__file__).resolve().parent


class Gateway(run.Sallyport):
    """A gateway whose one feed tokenizes."""

    def refuses(self, wanted):
        token = {name: f', token = {{ kind = "cmac", domain = "{name}" }}' for name in ("email", "card", "iban")}
        text = checks.POLICY.format(ending="csv", kind="csv", unique="unique = true, ", **token)
        # The name tells the rounds apart; the same content is a new file each time.
        text = text.replace("match = 'orders\\.csv'", "match = 'orders.*\\.csv'\nsame_content = \"allow\"")
        (self.home / "policies/acme.toml").write_text(text)
        return None

    def objects(self):
        found = self.home / "lake/acme/orders"
        return sum(1 for path in found.glob("*.csv")) if found.exists() else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--mib", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--mbit", type=int, default=1000)
    arguments.add_argument("--binary", type=pathlib.Path, default=run.ROOT / "target/release/sallyport")
    arguments.add_argument("--dir", type=pathlib.Path)
    given = arguments.parse_args()
    load = run.build_load()
    with tempfile.TemporaryDirectory(prefix="verdict-", dir=given.dir) as folder:
        folder = pathlib.Path(folder)
        file = folder / "orders.csv"
        generate = [sys.executable, HERE / "generate.py", file, "--mib", str(given.mib)]
        subprocess.run(generate, check=True, stderr=subprocess.DEVNULL)
        server = Gateway(folder / "gw", given.binary.resolve(), "sha256")
        server.prepare()
        server.start()
        waits, speeds = [], []
        try:
            with run.Peak(server.process.pid) as peak:
                for number in range(given.rounds):
                    work = [
                        load,
                        *("--address", f"127.0.0.1:{server.port}", "--user", "acme"),
                        *("--key", str(server.key), "verdict", "--mbit", str(given.mbit)),
                        *("--path", f"/inbox/orders-{number}.csv", "--file", str(file)),
                    ]
                    said = json.loads(run.run(work).splitlines()[-1])
                    waits.append(said["close_ms"])
                    speeds.append(said["bytes"] * 8 / said["seconds"] / 1e6)
                    server.expect(1)
                    server.rest()
        finally:
            server.stop()
        print(f"{given.mib} MiB, 3 token columns, {given.rounds} rounds at {statistics.median(speeds):.0f} Mbit/s")
        print(f"CLOSE waited {statistics.median(waits):.0f} ms (median), {max(waits):.0f} ms (worst)")
        print(f"memory grew by {peak.growth / run.MIB:.0f} MiB at most")


if __name__ == "__main__":
    main()
