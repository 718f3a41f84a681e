"""Public suites against `sallyport file check`: csv-spectrum, and the Big List of Naughty Strings.

Every file of csv-spectrum must come out as the JSON that stands beside it. Every naughty string must
come through CSV and JSON, in every encoding that has it, as it went in; but for those with control
characters, each of which must be refused as such.
"""

import argparse
import csv
import io
import json
import pathlib
import subprocess
import sys
import tempfile

POLICY = """
version = 1
[partner]
id = "acme"
name = "ACME"
[[feed]]
id = "suite"
match = '.+'
store = "lake"
key = "acme/{{submission}}.csv"
encoding = ["{encoding}"]
format = {{ type = "{type}" }}
output = {{ format = "{output}" }}
[feed.schema]
missing_values = []
columns = [
{columns}
]
"""


class Checker:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def check(self, data, columns, type="csv", output="ndjson", encoding="utf-8"):
        """What is said of the bytes: the verdict, the codes, and the rows as they come out."""
        listed = [f'{{ name = {json.dumps(name)}, type = "string" }},' for name in columns]
        policy = POLICY.format(
            encoding=encoding, type=type, output=output, columns="\n".join(listed)
        )
        (self.folder / "acme.toml").write_text(policy)
        (self.folder / "input").write_bytes(data)
        out = self.folder / "out"
        for old in out.glob("*"):
            old.unlink()
        ran = subprocess.run(
            [self.binary, "file", "check", "input", "--policy", "acme.toml", "--json"]
            + ["--out", "out", "--no-input"],
            cwd=self.folder,
            capture_output=True,
        )
        if ran.returncode not in (0, 1):
            raise SystemExit(f"exit {ran.returncode}: {ran.stderr.decode()}\n{policy}")
        told = json.loads(ran.stdout)
        receipt = told["items"][0] if "items" in told else told
        codes = sorted({error["code"] for error in receipt["errors"]})
        written = [path.read_bytes().decode() for path in out.glob("*") if path.is_file()]
        return receipt["verdict"], codes, "".join(written)


def rows_of(text, output):
    if output == "ndjson":
        return [json.loads(line) for line in text.split("\n") if line]
    table = list(csv.reader(io.StringIO(text, newline="")))
    return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


def spectrum(checker, fetched):
    """csv-spectrum: a file and what it means, side by side."""
    count = 0
    for path in sorted((fetched / "csv-spectrum" / "csvs").glob("*.csv")):
        wanted = json.loads((fetched / "csv-spectrum" / "json" / f"{path.stem}.json").read_text())
        if path.stem == "location_coordinates":
            # Quotes inside cells without quotes, which RFC 4180 has not; and its JSON is of other data.
            verdict, codes, _ = checker.check(path.read_bytes(), list(wanted))
            if (verdict, codes) != ("rejected", ["format-error"]):
                yield f"{path.name}: {verdict} {codes}"
            continue
        for output in ("ndjson", "csv"):
            verdict, codes, text = checker.check(
                path.read_bytes(), list(wanted[0]), output=output
            )
            got = rows_of(text, output)
            if verdict != "accepted" or got != wanted:
                yield f"{path.name} to {output}: {verdict} {codes}\n{got}\n{wanted}"
            count += 1
    if count < 22:
        yield f"only {count} runs of csv-spectrum"


def is_control(character):
    return ord(character) < 0x20 and character != "\t" or 0x7F <= ord(character) < 0xA0


def naughty(checker, fetched):
    """The Big List of Naughty Strings, each a cell."""
    strings = json.loads((fetched / "big-list-of-naughty-strings" / "blns.json").read_text())
    if len(strings) < 400:
        yield f"only {len(strings)} naughty strings"
    good = [text for text in strings if not any(map(is_control, text))]
    bad = [text for text in strings if any(map(is_control, text))]

    def as_csv(texts, encoding):
        out = io.StringIO(newline="")
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([["id", "text"]] + [[n, text] for n, text in enumerate(texts)])
        return out.getvalue().encode(encoding)

    def as_json(texts, _encoding):
        lines = [json.dumps({"id": str(n), "text": t}) for n, t in enumerate(texts)]
        return "\n".join(lines).encode()

    for encoding in ("utf-8", "utf-16le", "gb18030"):
        able = [text for text in good if encodes(text, encoding)]
        for output in ("ndjson", "csv"):
            verdict, codes, text = checker.check(
                as_csv(able, encoding), ["id", "text"], output=output, encoding=encoding
            )
            wanted = [{"id": str(n), "text": text} for n, text in enumerate(able)]
            if verdict != "accepted" or rows_of(text, output) != wanted:
                yield f"naughty strings in {encoding} to {output}: {verdict} {codes}"
    verdict, codes, text = checker.check(as_json(good, ""), ["id", "text"], type="ndjson")
    wanted = [{"id": str(n), "text": text} for n, text in enumerate(good)]
    if verdict != "accepted" or rows_of(text, "ndjson") != wanted:
        yield f"naughty strings of JSON: {verdict} {codes}"
    for text in bad:
        for type, made in (("csv", as_csv), ("ndjson", as_json)):
            verdict, codes, _ = checker.check(made([text], "utf-8"), ["id", "text"], type=type)
            if (verdict, codes) != ("rejected", ["control-characters"]):
                yield f"{text!r} as {type}: {verdict} {codes}"
    print(f"{len(good)} naughty strings came through, {len(bad)} with controls were refused")


def encodes(text, encoding):
    try:
        # Python and the WHATWG differ about a few characters of GB 18030.
        return text.encode(encoding).decode(encoding) == text and (
            encoding != "gb18030" or all(ord(c) < 0xE000 or ord(c) > 0xF8FF for c in text)
        )
    except UnicodeError:
        return False


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", required=True, type=pathlib.Path)
    arguments.add_argument("--fetched", required=True, type=pathlib.Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(given.binary.resolve(), pathlib.Path(folder))
        faults = [*spectrum(checker, given.fetched), *naughty(checker, given.fetched)]
    for fault in faults:
        print(f"FAILED {fault}")
    print(f"suites: {len(faults)} failed")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
