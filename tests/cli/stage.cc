#include "tests/cli/stage.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "src/lib/formats/json.h"
#include "src/lib/formats/names.h"
#include "src/lib/formats/render.h"

namespace berth::test {

namespace fs = std::filesystem;

Stage::Stage() {
  std::string pattern = (fs::temp_directory_path() / "berth-cli.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) ADD_FAILURE() << "no temporary directory";
  root_ = pattern;
  berth_ = {
      .version = "0.1.0",
      .directory = "/volumes",
      .arguments = {"serve", "--log-level", "info", "--config", "/etc/berth/berth.toml", "--namespace", "/volumes"},
      .keeper = 100,
      .server = 101,
      .started = kMoment,
      .shares = {}};
  mounts.push_back({.id = 30, .parent = 1, .root = "/", .target = namespace_directory(), .type = "fuse.berth"});
  fs::create_directories(namespace_directory() + "/.berth/shares");
  write_file(namespace_directory() + "/.berth/version", "0.1.0\n");
  write_file(namespace_directory() + "/.berth/control", "");
  world.environment = [this](const char* name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  };
  world.out = [this](std::string_view text) {
    const std::lock_guard lock(mutex_);
    outcome_.out.append(text);
    return true;
  };
  world.err = [this](std::string_view text) {
    const std::lock_guard lock(mutex_);
    outcome_.err.append(text);
  };
  world.mount_table = [this]() -> Result<std::vector<sys::MountEntry>> { return mounts; };
  world.default_config = root_ + "/etc/berth.toml";
}

Stage::~Stage() {
  std::error_code error;
  fs::remove_all(root_, error);
  EXPECT_FALSE(error) << root_ << ": " << error.message();
}

std::string Stage::share_file(const std::string& share, const std::string& file) const {
  return formats::share_path(namespace_directory(), share) + "/" + file;
}

void Stage::write_file(const std::string& path, const std::string& text) const {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream stream(path, std::ios::binary);
  stream << text;
  EXPECT_TRUE(stream.good()) << path;
}

std::string Stage::read_file(const std::string& path) const {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void Stage::add_share(formats::ShareView share) {
  const std::string source = share.source.empty() && !share.sources.empty() ? share.sources.front() : share.source;
  berth_.shares.push_back({.name = share.name,
                           .type = share.type,
                           .state = share.state,
                           .users = share.users,
                           .since = share.since,
                           .source = source,
                           .held = share.held});
  fs::create_directories(share_file(share.name, "attachments"));
  write_file(share_file(share.name, "control"), "");
  write_file(share_file(share.name, "status"), formats::render_status(share));
  write_file(share_file(share.name, "status.json"), formats::render_json(share));
  write_file(share_file(share.name, "error"), formats::render_error(share.last_failure));
}

void Stage::add_usual_shares() {
  add_share({.name = "broken",
             .type = "nfs",
             .state = "failed",
             .since = kMoment,
             .sources = {"nfs9:/gone"},
             .options = "vers=4.2",
             .origin = "/etc/berth/berth.toml:20",
             .failures = 3,
             .idle_timeout = std::chrono::minutes(5),
             .retry_at = kMoment + std::chrono::seconds(8),
             .last_failure = formats::FailureView{.when = kMoment,
                                                  .attempt = 3,
                                                  .took = std::chrono::milliseconds(1200),
                                                  .code = EHOSTDOWN,
                                                  .story = "mount ended with exit status 32",
                                                  .command = {"mount", "-t", "nfs", "nfs9:/gone", "/run/berth/broken"},
                                                  .exit = "exit status 32",
                                                  .output = "mount.nfs: Connection refused\n"}});
  add_share({.name = "home/alice",
             .type = "bind",
             .state = "idle",
             .sources = {"/home/alice"},
             .origin = "/etc/berth/berth.toml:30",
             .idle_timeout = std::chrono::minutes(5)});
  add_share({.name = "media",
             .type = "nfs",
             .state = "mounted",
             .since = kMoment,
             .source = "nfs2:/media",
             .sources = {"nfs1:/media", "nfs2:/media"},
             .options = "vers=4.2,ro",
             .origin = "/etc/berth/berth.toml:12",
             .users = 3,
             .mounts = 1,
             .mount_id = 812,
             .access = "auto",
             .idle_timeout = std::chrono::minutes(5),
             .mount_timeout = std::chrono::seconds(30),
             .busy = "used by 3 when it was to be unmounted",
             .attachments = {{"vm-17", "disk-0"}, {"vm-17", "disk-1"}}});
  publish();
}

void Stage::publish() const {
  write_file(namespace_directory() + "/.berth/status", formats::render_status(berth_));
  write_file(namespace_directory() + "/.berth/status.json", formats::render_json(berth_));
}

Outcome Stage::run(const std::vector<std::string>& arguments) {
  const auto changed = [this]() -> Result<cli::ChangedFile> {
    if (!change) return fail(change.error());
    return cli::ChangedFile{"/etc/berth/shares.d/a.toml", namespace_directory(), warnings, [this]() -> Result<> {
                              undone = true;
                              return {};
                            }};
  };
  const cli::Programs programs{.serve =
                                   [this](const cli::ServeOptions& options) {
                                     served = options;
                                     return program_exit_code;
                                   },
                               .check =
                                   [this](const cli::CheckOptions& options) {
                                     checked = options;
                                     return program_exit_code;
                                   },
                               .doctor =
                                   [this](const cli::DoctorOptions& options) {
                                     diagnosed = options;
                                     return program_exit_code;
                                   },
                               .namespace_in = [this](const std::string& config) -> Result<std::string> {
                                 if (config != "/named.toml") return fail(EINVAL, config + ": wrong");
                                 return namespace_directory();
                               },
                               .add =
                                   [&](const cli::AddOptions& options) {
                                     added = options;
                                     return changed();
                                   },
                               .remove =
                                   [&](const cli::RemoveOptions& options) {
                                     removed = options;
                                     return changed();
                                   },
                               .import_autofs =
                                   [&](const cli::ImportOptions& options) {
                                     import_asked = options;
                                     return imported;
                                   }};
  const int exit_code = cli::run(arguments, world, programs);
  const std::lock_guard lock(mutex_);
  outcome_.exit_code = exit_code;
  return std::exchange(outcome_, {});
}

std::string Stage::err_so_far() {
  const std::lock_guard lock(mutex_);
  return outcome_.err;
}

}  // namespace berth::test
