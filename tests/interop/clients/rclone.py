"""rclone with its sftp backend."""

from clients import Client
from gateway import check


class Rclone(Client):
    name = "rclone"
    shows = {
        "open": (1, r"REJECTED no-feed"),
        "write": (1, r"REJECTED limit-exceeded"),
        "close": (1, r"REJECTED 3 errors in 3 rows"),
        "bytes": (1, r"names must be UTF-8"),
    }
    goes_on = False

    def environment(self):
        return super().environment() | {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_SFTP_HOST": "127.0.0.1",
            "RCLONE_SFTP_PORT": str(self.login.port),
            "RCLONE_SFTP_USER": self.login.user,
            "RCLONE_SFTP_KEY_FILE": str(self.login.key),
            "RCLONE_SFTP_KNOWN_HOSTS_FILE": str(self.gateway.known_hosts),
        }

    def put(self, local, remote, preserve=False):
        return self.run("rclone", "copyto", local, f":sftp:{remote}")

    def put_all(self, folder, remote):
        return self.run("rclone", "copy", "--transfers", "1", folder, f":sftp:{remote}")

    def put_all_at_once(self, folder, remote):
        return self.run("rclone", "copy", "--transfers", "4", folder, f":sftp:{remote}")

    def put_folder(self, folder, remote):
        return self.run("rclone", "copy", folder, f":sftp:{remote}/{folder.name}")

    def get(self, remote, local):
        return self.run("rclone", "copyto", f":sftp:{remote}", local)

    def ls(self, remote):
        return self.run("rclone", "lsl", f":sftp:{remote}")

    def rename(self, source, target):
        return self.run("rclone", "moveto", f":sftp:{source}", f":sftp:{target}")

    def remove(self, remote):
        return self.run("rclone", "deletefile", f":sftp:{remote}")

    def hash(self, local, remote, digest):
        """It asks for md5sum by exec, before it sends and after; a check compares with it."""
        here, there = local.parent, f":sftp:{remote.rsplit('/', 1)[0]}"
        ran = self.run("rclone", "check", "--one-way", "--include", local.name, here, there).ok()
        check("0 differences found" in ran.out, "rclone check found differences")
        check("could not be checked" not in ran.out, "rclone compared sizes only")
