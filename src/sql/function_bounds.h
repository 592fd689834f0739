// Bounds of functions that take much longer than their arguments are long, and allocate nothing meanwhile, so
// that neither an interrupt nor an Allowance ends them.
//
// Place: floor 2, inside sql/. On a bounded connection a macro stands before each of them, which passes the
// argument that matters through a function of ours: `levenshtein(a, b)` is `system.main.levenshtein(_short(a,
// …), _short(b, …))`. Literals are looked at once, while a statement is planned. Threads: those of the
// connection. Failure: what is beyond a bound is Invalid Input, the event's fault.
#pragma once

#include <string>
#include <string_view>

#include "sql/duckdb_face.h"
#include "sql/json_tree.h"

namespace millstream {

/// `_short`, `_pattern` and `_until`; once a database.
Status RegisterBounds(duckdb_connection connection);
/// Macros before the functions, for one connection.
Status BoundFunctions(duckdb_connection connection);

/// For the process that finds out what SQL does without them (sql_worker.h): macros let everything pass, and
/// connections have no allowance, from now on.
void LiftBounds();
bool BoundsAreLifted();

/// True if a macro stands before the function (lower case), which a schema's name in a call would pass by.
bool IsBounded(std::string_view name);

/// True if a text may call such a function: where it names one, or has an operator that is one. Some that do
/// not call any are among them.
bool MayBeBounded(std::string_view sql);

/// The name of the macro that stands for a call whose arguments in the text tell that it may take long; ""
/// for another one. It looks for all matches of a pattern, which may take the square of the text's length
/// (`x*y|x` looks through to the end for each match), or lists times. `why_not`: such a call has no macro.
std::string BoundedName(const JsonNode& function, std::string* why_not);
/// Gives such calls in a tree the macro's name.
void NameBounded(JsonNode& node);

}  // namespace millstream
