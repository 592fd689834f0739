// What `sandbox` and verbs that work in one share.
//
// Place: floor 8.
#pragma once

#include "cli/http_client.h"
#include "cli/signals.h"
#include "cli/verb.h"

namespace millstream {

/// Without a server, after `ingest` into a sandbox: waits until its pipelines have delivered all of it.
/// kInvalid: one of them does not go on.
Status AwaitDelivered(const Everywhere& everywhere, HttpClient& inside, const StopSignals& signals);

}  // namespace millstream
