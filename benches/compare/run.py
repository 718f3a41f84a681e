#!/usr/bin/env python3
"""Measures sallyport against OpenSSH's sshd (internal-sftp) on loopback, interleaved.

Prints medians, ratios within each round, and server CPU-seconds per GiB. Nothing here has a time
limit that makes it fail on a slow machine; a transfer that stands still for two minutes is
reported as stalled, and the next figure follows. See README.md beside this file.
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MIB = 1 << 20
GIB = 1 << 30
TICKS = os.sysconf("SC_CLK_TCK")

SMALL_FILES = 2000
REKEY_MIB = 2200
FLOOD_READS = 2048
IDLE_TRANSFER_MIB = 8
LOGINS = {1: 60, 16: 160}
# A memory figure varies little, and one round takes minutes.
IDLE_ROUNDS_MAX = 3
# The file that READ floods read; OPEN of it must not wait for anything.
FLOOD_FILE_MIB = 64


class Trouble(Exception):
    """Why a figure is missing."""


# --- processes -----------------------------------------------------------------------------------


def tree(root):
    """The process and all that descend from it: {pid: fields of stat after the name}."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                text = pathlib.Path("/proc", entry, "stat").read_text()
                found[int(entry)] = text[text.rindex(")") + 2 :].split()
    family = {root}
    while True:
        more = {pid for pid, stat in found.items() if int(stat[1]) in family} - family
        if not more:
            return {pid: found[pid] for pid in family if pid in found}
        family |= more


def cpu_seconds(root):
    """User and system time of the tree, with that of children that have ended."""
    return sum(sum(map(int, stat[11:15])) for stat in tree(root).values()) / TICKS


def pss_bytes(root):
    """Memory of the tree, what is shared counted by its share."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            text = pathlib.Path("/proc", str(pid), "smaps_rollup").read_text()
            total += 1024 * int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])
    return total


def adopt():
    """Makes this process the parent of all its orphans.

    A session of sshd may end before the process that serves its sftp channel, and what that one
    has used would be in nobody's account.
    """
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


class Peak:
    """The most memory a tree had while something ran."""

    def __init__(self, root):
        self.root, self.first, self.most = root, pss_bytes(root), 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while not self.over.wait(0.05):
            self.most = max(self.most, pss_bytes(self.root))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    @property
    def growth(self):
        return max(0, self.most - self.first)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise Trouble(said.splitlines()[-1] if said else f"exit {done.returncode}")
    return done.stdout


def write_file(path, mib):
    """Content that does not repeat within a MiB, and is in the page cache afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    block = bytearray(os.urandom(MIB))
    with open(path, "wb") as out:
        for number in range(mib):
            block[:8] = number.to_bytes(8, "big")
            out.write(block)


# --- the two servers -----------------------------------------------------------------------------


class Server:
    """What both have in common. `lane` makes remote paths of uploads, one name never twice."""

    process = None
    port = 0

    def restart(self):
        self.stop()
        self.start()

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(100)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def spawn(self, command, log, **options):
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=adopt, **options
            )
        for _ in range(600):
            if self.process.poll() is not None:
                raise Trouble(f"{self.name} ended at once; see {log}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.1)
        raise Trouble(f"{self.name} does not listen; see {log}")

    def cpu(self):
        if self.process.poll() is not None:
            raise Trouble(f"{self.name} has ended with {self.process.returncode}")
        return cpu_seconds(self.process.pid)

    def rest(self):
        """Waits until the server has nothing left to do; its CPU time by then."""
        before = self.cpu()
        still = 0
        while still < 3:
            time.sleep(0.15)
            now = self.cpu()
            still = still + 1 if now - before < 1.5 / TICKS and self.is_done() else 0
            before = now
        return before


class Sshd(Server):
    name = "OpenSSH"

    def __init__(self, home):
        self.home = home
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.key = home / "user_key"
        self.data = home / "data"

    def prepare(self):
        binary = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise Trouble("sshd not found: install openssh-server")
        self.binary = binary
        self.data.mkdir(parents=True)
        for key in (self.key, self.home / "host_key"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)])
        shutil.copy(f"{self.key}.pub", self.home / "authorized_keys")
        if os.getuid() == 0:
            # Where it shuts in the process that has not logged in yet; packages make it at boot.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)

    def start(self):
        self.port = free_port()
        config = self.home / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\n"
            f"HostKey {self.home}/host_key\n"
            f"AuthorizedKeysFile {self.home}/authorized_keys\n"
            "PidFile none\n"
            "StrictModes no\n"  # the directory may lie below one that everybody can write to
            "MaxStartups 2000\n"
            "MaxSessions 1000\n"
            "Subsystem sftp internal-sftp\n"
        )
        log = self.home / "sshd.log"
        self.spawn([self.binary, "-D", "-e", "-f", str(config)], log)

    def host_key(self):
        return (self.home / "host_key.pub").read_text()

    def lane(self, name):
        return f"{self.data}/{name}"

    def readable(self, name):
        return f"{self.data}/{name}"

    def offer(self, name, mib):
        path = self.data / name
        if not path.exists():
            write_file(path, mib)

    def expect(self, files):
        pass

    def is_done(self):
        # Sessions are processes of their own and end a little after the client.
        return len(tree(self.process.pid)) == 1

    def clean(self):
        for path in self.data.glob("up-*"):
            path.unlink()


