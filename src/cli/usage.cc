#include "cli/usage.h"

#include "base/fault.h"
#include "base/text.h"

namespace millstream {
namespace {

constexpr size_t kWidth = 80;
constexpr size_t kTermMax = 24;  // a longer one has its help on the next line

/// Words of `text`, broken at kWidth, every line but the first indented.
std::string Wrapped(std::string_view text, size_t indent) {
  std::string out;
  size_t column = indent;
  for (std::string_view word : Split(text, ' ')) {
    if (word.empty()) continue;
    if (column > indent && column + 1 + word.size() > kWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    }
    if (column > indent) out += ' ', ++column;
    out += word;
    column += word.size();
  }
  return out;
}

using Lines = std::vector<std::pair<std::string, std::string>>;  // a term and what it means

std::string LayOutTerms(const Lines& lines) {
  size_t widest = 0;
  for (const auto& [term, help] : lines)
    if (term.size() <= kTermMax) widest = std::max(widest, term.size());
  std::string out;
  for (const auto& [term, help] : lines) {
    out += "  " + (term.size() > kTermMax ? Wrapped(term, 6) : term);
    out += term.size() > widest ? "\n" + std::string(widest + 4, ' ')
                                : std::string(widest + 2 - term.size(), ' ');
    out += Wrapped(help, widest + 4) + "\n";
  }
  return out;
}

/// "--format FORMAT", "[FILE…]", "STREAM".
std::string TermOf(const Verb::Parameter& parameter, bool in_synopsis) {
  std::string term = parameter.names;
  std::replace(term.begin(), term.end(), ',', '|');
  if (!parameter.value.empty()) term += " " + parameter.value;
  if (!parameter.positional) return in_synopsis ? "[" + term + "]" : term;
  if (parameter.kind == Verb::Parameter::Kind::kTexts) term += "...";
  return in_synopsis && !parameter.required ? "[" + term + "]" : term;
}

std::string Synopsis(const Verb& verb) {
  std::string text;
  for (bool positional : {true, false})
    for (const Verb::Parameter& parameter : verb.parameters())
      if (parameter.positional == positional) text += " " + TermOf(parameter, true);
  return text;
}

std::string ParameterLines(const Verb& verb, bool positional) {
  Lines lines;
  for (const Verb::Parameter& parameter : verb.parameters())
    if (parameter.positional == positional) lines.emplace_back(TermOf(parameter, false), parameter.help);
  return LayOutTerms(lines);
}

std::string ExampleLines(const Verb& verb) {
  std::string out;
  for (const auto& [command, what] : verb.examples()) out += "  " + command + "\n      " + what + "\n";
  for (const Verb& below : verb.below()) out += ExampleLines(below);
  return out;
}

std::string OptionWords(const Verb& verb) {
  std::string words;
  for (const Verb::Parameter& parameter : verb.parameters()) {
    if (parameter.positional) continue;
    for (std::string_view name : Split(parameter.names, ',')) words += " " + std::string(name);
  }
  return words;
}

std::string Joined(const std::vector<std::string>& words) { return fmt::format("{}", fmt::join(words, " ")); }

}  // namespace

const Verb* FindVerb(const std::vector<Verb>& verbs, const std::string& name) {
  auto found =
      std::find_if(verbs.begin(), verbs.end(), [&](const Verb& verb) { return verb.name() == name; });
  return found == verbs.end() ? nullptr : &*found;
}

std::string NearestVerb(const std::vector<Verb>& verbs, const std::string& given) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs) names.push_back(verb.name());
  std::string nearest = Nearest(given, names);
  return nearest.empty() ? "; `millstream help` lists them" : "; did you mean '" + nearest + "'?";
}

std::string OverviewText(const std::vector<Verb>& verbs) {
  Lines lines;
  for (const Verb& verb : verbs) lines.emplace_back(verb.name(), verb.summary());
  Everywhere unused;
  return Wrapped(
             "Millstream takes in every event, keeps it for ever, filters it with SQL while it flows, and "
             "keeps "
             "the results as tables to ask.",
             0) +
         "\n\nUsage: millstream VERB [ARGUMENTS] [OPTIONS]\n\nVerbs\n" + LayOutTerms(lines) +
         "\nEverywhere\n" + ParameterLines(EverywhereParameters(unused), false) +
         "\nData goes to stdout, all else to stderr.\n"
         "  millstream help VERB   its arguments, options and examples\n"
         "  millstream help KIND   a source, filter or sink: file, exec, table, ...\n";
}

