#include "fuse/root/namespace.h"

#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>
#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fuse/kept/name_log.h"
#include "fuse/root/listing.h"
#include "fuse/session/dirent_buffer.h"
#include "fuse/session/parked_reply.h"
#include "fuse/shares/access_check.h"
#include "fuse/tables/inode_number.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {
namespace {

constexpr const char* kControlName = ".berth";
constexpr ino_t kControlNumberUnknown = 2;
/// How long the kernel may use a listing that it has. After the attributes expire it would ask for those of each name;
/// a new listing brings all of them.
constexpr std::chrono::seconds kKeptListing = ShareFs::kIdleRootTtl / 2;

/// A system call that was sent back may take so long to come again, where it gets no processor.
constexpr std::chrono::seconds kLongestCall{30};
/// How often a caller waits at a share's name for its real mount, each time until an attempt to overmount it has ended.
constexpr int kMostWaits = 8;

/// Positions in a listing: those of ".", "..", ".berth", then names.
constexpr off_t kFirstName = 3;

timespec now() noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return time;
}

/// Whether all that is below the directory is among `names`: then it may have been made by what these tell of.
template <typename Names>
bool is_all_told(const Names& all, const std::string& directory, const std::set<std::string_view>& names) {
  const std::string prefix = directory + "/";
  for (auto at = all.lower_bound(prefix); at != all.end() && at->first.starts_with(prefix); ++at) {
    if (!names.contains(at->first)) return false;
  }
  return true;
}

/// No share's name ends in '/'.
ino_t number_of_directory(const std::string& path) noexcept { return InodeNumbers(path + "/").root(); }

}  // namespace

class Namespace::Core {
 public:
  explicit Core(Setup setup) : setup_(std::move(setup)) {
    InodeNumbers::set_bits(setup_.inode_bits);
    if (setup_.directories == nullptr) return;
    for (std::string& prefix : read_all(*setup_.directories)) {
      directory_numbers_.emplace(prefix, prefixes_.size());
      inherited_.insert(prefix.substr(0, prefix.size() - 1));
      prefixes_.push_back(std::move(prefix));
    }
  }

  /// The path of a directory: "" or "home/". Null: there is no such node.
  [[nodiscard]] std::unique_ptr<const std::string> prefix_of(NodeId node) const {
    if (node == kRootNode) return std::make_unique<const std::string>();
    MutexLock lock(mutex_);
    const std::uint64_t number = node - kFirstDirectory;
    return number < prefixes_.size() ? std::make_unique<const std::string>(prefixes_[number]) : nullptr;
  }

  [[nodiscard]] struct stat attributes(const std::string& prefix) const {
    struct stat attributes {};
    attributes.st_ino = prefix.empty() ? 1 : number_of_directory(prefix.substr(0, prefix.size() - 1));
    attributes.st_mode = S_IFDIR | 0755;
    attributes.st_nlink = 1;  // "unknown" to programs that count subdirectories by it, as find(1) does
    attributes.st_uid = owner_;
    attributes.st_gid = group_;
    attributes.st_blksize = 4096;
    attributes.st_atim = attributes.st_mtim = attributes.st_ctim = made_;
    return attributes;
  }

  /// The entry of a directory above shares. Its node is kept for good: there are no more of them than shares.
  Entry directory_entry(const std::string& path) {
    const std::string prefix = path + "/";
    Entry entry{.attributes = attributes(prefix), .attr_ttl = setup_.name_ttl};
    entry.entry_ttl = setup_.name_ttl;
    MutexLock lock(mutex_);
    inherited_.erase(path);
    const auto [known, is_new] = directory_numbers_.try_emplace(prefix, prefixes_.size());
    if (is_new) {
      prefixes_.push_back(prefix);
      if (setup_.directories != nullptr) static_cast<void>(append(*setup_.directories, prefix));
    }
    entry.node = kFirstDirectory + known->second;
    return entry;
  }

