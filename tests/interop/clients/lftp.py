"""lftp: also mirror -R, and its upload under a temporary name."""

from clients import Client, quoted


class Lftp(Client):
    name = "lftp"
    cannot = {"execute": "lftp runs no commands"}
    # lftp shows the text of a status, and nothing of the channel's stderr.
    shows = {
        "open": (1, r"REJECTED no-feed"),
        "write": (1, r"REJECTED limit-exceeded"),
        "close": (1, r"REJECTED 3 errors in 3 rows"),
        "bytes": (1, r"names must be UTF-8"),
    }

    def lftp(self, *lines):
        ssh = " ".join(["ssh -a -x", *self.ssh_options()])
        script = self.script(
            [
                f"set sftp:connect-program {quoted(ssh)}",
                "set cmd:fail-exit yes",
                "set net:max-retries 1",
                f"open -u {self.login.user}, sftp://127.0.0.1:{self.login.port}",
                *lines,
            ]
        )
        return self.run("lftp", "--norc", "-f", script, asked=f"lftp: {'; '.join(lines)}")

    def put(self, local, remote, preserve=False):
        return self.lftp(f"put {quoted(local)} -o {quoted(remote)}")

    def put_by_temporary_name(self, local, remote):
        """Sends `.in.NAME`, removes NAME, renames."""
        return self.lftp("set xfer:use-temp-file yes", f"put {quoted(local)} -o {quoted(remote)}")

    def resume(self, local, remote):
        return self.lftp(f"put -c {quoted(local)} -o {quoted(remote)}")

    def put_all(self, folder, remote):
        return self.lftp(f"mirror -R {folder} {remote}")

    def put_all_at_once(self, folder, remote):
        return self.lftp(f"mirror -R --parallel=4 {folder} {remote}")

    def put_folder(self, folder, remote):
        return self.lftp(f"mirror -R {folder} {remote}/{folder.name}")

    def get(self, remote, local):
        return self.lftp(f"get {quoted(remote)} -o {quoted(local)}")

    def ls(self, remote):
        return self.lftp(f"ls {remote}")

    def rename(self, source, target):
        return self.lftp(f"mv {quoted(source)} {quoted(target)}")

    def remove(self, remote):
        return self.lftp(f"rm {quoted(remote)}")
