#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "src/lib/base/text.h"
#include "tests/parity/hand.h"

// Extended attributes, and the access lists that are among them.
namespace berth::test {
namespace {

/// Entries of an access list: tag, permissions, id (posix_acl_xattr(5) in words: linux/posix_acl_xattr.h).
struct AclEntry {
  std::uint16_t tag, permissions;
  std::uint32_t id;
};
constexpr std::uint32_t kNoId = 0xffffffff;

std::string acl_of(long variant) {
  const auto bits = static_cast<std::uint16_t>(variant % 8);
  std::vector<AclEntry> entries{{0x01, 7, kNoId}};
  if (variant >= 8) entries.push_back({0x02, bits, 1001});
  entries.push_back({0x04, static_cast<std::uint16_t>(variant % 5), kNoId});
  if (variant >= 16) entries.push_back({0x08, bits, 2001});
  if (variant >= 8) entries.push_back({0x10, static_cast<std::uint16_t>(variant / 2 % 8), kNoId});
  entries.push_back({0x20, static_cast<std::uint16_t>(variant % 3), kNoId});
  if (variant == 31) entries.erase(entries.begin());  // not valid without its owner
  const std::uint32_t version = 2;
  std::string bytes(sizeof version + entries.size() * sizeof(AclEntry), '\0');
  std::memcpy(bytes.data(), &version, sizeof version);
  std::memcpy(bytes.data() + sizeof version, entries.data(), entries.size() * sizeof(AclEntry));
  return bytes;
}

/// A capability that any file may have (linux/capability.h, revision 2).
std::string capability() {
  std::string bytes(20, '\0');
  bytes[3] = 2;
  bytes[5] = 4;  // CAP_NET_BIND_SERVICE
  return bytes;
}

std::string value_of(const Operation& op) {
  if (op.other.starts_with("system.posix_acl")) return acl_of(op.n[0] % 32);
  if (op.other == "security.capability") return capability();
  return pattern(op.n[1], op.n[2]);
}

std::string perform_set(Hand& hand, const Operation& op) {
  const std::string value = value_of(op);
  const auto flags = static_cast<int>(op.n[3] & 3);
  if (op.path.empty()) {
    return result(::fsetxattr(hand.fd(op.slot), op.other.c_str(), value.data(), value.size(), flags));
  }
  const Hand::At at = hand.at(op.path);
  const auto call = (op.n[3] & 4) != 0 ? &::lsetxattr : &::setxattr;
  return result(call(at.name(), op.other.c_str(), value.data(), value.size(), flags));
}

std::string perform_get(Hand& hand, const Operation& op) {
  std::string value(70'000, '\0');
  const auto room = op.n[1] == 10 ? 10UL : op.n[1] == 0 ? 0UL : value.size();
  ssize_t size = 0;
  if (op.path.empty()) {
    size = ::fgetxattr(hand.fd(op.slot), op.other.c_str(), value.data(), room);
  } else {
    const Hand::At at = hand.at(op.path);
    size = ((op.n[3] & 4) != 0 ? &::lgetxattr : &::getxattr)(at.name(), op.other.c_str(), value.data(), room);
  }
  if (size < 0) return result(size);
  return room == 0 ? result(size) : digest({value.data(), static_cast<std::size_t>(size)});
}

std::string perform_remove(Hand& hand, const Operation& op) {
  if (op.path.empty()) return result(::fremovexattr(hand.fd(op.slot), op.other.c_str()));
  const Hand::At at = hand.at(op.path);
  return result(((op.n[3] & 4) != 0 ? &::lremovexattr : &::removexattr)(at.name(), op.other.c_str()));
}

std::string perform_list(Hand& hand, const Operation& op) {
  std::string names(70'000, '\0');
  const auto room = op.n[1] == 10 ? 10UL : names.size();
  ssize_t size = 0;
  if (op.path.empty()) {
    size = ::flistxattr(hand.fd(op.slot), names.data(), room);
  } else {
    const Hand::At at = hand.at(op.path);
    size = ((op.n[3] & 4) != 0 ? &::llistxattr : &::listxattr)(at.name(), names.data(), room);
  }
  if (size < 0) return result(size);
  std::set<std::string_view> sorted;
  for (const std::string_view name : split({names.data(), static_cast<std::size_t>(size)}, '\0')) sorted.insert(name);
  std::string text;
  for (const std::string_view name : sorted) text += std::string(name) + " ";
  return text;
}

void invent_any(Random& random, Operation& op) {
  op.path = random.one_in(4) ? "" : invent_path(random);
  op.other = random.of({"user.a", "user.a", "user.b", "user.b", "trusted.a", "security.foo", "security.capability",
                        "system.posix_acl_access", "system.posix_acl_access", "system.posix_acl_access",
                        "system.posix_acl_default", "system.posix_acl_default", "user.", "nothing", "system.foo", ""});
  if (random.one_in(30)) op.other = "user." + std::string(static_cast<std::size_t>(random.of({250, 251})), 'n');
  op.n = {random.below(32), random.of({0L, 1L, 10L, 10L, 100L, 1000L, 3000L}), random.below(1000), 0};
  if (random.one_in(40)) op.n[1] = random.of({4097L, 65'536L, 65'537L});
  op.n[3] = random.of<int>({0, 0, 0, XATTR_CREATE, XATTR_REPLACE, 3}) | random.of({0, 4});
}

constexpr Call kCalls[] = {
    {"setxattr", 14, &perform_set, &invent_any},
    {"getxattr", 8, &perform_get, &invent_any},
    {"removexattr", 4, &perform_remove, &invent_any},
    {"listxattr", 4, &perform_list, &invent_any},
};

}  // namespace

std::span<const Call> xattr_calls() { return kCalls; }

}  // namespace berth::test
