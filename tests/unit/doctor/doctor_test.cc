#include "src/doctor/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/doctor/examine.h"
#include "src/doctor/kernel.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/json.h"
#include "src/lib/formats/render.h"
#include "tests/unit/temporary_directory.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

/// A host with nothing wrong with it, which a test spoils.
class Doctor : public ::testing::Test {
 protected:
  Doctor() {
    files_["/proc/filesystems"] = "nodev\ttmpfs\n\text4\n\tf00fs\n";
    files_["/proc/self/mountinfo"] = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n";
    files_["/proc/sys/fs/mount-max"] = "100000\n";
    files_["/etc/updatedb.conf"] = "PRUNE_BIND_MOUNTS=\"yes\"\nPRUNEFS=\"NFS fuse.berth afs\"\n";
    host_ = {
        .kernel = "6.18.0-1-amd64",
        .max_files = 1 << 20,
        .read = [this](const std::string& path) -> Result<std::string> {
          const auto found = files_.find(path);
          if (const auto broken = broken_.find(path); broken != broken_.end()) return fail(broken->second);
          if (found == files_.end()) return fail(ENOENT);
          return found->second;
        },
        .has_helper = [](std::string_view type) { return type == "nfs" || type == "helped"; },
        .helper = [this](std::string_view type, std::string_view) -> Result<> {
          const auto missing = missing_.find(std::string(type));
          if (missing == missing_.end()) return {};
          return fail(missing->second.first, missing->second.second);
        },
        .program = [this](std::string_view program) -> Result<> {
          const auto missing = missing_.find(std::string(program));
          if (missing == missing_.end()) return {};
          return fail(missing->second.first, missing->second.second);
        },
        .find = [this](const std::string& path) -> Result<mode_t> {
          if (absent_.contains(path)) return fail(ENOENT);
          const auto kind = kinds_.find(path);
          return kind != kinds_.end() ? kind->second : path.starts_with("/dev/") ? mode_t{S_IFBLK} : mode_t{S_IFDIR};
        },
        .resolve = [](const std::string& name) -> Result<> {
          if (name.starts_with("no")) return fail(ENOENT, "Name or service not known");
          return {};
        }};
  }

  /// The findings for shares, written as in a file below [berth].
  std::vector<FindingView> findings(const std::string& shares, const std::string& directory = "/volumes") {
    const std::string file = scratch_.path() + "/berth.toml";
    std::ofstream(file) << "[berth]\nnamespace = \"" << directory << "\"\n" << shares;
    const auto configuration = config::load(file);
    EXPECT_TRUE(configuration) << (configuration ? "" : configuration.error().message());
    if (!configuration) return {};
    return diagnose(host_, &*configuration).findings;
  }
  static std::string share(const std::string& rest) { return "[share.one]\n" + rest + "\n"; }

  /// The one finding that there is, which says all that it should.
  FindingView only(const std::vector<FindingView>& all, const std::string& id, Severity severity) {
    EXPECT_THAT(all, SizeIs(1)) << id;
    if (all.empty()) return {};
    EXPECT_EQ(all.front().id, id);
    EXPECT_EQ(all.front().severity, severity) << id;
    EXPECT_NE(all.front().what, "") << id;
    EXPECT_NE(all.front().cost, "") << id;
    return all.front();
  }

  testing::TemporaryDirectory scratch_;
  std::map<std::string, std::string> files_;
  std::map<std::string, std::pair<int, std::string>> missing_;
  std::set<std::string> absent_;
  std::map<std::string, mode_t> kinds_;
  std::map<std::string, int> broken_;  ///< files that cannot be read, and why
  Host host_;
};

