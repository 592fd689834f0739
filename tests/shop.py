"""What the HTTP tests share: a project, its orders, a streamed answer, a raw connection."""

import contextlib
import socket

SHOP = """
streams:
  orders:
    key: customer
    partitions: 2
    contract:
      id: varchar not null
      customer: varchar
      type: varchar
      amount: decimal(12,2) check (amount >= 0)
  notes: {}
  strict:
    on_violation: reject
    contract: {id: varchar not null}
pipelines:
  revenue:
    from: orders
    filters:
      - paid: SELECT id, customer, amount FROM input WHERE type = 'paid'
      - gross: SELECT id, customer, amount * 2 AS gross FROM input
    to:
      - table: {name: revenue, key: id}
  all_orders:
    from: orders
    filters:
      - rows: SELECT id, amount, ce_time AS at FROM input
    to:
      - table: all_orders
"""

ORDERS = [{"id": f"o{i}", "customer": f"c{i % 5}", "type": "paid" if i % 2 == 0 else "open", "amount": i + 0.5} for i in range(10)]


def offsets_of(position):
    """"orders/0:17,1:9" as {0: 17, 1: 9}."""
    return {int(p): int(o) for p, o in (item.split(":") for item in position.split("/")[1].split(","))}


class Feed:
    """A streamed answer, read line by line on a connection of its own."""

    def __init__(self, server, path, headers=None):
        self.connection = server.connection(timeout=20)
        self.connection.request("GET", path, headers=headers or {})
        self.answer = self.connection.getresponse()

    def line(self):
        return self.answer.readline().decode().rstrip("\n")

    def event(self):
        """The next server-sent event as a dictionary of its fields; comments are passed over."""
        fields = {}
        while True:
            line = self.line()
            if line.startswith(":"):
                continue
            if not line and fields:
                return fields
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value

    def close(self):
        self.connection.close()


class Raw:
    """A connection whose bytes the test chooses itself."""

    def __init__(self, server, timeout=30):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def send(self, *pieces):
        for piece in pieces:
            self.socket.sendall(piece)

    def until_closed(self):
        """All that comes until the server closes."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(65536):
                received += piece
        return received

    def until(self, part):
        received = b""
        while part not in received:
            piece = self.socket.recv(65536)
            assert piece, received
            received += piece
        return received


def post(path, body, headers=b"Content-Type: application/json\r\n"):
    """The bytes of a request."""
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n%s" % (path.encode(), headers, len(body), body)
