#include "src/sources/ldap/directory.h"

#include <sys/time.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "src/lib/base/ascii.h"

namespace berth::sources {
namespace {

constexpr int kConnectSeconds = 5;
constexpr int kAnswerSeconds = 30;
/// Directories bound how much they give at once: most of them at 500 or 1000, some at less.
constexpr ber_int_t kPage = 100;

struct FreeMessage {
  void operator()(LDAPMessage* message) const noexcept { ::ldap_msgfree(message); }
};
using Message = std::unique_ptr<LDAPMessage, FreeMessage>;

struct FreeText {
  void operator()(char* text) const noexcept { ::ldap_memfree(text); }
};
using Text = std::unique_ptr<char, FreeText>;

/// Without its first part.
std::string parent_of(const std::string& dn) {
  for (std::size_t i = 0; i < dn.size(); ++i) {
    if (dn[i] == '\\') {
      ++i;
    } else if (dn[i] == ',') {
      return dn.substr(i + 1);
    }
  }
  return "";
}

std::vector<std::string> values_of(LDAP* connection, LDAPMessage* entry, const std::string& attribute) {
  std::vector<std::string> texts;
  berval** const values = ::ldap_get_values_len(connection, entry, attribute.c_str());
  for (berval** value = values; value != nullptr && *value != nullptr; ++value)
    texts.emplace_back((*value)->bv_val, (*value)->bv_len);
  ::ldap_value_free_len(values);
  return texts;
}

/// The control that asks for one page, and the place of the next.
class Pages {
 public:
  ~Pages() {
    drop();
    ::ber_memfree(cookie_.bv_val);
  }
  Pages() = default;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  /// Null: there is no memory.
  LDAPControl* next(LDAP* connection) {
    drop();
    if (::ldap_create_page_control(connection, kPage, cookie_.bv_val == nullptr ? nullptr : &cookie_, 0, &control_) !=
        LDAP_SUCCESS)
      return nullptr;
    return control_;
  }
  /// Whether there is another page.
  bool take(LDAP* connection, LDAPControl** answer) {
    LDAPControl* const found =
        answer == nullptr ? nullptr : ::ldap_control_find(LDAP_CONTROL_PAGEDRESULTS, answer, nullptr);
    ::ber_memfree(std::exchange(cookie_.bv_val, nullptr));
    cookie_ = {};
    ber_int_t count = 0;
    // A server without pages has given all.
    return found != nullptr && ::ldap_parse_pageresponse_control(connection, found, &count, &cookie_) == LDAP_SUCCESS &&
           cookie_.bv_len > 0;
  }

