#include <charconv>
#include <string>
#include <string_view>

#include "src/doctor/examine.h"
#include "src/doctor/kernel.h"
#include "src/lib/base/text.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;

/// The number that a file holds; `otherwise` where it holds none.
std::uint64_t number_in(const Host& host, const std::string& path, std::uint64_t otherwise) {
  const std::string text = host.read(path).value_or("");
  std::from_chars(text.data(), text.data() + text.size(), otherwise);
  return otherwise;
}

std::string version_text(KernelVersion version) {
  return std::to_string(version.major) + "." + std::to_string(version.minor);
}

void examine_kernel(const Host& host, std::vector<FindingView>& to) {
  const KernelVersion least = kernel_features().front().since;
  if (parse_kernel_release(host.kernel) >= least) return;
  to.push_back({.severity = Severity::kError,
                .id = "old-kernel",
                .subject = "the kernel",
                .what = "it is Linux " + host.kernel,
                .cost = "berth does not run on it",
                .remedy = "use Linux " + version_text(least) + " or later"});
}

void examine_fuse(const Host& host, std::vector<FindingView>& to) {
  if (!host.find("/dev/fuse")) {
    to.push_back({.severity = Severity::kError,
                  .id = "no-fuse",
                  .subject = "FUSE",
                  .what = "there is no /dev/fuse",
                  .cost = "no namespace can be mounted",
                  .remedy = "load the module (modprobe fuse); give a container the device"});
  } else if (const Result<> opens = host.may_open("/dev/fuse"); !opens) {
    to.push_back({.severity = Severity::kWarning,
                  .id = "closed-fuse",
                  .subject = "FUSE",
                  .what = "this user may not open /dev/fuse: " + opens.error().message(),
                  .cost = "`berth serve` of this user fails",
                  .remedy = "`chmod 666 /dev/fuse` lets every user open it, as on most systems"});
  }
  // Linux 6.16, Documentation/admin-guide/sysctl/fs.rst.
  for (const char* const name : {"default_request_timeout", "max_request_timeout"}) {
    const std::uint64_t seconds = number_in(host, std::string("/proc/sys/fs/fuse/") + name, 0);
    if (seconds == 0) continue;
    to.push_back(
        {.id = "fuse-request-timeout",
         .subject = "FUSE",
         .what = "fs.fuse." + std::string(name) + " is " + std::to_string(seconds),
         .cost = "the kernel takes the whole namespace away when one request waits longer, as for a slow mount",
         .remedy = "sysctl fs.fuse." + std::string(name) + "=0"});
  }
  constexpr std::uint64_t kUsualPages = 256;
  const std::uint64_t pages = number_in(host, "/proc/sys/fs/fuse/max_pages_limit", kUsualPages);
  if (pages < kUsualPages) {
    to.push_back({.id = "fuse-pages",
                  .subject = "FUSE",
                  .what = "fs.fuse.max_pages_limit is " + std::to_string(pages),
                  .cost = "large reads and writes through berth take more requests",
                  .remedy = "sysctl fs.fuse.max_pages_limit=" + std::to_string(kUsualPages)});
  }
}

void examine_limits(const Host& host, std::size_t shares, std::vector<FindingView>& to) {
  constexpr std::uint64_t kBesideShares = 4096;  // open files, and what berth needs itself
  if (host.max_files < shares + kBesideShares) {
    to.push_back(
        {.id = "few-descriptors",
         .subject = "limits",
         .what = "berth may have " + std::to_string(host.max_files) + " descriptors open",
         .cost =
             "a mounted share and an open file take one each; programs get ENFILE, and idle shares are unmounted early",
         .remedy = "sysctl fs.nr_open=1048576, and no lower limit (ulimit -Hn, LimitNOFILE)"});
  }
  constexpr std::uint64_t kUsualMounts = 100'000;
  constexpr std::uint64_t kOtherMounts = 1000;
  const std::uint64_t mounts = number_in(host, "/proc/sys/fs/mount-max", kUsualMounts);
  if (mounts < shares + kOtherMounts) {
    to.push_back({.id = "few-mounts",
                  .subject = "limits",
                  .what = "fs.mount-max is " + std::to_string(mounts),
                  .cost = "not all shares can be mounted at once",
                  .remedy = "sysctl fs.mount-max=" + std::to_string(kUsualMounts)});
  }
}

/// The value of NAME="VALUE" or NAME=VALUE in a file of shell variables; empty when there is none.
std::string_view variable_in(std::string_view text, std::string_view name) {
  for (std::string_view line : split(text, '\n')) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (!line.starts_with(name)) continue;
    line.remove_prefix(name.size());
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.starts_with('=')) return line.substr(1);
  }
  return {};
}

void examine_updatedb(const Host& host, std::vector<FindingView>& to) {
  const Result<std::string> configuration = host.read("/etc/updatedb.conf");
  if (!configuration || variable_in(*configuration, "PRUNEFS").find("fuse.berth") != std::string_view::npos) return;
  for (const char* const directory : {"/etc", "/usr/lib", "/lib"}) {
    const auto drop_in = host.read(std::string(directory) + "/systemd/system/plocate-updatedb.service.d/berth.conf");
    // One of /etc takes the place of the others, be it empty.
    if (!drop_in) continue;
    if (drop_in->find("fuse.berth") != std::string::npos) return;
    break;
  }
  to.push_back({.id = "updatedb",
                .subject = "updatedb",
                .what = "PRUNEFS in /etc/updatedb.conf does not name fuse.berth",
                .cost = "each night it mounts all shares, and reads all that is in them",
                .remedy = "add fuse.berth to PRUNEFS there"});
}

}  // namespace

std::vector<FindingView> examine_host(const Host& host, std::size_t shares) {
  std::vector<FindingView> findings;
  examine_kernel(host, findings);
  examine_fuse(host, findings);
  examine_limits(host, shares, findings);
  examine_updatedb(host, findings);
  return findings;
}

std::vector<FindingView> examine(const Host& host, const config::Configuration& configuration) {
  std::vector<FindingView> all;
  all.reserve(configuration.warnings.size());
  for (const std::string& warning : configuration.warnings) all.push_back({.id = "configuration", .what = warning});
  for (auto&& findings : {examine_configuration(host, configuration), examine_sources(host, configuration.catalog),
                          examine_catalog_sources(host, configuration), examine_running(host, configuration)}) {
    all.insert(all.end(), findings.begin(), findings.end());
  }
  return all;
}

formats::DiagnosisView diagnose(const Host& host, const config::Configuration* configuration) {
  formats::DiagnosisView diagnosis{.kernel = host.kernel};
  for (const KernelFeature& feature : kernel_features()) {
    diagnosis.features.push_back({.since = version_text(feature.since),
                                  .gives = std::string(feature.gives),
                                  .is_there = parse_kernel_release(host.kernel) >= feature.since});
  }
  diagnosis.findings = examine_host(host, configuration == nullptr ? 0 : configuration->catalog.shares().size());
  const auto add = [&diagnosis](const std::vector<FindingView>& findings) {
    diagnosis.findings.insert(diagnosis.findings.end(), findings.begin(), findings.end());
  };
  add(examine_mounted(host, configuration == nullptr ? "" : configuration->settings.namespace_directory));
  if (configuration != nullptr) add(examine(host, *configuration));
  return diagnosis;
}

}  // namespace berth::doctor
