#include <iterator>

#include "cli/verbs.h"

namespace millstream {

std::vector<Verb> AllVerbs() {
  std::vector<Verb> verbs{InitVerb(),  DemoVerb(), CheckVerb(), RunVerb(),  IngestVerb(),
                          QueryVerb(), TapVerb(),  TopVerb(),   PlanVerb(), ApplyVerb()};
  verbs.push_back(ShowVerb());
  std::vector<Verb> nouns = NounVerbs();
  std::move(nouns.begin(), nouns.end(), std::back_inserter(verbs));
  for (Verb verb : {ReplayVerb(), SandboxVerb(), HistoryVerb(), TraceVerb(), PreviewVerb(), TestVerb(),
                    ContractVerb(), DeadVerb(), LogVerb(), VerifyVerb(), VersionVerb(), SchemaVerb(),
                    ReferenceVerb(), CompletionVerb(), HelpVerb()})
    verbs.push_back(std::move(verb));
  return verbs;
}

}  // namespace millstream
