// Routes: the HTTP API over an Engine (SURFACE, "HTTP"), a group a file.
//
// Place: floor 7, inside server/. Each function adds its group to the one table. What a RouteContext names
// must outlive the router.
#pragma once

#include "base/logging.h"
#include "pipeline/engine.h"
#include "query/query.h"
#include "server/router.h"

namespace millstream {

struct RouteContext {
  Engine& engine;
  QueryRunner& queries;
  const Logger& logger;
};

void AddIngestRoutes(Router& router, RouteContext& context);     // events in, origins
void AddEventRoutes(Router& router, RouteContext& context);      // events out
void AddQueryRoutes(Router& router, RouteContext& context);      // POST /v1/query, GET /v1/wait
void AddTableRoutes(Router& router, RouteContext& context);      // tables
void AddCatalogRoutes(Router& router, RouteContext& context);    // streams, sources, pipelines
void AddDeadRoutes(Router& router, RouteContext& context);       // dead letters
void AddTapRoutes(Router& router, RouteContext& context);        // a sample of what passes
void AddOperationRoutes(Router& router, RouteContext& context);  // status, health, metrics, OpenAPI

/// RFC 3339, or a duration ago.
Result<int64_t> ParseTimeOrAgo(const std::string& text, Clock& clock);
/// A count of a query parameter, or `missing` where there is none.
Result<uint64_t> CountOf(const HttpRequest& request, std::string_view name, uint64_t missing);
/// 404 with the nearest of the names.
HttpResponse NotThere(std::string_view kind, const std::string& name, const std::vector<std::string>& names);
std::vector<std::string> StreamNames(Engine& engine);

/// Rows of a query as JSON, NDJSON or CSV, streamed with back-pressure. `kBare`: JSON without columns and
/// position.
enum class RowsShape : uint8_t { kDocument, kBare };
void SendRows(RunningQuery& query, size_t format, RowsShape shape, HttpHeaders headers, Responder responder);
/// What the formats of SendRows are called.
inline const std::vector<std::string> kRowFormats{"application/json", "application/x-ndjson", "text/csv"};
std::optional<size_t> RowFormatOf(const HttpRequest& request);
/// The problem of a query that did not start.
HttpResponse QueryProblem(const Status& status, const QueryFault& fault, const std::string& sql);

}  // namespace millstream