  Result<Entry> share_entry(const std::shared_ptr<manager::Share>& share, bool listed) {
    Entry entry = TRY(setup_.shares.root_entry(share, listed));
    entry.entry_ttl = setup_.name_ttl;
    return entry;
  }

  Result<Entry> look_up(const std::string& prefix, const char* name) {
    if (prefix.empty() && setup_.control_root && name == std::string_view(kControlName)) return setup_.control_root();
    const auto shares = setup_.manager.directory();
    const std::string path = prefix + name;
    if (const auto found = shares->find(path); found != shares->end()) return share_entry(found->second, false);
    if (is_directory(*shares, *setup_.manager.templates(), path)) return directory_entry(path);
    return Entry{.entry_ttl = setup_.negative_ttl};
  }

  /// The template that knows a name which is neither a share nor a directory. Null: none does.
  [[nodiscard]] std::shared_ptr<const manager::ShareSpec> template_of(const std::string& prefix,
                                                                      const char* name) const {
    const std::shared_ptr<const Listing::Templates> templates = setup_.manager.templates();
    if (templates->empty()) return nullptr;
    const auto found = templates->find(prefix + "*");
    if (found == templates->end() || (prefix.empty() && name == std::string_view(kControlName))) return nullptr;
    if (is_directory(*setup_.manager.directory(), *templates, prefix + name)) return nullptr;
    return {templates, &found->second};
  }
  /// Whether a template lists keys in it, for a caller that may go into its shares.
  [[nodiscard]] bool is_browsed(const std::string& prefix, const sys::Identity& caller) const {
    const std::shared_ptr<const Listing::Templates> templates = setup_.manager.templates();
    if (templates->empty()) return false;
    const auto found = templates->find(prefix + "*");
    if (found == templates->end() || !found->second.policy().browse) return false;
    return check_access(found->second.policy(), caller, false).has_value();
  }
  /// What the kernel keeps of its listing is old.
  void note_changed(const std::string& prefix) {
    MutexLock lock(mutex_);
    const auto known = directory_numbers_.find(prefix);
    if (prefix.empty()) listed_at_.erase(kRootNode);
    if (known != directory_numbers_.end()) listed_at_.erase(kFirstDirectory + known->second);
  }

  /// The contents are computed when it is read.
  std::uint64_t open() {
    MutexLock lock(mutex_);
    const std::uint64_t handle = ++last_handle_;
    open_.emplace(handle, nullptr);
    return handle;
  }
  /// The number of the server is in each handle, from 1 on.
  [[nodiscard]] bool is_of_dead_server(std::uint64_t handle) const noexcept {
    return handle >> 32 != 0 && handle >> 32 < setup_.servers;
  }
  /// What an open directory shows; afresh from the start. Null: there is no such handle.
  std::shared_ptr<const Listing> listing(std::uint64_t handle, const std::string& prefix, off_t offset) {
    {
      MutexLock lock(mutex_);
      // What was open when a server died is open still; the names are the same, so positions are too.
      if (is_of_dead_server(handle)) open_.try_emplace(handle);
      const auto found = open_.find(handle);
      if (found == open_.end()) return nullptr;
      if (offset != 0 && found->second != nullptr) return found->second;
    }
    std::shared_ptr<const Listing> fresh = list(prefix);
    std::shared_ptr<const Listing> before;
    MutexLock lock(mutex_);
    const auto found = open_.find(handle);
    if (found == open_.end()) return nullptr;
    before = std::exchange(found->second, fresh);
    return fresh;
  }
  bool close(std::uint64_t handle) {
    std::shared_ptr<const Listing> closed;
    MutexLock lock(mutex_);
    const auto found = open_.find(handle);
    if (found == open_.end()) return false;
    closed = std::move(found->second);
    open_.erase(found);
    return true;
  }