TEST_F(Doctor, FindsNothingWhereNothingIsWrong) {
  EXPECT_THAT(findings("[share.a]\ntype = \"bind\"\nsource = \"/srv/a\"\n"
                       "[share.b]\ntype = \"nfs\"\nsource = \"nfs1:/b\"\n"
                       "[share.c]\ntype = \"f00fs\"\nsource = \"/dev/sdb\"\n"
                       "[share.g]\ntype = \"helped\"\nsource = \"any\"\n"
                       "[share.d]\ntype = \"fuse.sshfs\"\nsource = \"me@host:\"\noptions = \"allow_other\"\n"
                       "[share.e]\ntype = \"fuse.bindfs\"\nsource = \"/srv/e\"\n"
                       "[share.f]\ntype = \"tmpfs\"\nsource = \"tmpfs\"\n"),
              IsEmpty());
}

TEST_F(Doctor, FindsAKernelThatIsTooOld) {
  host_.kernel = "5.10.0-28-amd64";
  EXPECT_THAT(only(findings(""), "old-kernel", Severity::kError).remedy, HasSubstr("6.1"));
}

TEST_F(Doctor, SaysWhatTheKernelGives) {
  host_.kernel = "6.9.1";
  const formats::DiagnosisView diagnosis = diagnose(host_, nullptr);
  ASSERT_EQ(diagnosis.features.size(), kernel_features().size());
  for (const formats::FeatureView& feature : diagnosis.features)
    EXPECT_EQ(feature.is_there, feature.since != "6.16" && feature.since != "6.18") << feature.since;
  EXPECT_THAT(formats::render_diagnosis(diagnosis), HasSubstr("  yes  since 6.9   no call fails"));
  EXPECT_THAT(formats::render_diagnosis(diagnosis), HasSubstr("  no   since 6.18  `max_nodes`"));
}

TEST_F(Doctor, DocumentsShowTheTableOfKernels) {
  std::ostringstream text;
  text << std::ifstream(BERTH_SOURCE "/docs/limits.md").rdbuf();
  std::string wanted = "| since Linux | what it gives berth |\n| --- | --- |\n";
  for (const KernelFeature& feature : kernel_features()) {
    wanted += "| " + std::to_string(feature.since.major) + "." + std::to_string(feature.since.minor) + " | " +
              std::string(feature.gives) + " |\n";
  }
  EXPECT_THAT(text.str(), HasSubstr(wanted + "\n"));
}

TEST_F(Doctor, FindsThatThereIsNoFuse) {
  absent_.insert("/dev/fuse");
  only(findings(""), "no-fuse", Severity::kError);
}

TEST_F(Doctor, FindsThatFuseIsClosedToThisUser) {
  host_.may_open = [](const std::string&) -> Result<> { return fail(EACCES); };
  EXPECT_THAT(only(findings(""), "closed-fuse", Severity::kWarning).what, HasSubstr("/dev/fuse"));
}

TEST_F(Doctor, FindsOptionsOfTheFuseModule) {
  files_["/proc/sys/fs/fuse/default_request_timeout"] = "0\n";
  files_["/proc/sys/fs/fuse/max_request_timeout"] = "60\n";
  EXPECT_THAT(only(findings(""), "fuse-request-timeout", Severity::kWarning).remedy,
              HasSubstr("max_request_timeout=0"));
  files_.erase("/proc/sys/fs/fuse/max_request_timeout");
  files_["/proc/sys/fs/fuse/max_pages_limit"] = "32\n";
  only(findings(""), "fuse-pages", Severity::kWarning);
}

TEST_F(Doctor, FindsLimitsThatAreTooLow) {
  host_.max_files = 1024;
  only(findings(""), "few-descriptors", Severity::kWarning);
  host_.max_files = 1 << 20;
  files_["/proc/sys/fs/mount-max"] = "500\n";
  only(findings(""), "few-mounts", Severity::kWarning);
}

TEST_F(Doctor, FindsCatalogSourcesThatDoNotWork) {
  const std::string sources =
      "[[catalog_source]]\nname = \"fleet\"\nprogram = [\"/list\"]\n[[catalog_source]]\nname = \"other\"\nprogram = "
      "[\"list\"]\n";
  EXPECT_THAT(findings(sources), IsEmpty()) << "none serves";
  files_["/volumes/.berth/sources"] =
      formats::render_sources({{.name = "fleet", .state = "down", .error = "exit status 3", .error_at = WallTime{}},
                               {.name = "other", .state = "synced"}});
  const FindingView down = only(findings(sources), "catalog-source", Severity::kWarning);
  EXPECT_EQ(down.subject, "catalog source fleet");
  EXPECT_EQ(down.what, "it is down: exit status 3");
  files_.erase("/volumes/.berth/sources");
  missing_["list"] = {ENOENT, "no program \"list\""};
  EXPECT_EQ(only(findings(sources), "missing-program", Severity::kError).subject, "catalog source other");
}

