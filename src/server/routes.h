// The routes of the HTTP API (SURFACE, "HTTP"), by what they are about.
//
// Place: floor 7. Each function adds its routes to the one table. A new route is one Add here and nothing else: /openapi.json follows.
#pragma once

#include "pipeline/engine.h"
#include "query/query.h"
#include "server/router.h"

namespace millstream {

/// What handlers work with; must outlive the router.
struct Services {
  Engine& engine;
  QueryRunner& queries;
};

void AddAllRoutes(Router& router, Services& services);

void AddIngestRoutes(Router& router, Services& services);      // routes_ingest.cc
void AddFeedRoutes(Router& router, Services& services);        // routes_feed.cc: events of a stream
void AddQueryRoutes(Router& router, Services& services);       // routes_query.cc: SQL, tables, waits
void AddCatalogRoutes(Router& router, Services& services);     // routes_catalog.cc: definitions, pause, resume
void AddOperationRoutes(Router& router, Services& services);   // routes_operation.cc: health, status, metrics, dead letters
void AddTapRoutes(Router& router, Services& services);         // routes_tap.cc

/// A query parameter that is a count; kInvalid names it.
Result<uint64_t> NumberParameter(const HttpRequest& request, std::string_view name, uint64_t missing);
/// "earliest", "latest", a position, a time or a duration ago, as next offsets of every partition of the stream (SURFACE, "Position", "Time").
/// `inclusive`: a position means "up to and with this event".
Result<std::map<uint32_t, uint64_t>> ResolvePlace(Engine& engine, Stream& stream, const std::string& text, bool inclusive);

}  // namespace millstream
