// Usage: what `help` prints of the verbs, and the scripts that complete them in a shell; both from the Verbs.
//
// Place: floor 8. Lines fit 80 columns.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"

namespace millstream {

/// All verbs, a line each, and the options that every verb takes.
std::string OverviewText(const std::vector<Verb>& verbs);
/// One verb: arguments, options, examples. `words`: how it is called, "pipeline list".
std::string UsageText(const Verb& verb, const std::string& words);
/// A script for bash or zsh; `topics` are those of `help`.
std::string CompletionScript(const std::vector<Verb>& verbs, const std::vector<std::string>& topics,
                             bool is_zsh);

/// The verb of this name; null if there is none.
const Verb* FindVerb(const std::vector<Verb>& verbs, const std::string& name);
/// "; did you mean 'init'?", or "; `millstream help` lists them".
std::string NearestVerb(const std::vector<Verb>& verbs, const std::string& given);

}  // namespace millstream
