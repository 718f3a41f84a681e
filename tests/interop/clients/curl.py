"""curl: sftp:// and scp://."""

from urllib.parse import quote, unquote_to_bytes

from clients import Client


class Curl(Client):
    name = "curl sftp"
    scheme = "sftp"
    cannot = {
        "preserve": "curl sends no times",
        "execute": "curl runs no commands",
        "rsa": "libssh2 1.10 signs with SHA-1 only",
    }
    # curl shows no text of the server's; its 9 is for PERMISSION_DENIED only.
    shows = {
        "open": (79, r"curl: \(79\) Upload failed"),
        "write": (79, r"curl: \(79\) Error in the SSH layer"),
        # curl does not look at the answer to CLOSE; the receipt is what tells.
        "close": (0, r"^$"),
        "bytes": (79, r"curl: \(79\) Upload failed"),
    }

    def curl(self, *rest):
        options = ["--key", self.login.key, "--pubkey", f"{self.login.key}.pub"]
        return self.run("curl", "-sS", *options, "-u", f"{self.login.user}:", *rest)

    def url(self, remote):
        path = quote(remote, errors="surrogateescape")
        return f"{self.scheme}://127.0.0.1:{self.login.port}/{path}"

    def put(self, local, remote, preserve=False):
        return self.curl("-g", "-T", local, self.url(remote))

    def resume(self, local, remote):
        return self.curl("-C", "-", "-T", local, self.url(remote))

    def put_all(self, folder, remote):
        return self.curl(*self.each(folder, remote))

    def put_all_at_once(self, folder, remote):
        return self.curl("-Z", "--parallel-max", "4", *self.each(folder, remote))

    def each(self, folder, remote):
        files = sorted(folder.iterdir())
        return [word for f in files for word in ("-T", f, self.url(f"{remote}/{f.name}"))]

    def put_folder(self, folder, remote):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        there = [self.url(f"{remote}/{file.relative_to(folder.parent)}") for file in files]
        pairs = [word for pair in zip(files, there) for word in ("-T", *pair)]
        return self.curl("--ftp-create-dirs", *pairs)

    def get(self, remote, local):
        return self.curl("-o", local, self.url(remote))

    def ls(self, remote):
        return self.curl(self.url(f"{remote}/"))

    def rename(self, source, target):
        """A command after a transfer: curl has none without one, so the help is fetched."""
        return self.quote_command(f'rename "/{source}" "/{target}"')

    def remove(self, remote):
        return self.quote_command(f'rm "/{remote}"')

    def quote_command(self, command):
        return self.curl("-o", "/dev/null", "-Q", f"-{command}", self.url("help/README.txt"))


class CurlScp(Curl):
    name = "curl scp"
    scheme = "scp"
    cannot = Curl.cannot | {
        "folders": "scp:// makes no folders",
        "ls": "scp:// has no listing",
        "rename": "scp:// has no rename",
        "remove": "scp:// has no remove",
    }
    declares_size = True
    shows = {
        "open": (25, r"curl: \(25\)"),
        "write": (25, r"curl: \(25\)"),
        # It never reads the last answer of the protocol: only the receipt tells.
        "close": (0,),
        "bytes": (25, r"curl: \(25\)"),
    }

    goes_on = False

    def resume(self, local, remote):
        return self.put(local, remote)
