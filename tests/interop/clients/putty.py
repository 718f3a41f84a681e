"""PuTTY: psftp, and pscp in both its modes."""

import subprocess

from clients import Client


class Putty(Client):
    cannot = {"parallel": "PuTTY's tools send one file at a time"}

    def options(self):
        """PuTTY reads keys in its own format only."""
        ppk = self.home / f"{self.login.key.name}.ppk"
        if not ppk.exists():
            convert = ["puttygen", self.login.key, "-O", "private", "-o", ppk]
            subprocess.run(convert, check=True, capture_output=True)
        return ["-batch", "-noagent", "-i", ppk, "-hostkey", self.gateway.fingerprint]


class Psftp(Putty):
    name = "psftp"
    shows = {
        "open": (2, r"sallyport: REJECTED no-feed", r"open for write: failure"),
        "write": (2, r"sallyport: REJECTED limit-exceeded", r"error while writing: failure"),
        "close": (2, r"sallyport: REJECTED orders", r"constraint-error", r"error while closing: failure"),
        "bytes": (2, r"names must be UTF-8"),
    }  # fmt: skip
    cannot = Putty.cannot | {"preserve": "psftp sends no times"}

    def batch(self, *lines):
        psftp = ["psftp", *self.options(), "-P", self.login.port, "-b", self.script(lines)]
        return self.run(*psftp, self.host, asked=f"psftp -b: {'; '.join(lines)}")

    def put(self, local, remote, preserve=False):
        return self.batch(f"put {doubled(local)} {doubled(remote)}")

    def resume(self, local, remote):
        return self.batch(f"reput {doubled(local)} {doubled(remote)}")

    def put_all(self, folder, remote):
        return self.batch(f"cd {remote}", f"mput {folder}/*")

    def put_folder(self, folder, remote):
        return self.batch(f"put -r {folder} {remote}/{folder.name}")

    def get(self, remote, local):
        return self.batch(f"get {doubled(remote)} {doubled(local)}")

    def ls(self, remote):
        return self.batch(f"ls {remote}")

    def rename(self, source, target):
        return self.batch(f"mv {doubled(source)} {doubled(target)}")

    def remove(self, remote):
        return self.batch(f"rm {doubled(remote)}")

    def execute(self, command):
        return self.run("plink", *self.options(), "-P", self.login.port, self.host, command)


class Pscp(Putty):
    name = "pscp -sftp"
    mode = "-sftp"
    cannot = Putty.cannot | {
        "rename": "pscp has no rename",
        "remove": "pscp has no remove",
        "execute": "pscp runs no commands; see psftp, where plink does",
    }
    shows = {
        "open": (1, r"sallyport: REJECTED no-feed", r"unable to open \S+: failure"),
        "write": (1, r"sallyport: REJECTED limit-exceeded", r"error while writing: failure"),
        # pscp does not look at the answer to CLOSE: the lines on stderr are all that tells.
        "close": (0, r"sallyport: REJECTED orders", r"constraint-error"),
        "bytes": (1, r"names must be UTF-8"),
    }
    goes_on = False

    def pscp(self, *rest):
        return self.run("pscp", self.mode, *self.options(), "-P", self.login.port, *rest)

    def put(self, local, remote, preserve=False):
        return self.pscp(*["-p"][: int(preserve)], local, f"{self.host}:{remote}")

    def put_all(self, folder, remote):
        return self.pscp(*sorted(folder.iterdir()), f"{self.host}:{remote}/")

    def put_folder(self, folder, remote):
        return self.pscp("-r", folder, f"{self.host}:{remote}/")

    def get(self, remote, local):
        return self.pscp(f"{self.host}:{remote}", local)

    def ls(self, remote):
        return self.pscp("-ls", f"{self.host}:{remote}")


class LegacyPscp(Pscp):
    name = "pscp -scp"
    declares_size = True
    mode = "-scp"
    cannot = Pscp.cannot | {"ls": "pscp -scp lists by a shell's ls"}
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


def doubled(text):
    """In double quotes, as psftp reads them: a quote inside is doubled."""
    escaped = str(text).replace('"', '""')
    return f'"{escaped}"'
