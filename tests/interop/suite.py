#!/usr/bin/env python3
"""The interop suite: every client a partner may have, driven against a real gateway.

A table of clients and operations. A cell is a check, or the reason why the client has no such
ability; never a silent skip. `run` beside this file installs the clients.
"""

import argparse
import re
import subprocess
import sys
import traceback
from pathlib import Path

from clients import Cannot
from clients.curl import Curl, CurlScp
from clients.lftp import Lftp
from clients.library import INSTALLED, Asyncssh, Node, Paramiko
from clients.openssh import LegacyScp, Scp, Sftp
from clients.putty import LegacyPscp, Pscp, Psftp
from clients.rclone import Rclone
from clients.sshfs import Sshfs
from gateway import Failed, Gateway, check
from operations import OPERATIONS

CLIENTS = [
    Sftp, Scp, LegacyScp, Psftp, Pscp, LegacyPscp, Lftp, Rclone, Curl, CurlScp, Sshfs,
    Paramiko, Asyncssh, Node,
]  # fmt: skip
AUDIT = "ssh-audit"
TARGET = Path(__file__).resolve().parents[2] / "target"


def main():
    names = [client.name for client in CLIENTS] + [AUDIT]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", choices=names, action="append", help="only this one")
    parser.add_argument("--only", choices=OPERATIONS, action="append", help="only this operation")
    parser.add_argument("--binary", type=Path, default=default_binary(), help="the gateway")
    arguments = parser.parse_args()
    if not arguments.binary.exists():
        parser.error(f"{arguments.binary} is not there: build it first")
    operations = arguments.only or list(OPERATIONS)
    wanted = arguments.client or names

    cells = {}
    for client in CLIENTS:
        if client.name in wanted:
            cells |= run_client(client, arguments.binary, operations)
    if AUDIT in wanted:
        cells[AUDIT, "no [fail]"] = run_audit(arguments.binary)

    show(cells, operations)
    failed = sum(outcome == "FAIL" for outcome in cells.values())
    passed = sum(outcome == "ok" for outcome in cells.values())
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def default_binary():
    builds = (TARGET / build / "sallyport" for build in ("release", "debug"))
    return next((file for file in builds if file.exists()), TARGET / "release/sallyport")


def run_client(kind, binary, operations):
    """All operations of one client, on a gateway of its own."""
    gateway = Gateway(binary)
    client = kind(gateway)
    client.observer = Paramiko(gateway)
    cells = {}
    try:
        for operation in operations:
            client.begin()
            cells[kind.name, operation] = run_cell(
                f"{kind.name}: {operation}",
                lambda: OPERATIONS[operation](client, gateway),
                client,
            )
        client.end()
    finally:
        gateway.stop()
    return cells


def run_cell(title, operation, client):
    """`ok`, `FAIL` with everything needed to see why, or the reason why it cannot be."""
    begun = len(client.gateway.log.read_text())
    try:
        operation()
    except Cannot as reason:
        print(f"{title}: cannot: {reason}", flush=True)
        return str(reason)
    except Exception as error:
        why = str(error) if isinstance(error, Failed) else traceback.format_exc()
        print(f"\n{title}: FAIL: {why}")
        for ran in client.runs[-3:]:
            print(ran)
        print(f"the gateway's log:\n{client.gateway.log_tail(begun)}", flush=True)
        return "FAIL"
    print(f"{title}: ok", flush=True)
    return "ok"


def run_audit(binary):
    """ssh-audit finds nothing to fail in the default configuration."""
    gateway = Gateway(binary)
    client = Paramiko(gateway)

    def audit():
        # By its interpreter: the script names the one of the folder it was installed into.
        command = [INSTALLED / "venv/bin/python", INSTALLED / "venv/bin/ssh-audit"]
        command += ["--no-colors", "--skip-rate-test"]
        ran = client.run(*command, "-p", gateway.port, "127.0.0.1")
        # 0: all good, 2: warnings, 3: failures; 1 and -1: it could not look.
        check(ran.code in (0, 2), f"exit {ran.code}")
        check("(key) ssh-ed25519" in ran.out, "it saw no host key")
        check(not re.search(r"\[fail\]", ran.out), "a [fail]")

    try:
        return run_cell(f"{AUDIT}: no [fail]", audit, client)
    finally:
        gateway.stop()


def show(cells, operations):
    """A row an operation, a column a client; the reasons of what cannot be stand below."""
    columns = [client.name for client in CLIENTS if any(name == client.name for name, _ in cells)]
    reasons = []
    print()
    if columns:
        print(" " * 18 + "  ".join(columns))
    for operation in operations if columns else []:
        row = f"{operation:18}"
        for name in columns:
            outcome = cells[name, operation]
            if outcome not in ("ok", "FAIL"):
                if outcome not in reasons:
                    reasons.append(outcome)
                outcome = f"({reasons.index(outcome) + 1})"
            row += f"{outcome:{len(name) + 2}}"
        print(row.rstrip())
    for (name, operation), outcome in cells.items():
        if name == AUDIT:
            print(f"{AUDIT}, {operation}: {outcome}")
    for number, reason in enumerate(reasons, 1):
        print(f"({number}) cannot: {reason}")


if __name__ == "__main__":
    main()
