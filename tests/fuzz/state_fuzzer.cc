// The files of the state directory: whatever is in one, what is taken of it can be attachments, and is the same when it
// is written and read again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "manager/model/attachment_name.h"
#include "manager/state/state_format.h"
#include "src/lib/base/text.h"

namespace {

using berth::manager::Attachment;
namespace format = berth::manager::state_format;

/// Ends the run, and so makes libFuzzer report the input.
void require(bool truth) {
  if (!truth) std::abort();
}

std::string written(const format::Journal& journal) {
  std::string text = format::header(journal.directory, journal.share);
  for (const Attachment& attachment : journal.attachments) text += format::line(true, attachment);
  return text;
}

void check_journal(std::string_view text) {
  const format::Journal journal = format::parse(text);
  for (const Attachment& attachment : journal.attachments) {
    require(berth::manager::is_attachment_name(attachment.instance));
    // Without a volume it is the directory of an instance.
    require(attachment.volume.empty() || berth::manager::is_attachment_name(attachment.volume));
  }
  require(journal.attachments.size() <= journal.lines);
  require(berth::is_utf8(journal.fault));
  if (journal.share.empty()) {
    require(!journal.fault.empty() && journal.attachments.empty());
    return;
  }
  const std::string again = written(journal);
  const format::Journal same = format::parse(again);
  require(same.fault.empty() && same.attachments == journal.attachments);
  require(same.share == journal.share && same.directory == journal.directory);
  // Whatever is put behind or cut off, the rest is still good.
  require(format::parse(again + "garbage").attachments == journal.attachments);
}

/// Lines with good checksums, which no fuzzer finds by itself.
void check_names(std::string_view text) {
  const std::string_view name = text.substr(0, 255);
  if (!berth::manager::is_attachment_name(name)) return;
  const Attachment attachment{.instance = std::string(name), .volume = "v"};
  const std::string journal = format::header(name, name) + format::line(true, attachment);
  const format::Journal read = format::parse(journal);
  require(read.fault.empty() && read.share == name && read.attachments == std::set<Attachment>{attachment});
  check_journal(journal + std::string(text));
  const std::string file = format::file_name(name);
  require(file.size() <= 64 && file.find('/') == std::string::npos && file.front() != '.');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_journal(text);
  check_names(text);
  if (const auto host = format::parse_host("/volumes", text)) {
    require(format::parse_host("/volumes", format::render("/volumes", *host)) == *host);
  }
  return 0;
}
