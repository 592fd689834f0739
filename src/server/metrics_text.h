// Metrics of an engine as Prometheus reads them (SURFACE, "HTTP": Metrics), made from a status at each
// scrape.
//
// Place: floor 7. Stateless.
#pragma once

#include <string>

#include "pipeline/status.h"
#include "query/sandbox.h"

namespace millstream {

/// The text exposition format, version 0.0.4.
std::string MetricsText(const EngineStatus& status);
std::string MetricsText(const std::vector<SandboxStatus>& sandboxes);

}  // namespace millstream
