#include "src/doctor/doctor.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
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

/// Says what is wrong with a configuration that was refused.
int refuse(const Error& error) {
  const std::string text = error.story().empty() ? error.message() : std::string(error.story());
  std::fprintf(stderr, "%s\n", text.c_str());
  return kExitConfiguration;
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
  const std::size_t shares = configuration->catalog.shares().size();
  std::printf("%s: ok, %zu %s\n", options.file.c_str(), shares, shares == 1 ? "share" : "shares");
  return 0;
}

int doctor(const DoctorOptions& options) {
  const Result<config::Configuration> configuration = config::load(options.file);
  const bool is_there = configuration || configuration.error().code() != ENOENT;
  if (is_there && !configuration) return refuse(configuration.error());
  const formats::DiagnosisView diagnosis = diagnose(real_host(), configuration ? &*configuration : nullptr);
  const std::string text =
      options.json ? formats::render_diagnosis_json(diagnosis) : formats::render_diagnosis(diagnosis);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return has_errors(diagnosis.findings) ? kExitFailed : 0;
}

}  // namespace berth::doctor
