#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "manager/model/share_spec.h"
#include "src/config/accounts.h"
#include "src/config/catalog_source.h"
#include "src/config/section.h"
#include "src/lib/base/result.h"

namespace berth::config {

/// Reads a [[catalog_source]] and adds it to `sources`, unless there is a mistake in it.
void read_catalog_source(Section& section, std::vector<CatalogSource>& sources);

/// The share that a line of a source puts; `fields` holds the origin and the default policy, and gets the rest.
/// Errors: EBADMSG for a line that puts no share; EINVAL for a value that is not what it should be, with a story.
Result<> read_put(std::string_view line, manager::ShareFields& fields, Accounts& accounts);
/// The name of that share. Errors: EBADMSG with a story.
Result<std::string> name_in_put(std::string_view line);

}  // namespace berth::config
