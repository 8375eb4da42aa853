#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "manager/backends/attempt_namespace.h"
#include "manager/backends/inherited_program.h"
#include "manager/backends/output_reader.h"
#include "manager/backends/started_programs.h"
#include "manager/backends/stray_programs.h"
#include "manager/engine/core.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/proc.h"

/// How mounts outlive the server that made them: what the MountRecord of a share holds, and how the next manager
/// takes the mount over.
namespace berth::manager {
namespace {

// Two binaries read and write these: another layout is another KeptDaemon::kVersion.
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free &&
              std::atomic<std::int32_t>::is_always_lock_free);
static_assert(sizeof(MountRecord) == 296 && offsetof(MountRecord, state) == 8 && offsetof(MountRecord, id) == 16 &&
              offsetof(MountRecord, root) == 24 && offsetof(MountRecord, source_device) == 48 &&
              offsetof(MountRecord, released) == 64 && offsetof(MountRecord, overmount) == 72 &&
              offsetof(MountRecord, programs) == 80 && offsetof(MountRecord, berth) == 88 &&
              offsetof(MountRecord, source) == 92);
static_assert(sizeof(FailureRecord) == 1840 && offsetof(FailureRecord, retry_at) == 8 &&
              offsetof(FailureRecord, story) == 40 && offsetof(FailureRecord, command_length) == 440 &&
              offsetof(FailureRecord, output) == 816);
static_assert(offsetof(KeptMounts, records) == 264 && offsetof(KeptMounts, failures) == 38797576);

bool is_open(int descriptor) noexcept { return descriptor >= 0 && ::fcntl(descriptor, F_GETFD) >= 0; }

/// Whether a number, which may have been used again since, is still a pidfd of that program.
bool is_program(int pidfd, pid_t number) { return number > 0 && sys::proc::process_of(pidfd) == number; }

UniqueFd take(std::int32_t descriptor) noexcept { return UniqueFd(is_open(descriptor) ? descriptor : -1); }

/// As much as there is room for, and a zero.
template <std::size_t kSize>
void keep_text(std::string_view text, std::array<char, kSize>& into) noexcept {
  into[text.copy(into.data(), kSize - 1)] = '\0';
}

AttemptFailure failure_of(const FailureRecord& kept, const Error& error) {
  AttemptFailure failure{.error = error, .exit = kept.exit.data(), .output = kept.output.data()};
  std::string_view command(kept.command.data(), kept.command_length);
  while (!command.empty()) {
    const std::size_t end = command.find('\0');
    failure.command.emplace_back(command.substr(0, end));
    if (end == std::string_view::npos) failure.command.back() += "...";  // cut off
    command.remove_prefix(end == std::string_view::npos ? command.size() : end + 1);
  }
  if (kept.is_output_cut != 0)
    failure.output.insert(0, "(what it said before this is not kept over the death of a server)\n");
  return failure;
}

/// The whole source of which the beginning is kept: a secret in it is known by the whole source only.
std::string source_of(const Share& share, const MountRecord& kept) {
  const std::string begin = kept.source.data();
  const std::vector<std::string>& sources = share.spec().sources();
  const auto whole = std::find_if(sources.begin(), sources.end(),
                                  [&begin](const std::string& source) { return source.starts_with(begin); });
  return begin.empty() || whole == sources.end() ? begin : *whole;
}

}  // namespace

/// The record of a share; made when it is first needed. Null: there will be no successor, or there are too many shares.
MountRecord* Manager::Core::kept_record_of(Record& record) {
  KeptMounts* const area = setup_.kept;
  if (area == nullptr) return nullptr;
  if (record.kept != nullptr) return record.kept;
  if (!free_records_.empty()) {
    record.kept = free_records_.back();
    free_records_.pop_back();
    record.kept->programs = -1;
    record.kept->unmount_programs = -1;
    record.kept->share = record.share.incarnation();
    return record.kept;
  }
  const std::uint32_t slot = area->used;
  if (slot >= KeptMounts::kMaxRecords) return nullptr;
  MountRecord& kept = area->records[slot];
  kept.share = record.share.incarnation();
  kept.programs = -1;
  kept.unmount_programs = -1;
  area->used = slot + 1;
  return record.kept = &kept;
}

