#pragma once

#include <map>
#include <utility>
#include <vector>

#include "manager/model/share.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/unique_function.h"

namespace berth::fuse {

/// The mkdir(2) of attachments that are under way. One that its caller has left (EINTR) goes on all the same, and what it attaches
/// is given back, unless somebody who asked for the same meanwhile has been told that it is his.
///
/// Threading: any thread may call anything.
class AttachRequests {
 public:
  using Key = std::pair<const manager::Share*, manager::Attachment>;

  /// Whether there is one, or what it attached is being given back.
  [[nodiscard]] bool contains(const Key& key) const;
  /// Begins one: `start` is called now, or when what another one attached has been given back.
  void begin(const Key& key, Task start);
  /// It is done. `is_attached`: it succeeded; `is_told`: and its caller knows. True: nobody has what it attached, so that it is to be
  /// given back; give_back_done() says when it has been.
  [[nodiscard]] bool end(const Key& key, bool is_attached, bool is_told);
  void give_back_done(const Key& key);

 private:
  struct State {
    unsigned under_way = 0;
    bool is_somebodys = false;
    bool is_given_back = false;  ///< is about to be
    std::vector<Task> later;
  };

  mutable Mutex mutex_;
  std::map<Key, State> states_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
