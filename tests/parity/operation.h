#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace berth::test {

class Hand;
struct Call;

/// One system call to be made on both sides. What the numbers mean is up to the call.
///
/// Paths are relative to the side's root. "@3/x" starts at what slot 3 has open, "~x" at the working directory.
struct Operation {
  const Call* call = nullptr;
  int actor = 0;  ///< which process makes it
  std::string path;
  std::string other;  ///< a second path, the target of a symbolic link, the name of an attribute
  int slot = 0;       ///< what is open on a side is kept in slots
  int other_slot = 0;
  std::array<long, 4> n{};

  [[nodiscard]] std::string describe() const;
};

/// The one source of chance; the same on every machine (unlike the distributions of the library).
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// 0 to `end` - 1.
  [[nodiscard]] long below(long end) { return static_cast<long>(engine_() % static_cast<std::uint64_t>(end)); }
  [[nodiscard]] bool one_in(long count) { return below(count) == 0; }
  template <typename Container>
  [[nodiscard]] const auto& of(const Container& container) {
    return *(std::begin(container) + below(static_cast<long>(std::size(container))));
  }
  template <typename T>
  [[nodiscard]] T of(std::initializer_list<T> list) {
    return *(list.begin() + below(static_cast<long>(list.size())));
  }

 private:
  std::mt19937_64 engine_;
};

/// A system call: how it is made, and how a random one is thought up.
struct Call {
  std::string_view name;
  long weight;  ///< how often, among all; 0: only when asked for by name
  /// Makes it, and says in a line what came of it; nothing that may differ between the sides is in it.
  std::string (*perform)(Hand& hand, const Operation& operation);
  void (*invent)(Random& random, Operation& operation);
  /// It may set a time that is no finer than the clock's tick.
  enum class Stamps { kFine, kCoarse, kCoarseOnTmpfs } stamps = Stamps::kFine;
};

// By what they are about; each in a file of its own.
std::span<const Call> open_calls();
std::span<const Call> data_calls();
std::span<const Call> name_calls();
std::span<const Call> attribute_calls();
std::span<const Call> xattr_calls();
std::span<const Call> lock_calls();
std::span<const Call> directory_calls();

/// Every call there is, except those that the options of main() leave out.
const std::vector<const Call*>& all_calls();
[[nodiscard]] bool is_known(std::string_view name);
/// By name, whether it is left out or not; ends the program when there is none.
const Call& call_named(std::string_view name);

/// A random sequence, made from `seed` alone.
std::vector<Operation> invent_sequence(std::uint64_t seed, int length, int actors);

// What random operations are made of.
inline constexpr int kSlots = 8;
std::string invent_name(Random& random);
/// Mostly short and likely to be there; sometimes a corner case.
std::string invent_path(Random& random);
long invent_mode(Random& random);
long invent_offset(Random& random);
long invent_length(Random& random);
long invent_owner(Random& random);

/// The users that act. Each but root has supplementary groups.
struct Person {
  unsigned uid, gid;
  std::vector<unsigned> groups;
  std::uint64_t capabilities = 0;
};
const std::vector<Person>& persons();

/// An operation as it is written in tables.
struct Given {
  std::string path, other;
  std::array<long, 4> n{};
  int slot = 0, other_slot = 0;
};
Operation operation(std::string_view call, const Given& given = {}, int actor = 0);

}  // namespace berth::test
