#include "manager/model/share_spec.h"

#include <algorithm>
#include <cerrno>

#include "manager/model/of_this_host.h"
#include "manager/model/share_kind.h"
#include "manager/model/shown.h"

namespace berth::manager {
namespace {

void add_variables(Secrets& secrets, const std::vector<std::string>& environment) {
  for (const std::string_view variable : environment) {
    const std::size_t equals = variable.find('=');
    if (equals != std::string_view::npos) secrets.add_variable(variable.substr(0, equals), variable.substr(equals + 1));
  }
}

}  // namespace

std::vector<const char*> keys_with_secrets(const ShareFields& fields) {
  std::vector<const char*> keys;
  const auto look = [&keys](const char* key, auto fill) {
    Secrets secrets;
    fill(secrets);
    if (!secrets.empty()) keys.push_back(key);
  };
  look("source", [&](Secrets& secrets) {
    for (const std::string& source : fields.sources) secrets.add_source(source);
  });
  look("options", [&](Secrets& secrets) { secrets.add_options(fields.options); });
  look("mount", [&](Secrets& secrets) { secrets.add_command(fields.mount_command); });
  look("unmount", [&](Secrets& secrets) { secrets.add_command(fields.unmount_command); });
  look("program", [&](Secrets& secrets) { secrets.add_command(fields.program); });
  return keys;
}

Secrets ShareSpec::secrets() const {
  Secrets secrets;
  for (const std::string& source : sources()) secrets.add_source(source);
  secrets.add_options(options());
  secrets.add_command(mount_command());
  secrets.add_command(unmount_command());
  secrets.add_command(program());
  add_variables(secrets, environment());
  return secrets;
}

const char* to_string(Access access) noexcept {
  switch (access) {
    case Access::kAuto:
      return "auto";
    case Access::kProxy:
      return "proxy";
    case Access::kNative:
      return "native";
  }
  return "unknown";
}

std::string_view ShareSpec::why_with_berth() const {
  return berth::manager::why_with_berth(kind(), type(), mount_options(), policy());
}

Result<ShareSpec> ShareSpec::make(ShareFields fields, const ShareSpec* like) {
  const std::vector<FieldFault> faults = faults_in(fields);
  if (faults.empty()) return make_unchecked(std::move(fields), like);
  std::string story = "share " + shown(fields.name) + ": ";
  for (const FieldFault& fault : faults) {
    if (&fault != &faults.front()) story += "; ";
    story += std::string(fault.key) + ": " + fault.reason;
  }
  return fail(EINVAL, std::move(story));
}

ShareSpec ShareSpec::make_unchecked(ShareFields fields, const ShareSpec* like) {
  MountOptions mount_options = parse_mount_options(fields.options).value_or(MountOptions());
  Common common{
      .type = std::move(fields.type),
      .options = std::move(fields.options),
      .mount_options = std::move(mount_options),
      .mount_command = std::move(fields.mount_command),
      .unmount_command = std::move(fields.unmount_command),
      .environment = std::move(fields.environment),
      .environment_file = std::move(fields.environment_file),
      .program = std::move(fields.program),
      .policy = std::move(fields.policy),
      .origin_file = std::move(fields.origin_file),
      .origin_through = std::move(fields.origin_through),
      .kind = ShareKind::kDir,
  };
  common.kind = kind_of(common.type);
  // For as long as there are shares: without slack.
  fields.name.shrink_to_fit();
  fields.sources.shrink_to_fit();
  Own own{
      .name = std::move(fields.name),
      .sources = std::move(fields.sources),
      .common = nullptr,
      .origin_line = fields.origin_line,
  };
  if (like != nullptr && *like->own_->common == common) {
    own.common = like->own_->common;
  } else {
    own.common = std::make_shared<const Common>(std::move(common));
  }
  return ShareSpec(std::make_shared<const Own>(std::move(own)));
}

std::string ShareSpec::origin() const {
  const std::string& file = own_->common->origin_file;
  return own_->origin_line == 0 ? file : file + ":" + std::to_string(own_->origin_line);
}

bool ShareSpec::comes_from(const std::set<std::string>& files) const {
  const std::vector<std::string>& through = own_->common->origin_through;
  const auto is_one = [&files](const std::string& file) { return files.contains(file); };
  return is_one(own_->common->origin_file) || std::any_of(through.begin(), through.end(), is_one);
}

bool operator==(const ShareSpec& a, const ShareSpec& b) {
  if (a.own_ == b.own_) return true;
  const ShareSpec::Common& x = *a.own_->common;
  const ShareSpec::Common& y = *b.own_->common;
  return a.name() == b.name() && a.sources() == b.sources() &&
         (&x == &y || (x.type == y.type && x.options == y.options && x.mount_command == y.mount_command &&
                       x.unmount_command == y.unmount_command && x.environment == y.environment &&
                       x.environment_file == y.environment_file && x.program == y.program && x.policy == y.policy));
}

ShareFields ShareSpec::fields() const {
  const Common& common = *own_->common;
  return {.name = own_->name,
          .type = common.type,
          .sources = own_->sources,
          .options = common.options,
          .mount_command = common.mount_command,
          .unmount_command = common.unmount_command,
          .environment = common.environment,
          .environment_file = common.environment_file,
          .program = common.program,
          .policy = common.policy,
          .origin_file = common.origin_file,
          .origin_line = own_->origin_line,
          .origin_through = common.origin_through};
}

}  // namespace berth::manager
