"""What every client is asked to do, and the truth behind its word: the ledger and the lake."""

import json
import os
import re
import subprocess
import threading
import unicodedata
from pathlib import Path

from clients import Cannot, Login
from gateway import Failed, check, orders, wait_for

ODD_NAMES = [
    "with two spaces.bin",
    "single ' quote.bin",
    'double " quote.bin',
    unicodedata.normalize("NFC", "größe café.bin"),
    unicodedata.normalize("NFD", "größe café.bin"),
    "注文 заказ 🚢.bin",
    "-rf.bin",
    "x" * 220 + ".bin",
    "semi;colon.bin",
    "$(touch pwned) `id` $HOME.bin",
    "percent%41%2e.bin",
]
LATIN_1 = os.fsdecode(b"caf\xe9.bin")
TIME = 1_709_210_096  # 2024-02-29 12:34:56 UTC


def put(client, gateway):
    local, content = sample(client, "as-it-is-called-here.bin", 3_000_000)
    client.put(local, "inbox/put.bin").ok()
    gateway.delivered("put.bin", content)


def overwrite(client, gateway):
    local, content = sample(client, "again.bin", 100_000)
    client.put(local, "inbox/again.bin").ok()
    first = gateway.delivered("again.bin", content)
    local, content = sample(client, "again.bin", 70_000)
    client.put(local, "inbox/again.bin").ok()
    second = gateway.delivered("again.bin", content)
    check(second["submission"] != first["submission"], "the second file is no submission")
    check(size_of(client, "inbox/again.bin") == 70_000, "the listing has not the new size")


def resume(client, gateway):
    """Cut in the middle with the client killed, then gone on with by the client's own means."""
    local, content = sample(client, "cut.bin", 4_000_000)
    before = gateway.published()
    relay = gateway.relay
    relay.reset(hold_at=2_000_000)
    client.use(port=relay.port)
    sending = threading.Thread(target=swallow(client.put), args=(local, "inbox/cut.bin"))
    sending.start()
    wait_for("half of the file", lambda: relay.held.is_set() or not sending.is_alive())
    check(relay.held.is_set(), "the client ended before half of the file was sent")
    client.kill()
    relay.cut()
    sending.join()
    wait_for("the gateway to see the cut", lambda: not unfinished(gateway, "cut.bin"))
    check(gateway.published() == before, "half a file was published")
    relay.reset()
    client.resume(local, "inbox/cut.bin").ok()
    gateway.delivered("cut.bin", content)
    sent_again = relay.sent > len(content)
    check(sent_again != client.goes_on, f"{relay.sent} of {len(content)} bytes were sent to resume")


def temporary_name(client, gateway):
    """Under a partial name nothing is judged; its rename to the final one is what counts."""
    needs(client, "rename")
    local, content = sample(client, "renamed.bin", 200_000)
    before = gateway.published()
    client.put(local, "inbox/renamed.bin.part").ok()
    decided = [item for item in gateway.submissions() if "renamed" in item["file"]]
    check(not any(item["verdict"] for item in decided), f"judged before its rename: {decided}")
    check(gateway.published() == before, "published before its rename")
    client.rename("inbox/renamed.bin.part", "inbox/renamed.bin").ok()
    gateway.delivered("renamed.bin", content)
    if hasattr(client, "put_by_temporary_name"):
        for size in (150_000, 120_000):
            local, content = sample(client, "temp.bin", size)
            client.put_by_temporary_name(local, "inbox/temp.bin").ok()
            gateway.delivered("temp.bin", content)


def preserve(client, gateway):
    needs(client, "preserve")
    local, content = sample(client, "old.bin", 5_000)
    os.utime(local, (TIME, TIME))
    client.put(local, "inbox/old.bin", preserve=True).ok()
    gateway.delivered("old.bin", content)
    shown = observe(client).stat("inbox/old.bin").ok().out.split()
    check(shown[:2] == ["5000", str(TIME)], f"size and time are listed as {shown}")


def zero_bytes(client, gateway):
    local, content = sample(client, "zero.bin", 0)
    client.put(local, "inbox/zero.bin").ok()
    gateway.delivered("zero.bin", content)


def odd_names(client, gateway):
    faults = []
    for name in ODD_NAMES:
        local, content = sample(client, name, 3_000)
        try:
            client.put(local, f"inbox/{name}").ok()
            gateway.delivered(name, content)
        except Failed as failed:
            faults.append(f"{name!r}: {failed}\n{client.runs[-1]}")
    check(not faults, "\n".join(faults))


