"""Libraries: paramiko, asyncssh and ssh2-sftp-client, each behind a short program `drive_*` with the
same verbs. What a library raises is printed as `Kind: text`, and the program exits with 1."""

from pathlib import Path

from clients import Client

HERE = Path(__file__).parent
INSTALLED = HERE.parents[2] / "target/interop"


class Library(Client):
    program = []

    def drive(self, verb, *rest):
        host_key = self.gateway.host_key_line
        login = [self.login.port, self.login.user, self.login.key, host_key]
        argv = [*self.program, *login, verb, *rest]
        return self.run(*argv, asked=" ".join(map(str, [self.name, verb, *rest])))

    def put(self, local, remote, preserve=False):
        return self.drive("put-preserving" if preserve else "put", local, remote)

    def resume(self, local, remote):
        return self.drive("resume", local, remote)

    def put_all(self, folder, remote):
        return self.drive("put-all", folder, remote)

    def put_all_at_once(self, folder, remote):
        return self.drive("put-all-at-once", folder, remote)

    def put_folder(self, folder, remote):
        return self.drive("put-folder", folder, f"{remote}/{folder.name}")

    def get(self, remote, local):
        return self.drive("get", remote, local)

    def ls(self, remote):
        return self.drive("ls", remote)

    def stat(self, remote):
        """Size, time and mode of a remote file."""
        return self.drive("stat", remote)

    def rename(self, source, target):
        return self.drive("rename", source, target)

    def remove(self, remote):
        return self.drive("remove", remote)

    def execute(self, command):
        return self.drive("exec", command)


class Paramiko(Library):
    name = "paramiko"
    program = [INSTALLED / "venv/bin/python", HERE / "drive_paramiko.py"]
    shows = {
        "open": (1, r"OSError: REJECTED no-feed"),
        # paramiko does not look at the answers to its WRITEs; its own stat afterwards tells.
        "write": (1, r"FileNotFoundError: .*REJECTED limit-exceeded"),
        "close": (1, r"FileNotFoundError: \[Errno 2\] REJECTED constraint-error; report /receipts/"),
        "bytes": (1, r"names must be UTF-8"),
    }


class Asyncssh(Library):
    name = "asyncssh"
    program = [INSTALLED / "venv/bin/python", HERE / "drive_asyncssh.py"]
    shows = {
        "open": (1, r"SFTPFailure: REJECTED no-feed"),
        "write": (1, r"SFTPFailure: REJECTED limit-exceeded"),
        "close": (1, r"SFTPFailure: REJECTED 3 errors in 3 rows"),
        "bytes": (1, r"names must be UTF-8"),
    }


class Node(Library):
    name = "ssh2-sftp-client"
    program = ["node", HERE / "drive_ssh2.js"]
    cannot = {
        "preserve": "ssh2-sftp-client sends no times",
        "execute": "ssh2-sftp-client runs no commands",
        "bytes": "JavaScript names are UTF-16, sent as UTF-8",
    }
    shows = {
        "open": (1, r"REJECTED no-feed"),
        "write": (1, r"REJECTED limit-exceeded"),
        "close": (1, r"REJECTED 3 errors in 3 rows"),
    }

    def environment(self):
        return super().environment() | {"NODE_PATH": str(INSTALLED / "npm/node_modules")}
