#pragma once

#include <set>
#include <string>
#include <string_view>

#include "manager/model/host_state.h"
#include "manager/model/share_status.h"
#include "src/lib/base/result.h"

/// The files of the state directory, as text. Pure: nothing here touches a file.
///
/// A journal holds the attachments of one share, a change a line, oldest first:
///
///     berth attachments 1 %2Fvolumes media 5a6c9f73
///     + vm-17 ...
///     + vm-17 disk-0 uid=0 pid=4711 since=1790000000000000000 by=libvirtd ...
///     - vm-17 disk-0 c253772b
///
/// A line without a volume is of the directory of an instance. What comes after the volume is the process that has
/// attached; it may be missing. Names are percent-encoded, so that they hold any byte. Each line ends with a checksum
/// of its own (CRC-32C): in a damaged file the lines that are whole are still good.
namespace berth::manager::state_format {

inline constexpr int kVersion = 1;

/// The contents of a journal.
struct Journal {
  std::string directory;  ///< of the namespace that it belongs to; "" where the header cannot be read
  std::string share;      ///< "" likewise
  std::set<Attachment> attachments;
  std::size_t lines = 0;  ///< changes in it
  std::string fault;      ///< what is wrong with it, for people; "" when nothing is
};

/// The first line of a journal.
std::string header(std::string_view directory, std::string_view share);
/// One change: made (`attached`) or given back.
std::string line(bool attached, const Attachment& attachment);
/// Takes the lines of `text` that are whole, and reports those that are not.
Journal parse(std::string_view text);

/// The file `host`.
std::string render(std::string_view directory, const HostState& host);
/// Errors: EBADMSG with a story, also when it is of another namespace.
Result<HostState> parse_host(std::string_view directory, std::string_view text);

/// How the names of files begin that keep the shares of catalog sources (config::source_file()). They are no
/// attachments.
inline constexpr std::string_view kSourcePrefix = "source-";
/// The end of the name of a file that is being written and not whole yet.
inline constexpr std::string_view kUnfinished = ".unfinished";
/// Whether it is such a file, or one that is being written.
bool is_of_source(std::string_view file) noexcept;

/// A file name for something with any name: readable, at most 64 bytes, different for different names.
std::string file_name(std::string_view name);

}  // namespace berth::manager::state_format
