#include "src/daemon/server/source_runner.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <random>
#include <utility>

#include "manager/engine/share_output.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/rate.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/namespaces.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/time_left.h"

namespace berth::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kFirstWait{1};
constexpr seconds kLongestWait{60};
/// A program that has run for so long was no failure, and is started again soon.
constexpr seconds kRanLong{60};
constexpr seconds kGrace{2};
/// How long what a program says is collected before it is kept.
constexpr milliseconds kSettle{50};
/// The least time between two writes of what is kept; and so many times as long as a write has taken.
constexpr milliseconds kBetweenWrites{500};
constexpr int kTimesOfWrite = 5;
constexpr seconds kWriteAgain{5};
/// The least time between two looks whether what is kept is still there.
constexpr seconds kBetweenLooks{1};
/// How much is read of a program in a second: one that writes without end must not take a processor for itself.
constexpr std::size_t kMostInSecond = std::size_t{8} << 20;
constexpr std::size_t kAtOnce = std::size_t{64} << 10;
/// How much of its standard error is shown.
constexpr std::size_t kShownOutput = std::size_t{4} << 10;

TimePoint now() noexcept { return std::chrono::steady_clock::now(); }
WallTime wall_now() noexcept { return std::chrono::system_clock::now(); }

std::string mark_of(const std::string& namespace_directory, const std::string& source) {
  return "BERTH_CATALOG_SOURCE=" + namespace_directory + ":" + source;
}

/// Kills what a program has left that has ended, or that a dead server has started, by the mark in its environment.
/// Another berth may have the same mark, as one in a container: its programs are in its own pid namespace, where
/// hold_all() finds none.
void kill_strays(const std::string& mark) {
  namespace proc = sys::proc;
  const auto is_marked = [&mark](pid_t number) {
    const Result<std::string> environment = proc::read(proc::path_of(number, "environ"));
    if (!environment) return false;
    const std::vector<std::string_view> variables = split(*environment, '\0');
    return std::find(variables.begin(), variables.end(), mark) != variables.end();
  };
  for (const proc::HeldProcess& stray : proc::hold_all(is_marked)) stray.signal(SIGKILL);
}

/// The last whole lines of a text that is too long.
void keep_last(std::string& text, std::size_t most) {
  if (text.size() <= most) return;
  text.erase(0, text.size() - most);
  text.erase(0, std::min(text.find('\n'), text.size() - 1) + 1);
}

/// What was kept of a source by an earlier server.
struct Kept {
  config::KeptShares shares;
  std::optional<struct stat> file;
};

std::optional<struct stat> attributes_of(const std::string& path) {
  struct stat attributes {};
  return ::stat(path.c_str(), &attributes) == 0 ? std::optional(attributes) : std::nullopt;
}

Kept read_kept(const SourceRunner::Setup& setup) {
  const std::optional<struct stat> file = attributes_of(setup.file);
  Result<config::KeptShares> shares = config::read_source_file(setup.file);
  if (shares) return {*std::move(shares), file};
  if (shares.error().code() != ENOENT)
    log::warning("catalog source {}: {}: {}", setup.source.name, setup.file, shares.error().message());
  return {{.lines = {}, .is_whole = !setup.has_shares}, file};
}

}  // namespace

struct SourceRunner::Work {
  explicit Work(SourceRunner& of) : Work(of, read_kept(of.setup_)) {}
  Work(SourceRunner& of, Kept kept)
      : runner(of),
        setup(of.setup_),
        file_(kept.file),
        listing_(std::move(kept.shares.lines), setup.source.max_shares, setup.namespace_directory,
                 kept.shares.is_whole) {
    if (file_) kept_at_ = std::chrono::system_clock::from_time_t(file_->st_mtim.tv_sec);
    secrets_.add_command(setup.source.program);
  }

