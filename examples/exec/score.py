"""A filter: one JSON row a line in, one a line out."""
import json
import sys

GOOD, BAD = {"great", "well"}, {"broken", "slow"}

for line in sys.stdin:
    row = json.loads(line)
    words = {word.strip(",.").lower() for word in row["text"].split()}
    score = len(words & GOOD) - len(words & BAD)
    print(json.dumps({"id": row["id"], "score": score} if score else None), flush=True)
