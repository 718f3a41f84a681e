"""The same checks by other tools, one core each: peers.py TOOL FILE [OUT]. Prints the faults it found.

Types, patterns, a list of values, one unique column. Card and IBAN by pattern only: no peer here
checks their digits. `duckdb-tokens` also hashes three columns and writes CSV, `duckdb-parquet` Parquet.
"""

import sys

PATTERNS = {
    "order_id": r"^O-[0-9]{8}$",
    "email": r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
    "phone": r"^\+[0-9 ]{8,20}$",
    "card": r"^[0-9]{12,19}$",
    "iban": r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$",
    "amount": r"^-?[0-9]{1,10}(\.[0-9]{1,2})?$",
    "quantity": r"^-?[0-9]+$",
}
COUNTRIES = ["DE", "AT", "CH", "FR", "IT", "ES", "PL", "NL"]
COLUMNS = [
    "order_id", "name", "email", "phone", "card", "iban",
    "born", "ordered_at", "amount", "quantity", "country", "note",
]


def polars(path, _):
    import os
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl
    schema = {name: pl.String for name in COLUMNS}
    if path.endswith(".ndjson"):
        schema |= {"amount": pl.Float64, "quantity": pl.Int64}
        frame = pl.scan_ndjson(path, schema=schema)
        patterns = {k: v for k, v in PATTERNS.items() if k not in ("amount", "quantity")}
    else:
        frame = pl.scan_csv(path, schema=schema)
        patterns = PATTERNS
    faults = [(~pl.col(name).str.contains(pattern)).sum().alias(name) for name, pattern in patterns.items()]
    faults += [
        pl.col("born").str.to_date("%Y-%m-%d", strict=False).is_null().sum(),
        pl.col("ordered_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", strict=False).is_null().sum(),
        (~pl.col("country").is_in(COUNTRIES)).sum(),
        (pl.len() - pl.col("order_id").n_unique()).alias("unique"),
    ]
    return sum(frame.select(faults).collect(engine="streaming").row(0))


def duck(path, out, tokens=None):
    import duckdb
    base = duckdb.connect()
    base.execute("SET threads=1")
    if path.endswith(".ndjson"):
        kinds = ", ".join(f"{name}: 'VARCHAR'" for name in COLUMNS)
        source = f"read_ndjson('{path}', columns={{{kinds}}})"
    else:
        source = f"read_csv('{path}', all_varchar=true, header=true, delim=',', quote='\"', escape='\"')"
    checks = [f"count(*) FILTER (NOT regexp_matches({name}, '{pattern.replace(chr(39), chr(39) * 2)}'))"
              for name, pattern in PATTERNS.items()]
    checks += [
        "count(*) FILTER (try_cast(born AS DATE) IS NULL)",
        "count(*) FILTER (try_strptime(ordered_at, '%Y-%m-%dT%H:%M:%SZ') IS NULL)",
        f"count(*) FILTER (country NOT IN ({', '.join(repr(c) for c in COUNTRIES)}))",
        "count(*) - count(DISTINCT order_id)",
    ]
    if tokens:
        hashed = ", ".join(
            f"sha256({name}) AS {name}" if name in ("email", "card", "iban") else name for name in COLUMNS)
        if tokens == "parquet":
            typed = {"born": "DATE", "ordered_at": "TIMESTAMPTZ", "amount": "DECIMAL(12,2)", "quantity": "BIGINT"}
            for name, kind in typed.items():
                hashed = hashed.replace(f", {name}", f", CAST({name} AS {kind}) AS {name}")
            form = "FORMAT parquet, COMPRESSION zstd"
        else:
            form = "FORMAT csv, HEADER"
        base.execute(f"COPY (SELECT {hashed} FROM {source}) TO '{out}' ({form})")
    return sum(base.execute(f"SELECT {' + '.join(checks)} FROM {source}").fetchone())


def arrow(path, _):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as csv
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    convert = csv.ConvertOptions(column_types={name: pa.string() for name in COLUMNS})
    parse = csv.ParseOptions(newlines_in_values=True)
    read = csv.ReadOptions(use_threads=False, block_size=4 << 20)
    faults, ids = 0, []
    countries = pa.array(COUNTRIES)
    for batch in csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert):
        for name, pattern in PATTERNS.items():
            faults += pc.sum(pc.invert(pc.match_substring_regex(batch[name], pattern))).as_py()
        for name, form in (("born", "%Y-%m-%d"), ("ordered_at", "%Y-%m-%dT%H:%M:%SZ")):
            faults += pc.strptime(batch[name], format=form, unit="s", error_is_null=True).null_count
        faults += pc.sum(pc.invert(pc.is_in(batch["country"], value_set=countries))).as_py()
        ids.append(batch["order_id"])
    ids = pa.chunked_array(ids)
    return faults + len(ids) - pc.count_distinct(ids).as_py()


def frictionless(path, _):
    from frictionless import Resource, Schema, system, validate
    fields = [{"name": name, "type": "string", "constraints": {"pattern": PATTERNS[name][1:-1]}}
              if name in PATTERNS and name not in ("amount", "quantity") else {"name": name, "type": "string"}
              for name in COLUMNS]
    for field in fields:
        if field["name"] == "order_id":
            field["constraints"]["unique"] = True
        if field["name"] in ("amount", "quantity"):
            field["type"] = "number" if field["name"] == "amount" else "integer"
        if field["name"] == "born":
            field["type"] = "date"
        if field["name"] == "ordered_at":
            field |= {"type": "datetime", "format": "%Y-%m-%dT%H:%M:%SZ"}
        if field["name"] == "country":
            field["constraints"] = {"enum": COUNTRIES}
    with system.use_context(trusted=True):
        report = validate(Resource(path=path, schema=Schema.from_descriptor({"fields": fields})))
    return report.stats["errors"]


TOOLS = {
    "polars": polars,
    "duckdb": duck,
    "duckdb-tokens": lambda path, out: duck(path, out, tokens="csv"),
    "duckdb-parquet": lambda path, out: duck(path, out, tokens="parquet"),
    "pyarrow": arrow,
    "frictionless": frictionless,
}

if __name__ == "__main__":
    tool, path, *out = sys.argv[1:]
    print(TOOLS[tool](path, out[0] if out else None))
