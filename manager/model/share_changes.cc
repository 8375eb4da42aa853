#include <string>
#include <vector>

#include "manager/model/share_spec.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

using Words = std::vector<std::string>;

/// A key of what a mount is made of, in words.
struct MountKey {
  const char* key;
  Words (*words)(const ShareSpec& spec);
};

Words word_of(const std::string& value) { return value.empty() ? Words() : Words{value}; }
Words word_of(bool value) { return {value ? "true" : "false"}; }

constexpr const char* kEnvironment = "environment";
constexpr MountKey kMountKeys[] = {
    {"type", [](const ShareSpec& spec) { return word_of(spec.type()); }},
    {"source", [](const ShareSpec& spec) { return spec.sources(); }},
    {"options", [](const ShareSpec& spec) { return word_of(spec.options()); }},
    {"mount", [](const ShareSpec& spec) { return spec.mount_command(); }},
    {"unmount", [](const ShareSpec& spec) { return spec.unmount_command(); }},
    {kEnvironment, [](const ShareSpec& spec) { return spec.environment(); }},
    {"environment_file", [](const ShareSpec& spec) { return word_of(spec.environment_file()); }},
    {"read_only", [](const ShareSpec& spec) { return word_of(spec.policy().read_only); }},
    {"allow_suid", [](const ShareSpec& spec) { return word_of(spec.policy().allow_suid); }},
    {"allow_devices", [](const ShareSpec& spec) { return word_of(spec.policy().allow_devices); }},
};

}  // namespace

bool mounts_alike(const ShareSpec& a, const ShareSpec& b) {
  const SharePolicy& x = a.policy();
  const SharePolicy& y = b.policy();
  return a.type() == b.type() && a.sources() == b.sources() && a.options() == b.options() &&
         a.mount_command() == b.mount_command() && a.unmount_command() == b.unmount_command() &&
         a.environment() == b.environment() && a.environment_file() == b.environment_file() &&
         x.read_only == y.read_only && x.allow_suid == y.allow_suid && x.allow_devices == y.allow_devices;
}

std::vector<std::string> mount_changes(const ShareSpec& before, const ShareSpec& after) {
  const Secrets old_secrets = before.secrets();
  const Secrets new_secrets = after.secrets();
  std::vector<std::string> changes;
  for (const MountKey& key : kMountKeys) {
    const Words from = key.words(before);
    const Words to = key.words(after);
    if (from == to) continue;
    // Masked word by word: a secret in quotes does not look as it does without.
    const auto told = [&](Words words) -> std::string {
      if (words.empty()) return "none";
      for (std::string& word : words) {
        // Any value of a variable may be a secret.
        if (key.key == kEnvironment) word = word.substr(0, word.find('=') + 1).append(kMasked);
      }
      return quote_command(new_secrets.mask(old_secrets.mask(words)));
    };
    changes.push_back(std::string(key.key) + ": " + told(from) + " -> " + told(to));
  }
  return changes;
}

}  // namespace berth::manager