  /// Adds what is at `position` to the page, with attributes; false when it is full. `position` may be one that shows
  /// nothing.
  bool add(DirentBuffer& page, const Listing& listing, off_t position, TimePoint now);

  /// Whether the kernel may use the listing that it has; it is to read one with attributes from time to time.
  [[nodiscard]] bool keeps_listing(NodeId directory, TimePoint now) const {
    MutexLock lock(mutex_);
    const auto listed = listed_at_.find(directory);
    return listed != listed_at_.end() && now < listed->second + kKeptListing;
  }
  void note_listed(NodeId directory, TimePoint now) {
    MutexLock lock(mutex_);
    listed_at_.insert_or_assign(directory, now);
  }

  /// `go_on` is called by forget_names(), if end_wait() has not been called before. Nothing: no look-up is to wait now.
  std::optional<std::uint64_t> begin_wait(pid_t thread, std::function<void()> go_on) {
    MutexLock lock(mutex_);
    if (forgetting_ > 0) return std::nullopt;
    return add_wait(thread, std::move(go_on));
  }
  struct BegunKey {
    std::optional<std::uint64_t> number;  ///< nothing: names that change wait for this look-up
    bool send_back = false;               ///< nothing, and it is to be sent back instead
  };
  /// The same for a look-up that `go_on` sends back, which no thread may be twice in one call. One that was is to call
  /// came_back() at its end.
  BegunKey begin_key(pid_t thread, std::function<void()> go_on) {
    const TimePoint now = std::chrono::steady_clock::now();
    MutexLock lock(mutex_);
    std::erase_if(sent_back_, [now](const auto& one) { return now - one.second > kLongestCall; });
    if (thread != 0 && sent_back_.contains(thread)) return {};
    if (forgetting_ == 0) return {.number = add_wait(thread, std::move(go_on))};
    if (thread != 0) sent_back_.emplace(thread, now);
    return {.number = {}, .send_back = thread != 0};
  }
  void came_back(pid_t thread) {
    MutexLock lock(mutex_);
    sent_back_.erase(thread);
  }
  void end_wait(std::uint64_t wait) {
    std::function<void()> ended;
    MutexLock lock(mutex_);
    const auto found = waits_.find(wait);
    if (found == waits_.end()) return;
    ended = std::move(found->second.go_on);
    waits_.erase(found);
  }
  void forget_names(const std::vector<std::string>& names, Session& session);

  [[nodiscard]] const Setup& setup() const noexcept { return setup_; }

 private:
  static constexpr NodeId kFirstDirectory = kRootNode + 1;

  struct NameAt {
    NodeId directory;
    std::string name;
    friend auto operator<=>(const NameAt&, const NameAt&) = default;
  };
  [[nodiscard]] std::set<NameAt> names_to_forget(const std::vector<std::string>& names);

  std::shared_ptr<const Listing> list(const std::string& prefix);
  bool add_name(DirentBuffer& page, const Listing& listing, std::size_t number, TimePoint now);
  std::uint64_t add_wait(pid_t thread, std::function<void()> go_on) BERTH_REQUIRES(mutex_) {
    waits_.emplace(++last_wait_, Waiting{thread, std::move(go_on)});
    return last_wait_;
  }

  const Setup setup_;
  const timespec made_ = now();
  const uid_t owner_ = ::geteuid();
  const gid_t group_ = ::getegid();