void Manager::Core::keep_state(Record& record, MountRecord::State state) {
  if (MountRecord* const kept = kept_record_of(record)) kept->state = state;
}

void Manager::Core::keep_mounted(Record& record) {
  MountRecord* const kept = kept_record_of(record);
  if (kept == nullptr) return;
  kept->state = MountRecord::kMounting;
  kept->generation = record.share.mount_generation();
  kept->id = record.mount.id;
  kept->root = record.mount.root.get();
  const HelperProcess* const helper = record.mount.helper.get();
  kept->helper = helper != nullptr ? helper->pid() : 0;
  kept->helper_pidfd = helper != nullptr ? helper->process() : -1;
  const LeftOutput* const left = record.mount.output.get();
  kept->helper_output = left != nullptr ? left->descriptor() : helper != nullptr ? helper->output() : -1;
  kept->programs = record.mount.programs ? record.mount.programs->descriptor() : -1;
  kept->source_number = record.source_number;
  kept->source_device = record.mount.identity.device;
  kept->source_inode = record.mount.identity.inode;
  kept->holds_only_copy = record.mount.holds_only_copy ? 1 : 0;
  const std::size_t length = std::min(record.mount.source.size(), kept->source.size() - 1);
  std::memcpy(kept->source.data(), record.mount.source.data(), length);
  kept->source[length] = '\0';
  kept->state = MountRecord::kMounted;
}

/// Records that mounting a share has failed, or that it works again.
void Manager::Core::keep_last_failure(Record& record) {
  const auto* const failed = std::get_if<life_cycle::Failed>(&record.state);
  const auto* const mounting = std::get_if<life_cycle::Mounting>(&record.state);
  const bool is_failing = failed != nullptr || (mounting != nullptr && (mounting->overdue || record.is_failing));
  if (setup_.kept == nullptr || (!is_failing && !record.failure_is_kept)) return;
  const MountRecord* const kept = kept_record_of(record);
  if (kept == nullptr) return;
  FailureRecords& records = setup_.kept->failures[static_cast<std::size_t>(kept - setup_.kept->records.data())];
  FailureRecord& slot = records.slots[(records.writes + 1) % 2];
  slot = FailureRecord{.failures = record.failures};
  if (is_failing) keep_failure(record, slot);
  ++records.writes;
  record.failure_is_kept = is_failing;
}

void Manager::Core::keep_failure(const Record& record, FailureRecord& slot) {
  Error error(ETIMEDOUT);
  if (record.last_failure) {
    error = record.last_failure->failure.error;
    slot.failed_at = std::chrono::nanoseconds(record.last_failure->when.time_since_epoch()).count();
    slot.took = record.last_failure->took.count();
  }
  if (const auto* const failed = std::get_if<life_cycle::Failed>(&record.state)) {
    error = failed->error;
    slot.attempts = failed->attempts;
    slot.retry_at = std::chrono::nanoseconds(failed->retry_at.time_since_epoch()).count();
  } else if (const auto* const mounting = std::get_if<life_cycle::Mounting>(&record.state)) {
    slot.attempts = mounting->overdue ? mounting->attempt : mounting->attempt - 1;
  }
  slot.code = error.code();
  keep_text(error.story(), slot.story);
  if (!record.last_failure) return;
  const AttemptFailure& failure = record.last_failure->failure;
  std::string command;
  for (const std::string& argument : failure.command) command.append(argument).push_back('\0');
  slot.command_length = static_cast<std::uint32_t>(std::min(command.size(), slot.command.size()));
  command.copy(slot.command.data(), slot.command_length);
  keep_text(failure.exit, slot.exit);
  // The reason is at the end more often than not.
  const std::size_t cut = failure.output.size() - std::min(failure.output.size(), slot.output.size() - 1);
  keep_text(std::string_view(failure.output).substr(cut), slot.output);
  slot.is_output_cut = cut > 0 ? 1 : 0;
}

