#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fuse/session/dirent_buffer.h"
#include "manager/engine/manager.h"

namespace berth::fuse {

/// The names in one directory of the namespace at one moment. A large namespace keeps one of these, so a name is a
/// number.
class Listing {
 public:
  using Shares = manager::Manager::Directory;
  using Templates = manager::Catalog::Map;
  /// Keys that a template's program lists.
  using Keys = std::vector<std::string>;

  struct Name {
    std::string text;
    const std::shared_ptr<manager::Share>* share;  ///< null: not (yet) a share
    bool is_key = false;                           ///< no share yet: a look-up of it makes one
  };

  /// `prefix`: of the directory, "" or "home/". `keys`: null where none are listed.
  Listing(std::shared_ptr<const Shares> shares, std::shared_ptr<const Templates> templates,
          std::shared_ptr<const Keys> keys, std::string prefix);

  /// Whether a new listing of these would surely be the same: not where it hides shares.
  [[nodiscard]] bool is_made_of(const std::shared_ptr<const Shares>& shares,
                                const std::shared_ptr<const Templates>& templates,
                                const std::shared_ptr<const Keys>& keys, const std::string& prefix) const noexcept {
    return !hides_ && shares_ == shares && templates_ == templates && keys_ == keys && prefix_ == prefix;
  }
  /// Whether the next one may have more names: shares that are hidden (SharePolicy::hidden) are shown while they are in
  /// use.
  [[nodiscard]] bool hides() const noexcept { return hides_; }
  [[nodiscard]] const std::string& prefix() const noexcept { return prefix_; }
  [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }
  [[nodiscard]] Name operator[](std::size_t index) const;

  /// The same as READDIR answers it, with ".", ".." and ".berth" before the names. The owner of this fills it.
  DirentList records;

 private:
  void add_shares();
  void add_template_directories();
  void add_keys();

  std::shared_ptr<const Shares> shares_;
  std::shared_ptr<const Templates> templates_;
  std::shared_ptr<const Keys> keys_;
  std::string prefix_;
  /// Of each name: the number of the first share at or below it; or, with a flag, of a template or a key.
  std::vector<std::uint32_t> names_;
  bool hides_ = false;
};

/// Whether a share, or the directory of a template, lies below `path` ("home", without a slash at the end).
bool is_directory(const Listing::Shares& shares, const Listing::Templates& templates, const std::string& path);

}  // namespace berth::fuse
