#include "src/cli/tree.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "src/lib/base/text.h"
#include "src/lib/formats/json.h"
#include "src/lib/formats/names.h"
#include "src/lib/sys/file.h"

namespace berth::cli {

namespace {

/// A namespace of the most shares, with room for long names.
constexpr std::size_t kMostRead = std::size_t{256} << 20;

/// How often a file is read that cannot signal that it has more, in ms.
constexpr int kPollInterval = 250;

std::string user_name(uid_t uid) {
  const passwd* const user = ::getpwuid(uid);  // NOLINT(concurrency-mt-unsafe): one thread asks
  return user != nullptr ? user->pw_name : "the user " + std::to_string(uid);
}

std::string group_name(gid_t gid) {
  const group* const found = ::getgrgid(gid);  // NOLINT(concurrency-mt-unsafe): one thread asks
  return found != nullptr ? found->gr_name : std::to_string(gid);
}

/// Hands over what can be read now, to the end of the file. False when `take` wants no more.
Result<bool> drain(int fd, bool& read_any, const std::function<bool(std::string_view)>& take) {
  std::array<char, 65536> buffer;
  read_any = false;
  while (true) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno();
    if (got == 0) return true;
    read_any = true;
    if (!take(std::string_view(buffer.data(), static_cast<std::size_t>(got)))) return false;
  }
}

/// Waits until `fd` may have more. A file that is always readable, as plain files are, is read again after
/// kPollInterval.
Result<> wait_for_more(int fd, bool read_any) {
  pollfd waited{fd, POLLIN, 0};
  const int ready = ::poll(&waited, 1, -1);
  if (ready < 0 && errno != EINTR) return fail_errno();
  // The namespace is gone; read(2) knows the errno.
  if (ready > 0 && (waited.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0 && !read_any) return fail(ENOTCONN);
  if (ready > 0 && !read_any) static_cast<void>(::poll(nullptr, 0, kPollInterval));
  return {};
}

volatile sig_atomic_t alarm_has_rung = 0;

/// While it lives, system calls of this thread that wait end with EINTR when the time is over. One at a time.
class Alarm {
 public:
  explicit Alarm(std::chrono::milliseconds after) {
    alarm_has_rung = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { alarm_has_rung = 1; };  // without SA_RESTART
    ::sigaction(SIGALRM, &action, &before_);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGALRM;
    event._sigev_un._tid = static_cast<pid_t>(::gettid());
    is_set_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    // Again and again: the first may come just before the call that it is to end.
    constexpr long kAgain = 50'000'000;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(after);
    const itimerspec when{.it_interval = {0, kAgain},
                          .it_value = {seconds.count(), std::chrono::nanoseconds(after - seconds).count()}};
    if (is_set_) ::timer_settime(timer_, 0, &when, nullptr);
  }
  ~Alarm() {
    if (is_set_) ::timer_delete(timer_);
    ::sigaction(SIGALRM, &before_, nullptr);
  }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

 private:
  struct sigaction before_ {};
  timer_t timer_{};
  bool is_set_ = false;
};

/// Writes a word in one write(2), for each is a word of its own.
Result<> write_word(const std::string& file, std::string_view word) {
  const UniqueFd control = TRY(sys::open_at(AT_FDCWD, file.c_str(), O_WRONLY));
  const std::string line = std::string(word) + "\n";
  if (::write(control.get(), line.data(), line.size()) < 0) return fail_errno();
  return {};
}

}  // namespace

std::string Tree::path(std::string_view share, std::string_view file) const {
  return formats::share_path(directory_, share).append("/").append(file);
}

Result<std::string> Tree::read(std::string_view file) const {
  return sys::read_file(formats::tree_path(directory_).append("/").append(file), kMostRead);
}

Result<std::string> Tree::read(std::string_view share, std::string_view file) const {
  TRY_VOID(check_exists(share));
  return sys::read_file(path(share, file), kMostRead);
}

Result<> Tree::check_exists(std::string_view share) const {
  // A directory above shares ("home" of "home/alice") has no control file.
  if (::faccessat(AT_FDCWD, path(share, formats::kControl).c_str(), F_OK, AT_EACCESS) == 0) return {};
  if (errno != ENOENT && errno != ENOTDIR) return fail_errno();
  std::string story = "no such share; `berth status` shows all";
  // Only to add to the message, so its own failure is ignored.
  const Result<formats::NamespaceView> known = read(formats::kStatusJson).and_then(formats::parse_namespace_json);
  if (known) {
    for (const formats::FailedLookUpView& failed : known->failed_look_ups) {
      if (failed.name == share) return fail(failed.code, "the look-up has failed: " + failed.story);
    }
    std::vector<std::string_view> names;
    for (const formats::ShareSummary& summary : known->shares) {
      if (summary.name.starts_with(std::string(share) + "/")) {
        return fail(ENOENT, "a directory of shares; name one of them, such as " + quote(summary.name));
      }
      names.push_back(summary.name);
    }
    const std::string_view meant = nearest(share, names);
    if (!meant.empty()) story = "no such share; did you mean " + quote(meant) + "?";
  }
  return fail(ENOENT, std::move(story));
}

void Tree::look_up(std::string_view share) const {
  struct stat attributes {};
  // Whether it is there now is for check_exists() to see.
  (void)::stat((directory_ + "/" + std::string(share)).c_str(), &attributes);
}

Result<> Tree::write(std::string_view share, formats::ControlCommand word) const {
  if (word == formats::ControlCommand::kMount) look_up(share);
  TRY_VOID(check_exists(share));
  return write_word(path(share, formats::kControl), formats::to_string(word));
}

Result<> Tree::write(formats::HostCommand word, std::optional<std::chrono::milliseconds> timeout) const {
  const std::string file = formats::tree_path(directory_).append("/").append(formats::kControl);
  if (!timeout) return write_word(file, formats::to_string(word));
  const Alarm alarm(*timeout);
  Result<> written = write_word(file, formats::to_string(word));
  if (!written && written.error().code() == EINTR && alarm_has_rung != 0) return fail(ETIMEDOUT);
  return written;
}

Result<> Tree::attach(std::string_view share, const std::string& instance, const std::string& volume) const {
  look_up(share);
  TRY_VOID(check_exists(share));
  constexpr mode_t kMode = 0755;
  const std::string parent = path(share, formats::kAttachments) + "/" + instance;
  // A process that detaches the last volume of the instance takes its directory away.
  constexpr int kTries = 16;
  for (int attempt = 1;; ++attempt) {
    const bool made = ::mkdir(parent.c_str(), kMode) == 0;
    if (!made && errno != EEXIST) return fail_errno();
    if (::mkdir((parent + "/" + volume).c_str(), kMode) == 0 || errno == EEXIST) return {};
    const Error error = Error::last();
    if (error.code() == ENOENT && attempt < kTries) continue;
    if (made) ::rmdir(parent.c_str());
    return fail(error);
  }
}

Result<> Tree::detach(std::string_view share, const std::string& instance, const std::string& volume) const {
  TRY_VOID(check_exists(share));
  const std::string parent = path(share, formats::kAttachments) + "/" + instance;
  if (::rmdir((parent + "/" + volume).c_str()) < 0) {
    if (errno == ENOENT) {
      return fail(ENOENT, "it has no attachment " + quote(instance + "/" + volume) + "; see `berth status " +
                              quote_command({std::string(share)}) + "`");
    }
    return fail_errno();
  }
  // The last volume takes the instance with it; one that has others is not empty, and one that is gone is as well.
  ::rmdir(parent.c_str());
  return {};
}

Result<> Tree::events(bool follow, const std::function<bool(std::string_view)>& take) const {
  const std::string path = formats::tree_path(directory_).append("/").append(formats::kEvents);
  const UniqueFd file = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY));
  bool read_any = true;
  while (TRY(drain(file.get(), read_any, take)) && follow) TRY_VOID(wait_for_more(file.get(), read_any));
  return {};
}

bool Tree::may_change(std::string_view share) const {
  return ::faccessat(AT_FDCWD, path(share, formats::kControl).c_str(), W_OK, AT_EACCESS) == 0;
}

std::string Tree::who_may_change(std::string_view share) const {
  struct stat attributes {};
  if (::stat(path(share, formats::kControl).c_str(), &attributes) < 0) return "root";
  std::string text = user_name(attributes.st_uid);
  if ((attributes.st_mode & S_IWGRP) != 0 && attributes.st_gid != 0) {
    text.append(" and the group ").append(group_name(attributes.st_gid));
  }
  return text;
}

}  // namespace berth::cli
