#include "catalog/settings.h"

#include "base/text.h"

namespace millstream {
namespace {

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

Spec<TokenConfig> TokenSpec() {
  Spec<TokenConfig> spec("tokens", "Who may call over HTTP (Authorization: Bearer …).");
  spec.Field("name", &TokenConfig::name, "who; stands in the history of changes").Required();
  spec.Field("role", &TokenConfig::role,
             "read: queries, tap; write: also ingest, commands; admin: also changes")
      .Required()
      .OneOf({"read", "write", "admin"});
  spec.Field("token", &TokenConfig::token, "what the caller sends").Required().Secret();
  return spec;
}

Spec<LogSettings> LogSpec() {
  Spec<LogSettings> spec("log", "What is written to stderr.");
  spec.Field("level", &LogSettings::level, "from which severity on")
      .OneOf({"debug", "info", "warn", "error"})
      .Default("info");
  spec.Field("format", &LogSettings::format, "for people, or for programs")
      .OneOf({"console", "json"})
      .Default("console");
  return spec;
}

Spec<QuerySettings> QuerySpec() {
  Spec<QuerySettings> spec("query", "Bounds of queries.");
  spec.Field("deadline", &QuerySettings::deadline, "longest time of one query").Default("30s");
  spec.Field("concurrent", &QuerySettings::concurrent, "how many may run at once")
      .Min(1)
      .Max(1024)
      .Default("8");
  return spec;
}

Spec<LimitSettings> LimitSpec() {
  Spec<LimitSettings> spec("limits", "Bounds of what is taken in.");
  spec.Field("event", &LimitSettings::event, "largest event").Default("1MiB");
  spec.Field("body", &LimitSettings::body, "largest HTTP body as sent").Default("16MiB");
  spec.Field("inflated", &LimitSettings::inflated, "largest HTTP body when inflated").Default("256MiB");
  spec.Field("header", &LimitSettings::header, "largest HTTP header").Default("16KiB");
  spec.Field("depth", &LimitSettings::depth, "deepest nesting of JSON").Min(1).Max(128).Default("128");
  spec.Field("connections", &LimitSettings::connections, "open HTTP connections")
      .Min(1)
      .Max(65536)
      .Default("1024");
  spec.Field("batch_events", &LimitSettings::batch_events, "most events of a batch")
      .Min(1)
      .Max(1'000'000)
      .Default("10000");
  spec.Field("batch_bytes", &LimitSettings::batch_bytes, "most bytes of a batch").Default("8MiB");
  spec.Field("free_space", &LimitSettings::free_space,
             "share of the disk that stays free: below it ingest answers 507")
      .Default("5%");
  return spec;
}

Spec<SandboxesSettings> SandboxesSpec() {
  Spec<SandboxesSettings> spec("sandboxes", "Bounds of sandboxes.");
  spec.Field("count", &SandboxesSettings::count, "how many there may be").Min(0).Max(100).Default("8");
  spec.Field(
          "disk", &SandboxesSettings::disk,
          "what each may hold beside what it shares with the live log: beyond it ingest into it answers 507 "
          "and its pipelines pause; 'sandbox create --disk' sets another bound")
      .Default("10GiB");
  spec.Field("memory", &SandboxesSettings::memory, "DuckDB's memory in each").Default("256MiB");
  return spec;
}

Spec<EnvelopeSettings> EnvelopeSpec() {
  Spec<EnvelopeSettings> spec("envelope", "Fields or JSON pointers that fill CloudEvents attributes.");
  spec.Field("id", &EnvelopeSettings::id, "ce_id");
  spec.Field("source", &EnvelopeSettings::source, "ce_source");
  spec.Field("type", &EnvelopeSettings::type, "ce_type");
  spec.Field("subject", &EnvelopeSettings::subject, "ce_subject");
  spec.Field("time", &EnvelopeSettings::time, "ce_time, RFC 3339");
  return spec;
}

Spec<RetainSettings> RetainSpec() {
  Spec<RetainSettings> spec("retain", "How long events are kept.");
  spec.Field("age", &RetainSettings::age, "events older than this may go");
  spec.Field("size", &RetainSettings::size, "the oldest go while the stream is larger");
  return spec;
}

Spec<LetterLimitSettings> LetterLimitSpec() {
  Spec<LetterLimitSettings> spec("max_dead_letters",
                                 "How many dead letters are too many; one of share and count.");
  spec.Field("share", &LetterLimitSettings::share, "of the events, from 100 events on, e.g. 1%");
  spec.Field("count", &LetterLimitSettings::count, "so many");
  spec.Field("over", &LetterLimitSettings::over, "within this time").Default("10m");
  return spec;
}

Spec<DedupeSettings> DedupeSpec() {
  Spec<DedupeSettings> spec("dedupe", "Events that are the same are taken once.");
  spec.Field("by", &DedupeSettings::by,
             "attributes (ce_source, ce_id, …) or contract fields that tell events apart")
      .Required();
  spec.Field("window", &DedupeSettings::window, "how far back an event is known").Default("24h");
  return spec;
}

Spec<RetrySettings> RetrySpec() {
  Spec<RetrySettings> spec("retry", "Pauses after a failure; each is twice the one before.");
  spec.Field("min", &RetrySettings::min, "the first").Default("100ms");
  spec.Field("max", &RetrySettings::max, "the longest").Default("30s");
  return spec;
}

// {"type":"object","properties":{KIND: options…}}: exactly one kind. Kinds whose settings may all be left out
// may stand alone.
template <typename Kinds>
std::string KindsSchema(const Kinds& kinds, const std::vector<FieldInfo>& common, const std::string& also,
                        bool name_alone) {
  std::string properties = also, alone;
  for (const auto& [name, kind] : kinds) {
    SpecInfo info = kind.spec;
    bool all_optional = true;
    for (const FieldInfo& field : kind.spec.fields) all_optional = all_optional && !field.required;
    for (const FieldInfo& field : common) {
      bool own = std::any_of(info.fields.begin(), info.fields.end(),
                             [&](const FieldInfo& f) { return f.name == field.name; });
      if (!own) info.fields.push_back(field);
    }
    properties += (properties.empty() ? "" : ",") + Quoted(name) + ":" + SpecSchema(info);
    if (all_optional) alone += (alone.empty() ? "" : ",") + Quoted(name);
  }
  std::string object = fmt::format(
      R"({{"type":"object","properties":{{{}}},"additionalProperties":false,"minProperties":1,"maxProperties":1}})",
      properties);
  if (!name_alone || alone.empty()) return object;
  return fmt::format(R"({{"anyOf":[{},{{"enum":[{}]}}]}})", object, alone);
}

std::string NamedSchema(const std::string& item) {
  return fmt::format(
      R"({{"anyOf":[{{"type":"object","propertyNames":{{"pattern":"^[a-z][a-z0-9_]{{0,62}}$"}},"additionalProperties":{}}},{{"type":"null"}}]}})",
      item);
}

std::string ContractSchema() {
  return fmt::format(R"({{"type":"object","additionalProperties":{{"anyOf":[{{"type":"string"}},{}]}}}})",
                     SpecSchema(ContractFieldSettingsSpec().info()));
}

}  // namespace

Spec<ServerSettings> ServerSettingsSpec() {
  Spec<ServerSettings> spec("server",
                            "The process: where it listens, where data lies, its bounds. Flags win.");
  spec.Field("listen", &ServerSettings::listen, "address and port; any but a loopback address needs tokens")
      .Default("127.0.0.1:8410");
  spec.Field("data", &ServerSettings::data, "data folder, relative to the project folder")
      .Default(".millstream");
  spec.Nested("tokens", &ServerSettings::tokens, TokenSpec(), "who may call over HTTP");
  spec.Nested("log", &ServerSettings::log, LogSpec(), "what is written to stderr");
  spec.Field("memory", &ServerSettings::memory,
             "DuckDB's memory; below 128MiB folds of large tables fail beside queries")
      .Default("1GiB");
  spec.Nested("query", &ServerSettings::query, QuerySpec(), "bounds of queries");
  spec.Nested("limits", &ServerSettings::limits, LimitSpec(), "bounds of what is taken in");
  spec.Nested("sandboxes", &ServerSettings::sandboxes, SandboxesSpec(), "bounds of sandboxes");
  spec.Example("server:\n  listen: 127.0.0.1:8410\n  data: .millstream\n  memory: 2GiB\n");
  return spec;
}

Spec<ContractFieldSettings> ContractFieldSettingsSpec() {
  Spec<ContractFieldSettings> spec("field", "A contract field whose value lies elsewhere in the data.");
  spec.Field("type", &ContractFieldSettings::type, "TYPE [not null] [default LITERAL] [check (EXPR)]")
      .Required()
      .Main();
  spec.Field("from", &ContractFieldSettings::from, "JSON pointer of the value; default /NAME");
  return spec;
}

Spec<StreamSettings> StreamSettingsSpec() {
  Spec<StreamSettings> spec("streams", "A named, partitioned, append-only log of events.");
  spec.Field("key", &StreamSettings::key,
             "field, JSON pointer or list: events of one key keep their order. By default CloudEvents' "
             "partitionkey, else events are spread");
  spec.Nested("envelope", &StreamSettings::envelope, EnvelopeSpec(),
              "fields or JSON pointers that fill absent CloudEvents attributes");
  spec.Field("partitions", &StreamSettings::partitions, "fixed once the stream is made")
      .Min(1)
      .Max(256)
      .Default("1");
  spec.Field("ack", &StreamSettings::ack,
             "when a producer is answered: events are synced to disk, or only written")
      .OneOf({"durable", "written"})
      .Default("durable");
  spec.Field("codec", &StreamSettings::codec, "compression of batches").OneOf({"lz4", "none"}).Default("lz4");
  spec.Nested("retain", &StreamSettings::retain, RetainSpec(),
              "how long events are kept; by default for ever");
  spec.Nested("dedupe", &StreamSettings::dedupe, DedupeSpec(), "events that are the same are taken once");
  spec.Field(
          "on_violation", &StreamSettings::on_violation,
          "an event that breaks the contract becomes a dead letter, or its whole request is refused (a piece "
          "of "
          "1 MiB of `ingest`); what a source brings always becomes a dead letter, as it has nobody to refuse")
      .OneOf({"dead_letter", "reject"})
      .Default("dead_letter");
  spec.Field("contract", &StreamSettings::contract, "FIELD: TYPE [not null] [default LITERAL] [check (EXPR)]")
      .Shown("map of fields", ContractSchema());
  spec.Example(
      "streams:\n  orders:\n    key: customer\n    partitions: 2\n    contract:\n      id: varchar not null\n"
      "      status: enum('open','paid') default 'open'\n      amount: decimal(12,2) check (amount >= 0)\n"
      "      login: {type: varchar, from: /sender/login}\n");
  return spec;
}

Spec<CommonSourceSettings> CommonSourceSettingsSpec() {
  Spec<CommonSourceSettings> spec("every source", "Settings that every source takes.");
  spec.Field("every", &CommonSourceSettings::every, "pause between looks for something new");
  spec.Nested("retry", &CommonSourceSettings::retry, RetrySpec(), "pauses after a failure");
  return spec;
}

Spec<SourceSettings> SourceSettingsSpec(const Registry& registry) {
  Spec<SourceSettings> spec("sources", "A connector that appends to a stream.");
  spec.Field("from", &SourceSettings::from, "exactly one kind of source and its options")
      .Required()
      .Shown("KIND: options",
             KindsSchema(registry.sources(), CommonSourceSettingsSpec().info().fields, "", false));
  spec.Field("to", &SourceSettings::to, "the stream").Required();
  spec.Example(
      "sources:\n  old_orders:\n    from:\n      file: {path: \"in/*.ndjson.gz\"}\n    to: orders\n");
  return spec;
}

Spec<PipelineSettings> PipelineSettingsSpec(const Registry& registry) {
  const std::string sql = R"("sql":{"type":"string"})";
  std::string filter =
      fmt::format(R"({{"anyOf":[{{"type":"string"}},{}]}})", KindsSchema(registry.filters(), {}, sql, false));
  std::string filters = fmt::format(
      R"({{"type":"array","items":{{"type":"object","additionalProperties":{},"minProperties":1,"maxProperties":1}}}})",
      filter);
  FieldInfo name;
  name.name = "name", name.type = "text", name.description = "the sink's id, in place of KIND:TARGET";
  std::string sink = KindsSchema(registry.sinks(), {name}, "", true);
  std::string sinks = fmt::format(R"({{"anyOf":[{{"type":"array","items":{0},"minItems":1}},{0}]}})", sink);

  Spec<PipelineSettings> spec(
      "pipelines", "Reads one stream, passes each batch through its filters, delivers to its sinks.");
  spec.Field("from", &PipelineSettings::from, "the stream that it reads").Required();
  spec.Field("start", &PipelineSettings::start,
             "earliest, latest, a time (2026-11-01T00:00:00Z, 2h ago as 2h) or a position (orders/0:17,1:9); "
             "only when the pipeline is first made")
      .Default("earliest");
  spec.Field("adopt", &PipelineSettings::adopt,
             "goes on where the pipeline of this name stood when it was removed, in each of its sinks; only "
             "when "
             "the pipeline is made again")
      .Default("false");
  spec.Field("filters", &PipelineSettings::filters, "a list of NAME: SQL, or NAME: {KIND: options}, in order")
      .Shown("list", filters);
  spec.Field("to", &PipelineSettings::to, "a list of sinks: KIND: options, or KIND: VALUE")
      .Required()
      .Shown("list", sinks);
  spec.Nested("max_dead_letters", &PipelineSettings::max_dead_letters, LetterLimitSpec(),
              "more dead letters than this pause the pipeline until 'millstream pipeline resume'");
  spec.Example(
      "pipelines:\n  revenue:\n    from: orders\n    filters:\n"
      "      - paid: SELECT id, amount FROM input WHERE status = 'paid'\n      - gross: filters/gross.sql\n"
      "    to:\n      - table: {name: revenue, key: id}\n");
  return spec;
}

Spec<CommandSettings> CommandSettingsSpec() {
  const std::string rule =
      R"({"type":"object","additionalProperties":{"type":"string"},"minProperties":1,"maxProperties":1})";
  Spec<CommandSettings> spec(
      "commands",
      "Decides over tables whether something may happen, and appends the events that say it did. All earlier "
      "events of the command's key are seen. `$input.NAME` is a field of the command.");
  spec.Field("input", &CommandSettings::input,
             "the fields of the command: FIELD: TYPE [not null] [default LITERAL] [check (EXPR)]")
      .Required()
      .Shown("map of fields", ContractSchema());
  spec.Field("key", &CommandSettings::key,
             "field or list of fields, `not null`: commands of one key are decided one after another. The "
             "key of "
             "the stream, in its order")
      .Required();
  spec.Field("require", &CommandSettings::require,
             "a list of MESSAGE: SELECT; a row refuses the command with that message")
      .Shown("list", fmt::format(R"({{"type":"array","items":{}}})", rule));
  spec.Field("emit", &CommandSettings::emit,
             "STREAM: SELECT; each row becomes an event of the stream, its `ce_*` columns the envelope")
      .Required()
      .Shown("STREAM: SQL", rule);
  spec.Field("consistency", &CommandSettings::consistency,
             "key: the tables read hold every earlier event of the key; eventual: they are read as they are")
      .OneOf({"key", "eventual"})
      .Default("key");
  spec.Example(
      "commands:\n  place_order:\n    input: {id: varchar not null, customer: varchar not null, amount: "
      "\"decimal(12,2)\"}\n    key: customer\n    require:\n      - customer is blocked: SELECT 1 FROM "
      "customers "
      "WHERE id = $input.customer AND blocked\n    emit: {orders: \"SELECT $input.id AS id, $input.customer "
      "AS "
      "customer, 'order.placed' AS type, $input.amount AS amount\"}\n");
  return spec;
}

Spec<ProjectSettings> ProjectSettingsSpec(const Registry& registry) {
  Spec<ProjectSettings> spec("millstream.yaml", "A project: server, streams, sources, pipelines, commands.");
  spec.Nested("server", &ProjectSettings::server, ServerSettingsSpec(), "the process; optional");
  spec.Field("streams", &ProjectSettings::streams, "NAME: options; logs of events")
      .Shown("map of streams", NamedSchema(SpecSchema(StreamSettingsSpec().info())));
  spec.Field("sources", &ProjectSettings::sources, "NAME: options; connectors that bring events in")
      .Shown("map of sources", NamedSchema(SpecSchema(SourceSettingsSpec(registry).info())));
  spec.Field("pipelines", &ProjectSettings::pipelines,
             "NAME: options; from a stream through filters to sinks")
      .Shown("map of pipelines", NamedSchema(SpecSchema(PipelineSettingsSpec(registry).info())));
  spec.Field("commands", &ProjectSettings::commands, "NAME: options; decisions that become events")
      .Shown("map of commands", NamedSchema(SpecSchema(CommandSettingsSpec().info())));
  return spec;
}

}  // namespace millstream