TEST_F(Doctor, FindsThatUpdatedbWouldGoIn) {
  files_["/etc/updatedb.conf"] = "# PRUNEFS fuse.berth\nPRUNEFS = \"NFS afs\"\n";
  only(findings(""), "updatedb", Severity::kWarning);
  files_["/lib/systemd/system/plocate-updatedb.service.d/berth.conf"] = "ExecStart=updatedb --add-prunefs fuse.berth\n";
  EXPECT_THAT(findings(""), IsEmpty());
  // Masked.
  files_["/etc/systemd/system/plocate-updatedb.service.d/berth.conf"] = "";
  only(findings(""), "updatedb", Severity::kWarning);
}

TEST_F(Doctor, FindsUnknownTypesAndWhatWasMeant) {
  const std::map<std::string, std::string> meant{{"smb", "cifs"},         {"nfs5", "nfs"},           {"ext4x", "ext4"},
                                                 {"sshfs", "fuse.sshfs"}, {"rclone", "fuse.rclone"}, {"bnid", "bind"},
                                                 {"xsf", "xfs"}};
  for (const auto& [typed, type] : meant) {
    const FindingView found =
        only(findings(share("type = \"" + typed + "\"\nsource = \"x\"")), "unknown-type", Severity::kError);
    EXPECT_EQ(found.remedy, "did you mean \"" + type + "\"?") << typed;
    EXPECT_THAT(found.where, ::testing::EndsWith("berth.toml:3"));
    EXPECT_EQ(found.subject, "[share.one]");
  }
  EXPECT_THAT(only(findings(share("type = \"qqqqqqqqqq\"\nsource = \"x\"")), "unknown-type", Severity::kError).remedy,
              HasSubstr("mount(8)"));
}

TEST_F(Doctor, FindsABareFuseWithoutItsProgram) {
  missing_["fuse"] = {EINVAL, "the type \"fuse\" does not say which program; write fuse.PROGRAM, such as fuse.sshfs"};
  only(findings(share("type = \"fuse\"\nsource = \"x\"\noptions = \"allow_other\"")), "bare-fuse", Severity::kError);
}

TEST_F(Doctor, FindsMissingHelpersAndTheirPackages) {
  missing_["nfs"] = {ENODEV, "mount.nfs is not installed; on Debian: apt install nfs-common"};
  const auto found = findings(
      "[share.a]\ntype = \"nfs\"\nsource = \"nfs1:/a\"\n[share.\"home/*\"]\ntype = \"nfs\"\nsource = \"nfs1:/&\"\n");
  ASSERT_THAT(found, SizeIs(2));
  for (const FindingView& finding : found) {
    EXPECT_EQ(finding.id, "missing-helper");
    EXPECT_EQ(finding.severity, Severity::kError);
    EXPECT_THAT(finding.what, HasSubstr("nfs-common"));
  }
}

TEST_F(Doctor, FindsFileSystemsThatThisKernelLacks) {
  files_["/lib/modules/6.18.0-1-amd64/modules.alias"] = "alias fs-xfs xfs\nalias fs-newfs newfs\n";
  EXPECT_THAT(findings(share("type = \"xfs\"\nsource = \"/dev/sdb\"")), IsEmpty());
  EXPECT_THAT(findings(share("type = \"newfs\"\nsource = \"/dev/sdb\"")), IsEmpty());
  only(findings(share("type = \"btrfs\"\nsource = \"/dev/sdb\"")), "no-module", Severity::kError);
}

