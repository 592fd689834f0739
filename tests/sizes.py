"""How much each suite does: its size for CI (less under a sanitizer), and for `make soak` (MILLSTREAM_SOAK=1).

A variable of its own sets one alone: MILLSTREAM_KILLS=1000. The crash states of src/log/crash_states_test.cc have
MILLSTREAM_CRASH_STATES, the histories of src/pipeline/simulator_test.cc MILLSTREAM_SIMULATIONS.
"""

import os

from harness import SLOWNESS

SEED = int(os.environ.get("MILLSTREAM_FAULT_SEED", 20261126))
SIZES = {  # suite: (CI, soak)
    "kills": (60, 5_000),             # SIGKILL at random (crash_test.py)
    "crash_points": (5, 60),          # SIGKILL at so many calls of each kind (fault_point_test.py)
    "power_cuts": (60, 50_000),       # on a file system that loses what was not synced (power_cut_test.py)
    "change_points": (3, 40),         # SIGKILL at so many calls of each kind in a change and in a cutover (fault_change_test.py)
    "sandbox_points": (3, 50),        # SIGKILL at so many calls of each kind in a create and in a drop (sandbox_test.py)
    "damage_cases": (3, 400),         # of each kind and place (fault_damage_test.py, fault_tables_test.py)
    "sync_failures": (4, 50),         # the Nth sync fails (fault_sync_test.py)
    "poison_events": (100_000, 10_000_000),
    "hot_changes": (60, 20_000),      # of filters while events flow (hot_change_test.py); a third as many without kills
    "model_sequences": (12, 5_000),   # random ways through all that can be done to a server (model_test.py)
    "abuse_seconds": (6, 3_600),
    "documents": (8_000, 5_000_000),  # read by us and by DuckDB (reader_differential_test.py)
    "memory_mib": (250, 25 * 1024),   # of events into a server with little memory (fault_memory_test.py)
    "greedy_seconds": (8, 600),       # queries that want all memory, beside folds (fault_memory_test.py)
    "postgres_faults": (10, 1_500),   # of each kind between us and PostgreSQL (postgres_test.py)
    "attack_seconds": (8, 28_800),    # queries without end beside a pipeline (sql_attack_test.py)
}


def size(suite):
    """The size of a suite in this run."""
    ci, soak = SIZES[suite]
    chosen = os.environ.get("MILLSTREAM_" + suite.upper())
    if chosen:
        return int(chosen)
    return soak if os.environ.get("MILLSTREAM_SOAK") else max(1, ci // SLOWNESS)
