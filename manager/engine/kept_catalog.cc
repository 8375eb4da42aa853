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

class Writer {
 public:
  explicit Writer(std::string& bytes) noexcept : bytes_(bytes) {}

  template <typename Number>
  void number(Number value) {
    static_assert(std::is_trivially_copyable_v<Number>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view text) {
    number(static_cast<std::uint32_t>(text.size()));
    bytes_.append(text);
  }
  void texts(const std::vector<std::string>& texts) {
    number(static_cast<std::uint32_t>(texts.size()));
    for (const std::string& one : texts) text(one);
  }
  template <typename Number>
  void numbers(const std::vector<Number>& numbers) {
    number(static_cast<std::uint32_t>(numbers.size()));
    for (const Number one : numbers) number(one);
  }

 private:
  std::string& bytes_;
};

/// What a Writer wrote. Beyond the end everything is empty, and `is_good` says so.
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
  template <typename Number>
  Number number() noexcept {
    Number value{};
    const std::string_view taken = take(sizeof value);
    if (!taken.empty()) std::memcpy(&value, taken.data(), sizeof value);
    return value;
  }
  std::string text() { return std::string(take(number<std::uint32_t>())); }
  std::vector<std::string> texts() {
    std::vector<std::string> texts;
    for (auto left = number<std::uint32_t>(); left > 0 && is_good_; --left) texts.push_back(text());
    return texts;
  }
  template <typename Number>
  std::vector<Number> numbers() {
    std::vector<Number> numbers;
    for (auto left = number<std::uint32_t>(); left > 0 && is_good_; --left) numbers.push_back(number<Number>());
    return numbers;
  }

 private:
  std::string_view bytes_;
  bool is_good_ = true;
};

std::string common_of(const ShareFields& fields) {
  std::string bytes;
  Writer writer(bytes);
  writer.text(fields.type);
  writer.text(fields.options);
  writer.texts(fields.mount_command);
  writer.texts(fields.unmount_command);
  writer.texts(fields.environment);
  writer.text(fields.environment_file);
  writer.texts(fields.program);
  writer.text(fields.origin_file);
  const SharePolicy& policy = fields.policy;
  for (const std::chrono::milliseconds time :
       {policy.idle_timeout, policy.mount_timeout, policy.unmount_timeout, policy.stall_timeout, policy.request_timeout,
        policy.attr_timeout, policy.lookup_timeout, policy.positive_timeout, policy.negative_timeout}) {
    writer.number(static_cast<std::int64_t>(time.count()));
  }
  writer.number(policy.access);
  writer.number(policy.on_stale);
  writer.number(policy.reopen);
  writer.texts(policy.required);
  writer.numbers(policy.weights);
  for (const bool flag : {policy.idle_timeout_is_own, policy.read_only, policy.allow_suid, policy.allow_devices,
                          policy.browse, policy.hidden}) {
    writer.number(flag);
  }
  writer.numbers(policy.allow_users);
  writer.numbers(policy.allow_groups);
  writer.number(policy.owner);
  writer.number(policy.group);
  writer.number(policy.mode);
  return bytes;
}

void read_common(std::string_view bytes, ShareFields& fields) {
  Reader reader(bytes);
  fields.type = reader.text();
  fields.options = reader.text();
  fields.mount_command = reader.texts();
  fields.unmount_command = reader.texts();
  fields.environment = reader.texts();
  fields.environment_file = reader.text();
  fields.program = reader.texts();
  fields.origin_file = reader.text();
  SharePolicy& policy = fields.policy;
  for (std::chrono::milliseconds* const time :
       {&policy.idle_timeout, &policy.mount_timeout, &policy.unmount_timeout, &policy.stall_timeout,
        &policy.request_timeout, &policy.attr_timeout, &policy.lookup_timeout, &policy.positive_timeout,
        &policy.negative_timeout}) {
    *time = std::chrono::milliseconds(reader.number<std::int64_t>());
  }
  policy.access = reader.number<Access>();
  policy.on_stale = reader.number<OnStale>();
  policy.reopen = reader.number<Reopen>();
  policy.required = reader.texts();
  policy.weights = reader.numbers<std::uint32_t>();
  for (bool* const flag : {&policy.idle_timeout_is_own, &policy.read_only, &policy.allow_suid, &policy.allow_devices,
                           &policy.browse, &policy.hidden}) {
    *flag = reader.number<bool>();
  }
  policy.allow_users = reader.numbers<uid_t>();
  policy.allow_groups = reader.numbers<gid_t>();
  policy.owner = reader.number<uid_t>();
  policy.group = reader.number<gid_t>();
  policy.mode = reader.number<mode_t>();
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
    fields.name = reader.text();
    fields.sources = reader.texts();
    fields.origin_line = reader.number<std::uint32_t>();
    if (reader.number<std::uint8_t>() == kFollows) common_ = reader.text();
    if (!reader.is_good()) return std::nullopt;
    read_common(common_, fields);
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
  writer.number(kind);
  writer.number(number);
  if (spec != nullptr) {
    const ShareFields fields = spec->fields();
    writer.text(fields.name);
    writer.texts(fields.sources);
    writer.number(fields.origin_line);
    std::string common = common_of(fields);
    writer.number(static_cast<std::uint8_t>(common == common_ ? kAsBefore : kFollows));
    if (common != common_) writer.text(common_ = std::move(common));
  }
  Writer(bytes_).text(entry);
}

Change& Change::begin(std::uint64_t last_incarnation, std::uint64_t configuration) {
  std::string entry;
  Writer writer(entry);
  writer.number(static_cast<std::uint8_t>(kBegin));
  writer.number(last_incarnation);
  writer.number(configuration);
  Writer(bytes_).text(entry);
  return *this;
}
Change& Change::configuration(std::uint64_t number) { return add(kConfiguration, number), *this; }
Change& Change::put(std::uint64_t incarnation, const ShareSpec& spec, bool is_second) {
  return add(is_second ? kPutSecond : kPut, incarnation, &spec), *this;
}
Change& Change::instance(std::uint64_t incarnation, std::uint32_t user) {
  std::string entry;
  Writer writer(entry);
  writer.number(static_cast<std::uint8_t>(kInstance));
  writer.number(incarnation);
  writer.number(user);
  Writer(bytes_).text(entry);
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
