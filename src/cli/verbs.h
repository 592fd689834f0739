// All verbs, in the order in which help shows them.
//
// Place: floor 8.
#pragma once

#include <vector>

#include "cli/verb.h"

namespace millstream {

std::vector<Verb> AllVerbs();

Verb DemoVerb();
Verb InitVerb();
Verb CheckVerb();
Verb RunVerb();
Verb IngestVerb();
Verb QueryVerb();
Verb TapVerb();
Verb TopVerb();
/// stream, source, pipeline, table, command, filter
std::vector<Verb> NounVerbs();
Verb ShowVerb();
Verb PlanVerb();
Verb ApplyVerb();
/// Below `filter`: add, set, move, remove.
std::vector<Verb> FilterChangeVerbs();
Verb ReplayVerb();
Verb SandboxVerb();
Verb HistoryVerb();
Verb TraceVerb();
Verb PreviewVerb();
Verb TestVerb();
Verb ContractVerb();
Verb DeadVerb();
Verb LogVerb();
Verb VerifyVerb();
Verb VersionVerb();
Verb SchemaVerb();
Verb ReferenceVerb();
Verb CompletionVerb();
Verb HelpVerb();

/// Parses and runs the command line. `registry` must live as long.
int RunCommandLine(int argc, char** argv, const Registry& registry);

}  // namespace millstream
