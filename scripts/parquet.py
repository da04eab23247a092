"""Holds an export as Parquet to the export of the same range as CSV, with another reader than ours.

    parquet.py EXPORT.parquet EXPORT.csv      says how many rows there are, all alike
    parquet.py --broken EXPORT.parquet        says why it cannot be read
"""

import csv
import datetime
import sys

import pyarrow as pa
import pyarrow.parquet as pq

TEXT, NUMBER = pa.string(), pa.float64()
COLUMNS = [
    ("time_utc", pa.timestamp("ns", tz="UTC"), False),
    ("gateway", TEXT, False),
    ("sensor", TEXT, False),
    ("quantity", TEXT, False),
    ("value", NUMBER, False),
    ("unit", TEXT, False),
    ("uncertainty", NUMBER, True),
    ("quality", TEXT, False),
    ("clock", TEXT, True),
    ("utc_uncertainty_s", NUMBER, True),
]


def nanoseconds(text):
    """Since 1970, of RFC 3339 in UTC; Python's own times end at microseconds."""
    whole, _, part = text.removesuffix("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(whole + "+00:00").timestamp()
    return int(seconds) * 10**9 + int(part.ljust(9, "0") or 0)


def plain(text):
    """A name without what keeps a spreadsheet from reckoning with it."""
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@", "\t", "\r") else text


def row_of(fields):
    """A line of the CSV as the row of the Parquet that it has to be."""
    time, gateway, sensor, quantity, value, unit, uncertainty, quality, clock, bound = fields
    known = lambda text: float(text) if text else None
    return (nanoseconds(time), plain(gateway), plain(sensor), quantity, float(value), unit, known(uncertainty), quality,
            clock or None, known(bound))


def main():
    if sys.argv[1] == "--broken":
        try:
            pq.read_table(sys.argv[2])
        except pa.ArrowInvalid as error:
            print(error)
            return
        sys.exit("a file that broke off was read")
    table = pq.read_table(sys.argv[1])
    found = [(field.name, field.type, field.nullable) for field in table.schema]
    if found != COLUMNS:
        sys.exit(f"wanted are {COLUMNS}, there are {found}")
    columns = [column.cast(pa.int64()) if column.type == COLUMNS[0][1] else column for column in table.columns]
    there = list(zip(*(column.to_pylist() for column in columns)))
    with open(sys.argv[2], newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        if next(lines) != table.schema.names:
            sys.exit("the columns of the CSV have other names")
        wanted = [row_of(fields) for fields in lines]
    for n, (one, other) in enumerate(zip(there, wanted)):
        if one != other:
            sys.exit(f"row {n} is {one}, in the CSV {other}")
    if len(there) != len(wanted):
        sys.exit(f"{len(there)} rows, in the CSV {len(wanted)}")
    print(f"{len(there)} rows alike")


main()
