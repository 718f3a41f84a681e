"""A gateway under test: the real binary in a directory of its own on loopback, its partners and
their keys, what its lake and its ledger hold, and a relay in front that can cut a connection."""

import hashlib
import json
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

LOOKS_MAX = 200  # bounds the waiting for a state; a state that is there ends it at once
LOOK_PAUSE = 0.05

# Feeds of acme beside `orders`: content of any kind, and one that is soon too big.
FEEDS = """
[[feed]]
id           = "capped"
match        = 'capped_.+'
store        = "lake"
key          = "acme/capped/{submission}.bin"
max_size     = "64 KiB"
format       = { type = "opaque" }
output       = { format = "same" }

[[feed]]
id           = "blobs"
match        = '.+\\.bin'
store        = "lake"
key          = "acme/blobs/{submission}.bin"
same_content = "allow"
format       = { type = "opaque" }
output       = { format = "same" }
"""

# Partners beside acme: one with an outbox, one that may make folders.
OTHERS = {
    "depot": """
version = 1
[partner]
id = "depot"
[access]
outbox = { store = "lake", prefix = "to-acme/" }
[[feed]]
id           = "blobs"
match        = '.+\\.bin'
store        = "lake"
key          = "depot/blobs/{submission}.bin"
format       = { type = "opaque" }
output       = { format = "same" }
""",
    "tree": """
version = 1
[partner]
id = "tree"
[[feed]]
id           = "blobs"
match        = '.+\\.bin'
store        = "lake"
key          = "tree/blobs/{submission}.bin"
folders      = "any"
format       = { type = "opaque" }
output       = { format = "same" }
""",
}

HEADER = "order_id,ordered_at,country,amount,email,iban,note\n"
ROW = "O-{n:08},2026-11-20T05:41:07Z,{country},1.25,p{n}@example.org,DE89370400440532013000,\n"


class Failed(Exception):
    """A check that did not hold."""


def check(holds, why):
    """Fails the cell unless it holds."""
    if not holds:
        raise Failed(why)


def wait_for(what, look):
    """Polls until `look` gives something, and gives that back."""
    for _ in range(LOOKS_MAX):
        if found := look():
            return found
        time.sleep(LOOK_PAUSE)
    raise Failed(f"waited in vain for: {what}")


def orders(rows, country="DE"):
    """A file of the feed `orders`; a country that is not in the contract makes every row wrong."""
    lines = "".join(ROW.format(n=n, country=country) for n in range(1, rows + 1))
    return f"{HEADER}{lines}TRL,{rows},{rows * 125 // 100}.{rows * 125 % 100:02}\n".encode()