  void run() {
    kill_strays(mark_of(setup.namespace_directory, setup.source.name));
    for (std::chrono::nanoseconds pause = kFirstWait; !is_stopped();) {
      const TimePoint begun = now();
      run_program();
      if (is_stopped()) break;
      if (now() - begun >= kRanLong) pause = kFirstWait;
      publish();
      // Hosts of a fleet must not come back to their store in step.
      std::uniform_real_distribution<double> share(0.5, 1.0);
      wait(now() + std::chrono::duration_cast<std::chrono::nanoseconds>(pause * share(random_)));
      pause = std::min<std::chrono::nanoseconds>(pause * 2, kLongestWait);
    }
  }

 private:
  /// Whether nothing else has removed or replaced its file. Where that cannot be seen, it is taken as so.
  [[nodiscard]] bool is_file_ours() const {
    struct stat there {};
    if (::stat(setup.file.c_str(), &there) != 0) return !file_ || (errno != ENOENT && errno != ENOTDIR);
    return file_ && there.st_dev == file_->st_dev && there.st_ino == file_->st_ino && there.st_size == file_->st_size &&
           there.st_mtim.tv_sec == file_->st_mtim.tv_sec && there.st_mtim.tv_nsec == file_->st_mtim.tv_nsec;
  }

  /// A file that has gone is written again, also where the store does not change.
  void look_at_file() {
    if (keep_at_ || now() < look_at_) return;
    look_at_ = now() + kBetweenLooks;
    if (is_file_ours()) return;
    log::warning("catalog source {}: {} was removed or replaced: written again", setup.source.name, setup.file);
    keep_at_ = now();
  }

  [[nodiscard]] bool is_stopped() const noexcept {
    pollfd stop{runner.wake_.get(), POLLIN, 0};
    return ::poll(&stop, 1, 0) > 0;
  }

  /// Until `deadline` or the stop, keeping what is still to be kept.
  void wait(TimePoint deadline) {
    while (!is_stopped() && now() < deadline) {
      keep_if_due();
      pollfd stop{runner.wake_.get(), POLLIN, 0};
      ::poll(&stop, 1, sys::poll_timeout(std::min(deadline, keep_at_.value_or(deadline))));
    }
  }

  void run_program() {
    const std::string mark = mark_of(setup.namespace_directory, setup.source.name);
    // Of this run alone: a runner that has come to an end late must not kill the program of the next one.
    const std::string run = "BERTH_CATALOG_RUN=" + std::to_string(now().time_since_epoch().count());
    Result<sys::Process> started = sys::Process::start_question(setup.source.program, {mark, run}, setup.group);
    if (!started) {
      listing_.fail_with("it cannot be started: " + started.error().message(), wall_now());
      return;
    }
    sys::Process program = *std::move(started);
    manager::ShareOutput said(setup.source.name, secrets_,
                              [this](const std::string&, std::string_view lines) { on_output(lines); });
    program.give_output_to([&said](std::string_view bytes) { said(bytes); });
    ++starts_;
    pid_ = program.proc_number();
    listing_.begin_list();
    is_running_ = true;
    publish();
    line_.clear();
    const std::string why = converse(program, program.take_answer_pipe());
    const sys::ExitStatus status = program.end(now() + kGrace);
    kill_strays(run);
    pid_ = 0;
    is_running_ = false;
    if (is_stopped()) return;
    keep_if_due(true);
    listing_.fail_with(why.empty() ? "it has ended with " + to_string(status) : why + "; it was ended", wall_now());
  }

