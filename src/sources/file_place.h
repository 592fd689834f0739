// FilePlace and FileIdentity: which file this is, and how far it has been read, so that both are found again
// after a restart, a growth, a renaming, and told from another file in its place.
//
// Place: floor 4, sources/ only. Values and free functions.
// Identity. A part (EventTaker::Mark) is INODE-HEAD-N: the inode, a hash of the file's head, and a number
// that tells contents apart which share both. The head is the first line (CSV: the first two) or the first 64
// KiB, whichever is less, so that it stays as the file grows; of a compressed file or a JSON document it is
// the first 64 KiB or less. The path is no part of it: a rotated file goes on where it was.
// Place. "SEQUENCE LINE TAIL open|done NAME": of lines the byte after the last event, the lines so far, and a
// hash of the bytes before that byte. Of other formats the count of records, the file's size once all of it
// was read, and a hash of its end. Where the hash differs, the file is another one.
// Name. What the ids of its events begin with (NAME#LINE): the path at which this content was seen first;
// where another content had that name before, PATH@2, PATH@3 and so on. No two contents of a source have one
// name, and a content keeps its own under whatever path it goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/file_system.h"

namespace millstream {

struct FilePlace {
  uint64_t sequence = 0;  // bytes, or records
  uint64_t line = 0;      // lines so far, or bytes
  uint64_t tail = 0;
  bool done = false;  // will not be read again
  std::string name;   // empty: of a version that did not store it

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
/// Which name each content (part) of a source has. Remembers them all: one a receipt.
class ContentNames {
 public:
  /// From what is stored: parts and the texts of their places. One partition may know of a content that
  /// others do not know of; its events have their name all the same.
  explicit ContentNames(const std::vector<std::pair<std::string, std::string>>& positions);
  /// The name of a part; a new one is named after `path`.
  const std::string& Of(const std::string& part, const std::string& path);
  void Keep(const std::string& part, const std::string& name);

 private:
  std::unordered_map<std::string, std::string> by_part_;
  std::unordered_set<std::string> taken_;
  std::unordered_map<std::string, uint64_t> contents_;  // of a path: the last number that was tried
};

/// INODE-HEAD-N
std::string PartName(uint64_t inode, uint64_t head, int number);

}  // namespace millstream
