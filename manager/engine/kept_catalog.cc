#include "manager/engine/kept_catalog.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

#include "src/lib/base/crash_point.h"

namespace berth::manager {
namespace {

/// A log shorter than this is never worn.
constexpr std::uint64_t kSmallLog = std::uint64_t{1} << 20;

enum Kind : std::uint8_t {
  kBegin,
  kConfiguration,
  kPut,
  kPutSecond,
  kPend,
  kSettle,
  kRemove,
  kForget,
  kTold,
  kInstance
};

/// Whether the words that shares mostly say alike follow, or are those of the share before.
enum Common : std::uint8_t { kFollows, kAsBefore };

/// What can be kept as the bytes that it has.
template <typename T>
concept Plain = std::is_trivially_copyable_v<T>;

/// Appends what it is called with.
class Writer {
 public:
  explicit Writer(std::string& bytes) noexcept : bytes_(bytes) {}

  template <Plain T>
  void operator()(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void operator()(const std::string& text) {
    (*this)(static_cast<std::uint32_t>(text.size()));
    bytes_.append(text);
  }
  template <typename T>
  void operator()(const std::vector<T>& all) {
    (*this)(static_cast<std::uint32_t>(all.size()));
    for (const T& one : all) (*this)(one);
  }

 private:
  std::string& bytes_;
};

/// Sets what it is called with to what a Writer wrote. Beyond the end everything is empty, and `is_good` says so.
class Reader {
 public:
  explicit Reader(std::string_view bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] bool is_good() const noexcept { return is_good_; }
  [[nodiscard]] bool is_at_end() const noexcept { return bytes_.empty(); }
  std::string_view take(std::size_t size) noexcept {
    if (size > bytes_.size()) {
      is_good_ = false;
      bytes_ = {};
      return {};
    }
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  template <Plain T>
  T number() noexcept {
    T value{};
    const std::string_view taken = take(sizeof value);
    if (!taken.empty()) std::memcpy(&value, taken.data(), sizeof value);
    return value;
  }

  template <Plain T>
  void operator()(T& value) noexcept {
    value = number<T>();
  }
  void operator()(std::string& text) { text = take(number<std::uint32_t>()); }
  template <typename T>
  void operator()(std::vector<T>& all) {
    all.clear();
    for (auto left = number<std::uint32_t>(); left > 0 && is_good_; --left) (*this)(all.emplace_back());
  }

 private:
  std::string_view bytes_;
  bool is_good_ = true;
};

/// Has `each` write or read what is a share's own, in the order in which it is kept.
void each_own(auto& fields, auto&& each) {
  each(fields.name);
  each(fields.sources);
  each(fields.origin_line);
}

/// The same of what shares mostly say alike: every other key.
void each_common(auto& fields, auto&& each) {
  each(fields.type);
  each(fields.options);
  each(fields.mount_command);
  each(fields.unmount_command);
  each(fields.environment);
  each(fields.environment_file);
  each(fields.program);
  each(fields.origin_file);
  each(fields.origin_through);
  auto& policy = fields.policy;
  each(policy.idle_timeout);
  each(policy.mount_timeout);
  each(policy.unmount_timeout);
  each(policy.stall_timeout);
  each(policy.request_timeout);
  each(policy.attr_timeout);
  each(policy.lookup_timeout);
  each(policy.positive_timeout);
  each(policy.negative_timeout);
  each(policy.access);
  each(policy.on_stale);
  each(policy.reopen);
  each(policy.required);
  each(policy.weights);
  each(policy.idle_timeout_is_own);
  each(policy.read_only);
  each(policy.allow_suid);
  each(policy.allow_devices);
  each(policy.browse);
  each(policy.hidden);
  each(policy.allow_users);
  each(policy.allow_groups);
  each(policy.owner);
  each(policy.group);
  each(policy.mode);
}

/// Reads the entries of a log, one after the other.
class Replay {
 public:
  void entry(std::string_view bytes) {
    Reader reader(bytes);
    const auto kind = reader.number<std::uint8_t>();
    const auto number = reader.number<std::uint64_t>();
    switch (kind) {
      case kBegin:
        kept_ = {
            .shares = {}, .last_incarnation = number, .configuration = reader.number<std::uint64_t>(), .untold = {}};
        return;
      case kConfiguration:
        kept_.configuration = number;
        return;
      case kTold:
        return kept_.untold.clear();
      case kPut:
      case kPutSecond:
        return put(number, reader, kind == kPutSecond);
      default:
        break;
    }
    const auto found = kept_.shares.find(number);
    if (found == kept_.shares.end()) return;
    KeptShare& share = found->second;
    if (kind == kPend) share.pending = spec(reader);
    if (kind == kSettle) share.pending.reset();
    if (kind == kRemove) {
      share.is_removed = true;
      share.pending.reset();
      kept_.untold.insert(share.spec.name());
    }
    if (kind == kInstance) share.user = reader.number<std::uint32_t>();
    if (kind == kForget) kept_.shares.erase(found);
  }
  KeptCatalog take() && { return std::move(kept_); }

