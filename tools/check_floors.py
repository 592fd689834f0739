#!/usr/bin/python3
"""Holds the sources against the rules of the house (CONTRIBUTING.md).

- A room (folder of src/) includes its own headers and those of the rooms that cmake/rooms.cmake lets it reach.
- duckdb.h is included in src/sql/ alone.
- A .cc or .h file has at most 500 lines.
- No two types outside anonymous namespaces have one name: the linker would take one's functions for the other's.
- Nothing is left for later: no word that marks it.
- third_party/duckdb/package-lock.json names no host.
"""

import re
import sys
from pathlib import Path

LINES_MAX = 500
LATER = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ROOM = re.compile(r"^\s*room\(\s*(\w+)([^)]*)\)", re.MULTILINE)
KEYWORDS = {"USES", "LIBRARIES"}
TYPE = re.compile(r"^(?:class|struct) (\w+)(?: final)?(?: : [^{;]*)? \{")


def read_rooms(text):
    """Room -> the rooms that it names after USES, in the order of the file."""
    rooms = {}
    for name, rest in ROOM.findall(re.sub(r"#.*", "", text)):
        words, uses, keyword = rest.split(), [], None
        for word in words:
            if word in KEYWORDS:
                keyword = word
            elif keyword == "USES":
                uses.append(word)
        rooms[name] = uses
    return rooms


def reachable(rooms, room):
    """The room itself and all that it may include."""
    found, queue = set(), [room]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue.extend(rooms.get(name, []))
    return found


def check_rooms(rooms):
    seen = set()
    for room, uses in rooms.items():
        for used in uses:
            if used not in seen:
                yield f"cmake/rooms.cmake: {room} uses {used}, which does not stand on a lower floor"
        seen.add(room)


def check_includes(name, room, lines, rooms):
    allowed = reachable(rooms, room)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        if header == "duckdb.h" and room != "sql":
            yield f"{name}:{number}: duckdb.h may be included in src/sql/ alone"
        if quote != '"' or "/" not in header:
            continue
        other = header.split("/")[0]
        if other not in rooms:
            yield f"{name}:{number}: \"{header}\" is in no room of cmake/rooms.cmake; outside headers take <>"
        elif other not in allowed:
            yield f"{name}:{number}: {room} may not include {other}; it reaches {', '.join(sorted(allowed))}"


def types_of(lines):
    """Names of the types that a file defines at the top of our namespace."""
    is_anonymous = False
    for line in lines:
        if line.startswith("namespace {"):
            is_anonymous = True
        elif line.startswith("}  // namespace") and line.split() == ["}", "//", "namespace"]:
            is_anonymous = False
        elif not is_anonymous and (match := TYPE.match(line)):
            yield match.group(1)


def check_text(name, lines, lines_max=None):
    if lines_max and len(lines) > lines_max:
        yield f"{name}: {len(lines)} lines; at most {lines_max}"
    for number, line in enumerate(lines, 1):
        match = LATER.search(line)
        if match:
            yield f"{name}:{number}: '{match.group()}' leaves work for later: do it now, or file an issue"


def check_tree(root):
    rooms = read_rooms((root / "cmake" / "rooms.cmake").read_text())
    yield from check_rooms(rooms)
    sources = [path for path in sorted((root / "src").rglob("*")) if path.suffix in (".cc", ".h")]
    defined = {}  # type, the file that defined it first
    for path in sources:
        name = str(path.relative_to(root))
        lines = path.read_text().splitlines()
        yield from check_text(name, lines, LINES_MAX)
        for type_name in types_of(lines):
            if defined.setdefault(type_name, name) != name:
                yield f"{name}: {type_name} is defined in {defined[type_name]} too; give one another name"
        room = path.relative_to(root / "src").parts[0]
        if room == "main.cc":
            continue
        if room not in rooms:
            yield f"{name}: src/{room} is no room of cmake/rooms.cmake"
        else:
            yield from check_includes(name, room, lines, rooms)
    for folder in ("tests", "tools"):
        for path in sorted((root / folder).rglob("*.py")) + sorted((root / folder).rglob("*.sh")):
            yield from check_text(str(path.relative_to(root)), path.read_text().splitlines())
    lock = root / "third_party" / "duckdb" / "package-lock.json"
    if lock.exists() and '"resolved"' in lock.read_text():
        yield f"{lock.relative_to(root)}: names hosts; make it with npm's omit-lockfile-registry-resolved"


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    faults = list(check_tree(root))
    for fault in faults:
        print(fault)
    print(f"floors: {len(faults)} faults" if faults else "floors: ok")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
