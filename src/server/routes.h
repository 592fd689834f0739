// Routes: the HTTP API over an Engine (SURFACE, "HTTP"), a group a file.
//
// Place: floor 7, inside server/. Each function adds its group to the one table. The Services
// must outlive the router.
#pragma once

#include "pipeline/engine.h"
#include "query/query.h"
#include "query/sandboxes.h"
#include "server/router.h"

namespace millstream {

/// What handlers work with.
struct Services {
  Engine& engine;
  QueryRunner& queries;
  Sandboxes* sandboxes = nullptr;  // none in a sandbox
};

/// All of them.
void AddAllRoutes(Router& router, Services& services);

void AddIngestRoutes(Router& router, Services& services);     // events in, origins
void AddEventRoutes(Router& router, Services& services);      // events out
void AddQueryRoutes(Router& router, Services& services);      // POST /v1/query, GET /v1/wait
void AddTableRoutes(Router& router, Services& services);      // tables
void AddCatalogRoutes(Router& router, Services& services);    // streams, sources, pipelines
void AddCommandRoutes(Router& router, Services& services);    // commands
void AddChangeRoutes(Router& router, Services& services);     // plan, apply, definitions, history
void AddReplayRoutes(Router& router, Services& services);     // history into other places
void AddDeadRoutes(Router& router, Services& services);       // dead letters
void AddPastRoutes(Router& router, Services& services);       // trace, preview
void AddSandboxRoutes(Router& router, Services& services);    // isolated copies
void AddTapRoutes(Router& router, Services& services);        // a sample of what passes
void AddOperationRoutes(Router& router, Services& services);  // status, health, metrics, OpenAPI

/// kInvalid if an `exec` filter of these definitions names a program that neither the live ones nor the files
/// name.
Status OnlyKnownPrograms(Engine& engine, const Node& root);
/// The project of {"files":{"millstream.yaml":"…"}}, sound and without programs that are not known; else the
/// problem.
std::optional<HttpResponse> ReadProjectFiles(Engine& engine, const Node& body, Project& project);
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