class Sallyport(Server):
    name = "sallyport"
    user = "acme"

    def __init__(self, home, binary, digest):
        self.home, self.binary, self.digest = home, binary, digest
        self.key = home / "acme_key"
        self.delivered = home / "lake/acme"
        self.missing = {}
        self.due = 0

    def prepare(self):
        if not self.binary.exists():
            raise Trouble(f"{self.binary} not found: cargo build --release")
        self.home.parent.mkdir(parents=True, exist_ok=True)
        store = ["--store", str(self.home / "lake"), "--key-out", str(self.key)]
        run([str(self.binary), "init", "--no-input", "--partner", "acme", *store, str(self.home)])
        self.config = self.home / "sallyport.toml"
        self.config_text = self.config.read_text()
        # What a version does not know yet is left out, and its figures say so.
        wanted = {"outbox": True, "blake3": self.digest == "blake3"}
        for feature in ("outbox", "blake3"):
            if wanted[feature]:
                alone = {name: name == feature for name in wanted}
                why = self.refuses(alone)
                if why:
                    wanted[feature] = False
                    self.missing[feature] = f"not there yet: {why}"
        why = self.refuses(wanted)
        if why:
            raise Trouble(why)

    def refuses(self, wanted):
        """Writes the policy; why it is refused, if it is."""
        outbox = 'outbox = { store = "lake", prefix = "to-acme/" }\n' if wanted["outbox"] else ""
        text = (
            'version = 1\n[partner]\nid = "acme"\n'
            f"[access]\nsessions = 1000\n{outbox}" + feed("plain", "bin", "")
        )
        if wanted["blake3"]:
            text += feed("blake3", "b3", 'digest = "blake3"\n')
        (self.home / "policies/acme.toml").write_text(text)
        check = [str(self.binary), "policy", "check", "--no-input", "--config", str(self.config)]
        done = subprocess.run(check, capture_output=True, text=True)
        if done.returncode == 0:
            return None
        said = (done.stdout + done.stderr).strip().splitlines() or ["policy check failed"]
        return next((line.strip() for line in said if line.startswith("error")), said[0])

    def start(self):
        self.port = free_port()
        text = self.config_text.replace("127.0.0.1:2222", f"127.0.0.1:{self.port}")
        limits = "limits = { unauthenticated_per_source = 2000, unauthenticated = 2000 }"
        self.config.write_text(re.sub(r"^#?limits = \{.*$", limits, text, flags=re.MULTILINE))
        serve = [str(self.binary), "serve", "--config", str(self.config)]
        # As the shipped unit sets it.
        malloc = {"MALLOC_ARENA_MAX": "1"}
        log = self.home.parent / "sallyport.log"
        self.spawn(serve, log, cwd=self.home, env=os.environ | malloc)
        self.due = self.objects()

    def host_key(self):
        return (self.home / "keys/host_ed25519.pub").read_text()

    def lane(self, name):
        return f"/inbox/{name}"

    def readable(self, name):
        return f"/outbox/{name}"

    def offer(self, name, mib):
        if "outbox" in self.missing:
            raise Trouble(self.missing["outbox"])
        path = self.home / "lake/to-acme" / name
        if not path.exists():
            write_file(path, mib)

    def expect(self, files):
        self.due += files

    def objects(self):
        if not self.delivered.exists():
            return 0
        return sum(1 for name in os.listdir(self.delivered) if name.endswith(".bin"))

    def is_done(self):
        return self.objects() >= self.due

    def clean(self):
        for path in self.delivered.glob("*") if self.delivered.exists() else ():
            path.unlink()
        self.due = 0


