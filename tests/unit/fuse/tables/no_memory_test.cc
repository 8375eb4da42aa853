// Where there is no memory, nothing may be half done: what a table counts outlives the server.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "fuse/kept/kept_state.h"
#include "fuse/tables/handle_table.h"
#include "fuse/tables/known_shares.h"

namespace {

/// Allocations of this thread that succeed before one fails; negative: none fails.
thread_local int allocations_left = -1;

void* allocate(std::size_t size) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  void* const memory = std::malloc(size != 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

/// Does `work` again and again, with the first allocation failing, then the second, and so on, until it succeeds. True
/// when it failed at all. `check` looks at what each failure has left.
template <typename Work, typename Check>
bool fails_cleanly(const Work& work, const Check& check) {
  for (int succeed = 0;; ++succeed) {
    allocations_left = succeed;
    try {
      work();
      allocations_left = -1;
      return succeed > 0;
    } catch (const std::bad_alloc&) {
      allocations_left = -1;
      check();
    }
  }
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  try {
    return allocate(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
// Not inlined: g++ with ThreadSanitizer inlines free() alone beside a call of the operator new above and reports a
// mismatched pair.
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace berth::fuse {
namespace {

class NoListener : public manager::LeaveListener {
 public:
  void on_left(manager::Share&) noexcept override {}
};

TEST(NoMemory, ShareThatCannotBeAddedHasNoSlotForTheNextServer) {
  void* const memory =
      ::mmap(nullptr, sizeof(ShareSlots), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const slots = static_cast<ShareSlots*>(memory);
  KnownShares shares(slots);
  NoListener listener;
  for (int i = 0; i < 200; ++i) {
    manager::ShareFields fields{.name = "share" + std::to_string(i), .type = "bind", .sources = {"/srv"}};
    const auto share = std::make_shared<manager::Share>(*manager::ShareSpec::make(std::move(fields)), listener);
    const std::uint32_t before = slots->end;
    fails_cleanly([&] { ASSERT_TRUE(shares.add(share)); },
                  [&] {
                    EXPECT_EQ(slots->end, before);
                    EXPECT_EQ(shares.all().size(), before);
                    EXPECT_EQ(shares.find(*share), nullptr);
                  });
    EXPECT_EQ(slots->end, before + 1);
    EXPECT_EQ(shares.all().size(), before + 1);
  }
  ::munmap(memory, sizeof(ShareSlots));
}

TEST(NoMemory, HandleThatCannotBeAddedIsNotCountedForItsUser) {
  constexpr uid_t kUser = 1000;
  HandleTable handles(nullptr, {.per_user = 1});
  const auto open = [] {
    auto handle = std::make_shared<Handle>();
    // A number that the table has no place for yet.
    handle->file = std::make_shared<const UniqueFd>(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 500));
    handle->node = 5;
    handle->uid = kUser;
    return handle;
  };
  std::uint64_t number = 0;
  EXPECT_TRUE(fails_cleanly(
      [&] {
        if (!handles.open_files().admit(kUser)) return;
        const auto handle = open();
        handles.make_room(handle->fd());
        number = handles.add(handle);
      },
      [&] {
        EXPECT_EQ(handles.size(), 0U);
        EXPECT_TRUE(handles.open_files().admit(kUser)) << "nothing is open";
      }));
  EXPECT_FALSE(handles.open_files().admit(kUser));
  handles.remove(number, 5);
  EXPECT_TRUE(handles.open_files().admit(kUser));
  fails_cleanly([&] { handles.take_over(number, open()); },
                [&] { EXPECT_TRUE(handles.open_files().admit(kUser)) << "nothing is open"; });
  EXPECT_FALSE(handles.open_files().admit(kUser));
}

}  // namespace
}  // namespace berth::fuse
