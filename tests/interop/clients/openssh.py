"""OpenSSH: sftp, and scp in both its modes."""

from clients import Client, quoted

class Sftp(Client):
    name = "sftp"
    cannot = {"parallel": "sftp sends one file at a time"}
    shows = {
        "open": (1, r"sallyport: REJECTED no-feed", r'dest open "/inbox/\S+": Failure'),
        "write": (1, r"sallyport: REJECTED limit-exceeded", r'write remote "/inbox/\S+": Failure'),
        "close": (1, r"sallyport: REJECTED orders", r"constraint-error", r"close remote: Failure"),
        "bytes": (1, r"names must be UTF-8"),
    }

    def batch(self, *lines):
        script = self.script(lines)
        sftp = ["sftp", *self.ssh_options(), "-P", self.login.port, "-b", script, self.host]
        return self.run(*sftp, asked=f"sftp -b: {'; '.join(lines)}")

    def put(self, local, remote, preserve=False):
        flag = "-p " if preserve else ""
        return self.batch(f"put {flag}{quoted(local)} {quoted(remote)}")

    def resume(self, local, remote):
        return self.batch(f"reput {quoted(local)} {quoted(remote)}")

    def put_all(self, folder, remote):
        return self.batch(f"put {folder}/* {remote}/")

    def put_folder(self, folder, remote):
        return self.batch(f"put -r {folder} {remote}/")

    def get(self, remote, local):
        return self.batch(f"get {quoted(remote)} {quoted(local)}")

    def ls(self, remote):
        return self.batch(f"ls -l {remote}")

    def rename(self, source, target):
        return self.batch(f"rename {quoted(source)} {quoted(target)}")

    def remove(self, remote):
        return self.batch(f"rm {quoted(remote)}")

    def execute(self, command):
        return self.run("ssh", *self.ssh_options(), "-p", self.login.port, self.host, command)


class Scp(Client):
    name = "scp"
    cannot = {
        "parallel": "scp sends one file at a time",
        "ls": "scp has no listing",
        "rename": "scp has no rename",
        "remove": "scp has no remove",
        "execute": "scp runs no commands; see sftp, where ssh does",
    }
    shows = {
        "open": (1, r"sallyport: REJECTED no-feed", r"dest open \S+: Failure"),
        "write": (1, r"sallyport: REJECTED limit-exceeded", r"write remote \S+: Failure"),
        "close": (1, r"sallyport: REJECTED orders", r"constraint-error", r"close remote: Failure"),
        "bytes": (1, r"names must be UTF-8"),
    }
    goes_on = False
    mode = "-s"

    def scp(self, *rest):
        return self.run("scp", self.mode, *self.ssh_options(), "-P", self.login.port, *rest)

    def put(self, local, remote, preserve=False):
        return self.scp(*["-p"][: int(preserve)], local, f"{self.host}:{remote}")

    def put_all(self, folder, remote):
        return self.scp(*sorted(folder.iterdir()), f"{self.host}:{remote}/")

    def put_folder(self, folder, remote):
        return self.scp("-r", folder, f"{self.host}:{remote}/")

    def get(self, remote, local):
        return self.scp(f"{self.host}:{remote}", local)


class LegacyScp(Scp):
    name = "scp -O"
    declares_size = True
    mode = "-O"
    # The protocol's own way to say it: a message, and the exit code 1.
    shows = {
        "open": (1, r"REJECTED no-feed"),
        "write": (1, r"REJECTED limit-exceeded"),
        "close": (1, r"REJECTED", r"constraint-error"),
        "bytes": (1, r"names must be UTF-8"),
    }

    def put(self, local, remote, preserve=False):
        """Into the folder where the name stays, so that no shell has to be quoted for."""
        folder, name = remote.rsplit("/", 1)
        return super().put(local, f"{folder}/" if local.name == name else remote, preserve)