def feed(name, ending, more):
    return (
        f"[[feed]]\nid = \"{name}\"\nmatch = '.+\\.{ending}'\nstore = \"lake\"\n"
        'key = "acme/{submission}.bin"\nmax_size = "50 GB"\n'
        f'format = {{ type = "opaque" }}\noutput = {{ format = "same" }}\n{more}'
    )


# --- the client ----------------------------------------------------------------------------------


def build_load():
    """The load client's executable."""
    command = ["cargo", "bench", "--no-run", "--bench", "load", "--message-format=json"]
    print("building the load client ...", file=sys.stderr)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if message.get("target", {}).get("name") == "load" and message.get("executable"):
                found = message["executable"]
    if done.returncode != 0:
        raise Trouble("the load client does not build")
    return found


def sha256_cost(load):
    """CPU-seconds of one pass over a GiB; other processes must not count."""
    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    said = json.loads(run([load, "sha256"]))
    return (used() - before) / said["bytes"] * GIB


class Bench:
    """Everything a figure needs."""

    def __init__(self, options, load):
        self.options, self.load = options, load
        self.tag = 0

    def command(self, server, *work):
        return [
            self.load,
            *("--address", f"127.0.0.1:{server.port}", "--user", server.user),
            *("--key", str(server.key), "--cipher", self.options.cipher),
            *("--write-bytes", str(self.options.write_bytes)),
            *map(str, work),
        ]

    def name(self, ending="bin"):
        """A name of an upload; {} is left for the load client."""
        self.tag += 1
        return f"up-{self.tag:05}-{{}}.{ending}"

    def work(self, server, *work, files=0, clean=True):
        """Runs the load client; what it says, with the server's CPU time."""
        os.sync()
        before = server.rest()
        said = json.loads(run(self.command(server, *work)).splitlines()[-1])
        said["cpu_answered"] = server.cpu() - before
        server.expect(files)
        said["cpu"] = server.rest() - before
        if clean:
            server.clean()
        return said

    # Each figure: (server) -> {part: value}.

    def upload(self, server, ending="bin"):
        if ending == "b3" and isinstance(server, Sallyport) and "blake3" in server.missing:
            raise Trouble(server.missing["blake3"])
        path = server.lane(self.name(ending))
        said = self.work(server, "put", "--path", path, "--mib", self.options.size_mib, files=1)
        return {**bulk(said), **per_gib("cpu_answered", said)}

    def upload_blake3(self, server):
        return self.upload(server, "b3")

    def download(self, server):
        server.offer("down.bin", self.options.size_mib)
        return bulk(self.work(server, "get", "--path", server.readable("down.bin")))

    def parallel(self, server):
        each = max(1, self.options.size_mib // 8)
        path = server.lane(self.name())
        work = ("put", "--path", path, "--mib", each, "--streams", 8)
        return bulk(self.work(server, *work, files=8))

    def small(self, server, connections):
        count = self.options.small_files
        path = server.lane(self.name())
        work = ("small", "--path", path, "--files", count, "--connections", connections)
        # They stay: ext4 looks for a new inode past all that were freed lately, and a round would pay
        # for the one before it.
        said = self.work(server, *work, files=count, clean=False)
        return {"rate": count / said["seconds"], "cpu_each": said["cpu"] / count * 1000}

    def logins(self, server, at_once):
        count = LOGINS[at_once]
        said = self.work(server, "logins", "--count", count, "--at-once", at_once)
        return {"rate": count / said["seconds"], "cpu_each": said["cpu"] / count * 1000}

    def idle(self, server, sessions):
        """Fresh and after transfers, each on a server that has just been started."""
        found = {}
        for part, mib in (("fresh", 0), ("after", IDLE_TRANSFER_MIB)):
            server.restart()
            server.rest()
            before = pss_bytes(server.process.pid)
            path = server.lane(self.name())
            work = ("idle", "--sessions", sessions, "--transfer-mib", mib, "--path", path)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            client = subprocess.Popen(self.command(server, *work), text=True, **pipes)
            if client.stdout.readline():
                server.expect(sessions if mib else 0)
                self.settle(server)
                found[part] = (pss_bytes(server.process.pid) - before) / sessions / 1024
            _, said = client.communicate()
            if client.returncode != 0:
                raise Trouble(f"{part}: {said.strip().splitlines()[-1]}")
            server.rest()
            server.clean()
        return found

    def settle(self, server):
        """As `rest`, with the sessions still there."""
        while not isinstance(server, Sshd) and not server.is_done():
            time.sleep(0.2)
        time.sleep(5)

    def fresh(self, server):
        """A server just started: what it has taken before would hide how far it grows."""
        server.restart()
        server.rest()

    def rekey(self, server):
        self.fresh(server)
        with Peak(server.process.pid) as peak:
            path = server.lane(self.name())
            said = self.work(server, "put", "--path", path, "--mib", REKEY_MIB, files=1)
        return {**bulk(said), "growth": peak.growth / MIB}

    def flood(self, server):
        self.fresh(server)
        path = self.flooded(server)
        with Peak(server.process.pid) as peak:
            said = self.work(server, "flood", "--path", path, "--reads", FLOOD_READS)
        return {"mb_s": said["bytes"] / said["seconds"] / 1e6, "growth": peak.growth / MIB}

    def flooded(self, server):
        """The file that is read; without an outbox a receipt has to do, which shows only whether
        the flood ends."""
        if isinstance(server, Sallyport) and "outbox" in server.missing:
            path = server.lane(self.name())
            self.work(server, "small", "--path", path, "--files", 1, files=1)
            return "/receipts/latest.txt"
        server.offer("flood.bin", FLOOD_FILE_MIB)
        return server.readable("flood.bin")

    def stock_put(self, server):
        """The stock client, as it comes; its login is in the time."""
        source = self.options.dir / "client/source.bin"
        if not source.exists():
            write_file(source, self.options.size_mib)
        known = self.options.dir / f"client/known_{server.name}"
        known.write_text(f"[127.0.0.1]:{server.port} {server.host_key()}")
        # A stamp at the start: the same content twice would be a known one.
        with open(source, "r+b") as out:
            self.tag += 1
            out.write(self.tag.to_bytes(8, "little"))
        batch = self.options.dir / "client/batch"
        batch.write_text(f"put {source} {server.lane(self.name().format(0))}\n")
        command = ["sftp", "-q", "-F", "none", "-i", str(server.key), "-b", str(batch)]
        for option in ("IdentitiesOnly=yes", "IdentityAgent=none", f"UserKnownHostsFile={known}"):
            command += ["-o", option]
        os.sync()
        before = server.rest()
        begin = time.monotonic()
        run([*command, "-P", str(server.port), f"{server.user}@127.0.0.1"])
        seconds = time.monotonic() - begin
        server.expect(1)
        said = {"seconds": seconds, "bytes": self.options.size_mib * MIB}
        said["cpu"] = server.rest() - before
        server.clean()
        return bulk(said)


def bulk(said):
    return {"mb_s": said["bytes"] / said["seconds"] / 1e6, **per_gib("cpu", said)}


def per_gib(name, said):
    return {name: said[name] / said["bytes"] * GIB}


# --- the figures ---------------------------------------------------------------------------------


class Part:
    """One line of the table: a value of a figure, and what is asked of the ratio."""

    def __init__(self, key, label, least=None, most=None, less_digest=False):
        self.key, self.label, self.least, self.most = key, label, least, most
        self.less_digest = less_digest

    def target(self):
        if self.least is not None:
            return f">= {self.least}"
        return f"<= {self.most}" if self.most is not None else ""

    def verdict(self, ratio):
        if self.least is None and self.most is None:
            return ""
        good = ratio >= self.least if self.least is not None else ratio <= self.most
        return "yes" if good else "NO"


def figures(options):
    """name: (method, its argument, rounds, warm-up?, parts)"""
    size = f"{options.size_mib} MiB"
    rounds = options.rounds + 1
    idle_rounds = min(options.rounds, IDLE_ROUNDS_MAX)
    cpu = "  server CPU-s/GiB, all done"
    each = "  server CPU-ms each"
    table = {
        "upload": (Bench.upload, (), rounds, True, [
            Part("mb_s", f"upload {size}, SHA-256, MB/s", least=0.9),
            Part("cpu_answered", "  server CPU-s/GiB, to the answer"),
            Part("cpu_answered", "  ..., less SHA-256", most=0.75, less_digest=True),
            Part("cpu", cpu),
            Part("cpu", "  ..., less SHA-256", less_digest=True),
        ]),
        "upload-blake3": (Bench.upload_blake3, (), rounds, True, [
            Part("mb_s", f"upload {size}, BLAKE3, MB/s", least=1.3),
            Part("cpu_answered", "  server CPU-s/GiB, to the answer"),
            Part("cpu", cpu),
        ]),
        "download": (Bench.download, (), rounds, True, [
            Part("mb_s", f"download {size}, MB/s", least=1.2),
            Part("cpu", cpu, most=0.75),
        ]),
        "parallel": (Bench.parallel, (), rounds, True, [
            Part("mb_s", f"8 uploads at once, {size} in all, MB/s", least=1.2),
            Part("cpu", cpu),
        ]),
        "small1": (Bench.small, (1,), rounds, True, [
            Part("rate", f"{options.small_files} x 4 KiB, 1 connection, files/s", least=0.3),
            Part("cpu_each", each),
        ]),
        "small8": (Bench.small, (8,), rounds, True, [
            Part("rate", f"{options.small_files} x 4 KiB, 8 connections, files/s", least=0.8),
            Part("cpu_each", each),
        ]),
        "logins": (Bench.logins, (1,), rounds, True, [
            Part("rate", "logins/s, one after the other", least=15),
            Part("cpu_each", each),
        ]),
        "logins16": (Bench.logins, (16,), rounds, True, [
            Part("rate", "logins/s, 16 at once", least=8),
            Part("cpu_each", each),
        ]),
        "stock-put": (Bench.stock_put, (), rounds, True, [
            Part("mb_s", f"sftp put {size}, stock client, MB/s", least=1.2),
            Part("cpu", cpu),
        ]),
        "rekey": (Bench.rekey, (), options.repeats, False, [
            Part("mb_s", f"upload {REKEY_MIB} MiB across rekeys, MB/s"),
            Part("growth", "  memory growth at most, MiB"),
        ]),
        "flood": (Bench.flood, (), options.repeats, False, [
            Part("mb_s", f"{FLOOD_READS} READs outstanding, MB/s"),
            Part("growth", "  memory growth at most, MiB"),
        ]),
    }
    for sessions in (200, 1000):
        table[f"idle{sessions}"] = (Bench.idle, (sessions,), idle_rounds, False, [
            Part("fresh", f"{sessions} idle sessions, KiB each", most=0.05),
            Part("after", f"  after {IDLE_TRANSFER_MIB} MiB sent on each", most=0.05),
        ])
    if options.digest != "blake3":
        del table["upload-blake3"]
    return table


class Report:
    """The table, a line as soon as it is known."""

    WIDTHS = (46, 11, 11, 24, 8, 4)

    def __init__(self, sha256):
        self.sha256 = sha256
        self.failed = 0
        self.raw = {}

    def line(self, *cells):
        padded = [f"{cell:<{width}}" for cell, width in zip(cells, self.WIDTHS)]
        print("  ".join(padded).rstrip(), flush=True)

    def head(self):
        self.line("figure", "sallyport", "OpenSSH", "ratio median (min-max)", "target", "ok?")

    def add(self, name, parts, runs, warm_up):
        """`runs`: per round a pair of {part: value} or Trouble, ours first."""
        self.raw[name] = [
            [str(side) if isinstance(side, Trouble) else side for side in pair] for pair in runs
        ]
        kept = runs[1:] if warm_up and len(runs) > 1 else runs
        good = [pair for pair in kept if not any(isinstance(side, Trouble) for side in pair)]
        for part in parts if good else ():
            self.part(part, good)
        if not good:
            self.line(parts[0].label, "-", "-", "-", parts[0].target(), "NO")
        if name in ("rekey", "flood"):
            self.finished(kept)
        for side, who in enumerate(("sallyport", "OpenSSH")):
            why = {str(pair[side]) for pair in runs if isinstance(pair[side], Trouble)}
            for text in sorted(why):
                print(f"  {who}: {text}", flush=True)
                self.failed += 1

    def part(self, part, pairs):
        ours = [pair[0][part.key] for pair in pairs]
        theirs = [pair[1][part.key] for pair in pairs]
        if part.less_digest:
            ours = [value - self.sha256 for value in ours]
        ratios = [a / b for a, b in zip(ours, theirs) if b]
        shown = [f"{statistics.median(values):.4g}" for values in (ours, theirs)]
        if not ratios:
            self.line(part.label, *shown, "-", part.target(), "")
            return
        middle = statistics.median(ratios)
        spread = f"{middle:.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
        self.line(part.label, *shown, spread, part.target(), part.verdict(middle))

    def finished(self, runs):
        counts = [
            sum(1 for pair in runs if not isinstance(pair[side], Trouble)) for side in (0, 1)
        ]
        grown = [pair[0]["growth"] for pair in runs if not isinstance(pair[0], Trouble)]
        ok = counts[0] == len(runs)
        self.line("  finished", f"{counts[0]}/{len(runs)}", f"{counts[1]}/{len(runs)}", "", "all",
                  "yes" if ok else "NO")
        if grown:
            most = max(grown)
            self.line("  memory growth of the worst run, MiB", f"{most:.1f}", "", "", "<= 8",
                      "yes" if most <= 8 else "NO")


def measure(bench, servers, method, arguments, rounds):
    """A B A B ...: both sides in every round, one after the other."""
    runs = []
    for _ in range(rounds):
        pair = []
        for server in servers:
            try:
                if server.process is None or server.process.poll() is not None:
                    server.restart()
                pair.append(method(bench, server, *arguments))
            except Trouble as trouble:
                pair.append(trouble)
                # Whatever it left behind must not weigh on what follows.
                server.stop()
                server.start()
                server.clean()
        runs.append(pair)
        missing = [side for side in pair if isinstance(side, Trouble)]
        if any(str(side).startswith("not there yet") for side in missing):
            break
    return runs


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Everything at full size takes about an hour on two cores and up to 25 GB of disk; "
        "a quick look of some minutes: --size-mib 256 --rounds 3 --only upload,parallel,logins",
    )
    parser.add_argument("--only", metavar="NAME[,NAME]", help="these figures; `list` names them all")
    parser.add_argument("--rounds", type=int, default=5, help="after the warm-up (default 5)")
    parser.add_argument("--repeats", type=int, default=20, help="of rekey and flood (default 20)")
    parser.add_argument("--size-mib", type=int, default=1024, help="of bulk figures (default 1024)")
    parser.add_argument("--small-files", type=int, default=SMALL_FILES, help=argparse.SUPPRESS)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/sallyport")
    parser.add_argument("--load", help="the load client, if it is built already")
    parser.add_argument("--dir", type=pathlib.Path, help="where both keep their data")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="raw figures go here")
    parser.add_argument("--digest", choices=["sha256", "blake3"], default="sha256",
                        help="blake3 adds a figure")
    parser.add_argument("--cipher", default="aes256-gcm",
                        choices=["aes128-gcm", "aes256-gcm", "chacha20-poly1305"])
    parser.add_argument("--write-bytes", type=int, default=32 * 1024,
                        help="of one WRITE; 0 asks the server (default 32768)")
    parser.add_argument("--keep", action="store_true", help="leave logs and data behind")
    return parser.parse_args()


