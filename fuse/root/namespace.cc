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

/// How often a caller waits at a share's name for its real mount, each time until an attempt to lay it has ended.
constexpr int kMostWaits = 8;

/// Positions in a listing: those of ".", "..", ".berth", then names.
constexpr off_t kFirstName = 3;

timespec now() noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return time;
}

using Shares = manager::Manager::Directory;
using Templates = manager::Catalog::Map;

/// In Listing::names: a directory that only a template needs, by the template's number.
constexpr std::uint32_t kOfTemplate = 1U << 31U;
/// A key that a template lists, by its number in Listing::keys: no share yet.
constexpr std::uint32_t kKey = 1U << 30U;

using Keys = std::vector<std::string>;

/// What a directory of the namespace shows at one moment. One is kept, so it is made small.
struct Listing {
  std::shared_ptr<const Shares> shares;  ///< what the names are of
  std::shared_ptr<const Templates> templates;
  std::shared_ptr<const Keys> keys;  ///< null: none are listed
  std::string prefix;                ///< "" or "home/"
  std::vector<std::uint32_t> names;  ///< of each the first share at or below it, by its number among `shares`
  DirentList records;                ///< the same, and what comes before
};

/// A name in a directory.
struct Name {
  std::string text;
  const std::shared_ptr<manager::Share>* share;  ///< null: a directory above shares
  bool is_key = false;                           ///< of what a look-up would make a share
};

/// The part of `path` that is a name in `prefix`.
std::string part_of(std::string_view path, const std::string& prefix) {
  return std::string(path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size()));
}

Name name_of(const Shares::value_type& share, const std::string& prefix) {
  const std::size_t end = share.first.find('/', prefix.size());
  return {std::string(share.first.substr(prefix.size(), end - prefix.size())),
          end == std::string::npos ? &share.second : nullptr};
}

/// The names below `prefix`, as in Listing. The directory is sorted, so all that lies below one name is in one place,
/// and is skipped in one step.
std::vector<std::uint32_t> names_below(const Shares& shares, const std::string& prefix) {
  std::vector<std::uint32_t> names;
  auto at = prefix.empty() ? shares.begin() : shares.lower_bound(prefix);
  while (at != shares.end() && at->first.starts_with(prefix)) {
    names.push_back(static_cast<std::uint32_t>(at - shares.begin()));
    const std::size_t end = at->first.find('/', prefix.size());
    if (end == std::string::npos) {
      ++at;
    } else {
      at = shares.lower_bound(std::string(at->first.substr(0, end)) + static_cast<char>('/' + 1));
    }
  }
  names.shrink_to_fit();
  return names;
}

/// Whether there is a share, or what a template makes, below `path`.
bool is_directory(const Shares& shares, const Templates& templates, const std::string& path) {
  const auto is_below = [prefix = path + "/"](const auto& map) {
    const auto below = map.lower_bound(prefix);
    return below != map.end() && below->first.starts_with(prefix);
  };
  return is_below(shares) || is_below(templates);
}

/// Adds the directories that templates need in `prefix`, where there is no share below them.
void add_directories(const Shares& shares, const Templates& templates, const std::string& prefix,
                     std::vector<std::uint32_t>& names) {
  const Templates none;
  std::string last;
  for (auto at = templates.lower_bound(prefix); at != templates.end() && at->first.starts_with(prefix); ++at) {
    if (at->first.find('/', prefix.size()) == std::string_view::npos) continue;
    std::string name = part_of(at->first, prefix);
    if (name == last) continue;
    if (!is_directory(shares, none, prefix + name)) {
      names.push_back(kOfTemplate | static_cast<std::uint32_t>(at - templates.begin()));
    }
    last = std::move(name);
  }
}

/// Adds the keys of which there is neither a share nor a directory.
void add_keys(const Shares& shares, const Templates& templates, const Keys& keys, const std::string& prefix,
              std::vector<std::uint32_t>& names) {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::string path = prefix + keys[i];
    if (shares.contains(path) || is_directory(shares, templates, path)) continue;
    names.push_back(kKey | static_cast<std::uint32_t>(i));
  }
}

