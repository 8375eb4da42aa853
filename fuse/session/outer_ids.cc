#include "fuse/session/outer_ids.h"

#include <atomic>
#include <cstdint>
#include <cstring>

namespace berth::fuse {
namespace {

std::atomic<bool> is_set{false};
std::atomic<std::uint32_t> user_there{0}, group_there{0};

std::uint32_t inner(std::uint32_t id, const std::atomic<std::uint32_t>& there) noexcept {
  if (!is_set.load(std::memory_order_relaxed)) return id;
  return id == there.load(std::memory_order_relaxed) ? 0 : kNoId;
}

std::uint32_t outer(std::uint32_t id, const std::atomic<std::uint32_t>& there) noexcept {
  return id == 0 && is_set.load(std::memory_order_relaxed) ? there.load(std::memory_order_relaxed) : id;
}

}  // namespace

void set_outer_ids(uid_t user, gid_t group) noexcept {
  user_there = user;
  group_there = group;
  is_set = true;
}

void make_inner(std::span<char> message) noexcept {
  fuse_in_header header{};
  if (!is_set.load(std::memory_order_relaxed) || message.size() < sizeof header) return;
  std::memcpy(&header, message.data(), sizeof header);
  header.uid = inner_user(header.uid);
  header.gid = inner_group(header.gid);
  std::memcpy(message.data(), &header, sizeof header);
}

uid_t inner_user(uid_t user) noexcept { return inner(user, user_there); }
gid_t inner_group(gid_t group) noexcept { return inner(group, group_there); }
uid_t outer_user(uid_t user) noexcept { return outer(user, user_there); }
gid_t outer_group(gid_t group) noexcept { return outer(group, group_there); }

}  // namespace berth::fuse
