#include "fuse/kept/requests.h"

#include <linux/fuse.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <utility>

#include "fuse/wire/protocol.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/sys/shared_memory.h"

namespace berth::fuse {
namespace {

/// Bytes that are taken for requests without data: two names, or one name and the target of a link.
constexpr std::uint32_t kSmallRequest = 8192;

constexpr unsigned kSequenceBits = 14;
constexpr std::uint64_t kSequenceMask = (std::uint64_t{1} << kSequenceBits) - 1;
static_assert(RequestArea::kRequests <= std::size_t{1} << (64 - NodeRecord::kCountBits - kSequenceBits));

std::uint32_t index_in(std::uint64_t change) noexcept { return static_cast<std::uint32_t>(change >> 32); }

/// Notes the next change, which is about the entry before `index`, and answers its tag.
std::uint64_t note_change(RequestRecord& record, std::uint32_t index) noexcept {
  const std::uint32_t sequence = static_cast<std::uint32_t>(record.change.load(std::memory_order_relaxed)) + 1;
  record.change.store(std::uint64_t{index} << 32 | sequence, std::memory_order_release);
  return tag_of(record);
}

bool is_forget(const fuse_in_header& header) noexcept {
  return header.opcode == FUSE_FORGET || header.opcode == FUSE_BATCH_FORGET;
}

/// Whether the kernel waits for an answer to what was read, unless it has got one.
bool has_answer(const fuse_in_header& header) noexcept {
  // An odd number is that of an interrupt.
  return header.len != 0 && header.opcode != FUSE_INTERRUPT && header.unique != 0 && header.unique % 2 == 0;
}

struct Forget {
  std::uint64_t node = 0;
  bool exists = false;
};

/// The node of the FORGET at `index` of a message that was read.
Forget forget_at(const char* message, std::uint32_t index) noexcept {
  const fuse_in_header header = protocol::header_of({message, sizeof(fuse_in_header)});
  if (header.opcode == FUSE_FORGET) return {header.nodeid, index == 0};
  fuse_batch_forget_in batch;
  std::memcpy(&batch, message + sizeof header, sizeof batch);
  const std::size_t at = sizeof header + sizeof batch + index * sizeof(fuse_forget_one);
  if (index >= batch.count || at + sizeof(fuse_forget_one) > RequestRecord::kMessageSize) return {};
  fuse_forget_one one;
  std::memcpy(&one, message + at, sizeof one);
  return {one.nodeid, true};
}

/// A message is there while its length is not 0. A FORGET without a length has been done.
void drop_message(RequestRecord& record) noexcept {
  std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(record.message)).store(0, std::memory_order_release);
}

/// The next reads must expect requests as large as this one.
void note_size(RequestArea& area, std::size_t size) noexcept {
  const auto bytes = static_cast<std::uint32_t>(size);
  std::uint32_t largest = area.largest.load(std::memory_order_relaxed);
  while (largest < bytes && !area.largest.compare_exchange_weak(largest, bytes, std::memory_order_relaxed)) {
  }
}

/// Nothing was read and nothing is noted.
void clear(RequestRecord& record) noexcept {
  drop_message(record);
  record.unique.store(0, std::memory_order_release);
}

void note(IntentRecord& record, IntentRecord::Kind kind, const FileKey& file, std::uint64_t size) noexcept {
  record.kind.store(IntentRecord::kNone, std::memory_order_relaxed);
  record.device = file.device;
  record.inode = file.inode;
  record.size = size;
  record.kind.store(kind, std::memory_order_release);
}

/// Nothing is counted for the request any more, before all that follows.
void drop_counted(RequestRecord& record, std::memory_order order = std::memory_order_seq_cst) noexcept {
  record.change.store(record.change.load(std::memory_order_relaxed) & 0xffffffffU, order);
}

/// Fills the record of a request that has just begun: with nothing, or with what the first attempt left.
void begin(RequestRecord& record, std::uint64_t unique, const FirstAttempt* first_attempt,
           std::uint32_t deaths) noexcept {
  record.deaths.store(deaths, std::memory_order_relaxed);
  record.fault.store(RequestRecord::kNotKnown, std::memory_order_relaxed);
  drop_counted(record, std::memory_order_relaxed);
  record.handle.store(0, std::memory_order_relaxed);
  record.intent.kind.store(IntentRecord::kNone, std::memory_order_relaxed);
  if (first_attempt != nullptr) note(record.intent, first_attempt->intent, first_attempt->file, first_attempt->size);
  record.unique.store(unique, std::memory_order_release);
}

}  // namespace

std::uint64_t tag_of(const RequestRecord& record) noexcept {
  const std::uint64_t sequence = record.change.load(std::memory_order_relaxed) & kSequenceMask;
  return (std::uint64_t{record.slot} << kSequenceBits | sequence) << NodeRecord::kCountBits;
}

