#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "manager/engine/mount_record.h"
#include "manager/model/share_spec.h"

namespace berth::manager {

/// One incarnation of a share, or a template, as the next manager finds it.
struct KeptShare {
  ShareSpec spec;
  std::optional<ShareSpec> pending = {};  ///< takes its place when it is not in use
  bool is_removed = false;
  bool is_second = false;                  ///< an older one of its name was there when it was made
  std::optional<std::uint32_t> user = {};  ///< of an instance of a template: that it was made for
};

/// What a manager has kept of its catalog.
struct KeptCatalog {
  std::map<std::uint64_t, KeptShare> shares;  ///< by their incarnations
  std::uint64_t last_incarnation = 0;         ///< that was ever given out
  std::uint64_t configuration = 0;  ///< ManagerSetup::configuration of the last change; 0: nothing was kept yet
  std::set<std::string> untold;     ///< names that changed, and the kernel may not have been told of
};

/// Writes a catalog to memory that outlives the manager. A change is made by one store, so that a crash at any
/// instruction leaves the old catalog or the new one.
///
/// Threading: one thread.
class CatalogLog {
 public:
  /// `area`: null: no manager succeeds this one.
  explicit CatalogLog(CatalogArea* area) noexcept : area_(area) {}

  /// What is there; what cannot be read is left out. Errors: none.
  [[nodiscard]] KeptCatalog read() const;

  /// Entries of one change, in order.
  class Change {
   public:
    /// Nothing of what came before counts but this.
    Change& begin(std::uint64_t last_incarnation, std::uint64_t configuration);
    Change& configuration(std::uint64_t number);
    /// Made, or with another policy.
    Change& put(std::uint64_t incarnation, const ShareSpec& spec, bool is_second);
    /// What was put last is an instance of a template, made for `user`.
    Change& instance(std::uint64_t incarnation, std::uint32_t user);
    Change& pend(std::uint64_t incarnation, const ShareSpec& spec);
    /// Nothing is pending any more.
    Change& settle(std::uint64_t incarnation);
    Change& remove(std::uint64_t incarnation);
    /// Nothing is left of it.
    Change& forget(std::uint64_t incarnation);
    /// The kernel has been told of everything before.
    Change& told();

   private:
    friend class CatalogLog;
    void add(std::uint8_t kind, std::uint64_t number, const ShareSpec* spec = nullptr);

    std::string bytes_;
    std::string common_;  ///< of the last share: most are like the one before
  };

  /// Makes the change. False: there is no room for it, and nothing has changed.
  bool commit(const Change& change);
  /// Whether so much of the log counts no more that rewrite() is worth its time.
  [[nodiscard]] bool is_worn() const noexcept;
  /// Replaces the log by `all`, which begins with Change::begin(). False as commit().
  bool rewrite(const Change& all);

 private:
  CatalogArea* const area_;
  std::uint64_t fresh_ = 0;  ///< bytes after the last rewrite
};

}  // namespace berth::manager