def not_utf8(client, gateway):
    needs(client, "bytes")
    local, _ = sample(client, LATIN_1, 3_000)
    before = len(gateway.submissions())
    refused(client, "bytes", client.put(local, f"inbox/{LATIN_1}"))
    check(len(gateway.submissions()) == before, "it became a submission")


def many_files(client, gateway):
    folder, contents = samples(client, "small", 200, 1_000)
    client.put_all(folder, "inbox").ok()
    all_delivered(gateway, contents)


def at_once(client, gateway):
    needs(client, "parallel")
    folder, contents = samples(client, "large", 16, 2_000_000)
    client.put_all_at_once(folder, "inbox").ok()
    items = sorted(all_delivered(gateway, contents), key=lambda item: item["opened_at"])
    overlaps = [b["opened_at"] < a["received_at"] for a, b in zip(items, items[1:])]
    check(any(overlaps), "no two files were sent at the same time")


def refused_name(client, gateway):
    local, _ = sample(client, "no_such_feed.txt", 3_000)
    before = gateway.published()
    refused(client, "open", client.put(local, "inbox/no_such_feed.txt"))
    check(gateway.published() == before, "a refused file was published")


def too_big(client, gateway):
    local, _ = sample(client, "capped_1", 2_000_000)
    if client.declares_size:
        # Legacy scp says how much will come: nothing has begun, so nothing is recorded.
        before = gateway.published()
        refused(client, "write", client.put(local, "inbox/capped_1"))
        check(gateway.published() == before, "a refused file was published")
        return
    refuse_and_tell(client, gateway, local, "write")


def rejected(client, gateway):
    local = client.home / "orders_20261121.csv"
    local.write_bytes(orders(3, country="UK"))
    refuse_and_tell(client, gateway, local, "close")


def refuse_and_tell(client, gateway, local, when):
    """The client shows it as it can, nothing is published, and the receipt is there to be read."""
    before = gateway.published()
    refused(client, when, client.put(local, f"inbox/{local.name}"))
    item = gateway.settled(local.name, "rejected")
    check(gateway.published() == before, "a rejected file was published")
    observer = observe(client)
    check(local.name not in observer.ls("inbox").ok().out, "a rejected file is listed")
    receipt = f"{local.name}.{item['short']}.receipt.txt"
    check(receipt in observer.ls("receipts").ok().out, f"{receipt} is not in /receipts")


def listing(client, gateway):
    """With the size as sent, whatever became of the content."""
    needs(client, "ls")
    content = orders(50)
    local = client.home / "orders_20261120.csv"
    local.write_bytes(content)
    client.put(local, "inbox/orders_20261120.csv").ok()
    gateway.settled(local.name, "delivered")
    shown = client.ls("inbox").ok().out
    line = rf"\b{len(content)}\b.*orders_20261120\.csv"
    check(re.search(line, shown), f"not listed with its {len(content)} bytes")


def receipt(client, gateway):
    local, content = sample(client, "latest.bin", 3_000)
    client.put(local, "inbox/latest.bin").ok()
    item = gateway.delivered("latest.bin", content)
    fetched = client.home / "latest.txt"
    client.get("receipts/latest.txt", fetched).ok()
    text = fetched.read_text()
    check(item["short"] in text and "ACCEPTED" in text, f"not its receipt:\n{text}")


def outbox(client, gateway):
    """Listed and removed by the client, or where it cannot, by another; fetched by itself."""
    client.as_partner("depot")
    content = os.urandom(300_000)
    there = gateway.lake / "to-acme"
    there.mkdir(exist_ok=True)
    (there / "price_list.bin").write_bytes(content)
    observer = observe(client)
    lists = client if client.can("ls") else observer
    removes = client if client.can("remove") else observer
    shown = lists.ls("outbox").ok().out
    check(re.search(r"\b300000\b.*price_list\.bin", shown), "not listed with its size")
    fetched = client.home / "fetched.bin"
    client.get("outbox/price_list.bin", fetched).ok()
    check(fetched.read_bytes() == content, "what was fetched differs")
    removes.remove("outbox/price_list.bin").ok()
    check("price_list.bin" not in observer.ls("outbox").ok().out, "removed, and still listed")


def test_area(client, gateway):
    local, content = sample(client, "trial.bin", 3_000)
    before = gateway.published()
    client.put(local, "test/inbox/trial.bin").ok()
    observer = observe(client)

    def told():
        listed = observer.ls("test/receipts").out
        return re.search(r"trial\.bin\.\w+\.receipt\.json(?!\.)", listed)

    name = wait_for("a receipt in /test/receipts", told)[0]
    fetched = client.home / "trial.json"
    observer.get(f"test/receipts/{name}", fetched).ok()
    told = json.loads(fetched.read_text())
    check((told["area"], told["verdict"]) == ("test", "accepted"), f"the receipt says {told}")
    check(gateway.published() == before, "a trial was published")