 private:
  void put(std::uint64_t incarnation, Reader& reader, bool is_second) {
    std::optional<ShareSpec> made = spec(reader);
    if (!made) return;
    kept_.last_incarnation = std::max(kept_.last_incarnation, incarnation);
    kept_.untold.insert(made->name());
    const auto [at, is_new] = kept_.shares.try_emplace(incarnation, KeptShare{.spec = *made, .is_second = is_second});
    if (!is_new) at->second.spec = *std::move(made);
  }

  std::optional<ShareSpec> spec(Reader& reader) {
    ShareFields fields;
    each_own(fields, reader);
    if (reader.number<std::uint8_t>() == kFollows) reader(common_);
    if (!reader.is_good()) return std::nullopt;
    each_common(fields, Reader(common_));
    Result<ShareSpec> made = ShareSpec::make(std::move(fields), last_ ? &*last_ : nullptr);
    if (!made) return std::nullopt;
    last_ = *made;
    return last_;
  }

  KeptCatalog kept_;
  std::string common_;
  std::optional<ShareSpec> last_;
};

}  // namespace

using Change = CatalogLog::Change;

void Change::add(std::uint8_t kind, std::uint64_t number, const ShareSpec* spec) {
  std::string entry;
  Writer writer(entry);
  writer(kind);
  writer(number);
  if (spec != nullptr) {
    const ShareFields fields = spec->fields();
    each_own(fields, writer);
    std::string common;
    each_common(fields, Writer(common));
    writer(static_cast<std::uint8_t>(common == common_ ? kAsBefore : kFollows));
    if (common != common_) writer(common_ = std::move(common));
  }
  Writer{bytes_}(entry);
}

Change& Change::begin(std::uint64_t last_incarnation, std::uint64_t configuration) {
  std::string entry;
  Writer writer(entry);
  writer(static_cast<std::uint8_t>(kBegin));
  writer(last_incarnation);
  writer(configuration);
  Writer{bytes_}(entry);
  return *this;
}
Change& Change::configuration(std::uint64_t number) { return add(kConfiguration, number), *this; }
Change& Change::put(std::uint64_t incarnation, const ShareSpec& spec, bool is_second) {
  return add(is_second ? kPutSecond : kPut, incarnation, &spec), *this;
}
Change& Change::instance(std::uint64_t incarnation, std::uint32_t user) {
  std::string entry;
  Writer writer(entry);
  writer(static_cast<std::uint8_t>(kInstance));
  writer(incarnation);
  writer(user);
  Writer{bytes_}(entry);
  return *this;
}
Change& Change::pend(std::uint64_t incarnation, const ShareSpec& spec) { return add(kPend, incarnation, &spec), *this; }
Change& Change::settle(std::uint64_t incarnation) { return add(kSettle, incarnation), *this; }
Change& Change::remove(std::uint64_t incarnation) { return add(kRemove, incarnation), *this; }
Change& Change::forget(std::uint64_t incarnation) { return add(kForget, incarnation), *this; }
Change& Change::told() { return add(kTold, 0), *this; }

KeptCatalog CatalogLog::read() const {
  if (area_ == nullptr) return {};
  const CatalogArea::Half& half = area_->halves[area_->active.load(std::memory_order_acquire) % 2];
  const std::uint64_t used = std::min<std::uint64_t>(half.used.load(std::memory_order_acquire), CatalogArea::kHalf);
  Reader log({reinterpret_cast<const char*>(half.bytes), used});
  Replay replay;
  while (!log.is_at_end()) {
    const std::string_view entry = log.take(log.number<std::uint32_t>());
    if (log.is_good()) replay.entry(entry);
  }
  return std::move(replay).take();
}

bool CatalogLog::commit(const Change& change) {
  if (area_ == nullptr || change.bytes_.empty()) return true;
  CatalogArea::Half& half = area_->halves[area_->active.load(std::memory_order_relaxed) % 2];
  const std::uint64_t used = half.used.load(std::memory_order_relaxed);
  if (change.bytes_.size() > CatalogArea::kHalf - used) return false;
  std::memcpy(half.bytes + used, change.bytes_.data(), change.bytes_.size());
  crash_point("catalog-written");
  half.used.store(used + change.bytes_.size(), std::memory_order_release);
  crash_point("catalog-changed");
  return true;
}

bool CatalogLog::is_worn() const noexcept {
  if (area_ == nullptr) return false;
  const std::uint64_t used = area_->halves[area_->active % 2].used;
  return used > kSmallLog && used / 4 > fresh_;
}

bool CatalogLog::rewrite(const Change& all) {
  if (area_ == nullptr) return true;
  if (all.bytes_.size() > CatalogArea::kHalf) return false;
  const std::uint32_t active = area_->active.load(std::memory_order_relaxed) % 2;
  CatalogArea::Half& old = area_->halves[active];
  CatalogArea::Half& half = area_->halves[1 - active];
  std::memcpy(half.bytes, all.bytes_.data(), all.bytes_.size());
  half.used.store(all.bytes_.size(), std::memory_order_relaxed);
  area_->active.store(1 - active, std::memory_order_release);
  crash_point("catalog-rewritten");
  fresh_ = all.bytes_.size();
  old.used.store(0, std::memory_order_relaxed);
  // The pages go back to the kernel where they are of a file in memory; else they are used again.
  ::madvise(old.bytes, CatalogArea::kHalf, MADV_REMOVE);
  return true;
}

}  // namespace berth::manager
