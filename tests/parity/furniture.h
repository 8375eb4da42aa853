#pragma once

#include <string>
#include <vector>

namespace berth::test {

/// Fills a directory with one of everything: files of each kind, directories that refuse, set-id bits, flags of
/// chattr(1), loops and long names. As root, with fixed times.
void furnish(const std::string& directory);

/// A few of the same, which cost less to look at.
void furnish_sparsely(const std::string& directory);

/// Paths of what is there, of what is not, and of what cannot be.
const std::vector<std::string>& all_paths();
/// Fewer, for calls that take two: one of each kind.
const std::vector<std::string>& telling_paths();

}  // namespace berth::test