std::string UsageText(const Verb& verb, const std::string& words) {
  std::string out = Wrapped("millstream " + words + " - " + verb.summary(), 0) + "\n\n";
  if (verb.below().empty()) {
    out += "Usage: " + Wrapped("millstream " + words + Synopsis(verb), 9) + "\n";
    if (std::string lines = ParameterLines(verb, true); !lines.empty()) out += "\n" + lines;
    if (std::string lines = ParameterLines(verb, false); !lines.empty()) out += "\nOptions\n" + lines;
  } else {
    Lines lines;
    for (const Verb& below : verb.below())
      lines.emplace_back(below.name() + Synopsis(below), below.summary());
    out += "Usage: millstream " + words + " VERB\n\nVerbs\n" + LayOutTerms(lines);
  }
  Everywhere unused;
  out += "\nEverywhere\n" + ParameterLines(EverywhereParameters(unused), false);
  if (!verb.about().empty()) out += "\n" + Wrapped(verb.about(), 0) + "\n";
  if (std::string lines = ExampleLines(verb); !lines.empty()) out += "\nExamples\n" + lines;
  return out;
}

std::string CompletionScript(const std::vector<Verb>& verbs, const std::vector<std::string>& topics,
                             bool is_zsh) {
  std::vector<std::string> names;
  std::string below, options;
  Everywhere unused;
  std::string everywhere = OptionWords(EverywhereParameters(unused));
  for (const Verb& verb : verbs) {
    names.push_back(verb.name());
    if (verb.below().empty()) {
      options += fmt::format("    \"{} \"*) words=\"{}\" ;;\n", verb.name(), OptionWords(verb) + everywhere);
      continue;
    }
    std::vector<std::string> below_names;
    for (const Verb& each : verb.below()) {
      below_names.push_back(each.name());
      options += fmt::format("    \"{} {} \"*) words=\"{}\" ;;\n", verb.name(), each.name(),
                             OptionWords(each) + everywhere);
    }
    below += fmt::format("    {}) words=\"{}\" ;;\n", verb.name(), Joined(below_names));
  }
  std::string script = is_zsh ? "autoload -U +X compinit && compinit -u\n"
                                "autoload -U +X bashcompinit && bashcompinit\n"
                              : "";
  script +=
      "_millstream() {\n  local word=\"${COMP_WORDS[COMP_CWORD]}\" words=\"\" verb=\"\" i=1\n"
      "  while [ \"$i\" -lt \"$COMP_CWORD\" ]; do\n    case \"${COMP_WORDS[$i]}\" in\n"
      "      -C|--data|--server|--token|--color) i=$((i+1)) ;;\n      -*) ;;\n"
      "      *) verb=\"$verb${verb:+ }${COMP_WORDS[$i]}\" ;;\n    esac\n    i=$((i+1))\n  done\n";
  script +=
      "  case \"${COMP_WORDS[COMP_CWORD-1]}\" in\n"
      "    --format) COMPREPLY=($(compgen -W \"table json ndjson csv\" -- \"$word\")); return ;;\n"
      "    --color) COMPREPLY=($(compgen -W \"auto always never\" -- \"$word\")); return ;;\n"
      "  esac\n";
  script += fmt::format("  if [ -z \"$verb\" ]; then words=\"{}{}\"\n", Joined(names), everywhere);
  script += "  elif [ \"${word#-}\" != \"$word\" ]; then case \"$verb \" in\n";
  script += options + "  esac\n";
  script += "  else case \"$verb\" in\n" + below +
            fmt::format("    help) words=\"{} {}\" ;;\n    completion) words=\"bash zsh\" ;;\n",
                        Joined(names), Joined(topics)) +
            "  esac; fi\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\n";
  return script + "complete -o default -F _millstream millstream\n";
}

}  // namespace millstream