  /// Reads what the program says until it ends, or has to: why then, else "".
  std::string converse(sys::Process& program, const UniqueFd& pipe) {
    heard_at_ = window_begun_ = now();
    in_window_ = 0;
    std::string why;
    for (bool is_open = true; is_open && why.empty();) {
      const bool is_throttled = in_window_ >= kMostInSecond;
      std::array<pollfd, 4> ready{{{runner.wake_.get(), POLLIN, 0},
                                   {is_throttled ? -1 : pipe.get(), POLLIN, 0},
                                   {program.output_pipe(), POLLIN, 0},
                                   {program.pidfd(), POLLIN, 0}}};
      ::poll(ready.data(), ready.size(), sys::poll_timeout(next_deadline(is_throttled)));
      if (ready[0].revents != 0) return "";
      if (ready[2].revents != 0) (void)program.output();
      if (ready[1].revents != 0) is_open = read_from(pipe, why);
      // The rest of what it has written is still to be read.
      if (ready[3].revents != 0 && (ready[1].revents & POLLIN) == 0 && !is_throttled) is_open = false;
      if (now() - window_begun_ >= seconds(1)) {
        window_begun_ = now();
        in_window_ = 0;
      }
      if (listing_.is_listing() && now() - heard_at_ >= setup.source.list_timeout && !is_throttled)
        why =
            "it has written nothing for " + format_duration(setup.source.list_timeout) + " and has not ended its list";
      keep_if_due();
      publish();
    }
    pollfd ended{program.pidfd(), POLLIN, 0};
    const bool has_ended = ::poll(&ended, 1, why.empty() ? 200 : 0) > 0;
    if (why.empty() && !has_ended) why = "it has closed its standard output";
    (void)program.output();
    return why;
  }

  [[nodiscard]] TimePoint next_deadline(bool is_throttled) const {
    TimePoint next = now() + seconds(60);
    if (is_throttled) next = window_begun_ + seconds(1);
    if (keep_at_) next = std::min(next, *keep_at_);
    if (listing_.is_listing()) next = std::min(next, heard_at_ + setup.source.list_timeout);
    return next;
  }

  /// False: no process can write any more.
  bool read_from(const UniqueFd& pipe, std::string& why) {
    std::array<char, kAtOnce> bytes;
    const ssize_t count = ::read(pipe.get(), bytes.data(), bytes.size());
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    if (count == 0) return false;
    heard_at_ = now();
    in_window_ += static_cast<std::size_t>(count);
    std::string_view rest(bytes.data(), static_cast<std::size_t>(count));
    for (std::size_t end = 0; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
      line_.append(rest.substr(0, end));
      if (is_endless(why)) break;
      take_line();
      line_.clear();
    }
    if (why.empty()) line_.append(rest);
    if (is_endless(why)) line_.clear();
    if (listing_.take_change() && !keep_at_) keep_at_ = std::max(now() + kSettle, next_write_);
    return true;
  }

  bool is_endless(std::string& why) const {
    if (line_.size() <= config::kEndlessSourceLine) return false;
    why = "it has written a line of more than " + std::to_string(config::kEndlessSourceLine >> 20) + " MiB";
    return true;
  }

  void take_line() {
    if (line_.ends_with('\r')) line_.pop_back();
    if (line_.empty()) return;
    listing_.take(line_, wall_now());
    crash_point("source-heard");
  }

  /// Keeps the shares on disk, and has them put in force.
  void keep_if_due(bool at_once = false) {
    look_at_file();
    if (!keep_at_ || (!at_once && now() < *keep_at_)) return;
    const TimePoint begun = now();
    const Result<> kept = config::write_source_file(setup.file, listing_.lines(), listing_.is_whole());
    if (!kept) {
      listing_.fail_with("its shares cannot be kept: " + setup.file + ": " + kept.error().message(), wall_now());
      keep_at_ = now() + kWriteAgain;
      return;
    }
    keep_at_.reset();
    file_ = attributes_of(setup.file);
    next_write_ = now() + std::max<Duration>(kBetweenWrites, (now() - begun) * kTimesOfWrite);
    crash_point("source-kept");
    setup.changed();
  }

  void on_output(std::string_view lines) {
    output_.append(lines);
    keep_last(output_, kShownOutput);
    for (std::string_view one : split(lines, '\n')) {
      if (!one.empty() && output_rate_.take(now())) log::info("catalog source {}: {}", setup.source.name, one);
    }
  }

