#include "manager/state/attachment_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <utility>

#include "manager/state/state_format.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

constexpr std::string_view kSuffix = ".attachments";
constexpr std::string_view kDamaged = ".damaged-";
constexpr const char* kHost = "host";

/// A file with more than this many lines an attachment, and this many besides, is written anew.
constexpr std::size_t kMostHistory = 2;
constexpr std::size_t kFewLines = 1024;

/// Of the line that gives it back.
std::size_t line_size(const Attachment& attachment) { return state_format::line(false, attachment).size(); }

/// "20261121T035251Z"
std::string time_stamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts);
  return {text.data(), size};
}

/// Makes the change in `attachments`; false when nothing changes.
bool apply(std::set<Attachment>& attachments, const Attachment& attachment, bool attached) {
  return attached ? attachments.insert(attachment).second : attachments.erase(attachment) > 0;
}

}  // namespace

Result<StoredState> AttachmentStore::load() {
  StoredState kept;
  if (directory_.is_removed()) {
    TRY_VOID(directory_.recreate());
    kept.damages.push_back(
        {.file = directory_.path(),
         .reason = "it was removed, and the last server could not make it again: what was attached is lost",
         .set_aside = "",
         .is_new = true});
  }
  for (const std::string& file : TRY(directory_.list())) {
    if (file.find(kDamaged) != std::string::npos) {
      const std::string path = directory_.path() + "/" + file;
      kept.damages.push_back({.file = path, .reason = "it was set aside earlier", .set_aside = path});
    } else if (file.ends_with(StateDirectory::kNewSuffix)) {
      (void)directory_.remove(file);  // of a write that did not end, so that no caller was answered
    } else if (file.ends_with(kSuffix)) {
      load_journal(file, kept);
    } else if (file == kHost) {
      load_host(kept);
    }
  }
  is_loaded_ = true;
  return kept;
}

void AttachmentStore::load_journal(const std::string& file, StoredState& kept) {
  const std::string path = directory_.path() + "/" + file;
  const Result<std::string> text = directory_.read(file);
  if (!text) {
    blocked_.emplace(file, text.error());
    kept.damages.push_back({.file = path, .reason = text.error().message(), .set_aside = ""});
    return;
  }
  state_format::Journal said = state_format::parse(*text);
  if (said.fault.empty() && said.directory != directory_.namespace_directory()) {
    said.fault = "it is of the namespace " + quote(said.directory);
  } else if (said.fault.empty() && state_format::file_name(said.share).append(kSuffix) != file) {
    said.fault = "it is of the share " + quote(said.share) + " and has the name of another";
  }
  const bool is_usable = !said.share.empty() && said.directory == directory_.namespace_directory() &&
                         state_format::file_name(said.share).append(kSuffix) == file;
  if (is_usable) {
    Journal& journal = journal_of(said.share);
    journal.attachments = said.attachments;
    journal.size = text->size();
    journal.lines = said.lines;
    for (const Attachment& attachment : said.attachments) journal.room += line_size(attachment);
    if (!said.attachments.empty()) kept.shares.push_back({said.share, std::move(said.attachments)});
  }
  if (said.fault.empty()) return;
  Result<std::string> aside = set_aside(file, is_usable);
  if (!aside) {
    blocked_.emplace(file, aside.error().within("the damaged " + quote(path) + " cannot be set aside"));
  } else if (is_usable) {
    Journal& journal = journal_of(said.share);
    journal.is_uncertain = true;
    (void)write(said.share, journal, {});  // if that fails, the next change tries again
  }
  kept.damages.push_back({.file = path, .reason = said.fault, .set_aside = aside.value_or("")});
}

void AttachmentStore::load_host(StoredState& kept) {
  const Result<std::string> text = directory_.read(kHost);
  Result<HostState> host =
      text ? state_format::parse_host(directory_.namespace_directory(), *text) : Result<HostState>(fail(text.error()));
  if (host) {
    kept.host = host_ = *host;
    return;
  }
  kept.damages.push_back({.file = directory_.path() + "/" + kHost,
                          .reason = host.error().message(),
                          .set_aside = set_aside(kHost, false).value_or("")});
}

Result<std::string> AttachmentStore::set_aside(const std::string& file, bool keep) {
  const std::string stem = file + std::string(kDamaged) + time_stamp();
  constexpr int kTries = 100;
  for (int attempt = 1;; ++attempt) {
    const std::string name = attempt == 1 ? stem : stem + "-" + std::to_string(attempt);
    const Result<> done = keep ? directory_.link(file, name) : directory_.rename(file, name);
    if (done) return directory_.path() + "/" + name;
    const int code = done.error().code();
    if (keep && (code == EPERM || code == EOPNOTSUPP || code == ENOSYS)) {  // a file system without hard links
      const std::string text = TRY(directory_.read(file));
      TRY_VOID(directory_.replace(name, text));
      return directory_.path() + "/" + name;
    }
    if (code != EEXIST || attempt == kTries) return fail(done.error());
  }
}

AttachmentStore::Journal& AttachmentStore::journal_of(const std::string& share) {
  const auto [found, is_new] = journals_.try_emplace(share);
  if (is_new) found->second.file = state_format::file_name(share).append(kSuffix);
  return found->second;
}

