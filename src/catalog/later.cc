#include "catalog/later.h"

namespace millstream {
namespace {

struct LaterKind {
  StageKind stage;
  std::string_view kind;
  std::string_view instead;
};

constexpr LaterKind kLaterKinds[] = {
    {StageKind::kSource, "kafka", "use instead: kcat -C -b BROKER -t TOPIC | millstream ingest STREAM -"},
    {StageKind::kSource, "kinesis",
     "use instead: aws kinesis get-records --shard-iterator I --query 'Records[].Data' --output text | tr "
     "'\\t' '\\n' | while read r; do echo \"$r\" | base64 -d; echo; done | millstream ingest STREAM -"},
    {StageKind::kSource, "s3",
     "use instead (CSV with --format csv): aws s3 cp s3://BUCKET/KEY - | millstream ingest STREAM -"},
    {StageKind::kSource, "http",
     "use instead: curl -s URL | millstream ingest STREAM - --records '/POINTER/*'"},
    {StageKind::kSource, "fhir",
     "use instead: curl -s 'URL/Patient?_count=1000' | millstream ingest STREAM - --records "
     "'/entry/*/resource'"},
    {StageKind::kSource, "postgres",
     "use instead: psql URL -Atc 'SELECT row_to_json(t) FROM TABLE t' | millstream ingest STREAM - --format "
     "json"},
    {StageKind::kSource, "dynamodb",
     "use instead: aws dynamodb scan --table-name T --output json | millstream ingest STREAM - --records "
     "'/Items/*'"},
    {StageKind::kSink, "parquet",
     "use instead a 'file' sink, then: duckdb -c \"COPY (FROM 'out.ndjson') TO 'out.parquet'\""},
    {StageKind::kSink, "http",
     "use instead a 'file' sink with rotate, or follow GET /v1/streams/S/events?follow=true and post with "
     "curl"},
    {StageKind::kSink, "fhir", "use instead a 'file' sink, and post its lines with curl"},
    {StageKind::kSink, "s3",
     "use instead a 'file' sink with rotate, then: aws s3 sync FOLDER s3://BUCKET/PREFIX"},
    {StageKind::kSink, "kafka",
     "use instead a 'file' sink or 'stdout', then: tail -F out.ndjson | kcat -P -b BROKER -t TOPIC"},
    {StageKind::kSink, "kinesis", "use instead a 'file' sink, then: aws kinesis put-records"},
    {StageKind::kSink, "dynamodb", "use instead a 'file' sink, then: aws dynamodb batch-write-item"},
    {StageKind::kFilter, "http", "use instead an 'exec' filter whose program calls the service"},
    {StageKind::kFilter, "dedupe", "use instead 'dedupe' of the stream, or a table with a 'key'"},
    {StageKind::kFilter, "window", "use instead a table with 'key' (the time bucket) and 'values'"},
};

}  // namespace

std::optional<std::string> InsteadOf(StageKind stage, std::string_view kind) {
  for (const LaterKind& later : kLaterKinds)
    if (later.stage == stage && later.kind == kind) return std::string(later.instead);
  return std::nullopt;
}

}  // namespace millstream
