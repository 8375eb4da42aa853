#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/model/host_state.h"
#include "manager/model/share_status.h"
#include "manager/state/state_directory.h"
#include "src/lib/base/result.h"

namespace berth::manager {

/// A file of the state directory that could not be read, or not wholly.
struct DamagedFile {
  std::string file;       ///< its path
  std::string reason;     ///< what is wrong with it
  std::string set_aside;  ///< the path under which it was kept; "" when it is where it was
  bool is_new = false;    ///< it was not so for the last server

  friend bool operator==(const DamagedFile&, const DamagedFile&) = default;
};

/// The attachments that were on disk at the start.
struct StoredAttachments {
  std::string share;
  std::set<Attachment> attachments;
};

/// The contents of a state directory.
struct StoredState {
  std::vector<StoredAttachments> shares;
  std::vector<DamagedFile> damages;
  std::optional<HostState> host;  ///< nothing: there is none yet, or it is among the damages
};

/// Keeps attachments and the host state where they survive: what has returned is on disk.
///
/// A file a share, made with its first attachment and removed with its last; a change is a line more (state_format.h),
/// so that the ten-thousandth attachment costs as much as the first. A file that is mostly history is written anew.
/// Room for giving an attachment back is taken when it is made: a full disk keeps no share attached. A file that cannot
/// be read wholly is kept under another name (`*.damaged-TIME`), and what can be read of it is used.
///
/// Threading: one thread at a time; it blocks on the disk.
class AttachmentStore {
 public:
  /// Only opens the directory when it is first needed, and tries again as long as that fails.
  explicit AttachmentStore(StateDirectory directory) : directory_(std::move(directory)) {}

  [[nodiscard]] const std::string& path() const noexcept { return directory_.path(); }

  /// Reads all there is; once. A commit() without it, or after it has failed, reads first: what is on disk and was not
  /// taken up stays there. Errors: those of the directory itself.
  Result<StoredState> load();

  struct Change {
    std::string share;
    Attachment attachment;
    bool attached = true;  ///< false: given back
  };
  /// Records changes, and answers of each whether it is on disk now. Changes of one share cost one write together. Of a
  /// change that failed nothing is left.
  ///
  /// Checks first whether the directory is still at its path. Where nothing or an empty directory is there, it is made
  /// again with all that is recorded. Errors: those of the disk; ENOTEMPTY when something else is at its path.
  std::vector<Result<>> commit(std::span<const Change> changes);

  Result<> commit(const HostState& host);

  /// What a commit has made again since this was asked last.
  std::optional<DamagedFile> take_repaired() { return std::exchange(repaired_, std::nullopt); }

 private:
  /// What is known of a share's file.
  struct Journal {
    std::string file;
    std::set<Attachment> attachments;
    std::size_t size = 0;       ///< of the file; 0: there is none
    std::size_t lines = 0;      ///< in it
    std::size_t room = 0;       ///< bytes that giving all of them back would take
    bool is_uncertain = false;  ///< whether the file holds the same is not known: write it anew
    bool is_gone = false;       ///< with the directory, or was never written since
  };

  Journal& journal_of(const std::string& share);
  Result<> commit_some(const std::string& share, std::span<const Change* const> changes);
  Result<> write(const std::string& share, Journal& journal, std::span<const Change* const> changes);
  Result<> append(Journal& journal, std::span<const Change* const> changes);
  Result<> replace(const std::string& share, Journal& journal);
  Result<> remove(Journal& journal);
  Result<> ensure_directory();
  /// Writes the journals again that are gone with their directory.
  void write_gone();
  void note_repair(std::string reason);

  void load_journal(const std::string& file, StoredState& kept);
  void load_host(StoredState& kept);
  /// Gives a damaged file another name, or a second one where `keep` is set.
  Result<std::string> set_aside(const std::string& file, bool keep);

  StateDirectory directory_;
  bool is_loaded_ = false;
  std::map<std::string, Journal, std::less<>> journals_;  ///< by the share's name
  /// By file: why nothing can be recorded in it. What is in it is damaged, and cannot be set aside.
  std::map<std::string, Error> blocked_;
  std::optional<HostState> host_;  ///< as it was recorded last
  bool host_is_gone_ = false;      ///< its file is gone with the directory
  std::optional<DamagedFile> repaired_;
};

}  // namespace berth::manager