std::vector<Result<>> AttachmentStore::commit(std::span<const Change> changes) {
  if (const Result<> in_place = is_loaded_ ? ensure_directory() : Result<>(); !in_place) {
    return std::vector<Result<>>(changes.size(), in_place);
  }
  write_gone();
  if (host_is_gone_) (void)commit(*host_);
  std::map<std::string_view, std::vector<std::size_t>> by_share;
  for (std::size_t i = 0; i < changes.size(); ++i) by_share[changes[i].share].push_back(i);
  std::vector<Result<>> results(changes.size());
  for (const auto& [share, indices] : by_share) {
    std::vector<const Change*> some;
    some.reserve(indices.size());
    for (const std::size_t i : indices) some.push_back(&changes[i]);
    const Result<> all = commit_some(std::string(share), some);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      // One that cannot be done must not take the others with it.
      const std::span<const Change* const> one(&some[i], 1);
      results[indices[i]] = all || some.size() == 1 ? all : commit_some(std::string(share), one);
    }
  }
  return results;
}

Result<> AttachmentStore::commit_some(const std::string& share, std::span<const Change* const> changes) {
  const auto told = [&](const Error& error) {
    return error.within("cannot record attachments in " + directory_.path());
  };
  if (!is_loaded_) TRY_VOID(load().map_error(told));
  Journal& journal = journal_of(share);
  if (const auto blocked = blocked_.find(journal.file); blocked != blocked_.end()) return fail(blocked->second);
  std::vector<const Change*> real;
  for (const Change* change : changes) {
    if (apply(journal.attachments, change->attachment, change->attached)) real.push_back(change);
  }
  if (real.empty() && !journal.is_uncertain) return {};
  const Result<> written = write(share, journal, real);
  if (written) return {};
  for (auto change = real.rbegin(); change != real.rend(); ++change) {
    apply(journal.attachments, (*change)->attachment, !(*change)->attached);
  }
  // What is half done is undone on disk as well, as far as that is possible.
  if (journal.is_uncertain) (void)write(share, journal, {});
  return fail(told(written.error()));
}

Result<> AttachmentStore::write(const std::string& share, Journal& journal, std::span<const Change* const> changes) {
  if (journal.attachments.empty()) return remove(journal);
  const bool is_mostly_history = journal.lines > kFewLines + kMostHistory * journal.attachments.size();
  if (journal.size == 0 || journal.is_uncertain) return replace(share, journal);
  // Writing anew needs more room than a line, and may fail where a line would not.
  if (is_mostly_history && replace(share, journal)) return {};
  if (journal.is_uncertain) return replace(share, journal);
  Result<> appended = append(journal, changes);
  if (appended || (appended.error().code() != ESTALE && appended.error().code() != ENOENT)) return appended;
  TRY_VOID(replace(share, journal));
  note_repair("a file in it was removed or changed while berth ran; written again");
  return {};
}

Result<> AttachmentStore::append(Journal& journal, std::span<const Change* const> changes) {
  std::string text;
  std::size_t room = journal.room;
  bool attaches = false;
  for (const Change* change : changes) {
    text += state_format::line(change->attached, change->attachment);
    const std::size_t size = line_size(change->attachment);
    room = change->attached ? room + size : room - std::min(room, size);
    attaches = attaches || change->attached;
  }
  TRY_VOID(directory_.append(journal.file, {journal.size, room, attaches}, text, journal.is_uncertain));
  journal.size += text.size();
  journal.lines += changes.size();
  journal.room = room;
  return {};
}

Result<> AttachmentStore::replace(const std::string& share, Journal& journal) {
  std::string text = state_format::header(directory_.namespace_directory(), share);
  std::size_t room = 0;
  for (const Attachment& attachment : journal.attachments) {
    text += state_format::line(true, attachment);
    room += line_size(attachment);
  }
  bool is_uncertain = false;
  Result<> replaced = directory_.replace(journal.file, text, room, is_uncertain);
  // A failure before that leaves the file as it was, be that certain or not.
  journal.is_uncertain = !replaced && (journal.is_uncertain || is_uncertain);
  if (!replaced) return replaced;
  journal.is_gone = false;
  journal.size = text.size();
  journal.lines = journal.attachments.size();
  journal.room = room;
  return {};
}

Result<> AttachmentStore::remove(Journal& journal) {
  journal.is_uncertain = true;
  Result<> removed = directory_.remove(journal.file);
  if (!removed && removed.error().code() != ENOENT) return removed;
  journal.is_uncertain = journal.is_gone = false;
  journal.size = journal.lines = journal.room = 0;
  return {};
}

Result<> AttachmentStore::commit(const HostState& host) {
  host_ = host;
  if (is_loaded_ && ensure_directory()) write_gone();
  const Result<> written = directory_.replace(kHost, state_format::render(directory_.namespace_directory(), host));
  if (!written) return fail(written.error().within("cannot record the host's state in " + directory_.path()));
  host_is_gone_ = false;
  return {};
}

void AttachmentStore::note_repair(std::string reason) {
  repaired_ = DamagedFile{.file = directory_.path(), .reason = std::move(reason), .set_aside = "", .is_new = true};
}

Result<> AttachmentStore::ensure_directory() {
  if (directory_.is_at_path()) return {};
  if (const Result<> made = directory_.recreate(); !made) {
    return fail(made.error().within("the state directory is gone, and the next start will not find what is attached"));
  }
  for (auto& [share, journal] : journals_) {
    journal.is_gone = journal.size > 0 || journal.is_uncertain;
    journal.size = 0;
  }
  host_is_gone_ = host_.has_value();
  blocked_.clear();
  note_repair("it was removed or moved away while berth ran; made again");
  return {};
}

void AttachmentStore::write_gone() {
  for (auto& [share, journal] : journals_) {
    if (journal.is_gone) (void)write(share, journal, {});  // the next change tries again
  }
}

}  // namespace berth::manager
