// Planted bugs: what the suites must find. tools/teeth.py turns each on and demands that a suite goes red.
//
// Place: floor 0. Test programs and the binary millstream_planted are linked with a planted.cc of their own:
// there MILLSTREAM_PLANT in the environment names the bug. In the binary that is shipped IsPlanted is always
// false and the environment is not read. Threads: thread-safe.
#pragma once

namespace millstream {

#define MILLSTREAM_PLANTED_BUGS_LIST(BUG)                                                             \
  BUG(ack_early)          /* an event is acknowledged before it is synced */                          \
  BUG(skip_fsync)         /* a segment is not synced */                                               \
  BUG(no_dirsync)         /* a renamed file's folder is not synced */                                 \
  BUG(truncate_mid)       /* a start cuts the log at damage that had been synced */                   \
  BUG(offset_before_rows) /* a file sink stores the offset before the rows */                         \
  BUG(dup_on_retry)       /* a file sink keeps what a crash left beyond its length */                 \
  BUG(lost_on_swap)       /* a batch that stands at the gate while a version takes over is dropped */ \
  BUG(stale_plan)         /* the old version's filters run on for the new one */                      \
  BUG(checksum_off)       /* a payload's CRC is not compared */                                       \
  BUG(dedupe_forgets)     /* a start does not read which identities were taken */                     \
  BUG(order_by_scan)      /* the last row of a key is taken in no stored order */                     \
  BUG(batch_cut_matters)  /* the first event after the cut of a batch is passed over */               \
  BUG(backup_in_place)    /* a backup overwrites what its last manifest names */                      \
  BUG(sandbox_leaks)      /* a sandbox's standard output is the program's */

enum class Planted : unsigned char {
#define MILLSTREAM_NAME(name) name,
  MILLSTREAM_PLANTED_BUGS_LIST(MILLSTREAM_NAME)
#undef MILLSTREAM_NAME
};

bool IsPlanted(Planted bug);

}  // namespace millstream
