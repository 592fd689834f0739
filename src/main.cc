// Builds the house: which kinds of sources, filters and sinks there are, and hands over to the command line.
#include "cli/verbs.h"
#include "filters/filters.h"
#include "sinks/sinks.h"
#include "sources/sources.h"

int main(int argc, char** argv) {
  using namespace millstream;
  Registry registry;
  AddSources(registry);
  AddFilters(registry);
  AddSinks(registry);
  return RunCommandLine(argc, argv, registry);
}
