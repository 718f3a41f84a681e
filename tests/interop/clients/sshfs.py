"""sshfs: the gateway mounted as a folder, worked on with cp, mv, dd, rm and ls."""

import os
import subprocess

from clients import Client
from gateway import check, wait_for


class Sshfs(Client):
    name = "sshfs"
    cannot = {"execute": "sshfs runs no commands"}
    # A file system has error numbers, no texts; and sshfs does not wait for the answer to CLOSE.
    shows = {
        "open": (1, r"cp: cannot create regular file"),
        "write": (1, r"cp: "),
        "close": (0, r"^$"),
        "bytes": (1, r"cp: cannot stat \S+: Operation not permitted"),
    }

    mounted = None

    def mount(self):
        """The folder, mounted for the login that is to be used."""
        if self.mounted == self.login:
            return self.folder
        self.end()
        self.folder = self.home / f"mount-{self.login.user}-{self.login.key.name}"
        self.folder.mkdir(exist_ok=True)
        options = [*self.ssh_options()[2:], "-o", "ssh_command=ssh -F none"]
        mount = ["sshfs", "-f", f"{self.host}:/", self.folder, "-p", str(self.login.port), *options]
        log = self.home / "sshfs.log"
        self.daemon = subprocess.Popen(mount, env=self.environment(), stderr=open(log, "wb"))
        wait_for(
            "the mount", lambda: os.path.ismount(self.folder) or self.daemon.poll() is not None
        )
        check(self.daemon.poll() is None, f"sshfs did not mount: {log.read_text()}")
        self.mounted = self.login
        return self.folder

    def end(self):
        if self.mounted:
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=True)
            self.daemon.wait()
            self.mounted = None

    def begin(self):
        self.end()
        super().begin()

    def kill(self):
        """The file system dies under the program that writes."""
        self.daemon.kill()
        self.end()

    def put(self, local, remote, preserve=False):
        preserved = ["--preserve=timestamps"][: int(preserve)]
        return self.run("cp", *preserved, "--", local, self.mount() / remote)

    def resume(self, local, remote):
        target = self.mount() / remote
        have = target.stat().st_size
        append = ["dd", f"if={local}", f"of={target}", "bs=64K", f"skip={have}"]
        return self.run(*append, "iflag=skip_bytes", "oflag=append", "conv=notrunc")

    def put_all(self, folder, remote):
        return self.run("cp", *sorted(folder.iterdir()), self.mount() / remote)

    def put_all_at_once(self, folder, remote):
        four = f"ls {folder}/* | xargs -P 4 -n 1 cp -t {self.mount() / remote}"
        return self.run("sh", "-c", four)

    def put_folder(self, folder, remote):
        return self.run("cp", "-r", folder, self.mount() / remote)

    def get(self, remote, local):
        return self.run("cp", self.mount() / remote, local)

    def ls(self, remote):
        return self.run("ls", "-l", self.mount() / remote)

    def rename(self, source, target):
        return self.run("mv", self.mount() / source, self.mount() / target)

    def remove(self, remote):
        return self.run("rm", "-f", self.mount() / remote)
