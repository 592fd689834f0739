// ForkLog: a log of its own that begins where another stood at a vector, beside that one's writer.
//
// Place: floor 2; what a sandbox is made of (docs/decisions/0014-sandboxes.md).
// Operation. A fork is an ordinary log folder with the identity of the log that it was made of. Sealed
// segments below the vector are hard links, so they cost no disk until the other log lets go of them; of the
// segment that the vector cuts, the batches below it are copied, and the batch that it cuts is made anew
// without the events above it. Each partition is left as after a clean stop, and goes on at the vector.
// Nothing is ever written in place in a sealed segment: merges and repairs put a new file under the name, so
// neither log sees what the other does. Where links are not possible (another disk, a file system in memory)
// the files are copied.
// Receipts: of the events that are there. One whose events the vector cuts is left out, so that its request
// is taken for one that never came; a pipeline's cannot be left out (kInvalid names the batch).
// Threads: one thread a fork; the source may be written, sealed, merged and thinned by retention meanwhile.
// Failure: kConflict if retention overtook it (begin anew, in an empty folder); kCorrupt names file and byte.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/file_system.h"
#include "log/log.h"

namespace millstream {

/// By stream and partition: the first offset that is not part of the fork. What is not named is not in it.
using ForkEnds = std::map<std::string, std::map<uint32_t, uint64_t>>;

/// Makes `destination`, which must not exist, durable with all below it. `directory`: where `log` lies.
Status ForkLog(FileSystem& fs, Log& log, const std::string& directory, const ForkEnds& ends,
               const std::string& destination);

}  // namespace millstream
