#pragma once

#include <sys/types.h>

#include <cstddef>

namespace berth::fuse {

/// Whether one more may wait where `all` wait, `of_user` of them for `user`. The superuser may also where others fill
/// the place.
constexpr bool has_room(uid_t user, std::size_t all, std::size_t of_user, std::size_t most,
                        std::size_t most_of_user) noexcept {
  return user == 0 ? all < most + most_of_user : all < most && of_user < most_of_user;
}

}  // namespace berth::fuse
