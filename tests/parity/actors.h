#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "tests/parity/hand.h"
#include "tests/parity/operation.h"

namespace berth::test {

/// What came of an operation on the two sides.
struct Outcomes {
  std::string native, share;
};

/// The processes that make the calls: each of persons() has one on either side, locked up there. They take turns,
/// and are started when they are first needed.
class Actors {
 public:
  /// `sequence` outlives this. `tmpfs`: that is what the file system is.
  Actors(const std::vector<Operation>& sequence, const std::string& native, const std::string& share, bool tmpfs);
  ~Actors();
  Actors(const Actors&) = delete;
  Actors& operator=(const Actors&) = delete;

  /// Lets the operation with this number be made, first natively. A process that does not answer is said to hang.
  Outcomes perform(std::size_t number);

 private:
  struct Actor {
    pid_t pid = -1;
    UniqueFd line;
  };
  /// Those of one side, as persons() are.
  struct Side {
    std::string root;
    std::vector<Actor> actors;
  };
  void start(const Side& side, Actor& actor, const Person& person) const;
  std::string perform_on(Side& side, std::size_t number) const;

  [[nodiscard]] std::string perform_with(Hand& hand, const Operation& operation) const;
  [[noreturn]] void act(int line, const Person& person, const std::string& root) const;

  const std::vector<Operation>& sequence_;
  const bool tmpfs_;
  Side native_;
  Side share_;
};

}  // namespace berth::test