def folders(client, gateway):
    needs(client, "folders")
    client.as_partner("tree")
    top = client.home / "week-48"
    contents = {}
    for place in ("one.bin", "deeper/two.bin", "deeper/and/three.bin"):
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        contents[place] = os.urandom(2_000)
        (top / place).write_bytes(contents[place])
    client.put_folder(top, "inbox").ok()
    for place, content in contents.items():
        item = gateway.delivered(Path(place).name, content)
        check(item["path"] == f"/inbox/week-48/{place}", f"it lies at {item['path']}")


def digest(client, gateway):
    """`sha256sum` by exec is answered from the digest taken at ingest; nothing else is run."""
    needs(client, "execute")
    local, content = sample(client, "digest.bin", 200_000)
    client.put(local, "inbox/digest.bin").ok()
    item = gateway.delivered("digest.bin", content)
    if hasattr(client, "hash"):
        return client.hash(local, "inbox/digest.bin", item["sha256"])
    for place in ("inbox/digest.bin", "/inbox/digest.bin"):
        said = client.execute(f"sha256sum {place}").ok().out
        check(f"{item['sha256']}  {place}" in said.splitlines(), "not the digest's line")
    for command in ("sha256sum inbox/nothing.bin", "id", "sh", "sha256sum"):
        check(client.execute(command).code != 0, f"{command!r} seems to have worked")


def rsa_key(client, gateway):
    """rsa-sha2: SHA-1 signatures are not taken."""
    needs(client, "rsa")
    client.use(key=gateway.rsa_key)
    local, content = sample(client, "rsa.bin", 3_000)
    client.put(local, "inbox/rsa.bin").ok()
    item = gateway.delivered("rsa.bin", content)
    shown = subprocess.run(["ssh-keygen", "-lf", gateway.rsa_key], capture_output=True, text=True)
    check(item["key"] in shown.stdout, f"sent with {item['key']}, not {shown.stdout}")


OPERATIONS = {
    "put": put,
    "overwrite": overwrite,
    "resume": resume,
    "temp+rename": temporary_name,
    "put -p": preserve,
    "zero bytes": zero_bytes,
    "odd names": odd_names,
    "name not UTF-8": not_utf8,
    "200 small files": many_files,
    "parallel": at_once,
    "refused at OPEN": refused_name,
    "refused at WRITE": too_big,
    "refused at CLOSE": rejected,
    "listing": listing,
    "receipt": receipt,
    "outbox": outbox,
    "test area": test_area,
    "folders": folders,
    "digest": digest,
    "rsa key": rsa_key,
}


def needs(client, verb):
    if not client.can(verb):
        raise Cannot(client.cannot[verb])


def sample(client, name, size):
    """A local file of random bytes."""
    file = client.home / name
    content = os.urandom(size)
    file.write_bytes(content)
    return file, content


def samples(client, stem, count, size):
    """A local folder of such files."""
    folder = client.home / stem
    folder.mkdir()
    contents = {}
    for n in range(count):
        contents[f"{stem}{n:03}.bin"] = os.urandom(size)
        (folder / f"{stem}{n:03}.bin").write_bytes(contents[f"{stem}{n:03}.bin"])
    return folder, contents


def all_delivered(gateway, contents):
    def settled():
        items = [item for item in gateway.submissions() if item["file"] in contents]
        states = {item["file"]: item["state"] for item in items}
        return len(states) == len(contents) and set(states.values()) == {"delivered"} and items

    items = wait_for(f"{len(contents)} files delivered", settled)
    check(len(items) == len(contents), f"{len(items)} submissions of {len(contents)} files")
    for item in items:
        content = (gateway.lake / f"acme/blobs/{item['submission']}.bin").read_bytes()
        check(content == contents[item["file"]], f"{item['file']} differs from what was sent")
    return items


def refused(client, when, ran):
    code, *shown = client.shows[when]
    check(ran.code == code, f"exit {code} expected, not {ran.code}")
    for part in shown:
        check(re.search(part, ran.out), f"the client does not show {part!r}")


def unfinished(gateway, file):
    return any(item["state"] == "receiving" for item in gateway.submissions(file))


def observe(client):
    """Another client with the same login: the truth about listings."""
    observer = client.observer
    observer.login = Login(client.login.user, client.login.key, client.gateway.port)
    return observer


def size_of(client, remote):
    return int(observe(client).stat(remote).ok().out.split()[0])


def swallow(put):
    """A put that may fail as it likes: it is going to be killed."""

    def run(*args):
        try:
            put(*args)
        except Exception:
            pass

    return run