TEST_F(Doctor, FindsTypesThatRootAloneCanMountWhereThereIsNoRoot) {
  host_.may_mount = [](std::string_view type) -> Result<> {
    if (type == "tmpfs") return {};
    return fail(EPERM, "the kernel lets root alone mount it; start berth as root");
  };
  const std::string ext4 = share("type = \"ext4\"\nsource = \"/dev/sdb\"");
  EXPECT_THAT(findings(ext4), IsEmpty());
  host_.without_root = true;
  const FindingView found = only(findings(ext4), "needs-root", Severity::kError);
  EXPECT_EQ(found.what, "the kernel lets root alone mount it");
  EXPECT_EQ(found.remedy, "start berth as root");
  EXPECT_THAT(findings(share("type = \"tmpfs\"")), IsEmpty());
}

TEST_F(Doctor, FindsSourcesOfAnotherKind) {
  kinds_ = {{"/srv/file", S_IFREG}, {"/srv/disk.img", S_IFREG}, {"/dev/null", S_IFCHR}};
  EXPECT_THAT(only(findings(share("type = \"bind\"\nsource = \"/srv/file\"")), "wrong-kind", Severity::kError).what,
              HasSubstr("\"/srv/file\" is not a directory"));
  only(findings(share("type = \"dir\"\nsource = \"/srv/file\"")), "wrong-kind", Severity::kError);
  EXPECT_THAT(only(findings(share("type = \"ext4\"\nsource = \"/srv/files\"")), "wrong-kind", Severity::kError).remedy,
              HasSubstr("type = \"bind\""));
  only(findings(share("type = \"ext4\"\nsource = \"/dev/null\"")), "wrong-kind", Severity::kError);
  EXPECT_THAT(findings(share("type = \"ext4\"\nsource = \"/srv/disk.img\"")), IsEmpty());
  EXPECT_THAT(only(findings(share("type = \"ext4\"\nsource = [\"/srv/files\", \"/dev/sdb\"]")), "wrong-kind",
                   Severity::kWarning)
                  .cost,
              HasSubstr("passed over"));
}

TEST_F(Doctor, FindsMissingProgramsOfCommands) {
  missing_["rclone"] = {ENODEV, "rclone is not installed; on Debian: apt install rclone"};
  only(findings(
           share("type = \"command\"\nmount = [\"rclone\", \"mount\", \"--allow-other\", \"x:\", \"{mountpoint}\"]")),
       "missing-program", Severity::kError);
}

TEST_F(Doctor, FindsFuseSharesThatOnlyRootCanUse) {
  only(findings(share("type = \"fuse.sshfs\"\nsource = \"host:\"")), "no-allow-other", Severity::kWarning);
  only(findings(share("type = \"command\"\nmount = [\"/usr/bin/rclone\", \"mount\", \"x:\", \"{mountpoint}\"]")),
       "no-allow-other", Severity::kWarning);
  const std::string of_mount_sshfs = "type = \"sshfs\"\nsource = \"host:\"";
  host_.has_helper = [](std::string_view type) { return type == "sshfs"; };
  only(findings(share(of_mount_sshfs)), "no-allow-other", Severity::kWarning);
  EXPECT_THAT(findings(share(of_mount_sshfs + "\noptions = \"allow_other\"")), IsEmpty());
  host_.without_root = true;
  EXPECT_THAT(findings(share("type = \"fuse.sshfs\"\nsource = \"host:\"")), IsEmpty())
      << "its user is the one that mounts it";
}

TEST_F(Doctor, FindsANamespaceThatTheSystemIsIn) {
  for (const char* directory : {"/etc", "/etc/berth", "/usr", "/tmp", "/proc/1"}) {
    only(findings("", directory), "namespace-of-system", Severity::kError);
  }
  for (const char* directory : {"/home/volumes", "/mnt/volumes", "/etcetera", "/run/volumes", "/usr/local/volumes"}) {
    EXPECT_THAT(findings("", directory), IsEmpty()) << directory;
  }
}