thread_local constinit CurrentRequest* CurrentRequest::current_ = nullptr;

CurrentRequest::CurrentRequest(RequestRecord* record, std::uint64_t unique, const FirstAttempt* first_attempt,
                               std::uint32_t deaths, Requests* requests) noexcept
    : requests_(requests),
      record_(record),
      unique_(unique),
      first_attempt_(first_attempt),
      outer_(std::exchange(current_, this)) {
  if (record_ != nullptr) begin(*record_, unique, first_attempt, deaths);
}

void CurrentRequest::note_fatal() noexcept {
  if (is_noted()) current_->record_->fault.store(RequestRecord::kFatal, std::memory_order_relaxed);
}

CurrentRequest::CurrentRequest(const Requests::InterruptedForget& interrupted) noexcept
    : requests_(nullptr),
      record_(interrupted.record),
      unique_(kForget),
      first_attempt_(nullptr),
      outer_(std::exchange(current_, this)),
      first_forget_(interrupted.first) {}

CurrentRequest::~CurrentRequest() {
  // Answered, or parked, which changes nothing that would have to be undone.
  if (record_ != nullptr) record_->unique.store(0, std::memory_order_release);
  current_ = outer_;
}

std::uint64_t CurrentRequest::note_look_up(std::uint64_t node) noexcept {
  if (current_ == nullptr || current_->record_ == nullptr) return 0;
  RequestRecord& record = *current_->record_;
  const std::uint32_t index = index_in(record.change.load(std::memory_order_relaxed));
  if (index >= RequestRecord::kMaxCounted) return 0;
  record.counted[index].store(node, std::memory_order_relaxed);
  const std::uint64_t tag = note_change(record, index + 1);
  crash_point("look-up-noted");
  return tag;
}

void CurrentRequest::note_forget(std::uint32_t index) noexcept {
  if (current_ == nullptr || current_->record_ == nullptr) return;
  note_change(*current_->record_, index + 1);
  crash_point("forget-noted");
}

void CurrentRequest::note_taken_back() noexcept {
  if (is_noted()) drop_counted(*current_->record_);
}

std::uint64_t CurrentRequest::tag() noexcept {
  return current_ != nullptr && current_->record_ != nullptr ? tag_of(*current_->record_) : 0;
}

void CurrentRequest::note_handle(std::uint64_t handle) noexcept {
  if (current_ != nullptr && current_->record_ != nullptr) {
    current_->record_->handle.store(handle + 1, std::memory_order_release);
    crash_point("handle-noted");
  }
}

void CurrentRequest::note_intent(IntentRecord::Kind kind, const FileKey& file, std::uint64_t size) noexcept {
  if (current_ != nullptr && current_->record_ != nullptr) note(current_->record_->intent, kind, file, size);
}

void CurrentRequest::note_change_ended(int code) noexcept {
  if (current_ != nullptr && (code == 0 || code == ECONNABORTED)) current_->may_have_changed_ = true;
}
bool CurrentRequest::may_have_changed() noexcept { return current_ != nullptr && current_->may_have_changed_; }

bool CurrentRequest::is_resent() noexcept { return current_ != nullptr && current_->resent_; }
void CurrentRequest::note_parked() noexcept {
  if (current_ != nullptr && current_->requests_ != nullptr) current_->requests_->note_parked(current_->unique_);
}

void Requests::note_parked(std::uint64_t unique) noexcept {
  constexpr int kMostKept = 64;  // of those that still wait: then one of them goes
  if (area_ == nullptr) return;
  for (int kept = 0;; ++kept) {
    std::atomic<std::uint64_t>& slot = area_->parked[area_->parked_count++ % RequestArea::kParked];
    const std::uint64_t earlier = slot.load(std::memory_order_relaxed);
    if (earlier != 0 && kept < kMostKept && is_awaited_ && is_awaited_(earlier)) continue;
    slot.store(unique & ~protocol::kUniqueResend);
    return;
  }
}

bool CurrentRequest::is_noted() noexcept { return current_ != nullptr && current_->record_ != nullptr; }
std::uint64_t CurrentRequest::unique() noexcept { return current_ != nullptr ? current_->unique_ : 0; }
const FirstAttempt* CurrentRequest::first_attempt() noexcept {
  return current_ != nullptr ? current_->first_attempt_ : nullptr;
}
std::uint64_t CurrentRequest::poll_number() noexcept {
  if (!is_noted() || protocol::header_of(current_->record_->message).opcode != FUSE_POLL) return 0;
  fuse_poll_in poll;
  std::memcpy(&poll, current_->record_->message + sizeof(fuse_in_header), sizeof poll);
  return poll.kh;
}
std::uint32_t CurrentRequest::first_forget() noexcept { return current_ != nullptr ? current_->first_forget_ : 0; }

