#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "manager/model/helper_type.h"
#include "src/doctor/examine.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/thread.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;
using manager::ShareKind;
using manager::ShareSpec;

/// Something that a share needs, and that may take long to ask.
struct Need {
  enum class Kind : std::uint8_t { kPath, kHost, kSecrets };
  Kind kind = Kind::kPath;
  std::string name;
  friend auto operator<=>(const Need&, const Need&) = default;
};

/// The server in "HOST:/path" or "[ADDRESS]:/path"; empty when there is none.
std::string_view host_before_colon(std::string_view source) {
  if (const std::size_t at = source.find('@'); at != std::string_view::npos && at < source.find('/'))
    source.remove_prefix(at + 1);
  if (source.starts_with('[')) return source.substr(1, source.find(']') - 1);
  const std::size_t colon = source.find(':');
  return colon == std::string_view::npos || colon > source.find('/') ? std::string_view() : source.substr(0, colon);
}

/// The server in "//HOST/share".
std::string_view host_after_slashes(std::string_view source) {
  if (!source.starts_with("//")) return {};
  source.remove_prefix(2);
  return source.substr(0, source.find('/'));
}

/// Where udev shows the device of a tag; empty for what is no tag.
std::string path_of_tag(std::string_view source) {
  constexpr std::pair<std::string_view, std::string_view> kTags[]{
      {"UUID=", "by-uuid/"}, {"LABEL=", "by-label/"}, {"PARTUUID=", "by-partuuid/"}, {"PARTLABEL=", "by-partlabel/"}};
  for (const auto& [tag, directory] : kTags) {
    if (source.starts_with(tag)) return "/dev/disk/" + std::string(directory) + std::string(source.substr(tag.size()));
  }
  return "";
}

/// What a source must be; nothing where only its file system can tell.
std::optional<Need> need_of(const ShareSpec& share, std::string_view source) {
  const std::string& type = share.type();
  if (share.kind() == ShareKind::kCommand || source.empty()) return std::nullopt;
  if (share.kind() != ShareKind::kFilesystem) return Need{Need::Kind::kPath, std::string(source)};
  std::string_view host;
  if (type == "nfs" || type == "nfs4" || type == "glusterfs" || type == "fuse.sshfs") host = host_before_colon(source);
  if (type == "cifs" || type == "smb3") host = host_after_slashes(source);
  if (!host.empty()) return Need{Need::Kind::kHost, std::string(host)};
  if (std::string device = path_of_tag(source); !device.empty()) return Need{Need::Kind::kPath, std::move(device)};
  const bool is_own_syntax = manager::is_helper_type(type) && type != "auto" && type != "ntfs-3g";
  if (is_own_syntax || !source.starts_with('/') || source.starts_with("//")) return std::nullopt;
  return Need{Need::Kind::kPath, std::string(source)};
}

struct Wanted {
  const ShareSpec* share;
  Need need;
  bool is_source;
};

/// Types of file systems that are on a disk or in an image.
constexpr std::array<std::string_view, 19> kOfDisks{"auto", "btrfs",    "erofs", "exfat", "ext2",    "ext3",   "ext4",
                                                    "f2fs", "hfsplus",  "jfs",   "msdos", "iso9660", "nilfs2", "ntfs3",
                                                    "udf",  "squashfs", "vfat",  "xfs",   "ntfs-3g"};

/// A source that is there, but of a kind that the share cannot show.
std::optional<FindingView> wrong_kind(const Wanted& wanted, mode_t kind) {
  const ShareSpec& share = *wanted.share;
  if (!wanted.is_source || wanted.need.kind != Need::Kind::kPath || kind == 0) return std::nullopt;
  FindingView finding{
      .severity = share.sources().size() > 1 ? Severity::kWarning : Severity::kError,
      .id = "wrong-kind",
      .where = share.origin(),
      .subject = "[share." + share.name() + "]",
      .what = "the source " + quote(share.secrets().mask(wanted.need.name)),
      .cost = share.sources().size() > 1 ? "this source is passed over" : "the share cannot be mounted"};
  const bool is_of_disk = share.kind() == ShareKind::kFilesystem &&
                          std::find(kOfDisks.begin(), kOfDisks.end(), share.type()) != kOfDisks.end();
  if (is_of_disk && !S_ISBLK(kind) && !S_ISREG(kind)) {
    finding.what += S_ISDIR(kind) ? " is a directory" : " is neither a disk nor an image";
    finding.what += ", and the type " + quote(share.type()) + " wants a disk or an image";
    finding.remedy = S_ISDIR(kind) ? "for a directory write type = \"bind\"" : "correct the path";
  } else if ((share.kind() == ShareKind::kBind || share.kind() == ShareKind::kDir) && !S_ISDIR(kind)) {
    finding.what += " is not a directory; a share shows a directory";
    finding.remedy = "write the directory that it is in; for an image write the type that is in it, such as \"ext4\"";
  } else {
    return std::nullopt;
  }
  return finding;
}

/// Files that options name.
std::vector<std::string> files_in_options(const ShareSpec& share) {
  std::vector<std::string> files;
  for (const std::string_view option : split(share.options(), ',')) {
    for (const std::string_view key : {"credentials=", "cred="}) {
      if (option.starts_with(key)) files.emplace_back(option.substr(key.size()));
    }
  }
  if (!share.environment_file().empty()) files.push_back(share.environment_file());
  return files;
}