TEST_F(Doctor, FindsANamespaceThatIsNotEmpty) {
  EXPECT_THAT(findings("", "/home"), IsEmpty());
  host_.is_empty = [](const std::string& path) { return path != "/home"; };
  only(findings("", "/home"), "full-namespace", Severity::kError);
  only(findings("", "/etc"), "namespace-of-system", Severity::kError);
  files_["/proc/self/mountinfo"] += "22 21 0:30 / /home rw shared:2 - autofs systemd-1 rw\n";
  EXPECT_THAT(findings("", "/home"), IsEmpty());
}

TEST_F(Doctor, FindsANamespaceThatIsNotThere) {
  absent_.insert("/some where");
  EXPECT_THAT(only(findings("", "/some where"), "no-namespace", Severity::kWarning).remedy,
              HasSubstr("`mkdir -p \"/some where\"`"));
}

TEST_F(Doctor, FindsAPrivateMountButNotWhereItServes) {
  files_["/proc/self/mountinfo"] =
      "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n22 21 8:2 / /data rw - ext4 /dev/sdb1 rw\n";
  EXPECT_THAT(only(findings("", "/data/volumes"), "private-propagation", Severity::kWarning).remedy,
              HasSubstr("--make-shared /data"));
  EXPECT_THAT(findings("", "/database"), IsEmpty());
  files_["/proc/self/mountinfo"] += "23 22 0:50 / /data/volumes rw - fuse.berth berth rw\n";
  EXPECT_THAT(findings("", "/data/volumes"), IsEmpty());
}

TEST_F(Doctor, FindsSourcesThatAreNotThere) {
  absent_ = {"/srv/gone", "/dev/disk/by-uuid/12-34", "/etc/berth/one.cred", "/srv/environment"};
  only(findings(share("type = \"bind\"\nsource = \"/srv/gone\"")), "no-source", Severity::kWarning);
  only(findings(share("type = \"dir\"\nsource = \"/srv/gone\"")), "no-source", Severity::kWarning);
  only(findings(share("type = \"ext4\"\nsource = \"UUID=12-34\"")), "no-source", Severity::kWarning);
  only(findings(share("type = \"cifs\"\nsource = \"//host/x\"\noptions = \"ro,credentials=/etc/berth/one.cred\"")),
       "no-file", Severity::kWarning);
  EXPECT_THAT(
      only(findings(share("type = \"nfs\"\nsource = [\"nohost:/x\", \"nfs1:/x\"]")), "unknown-host", Severity::kWarning)
          .cost,
      HasSubstr("passed over"));
}

TEST_F(Doctor, FindsFilesWithSecretsThatEveryUserMayRead) {
  host_.is_private = [](const std::string& path) -> Result<> {
    return path == "/etc/open" ? Result<>(fail(EACCES)) : Result<>();
  };
  only(findings(share("type = \"cifs\"\nsource = \"//host/x\"\noptions = \"credentials=/etc/open\"")), "open-secrets",
       Severity::kWarning);
  EXPECT_THAT(findings(share("type = \"cifs\"\nsource = \"//host/x\"\noptions = \"credentials=/etc/closed\"")),
              IsEmpty());
}

TEST_F(Doctor, FindsServersWithoutAnAddress) {
  for (const char* const rest : {"type = \"nfs\"\nsource = \"nohost:/x\"", "type = \"cifs\"\nsource = \"//nohost/x\"",
                                 "type = \"fuse.sshfs\"\noptions = \"allow_other\"\nsource = \"user@nohost:x\"",
                                 "type = \"nfs4\"\nsource = \"[no::1]:/x\""}) {
    EXPECT_THAT(only(findings(share(rest)), "unknown-host", Severity::kWarning).what, HasSubstr("not known")) << rest;
  }
}

TEST_F(Doctor, WaitsAShortWhileForWhatDoesNotAnswer) {
  const auto never = std::make_shared<std::promise<void>>();
  host_.patience = std::chrono::milliseconds(100);
  host_.find = [future = never->get_future().share()](const std::string& path) -> Result<mode_t> {
    if (path == "/dead/server") future.wait();
    return mode_t{S_IFDIR};
  };
  only(findings("[share.a]\ntype = \"bind\"\nsource = \"/dead/server\"\n"), "no-answer", Severity::kWarning);
  never->set_value();
}

