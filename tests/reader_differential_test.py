"""The contract's reader against DuckDB's own JSON functions: what a field holds is what CAST(data->>'$.field' AS type) says of the same bytes.

Documents are random: order of members, white space, escapes, forms of numbers, nested values, members that no contract names, and names that
come twice (the first one counts). MILLSTREAM_DOCUMENTS=N makes it longer, MILLSTREAM_FAULT_SEED another.
"""

import json
import random
from decimal import Decimal

import pytest

from sizes import SEED, size

SCALARS = {
    "s": "varchar",
    "n": "bigint",
    "i": "integer",
    "d": "double",
    "m": "decimal(18,4)",
    "b": "boolean",
    "day": "date",
    "ts": "timestamp",
    "moment": "timestamptz",
    "u": "uuid",
}
NESTED = {"l": "integer[]", "st": "struct(x integer, y varchar)", "ls": "struct(k varchar, v double)[]"}
PROJECT = (
    "streams:\n  docs:\n    contract:\n      id: bigint not null\n"
    + "".join(f"      {name}: {kind}\n" for name, kind in {**SCALARS, **NESTED}.items())
    + "      deep: {type: varchar, from: /a/b~1c/0}\n      j: json\n"
)


class Documents:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def space(self):
        return self.random.choice(["", "", "", " ", "\t", "  ", " \r\t"])

    def string(self, most=12):
        out = []
        for _ in range(self.random.randrange(most)):
            kind = self.random.randrange(10)
            if kind < 5:
                char = self.random.choice("abcXYZ019 _-.,:;{}[]'/")
                out.append("\\/" if char == "/" and self.random.random() < 0.5 else char)
            elif kind == 5:
                out.append(self.random.choice(['\\"', "\\\\", "\\n", "\\r", "\\t", "\\b", "\\f"]))
            elif kind == 6:
                code = self.random.choice([self.random.randrange(1, 0xD800), self.random.randrange(0xE000, 0x10000)])
                out.append("\\u%04x" % code if self.random.random() < 0.5 else "\\u%04X" % code)
            elif kind == 7:
                code = self.random.randrange(0x10000, 0x110000) - 0x10000
                out.append("\\u%04x\\u%04X" % (0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF)))
            else:
                code = self.random.choice([0xE9, 0x20AC, 0x4E2D, 0x1F600, 0x7FF, 0x800, 0xFFFF, 0x10FFFF])
                out.append(chr(code))
        return '"' + "".join(out) + '"'

    def whole(self, bits):
        return str(self.random.choice([0, -1, 1, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, self.random.randrange(-1000, 1000),
                                       self.random.randrange(-(2 ** (bits - 1)), 2 ** (bits - 1))]))

    def fraction(self):
        text = self.random.choice(["0.0", "-0.0", "1e2", "1E+2", "2.5e-7", "123456789.123456789", "1e308", "5e-324", "-1.7976931348623157e308",
                                   repr(self.random.uniform(-1e6, 1e6)), repr(self.random.gauss(0, 1) * 10 ** self.random.randrange(-30, 30))])
        return text.replace("e", self.random.choice("eE"))

    def value(self, kind, depth=0):
        """JSON text of such a value."""
        r = self.random
        if r.random() < 0.1:
            return "null"
        match kind:
            case "varchar":
                return self.string()
            case "bigint":
                return self.whole(64)
            case "integer":
                return self.whole(32)
            case "double":
                return self.fraction() if r.random() < 0.7 else self.whole(32)
            case "decimal(18,4)":
                return str(Decimal(r.randrange(-10**14, 10**14)).scaleb(-r.randrange(5))) if r.random() < 0.8 else self.whole(32)
            case "boolean":
                return r.choice(["true", "false"])
            case "date":
                return '"%04d-%02d-%02d"' % (r.randrange(1, 9999), r.randrange(1, 13), r.randrange(1, 29))
            case "timestamp":
                return '"%04d-%02d-%02d%s%02d:%02d:%02d%s"' % (r.randrange(1, 9999), r.randrange(1, 13), r.randrange(1, 29), r.choice("T "), r.randrange(24),
                                                              r.randrange(60), r.randrange(60), r.choice(["", ".5", ".123456"]))
            case "timestamptz":
                return self.value_of_moment()
            case "uuid":
                return '"%08x-%04x-%04x-%04x-%012x"' % tuple(r.getrandbits(bits) for bits in (32, 16, 16, 16, 48))
            case "integer[]":
                return "[" + ",".join(self.space() + self.value("integer") + self.space() for _ in range(r.randrange(4))) + "]"
            case "struct(x integer, y varchar)":
                return self.object([("x", self.value("integer")), ("y", self.value("varchar"))])
            case "struct(k varchar, v double)[]":
                return "[" + ",".join(self.object([("k", self.value("varchar")), ("v", self.value("double"))]) for _ in range(r.randrange(3))) + "]"
            case "any":
                if depth > 3 or r.random() < 0.4:
                    return self.value(r.choice(list(SCALARS.values())))
                if r.random() < 0.5:
                    return "[" + ",".join(self.value("any", depth + 1) for _ in range(r.randrange(4))) + "]"
                return self.object([(name, self.value("any", depth + 1)) for name in "pqr"[: r.randrange(4)]])
        raise AssertionError(kind)

    def value_of_moment(self):
        r = self.random
        return '"%04d-%02d-%02dT%02d:%02d:%02d%s%s"' % (r.randrange(1900, 2200), r.randrange(1, 13), r.randrange(1, 29), r.randrange(24), r.randrange(60),
                                                        r.randrange(60), r.choice(["", ".25", ".000001"]), r.choice(["Z", "+00:00", "+05:30", "-11:00"]))

    def name(self, text):
        """A member's name, sometimes with an escape for its first letter."""
        return '"\\u%04x%s"' % (ord(text[0]), text[1:]) if self.random.random() < 0.1 else json.dumps(text)

    def object(self, members):
        return "{" + ",".join(self.space() + self.name(name) + self.space() + ":" + self.space() + value + self.space() for name, value in members) + "}"

    def document(self, number):
        r = self.random
        members = [(name, self.value(kind)) for name, kind in {**SCALARS, **NESTED}.items() if r.random() < 0.7]
        members += [("j", self.value("any")), ("unknown", self.value("any")), ("a", self.object([("z", "1"), ("b/c", "[" + self.value("varchar") + ",2]")]))]
        r.shuffle(members)
        twice = [(name, value) for name, value in members if name in ("s", "n", "unknown") and r.random() < 0.1]
        return self.object([("id", str(number)), *members, *twice])