Name name_of(const Listing& listing, std::uint32_t number) {
  if ((number & kKey) != 0) return {(*listing.keys)[number & ~kKey], nullptr, true};
  if ((number & kOfTemplate) == 0) return name_of(listing.shares->begin()[number], listing.prefix);
  return {part_of(listing.templates->begin()[number & ~kOfTemplate].first, listing.prefix), nullptr};
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
      places_.emplace(prefix, prefixes_.size());
      prefixes_.push_back(std::move(prefix));
    }
  }

  /// The path of a directory: "" or "home/". Null: there is no such node.
  [[nodiscard]] std::unique_ptr<const std::string> prefix_of(NodeId node) const {
    if (node == kRootNode) return std::make_unique<const std::string>();
    MutexLock lock(mutex_);
    const std::uint64_t place = node - kFirstDirectory;
    return place < prefixes_.size() ? std::make_unique<const std::string>(prefixes_[place]) : nullptr;
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
    const auto [known, is_new] = places_.try_emplace(prefix, prefixes_.size());
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
    const std::shared_ptr<const Templates> templates = setup_.manager.templates();
    if (templates->empty()) return nullptr;
    const auto found = templates->find(prefix + "*");
    if (found == templates->end() || (prefix.empty() && name == std::string_view(kControlName))) return nullptr;
    if (is_directory(*setup_.manager.directory(), *templates, prefix + name)) return nullptr;
    return {templates, &found->second};
  }
  /// Whether a template lists keys in it, for a caller that may go into its shares.
  [[nodiscard]] bool is_browsed(const std::string& prefix, const sys::Identity& caller) const {
    const std::shared_ptr<const Templates> templates = setup_.manager.templates();
    if (templates->empty()) return false;
    const auto found = templates->find(prefix + "*");
    if (found == templates->end() || !found->second.policy().browse) return false;
    return check_access(found->second.policy(), caller, false).has_value();
  }
  /// What the kernel keeps of its listing is old.
  void note_changed(const std::string& prefix) {
    MutexLock lock(mutex_);
    const auto known = places_.find(prefix);
    if (prefix.empty()) listed_at_.erase(kRootNode);
    if (known != places_.end()) listed_at_.erase(kFirstDirectory + known->second);
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

  /// `go_on` is called by end_waits(), if end_wait() has not been called before. Nothing: no look-up is to wait now.
  std::optional<std::uint64_t> begin_wait(std::function<void()> go_on) {
    MutexLock lock(mutex_);
    if (forgetting_ > 0) return std::nullopt;
    waits_.emplace(++last_wait_, std::move(go_on));
    return last_wait_;
  }
  void end_wait(std::uint64_t wait) {
    std::function<void()> ended;
    MutexLock lock(mutex_);
    const auto found = waits_.find(wait);
    if (found == waits_.end()) return;
    ended = std::move(found->second);
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

  const Setup setup_;
  const timespec made_ = now();
  const uid_t owner_ = ::geteuid();
  const gid_t group_ = ::getegid();

  mutable Mutex mutex_;
  std::vector<std::string> prefixes_ BERTH_GUARDED_BY(mutex_);  ///< of directories above shares, by node
  std::unordered_map<std::string, std::uint64_t> places_ BERTH_GUARDED_BY(mutex_);
  std::set<std::string> gone_ BERTH_GUARDED_BY(mutex_);  ///< of these, those that are there no more
  /// Look-ups that wait at a name: what each does when it is not to wait any longer.
  std::map<std::uint64_t, std::function<void()>> waits_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t last_wait_ BERTH_GUARDED_BY(mutex_) = 0;
  std::size_t forgetting_ BERTH_GUARDED_BY(mutex_) = 0;  ///< calls of forget_names() under way
  /// What each open directory shows; null: it has not been read yet.
  std::unordered_map<std::uint64_t, std::shared_ptr<const Listing>> open_ BERTH_GUARDED_BY(mutex_);
  std::unordered_map<NodeId, TimePoint> listed_at_ BERTH_GUARDED_BY(mutex_);  ///< with attributes
  std::shared_ptr<const Listing> listed_ BERTH_GUARDED_BY(mutex_);            ///< last
  std::uint64_t last_handle_ BERTH_GUARDED_BY(mutex_) = std::uint64_t{setup_.servers} << 32;
};

/// The names of shares, and of directories above them that are gone, or that the kernel may hold for absent. A directory
/// that stays is not named: what is mounted below it would be taken off.
std::set<Namespace::Core::NameAt> Namespace::Core::names_to_forget(const std::vector<std::string>& names) {
  const auto shares = setup_.manager.directory();
  const auto templates = setup_.manager.templates();
  std::set<NameAt> found;
  MutexLock lock(mutex_);
  for (const std::string& name : names) {
    NodeId directory = kRootNode;
    for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
      end = name.find('/', begin);
      const std::string path = name.substr(0, end);
      const auto known = places_.find(path + "/");
      const bool is_there = is_directory(*shares, *templates, path);
      const bool stays = end != std::string::npos && is_there && known != places_.end() && !gone_.contains(path);
      if (!stays) found.insert({directory, name.substr(begin, end == std::string::npos ? end : end - begin)});
      if (is_there) gone_.erase(path);
      if (known == places_.end()) break;  // the kernel knows nothing below
      if (!is_there) gone_.insert(path);
      directory = kFirstDirectory + known->second;
    }
  }
  for (const NameAt& one : found) listed_at_.erase(one.directory);
  return found;
}