  mutable Mutex mutex_;
  std::vector<std::string> prefixes_ BERTH_GUARDED_BY(mutex_);  ///< of directories above shares, by node
  std::unordered_map<std::string, std::uint64_t> directory_numbers_ BERTH_GUARDED_BY(mutex_);
  std::set<std::string> gone_ BERTH_GUARDED_BY(mutex_);  ///< of these, those that are there no more
  /// Those that an earlier server knew, which may have been gone by its end: the kernel may believe that they do not
  /// exist.
  std::set<std::string> inherited_ BERTH_GUARDED_BY(mutex_);
  /// A look-up that waits at a name, and what it does when it is not to wait any longer.
  struct Waiting {
    pid_t thread;
    std::function<void()> go_on;
  };
  std::map<std::uint64_t, Waiting> waits_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t last_wait_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t forgetting_ BERTH_GUARDED_BY(mutex_) = 0;  ///< calls of forget_names() under way
  /// Threads that were sent back or let go for a change of names, and when.
  std::map<pid_t, TimePoint> sent_back_ BERTH_GUARDED_BY(mutex_);
  /// What each open directory shows; null: it has not been read yet.
  std::unordered_map<std::uint64_t, std::shared_ptr<const Listing>> open_ BERTH_GUARDED_BY(mutex_);
  std::unordered_map<NodeId, TimePoint> listed_at_ BERTH_GUARDED_BY(mutex_);  ///< with attributes
  std::shared_ptr<const Listing> listed_ BERTH_GUARDED_BY(mutex_);            ///< last
  std::uint64_t last_handle_ BERTH_GUARDED_BY(mutex_) = std::uint64_t{setup_.servers} << 32;
};

/// The names of shares, and of directories above them that are gone, or that the kernel may believe absent. A directory
/// that stays is not named: what is mounted below it would be taken off.
std::set<Namespace::Core::NameAt> Namespace::Core::names_to_forget(const std::vector<std::string>& names) {
  const auto shares = setup_.manager.directory();
  const auto templates = setup_.manager.templates();
  const std::set<std::string_view> told(names.begin(), names.end());
  std::set<NameAt> found;
  MutexLock lock(mutex_);
  for (const std::string& name : names) {
    NodeId directory = kRootNode;
    for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
      end = name.find('/', begin);
      const std::string path = name.substr(0, end);
      const auto known = directory_numbers_.find(path + "/");
      const bool is_there = is_directory(*shares, *templates, path);
      if (inherited_.erase(path) != 0 && is_there && is_all_told(*shares, path, told) &&
          is_all_told(*templates, path, told))
        gone_.insert(path);
      const bool stays =
          end != std::string::npos && is_there && known != directory_numbers_.end() && !gone_.contains(path);
      if (!stays) found.insert({directory, name.substr(begin, end == std::string::npos ? end : end - begin)});
      if (is_there) gone_.erase(path);
      if (known == directory_numbers_.end()) break;  // the kernel knows nothing below
      if (!is_there) gone_.insert(path);
      directory = kFirstDirectory + known->second;
    }
  }
  for (const NameAt& one : found) listed_at_.erase(one.directory);
  return found;
}

void Namespace::Core::forget_names(const std::vector<std::string>& names, Session& session) {
  std::map<std::uint64_t, Waiting> waits;
  const TimePoint now = std::chrono::steady_clock::now();
  {
    MutexLock lock(mutex_);
    ++forgetting_;
    waits.swap(waits_);
    for (const auto& [number, waiting] : waits) sent_back_.insert_or_assign(waiting.thread, now);
  }
  // They hold the lock of their directory until they are answered.
  for (const auto& [number, waiting] : waits) waiting.go_on();
  std::set<NodeId> directories;
  for (const NameAt& one : names_to_forget(names)) {
    directories.insert(one.directory);
    // A name that the kernel does not know is no error.
    static_cast<void>(session.invalidate_name(one.directory, one.name));
  }
  // And what it keeps of their listings.
  for (const NodeId directory : directories) static_cast<void>(session.invalidate_node(directory, 0, 0));
  MutexLock lock(mutex_);
  --forgetting_;
}

