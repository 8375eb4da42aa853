#include "fuse/control/attachment_directories.h"

#include <cerrno>
#include <utility>

namespace berth::fuse {

bool AttachmentDirectories::has_instance(const manager::Share& share, const std::string& instance) const {
  if (share.has_attachments_of(instance)) return true;
  MutexLock lock(mutex_);
  const auto made = made_.find(share.name());
  return made != made_.end() && made->second.contains(instance);
}

std::vector<std::string> AttachmentDirectories::instances(const manager::Share& share) const {
  std::set<std::string> all;
  for (manager::Attachment& attachment : share.status().attachments) all.insert(std::move(attachment.instance));
  MutexLock lock(mutex_);
  if (const auto made = made_.find(share.name()); made != made_.end()) {
    all.insert(made->second.begin(), made->second.end());
  }
  return {all.begin(), all.end()};
}

std::vector<std::string> AttachmentDirectories::volumes(const manager::Share& share, std::string_view instance) const {
  std::vector<std::string> list;
  for (manager::Attachment& attachment : share.status().attachments) {
    if (attachment.instance == instance) list.push_back(std::move(attachment.volume));
  }
  return list;
}

Result<> AttachmentDirectories::make_instance(const manager::Share& share, const std::string& instance) {
  if (share.has_attachments_of(instance)) return fail(EEXIST);
  MutexLock lock(mutex_);
  std::set<std::string>& made = made_[share.name()];
  if (made.contains(instance)) return fail(EEXIST);
  if (made.size() >= kMaxInstances) return fail(ENOSPC);
  made.insert(instance);
  return {};
}

Result<> AttachmentDirectories::remove_instance(const manager::Share& share, const std::string& instance) {
  if (share.has_attachments_of(instance)) return fail(ENOTEMPTY);
  MutexLock lock(mutex_);
  const auto made = made_.find(share.name());
  if (made == made_.end() || made->second.erase(instance) == 0) return fail(ENOENT);
  if (made->second.empty()) made_.erase(made);
  return {};
}

}  // namespace berth::fuse