void Namespace::Core::forget_names(const std::vector<std::string>& names, Session& session) {
  std::map<std::uint64_t, std::function<void()>> waits;
  {
    MutexLock lock(mutex_);
    ++forgetting_;
    waits.swap(waits_);
  }
  // They hold the lock of their directory until they are answered.
  for (const auto& [number, go_on] : waits) go_on();
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
  std::shared_ptr<const Shares> shares = setup_.manager.directory();
  std::shared_ptr<const Templates> templates = setup_.manager.templates();
  std::shared_ptr<const Keys> keys = templates->empty() ? nullptr : setup_.manager.browsed(prefix);
  {
    MutexLock lock(mutex_);
    const bool is_same =
        listed_ != nullptr && listed_->shares == shares && listed_->templates == templates && listed_->keys == keys;
    if (is_same && listed_->prefix == prefix) return listed_;
  }
  auto listing = std::make_shared<Listing>();
  listing->prefix = prefix;
  listing->names = names_below(*shares, prefix);
  add_directories(*shares, *templates, prefix, listing->names);
  if (keys != nullptr) add_keys(*shares, *templates, *keys, prefix, listing->names);
  listing->keys = std::move(keys);
  listing->shares = std::move(shares);
  listing->templates = std::move(templates);
  DirentList& records = listing->records;
  records.add(".", attributes(prefix).st_ino, DT_DIR);
  records.add("..", 1, DT_DIR);
  if (prefix.empty() && setup_.control_root) {
    records.add(kControlName, setup_.control_attributes ? setup_.control_attributes().st_ino : kControlNumberUnknown,
                DT_DIR);
  } else {
    records.add_nothing();
  }
  for (const std::uint32_t number : listing->names) {
    const Name name = name_of(*listing, number);
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
    return page.add_plain(position == 0 ? "." : "..", position == 0 ? attributes(listing.prefix).st_ino : 1, DT_DIR,
                          next);
  }
  if (position >= kFirstName) {
    return add_name(page, listing, static_cast<std::size_t>(position - kFirstName), now);
  }
  if (!listing.prefix.empty() || !setup_.control_root) return true;
  if (!page.fits_plus(kControlName)) return false;
  page.add_plus(kControlName, setup_.control_root(), next);
  return true;
}

