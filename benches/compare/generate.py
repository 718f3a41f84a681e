#!/usr/bin/env python3
"""A realistic partner file of any size, the same bytes for the same seed.

    benches/compare/generate.py OUT --mib 200 [--seed 7] [--format csv|ndjson]

Twelve columns: order id, customer name (quotes, commas and line breaks now and then), e-mail, phone,
card, IBAN, date, timestamp, amount, quantity, country, free text with some UTF-8. Cards have a right
check digit and IBANs a right remainder.
"""

import argparse
import json
import random
import sys

COLUMNS = [
    "order_id", "name", "email", "phone", "card", "iban",
    "born", "ordered_at", "amount", "quantity", "country", "note",
]
FIRST = ["Anna", "Björn", "Chloé", "Dmitri", "Emma", "Fatima", "Giorgos", "Hanna", "Igor", "Jürgen"]
LAST = ["Müller", "O'Neil", "García", "Schmidt", "Nowak", "Rossi", "Lefèvre", "Novák", "Jensen", "Şahin"]
WORDS = "please deliver to the side door after noon thanks gift wrap no bell ring twice leave".split()
COUNTRIES = ["DE", "AT", "CH", "FR", "IT", "ES", "PL", "NL"]


def card(rng):
    digits = [4] + [rng.randrange(10) for _ in range(14)]
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if place % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return "".join(map(str, digits)) + str(-total % 10)


def iban(rng):
    body = "".join(str(rng.randrange(10)) for _ in range(18))
    check = 98 - int(body + "131400") % 97
    return f"DE{check:02d}{body}"


def row(rng, number):
    first, last = rng.choice(FIRST), rng.choice(LAST)
    name = f"{first} {last}"
    if number % 50 == 0:
        name = f'{first} "{last}", jr.'
    note = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(2, 12)))
    if number % 40 == 0:
        note += ", größe €5"
    if number % 400 == 0:
        note += "\nsecond line"
    day, month = rng.randrange(1, 29), rng.randrange(1, 13)
    return [
        f"O-{number:08d}",
        name,
        f"{first.encode('ascii', 'ignore').decode().lower()}.{number}@example.org",
        f"+49 30 {rng.randrange(10**6, 10**7)}",
        card(rng),
        iban(rng),
        f"{rng.randrange(1940, 2006)}-{month:02d}-{day:02d}",
        f"2026-{month:02d}-{day:02d}T{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z",
        f"{rng.randrange(0, 100000)}.{rng.randrange(100):02d}",
        str(rng.randrange(1, 1000)),
        rng.choice(COUNTRIES),
        note,
    ]


def cell(text):
    if any(mark in text for mark in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("out")
    arguments.add_argument("--mib", type=float, default=200)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--format", choices=["csv", "ndjson"], default="csv")
    given = arguments.parse_args()
    rng = random.Random(given.seed)
    wanted, written, number = int(given.mib * 1024 * 1024), 0, 0
    with open(given.out, "w", encoding="utf-8", newline="") as out:
        if given.format == "csv":
            written += out.write(",".join(COLUMNS) + "\n")
        while written < wanted:
            lines = []
            for _ in range(2000):
                number += 1
                cells = row(rng, number)
                if given.format == "csv":
                    lines.append(",".join(map(cell, cells)))
                else:
                    value = dict(zip(COLUMNS, cells))
                    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                    for key in ("amount", "quantity"):
                        text = text.replace(f'"{key}":"{value[key]}"', f'"{key}":{value[key]}')
                    lines.append(text)
            written += out.write("\n".join(lines) + "\n")
    print(f"{number} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
