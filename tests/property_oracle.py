"""Random events for property_test.py, and what its pipelines mean, told row by row in plain Python: no SQL, nothing of the program's."""

import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

COUNTRIES = [("de", "Deutschland", "0.1900"), ("fr", "France", "0.2000"), ("jp", "日本", "0.1000"), ("aq", "Antarctica", "0.0000"),
             ("ch", "Schweiz", "0.0810"), ("ch", "Suisse", "0.0810")]  # a code may stand twice: several rows of one event
CUSTOMERS = ["anna", "Bjørn", "日本", "🙂", "o'neil", "tab\tin", 'quo"te', "c7", "c8", "c9", "c10", "c11"]
NOTES = [None, "", "ok", "naïve café", "🙂🙃", "line\nbreak", "nul\\u", "a/b"]
PRICES = ["1.005", "2.345", "-3.005", "0", "1e2", "12.30", "7", ".5", "99999.99"]
BAD_PRICES = ["abc", "", "12,5", "1.2.3", "99999999999.00"]
SKUS = ["A", "b", "é", None]


@dataclass
class Event:
    """One line as it is sent, its value (None: no JSON), and the path of what the stream's contract refuses in it."""

    line: str
    value: dict | None
    refused: tuple | None = None  # (code, path)


def line_of(random, value):
    return json.dumps(value, ensure_ascii=random.random() < 0.5, separators=random.choice([(",", ":"), (", ", ": ")]))


