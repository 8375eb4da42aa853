#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// What `berth doctor` and `berth check` say of a host.
namespace berth::formats {

/// How bad something is.
enum class Severity : std::uint8_t {
  kWarning,  ///< it works, but for what `cost` says
  kError,    ///< what it is about cannot work
};

/// Something that is not as it should be.
struct FindingView {
  Severity severity = Severity::kWarning;
  std::string id;       ///< names the kind, for programs: "missing-helper"
  std::string where;    ///< "/etc/berth/berth.toml:12"; empty: not in a file
  std::string subject;  ///< "[share.media]", "the kernel"
  std::string what;     ///< what was found
  std::string cost;     ///< what it costs
  std::string remedy;   ///< what to do

  friend bool operator==(const FindingView&, const FindingView&) = default;
};

/// What a version of Linux gives, and whether this one does.
struct FeatureView {
  std::string since;
  std::string gives;
  bool is_there = false;
};

struct DiagnosisView {
  std::string kernel;  ///< release
  std::vector<FeatureView> features;
  std::vector<FindingView> findings;
};

/// "error: FILE:LINE: SUBJECT: WHAT; COST; REMEDY", without a line break.
std::string render_finding(const FindingView& finding);
/// For people: the table of features, each finding in three lines, and a line that counts them.
std::string render_diagnosis(const DiagnosisView& diagnosis);
/// The same for programs: "kernel", "features", "findings".
std::string render_diagnosis_json(const DiagnosisView& diagnosis);

}  // namespace berth::formats