  /// Shows what is so now.
  void publish() {
    std::string state = "down";
    const bool is_listing = listing_.is_listing() && !listing_.has_failed();
    if (is_running_) state = is_listing ? "listing" : listing_.error().empty() ? "synced" : "failing";
    formats::SourceView view{.name = setup.source.name,
                             .state = state,
                             .shares = listing_.lines().size(),
                             .synced = listing_.synced_at() ? listing_.synced_at() : kept_at_,
                             .pid = pid_,
                             .starts = starts_,
                             .error = listing_.error(),
                             .wrong_count = listing_.wrong_count(),
                             .program = secrets_.mask(setup.source.program),
                             .output = output_};
    if (!view.error.empty()) view.error_at = listing_.error_at();
    for (const auto& [name, reason] : listing_.wrong()) {
      if (view.wrong.size() >= formats::SourceView::kMostWrong) break;
      view.wrong.push_back({.share = name, .reason = reason});
    }
    tell_change(view);
    MutexLock lock(runner.mutex_);
    view.since = runner.view_.state == view.state ? runner.view_.since : std::optional(wall_now());
    runner.view_ = std::move(view);
  }

  void tell_change(const formats::SourceView& view) {
    if (view.state == told_state_ && view.error == told_error_) return;
    told_state_ = view.state;
    const bool is_new_error = view.error != told_error_ && !view.error.empty();
    told_error_ = view.error;
    if (is_new_error) {
      log::warning("catalog source {}: {}: {}; {} shares stay as they are", view.name, view.state, view.error,
                   view.shares);
    } else if (view.state == "synced") {
      log::info("catalog source {}: synced, {} shares", view.name, view.shares);
    }
  }

 public:
  SourceRunner& runner;
  const Setup& setup;

 private:
  std::optional<WallTime> kept_at_;
  std::optional<struct stat> file_;  ///< as it was written; absent: it was not there
  config::SourceListing listing_;
  Secrets secrets_;
  bool is_running_ = false;
  pid_t pid_ = 0;
  std::uint64_t starts_ = 0;
  std::string line_;  ///< the beginning of one
  std::string output_;
  TimePoint heard_at_{};
  TimePoint window_begun_{};
  std::size_t in_window_ = 0;  ///< bytes
  std::optional<TimePoint> keep_at_;
  TimePoint look_at_{};
  TimePoint next_write_{};
  Rate output_rate_{20, seconds(1)};
  std::string told_state_, told_error_;
  std::minstd_rand random_{std::random_device{}()};
};

Result<std::shared_ptr<SourceRunner>> SourceRunner::make(Setup setup) {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno();
  std::shared_ptr<SourceRunner> runner(new SourceRunner(std::move(setup), std::move(wake)));
  MutexLock lock(runner->mutex_);
  runner->view_ = {.name = runner->setup_.source.name, .state = "down"};
  return runner;
}

void SourceRunner::run() {
  {
    // Its program and its file are the host's.
    const Result<sys::MountNamespaceVisit> visit = sys::MountNamespaceVisit::enter(setup_.host);
    if (visit) {
      Work(*this).run();
    } else {
      return give_up(visit.error());
    }
  }
  MutexLock lock(mutex_);
  set_ended();
}

void SourceRunner::set_ended() {
  ended_ = true;
  ended_changed_.notify_all();
}

void SourceRunner::give_up(const Error& why) {
  log::error("catalog source {}: {}", setup_.source.name, why.message());
  MutexLock lock(mutex_);
  view_.error = "it cannot be run: " + why.message();
  view_.error_at = wall_now();
  set_ended();
}

bool SourceRunner::has_ended() const { return ended_; }

void SourceRunner::stop() noexcept {
  const std::uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0) {
  }  // one that is full is readable, which is all that is wanted
}

bool SourceRunner::wait_for_end(TimePoint deadline) noexcept {
  MutexLock lock(mutex_);
  while (!ended_ && ended_changed_.wait_until(mutex_, deadline)) {
  }
  return ended_;
}

formats::SourceView SourceRunner::view() const {
  MutexLock lock(mutex_);
  return view_;
}

}  // namespace berth::daemon
