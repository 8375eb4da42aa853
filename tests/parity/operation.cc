#include "tests/parity/operation.h"

#include <linux/capability.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "src/lib/base/text.h"
#include "tests/parity/options.h"

namespace berth::test {
namespace {

std::string shown(const std::string& path) {
  if (path.size() <= 60) return quote(path);
  return quote(path.substr(0, 40)) + "... (" + std::to_string(path.size()) + " bytes)";
}

const Call& pick_call(Random& random) {
  static const long total = std::accumulate(all_calls().begin(), all_calls().end(), 0L,
                                            [](long sum, const Call* call) { return sum + call->weight; });
  long left = random.below(total);
  for (const Call* call : all_calls()) {
    if (left < call->weight) return *call;
    left -= call->weight;
  }
  return *all_calls().front();
}

/// A path at a limit, or written in an unusual way.
std::string invent_corner(Random& random) {
  switch (random.below(12)) {
    case 0:
      return "";
    case 1:
      return ".";
    case 2:
      return invent_name(random) + "/";
    case 3:
      return invent_name(random) + "/.";
    case 4:
      return invent_name(random) + "/..";
    case 5:
      return "./" + invent_name(random) + "//" + invent_name(random);
    case 6:
      return invent_name(random) + "/../" + invent_name(random);
    case 7:
      return std::string(255, 'l');
    case 8:
      return std::string(256, 'l');
    case 9:
      return invent_name(random) + "/" + std::string(255, '\xfe');
    case 10: {
      std::string path = invent_name(random);
      while (path.size() < 4085) path += "/./././.";
      return path + std::string(static_cast<std::size_t>(random.below(20)), '/') + invent_name(random);
    }
    default:
      return "\x01\xff \n'\"\\";
  }
}

}  // namespace

std::string Operation::describe() const {
  std::string text = "[" + std::to_string(actor) + "] " + std::string(call->name) + " " + shown(path);
  if (!other.empty()) text += " other=" + shown(other);
  text += " slot=" + std::to_string(slot) + "," + std::to_string(other_slot) + " n=";
  for (const long number : n) {
    char part[64];
    std::snprintf(part, sizeof part, number > 9 || number < -9 ? "%#lo/%ld " : "%ld ",
                  static_cast<unsigned long>(number), number);
    text += part;
  }
  return text;
}

const std::vector<const Call*>& all_calls() {
  static const std::vector<const Call*> calls = [] {
    std::vector<const Call*> all;
    for (const auto& group : {open_calls(), data_calls(), name_calls(), attribute_calls(), xattr_calls(), lock_calls(),
                              directory_calls()}) {
      for (const Call& call : group) all.push_back(&call);
    }
    const std::vector<std::string_view> without = split(options().without, ',');
    std::erase_if(
        all, [&](const Call* call) { return std::find(without.begin(), without.end(), call->name) != without.end(); });
    return all;
  }();
  return calls;
}

bool is_known(std::string_view name) {
  return std::any_of(all_calls().begin(), all_calls().end(), [&](const Call* call) { return call->name == name; });
}

const Call& call_named(std::string_view name) {
  for (const auto& group :
       {open_calls(), data_calls(), name_calls(), attribute_calls(), xattr_calls(), lock_calls(), directory_calls()}) {
    for (const Call& call : group) {
      if (call.name == name) return call;
    }
  }
  std::fprintf(stderr, "no call '%s'\n", std::string(name).c_str());
  std::abort();
}

std::vector<Operation> invent_sequence(std::uint64_t seed, int length, int actors) {
  Random random(seed);
  std::vector<Operation> sequence;
  for (int i = 0; i < length; ++i) {
    Operation operation;
    operation.call = &pick_call(random);
    operation.actor = static_cast<int>(random.below(actors));
    operation.slot = static_cast<int>(random.below(kSlots));
    operation.other_slot = static_cast<int>(random.below(kSlots));
    operation.call->invent(random, operation);
    sequence.push_back(std::move(operation));
  }
  return sequence;
}

std::string invent_name(Random& random) { return random.of({"a", "b", "c", "d", "e"}); }

std::string invent_path(Random& random) {
  if (random.one_in(16)) return invent_corner(random);
  std::string path;
  if (random.one_in(8)) path = "@" + std::to_string(random.below(kSlots)) + "/";
  if (random.one_in(20)) path = "~";
  const long names = random.of({1L, 1L, 1L, 2L, 2L, 3L});
  for (long i = 0; i < names; ++i) path += (i == 0 ? "" : "/") + invent_name(random);
  return path;
}

long invent_mode(Random& random) {
  return random.of({0644L,  0600L,  0666L, 0755L, 0777L, 0700L,  0L,     01777L, 02755L, 02775L,
                    04755L, 06777L, 0111L, 0222L, 0444L, 02644L, 07777L, 0070L,  0007L,  0640L});
}

long invent_offset(Random& random) {
  if (random.one_in(40)) return random.of({-1L, 1L << 31, (1L << 32) + 7, 1L << 40, 0x7fffffffffffffffL});
  return random.of({0L, 0L, 1L, 100L, 4095L, 4096L, 4097L, 8192L, 10'000L, 65'536L, 70'001L, 131'072L});
}

long invent_length(Random& random) {
  return random.of({0L, 1L, 10L, 100L, 511L, 4096L, 4097L, 5000L, 8192L, 20'000L, 65'536L, 140'000L});
}

long invent_owner(Random& random) { return random.of({-1L, 0L, 1001L, 1002L, 2001L, 2002L, 4'000'000'000L}); }

const std::vector<Person>& persons() {
  constexpr std::uint64_t kSome = 1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_FOWNER;
  constexpr std::uint64_t kSetgid = 1U << CAP_SETGID;
  static const std::vector<Person> everybody{{0, 0, {}},
                                             {1001, 1001, {2001, 2002}},
                                             {1002, 1002, {2001}},
                                             {1001, 1001, {2001, 2002}},
                                             {1002, 1002, {2002}, kSome},
                                             {1003, 1003, {2002}, kSetgid}};
  return everybody;
}

Operation operation(std::string_view call, const Given& given, int actor) {
  return {&call_named(call), actor, given.path, given.other, given.slot, given.other_slot, given.n};
}

}  // namespace berth::test