 private:
  void drop() noexcept {
    if (control_ != nullptr) ::ldap_control_free(std::exchange(control_, nullptr));
  }
  LDAPControl* control_ = nullptr;
  berval cookie_{};
};

}  // namespace

std::string normal_name(const std::string& dn) {
  LDAPDN parsed = nullptr;
  if (::ldap_str2dn(dn.c_str(), &parsed, LDAP_DN_FORMAT_LDAPV3) != LDAP_SUCCESS) return to_lower(dn);
  char* written = nullptr;
  const int code = ::ldap_dn2str(parsed, &written, LDAP_DN_FORMAT_LDAPV3);
  ::ldap_dnfree(parsed);
  const Text text(written);
  return to_lower(code == LDAP_SUCCESS ? text.get() : dn);
}

Directory::Directory(DirectorySettings settings) : settings_(std::move(settings)) {
  const auto set = [](int option, const std::string& file) {
    if (!file.empty()) ::ldap_set_option(nullptr, option, file.c_str());
  };
  set(LDAP_OPT_X_TLS_CACERTFILE, settings_.ca_file);
  set(LDAP_OPT_X_TLS_CERTFILE, settings_.cert_file);
  set(LDAP_OPT_X_TLS_KEYFILE, settings_.key_file);
  const int demand = LDAP_OPT_X_TLS_DEMAND;
  ::ldap_set_option(nullptr, LDAP_OPT_X_TLS_REQUIRE_CERT, &demand);
}

tl::unexpected<Error> Directory::failure(int code) const {
  std::string why = ::ldap_err2string(code);
  char* said = nullptr;
  if (connection_ != nullptr) ::ldap_get_option(connection_, LDAP_OPT_DIAGNOSTIC_MESSAGE, &said);
  const Text text(said);
  if (said != nullptr && *said != '\0') why.append(": ").append(said);
  return fail(EHOSTUNREACH, settings_.uris[current_] + ": " + why);
}

Result<> Directory::connect() {
  if (const int code = ::ldap_initialize(&connection_, settings_.uris[current_].c_str()); code != LDAP_SUCCESS)
    return failure(code);
  const int version = LDAP_VERSION3;
  const timeval connect{.tv_sec = kConnectSeconds, .tv_usec = 0};
  const timeval answer{.tv_sec = kAnswerSeconds, .tv_usec = 0};
  ::ldap_set_option(connection_, LDAP_OPT_PROTOCOL_VERSION, &version);
  ::ldap_set_option(connection_, LDAP_OPT_NETWORK_TIMEOUT, &connect);
  ::ldap_set_option(connection_, LDAP_OPT_TIMEOUT, &answer);
  ::ldap_set_option(connection_, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
  if (settings_.starts_tls) {
    if (const int code = ::ldap_start_tls_s(connection_, nullptr, nullptr); code != LDAP_SUCCESS) return failure(code);
  }
  return bind();
}

Result<> Directory::bind() {
  std::string secret = settings_.password;
  berval password{.bv_len = secret.size(), .bv_val = secret.data()};
  const bool is_external = settings_.binds_external;
  if (!is_external && settings_.bind_dn.empty()) return {};
  // Credentials that are not there would have the server ask for them (RFC 4422, section 3.3).
  berval none{.bv_len = 0, .bv_val = secret.data()};
  const int code = is_external ? ::ldap_sasl_bind_s(connection_, "", "EXTERNAL", &none, nullptr, nullptr, nullptr)
                               : ::ldap_sasl_bind_s(connection_, settings_.bind_dn.c_str(), nullptr, &password, nullptr,
                                                    nullptr, nullptr);
  if (code != LDAP_SUCCESS) return failure(code);
  return {};
}

void Directory::disconnect() noexcept {
  if (connection_ != nullptr) ::ldap_unbind_ext_s(std::exchange(connection_, nullptr), nullptr, nullptr);
}

void Directory::use_next() noexcept {
  disconnect();
  current_ = (current_ + 1) % settings_.uris.size();
}

Result<> Directory::search(const std::string& filter, const std::vector<std::string>& attributes,
                           const std::function<void(const DirectoryEntry&)>& take) {
  if (connection_ == nullptr) TRY_VOID(connect());
  std::vector<std::string> names = attributes;
  std::vector<char*> asked;
  asked.reserve(names.size() + 1);
  for (std::string& name : names) asked.push_back(name.data());
  asked.push_back(nullptr);
  timeval patience{.tv_sec = kAnswerSeconds, .tv_usec = 0};
  Pages pages;
  for (bool has_more = true; has_more;) {
    std::array<LDAPControl*, 2> controls{pages.next(connection_), nullptr};
    LDAPMessage* answer = nullptr;
    const int asked_code =
        ::ldap_search_ext_s(connection_, settings_.base.c_str(), LDAP_SCOPE_SUBTREE, filter.c_str(), asked.data(), 0,
                            controls.data(), nullptr, &patience, LDAP_NO_LIMIT, &answer);
    const Message message(answer);
    // A part is no list: what is not in it would be taken for gone.
    if (asked_code != LDAP_SUCCESS) return failure(asked_code);
    for (LDAPMessage* at = ::ldap_first_entry(connection_, answer); at != nullptr;
         at = ::ldap_next_entry(connection_, at)) {
      const Text dn(::ldap_get_dn(connection_, at));
      DirectoryEntry entry{.dn = normal_name(dn ? dn.get() : ""), .parent = "", .values = {}};
      entry.parent = parent_of(entry.dn);
      for (const std::string& name : attributes) entry.values.push_back(values_of(connection_, at, name));
      take(entry);
    }
    int code = LDAP_SUCCESS;
    LDAPControl** given = nullptr;
    if (const int parsed = ::ldap_parse_result(connection_, answer, &code, nullptr, nullptr, nullptr, &given, 0);
        parsed != LDAP_SUCCESS || code != LDAP_SUCCESS) {
      ::ldap_controls_free(given);
      return failure(parsed != LDAP_SUCCESS ? parsed : code);
    }
    has_more = pages.take(connection_, given);
    ::ldap_controls_free(given);
  }
  return {};
}

}  // namespace berth::sources
