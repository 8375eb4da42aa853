#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "manager/backends/look_up_program.h"
#include "manager/engine/manager.h"
#include "manager/model/share_spec.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// What came of a look-up by a program.
struct ProgramLookUp {
  /// At least one. Errors: ENOENT, there is none; EACCES, it is another user's, or the user can have none; those of the
  /// program.
  Result<std::vector<ShareSpec>> specs;
  bool has_failed = false;              ///< the program, for every user
  std::vector<std::string> notes = {};  ///< LookUpAnswer::notes
};

/// Asks the program of a template for the shares of `question.key`, for the user `user`. Blocks until it has answered,
/// or the deadline. `question.argv` and `question.fields` are filled in here.
ProgramLookUp look_up_by_program(const ManagerSetup& setup, LookUpQuestion question, uid_t user);

/// The keys of a template that can be listed. Errors: those of list_keys().
Result<std::vector<std::string>> list_by_source(const ManagerSetup& setup, LookUpQuestion question, uid_t user);

}  // namespace berth::manager