/// The same as last time, if it would be.
std::shared_ptr<const Listing> Namespace::Core::list(const std::string& prefix) {
  std::shared_ptr<const Listing::Shares> shares = setup_.manager.directory();
  std::shared_ptr<const Listing::Templates> templates = setup_.manager.templates();
  std::shared_ptr<const Listing::Keys> keys = templates->empty() ? nullptr : setup_.manager.browsed(prefix);
  {
    MutexLock lock(mutex_);
    if (listed_ != nullptr && listed_->is_made_of(shares, templates, keys, prefix)) return listed_;
  }
  auto listing = std::make_shared<Listing>(std::move(shares), std::move(templates), std::move(keys), prefix);
  DirentList& records = listing->records;
  records.add(".", attributes(prefix).st_ino, DT_DIR);
  records.add("..", 1, DT_DIR);
  if (prefix.empty() && setup_.control_root) {
    records.add(kControlName, setup_.control_attributes ? setup_.control_attributes().st_ino : kControlNumberUnknown,
                DT_DIR);
  } else {
    records.add_nothing();
  }
  for (std::size_t i = 0; i < listing->size(); ++i) {
    const Listing::Name name = (*listing)[i];
    const ino_t inode = name.is_key             ? InodeNumbers(prefix + name.text).root()
                        : name.share != nullptr ? ShareFs::root_inode(**name.share)
                                                : number_of_directory(prefix + name.text);
    records.add(name.text.c_str(), inode, DT_DIR);
  }
  records.shrink();
  MutexLock lock(mutex_);
  return listed_ = listing;
}

bool Namespace::Core::add(DirentBuffer& page, const Listing& listing, off_t position, TimePoint now) {
  const off_t next = position + 1;
  if (position < 2) {
    return page.add_plain(position == 0 ? "." : "..", position == 0 ? attributes(listing.prefix()).st_ino : 1, DT_DIR,
                          next);
  }
  if (position >= kFirstName) {
    return add_name(page, listing, static_cast<std::size_t>(position - kFirstName), now);
  }
  if (!listing.prefix().empty() || !setup_.control_root) return true;
  if (!page.fits_plus(kControlName)) return false;
  page.add_plus(kControlName, setup_.control_root(), next);
  return true;
}

bool Namespace::Core::add_name(DirentBuffer& page, const Listing& listing, std::size_t number, TimePoint now) {
  const off_t next = kFirstName + static_cast<off_t>(number) + 1;
  const Listing::Name name = listing[number];
  if (!page.fits_plus(name.text.c_str())) return false;
  if (name.is_key) {
    return page.add_plain(name.text.c_str(), InodeNumbers(listing.prefix() + name.text).root(), DT_DIR, next);
  }
  // What the kernel knows already costs it more to look at than all the rest of a listing.
  if (name.share != nullptr && setup_.shares.is_root_cached(**name.share, now + kKeptListing)) {
    return page.add_plain(name.text.c_str(), ShareFs::root_inode(**name.share), DT_DIR, next);
  }
  const Result<Entry> entry = name.share != nullptr ? share_entry(*name.share, true)
                                                    : Result<Entry>(directory_entry(listing.prefix() + name.text));
  // A look-up of the name reports the error.
  if (!entry) return page.add_plain(name.text.c_str(), ShareFs::root_inode(**name.share), DT_DIR, next);
  page.add_plus(name.text.c_str(), *entry, next);
  return true;
}

Namespace::Namespace(Setup setup) : core_(std::make_unique<Core>(std::move(setup))) {}
Namespace::~Namespace() = default;

void Namespace::lookup(Reply reply, NodeId parent, const char* name) {
  const auto prefix = core_->prefix_of(parent);
  if (prefix == nullptr) return std::move(reply).error(ESTALE);
  if (std::string_view(name).size() > NAME_MAX) return std::move(reply).error(ENAMETOOLONG);
  const auto share = core_->setup().manager.find(*prefix + name);
  if (share == nullptr) {
    const auto pattern = core_->template_of(*prefix, name);
    if (pattern != nullptr) return look_up_key(std::move(reply), *prefix, name, *pattern);
  }
  if (share == nullptr) return answer(std::move(reply), *prefix, name);
  look_up_share(std::move(reply), *prefix, name, share);
}

