#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "manager/model/share_status.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_function.h"

namespace berth::fuse {

/// The mkdir(2)s of attachments that are under way. If the caller leaves one (EINTR), it continues, and what it
/// attaches is given back. The exception: another caller asked for the same meanwhile and was answered that it has the
/// attachment.
///
/// Threading: any thread may call anything.
class AttachRequests {
 public:
  /// The name of the share: another one may take it meanwhile, with the attachments.
  using Key = std::pair<std::string, manager::Attachment>;

  /// Whether there is one, or what it attached is being given back.
  [[nodiscard]] bool contains(const Key& key) const;
  /// Begins one: `start` is called now, or when what another one attached has been given back.
  void begin(const Key& key, Task start);
  /// Ends a request. `is_attached`: it succeeded; `is_told`: its caller was answered so. True: no caller has what it
  /// attached, so it must be given back; give_back_done() reports when it has been.
  [[nodiscard]] bool end(const Key& key, bool is_attached, bool is_told);
  void give_back_done(const Key& key);

 private:
  struct State {
    unsigned under_way = 0;
    bool is_attached = false;  ///< one of them has attached
    bool is_told = false;
    bool is_given_back = false;  ///< is about to be
    std::vector<Task> later;
  };

  mutable Mutex mutex_;
  std::map<Key, State> states_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
