#include "manager/model/share_kind.h"

namespace berth::manager {

ShareKind kind_of(std::string_view type) noexcept {
  if (type == "dir") return ShareKind::kDir;
  if (type == "bind") return ShareKind::kBind;
  if (type == "command") return ShareKind::kCommand;
  return ShareKind::kFilesystem;
}

}  // namespace berth::manager