TEST_F(Doctor, WaitsAShortWhileForADirectoryOfTheNamespaceThatDoesNotAnswer) {
  std::promise<void> never;
  host_.patience = std::chrono::milliseconds(100);
  host_.is_empty = [future = never.get_future().share()](const std::string&) {
    future.wait();
    return true;
  };
  // The thread that is left behind asks it after the test.
  host_.find = [](const std::string&) { return Result<mode_t>(mode_t{S_IFDIR}); };
  EXPECT_EQ(only(findings(""), "no-answer", Severity::kError).subject, "the namespace /volumes");
  never.set_value();
}

TEST_F(Doctor, WaitsOnceForABerthThatDoesNotAnswer) {
  std::promise<void> never;
  const auto reads = std::make_shared<std::atomic<int>>(0);
  host_.patience = std::chrono::milliseconds(100);
  host_.read = [reads, files = files_,
                future = never.get_future().share()](const std::string& path) -> Result<std::string> {
    if (path.find("/.berth/") != std::string::npos) {
      ++*reads;
      future.wait();
    }
    const auto found = files.find(path);
    return found == files.end() ? fail(ENOENT) : Result<std::string>(found->second);
  };
  only(findings("[[catalog_source]]\nname = \"fleet\"\nprogram = [\"/list\"]\n"), "silent-namespace", Severity::kError);
  EXPECT_EQ(*reads, 1);
  never.set_value();
}

TEST_F(Doctor, TellsNoSecretAndMakesWarningsOfTheConfigurationFindings) {
  const auto found = findings(share("type = \"cifs\"\nsource = \"//host/x\"\noptions = \"password=Hidd3n\""));
  EXPECT_THAT(found, Not(IsEmpty()));
  for (const FindingView& finding : found) {
    EXPECT_EQ(finding.id, "configuration");
    EXPECT_THAT(formats::render_finding(finding), Not(HasSubstr("Hidd3n")));
  }
}

TEST_F(Doctor, FindsSourcesThatTheirTypeDoesNotUnderstand) {
  for (const char* const wrong :
       {"type = \"nfs\"\nsource = \"nfs1/media\"", "type = \"cifs\"\nsource = \"smb://filer/media\""})
    only(findings(share(wrong)), "wrong-source", Severity::kError);
  for (const char* const right :
       {"type = \"nfs\"\nsource = \"[2001:db8::1]:/media\"", "type = \"cifs\"\nsource = '\\\\filer\\media'",
        "type = \"nfs4\"\nsource = [\"nfs1:/media\", \"nfs2:/\"]"})
    EXPECT_THAT(findings(share(right)), IsEmpty()) << right;
}

TEST_F(Doctor, FindsATemplateThatShowsTheSameUnderEachName) {
  only(findings("[share.\"home/*\"]\ntype = \"bind\"\nsource = \"/srv/home/*\""), "same-source", Severity::kWarning);
  EXPECT_THAT(findings("[share.\"home/*\"]\ntype = \"bind\"\nsource = \"/srv/home/&\""), IsEmpty());
  EXPECT_THAT(findings("[share.\"home/*\"]\ntype = \"bind\"\nsource = \"/srv/home/${user}\""), IsEmpty());
}

TEST_F(Doctor, SaysOnceThatAnUnknownTypeHasAStrangeSource) {
  absent_.insert("//filer/media");
  only(findings(share("type = \"smb\"\nsource = \"//filer/media\"")), "unknown-type", Severity::kError);
}

TEST_F(Doctor, FindsWhatTheBerthThatServesSays) {
  const std::string path = "/volumes/.berth/status.json";
  broken_[path] = ENOTCONN;
  EXPECT_NE(only(findings(share("type = \"tmpfs\"")), "dead-namespace", Severity::kError).remedy, "");
  broken_[path] = EACCES;
  EXPECT_THAT(findings(share("type = \"tmpfs\"")), IsEmpty());
  broken_.clear();
  formats::NamespaceView berth;
  files_[path] = formats::render_json(berth);
  EXPECT_THAT(findings(share("type = \"tmpfs\"")), IsEmpty());
  berth.state.failure = "cannot record attachments in /var/lib/berth/x: No space left on device";
  files_[path] = formats::render_json(berth);
  EXPECT_EQ(only(findings(share("type = \"tmpfs\"")), "state-directory", Severity::kWarning).what, berth.state.failure);
}

