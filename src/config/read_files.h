#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/model/share_spec.h"
#include "src/config/accounts.h"
#include "src/config/config.h"

namespace berth::config {

/// Stands for a text that is not kept. Two hashes of different kinds, so that texts that differ have different ones.
struct Fingerprint {
  std::uint64_t a = 0, b = 0;

  static Fingerprint of(std::string_view text) noexcept;
  friend auto operator<=>(const Fingerprint&, const Fingerprint&) = default;
};

/// A [[map]].
struct MapSection {
  std::string master;
  std::uint32_t line;
};

/// What a file without a mistake has come to. The text decides whether it is the same file, and not its time or size:
/// two changes can have the same time.
struct ReadFile {
  /// What the main file has beside shares.
  struct Main {
    Settings settings;
    manager::SharePolicy defaults;
    std::vector<MapSection> maps;
    std::vector<CatalogSource> sources;
  };

  Fingerprint text;
  std::vector<manager::ShareSpec> shares;
  std::vector<std::size_t> with_secrets;  ///< indexes of `shares`
  std::vector<std::pair<std::string, std::uint32_t>> required_lines;
  Accounts::Names accounts;  ///< as they were when it was read
  std::optional<Main> main;  ///< absent: a drop-in
  bool is_used = true;       ///< by the last reading
};

/// The shares of a catalog source, by the lines that put them. A line that cannot be read is not among them.
class ReadSource {
 public:
  struct Share {
    Fingerprint line;
    manager::ShareSpec spec;
    bool has_secret;
    bool is_used;  ///< by this reading
  };

  /// A reading begins. What has another meaning by now, because its accounts have other numbers, is forgotten.
  void begin(Accounts& accounts);
  /// Null: it is not known. Valid up to end().
  [[nodiscard]] const Share* use(const Fingerprint& line);
  void add(const Fingerprint& line, const manager::ShareSpec& spec, bool has_secret);
  /// What the reading has not used is forgotten.
  void end(Accounts::Names asked);

 private:
  std::vector<Share> shares_;  ///< sorted
  std::vector<Share> added_;
  Accounts::Names accounts_;
};

/// What load() remembers of one configuration from one reading to the next, so that what has not changed is neither
/// parsed nor checked again, and shares that are the same are the same object. Files are read all the same. Their
/// owners and modes, users and groups, maps of autofs and all that concerns several shares are looked at each time.
///
/// Threading: one thread at a time.
class ReadFiles {
 public:
  /// Null: what the file has come to is not known.
  [[nodiscard]] const ReadFile* use_file(const std::string& path, const Fingerprint& text, bool is_main,
                                         Accounts& accounts);
  void put_file(const std::string& path, ReadFile file);
  [[nodiscard]] ReadSource& source(const std::string& name) { return sources_[name]; }

  /// The beginning of a reading, and the end of one without a mistake: what it has not used is forgotten.
  void begin();
  void end(const std::vector<CatalogSource>& sources);
  /// The main file has been read. Shares of other files that were made with other settings are forgotten.
  void set_context(const manager::SharePolicy& defaults, const std::string& namespace_directory);

 private:
  std::map<std::string, ReadFile> files_;
  std::map<std::string, ReadSource> sources_;
  manager::SharePolicy defaults_;
  std::string namespace_directory_;
};

}  // namespace berth::config