bool Namespace::Core::add_name(DirentBuffer& page, const Listing& listing, std::size_t number, TimePoint now) {
  const off_t next = kFirstName + static_cast<off_t>(number) + 1;
  const Name name = name_of(listing, listing.names[number]);
  if (!page.fits_plus(name.text.c_str())) return false;
  if (name.is_key) {
    return page.add_plain(name.text.c_str(), InodeNumbers(listing.prefix + name.text).root(), DT_DIR, next);
  }
  // What the kernel knows already costs it more to look at than all the rest of a listing.
  if (name.share != nullptr && setup_.shares.is_root_cached(**name.share, now + kKeptListing)) {
    return page.add_plain(name.text.c_str(), ShareFs::root_inode(**name.share), DT_DIR, next);
  }
  const Result<Entry> entry = name.share != nullptr ? share_entry(*name.share, true)
                                                    : Result<Entry>(directory_entry(listing.prefix + name.text));
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
  const pid_t thread = reply.caller().pid;
  const auto share = core_->setup().manager.find(*prefix + name);
  if (share == nullptr) {
    const auto pattern = core_->template_of(*prefix, name);
    if (pattern != nullptr) return look_up_key(std::move(reply), *prefix, name, *pattern);
  }
  if (share == nullptr || !core_->setup().shares.waits_for_overmount(thread, *share)) {
    return answer(std::move(reply), *prefix, name);
  }
  crash_point("at-the-name");
  // If it is interrupted, the request continues through berth, where it waits for the mount and is answered EINTR.
  const auto on_interrupt = [this, thread, share, prefix = *prefix, name = std::string(name)](Reply interrupted) {
    (void)core_->setup().shares.passes_name(thread, *share);
    answer(std::move(interrupted), prefix, name.c_str());
  };
  const auto parked = ParkedReply::park(std::move(reply), on_interrupt);
  // The names are about to change, and this look-up holds the lock of its directory.
  const std::function<void()> end = [parked, on_interrupt] {
    if (std::optional<Reply> later = parked->take()) on_interrupt(*std::move(later));
  };
  const std::optional<std::uint64_t> number = core_->begin_wait(end);
  if (!number) return end();
  wait_at_name({parked, *number}, thread, share, *prefix + name, prefix->size(), kMostWaits);
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
  // Where names are about to change, which waits for the lock of the directory that this look-up holds, the caller's kernel asks once
  // more (path_resolution(7) is silent of it: retry_estale() of Linux), and then waits.
  const std::optional<std::uint64_t> wait = core_->begin_wait([parked] {
    if (std::optional<Reply> later = parked->take()) std::move(*later).error(ESTALE);
  });
  core_->setup().manager.look_up(
      prefix + name, caller.uid,
      [this, parked, wait, prefix, name](const Result<std::shared_ptr<manager::Share>>& found) {
        if (wait) core_->end_wait(*wait);
        std::optional<Reply> later = parked->take();
        if (!later) return;
        if (!found && found.error().code() != ENOENT) return std::move(*later).error(found.error().code());
        if (found) core_->note_changed(prefix);
        answer(std::move(*later), prefix, name.c_str());
      });
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
  const off_t end = kFirstName + static_cast<off_t>(listing->names.size());
  while (offset < end && core_->add(page, *listing, offset, now)) ++offset;
  // Programs that ask for no attributes get them with the first part only, if there are more.
  if (offset == end) core_->note_listed(node, now);
  std::move(reply).data(page.bytes());
}

void Namespace::releasedir(Reply reply, NodeId, const fuse_file_info& handle) {
  const bool known = core_->close(handle.fh) || core_->is_of_dead_server(handle.fh);
  std::move(reply).error(known ? 0 : EBADF);
}

void Namespace::fsyncdir(Reply reply, NodeId, bool, const fuse_file_info&) { std::move(reply).error(0); }

}  // namespace berth::fuse
