#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "src/cli/cli.h"
#include "src/lib/formats/view.h"

namespace berth::test {

/// A moment that all test data is of: 2026-11-21T00:51:13.123Z.
inline constexpr WallTime kMoment{std::chrono::milliseconds(1795222273123)};

/// What a command line did.
struct Outcome {
  int exit_code = 0;
  std::string out, err;
};

/// A world for the command line, with a control tree made of plain files in a directory of its own: the command line
/// knows only plain system calls, so it cannot tell the difference.
class Stage {
 public:
  Stage();
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  /// The directory that all is in, removed at the end.
  [[nodiscard]] const std::string& root() const noexcept { return root_; }
  /// The fake namespace, mounted according to the fake mount table.
  [[nodiscard]] std::string namespace_directory() const { return root_ + "/volumes"; }

  /// Adds a share to the fake control tree. Call publish() after the last.
  void add_share(formats::ShareView share);
  /// The shares that most tests use: media (mounted), broken (failed), home/alice (idle).
  void add_usual_shares();
  /// What publish() writes.
  [[nodiscard]] formats::NamespaceView& berth() noexcept { return berth_; }
  /// Writes the namespace's status.json.
  void publish() const;
  void write_file(const std::string& path, const std::string& text) const;
  [[nodiscard]] std::string read_file(const std::string& path) const;
  /// The path of a file or directory of a share's control directory.
  [[nodiscard]] std::string share_file(const std::string& share, const std::string& file) const;

  /// Runs a command line, argv[0] included.
  Outcome run(const std::vector<std::string>& arguments);
  /// The standard error so far, also while run() runs on another thread.
  [[nodiscard]] std::string err_so_far();

  // What the world is like; change it before run().
  cli::World world;
  std::map<std::string, std::string> environment;
  std::vector<sys::MountEntry> mounts;

  // What serve and check were started with, and what they answer.
  std::optional<cli::ServeOptions> served;
  std::optional<cli::CheckOptions> checked;
  std::optional<cli::DoctorOptions> diagnosed;
  int program_exit_code = 0;

  // What add and remove were started with, what they answer, and whether that was undone.
  std::optional<cli::AddOptions> added;
  std::optional<cli::RemoveOptions> removed;
  Result<> change;
  std::vector<std::string> warnings;

  // What import was started with, and what it answers.
  std::optional<cli::ImportOptions> import_asked;
  Result<cli::Imported> imported = cli::Imported{};
  bool undone = false;

 private:
  std::string root_;
  formats::NamespaceView berth_;
  std::mutex mutex_;
  Outcome outcome_;
};

}  // namespace berth::test
