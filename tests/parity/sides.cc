#include "tests/parity/sides.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "src/lib/sys/process.h"
#include "tests/parity/actors.h"
#include "tests/parity/options.h"

namespace berth::test {
namespace {

constexpr off_t kImageSize = 512L << 20;
constexpr auto kPatience = std::chrono::seconds(60);
/// Runs that minimising may take.
constexpr int kMostTries = 300;
/// Files are read and their extended attributes looked at after as many operations, and at the end.
constexpr std::size_t kDataEvery = 6;

std::string tool_failed(const std::vector<std::string>& argv) {
  const Result<sys::Finished> finished = sys::run(argv, std::chrono::steady_clock::now() + kPatience);
  if (!finished) return argv.front() + ": " + finished.error().message();
  return finished->status.success() ? "" : argv.front() + ": " + finished->output;
}

/// Takes off the flags of chattr(1) that would keep the directory from being removed.
void make_removable(const std::filesystem::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  int flags = 0;
  if (!file || ::ioctl(file.get(), FS_IOC_GETFLAGS, &flags) != 0) return;
  flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
  ::ioctl(file.get(), FS_IOC_SETFLAGS, &flags);
}

void make_all_removable(const std::string& directory) {
  make_removable(directory);
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory, error)) {
    std::error_code ignored;
    const auto type = entry.symlink_status(ignored).type();
    if (type == std::filesystem::file_type::regular || type == std::filesystem::file_type::directory) {
      make_removable(entry.path());
    }
  }
}

}  // namespace

Sides::Sides(std::string type, bool read_only) : type_(std::move(type)) {
  mount_ = server_.make_directory("mount");
  why_not_ = prepare(type_);
  if (!why_not_.empty()) return;
  native_ = server_.make_directory("mount/native");
  server_.make_directory("mount/share");
  if (read_only) {
    native_ = server_.make_directory("read-only");
    why_not_ = tool_failed({"mount", "--bind", mount_ + "/native", native_});
    if (why_not_.empty()) why_not_ = tool_failed({"mount", "-o", "remount,bind,ro", native_});
  }
  EXPECT_TRUE(
      ok(server_.start("[share.a]\ntype = \"bind\"\nsource = \"" + mount_ + "/share\"\naccess = \"" + options().access +
                       "\"\nidle_timeout = \"1h\"\n" + (read_only ? "read_only = true\n" : ""))));
}

/// Mounts it; "" or why that cannot be.
std::string Sides::prepare(const std::string& type) {
  if (type == "tmpfs") return tool_failed({"mount", "-t", type, "-o", "nosuid,nodev", type, mount_});
  if (type == "overlay") return prepare_overlay();
  const std::string image = server_.path("image");
  const UniqueFd file(::open(image.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  if (::ftruncate(file.get(), kImageSize) != 0) return "no room for an image";
  const std::string failed = tool_failed({"mkfs." + type, "-q", image});
  return failed.empty() ? tool_failed({"mount", "-t", type, "-o", "loop,nosuid,nodev", image, mount_}) : failed;
}

/// Its files are no backing files: what is read and written comes through berth.
std::string Sides::prepare_overlay() {
  layers_ = server_.make_directory("layers");
  if (std::string failed = tool_failed({"mount", "-t", "tmpfs", "tmpfs", layers_}); !failed.empty()) return failed;
  std::string options = "nosuid,nodev";
  for (const char* const layer : {"lowerdir", "upperdir", "workdir"}) {
    const std::string directory = layers_ + "/" + layer;
    ::mkdir(directory.c_str(), 0755);
    options += std::string(",") + layer + "=" + directory;
  }
  return tool_failed({"mount", "-t", "overlay", "-o", options, "overlay", mount_});
}

Sides::~Sides() {
  if (server_.pid() > 0) server_.stop();
  if (read_only()) ::umount2(native_.c_str(), 0);
  if (!native_.empty() && ::umount2(mount_.c_str(), 0) != 0) {
    ADD_FAILURE() << "the file system is still in use: " << errno_name(errno);
    ::umount2(mount_.c_str(), MNT_DETACH);
  }
  if (!layers_.empty()) ::umount2(layers_.c_str(), 0);
}

Sides::Stage Sides::make_stage(mode_t mode) {
  const std::string name = std::to_string(++stages_);
  Stage stage{mount_ + "/native/" + name, mount_ + "/share/" + name, native_ + "/" + name,
              server_.in_namespace("a/" + name)};
  for (const std::string& side : {stage.made_native, stage.made_share}) {
    ::mkdir(side.c_str(), 0755);
    ::chmod(side.c_str(), mode);
  }
  return stage;
}

std::string Sides::remove(const Stage& stage) const {
  std::string text;
  make_all_removable(stage.made_native);
  make_all_removable(stage.made_share);
  // Through the share: file systems give inode numbers out again at once. While names are cached, berth could not tell
  // the next directory's files from those that went past berth.
  for (const std::string& side : {stage.made_native, read_only() ? stage.made_share : stage.share}) {
    std::error_code error;
    std::filesystem::remove_all(side, error);
    if (error) text += "cannot be removed: " + side + ": " + error.message() + "\n";
  }
  return text;
}

std::string Sides::run(const Run& run) {
  std::size_t reached = 0;
  const Stage stage = make_stage(run.mode);
  std::string text = attempt(run, stage, reached);
  text += remove(stage);
  if (text.empty()) return "";
  char mode[16];
  std::snprintf(mode, sizeof mode, "%04o", run.mode);
  std::string story = std::string("in a directory of mode ") + mode + " on " + type_ + ":\n";
  for (std::size_t i = 0; i < std::min(reached, run.sequence.size()); ++i) story += run.sequence[i].describe() + "\n";
  return story + text;
}

std::string Sides::attempt(const Run& run, const Stage& stage, std::size_t& reached) {
  const std::string &native = stage.native, &share = stage.share;
  Comparison comparison(tolerance());
  Actors actors(run.sequence, native, share, is_coarse());
  std::string text = comparison.compare(look(native, false), look(share, false), false);
  for (std::size_t i = 0; i < run.sequence.size() && text.empty(); ++i) {
    const Outcomes outcomes = actors.perform(i);
    reached = i + 1;
    if (outcomes.native != outcomes.share) {
      text = "  answer: " + outcomes.native + "\n  but:    " + outcomes.share + "\n";
    }
    const bool last = i + 1 == run.sequence.size();
    if (!last && (i + 1) % static_cast<std::size_t>(run.look_every) != 0) continue;
    const bool with_data = last || i % kDataEvery == 0;
    text += comparison.compare(look(native, with_data), look(share, with_data), run.look_every == 1);
  }
  if (!text.empty()) return text;
  // What berth said is what is there.
  Comparison beside(tolerance());
  text = beside.compare(look(stage.made_share, true), look(share, true), false);
  return text.empty() ? "" : "the share is not what is below it:\n" + text;
}

Sides::Run Sides::minimised(Run run) {
  int tries = 0;
  for (std::size_t part = run.sequence.size() / 2; part > 0; part /= 2) {
    for (std::size_t from = 0; from < run.sequence.size() && tries < kMostTries;) {
      Run shorter = run;
      const auto begin = shorter.sequence.begin() + static_cast<std::ptrdiff_t>(from);
      shorter.sequence.erase(begin, begin + static_cast<std::ptrdiff_t>(std::min(part, run.sequence.size() - from)));
      ++tries;
      if (this->run(shorter).empty()) {
        from += part;
      } else {
        run = std::move(shorter);
      }
    }
  }
  return run;
}

}  // namespace berth::test
