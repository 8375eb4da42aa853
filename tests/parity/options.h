#pragma once

#include <cstdint>
#include <string>

namespace berth::test {

/// How much is tried: little in every run of the gate, more by hand.
struct Options {
  std::uint64_t first = 1;       ///< --first=N: the first seed
  std::uint64_t seeds = 25;      ///< --seeds=N: how many, on each file system
  int steps = 60;                ///< --steps=N: operations in a sequence
  std::string without;           ///< --without=CALL,CALL...: what is never called
  std::string access = "proxy";  ///< --access=native: how the kernel gets to the files
  bool atime = true;             ///< --no-atime: times of access are not compared
  bool thorough = false;         ///< --thorough: every case of the tables
  bool minimise = true;          ///< --whole: show a failing sequence as it was invented
};
/// The options of main().
Options& options();

}  // namespace berth::test