class Gateway:
    """`sallyport init`, the suite's policies, `sallyport serve`."""

    def __init__(self, binary):
        self.dir = Path(tempfile.mkdtemp(prefix="interop-"))
        self.binary, self.home, self.log = binary, self.dir / "gw", self.dir / "serve.log"
        self.scratch = self.dir / "client"
        self.scratch.mkdir()
        self.refused = {}
        self.lake = self.home / "lake"
        self.key, self.rsa_key = self.home / "acme_key", self.dir / "rsa_key"
        subprocess.run(
            [binary, "init", "--no-input", "--partner", "acme", "--key-out", self.key]
            + ["--store", self.lake, self.home],
            check=True, capture_output=True,
        )  # fmt: skip
        keygen(self.rsa_key, "rsa")
        with open(self.home / "partners/acme.pub", "a") as keys:
            keys.write(Path(f"{self.rsa_key}.pub").read_text())
        with open(self.home / "policies/acme.toml", "a") as policy:
            policy.write(FEEDS)
        config = self.home / "sallyport.toml"
        config.write_text(config.read_text().replace("127.0.0.1:2222", "127.0.0.1:0"))
        self.serve()
        self.relay = Relay(self.port)
        host_key = (self.home / "keys/host_ed25519.pub").read_text()
        self.host_key_line = " ".join(host_key.split()[:2])
        self.known_hosts = self.scratch / ".ssh/known_hosts"
        self.known_hosts.parent.mkdir()
        self.known_hosts.write_text(
            "".join(
                f"[127.0.0.1]:{port} {self.host_key_line}\n"
                for port in (self.port, self.relay.port)
            )
        )
        for partner, policy in OTHERS.items():
            self.add_partner(partner, policy)

    def serve(self):
        self.child = subprocess.Popen(
            [self.binary, "serve", "--config", self.home / "sallyport.toml"],
            env={**os.environ, "SALLYPORT_LOG": "info"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(self.log, "wb"),
            text=True,
        )  # fmt: skip
        said = ""
        while "\nready" not in said and (line := self.child.stdout.readline()):
            said += line
        listening = re.search(r"ssh +127\.0\.0\.1:(\d+).* (SHA256:\S+)", said)
        check(listening, f"serve did not get ready:\n{said}\n{self.log_tail()}")
        self.port, self.fingerprint = int(listening[1]), listening[2]

    def add_partner(self, partner, policy):
        """A partner added to the running gateway. One whose policy it refuses fails its own cells."""
        keygen(self.home / f"{partner}_key", "ed25519")
        file = self.home / f"policies/{partner}.toml"
        file.write_text(policy)
        checked = self.cli("policy", "check", file)
        if checked.returncode != 0:
            file.unlink()
            self.refused[partner] = checked.stderr
            return
        shutil.copy(self.home / f"{partner}_key.pub", self.home / f"partners/{partner}.pub")
        for said in (f"policy {partner} new", f"key +{partner} "):
            wait_for(f"{said!r} in the log", lambda: said in self.log.read_text())

    def needs(self, partner):
        """Fails the cell where the gateway does not take this partner's policy."""
        check(partner not in self.refused, f"the policy is refused:\n{self.refused.get(partner)}")

    def stop(self):
        self.child.terminate()
        self.child.wait()
        self.relay.close()
        shutil.rmtree(self.dir)

    def log_tail(self, since=0):
        return "".join(self.log.read_text()[since:].splitlines(keepends=True)[-12:])

    def cli(self, *args):
        return subprocess.run(
            [self.binary, *args, "--no-input", "--config", self.home / "sallyport.toml"],
            capture_output=True, text=True,
        )  # fmt: skip

    def submissions(self, file=None):
        """Newest first, all or those of one file name."""
        listed = self.cli("submission", "list", "--json", "--limit", "10000")
        check(listed.returncode == 0, f"submission list: {listed.stderr}")
        items = json.loads(listed.stdout)["items"]
        return [item for item in items if file in (None, item["file"])]

    def settled(self, file, state, **facts):
        """The newest submission with this name, once it is in this state."""
        facts["state"] = state

        def newest():
            found = self.submissions(file)
            return found and facts.items() <= found[0].items() and found[0]

        try:
            return wait_for(f"{file!r} {facts}", newest)
        except Failed as failed:
            columns = ("file", "state", "bytes", "sha256")
            seen = [[item[fact] for fact in columns] for item in self.submissions()[:3]]
            raise Failed(f"{failed}; the newest are {seen}") from None

    def delivered(self, file, content):
        """The newest submission with this name is an object with exactly this content. Waited for:
        a client that does not await the answer to CLOSE may be gone before."""
        item = self.settled(file, "delivered", sha256=hashlib.sha256(content).hexdigest())
        [found] = self.lake.rglob(f"{item['submission']}.bin")
        check(found.read_bytes() == content, f"{file}: the object differs from what was sent")
        return item

    def published(self):
        """Objects in the lake, by key."""
        files = (file for file in self.lake.rglob("*") if file.is_file())
        return sorted(str(file) for file in files if not file.name.endswith(".meta.json"))


class Relay:
    """Passes bytes on to the gateway; told to, only so many of a client's, and then none."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sent = 0
        self.hold_at = None
        self.held = threading.Event()
        self.links = []
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def reset(self, hold_at=None):
        self.sent, self.hold_at = 0, hold_at
        self.held.clear()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            gateway = socket.create_connection(("127.0.0.1", self.target))
            self.links += [client, gateway]
            threading.Thread(target=self.link, args=(client, gateway), daemon=True).start()

    def link(self, client, gateway):
        """Both ways until one side ends; at the mark the client's bytes are left unread."""
        reads = [client, gateway]
        try:
            while True:
                for ready in select.select(reads, [], [])[0]:
                    piece = ready.recv(16384)
                    if not piece:
                        return
                    (client if ready is gateway else gateway).sendall(piece)
                    if ready is client:
                        self.sent += len(piece)
                        if self.hold_at and self.sent >= self.hold_at:
                            reads = [gateway]
                            self.held.set()
        except (OSError, ValueError):
            return
        finally:
            client.close()
            gateway.close()

    def cut(self):
        """Ends every connection at once."""
        for end in self.links:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.links.clear()

    def close(self):
        """The thread first: an accept that outlived its listener would take from the next one."""
        self.cut()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()


def keygen(path, kind):
    bits = ["-b", "3072"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-f", path], check=True)
