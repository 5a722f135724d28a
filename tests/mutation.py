"""Sound files made wrong, by a seed: bits and bytes of any, cells of tables, values of JSON.

Each mutator takes the bytes of a sound file, those of another one of its kind, and a
`random.Random`; it returns what became of the first, and a line that says what was done.
"""

import copy
import csv
import io
import json

DEEP, LONG = "nested 20,000 deep", "an integer of 5000 digits"
# JSON that `json.dumps` would not write, by what stands for it until it is written.
WRITTEN_OUT = {DEEP: "[" * 20_000 + "]" * 20_000, LONG: "9" * 5000}

BYTES = (
    b"\0", b"\0\0\0\0", b"\xff", b"\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80", b"\xff" * 8, b"\0" * 4096, b"\xff" * 4096,
    b"\xed\xa0\x80", b"\xff\xfe", b"\r", b"\n", b'"', b",", b"NaN", b"-inf", b"1e999", b"9" * 5000,
)  # fmt: skip
TEXTS = (
    "", " ", "0", "1", "-1", "0.5", "1e999", "-1e-999", "nan", "NaN", "inf", "-Infinity", "9" * 20,
    "9" * 5000, "0x10", "1_0", "٣", "²", "true", "None", "real", "fake", "train", "\0", "a\0b", '"',
    "a\nb", "\r", ",", ";", "\t", "=1+1", "@SUM(A1)", "../..", "/dev/zero", "/", "C:\\a\\b", "~",
    "é", "e\u0301", "顔😀", "\u202egnp", "\ufeff", "x" * 300, "a/" * 2000, "\x1b[31m", "{}", "%s",
)  # fmt: skip
VALUES = (
    *TEXTS, "\ud800", "a\udfffb", None, True, False, 0, 1, -1, 0.5, 1e308, float("nan"),
    float("inf"), -float("inf"), 2**31, 2**63, -(2**63), 2**64, 10**400, [], {}, [[]], [None],
    [0.5], ["a"], {"": ""}, {"a": 1}, DEEP, LONG,
)  # fmt: skip


# -- any file ---------------------------------------------------------------------------------


def of_bytes(data, other, rng):
    """One to four changes, each to a bit, a byte or a slice."""
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = rng.choice(CHANGES)
        # Headers decide more than pixels do: half of all changes fall within the first bytes.
        place = rng.randrange(1 + rng.choice((min(len(data), 512), len(data))))
        data = change(data, other, place, rng)
        said.append(f"{change.__name__.strip('_')} at {place}")
    return data, ", ".join(said)


def _flip(data, other, place, rng):
    changed = bytearray(data or b"\0")
    changed[place % len(changed)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data, other, place, rng):
    length = rng.choice((1, 2, 4, 64))
    return data[:place] + rng.randbytes(length) + data[place + length :]


def _overwrite_with_extremes(data, other, place, rng):
    value = rng.choice(BYTES)
    return data[:place] + value + data[place + len(value) :]


def _insert(data, other, place, rng):
    return data[:place] + rng.choice(BYTES) + data[place:]


def _cut(data, other, place, rng):
    return data[:place]


def _delete(data, other, place, rng):
    return data[:place] + data[place + rng.choice((1, 2, 16, 300)) :]


def _duplicate(data, other, place, rng):
    end = place + rng.choice((1, 2, 16, 300))
    return data[:end] + data[place:end] * rng.choice((1, 1, 50)) + data[end:]


def _splice(data, other, place, rng):
    return data[:place] + other[rng.randrange(1 + len(other)) :]


CHANGES = (
    _flip, _flip, _flip, _overwrite, _overwrite_with_extremes, _insert, _cut, _delete, _duplicate,
    _splice,
)  # fmt: skip


# -- tables -----------------------------------------------------------------------------------


def of_table(data, other, rng, delimiter=","):
    """Cells, rows and columns of a CSV; one time in three its bytes instead."""
    if rng.random() < 1 / 3:
        return of_bytes(data, other, rng)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=delimiter))
    said = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.randrange(len(rows))
        column = rng.randrange(len(rows[row]))
        match rng.randrange(9):
            case 0 | 1 | 2 | 3:
                rows[row][column] = value = rng.choice(TEXTS)
                said.append(f"cell ({row}, {column}) = {value!r:.40}")
            case 4:
                other_row = rng.choice(rows)
                rows[row][column] = value = rng.choice(other_row or [""])
                said.append(f"cell ({row}, {column}) = another one's {value!r:.40}")
            case 5:
                rows = [[c for i, c in enumerate(one) if i != column] for one in rows]
                rows = [one or [""] for one in rows]
                said.append(f"no column {column}")
            case 6:
                rows = [[*one, one[min(column, len(one) - 1)]] for one in rows]
                said.append(f"column {column} twice")
            case 7:
                rows.insert(rng.randrange(1 + len(rows)), list(rows[row]))
                said.append(f"row {row} twice")
            case 8:
                rows[row] = rows[row][:column] or [""]
                said.append(f"row {row} ends at {column}")
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=rng.choice(("\n", "\r\n"))).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass"), ", ".join(said)


def of_lines(data, other, rng):
    """The same of lines whose words stand apart by a blank."""
    return of_table(data, other, rng, " ")


# -- JSON -------------------------------------------------------------------------------------


def of_json(data, other, rng):
    """Values and keys of a JSON document; one time in three its bytes instead."""
    if rng.random() < 1 / 3:
        return of_bytes(data, other, rng)
    whole, said = {"": json.loads(data)}, []
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder, key = rng.choice([(whole, ""), *_places(whole[""])])
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                holder[key] = value = copy.deepcopy(rng.choice(VALUES))
                said.append(f"{key!r:.60} = {value!r:.40}")
            case 4 if isinstance(holder[key], int | float | str):
                value = holder[key]
                holder[key] = _near(value, rng)
                said.append(f"{key!r:.60} = {holder[key]!r:.40}, not {value!r:.40}")
            case 5 if holder is not whole:
                del holder[key]
                said.append(f"no {key!r:.60}")
            case 6 if isinstance(holder, dict) and holder is not whole:
                name = rng.choice([one for one in VALUES if isinstance(one, str)])
                holder[name] = holder.pop(key)
                said.append(f"{key!r:.60} is called {name!r:.40}")
            case _:
                there, which = rng.choice([(whole, ""), *_places(whole[""])])
                holder[key] = json.loads(json.dumps(there[which]))
                said.append(f"{key!r:.60} = what {which!r:.60} is")
    text = json.dumps(whole[""])
    for name, written in WRITTEN_OUT.items():
        text = text.replace(f'"{name}"', written)
    return text.encode(), ", ".join(said)


def _near(value, rng):
    """A number or a text that differs a little, or is of the other type."""
    if isinstance(value, str):
        place = rng.randrange(1 + len(value))
        return value[:place] + rng.choice(("", "a", "0", "/", "\ud800")) + value[place + 1 :]
    return rng.choice((value + 1, -value, float(value), str(value), value * 2**40, bool(value)))


def _places(value):
    """Each object or list of a value, with each of its keys."""
    if not isinstance(value, dict | list):
        return
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        yield from _places(value[key])
