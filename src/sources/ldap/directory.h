#pragma once

#include <ldap.h>

#include <functional>
#include <string>
#include <vector>

#include "src/lib/base/result.h"

namespace berth::sources {

/// Where a directory is, and how it is spoken to.
struct DirectorySettings {
  std::vector<std::string> uris;  ///< "ldap://ldap1", "ldaps://...", "ldapi://..."
  std::string base;
  bool starts_tls = false;
  bool binds_external = false;    ///< SASL EXTERNAL: the user of an ldapi socket, or the certificate
  std::string bind_dn, password;  ///< "": anonymous
  std::string ca_file, cert_file, key_file;
};

/// An entry of a directory.
struct DirectoryEntry {
  std::string dn;                                ///< in one form, so that equal names are equal texts
  std::string parent;                            ///< likewise
  std::vector<std::vector<std::string>> values;  ///< of each attribute that was asked for
};

/// A connection to an LDAP directory; made with the first search, and again after a failure, with the next URI.
///
/// Threading: one thread at a time.
class Directory {
 public:
  /// TLS is set for the whole process.
  explicit Directory(DirectorySettings settings);
  ~Directory() { disconnect(); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  /// Calls `take` with each entry of the subtree that `filter` finds. Errors: EHOSTUNREACH with a story; some entries
  /// may have been taken then. A search that is not complete has failed.
  Result<> search(const std::string& filter, const std::vector<std::string>& attributes,
                  const std::function<void(const DirectoryEntry&)>& take);

  void disconnect() noexcept;
  /// From here on the next URI is asked, if there is one.
  void use_next() noexcept;

 private:
  Result<> connect();
  Result<> bind();
  [[nodiscard]] tl::unexpected<Error> failure(int code) const;

  const DirectorySettings settings_;
  std::size_t current_ = 0;
  LDAP* connection_ = nullptr;
};

/// A name in one form: attribute types in lower case, no blanks around. As it is, in lower case, where it is no name.
std::string normal_name(const std::string& dn);

}  // namespace berth::sources
