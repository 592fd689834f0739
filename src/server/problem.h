// Problem: errors as application/problem+json (SURFACE, "HTTP").
//
// Place: floor 7. Stateless.
#pragma once

#include <string>
#include <string_view>

#include "base/fault.h"
#include "base/status.h"
#include "server/http_message.h"

namespace millstream {

/// {"type":"urn:millstream:error:CODE","title":…,"status":…,"detail":…,"code":CODE,"faults":[…]}. 429 and 503
/// carry Retry-After. `members`: more members as JSON text, e.g. "\"position\":\"orders/0:17\"".
HttpResponse Problem(int status, std::string_view code, std::string_view detail, const Faults& faults = {},
                     std::string_view members = "");
/// The problem that a Status is.
HttpResponse Problem(const Status& status, const Faults& faults = {});

/// The same for an append that the log did not take: 507 where the disk is full.
HttpResponse AppendProblem(const Status& status);

/// Faults as a JSON array of {"file","line","column","path","index","message","expected","hint"}; what is not
/// known is left out.
std::string FaultsJson(const Faults& faults);

/// "Not Found" for 404.
std::string_view ReasonPhrase(int status);

}  // namespace millstream
