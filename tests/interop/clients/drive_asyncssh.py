"""asyncssh behind a command line: PORT USER KEY HOST_KEY VERB ARGUMENT..."""

import asyncio
import os
import sys
from pathlib import Path

import asyncssh

port, user, key, host_key, verb, *rest = sys.argv[1:]


async def main():
    async with asyncssh.connect(
        "127.0.0.1",
        int(port),
        username=user,
        client_keys=[key],
        known_hosts=f"[127.0.0.1]:{port} {host_key}\n".encode(),
        agent_path=None,
        config=None,
    ) as connection:
        if verb == "exec":
            ran = await connection.run(rest[0])
            print(ran.stdout, ran.stderr)
            sys.exit(255 if ran.exit_status is None else ran.exit_status)
        async with connection.start_sftp_client() as sftp:
            await act(sftp, *rest)


async def act(sftp, one, two=None):
    match verb:
        case "put":
            # As bytes: the only way to send a name that is not UTF-8.
            await sftp.put(os.fsencode(one), os.fsencode(two))
        case "put-preserving":
            await sftp.put(one, two, preserve=True)
        case "resume":
            async with sftp.open(two, "ab") as target:
                with open(one, "rb") as source:
                    source.seek(await sftp.getsize(two))
                    while piece := source.read(1 << 20):
                        await target.write(piece)
        case "put-all":
            for file in sorted(Path(one).iterdir()):
                await sftp.put(str(file), f"{two}/{file.name}")
        case "put-all-at-once":
            files = sorted(Path(one).iterdir())
            await asyncio.gather(*(sftp.put(str(f), f"{two}/{f.name}") for f in files))
        case "put-folder":
            await sftp.put(one, two, recurse=True)
        case "get":
            await sftp.get(one, two)
        case "ls":
            for entry in await sftp.readdir(one):
                print(entry.attrs.size, entry.filename)
        case "rename":
            await sftp.posix_rename(one, two)
        case "remove":
            await sftp.remove(one)


try:
    asyncio.run(main())
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