RequestRecord* Requests::acquire() noexcept {
  if (area_ == nullptr) return nullptr;
  MutexLock lock(mutex_);
  if (!free_.empty()) {
    RequestRecord* const record = free_.back();
    free_.pop_back();
    return record;
  }
  const std::uint32_t slot = area_->end.load(std::memory_order_relaxed);
  if (slot >= RequestArea::kRequests) return nullptr;
  RequestRecord& record = area_->requests[slot];
  record.slot = slot;
  area_->end.store(slot + 1, std::memory_order_release);
  return &record;
}

void Requests::release(RequestRecord* record) noexcept {
  if (record == nullptr) return;
  clear(*record);
  // Frees the pages that a large request used; the rest of the record is in the pages before.
  sys::release_shared_pages(reinterpret_cast<std::byte*>(record->message), sizeof record->message);
  give_back(record);
}

void Requests::make_ready(RequestRecord* record, std::size_t& ready) const noexcept {
  if (record == nullptr) return;
  const std::uint32_t wanted = std::max(kSmallRequest, area_->largest.load(std::memory_order_relaxed));
  if (ready >= wanted) return;
  sys::take_shared_pages(reinterpret_cast<std::byte*>(record->message), wanted);
  ready = wanted;
}

void Requests::give_back(RequestRecord* record) noexcept {
  MutexLock lock(mutex_);
  try {
    free_.push_back(record);
  } catch (const std::exception&) {
    // The record is not used again before the next server.
  }
}

void Requests::add(Interrupted& interrupted, const RequestRecord& record, const WasApplied& was_applied) {
  const std::uint64_t change = record.change.load();
  const std::uint32_t count = std::min<std::uint32_t>(index_in(change), RequestRecord::kMaxCounted);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t node = record.counted[i].load();
    // The last FORGET was noted, and may not have been done.
    if (i + 1 < count || was_applied(node, tag_of(record))) interrupted.counted.push_back(node);
  }
  if (const std::uint64_t handle = record.handle.load(); handle != 0) interrupted.handles.push_back(handle - 1);
  const auto intent = static_cast<IntentRecord::Kind>(record.intent.kind.load());
  if (intent == IntentRecord::kNone) return;
  interrupted.first_attempt = {
      .intent = intent, .file = {record.intent.device, record.intent.inode}, .size = record.intent.size};
}

/// Whether a request that was under way has caused the death of the last server. It is known where a thread got a
/// signal; if memory ran out, it may be any request.
std::uint32_t Requests::count_death(RequestRecord& record, bool crashed, bool is_known_which) const noexcept {
  const std::uint32_t fault = record.fault.exchange(RequestRecord::kOfEarlier);
  const bool counts = crashed && (is_known_which ? fault == RequestRecord::kFatal : fault != RequestRecord::kOfEarlier);
  return counts ? ++record.deaths : record.deaths.load();
}

void Requests::take_over(const WasApplied& was_applied, Undo undo) {
  undo_ = std::move(undo);
  if (area_ == nullptr) return;
  MutexLock lock(mutex_);
  const std::uint32_t end = std::min<std::uint32_t>(area_->end.load(), RequestArea::kRequests);
  const bool crashed = area_->server_crashed.exchange(0) != 0;
  const bool is_known_which = std::any_of(area_->requests, area_->requests + end, [](const RequestRecord& record) {
    return record.unique != 0 && record.fault == RequestRecord::kFatal;
  });
  for (std::uint32_t slot = 0; slot < end; ++slot) {
    RequestRecord& record = area_->requests[slot];
    const fuse_in_header header = protocol::header_of(record.message);
    if (header.len != 0 && is_forget(header)) {
      // If a request was read and not begun, `change` still holds that of the request before: entry 0 is not noted.
      std::uint32_t first = record.unique == kForget ? index_in(record.change.load()) : 0;
      if (first > 0) {
        const Forget last = forget_at(record.message, first - 1);
        if (last.exists && !was_applied(last.node, tag_of(record))) --first;
      }
      forgets_.push_back({&record, first});
    } else if (const std::uint64_t unique = record.unique;
               unique == kForget || (unique != 0 && unique % 2 == 0 && is_awaited_ && !is_awaited_(unique))) {
      // The server died between the answer and the end of the request: all of it counts. A FORGET has no answer, and
      // what is counted in its record is of earlier requests.
      clear(record);
      free_.push_back(&record);
    } else if (unique != 0) {
      // Two have the same number when the second server died right after it had begun with what the first one left.
      InterruptedRequest& interrupted = interrupted_[unique & ~RequestRecord::kGivenUp];
      interrupted.records.push_back(&record);
      interrupted.deaths = std::max(interrupted.deaths, count_death(record, crashed, is_known_which));
      add(interrupted.what, record, was_applied);
    } else {
      // Read, and begun or not: a thread can be killed on its way back from read(2), and what it reads may be queued.
      if (has_answer(header)) read_.push_back(header.unique & ~protocol::kUniqueResend);
      free_.push_back(&record);
    }
  }
  interrupted_count_ = interrupted_.size();
}

