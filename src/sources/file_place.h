// FilePlace and FileIdentity: which file this is, and how far it has been read, so that both are found again
// after a restart, a growth, a renaming, and told from another file in its place.
//
// Place: floor 4, sources/ only. Values and free functions.
// Identity. A part (EventTaker::Mark) is INODE-HEAD-N: the inode, a hash of the file's head, and a number
// that tells contents apart which share both. The head is the first line (CSV: the first two) or the first 64
// KiB, whichever is less, so that it stays as the file grows; of a compressed file or a JSON document it is
// the first 64 KiB or less. The path is no part of it: a rotated file goes on under its new name. Place.
// "SEQUENCE LINE TAIL": of lines the byte after the last event, the lines so far, and a hash of the bytes
// before that byte. Of other formats the count of records, the file's size once all of it was read, and a
// hash of its end. Where the hash differs, the file is another one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/file_system.h"

namespace millstream {

struct FilePlace {
  uint64_t sequence = 0;  // bytes, or records
  uint64_t line = 0;      // lines so far, or bytes
  uint64_t tail = 0;
  bool done = false;  // will not be read again

  std::string ToText() const;
  bool operator==(const FilePlace&) const = default;
};

/// Nothing if it is not a place.
std::optional<FilePlace> ParseFilePlace(const std::string& text);

/// Hash of the head; nothing if the file has not enough yet (`lines` complete lines) and `complete` is not
/// known. `lines` 0: the first 64 KiB or less.
Result<std::optional<uint64_t>> HashHead(File& file, uint64_t size, int lines, bool complete);
/// The byte after the last line end before `size`; 0 if there is none.
Result<uint64_t> EndOfLastLine(File& file, uint64_t size);
/// Hash of up to 256 bytes before `offset`.
Result<uint64_t> HashTail(File& file, uint64_t offset);
/// INODE-HEAD-N
std::string PartName(uint64_t inode, uint64_t head, int number);

}  // namespace millstream