/// Callers that were answered shortly before that a share cannot be mounted get the same answer, and its server is not
/// asked sooner.
void Manager::Core::take_over_failure(Record& record, const FailureRecords& kept) {
  if (kept.writes == 0) return;
  const FailureRecord& last = kept.slots[kept.writes % 2];
  record.failures = last.failures;
  if (last.code == 0) return;
  record.failure_is_kept = true;
  record.is_failing = true;
  const Error error(last.code, last.story.data());
  const TimePoint retry_at{std::chrono::duration_cast<Duration>(std::chrono::nanoseconds(last.retry_at))};
  record.state = life_cycle::Failed{.attempts = last.attempts, .retry_at = retry_at, .error = error};
  record.timer = retry_at;
  record.last_failure = FailureReport{.when = WallTime(std::chrono::nanoseconds(last.failed_at)),
                                      .attempt = last.attempts,
                                      .took = std::chrono::nanoseconds(last.took),
                                      .failure = failure_of(last, error)};
  publish(record);
  schedule(record);
}

/// Programs that a dead server has asked are ended: its callers' kernel asks again. That may take as long as one is
/// stuck in the kernel.
void Manager::Core::take_over_look_ups(KeptMounts& area) {
  const auto is_of_program = [](std::int32_t descriptor) { return descriptor > 0; };
  free_look_ups_.clear();
  for (std::size_t slot = 0; slot < area.look_ups.size(); ++slot) {
    std::atomic<std::int32_t>& kept = area.look_ups[slot];
    stray_look_ups_[slot] = is_of_program(kept) ? take_over_programs(take(kept), setup_.berth_directory) : nullptr;
    if (stray_look_ups_[slot] == nullptr) {
      kept = -1;
      free_look_ups_.push_back(slot);
    }
  }
}

/// When no descriptor is closed any more.
void Manager::Core::end_stray_look_ups() {
  for (std::size_t slot = 0; slot < stray_look_ups_.size(); ++slot) {
    if (stray_look_ups_[slot] == nullptr) continue;
    submit(look_up_pool_.get(), [self = shared_from_this(), slot] {
      self->stray_look_ups_[slot]->end(self->clock_.now(), -1);
      self->post([core = self.get(), slot] {
        core->setup_.kept->look_ups[slot] = -1;
        core->stray_look_ups_[slot].reset();
        core->free_look_ups_.push_back(slot);
        core->ask_sources();
      });
    });
  }
}

/// Takes over what the last manager had mounted. What it was about to mount or to unmount is requested as soon as this
/// one begins, where anything is there, and forgotten where nothing is.
void Manager::Core::take_over_mounts() {
  KeptMounts* const area = setup_.kept;
  if (area == nullptr) return;
  take_over_look_ups(*area);
  std::map<std::uint64_t, std::shared_ptr<Share>> shares;
  if (area->used != 0) shares = incarnations();
  for (std::uint32_t slot = 0; slot < area->used; ++slot) {
    MountRecord& kept = area->records[slot];
    if (kept.share == 0) free_records_.push_back(&kept);
    const auto found = shares.find(kept.share);
    if (found == shares.end()) continue;
    Record& record = record_of(*found->second);
    record.kept = &kept;
    record.source = source_of(record.share, kept);
    record.share.continue_generations(kept.generation);
    record.overmount = kept.overmount;
    record.berth = kept.berth;
    if (kept.state != MountRecord::kMounted) take_over_failure(record, area->failures[slot]);
    if (kept.state == MountRecord::kMounted && is_open(kept.root)) {
      take_over_mount(record, kept);
    } else if (kept.state != MountRecord::kNone) {
      settle_unfinished(record, kept);
    }
    if (kept.state == MountRecord::kNone) look_for_inherited_holders(record, kept.released);
  }
  for (const auto& [share, record] : records_) {
    if (std::holds_alternative<life_cycle::Mounted>(record->state)) hold_mounted(*record);
  }
  publish_shown();
}

