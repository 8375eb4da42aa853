#pragma once

#include <fstream>
#include <iterator>
#include <string>

namespace berth::test {

/// What can be read of a file; "" of one that is not there.
inline std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace berth::test
