#include "src/doctor/doctor.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/doctor/examine.h"
#include "src/doctor/host.h"
#include "src/lib/formats/findings.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;

constexpr int kExitFailed = 1;
constexpr int kExitConfiguration = 78;  // EX_CONFIG, sysexits.h
constexpr int kExitNoPermission = 77;   // EX_NOPERM

/// Says what is wrong with a configuration that was refused.
int refuse(const Error& error) {
  const std::string text = error.story().empty() ? error.message() : std::string(error.story());
  const bool is_forbidden = error.code() == EACCES;
  std::fprintf(stderr, "%s%s\n", text.c_str(), is_forbidden ? "; try it as root (sudo)" : "");
  return is_forbidden ? kExitNoPermission : kExitConfiguration;
}

/// `exit_code`, once all that was printed is written; else says why it is not.
int flushed(int exit_code) {
  if (std::fflush(stdout) == 0 || errno == EPIPE) return exit_code;
  std::fprintf(stderr, "berth: standard output: %s\n", errno_text(errno).c_str());
  return exit_code == 0 ? kExitFailed : exit_code;
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

bool has_errors(const std::vector<FindingView>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const FindingView& finding) { return finding.severity == Severity::kError; });
}

}  // namespace

int check(const CheckOptions& options) {
  const Result<config::Configuration> configuration = config::load(options.file);
  if (!configuration) return refuse(configuration.error());
  std::vector<FindingView> findings;
  if (!options.offline) {
    findings = diagnose(real_host(), &*configuration).findings;
  } else {
    for (const std::string& warning : configuration->warnings) findings.push_back({.what = warning});
  }
  for (const FindingView& finding : findings) std::fprintf(stderr, "%s\n", formats::render_finding(finding).c_str());
  if (has_errors(findings) || (options.strict && !findings.empty())) return kExitConfiguration;
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
  const bool is_there = configuration || configuration.error().code() != ENOENT;
  if (is_there && !configuration) return refuse(configuration.error());
  const formats::DiagnosisView diagnosis = diagnose(real_host(), configuration ? &*configuration : nullptr);
  const std::string text =
      options.json ? formats::render_diagnosis_json(diagnosis) : formats::render_diagnosis(diagnosis);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return flushed(has_errors(diagnosis.findings) ? kExitFailed : 0);
}

}  // namespace berth::doctor