def sale(random, number):
    cents = random.randrange(20000)
    value = {"id": f"s{number}", "customer": random.choice(CUSTOMERS),
             "amount": random.choice([cents / 100, f"{cents / 100:.2f}", cents // 100])}
    if random.random() < 0.1:
        value["amount"] = None
    if random.random() < 0.9:
        value["price"] = random.choice(PRICES) if random.random() < 0.8 else random.choice([*BAD_PRICES, None])
    if random.random() < 0.9:
        value["qty"] = random.choice([None, 0, 1, 2, 7, 1000, -3])
    if random.random() < 0.8:
        lines = [{"sku": random.choice(SKUS), "qty": random.randrange(9)} for _ in range(random.randrange(5))]
        value["lines"] = random.choice([lines, lines, lines, lines, None, [{"sku": "only"}]])
    if random.random() < 0.8:
        value["country"] = random.choice(["de", "fr", "jp", "aq", "ch", "xx", None])
    if random.random() < 0.7:
        value["note"] = random.choice(NOTES)
    if random.random() < 0.2:
        value["op"] = random.choice(["d", "d", "u", None])
    if random.random() < 0.2:
        value["extra"] = {"deep": [1, {"x": None}], "ü": "…"}
    refused = None
    if random.random() < 0.04:
        name, bad = random.choice([("amount", "abc"), ("amount", -1), ("customer", None), ("id", None), ("qty", "many")])
        value[name] = bad
        refused = ("contract", f"/{name}")
    items = list(value.items())
    random.shuffle(items)
    return Event(line_of(random, dict(items)), value, refused)


def click(random, number):
    value = {"id": f"c{number}"}
    if random.random() < 0.9:
        value["user"] = random.choice([*CUSTOMERS, None])
    if random.random() < 0.9:
        value["n"] = random.choice([None, 0, 5, "12", -7, 2**53 + 1, "-9223372036854775808"]) if random.random() < 0.93 else "2x"
    if random.random() < 0.9:
        tags = [random.choice(["a", "é", "🙂", "", None, 5]) for _ in range(random.randrange(4))]
        value["tags"] = random.choice([tags] * 12 + [None, "oops"])
    if random.random() < 0.6:
        value["at"] = random.choice([None, {}, {"city": None}, {"city": "Zürich"}, {"city": 'a"b'}])
    line = line_of(random, value)
    if random.random() < 0.02:
        return Event(line[:-1], None, ("json", ""))
    return Event(line, value)


def money(text):
    """As CAST(text AS DECIMAL(12,2)); None for null. Raises ValueError for what is none."""
    if text is None:
        return None
    if text in BAD_PRICES:
        raise ValueError(text)
    return Decimal(text).quantize(Decimal("0.01"), ROUND_HALF_UP)


def amount_of(value):
    return None if value.get("amount") is None else Decimal(str(value["amount"]))


def bound(least, values):
    """min or max that knows no null."""
    known = [value for value in values if value is not None]
    return least(known) if known else None


@dataclass
class Oracle:
    """What every table, the chained stream and the dead letters hold once all events are delivered."""

    tables: dict = field(default_factory=dict)
    dead: Counter = field(default_factory=Counter)

    def rows(self, table, *rows):
        self.tables.setdefault(table, Counter()).update(rows)

    def refuse(self, event, at, code, *, path="", sinks=("",)):
        self.dead.update((event.line, at, code, path, sink) for sink in sinks)

    def taken(self, events, stream_sinks=("",)):
        """The events that the stream holds; the others are dead letters of the ingest."""
        for event in events:
            if event.refused:
                code, path = event.refused
                self.refuse(event, "ingest", code, path=path, sinks=stream_sinks)
            else:
                yield event

    def sales(self, events):
        spent, newest, chained = {}, {}, {}
        for event in self.taken(events):
            value, amount = event.value, amount_of(event.value)
            key, customer, deletes = value["id"], value["customer"], value.get("op") == "d"
            if not deletes:
                self.rows("lines", *((key, "none" if amount is None else "big" if amount >= 50 else "small", line.get("sku"),
                                      None if line.get("qty") is None else line["qty"] * 2) for line in value.get("lines") or []))
                self.priced(event, spent)
            newest.pop(customer, None)
            if not deletes:
                note = value.get("note")
                newest[customer] = (customer, key, amount, (note or "-" if note is None else note) + "/" + str(len(note or "")))
            self.looked_up(value, amount)
            for part in [1, 2] if amount is not None and amount < 100 else [3]:
                self.rows("derived", (key, customer, part, amount))
                self.rows("derived_table", (key, part))
                chained.setdefault(customer, []).append((key, part))
        self.rows("newest", *newest.values())
        self.rows("spend", *((customer, len(rows), sum(known) if (known := [cost for _, cost in rows if cost is not None]) else None,
                              bound(min, known), bound(max, known), rows[-1][0]) for customer, rows in spent.items()))
        self.rows("chained", *((customer, len(rows), sum(part for _, part in rows), *rows[-1]) for customer, rows in chained.items()))

    def priced(self, event, spent):
        value = event.value
        try:
            price = money(value.get("price"))
        except ValueError:
            return self.refuse(event, "priced.cost", "sql", sinks=("table:priced", "table:spend"))
        cost = None if price is None or value.get("qty") is None else price * value["qty"]
        self.rows("priced", (value["id"], cost))
        spent.setdefault(value["customer"], []).append((value["id"], cost))

    def looked_up(self, value, amount):
        found = [(name, Decimal(rate)) for code, name, rate in COUNTRIES if code == value.get("country")]
        for name, rate in found or [(None, None)]:
            if rate is None or rate > Decimal("0.05"):
                self.rows("taxed", (value["id"], name, None if amount is None or rate is None else amount * rate))

    def clicks(self, events):
        for event in self.taken(events):
            value = event.value
            if value.get("user") is None:
                continue
            if value.get("n") == "2x":
                self.refuse(event, "clicks.typed", "sql", sinks=("table:clicks",))
            elif value.get("tags") == "oops":
                self.refuse(event, "clicks.tagged", "sql", sinks=("table:clicks",))
            else:
                number = None if value.get("n") is None else int(value["n"])
                city = (value.get("at") or {}).get("city")
                self.rows("clicks", *((value["id"], value["user"], number, city, None if tag is None else str(tag))
                                      for tag in value.get("tags") or []))
