"""paramiko behind a command line: PORT USER KEY HOST_KEY VERB ARGUMENT..."""

import os
import sys
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko

port, user, key, host_key, verb, *rest = sys.argv[1:]


def main():
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    kind, body = host_key.split()
    client.get_host_keys().add(
        f"[127.0.0.1]:{port}", kind, paramiko.Ed25519Key(data=b64decode(body))
    )
    client.connect(
        "127.0.0.1", int(port), user, key_filename=key, allow_agent=False, look_for_keys=False
    )
    with client:
        if verb == "exec":
            _, out, err = client.exec_command(rest[0])
            print(out.read().decode(), err.read().decode())
            sys.exit(out.channel.recv_exit_status() & 255)
        with client.open_sftp() as sftp:
            act(client, sftp, *rest)


def act(client, sftp, one, two=None):
    match verb:
        case "put":
            # As bytes: the only way to send a name that is not UTF-8.
            sftp.put(one, os.fsencode(two))
        case "put-preserving":
            sftp.put(one, two)
            times = os.stat(one)
            sftp.utime(two, (times.st_atime, times.st_mtime))
        case "resume":
            with open(one, "rb") as source, sftp.open(two, "ab") as target:
                source.seek(sftp.stat(two).st_size)
                target.set_pipelined(True)
                while piece := source.read(32768):
                    target.write(piece)
        case "put-all":
            put_each(sftp, sorted(Path(one).iterdir()), two)
        case "put-all-at-once":
            files = sorted(Path(one).iterdir())
            with ThreadPoolExecutor(4) as pool:
                lanes = [(client.open_sftp(), files[lane::4], two) for lane in range(4)]
                list(pool.map(lambda lane: put_each(*lane), lanes))
        case "put-folder":
            put_folder(sftp, Path(one), two)
        case "get":
            sftp.get(one, two)
        case "ls":
            for entry in sftp.listdir_attr(one):
                print(entry.st_size, entry.filename)
        case "stat":
            entry = sftp.stat(one)
            print(entry.st_size, entry.st_mtime, oct(entry.st_mode))
        case "rename":
            sftp.posix_rename(one, two)
        case "remove":
            sftp.remove(one)


def put_each(sftp, files, remote):
    for file in files:
        sftp.put(str(file), f"{remote}/{file.name}")


def put_folder(sftp, folder, remote):
    sftp.mkdir(remote)
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            put_folder(sftp, entry, f"{remote}/{entry.name}")
        else:
            sftp.put(str(entry), f"{remote}/{entry.name}")


try:
    main()
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
