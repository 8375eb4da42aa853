#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <span>
#include <string>
#include <string_view>

namespace berth::log {

/// A field of a journal entry beside its text, to be searched for: `journalctl BERTH_SHARE=media`.
/// `name`: capital letters, digits and underscores (systemd.journal-fields(7)). `value`: any bytes.
struct Field {
  std::string_view name;
  std::string_view value;
};

/// Where the journal takes entries with fields.
inline constexpr const char* kJournalSocket = "/run/systemd/journal/socket";

/// Writes entries with fields to the journal, without waiting for it: one datagram each.
///
/// There is a socket for each entry, because servers and keeper share one table of descriptors, in which a descriptor
/// that is kept needs an owner.
///
/// Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
/// Threading: any thread may call anything.
class Journal {
 public:
  explicit Journal(std::string_view socket) noexcept;

  /// `priority`: that of syslog(3), 3 to 7. False when the journal did not take it: it is not there, does not read, or
  /// the entry is too large (some 200 KiB).
  [[nodiscard]] bool write(int priority, std::string_view message, std::span<const Field> fields) const;

 private:
  sockaddr_un address_{};
  socklen_t length_ = 0;  ///< 0: the path is too long
};

}  // namespace berth::log
