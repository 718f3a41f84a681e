"""What every client has: a login, verbs that run the real program, and words for what it cannot."""

import os
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from gateway import check

HUNG_SECONDS = 180  # against hangs only; nothing is measured by it


class Cannot(Exception):
    """The client has no such ability; the reason, in a few words."""


@dataclass(frozen=True)
class Login:
    user: str
    key: Path
    port: int


@dataclass
class Ran:
    """What a client was asked, and what came of it."""

    asked: str
    code: int
    out: str

    def ok(self):
        check(self.code == 0, f"exit 0 expected, not {self.code}")
        return self

    def __str__(self):
        return f"$ {self.asked}\n{self.out.rstrip()}\nexit {self.code}"


class Client:
    """One program a partner may have. Remote paths are relative to the root, as in `inbox/x.bin`.

    Its verbs each run the program once:
      put(local, remote, preserve), resume(local, remote)
      put_all(folder, remote): every file of a folder into a remote one
      put_all_at_once(folder, remote): the same, several at a time
      put_folder(folder, remote): a folder with all below it into a remote one
      get(remote, local), ls(remote), rename(source, target), remove(remote)
      execute(command): a command by SSH exec
    """

    name = ""
    # What the client has not, and why: ls, rename, remove, execute, parallel (put_all_at_once),
    # folders (put_folder), preserve (times), bytes (names that are not UTF-8), rsa (such keys).
    cannot = {}
    # Where a refusal comes: the exit code and what the client must show of it. `open` is a name
    # that fits no feed, `write` a file over its max_size, `close` a file with faults, `bytes` a
    # name that is not UTF-8.
    shows = {}
    # Whether an interrupted upload goes on where it stopped, or from the start.
    goes_on = True
    # Whether it says how large a file is before it sends it: legacy scp does.
    declares_size = False

    def __init__(self, gateway):
        self.gateway = gateway
        self.home = gateway.scratch
        self.login = Login("acme", gateway.key, gateway.port)
        self.runs = []
        self.process = None

    def can(self, verb):
        return verb not in self.cannot

    def resume(self, local, remote):
        return self.put(local, remote)

    def as_partner(self, partner):
        self.gateway.needs(partner)
        self.use(user=partner, key=self.gateway.home / f"{partner}_key")

    def use(self, **changes):
        self.login = replace(self.login, **changes)

    def begin(self):
        """Back to acme's own key and the gateway's own port, before every cell."""
        self.login = Login("acme", self.gateway.key, self.gateway.port)
        self.runs = []

    def end(self):
        """When all cells are done."""

    def kill(self):
        """The client dies in the middle of its work."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def run(self, *argv, asked=""):
        """Runs the program in the client's own empty home; standard error goes with the output."""
        argv = [str(word) for word in argv]
        self.process = subprocess.Popen(
            argv, cwd=self.home, env=self.environment(), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        asked = asked or " ".join(argv)
        try:
            out, _ = self.process.communicate(timeout=HUNG_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            out, _ = self.process.communicate()
            self.runs.append(Ran(asked, -1, out.decode(errors="replace")))
            check(False, "hung")
        self.runs.append(Ran(asked, self.process.returncode, out.decode(errors="replace")))
        return self.runs[-1]

    def environment(self):
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
        }

    def script(self, lines):
        """A file of commands for a client that reads such."""
        file = self.home / f"script-{len(self.runs)}"
        file.write_text("".join(f"{line}\n" for line in lines), errors="surrogateescape")
        return file

    def ssh_options(self):
        """What every program that speaks through OpenSSH gets: our key, our host key."""
        options = [
            f"IdentityFile={self.login.key}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"UserKnownHostsFile={self.gateway.known_hosts}",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
        ]
        return ["-F", "none", *(word for option in options for word in ("-o", option))]

    @property
    def host(self):
        return f"{self.login.user}@127.0.0.1"


def quoted(text):
    """In double quotes, as sftp and lftp read them."""
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