/// Files that are known to hold secrets of a share.
std::vector<std::string> files_with_secrets(const ShareSpec& share) {
  std::vector<std::string> files = secret_files_in(share.options());
  if (!share.environment_file().empty()) files.push_back(share.environment_file());
  for (const auto* argv : {&share.mount_command(), &share.unmount_command(), &share.environment()}) {
    for (std::string& file : secret_files_in(*argv)) files.push_back(std::move(file));
  }
  return files;
}

/// Asks for many things at once, and leaves behind what does not answer.
class Inquiry {
 public:
  explicit Inquiry(const Host& host) : host_(host), patience_(host.patience), state_(std::make_shared<State>()) {}

  void add(const Need& need) { state_->needs.try_emplace(need); }

  /// The answers to what has answered within the host's patience.
  std::map<Need, Result<mode_t>> ask() {
    for (const auto& [need, answer] : state_->needs) state_->order.push_back(need);
    const std::size_t threads = std::min(kThreads, state_->order.size());
    for (std::size_t i = 0; i < threads; ++i) {
      Result<std::thread> thread =
          sys::start_thread("berth-doctor", [state = state_, host = host_] { run(*state, host); });
      if (thread) thread->detach();
    }
    const auto end = std::chrono::steady_clock::now() + patience_;
    MutexLock lock(state_->mutex);
    while (state_->answers.size() < state_->order.size() && state_->changed.wait_until(state_->mutex, end)) {
    }
    return state_->answers;
  }

 private:
  static constexpr std::size_t kThreads = 16;
  struct State {
    // Written before the threads start.
    std::map<Need, int> needs;
    std::vector<Need> order;

    std::atomic<std::size_t> next{0};
    Mutex mutex;
    ConditionVariable changed;
    std::map<Need, Result<mode_t>> answers BERTH_GUARDED_BY(mutex);
  };

  static void run(State& state, const Host& host) {
    for (std::size_t i = state.next++; i < state.order.size(); i = state.next++) {
      const Need& need = state.order[i];
      const auto no_kind = [](const Result<>& asked) { return asked.map([] { return mode_t{0}; }); };
      Result<mode_t> answer = need.kind == Need::Kind::kHost   ? no_kind(host.resolve(need.name))
                              : need.kind == Need::Kind::kPath ? host.find(need.name)
                                                               : no_kind(host.is_private(need.name));
      MutexLock lock(state.mutex);
      state.answers.emplace(need, std::move(answer));
      state.changed.notify_all();
    }
  }

  const Host host_;
  const std::chrono::milliseconds patience_;
  const std::shared_ptr<State> state_;
};

FindingView finding_of(const Wanted& wanted, const Result<mode_t>* answer) {
  const ShareSpec& share = *wanted.share;
  const bool is_host = wanted.need.kind == Need::Kind::kHost;
  const std::string name = quote(share.secrets().mask(wanted.need.name));
  FindingView finding{.where = share.origin(),
                      .subject = "[share." + share.name() + "]",
                      .cost = share.sources().size() > 1 && wanted.is_source ? "this source is passed over"
                                                                             : "an access to the share fails"};
  if (answer == nullptr) {
    finding.id = "no-answer";
    finding.what = (is_host ? "the name service did not answer for " : "there is no answer for ") + name;
    finding.cost = "an access to the share waits, or fails";
    finding.remedy = is_host ? "look at /etc/resolv.conf" : "look at the disk or the server that it is on";
  } else if (wanted.need.kind == Need::Kind::kSecrets) {
    finding.id = "open-secrets";
    finding.what = name + ": every user may read it, and there are secrets of the share in it";
    finding.cost = "every user has them";
    finding.remedy = "take that right away (chmod o-r)";
  } else if (is_host) {
    finding.id = "unknown-host";
    finding.what = "the server " + name + " has no address: " + std::string(answer->error().story());
    finding.remedy = "correct the name, or add it to DNS or /etc/hosts";
  } else {
    finding.id = wanted.is_source ? "no-source" : "no-file";
    finding.what = (wanted.is_source ? "the source " : "the file ") + name + ": " + errno_text(answer->error().code());
    finding.remedy = "make it, or correct the path; a source may come later, as a disk does";
  }
  return finding;
}

}  // namespace

std::vector<FindingView> examine_sources(const Host& host, const manager::Catalog& catalog) {
  std::vector<Wanted> all;
  for (const auto& [name, share] : catalog.shares()) {
    for (const std::string& source : share.sources()) {
      if (std::optional<Need> need = need_of(share, source)) all.push_back({&share, *std::move(need), true});
    }
    for (std::string& file : files_in_options(share))
      all.push_back({&share, {Need::Kind::kPath, std::move(file)}, false});
  }
  for (const auto& [name, share] : catalog.shares()) {
    for (std::string& file : files_with_secrets(share))
      all.push_back({&share, {Need::Kind::kSecrets, std::move(file)}, false});
  }
  Inquiry inquiry(host);
  for (const Wanted& wanted : all) inquiry.add(wanted.need);
  const std::map<Need, Result<mode_t>> answers = inquiry.ask();
  std::vector<FindingView> findings;
  for (const Wanted& wanted : all) {
    const auto answer = answers.find(wanted.need);
    if (answer == answers.end()) {
      if (wanted.need.kind == Need::Kind::kSecrets) continue;  // the file itself has been told of
      findings.push_back(finding_of(wanted, nullptr));
    } else if (!answer->second) {
      findings.push_back(finding_of(wanted, &answer->second));
    } else if (std::optional<FindingView> wrong = wrong_kind(wanted, *answer->second)) {
      findings.push_back(*std::move(wrong));
    }
  }
  return findings;
}

}  // namespace berth::doctor
