#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "manager/model/share_spec.h"
#include "src/lib/base/result.h"

/// Catalog sources: programs that name shares, as those of a store that many hosts read. berth-source(7) describes what
/// they write.
namespace berth::config {

/// [[catalog_source]].
struct CatalogSource {
  std::string name;
  std::vector<std::string> program;  ///< argv; the program has an absolute path, or is looked up in the fixed PATH
  std::size_t max_shares = 0;        ///< more than these it cannot name
  std::chrono::milliseconds list_timeout{
      std::chrono::minutes(1)};  ///< a program that lists may be silent for this long

  friend bool operator==(const CatalogSource&, const CatalogSource&) = default;
};

/// Most [[catalog_source]] in a configuration.
inline constexpr std::size_t kMaxCatalogSources = 16;
/// Longest line of a share, in bytes, without its end. A longer one is a wrong share.
inline constexpr std::size_t kLongestSourceLine = std::size_t{64} << 10;
/// A program that writes a longer one is ended: the line may have no end.
inline constexpr std::size_t kEndlessSourceLine = std::size_t{1} << 20;
/// Most bytes of the lines of all shares of one source, and of those of all sources that are in a catalog. Half of what
/// the catalog is kept in (manager::CatalogArea::kHalf): there a share takes some more.
inline constexpr std::size_t kMostOfSource = std::size_t{64} << 20;

/// One line that a source has written.
struct SourceMessage {
  enum class Kind : std::uint8_t {
    kList,    ///< all shares follow, up to the next kSynced
    kPut,     ///< there is a share, or another one of that name
    kDelete,  ///< there is none of that name
    kSynced,  ///< all shares have been named
    kError,   ///< the store cannot be read
  };
  Kind kind = Kind::kList;
  std::string name;       ///< kPut, kDelete: of the share
  bool is_empty = false;  ///< kSynced: that there is no share is meant
  std::string error;      ///< kError: why, for people
  std::string wrong;      ///< kPut: what is wrong with the share, for people; "": nothing
};

/// Reads one line, without its end. A share that is wrong is no error: only the share is.
/// `namespace_directory`: where the shares will be, "" where that is not known.
///
/// Threading: any thread; it reads the user database and so may block.
/// Errors: EBADMSG with a story when the line is none of the protocol.
Result<SourceMessage> read_source_line(std::string_view line, std::string_view namespace_directory);

/// Shares of a source as they are kept: the line with which each was put, by name.
using SourceLines = std::map<std::string, std::string, std::less<>>;

/// What such shares have as their ShareSpec::origin().
std::string source_origin(const std::string& source);
/// The directory in which the shares of catalog sources are kept; "" where there is none.
std::string source_directory(std::string_view state_dir, std::string_view namespace_directory);
/// The file of one source in it.
std::string source_file(const std::string& directory, const std::string& source);

/// What a file has of a source.
struct KeptShares {
  SourceLines lines;
  bool is_whole = true;  ///< false: an earlier file was lost that had more, and these are still in force
};

/// The same by lines.
struct KeptLines {
  std::vector<std::string_view> lines;  ///< those that put shares, as they are
  bool is_whole = true;
};

/// `text`: of such a file. Errors: EBADMSG where its end is missing.
Result<KeptLines> split_source_text(std::string_view text);
/// Errors: ENOENT where nothing was kept; open(2)'s.
Result<std::string> read_source_text(const std::string& path);
/// Errors: ENOENT where nothing was kept; open(2)'s; EBADMSG where its end is missing.
Result<KeptShares> read_source_file(const std::string& path);
/// Puts the shares in the place of those that were kept, on disk when it returns; makes the directory.
/// Errors: those of write(2).
Result<> write_source_file(const std::string& path, const SourceLines& lines, bool is_whole = true);

/// What became of the shares of a source when a configuration was read.
struct SourceShares {
  std::string source;
  std::string unread;      ///< why what was kept of it cannot be read; "": it could, or nothing was
  std::size_t shares = 0;  ///< in the catalog
  /// Those that are not, by name: why. Of many the first ones.
  std::map<std::string, std::string, std::less<>> refused;
  std::size_t refused_count = 0;
};

}  // namespace berth::config