void Requests::drop_abandoned() {
  if (!is_awaited_) return;
  std::vector<std::uint64_t> numbers;
  {
    MutexLock lock(mutex_);
    for (const auto& [unique, interrupted] : interrupted_) numbers.push_back(unique);
  }
  for (const std::uint64_t unique : numbers) {
    if (is_awaited_(unique)) continue;
    if (const std::optional<InterruptedRequest> interrupted = find_interrupted(unique)) finish(*interrupted);
  }
}

std::vector<std::uint64_t> Requests::unanswered() {
  std::vector<std::uint64_t> numbers;
  if (area_ == nullptr) return numbers;
  std::copy_if(std::begin(area_->parked), std::end(area_->parked), std::back_inserter(numbers),
               [](std::uint64_t unique) { return unique != 0; });
  numbers.insert(numbers.end(), read_.begin(), read_.end());
  MutexLock lock(mutex_);
  for (const auto& [unique, interrupted] : interrupted_) numbers.push_back(unique);
  return numbers;
}

void Requests::undo_all() {
  std::vector<InterruptedRequest> all;
  {
    MutexLock lock(mutex_);
    for (auto& [unique, interrupted] : std::exchange(interrupted_, {})) all.push_back(std::move(interrupted));
    interrupted_count_ = 0;
  }
  for (const InterruptedRequest& interrupted : all) finish(interrupted);
}

std::vector<std::uint64_t> Requests::inherited_handles() {
  std::vector<std::uint64_t> numbers;
  MutexLock lock(mutex_);
  for (const auto& [unique, interrupted] : interrupted_) {
    numbers.insert(numbers.end(), interrupted.what.handles.begin(), interrupted.what.handles.end());
  }
  return numbers;
}

void Requests::finish_forgets(const Process& process) {
  for (const InterruptedForget& interrupted : std::exchange(forgets_, {})) {
    CurrentRequest request(interrupted);
    const std::size_t size = protocol::header_of(interrupted.record->message).len;
    process(protocol::Message({interrupted.record->message, size}));
    clear(*interrupted.record);
    MutexLock lock(mutex_);
    free_.push_back(interrupted.record);
  }
}

void Requests::handle(RequestRecord* record, const protocol::Message& message, const Process& process) {
  crash_point("read");
  if (area_ != nullptr) note_size(*area_, message.bytes.size());
  const fuse_in_header& header = message.header;
  if (is_forget(header)) {
    const CurrentRequest request(record, kForget, nullptr);
    process(message);
    crash_point("forget-done");
    if (record != nullptr) drop_message(*record);
    crash_point("forget-dropped");
    return;
  }
  const std::uint64_t unique = header.unique & ~protocol::kUniqueResend;
  if (record == nullptr) note_parked(unique);
  std::optional<InterruptedRequest> interrupted;
  if ((header.unique & protocol::kUniqueResend) != 0) interrupted = find_interrupted(unique);
  CurrentRequest request(record, unique, interrupted ? &interrupted->what.first_attempt : nullptr,
                         interrupted ? interrupted->deaths : 0, this);
  request.resent_ = (header.unique & protocol::kUniqueResend) != 0;
  crash_point("begun");
  if (interrupted) finish(*interrupted);
  if (interrupted && interrupted->deaths >= kMostDeaths && refuse_) return refuse_(message);
  process(message);
  crash_point("answered");
}

std::optional<Requests::InterruptedRequest> Requests::find_interrupted(std::uint64_t unique) {
  MutexLock lock(mutex_);
  const auto found = interrupted_.find(unique);
  if (found == interrupted_.end()) return std::nullopt;
  InterruptedRequest interrupted = std::move(found->second);
  interrupted_.erase(found);
  interrupted_count_ = interrupted_.size();
  return interrupted;
}

/// The record of the request that is handled now already holds all that matters: from here on the old one may go.
void Requests::finish(const InterruptedRequest& interrupted) {
  // First: if the server dies over it, a look-up that is counted too often is harmless, one that is undone twice is
  // not.
  for (RequestRecord* const record : interrupted.records) drop_counted(*record);
  crash_point("taking-back");
  undo_(interrupted.what);
  crash_point("taken-back");
  for (RequestRecord* const record : interrupted.records) clear(*record);
  MutexLock lock(mutex_);
  free_.insert(free_.end(), interrupted.records.begin(), interrupted.records.end());
}

}  // namespace berth::fuse
