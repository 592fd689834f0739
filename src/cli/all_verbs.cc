#include "cli/verbs.h"

namespace millstream {

std::vector<Verb> AllVerbs() { return {InitVerb(), CheckVerb(), RunVerb(), IngestVerb(), QueryVerb()}; }

}  // namespace millstream
