#!/usr/bin/python3
"""Writes orders as NDJSON, 158 bytes each: the same bytes for the same arguments on every machine.

    bench/orders.py 5000000 orders.ndjson [--customers 100000]

About a quarter of them are of type order.placed, three quarters have an amount over 50: both together pass a fifth.
"""

import argparse
import random

TYPES = ("order.placed", "order.paid", "order.cancelled", "page.viewed")
CURRENCIES = ("USD", "EUR", "GBP")
NOTES = ("alpha", "bravo", "delta", "gamma", "omega", "sigma", "kappa", "theta")
CHUNK_EVENTS = 20_000
SEED = 20261122


def orders(count, customers, first=1):
    """Yields chunks of NDJSON bytes. Values come from a few random bits an event; texts are made once."""
    bits = random.Random(SEED + first).getrandbits
    amounts = [f"{cents // 100}.{cents % 100:02}" for cents in range(1, 20_001)]
    ends = [f'","note":"{note}, customer note"}}\n' for note in NOTES]
    heads = [f'","type":"{kind}","customer":"c' for kind in TYPES]
    middles = [f',"currency":"{currency}","ts":"2026-11-' for currency in CURRENCIES]
    millis = [f".{ms:03}Z" for ms in range(1000)]
    width = max(5, len(str(customers - 1)))
    for begin in range(first, first + count, CHUNK_EVENTS):
        lines = []
        for number in range(begin, min(begin + CHUNK_EVENTS, first + count)):
            x = bits(64)
            second = number // 1000
            clock = f"{1 + second // 86400 % 28:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}"
            lines.append(f'{{"id":"evt-{number:08}{heads[x & 3]}{(x >> 8 & 0xFFFFFF) * customers >> 24:0{width}}","amount":'
                         f"{amounts[(x >> 36) % 20_000]}{middles[(x >> 2) % 3]}{clock}{millis[(x >> 54) % 1000]}{ends[x >> 61]}")
        yield "".join(lines).encode()


def write(path, count, customers=100_000, first=1):
    with open(path, "wb") as out:
        for chunk in orders(count, customers, first):
            out.write(chunk)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("path")
    parser.add_argument("--customers", type=int, default=100_000)
    given = parser.parse_args()
    write(given.path, given.count, given.customers)