def main():
    options = parse()
    table = figures(options)
    names = options.only.split(",") if options.only else list(table)
    unknown = [name for name in names if name not in table]
    if unknown:
        print(f"figures: {', '.join(table)}", file=sys.stderr)
        return 0 if unknown == ["list"] else 2
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    options.dir = pathlib.Path(tempfile.mkdtemp(prefix="compare-", dir=options.dir)).resolve()
    servers = [
        Sallyport(options.dir / "ours/gw", options.binary.resolve(), options.digest),
        Sshd(options.dir / "theirs"),
    ]
    try:
        load = options.load or build_load()
        report = Report(sha256_cost(load))
        for server in servers:
            server.prepare()
            server.start()
        version = run([str(options.binary), "--version"]).strip()
        peer = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
        print(f"{version} against {peer.split(',')[0]}; {os.cpu_count()} cores; {options.cipher}; "
              f"SHA-256 takes {report.sha256:.2f} CPU-s/GiB")
        report.head()
        bench = Bench(options, load)
        for name in names:
            method, arguments, rounds, warm_up, parts = table[name]
            runs = measure(bench, servers, method, arguments, rounds)
            report.add(name, parts, runs, warm_up)
            if options.json:
                options.json.write_text(json.dumps(report.raw, indent=1))
        return 1 if report.failed else 0
    except Trouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        options.keep = True
        return 1
    finally:
        for server in servers:
            server.stop()
        if options.keep:
            print(f"logs and data: {options.dir}", file=sys.stderr)
        else:
            shutil.rmtree(options.dir, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
