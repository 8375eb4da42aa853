#include "manager/model/server_of.h"

namespace berth::manager {
namespace {

/// Without a user in front and a port behind.
std::string_view host_in(std::string_view authority) noexcept {
  if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) authority.remove_prefix(at + 1);
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    return end == std::string_view::npos ? std::string_view() : authority.substr(1, end - 1);
  }
  return authority.substr(0, authority.find(':'));
}

}  // namespace

std::string server_of(std::string_view source) {
  const std::size_t scheme = source.find("://");
  if (scheme != std::string_view::npos) source.remove_prefix(scheme + 1);
  if (source.starts_with("//")) {
    source.remove_prefix(2);
    return std::string(host_in(source.substr(0, source.find('/'))));
  }
  const std::size_t slash = source.find('/');
  const std::string_view before = source.substr(0, slash);
  if (before.find(':') == std::string_view::npos) return "";
  return std::string(host_in(before));
}

}  // namespace berth::manager