void Namespace::look_up_share(Reply reply, const std::string& prefix, const char* name,
                              const std::shared_ptr<manager::Share>& share) {
  const pid_t thread = reply.caller().pid;
  if (!core_->setup().shares.waits_for_overmount(thread, share)) return answer(std::move(reply), prefix, name);
  crash_point("at-the-name");
  // If it is interrupted, the request continues through berth, where it waits for the mount and is answered EINTR.
  const auto on_interrupt = [this, thread, share, prefix, name = std::string(name)](Reply interrupted) {
    (void)core_->setup().shares.passes_name(thread, *share);
    answer(std::move(interrupted), prefix, name.c_str());
  };
  const auto parked = ParkedReply::park(std::move(reply), on_interrupt);
  // The names are about to change, and this look-up holds the lock of its directory.
  const std::function<void()> end = [parked, on_interrupt] {
    if (std::optional<Reply> later = parked->take()) on_interrupt(*std::move(later));
  };
  const std::optional<std::uint64_t> number = core_->begin_wait(thread, end);
  if (!number) return end();
  wait_at_name({parked, *number}, thread, share, prefix + name, prefix.size(), kMostWaits);
}

void Namespace::look_up_key(Reply reply, const std::string& prefix, const std::string& name,
                            const manager::ShareSpec& pattern) {
  const sys::Identity caller = reply.caller();
  // A caller that may not go in has nothing made.
  if (const Result<> allowed = check_access(pattern.policy(), caller, false); !allowed) {
    return std::move(reply).error(allowed.error().code());
  }
  const auto parked =
      ParkedReply::park(std::move(reply), [](Reply interrupted) { std::move(interrupted).error(EINTR); });
  // Where names are about to change, which waits for the lock of the directory that this look-up holds, the caller's
  // kernel asks once more (path_resolution(7) is silent of it: retry_estale() of Linux), and then waits. A second
  // ESTALE it would hand on to the program.
  const std::function<void()> send_back = [parked] {
    if (std::optional<Reply> later = parked->take()) std::move(*later).error(ESTALE);
  };
  const auto [wait, is_sent_back] = core_->begin_key(caller.pid, send_back);
  if (is_sent_back) return send_back();
  const auto on_answer = [this, parked, wait = wait, thread = caller.pid, prefix,
                          name](const Result<std::shared_ptr<manager::Share>>& found) {
    if (wait) core_->end_wait(*wait);
    if (!wait) core_->came_back(thread);
    std::optional<Reply> later = parked->take();
    if (!later) return;
    if (!found && found.error().code() != ENOENT) return std::move(*later).error(found.error().code());
    if (!found) return answer(std::move(*later), prefix, name.c_str());
    core_->note_changed(prefix);
    // The name is a directory of what was made.
    if (*found == nullptr) return answer(std::move(*later), prefix, name.c_str());
    look_up_share(std::move(*later), prefix, name.c_str(), *found);
  };
  core_->setup().manager.look_up(prefix + name, caller.uid, on_answer);
}

void Namespace::wait_at_name(const Wait& wait, pid_t thread, const std::shared_ptr<manager::Share>& share,
                             const std::string& path, std::size_t name_at, int waits) {
  core_->setup().manager.await_native(*share, [this, wait, thread, share, path, name_at, waits](bool /*native*/) {
    if (wait.parked->taken()) return core_->end_wait(wait.number);
    if (!core_->setup().shares.passes_name(thread, *share) && waits > 1) {
      return wait_at_name(wait, thread, share, path, name_at, waits - 1);
    }
    core_->end_wait(wait.number);
    std::optional<Reply> later = wait.parked->take();
    if (later) answer(*std::move(later), path.substr(0, name_at), path.c_str() + name_at);
  });
}

void Namespace::forget_names(const std::vector<std::string>& names, Session& session) {
  core_->forget_names(names, session);
}

