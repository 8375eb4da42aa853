#pragma once

#include <string>
#include <string_view>

#include "manager/model/look_up_answer.h"
#include "manager/model/share_spec.h"
#include "manager/model/share_template.h"
#include "src/lib/base/result.h"

namespace berth::config {

/// Reads what a look-up program has printed for `key`: keys of a share and their values as TOML, or an entry of an
/// autofs map. The first line that is neither empty nor a comment tells which. For a template of the type kHostsType it
/// is the exports of a host.
/// `fields`: of the template; what is printed goes before them. `find_caller`: an entry that has $UID and the like is
/// for that user alone; empty: they have no value.
/// Errors: EINVAL with a story, one line a mistake.
Result<manager::LookUpAnswer> read_answer(std::string_view text, const std::string& key, manager::ShareFields fields,
                                          const manager::FindCaller& find_caller = {});

}  // namespace berth::config
