#pragma once

#include <cerrno>
#include <utility>

#include "fuse/kept/requests.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/file.h"

/// Changes that must not be made twice. The kernel may send a request twice, because the server died before it could
/// answer. Right before the change, the server notes what was there. When the request comes again, what is there now
/// shows whether the change was made. The server may die over the second attempt, too: the note of the first attempt
/// stays, and if the first attempt made none, the second one makes it.
///
/// A system call of the dead server may still be under way on a network file system: the successor sees the name that
/// the call removes, and the name is gone when the successor removes it. So the result of the successor's own attempt
/// counts, too.
///
/// If another process makes the same change to the same name in that moment, the two cannot be told apart.
namespace berth::fuse::once {

inline FileKey key_of(const struct statx& x) noexcept {
  return {.device = x.stx_dev_major << 20 | (x.stx_dev_minor & 0xfffff), .inode = x.stx_ino};
}

/// The file that has `name` in `directory`; no inode when the name is free, or the file cannot be read. `sync`: whether
/// a file server is asked (statx(2)).
inline FileKey key_at(int directory, const char* name, int sync = AT_STATX_DONT_SYNC) noexcept {
  const Result<struct statx> x = sys::stat_at(directory, name, STATX_INO, sync);
  return x ? key_of(*x) : FileKey{};
}

inline bool had_intent(IntentRecord::Kind intent) noexcept {
  const FirstAttempt* const first_attempt = CurrentRequest::first_attempt();
  return first_attempt != nullptr && first_attempt->intent == intent;
}

/// `do_make() -> int` is a system call that makes `name` or fails with EEXIST.
template <typename Make>
Result<> make(int directory, const char* name, Make do_make) {
  if (CurrentRequest::is_noted() && !had_intent(IntentRecord::kMake)) {
    if (key_at(directory, name).inode == 0) CurrentRequest::note_intent(IntentRecord::kMake);
    crash_point("make-noted");
  }
  const int made = do_make();
  const int code = errno;
  CurrentRequest::note_change_ended(made >= 0 ? 0 : code);
  crash_point("make-done");
  if (made >= 0 || (code == EEXIST && had_intent(IntentRecord::kMake))) return {};
  return fail(code);
}

/// `do_remove() -> int` is a system call that takes `name` away.
template <typename Remove>
Result<> remove(int directory, const char* name, Remove do_remove) {
  if (had_intent(IntentRecord::kRemove)) {
    // The name is gone, or another file has it by now.
    if (key_at(directory, name) != CurrentRequest::first_attempt()->file) return {};
  } else if (CurrentRequest::is_noted()) {
    const FileKey file = key_at(directory, name);
    if (file.inode != 0) CurrentRequest::note_intent(IntentRecord::kRemove, file);
    crash_point("remove-noted");
  }
  const int removed = do_remove();
  const int code = errno;
  CurrentRequest::note_change_ended(removed == 0 ? 0 : code);
  crash_point("remove-done");
  if (removed == 0 || (code == ENOENT && had_intent(IntentRecord::kRemove))) return {};
  return fail(code);
}

/// `do_move() -> int` is a system call that moves `name` in `directory` to `new_name` in `new_directory`.
template <typename Move>
Result<> move(int directory, const char* name, int new_directory, const char* new_name, Move do_move) {
  const bool again = had_intent(IntentRecord::kMove);
  // What the kernel remembers is from before: the call that it would have learnt it by was cut short (SMB).
  const auto has_arrived = [&] {
    return key_at(new_directory, new_name, AT_STATX_FORCE_SYNC) == CurrentRequest::first_attempt()->file;
  };
  if (again) {
    if (key_at(directory, name) != CurrentRequest::first_attempt()->file && has_arrived()) return {};
  } else if (CurrentRequest::is_noted()) {
    const FileKey file = key_at(directory, name);
    if (file.inode != 0) CurrentRequest::note_intent(IntentRecord::kMove, file);
    crash_point("move-noted");
  }
  const int moved = do_move();
  const int code = errno;
  CurrentRequest::note_change_ended(moved == 0 ? 0 : code);
  crash_point("move-done");
  if (moved == 0 || (code == ENOENT && again && has_arrived())) return {};
  return fail(code);
}

}  // namespace berth::fuse::once
