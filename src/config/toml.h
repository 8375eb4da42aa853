#pragma once

/// The one door to toml++. Its parser answers instead of throwing, and is compiled into document.cc alone.
#define TOML_HEADER_ONLY 0
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
// Nothing of ours nests deeper than an array in a section. Together with kMaxDotsInLine it bounds the recursion with which
// toml++ destroys what it has read.
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/toml.h>