TEST_F(Doctor, FindsWhatTheUsersOtherNamespacesSay) {
  files_["/proc/self/mountinfo"] +=
      "30 21 0:50 / /home/me/my\\040volumes rw shared:2 - fuse.berth berth rw,user_id=1000,group_id=1000\n"
      "31 21 0:51 / /volumes rw shared:3 - fuse.berth berth rw,user_id=0,group_id=0\n";
  broken_["/home/me/my volumes/.berth/status.json"] = ENOTCONN;
  EXPECT_THAT(diagnose(host_, nullptr).findings, IsEmpty()) << "another user's is not asked";
  host_.user = 1000;
  const FindingView found = only(diagnose(host_, nullptr).findings, "dead-namespace", Severity::kError);
  EXPECT_EQ(found.subject, "the namespace /home/me/my volumes");
  EXPECT_THAT(found.remedy, HasSubstr("systemctl --user start berth"));
  EXPECT_THAT(found.remedy, HasSubstr("fusermount3 -u \"/home/me/my volumes\""));
  broken_ = {{"/volumes/.berth/status.json", ENOTCONN}};
  host_.user = 0;
  EXPECT_THAT(only(diagnose(host_, nullptr).findings, "dead-namespace", Severity::kError).remedy,
              HasSubstr("umount --recursive /volumes"));
  EXPECT_THAT(findings(""), SizeIs(1)) << "once, where it is the configured one";
}

/// A share that was just written is there, whatever is wrong with it.
TEST_F(Doctor, WarnsOfANewShareAsOfOneThatIsConfigured) {
  const auto found = [this](const std::string& text) {
    const std::string file = scratch_.path() + "/berth.toml";
    std::ofstream(file) << share(text);
    config::Configuration one;
    one.catalog = config::load(file).value().catalog;
    return warnings_of(one);
  };
  EXPECT_THAT(found("type = \"nfs5\"\nsource = \"h:/a\""),
              ElementsAre(::testing::AllOf(::testing::StartsWith("warning: "), HasSubstr("the type \"nfs5\""),
                                           HasSubstr("did you mean"))));
  EXPECT_THAT(found("type = \"bind\"\nsource = \"/nowhere/at/all\""),
              ElementsAre(HasSubstr("the source \"/nowhere/at/all\"")));
  EXPECT_THAT(found("type = \"tmpfs\""), IsEmpty());
  EXPECT_THAT(warnings_of({}), IsEmpty());
}

TEST(Findings, AreOneLineInCheckAndThreeInDoctor) {
  const FindingView finding{.severity = Severity::kError,
                            .id = "missing-helper",
                            .where = "/etc/berth/berth.toml:12",
                            .subject = "[share.a]",
                            .what = "mount.nfs is not installed",
                            .cost = "the share cannot be mounted",
                            .remedy = "apt install nfs-common"};
  EXPECT_EQ(formats::render_finding(finding),
            "error: /etc/berth/berth.toml:12: [share.a]: mount.nfs is not installed; the share cannot be mounted; apt "
            "install nfs-common");
  const std::string text = formats::render_diagnosis({.kernel = "6.1", .findings = {finding}});
  EXPECT_THAT(
      text, HasSubstr("error: /etc/berth/berth.toml:12: [share.a]: mount.nfs is not installed\n"
                      "  costs: the share cannot be mounted\n  to do: apt install nfs-common\n1 error, 0 warnings\n"));
  EXPECT_THAT(formats::render_diagnosis_json({.kernel = "6.1", .findings = {finding}}),
              HasSubstr("\"id\": \"missing-helper\""));
}

}  // namespace
}  // namespace berth::doctor
