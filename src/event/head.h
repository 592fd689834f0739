// HeadOf: the first events of a batch as a batch of their own.
//
// Place: floor 1. For a fork of the log (log/fork.h) that ends within a batch. Data, envelope and stamps stay
// as they are; stored field columns, a cache, are left out and read from the data again. Stateless. Failure:
// kCorrupt when a section does not decode.
#pragma once

#include "event/batch.h"

namespace millstream {

/// The first `count` events (1 to all). `receipts`: of them.
Result<EncodedBatch> HeadOf(EventBatch& batch, uint32_t count, const Receipts& receipts, Codec codec);

}  // namespace millstream