void Namespace::answer(Reply reply, const std::string& prefix, const char* name) {
  const Result<Entry> entry = core_->look_up(prefix, name);
  if (!entry) return std::move(reply).error(entry.error().code());
  // What is taken back here only counts for what is below a share; the control tree forgets with the session.
  if (!std::move(reply).entry(*entry) && entry->node != 0 && owner_of(entry->node) == NodeOwner::kShare) {
    core_->setup().shares.forget_root(*entry);
  }
}

/// Directories above shares are kept.
void Namespace::forget(NodeId, std::uint64_t) noexcept {}

void Namespace::getattr(Reply reply, NodeId node, const fuse_file_info*) {
  const auto prefix = core_->prefix_of(node);
  if (prefix == nullptr) return std::move(reply).error(ESTALE);
  std::move(reply).attributes(core_->attributes(*prefix), core_->setup().name_ttl);
}

void Namespace::opendir(Reply reply, NodeId node, const fuse_file_info&) {
  const auto prefix = core_->prefix_of(node);
  if (prefix == nullptr) return std::move(reply).error(ESTALE);
  if (core_->is_browsed(*prefix, reply.caller())) return browse(std::move(reply), *prefix);
  const std::uint64_t handle = core_->open();
  const bool keep = core_->keeps_listing(node, std::chrono::steady_clock::now());
  if (!std::move(reply).opened({.handle = handle, .keep_cache = keep, .cache_directory = true})) core_->close(handle);
}

void Namespace::browse(Reply reply, const std::string& prefix) {
  const uid_t caller = reply.caller().uid;
  const auto parked =
      ParkedReply::park(std::move(reply), [](Reply interrupted) { std::move(interrupted).error(EINTR); });
  core_->setup().manager.browse(prefix, caller, [this, parked](const Result<std::shared_ptr<manager::Share>>& done) {
    std::optional<Reply> later = parked->take();
    if (!later) return;
    // Where the list is not to be had in time, the directory is shown without it.
    if (!done && done.error().code() == ESHUTDOWN) return std::move(*later).error(ESHUTDOWN);
    // What the kernel has of the list may be older.
    const std::uint64_t handle = core_->open();
    if (!std::move(*later).opened({.handle = handle, .keep_cache = false, .cache_directory = true}))
      core_->close(handle);
  });
}

void Namespace::readdir(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  const auto prefix = core_->prefix_of(node);
  const auto listing = prefix != nullptr ? core_->listing(handle.fh, *prefix, offset) : nullptr;
  if (listing == nullptr) return std::move(reply).error(EBADF);
  if (offset < 0) return std::move(reply).error(EINVAL);
  std::move(reply).data(listing->records.page(static_cast<std::size_t>(offset), size));
}

void Namespace::readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  const auto prefix = core_->prefix_of(node);
  const auto listing = prefix != nullptr ? core_->listing(handle.fh, *prefix, offset) : nullptr;
  if (listing == nullptr) return std::move(reply).error(EBADF);
  if (offset < 0) return std::move(reply).error(EINVAL);
  const TimePoint now = std::chrono::steady_clock::now();
  DirentBuffer page(reply, size);
  const off_t end = kFirstName + static_cast<off_t>(listing->size());
  while (offset < end && core_->add(page, *listing, offset, now)) ++offset;
  // Programs that ask for no attributes get them with the first part only, if there are more.
  // What is hidden may be in use by the next time.
  if (offset == end && !listing->hides()) core_->note_listed(node, now);
  std::move(reply).data(page.bytes());
}

void Namespace::releasedir(Reply reply, NodeId, const fuse_file_info& handle) {
  const bool known = core_->close(handle.fh) || core_->is_of_dead_server(handle.fh);
  std::move(reply).error(known ? 0 : EBADF);
}

void Namespace::fsyncdir(Reply reply, NodeId, bool, const fuse_file_info&) { std::move(reply).error(0); }

}  // namespace berth::fuse