void Manager::Core::take_over_mount(Record& record, const MountRecord& kept) {
  record.mount.id = kept.id;
  record.mount.root = take(kept.root);
  record.mount.source = source_of(record.share, kept);
  record.mount.holds_only_copy = kept.holds_only_copy != 0;
  record.mount.identity = {.device = kept.source_device, .inode = kept.source_inode};
  record.source_number = source_watch_ ? kept.source_number : 0;
  if (record.source_number != 0) ++watched_[record.source_number];
  if (is_open(kept.helper_pidfd))
    record.mount.helper = std::make_unique<InheritedProgram>(kept.helper, take(kept.helper_pidfd));
  read_inherited_output(record, take(kept.helper_output));
  record.mount.programs = take_over_programs(take(kept.programs), berths_.path_of(berth_of(record)));
  record.mounts = 1;
  const bool native = kept.id != 0 && is_to_be_native(record.share);
  life_cycle::Mounted mounted{.since = clock_.now()};
  mounted.stays = record.mount.holds_only_copy && !record.share.spec().policy().idle_timeout_is_own;
  mounted.native = native ? life_cycle::Native::kOff : life_cycle::Native::kNever;
  record.state = mounted;
  ++active_;
  record.share.touch(clock_.now());
  record.share.take_over_root(record.mount.root.get());
  record.share.gate().open();
  if (record.mount.helper) watch_helper(record);
  watch_health(record);
  record.timer = mounted.since + std::max<Duration>(record.share.spec().policy().idle_timeout, life_cycle::kLinger);
  keep_mounted(record);
  publish(record);
  schedule(record);
}

/// What the share's secrets are must be known before anything is shown. The files that hold them may be on a file
/// system that does not answer, and no take-over waits for one.
void Manager::Core::read_inherited_output(Record& record, UniqueFd pipe) {
  std::shared_ptr<OutputReader> reader = OutputReader::hold(std::move(pipe));
  record.mount.output = reader;
  if (!reader) return;
  submit(operations_.get(), [self = shared_from_this(), &record, held = std::weak_ptr<OutputReader>(reader)] {
    std::function<void(std::string_view)> said = self->output_of(record.share);
    self->post([core = self.get(), &record, held, said = std::move(said)]() mutable {
      // Unless the mount is gone by now.
      const std::shared_ptr<OutputReader> there = held.lock();
      if (!there || there->begin(std::move(said))) return;
      // A pipe that nothing reads would stop the program when it is full; one without a reader does not.
      record.mount.output.reset();
      core->keep_mounted(record);
    });
  });
}

void Manager::Core::settle_unfinished(Record& record, MountRecord& kept) {
  const std::string berth = berths_.path_of(berth_of(record));
  const Result<bool> there = sys::is_mountpoint(berth);
  if (!there || *there) {
    record.stray_programs = take_over_programs(take(kept.programs), berth);
    record.stray_unmount = take_over_started_programs(take(kept.unmount_programs));
    return post([this, &record] { feed(record.share, life_cycle::LeaseWanted{"an earlier server was about to"}); });
  }
  // Nothing needs it any more. Its descriptors are closed with all that are left over; until then their numbers stay
  // taken.
  if (is_program(kept.helper_pidfd, kept.helper)) {
    InheritedProgram(kept.helper, copy_of(kept.helper_pidfd)).end(clock_.now(), -1);
  }
  const std::unique_ptr<AttemptPrograms> programs = take_over_programs(copy_of(kept.programs), berth);
  if (programs) programs->end(clock_.now(), -1);
  kept.programs = -1;
  const std::unique_ptr<AttemptPrograms> unmount = take_over_started_programs(copy_of(kept.unmount_programs));
  if (unmount) unmount->end(clock_.now(), -1);
  kept.unmount_programs = -1;
  end_stray_programs(berth);
  kept.state = MountRecord::kNone;
  berths_.remove(berth_of(record));
}

std::vector<int> Manager::Core::kept_descriptors() const {
  std::vector<int> numbers;
  if (source_watch_) numbers.push_back(source_watch_->descriptor());
  for (const std::unique_ptr<AttemptPrograms>& programs : stray_look_ups_) {
    if (programs) numbers.push_back(programs->descriptor());
  }
  for (const auto& [share, record] : records_) {
    numbers.push_back(record->mount.root.get());
    for (const AttemptPrograms* const programs :
         {record->mount.programs.get(), record->stray_programs.get(), record->stray_unmount.get()}) {
      if (programs != nullptr) numbers.push_back(programs->descriptor());
    }
    if (const LeftOutput* const left = record->mount.output.get(); left != nullptr)
      numbers.push_back(left->descriptor());
    const HelperProcess* const helper = record->mount.helper.get();
    if (helper == nullptr) continue;
    for (const int number : {helper->process(), helper->output()}) numbers.push_back(number);
  }
  return numbers;
}

}  // namespace berth::manager
