// Boost.JSON's own code, compiled once for every room that reads JSON documents of ours.
#include <boost/json/src.hpp>
