#include "src/lib/formats/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include <nlohmann/json.hpp>

#include "src/lib/base/text.h"

namespace berth::formats {
namespace {

const char* to_string(Severity severity) { return severity == Severity::kError ? "error" : "warning"; }

std::string head_of(const FindingView& finding) {
  std::string text = fmt::format("{}: ", to_string(finding.severity));
  if (!finding.where.empty()) text.append(prose(finding.where)).append(": ");
  if (!finding.subject.empty()) text.append(prose(finding.subject)).append(": ");
  return text.append(prose(finding.what));
}

std::string counted(std::size_t count, std::string_view word) {
  return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s");
}

}  // namespace

std::string render_finding(const FindingView& finding) {
  std::string text = head_of(finding);
  for (const std::string& part : {finding.cost, finding.remedy}) {
    if (!part.empty()) text.append("; ").append(prose(part));
  }
  return text;
}

std::string render_diagnosis(const DiagnosisView& diagnosis) {
  std::string text = fmt::format("Linux {}\n", prose(diagnosis.kernel));
  for (const FeatureView& feature : diagnosis.features) {
    fmt::format_to(std::back_inserter(text), "  {:<4} since {:<5} {}\n", feature.is_there ? "yes" : "no", feature.since,
                   feature.gives);
  }
  text.push_back('\n');
  for (const FindingView& finding : diagnosis.findings) {
    text.append(head_of(finding)).push_back('\n');
    if (!finding.cost.empty()) text.append("  costs: ").append(prose(finding.cost)).push_back('\n');
    if (!finding.remedy.empty()) text.append("  to do: ").append(prose(finding.remedy)).push_back('\n');
  }
  const auto errors = static_cast<std::size_t>(
      std::count_if(diagnosis.findings.begin(), diagnosis.findings.end(),
                    [](const FindingView& finding) { return finding.severity == Severity::kError; }));
  if (diagnosis.findings.empty()) return text + "nothing is wrong\n";
  return text + counted(errors, "error") + ", " + counted(diagnosis.findings.size() - errors, "warning") + "\n";
}

std::string render_diagnosis_json(const DiagnosisView& diagnosis) {
  nlohmann::ordered_json json{{"kernel", diagnosis.kernel},
                              {"features", nlohmann::ordered_json::array()},
                              {"findings", nlohmann::ordered_json::array()}};
  for (const FeatureView& feature : diagnosis.features)
    json["features"].push_back({{"since", feature.since}, {"gives", feature.gives}, {"there", feature.is_there}});
  for (const FindingView& finding : diagnosis.findings) {
    json["findings"].push_back({{"severity", to_string(finding.severity)},
                                {"id", finding.id},
                                {"where", finding.where},
                                {"subject", finding.subject},
                                {"what", finding.what},
                                {"cost", finding.cost},
                                {"remedy", finding.remedy}});
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace berth::formats
