#include "src/doctor/doctor.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/doctor/examine.h"
#include "src/doctor/host.h"
#include "src/lib/base/told.h"
#include "src/lib/formats/findings.h"
#include "src/lib/sys/user_directories.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;

constexpr int kExitFailed = 1;
constexpr int kExitConfiguration = 78;  // EX_CONFIG, sysexits.h
constexpr int kExitNoPermission = 77;   // EX_NOPERM

/// Says what is wrong with a configuration that was refused.
int refuse(const Error& error) {
  const bool is_forbidden = error.code() == EACCES;
  std::fprintf(stderr, "%s%s\n", told(error).c_str(), is_forbidden ? "; try it as root (sudo)" : "");
  return is_forbidden ? kExitNoPermission : kExitConfiguration;
}

/// `exit_code`, once all that was printed is written; else says why it is not.
int flushed(int exit_code) {
  if (std::fflush(stdout) == 0 || errno == EPIPE) return exit_code;
  std::fprintf(stderr, "berth: standard output: %s\n", errno_text(errno).c_str());
  return exit_code == 0 ? kExitFailed : exit_code;
}

/// The host for a berth of this configuration. One that runs without root reads a file of its own user.
Host host_for(const std::string& file) {
  Host host = real_host();
  struct stat attributes {};
  const bool is_others = ::stat(file.c_str(), &attributes) == 0 && attributes.st_uid != host.user;
  host.without_root = host.without_root && !is_others;
  return host;
}

std::string count_of(std::size_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

/// What a configuration has that is right: "2 shares, 1 template".
std::string summary_of(const config::Configuration& configuration) {
  std::string text = count_of(configuration.catalog.shares().size(), "share");
  const std::size_t templates = configuration.catalog.templates().size();
  if (templates > 0) text += ", " + count_of(templates, "template");
  if (configuration.settings.namespace_directory.empty())
    text += "; [berth] has no \"namespace\", so `berth serve` needs --namespace DIR";
  return text;
}

std::size_t errors_in(const std::vector<FindingView>& findings) {
  return static_cast<std::size_t>(std::count_if(findings.begin(), findings.end(), [](const FindingView& finding) {
    return finding.severity == Severity::kError;
  }));
}

/// "1 error, 2 warnings".
std::string counts_of(const std::vector<FindingView>& findings) {
  const std::size_t errors = errors_in(findings);
  const std::size_t warnings = findings.size() - errors;
  std::string text = errors > 0 ? count_of(errors, "error") : "";
  if (warnings > 0) text += (text.empty() ? "" : ", ") + count_of(warnings, "warning");
  return text;
}

}  // namespace

int check(const CheckOptions& options) {
  const Result<config::Configuration> configuration = config::load(options.file);
  if (!configuration) return refuse(configuration.error());
  std::vector<FindingView> findings;
  if (!options.offline) {
    findings = diagnose(host_for(options.file), &*configuration).findings;
  } else {
    for (const std::string& warning : configuration->warnings) findings.push_back({.what = warning});
  }
  for (const FindingView& finding : findings) std::fprintf(stderr, "%s\n", formats::render_finding(finding).c_str());
  const bool has_errors = errors_in(findings) > 0;
  if (has_errors || (options.strict && !findings.empty())) {
    std::fprintf(stderr, "%s: refused%s: %s\n", options.file.c_str(), has_errors ? "" : " by --strict",
                 counts_of(findings).c_str());
    return kExitConfiguration;
  }
  std::printf("%s: ok, %s\n", options.file.c_str(), summary_of(*configuration).c_str());
  return flushed(0);
}

std::vector<std::string> warnings_of(const config::Configuration& shares) {
  if (shares.catalog.shares().empty() && shares.catalog.templates().empty()) return {};
  std::vector<std::string> lines;
  for (FindingView& finding : examine(real_host(), shares)) {
    finding.severity = Severity::kWarning;
    lines.push_back(formats::render_finding(finding));
  }
  return lines;
}

int doctor(const DoctorOptions& options) {
  const Result<config::Configuration> configuration = config::load(options.file);
  if (!configuration) {
    const bool may_lack = options.file == sys::default_configuration_file();
    if (configuration.error().code() != ENOENT || !may_lack) return refuse(configuration.error());
    std::fprintf(stderr, "no configuration %s: this is about the host alone\n", options.file.c_str());
  }
  const formats::DiagnosisView diagnosis = diagnose(host_for(options.file), configuration ? &*configuration : nullptr);
  const std::string text =
      options.json ? formats::render_diagnosis_json(diagnosis) : formats::render_diagnosis(diagnosis);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flushed(errors_in(diagnosis.findings) > 0 ? kExitFailed : 0);
}

}  // namespace berth::doctor
