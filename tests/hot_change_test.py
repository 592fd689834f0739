"""Filters are added, edited, moved, removed while events flow, a sink hangs now and then, the process is killed: every row was made by the
version that `_control` names as the owner of its offset, none is lost and none doubled (bench/hot_change.py says how)."""

import sys

import harness
from sizes import size

sys.path.insert(0, str(harness.ROOT / "bench"))
import hot_change  # noqa: E402

CHANGES = size("hot_changes")
IS_SOAK = CHANGES >= 2000
EVENTS_PER_SECOND = 50_000 if IS_SOAK else 20_000


def test_changes_under_load_and_kills(tmp_path):
    kills = 20 if IS_SOAK else max(1, CHANGES // 15)
    outcome = hot_change.run(harness.BINARY, tmp_path, CHANGES, EVENTS_PER_SECOND, kills, seed=7, block_every=15)
    assert outcome.kills == kills
    assert outcome.changes > CHANGES * 2 // 5 and (outcome.invalid > 0 or CHANGES < 30)
    assert outcome.events > 20_000
    assert (outcome.lost, outcome.doubled, outcome.wrong) == (0, 0, 0), outcome
    # Standard output keeps its offset once a second: what a kill takes of that may come again by the next version, so only a run without kills
    # can hold each of its lines against the owner.
    assert outcome.stdout_rows > 0, outcome


def test_changes_under_load_and_standard_output(tmp_path):
    outcome = hot_change.run(harness.BINARY, tmp_path, CHANGES // 3, EVENTS_PER_SECOND, kills=0, seed=8, block_every=15)
    assert (outcome.lost, outcome.doubled, outcome.wrong) == (0, 0, 0), outcome
    assert outcome.stdout_rows > 0 and outcome.stdout_wrong == 0, outcome
