#!/usr/bin/python3
"""Every relative link in the project's Markdown leads to a file that exists, and to a heading of it where it names one; every
`millstream VERB` in it is a verb that docs/reference-cli.md has."""

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
VERB = re.compile(r"(?:^\$? ?|`)(?:build/)?millstream(?: -C \S+)? ([a-z]+)\b")
FENCE = re.compile(r"^\s*(```|~~~)")


def prose(text):
    """The lines of a page outside fenced code, with their numbers; inline code is blanked."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", "", line)


def anchors(text):
    """The names by which headings are linked, as code hosts make them."""
    found, fenced = set(), False
    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        if fenced or not line.startswith("#"):
            continue
        slug = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        name, count = slug, 0
        while name in found:
            count += 1
            name = f"{slug}-{count}"
        found.add(name)
    return found


def check_page(page, root):
    for number, line in prose(page.read_text()):
        for target in LINK.findall(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page.resolve()
            where = f"{page.relative_to(root)}:{number}"
            if not file.exists():
                yield f"{where}: {target} does not exist"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                yield f"{where}: {path or page.name} has no heading #{anchor}"


def verbs(root):
    """The verbs of the command line's reference; none if the tree has no such page."""
    page = root / "docs" / "reference-cli.md"
    return set(re.findall(r"^## `millstream ([a-z]+)`", page.read_text(), re.MULTILINE)) if page.exists() else set()


def check_verbs(page, root, known):
    for number, line in enumerate(page.read_text().splitlines(), 1):
        for verb in VERB.findall(line):
            if known and verb not in known:
                yield f"{page.relative_to(root)}:{number}: there is no verb `millstream {verb}`"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=root, text=True)
    pages = [root / name for name in listed.splitlines() if (root / name).exists()]
    known = verbs(root)
    faults = [fault for page in pages for fault in (*check_page(page, root), *check_verbs(page, root, known))]
    for fault in faults:
        print(fault)
    print(f"docs: {len(faults)} faults" if faults else f"docs: ok, {len(pages)} pages")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
