"""Filters are added, edited, moved, removed while events flow, a sink hangs now and then, the process is killed: every row was made by the
version that `_control` names as the owner of its offset, none is lost and none doubled (bench/hot_change.py says how)."""

import sys

import harness

sys.path.insert(0, str(harness.ROOT / "bench"))
import hot_change  # noqa: E402


def test_changes_under_load_and_kills(tmp_path):
    outcome = hot_change.run(harness.BINARY, tmp_path, changes=60, events_per_second=20_000, kills=4, seed=7, block_every=15)
    assert outcome.kills == 4
    assert outcome.changes > 25 and outcome.invalid > 0
    assert outcome.events > 20_000
    assert (outcome.lost, outcome.doubled, outcome.wrong) == (0, 0, 0), outcome
    assert outcome.stdout_rows > 0 and outcome.stdout_wrong == 0, outcome