@pytest.mark.parametrize("round", range(2))
def test_each_field_is_what_duckdb_reads(project, round):
    count = size("documents") // 2
    documents = Documents(SEED + round)
    docs = project({"millstream.yaml": PROJECT})
    docs.folder.joinpath("docs.ndjson").write_text("".join(documents.document(n).replace("\n", " ") + "\n" for n in range(count)), encoding="utf-8")
    docs.verb("ingest", "docs", "docs.ndjson")
    refused = [letter for stream in docs.verb("dead", "list", "--json").lines() for letter in stream["letters"]]
    assert not refused, refused[:3]
    differs = {name: f"{name} IS DISTINCT FROM CAST(data->>'$.{name}' AS {kind})" for name, kind in SCALARS.items()}
    differs |= {name: f"{name} IS DISTINCT FROM CAST(CAST(data->'$.{name}' AS JSON) AS {kind})" for name, kind in NESTED.items()}
    differs["deep"] = "deep IS DISTINCT FROM (data->>'/a/b~1c/0')"
    differs["j"] = "json(j) IS DISTINCT FROM nullif(json(data->'$.j'), 'null')"  # a null is no value
    counts = ", ".join(f"count(*) FILTER ({condition}) AS {name}" for name, condition in differs.items())
    wrong = docs.verb("query", f"SELECT count(*) AS documents, {counts} FROM _streams.docs", "--format", "ndjson").lines()[0]
    assert wrong.pop("documents") == count
    found = {name: docs.verb("query", f"SELECT {name}, data FROM _streams.docs WHERE {differs[name]} LIMIT 3", "--format", "ndjson").lines()
             for name, number in wrong.items() if number}
    assert not found, (wrong, found)
