// Maps of autofs as a configuration: what is imported is loaded again.
#include "src/config/autofs_import.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "manager/model/requirements.h"
#include "src/autofs/maps.h"
#include "src/config/config.h"
#include "tests/unit/temporary_directory.h"

namespace berth::config {
namespace {

/// A directory with maps; "DIR" in a text stands for it.
class AutofsImportTest : public ::testing::Test {
 protected:
  void write(const std::string& name, std::string text) const {
    for (std::size_t at; (at = text.find("DIR")) != std::string::npos;) text.replace(at, 3, directory_.path());
    std::filesystem::create_directories(std::filesystem::path(directory_ / name).parent_path());
    std::ofstream(directory_ / name) << text;
  }

  /// Imports DIR/auto.master, and loads what comes out.
  manager::Catalog import(const std::string& namespace_directory = "") {
    const Result<ImportedMaps> imported = import_autofs(directory_ / "auto.master", namespace_directory);
    EXPECT_TRUE(imported.has_value()) << imported.error().message();
    if (!imported) return {};
    imported_ = *imported;
    for (std::size_t at; (at = imported_.text.find(directory_.path())) != std::string::npos;) {
      imported_.text.replace(at, directory_.path().size(), "DIR");
    }
    std::ofstream(directory_ / "berth.toml") << imported->text;
    Result<Configuration> loaded = load(directory_ / "berth.toml");
    EXPECT_TRUE(loaded.has_value()) << loaded.error().message() << "\n" << imported->text;
    if (!loaded) return {};
    EXPECT_EQ(loaded->catalog.shares().size() + loaded->catalog.templates().size(), imported->shares);
    namespace_ = loaded->settings.namespace_directory;
    return std::move(loaded->catalog);
  }

  /// "TYPE SOURCE... [OPTIONS]" of a share or template.
  static std::string told(const manager::Catalog& catalog, const std::string& name) {
    const manager::ShareSpec* spec = catalog.find(name);
    if (const auto found = catalog.templates().find(name); found != catalog.templates().end()) spec = &found->second;
    if (spec == nullptr) return "none";
    std::string text = spec->type();
    for (const std::string& source : spec->sources()) text.append(" ").append(source);
    return text + " [" + spec->options() + (spec->policy().read_only ? " read-only]" : "]");
  }

  [[nodiscard]] bool says(const std::string& text) const { return imported_.text.find(text) != std::string::npos; }

  berth::testing::TemporaryDirectory directory_;
  ImportedMaps imported_;
  std::string namespace_;
};

TEST_F(AutofsImportTest, OneIndirectMapIsServedWhereItWas) {
  write("auto.master", "/home auto.home --timeout=600 -vers=4.2\n");
  write("auto.home", "alice filer:/export/&\ntools -ro filer1,filer2:/export/tools\n* filer:/export/home/&\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(namespace_, "/home");
  EXPECT_EQ(told(catalog, "alice"), "nfs filer:/export/alice [vers=4.2]");
  EXPECT_EQ(told(catalog, "tools"), "nfs filer1:/export/tools filer2:/export/tools [vers=4.2 read-only]");
  EXPECT_EQ(told(catalog, "*"), "nfs filer:/export/home/& [vers=4.2]");
  EXPECT_EQ(catalog.find("alice")->policy().idle_timeout, std::chrono::minutes(10));
  EXPECT_EQ(imported_.faults, 0U);
  EXPECT_FALSE(says("ln -s"));
  EXPECT_EQ(imported_.text.substr(0, imported_.text.find("[share.\"tools")),
            "# Made by `berth import autofs DIR/auto.master`.\n\n[berth]\nnamespace = \"/home\"\n\n# DIR/auto.home:1\n"
            "[share.\"alice\"]\ntype = \"nfs\"\nsource = \"filer:/export/alice\"\noptions = \"vers=4.2\"\n"
            "idle_timeout = \"600s\"\n\n# DIR/auto.home:2\n");
}

TEST_F(AutofsImportTest, SeveralMapsKeepTheirPathsBelowTheNamespace) {
  write("auto.master", "/home DIR/auto.home\n/- file:DIR/direct\n+dir:DIR/more\n");
  write("auto.home", "alice filer:/a\n");
  write("direct", "/opt/tools filer:/tools\n\"/opt/it's\" filer:/x\n");
  write("more/x.autofs", "/extra DIR/auto.home\n");
  write("more/y", "/not auto.home\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(namespace_, "/volumes");
  EXPECT_EQ(told(catalog, "home/alice"), "nfs filer:/a []");
  EXPECT_EQ(told(catalog, "opt/tools"), "nfs filer:/tools []");
  EXPECT_EQ(told(catalog, "extra/alice"), "nfs filer:/a []");
  EXPECT_EQ(catalog.shares().size(), 4U);
  EXPECT_TRUE(says("#   ln -sT /volumes/home /home\n#   mkdir -p /opt\n#   ln -sT /volumes/opt/tools /opt/tools\n"));
  EXPECT_TRUE(says("#   ln -sT '/volumes/opt/it'\\''s' '/opt/it'\\''s'\n"));
  (void)import("/opt");
  EXPECT_TRUE(says("[share.\"tools\"]"));
  EXPECT_FALSE(says(" /opt/tools\n"));
}

TEST_F(AutofsImportTest, TypesAndOptionsBecomeKeys) {
  write("auto.master", "/m auto.m\n");
  write("auto.m",
        "disk -fstype=ext4,ro,rw,suid,nodev,errors=remount-ro :/dev/sda1\n"
        "smb -fstype=smbfs,credentials=/etc/creds ://server/share\n"
        "ssh -fstype=fuse,port=22 :sshfs\\#me@host\\:/srv\n"
        "here :/srv/data\n"
        "bound -fstype=bind,soft,symlink :/srv/x\n"
        "weighed -suid a(5),b(1):/x\n"
        "me s:/$ARCH/$USER\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(told(catalog, "disk"), "ext4 /dev/sda1 [errors=remount-ro]");
  EXPECT_TRUE(catalog.find("disk")->policy().allow_suid);
  EXPECT_EQ(told(catalog, "smb"), "cifs //server/share [credentials=/etc/creds]");
  EXPECT_EQ(told(catalog, "ssh"), "fuse.sshfs me@host:/srv [port=22]");
  EXPECT_EQ(told(catalog, "here"), "bind /srv/data []");
  EXPECT_EQ(told(catalog, "bound"), "bind /srv/x []");
  EXPECT_TRUE(says("# Not carried over: the option \"soft\": \"soft\" is an option of a file system"));
  EXPECT_TRUE(says("# Not carried over: the option \"symlink\":"));
  EXPECT_EQ(told(catalog, "weighed"), "nfs b:/x a:/x []");
  EXPECT_EQ(catalog.find("weighed")->policy().weights, (std::vector<std::uint32_t>{1, 5}));
  EXPECT_TRUE(says("# Not carried over: the option \"suid\": programs reach this share through berth"));
  EXPECT_TRUE(says("auto.m:7: the variable \"$USER\" is of the user that asks; only the entries of wildcards"));
}

TEST_F(AutofsImportTest, WildcardHasTheKeyAndTheCallerInSourceAndOptions) {
  write("auto.master", "/m auto.m\n/n auto.n\n/h auto.h\n");
  write("auto.m", "* -fstype=cifs,credentials=/etc/creds/&,uid=$UID ://server/$USER/&\n");
  write("auto.n", "* -fstype=cifs,cost=\\$5 ://server/a\\&b/&\n");
  write("auto.h", "* :$HOME/&\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(told(catalog, "m/*"), "cifs //server/${user}/& [credentials=/etc/creds/&,uid=${uid}]") << imported_.text;
  EXPECT_EQ(told(catalog, "n/*"), "cifs //server/a\\&b/& [cost=\\$5]") << imported_.text;
  EXPECT_EQ(told(catalog, "h/*"), "bind ${home}/& []") << imported_.text;
  EXPECT_EQ(imported_.faults, 0U) << imported_.text;
}

TEST_F(AutofsImportTest, LinksOfOldPathsAreMadeWhereNoOtherLinkLeads) {
  write("auto.master", "/home DIR/auto.home\n/- DIR/direct\n/deep/a/b DIR/auto.home\n");
  write("auto.home", "alice filer:/a\nsub -fstype=autofs file:auto.sub\n");
  write("auto.sub", "k filer:/k\n");
  write("direct", "/home/direct filer:/d\n/opt/x filer:/x\n/opt/y filer:/y\n/top filer:/t\n");
  const manager::Catalog catalog = import("/volumes");
  EXPECT_EQ(told(catalog, "home/direct"), "nfs filer:/d []");
  EXPECT_EQ(told(catalog, "home/sub/k"), "nfs filer:/k []");
  const std::string lines = imported_.text.substr(imported_.text.find("# The old paths"));
  EXPECT_EQ(lines.substr(lines.find('\n') + 1, lines.find("\n\n") - lines.find('\n') - 1),
            "#   ln -sT /volumes/home /home\n#   mkdir -p /opt\n#   ln -sT /volumes/opt/x /opt/x\n"
            "#   ln -sT /volumes/opt/y /opt/y\n#   ln -sT /volumes/top /top\n#   mkdir -p /deep/a\n"
            "#   ln -sT /volumes/deep/a/b /deep/a/b");
}

TEST_F(AutofsImportTest, MountsWithinAKeyAreSharesWhereTheyCanBe) {
  write("auto.master", "/m auto.m\n");
  write("auto.m", "a /x s:/x /y/z -ro t:/z\n* /sub s:/&\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(told(catalog, "a/x"), "nfs s:/x []");
  EXPECT_EQ(told(catalog, "a/y/z"), "nfs t:/z [ read-only]");
  EXPECT_EQ(imported_.faults, 1U);
  EXPECT_TRUE(says("auto.m:2: a wildcard with a mount at \"/sub\" below its keys is not carried over"));
}

TEST_F(AutofsImportTest, EntryWithAMountWithinAnotherOneIsLeftOutButForNfs4) {
  write("auto.master", "/m auto.m\n");
  write("auto.m",
        "two / :/a /sub :/b\nx /x :/a /x/y :/b /z :/c\n* s:/& /sub s:/other/&\nother s:/b /sub s:/sub\n"
        "old -vers=3 s:/b /sub s:/b/sub\nmixed s:/b /sub -ro s:/b/sub\ntype s:/b /sub -fstype=nfs4 s:/b/sub\n"
        "map s:/b /sub -fstype=autofs file:auto.m\n"
        "new s:/b /sub s:/b/sub /sub/c s:/b/sub/c\nfour -vers=4.2 s,t:/b /sub s,t:/b/sub\nroot -fstype=nfs4 s:/ /x "
        "s:/x\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(told(catalog, "new"), "nfs s:/b [vers=4]") << imported_.text;
  EXPECT_EQ(told(catalog, "four"), "nfs s:/b t:/b [vers=4.2]");
  EXPECT_EQ(told(catalog, "root"), "nfs4 s:/ []");
  EXPECT_EQ(catalog.shares().size() + catalog.templates().size(), 3U) << imported_.text;
  EXPECT_TRUE(says("# Not carried over: what the server exports within \"/b\" is seen through it, and so NFS 4 alone"));
  EXPECT_EQ(imported_.faults, 8U) << imported_.text;
  EXPECT_TRUE(
      says("auto.m:1: the mount at \"/sub\" lies within the one at \"/\", and a share has no other one within it"));
  EXPECT_TRUE(says("auto.m:2: the mount at \"/x/y\" lies within the one at \"/x\""));
  EXPECT_TRUE(says("auto.m:3: the mount at \"/sub\" lies within"));
}

TEST_F(AutofsImportTest, EntryAboveAnotherOneIsLeftOutWhicheverComesFirst) {
  write("auto.master", "/a auto.a\n/a/b auto.b\n/a/w auto.w\n/- auto.direct\n");
  write("auto.a", "b s:/b\nb-c s:/c\nw s:/w\n");
  write("auto.b", "k s:/k\n");
  write("auto.w", "* s:/&\n");
  write("auto.direct", "/d/y/z s:/z\n/d/y s:/y\n/e s:/e\n/e/bad\\ one s:/$NONE\n");
  const manager::Catalog catalog = import("/volumes");
  EXPECT_EQ(told(catalog, "a/b/k"), "nfs s:/k []");
  EXPECT_EQ(told(catalog, "a/b-c"), "nfs s:/c []");
  EXPECT_EQ(told(catalog, "a/w/*"), "nfs s:/& []");
  EXPECT_EQ(told(catalog, "d/y/z"), "nfs s:/z []");
  EXPECT_EQ(catalog.shares().size() + catalog.templates().size(), 4U) << imported_.text;
  EXPECT_TRUE(says("auto.a:1: \"a/b\" lies above \"a/b/k\", and a share has no other one within it"));
  EXPECT_TRUE(says("auto.a:3: \"a/w\" lies above \"a/w/*\""));
  EXPECT_TRUE(says("auto.direct:2: \"d/y\" lies above \"d/y/z\""));
  EXPECT_TRUE(says("auto.direct:3: \"e\" lies above \"e/bad one\"")) << "whose place would show another directory";
}

TEST_F(AutofsImportTest, AppendOptionsOfAutofsConfSaysWhoseOptionsCount) {
  write("auto.master", "/a auto.a -soft,ro\n/p DIR/prog -soft\n");
  write("auto.a", "own -hard s:/x\nnone s:/x\n");
  write("prog", "#!/bin/sh\n");
  ::chmod((directory_ / "prog").c_str(), 0755);
  EXPECT_EQ(told(import("/volumes"), "a/own"), "nfs s:/x [soft,hard read-only]");
  EXPECT_FALSE(says("append_options"));
  write("autofs.conf", "[ autofs ]\nappend_options = no\n");
  const manager::Catalog catalog = import("/volumes");
  EXPECT_EQ(told(catalog, "a/own"), "nfs s:/x [hard]");
  EXPECT_EQ(told(catalog, "a/none"), "nfs s:/x [soft read-only]");
  EXPECT_TRUE(says("\"append_options = no\" of autofs.conf: options that a program prints come behind those"));
}

TEST_F(AutofsImportTest, MapsOfMapsAreReadAndCirclesEnd) {
  write("auto.master", "/m auto.m -ro\n");
  write("auto.m",
        "sub -fstype=autofs,soft file:auto.sub\nloop -fstype=autofs :DIR/auto.m\n+auto.m\n+auto.sub\nk s:/late\n");
  write("auto.sub", "k s:/k\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(told(catalog, "sub/k"), "nfs s:/k [soft read-only]");
  EXPECT_EQ(told(catalog, "k"), "nfs s:/k [ read-only]");
  EXPECT_EQ(told(catalog, "loop/loop/sub/k"), "nfs s:/k [soft read-only]");
  EXPECT_TRUE(says("the key \"k\" is there already, and the first one counts"));
  EXPECT_TRUE(says("maps are in maps more than 8 deep"));
}

TEST_F(AutofsImportTest, WhatCannotBeCarriedOverIsToldAndTheRestIsThere) {
  write("auto.master",
        "/yp yp:auto.yp\n/- -hosts\n/prog DIR/prog\n/gone DIR/none\n/m auto.m --timeout=0\nrelative x\n"
        "/m auto.other\n/no -null\n/no auto.m\n+ldap:ou=x\n");
  write("prog", "#!/bin/sh\n");
  ::chmod((directory_ / "prog").c_str(), 0755);
  write("auto.m", "bad\ngood s:/g\na/b s:/x\n.. s:/x\nhostile\"\\e[2J\" s:/x\nin :/m/other\n-o s:/x\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(namespace_, "/volumes");
  EXPECT_EQ(told(catalog, "m/good"), "nfs s:/g []");
  EXPECT_EQ(catalog.find("m/good")->policy().idle_timeout, std::chrono::hours(24 * 3650));
  for (const char* text :
       {"auto.master:1: maps in NIS are not read", "auto.master:2: the program \"showmount\" is not carried over",
        "auto.master:4: \"DIR/none\" cannot be read: No such file",
        "auto.master:6: \"relative\" is not an absolute path", "auto.master:7: \"/m\" has a map already",
        "auto.master:10: maps in LDAP are not read", "auto.m:1: nothing follows the key",
        "auto.m:3: the key \"a/b\" of an indirect map holds a slash", "auto.m:4: "}) {
    EXPECT_TRUE(says(text)) << text << "\n" << imported_.text;
  }
  EXPECT_FALSE(says("/no/"));
  (void)import("/m");
  EXPECT_TRUE(says("auto.m:6: \"/m/other\" lies inside the namespace \"/m\"")) << imported_.text;
}

TEST_F(AutofsImportTest, HostsMapIsATemplateThatAsksShowmount) {
  write("auto.master", "/net -hosts -soft --timeout=60\n");
  const manager::Catalog catalog = import("/volumes");
  const auto found = catalog.templates().find("net/*");
  ASSERT_NE(found, catalog.templates().end()) << imported_.text;
  EXPECT_EQ(found->second.program(), (std::vector<std::string>{"showmount", "--no-headers", "--exports", "{key}"}));
  EXPECT_EQ(found->second.type(), "autofs-hosts");
  EXPECT_EQ(found->second.options(), "soft");
  EXPECT_EQ(found->second.policy().idle_timeout, std::chrono::minutes(1));
}

TEST_F(AutofsImportTest, KeysOfAMapThatIsNotBrowsedAreHidden) {
  write("auto.master", "/a auto.a\n/b auto.a browse\n/c auto.a nobrowse\n/- auto.direct\n");
  write("auto.a", "k s:/k\nmulti /x s:/x /y s:/y\n* s:/&\n");
  write("auto.direct", "/d s:/d\n");
  const auto hidden = [this] {
    const manager::Catalog catalog = import("/volumes");
    std::string names;
    for (const auto& [name, share] : catalog.shares()) names += share.policy().hidden ? std::string(name) + " " : "";
    return names;
  };
  EXPECT_EQ(hidden(), "c/k ");
  write("autofs.conf", "[ autofs ]\nbrowse_mode = no\n");
  EXPECT_EQ(hidden(), "a/k c/k ");
  write("autofs.conf", "[ autofs ]\nbrowse_mode = \"perhaps\"\n");
  EXPECT_EQ(hidden(), "c/k ");
  EXPECT_TRUE(says("autofs.conf:2: \"browse_mode\" is neither yes nor no")) << imported_.text;
}

TEST_F(AutofsImportTest, ExecutableMapIsATemplateThatAsksIt) {
  write("auto.master", "/home DIR/prog -DSITE=x -soft --timeout=60 --negative-timeout=30\n/- DIR/prog\n");
  write("prog", "#!/bin/sh\n");
  ::chmod((directory_ / "prog").c_str(), 0755);
  const manager::Catalog catalog = import("/volumes");
  const auto found = catalog.templates().find("home/*");
  ASSERT_NE(found, catalog.templates().end()) << imported_.text;
  const manager::ShareSpec& home = found->second;
  EXPECT_EQ(home.program(), (std::vector<std::string>{directory_ / "prog", "{key}"}));
  EXPECT_EQ(home.type(), "autofs");
  EXPECT_EQ(home.options(), "soft");
  EXPECT_EQ(home.environment(), std::vector<std::string>{"SITE=x"});
  EXPECT_EQ(home.policy().idle_timeout, std::chrono::minutes(1));
  EXPECT_EQ(home.policy().negative_timeout, std::chrono::seconds(30));
  EXPECT_TRUE(says("auto.master:2: the program \"DIR/prog\" is not carried over: its keys are paths"))
      << imported_.text;
  // The mount point is the namespace.
  EXPECT_TRUE(import("/home").templates().contains("*"));
}

TEST_F(AutofsImportTest, TimesOfAutofsConfAreThoseOfMapsThatSayNone) {
  write("auto.master", "/a auto.a\n/b auto.b --timeout=60\n");
  write("auto.a", "k s:/k\n* s:/&\n");
  write("auto.b", "k s:/k\n");
  write("autofs.conf",
        "# timeout = 1\n[ autofs ]\ntimeout = 900\nnegative_timeout=\"30\"\nbrowse_mode = no\n[ amd ]\ntimeout = 7\n");
  const manager::Catalog catalog = import();
  EXPECT_EQ(catalog.find("a/k")->policy().idle_timeout, std::chrono::seconds(900));
  EXPECT_EQ(catalog.find("b/k")->policy().idle_timeout, std::chrono::seconds(60));
  EXPECT_EQ(catalog.templates().find("a/*")->second.policy().negative_timeout, std::chrono::seconds(30));
  write("autofs.conf", "timeout = never\n");
  (void)import();
  EXPECT_TRUE(says("autofs.conf:1: \"timeout\" is no number of seconds")) << imported_.text;
}

TEST_F(AutofsImportTest, SourcesOfNsswitchThatAreNotReadAreTold) {
  write("auto.master", "/a auto.a\n+auto.master\n");
  write("auto.a", "k s:/k\n");
  write("nsswitch.conf", "passwd: files ldap\nautomount:\tfiles [NOTFOUND=return SUCCESS=continue] sss ldap # x\n");
  const manager::Catalog catalog = import("/volumes");
  EXPECT_EQ(told(catalog, "a/k"), "nfs s:/k []");
  EXPECT_TRUE(says("nsswitch.conf:2: maps of the source \"sss\" are not read")) << imported_.text;
  EXPECT_TRUE(says("nsswitch.conf:2: maps of the source \"ldap\" are not read; berth-source-ldap"));
  EXPECT_EQ(imported_.faults, 2U) << imported_.text;
}

TEST_F(AutofsImportTest, MapsAreASourceOfSharesOfTheConfiguration) {
  write("auto.master", "/home DIR/auto.home --timeout=60\n/- DIR/direct\n");
  write("auto.home", "alice s:/a\nbob s:/b\nbad\n* s:/&\n");
  write("direct", "/opt/x -soft,symlink s:/x\n/data/y s:/y\n");
  write("berth.toml",
        "[berth]\nnamespace = \"/volumes\"\nmount_timeout = \"7s\"\n[[map]]\nautofs = \"DIR/auto.master\"\n"
        "[share.\"home/bob\"]\ntype = \"bind\"\nsource = \"/srv/bob\"\n[share.data]\ntype = \"tmpfs\"\n");
  const Result<Configuration> loaded = load(directory_ / "berth.toml");
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message();
  EXPECT_EQ(told(loaded->catalog, "home/alice"), "nfs s:/a []");
  EXPECT_EQ(told(loaded->catalog, "home/bob"), "bind /srv/bob []");
  EXPECT_EQ(told(loaded->catalog, "home/*"), "nfs s:/& []");
  EXPECT_EQ(told(loaded->catalog, "opt/x"), "nfs s:/x [soft]");
  EXPECT_EQ(loaded->catalog.shares().size(), 4U);
  EXPECT_EQ(loaded->catalog.find("home/alice")->policy().idle_timeout, std::chrono::minutes(1));
  EXPECT_EQ(loaded->catalog.find("home/alice")->policy().mount_timeout, std::chrono::seconds(7));
  EXPECT_EQ(loaded->catalog.find("home/alice")->origin(), directory_ / "auto.home:1");
  EXPECT_EQ(loaded->files.size(), 4U);
  std::string warnings;
  for (const std::string& warning : loaded->warnings) warnings += warning + "\n";
  for (const char* text :
       {"auto.home:2: ", "auto.home:3: nothing follows the key", "direct:1: the option \"symlink\":", "direct:2: "}) {
    EXPECT_NE(warnings.find(std::string("not carried over from autofs: ") + (directory_ / text)), std::string::npos)
        << text << "\n"
        << warnings;
  }
}

using Names = std::set<std::string>;

/// The maps of a host, each way in which one leads to another.
class UnreadMaps : public AutofsImportTest {
 protected:
  void SetUp() override {
    write("auto.master", "/m auto.m\n/- direct\n/p DIR/prog\n/k auto.k\n+extra\n+dir:DIR/master.d\n");
    write("auto.m", "a s:/a\nsub -fstype=autofs :DIR/sub\n+more\n");
    write("more", "b s:/b\n");
    write("sub", "c s:/c\n* s:/c/&\n");
    write("direct", "/d s:/d\n");
    write("prog", "#!/bin/true\n");
    ASSERT_EQ(::chmod((directory_ / "prog").c_str(), 0755), 0);
    write("auto.k", "kept s:/kept\ngone s:/gone\n");
    write("extra", "/x auto.x\n/q DIR/prog\n");
    write("auto.x", "e s:/e\n");
    write("master.d/1.autofs", "/y auto.y\n");
    write("auto.y", "f s:/f\n");
    write("berth.toml", "[berth]\nnamespace = \"/volumes\"\n[[map]]\nautofs = \"DIR/auto.master\"\n");
  }
  [[nodiscard]] Configuration loaded() const { return load(directory_ / "berth.toml").value(); }
  static Names names_of(const manager::Catalog& catalog) {
    Names names;
    for (const auto& [name, share] : catalog.shares()) names.emplace(name);
    for (const auto& [name, share] : catalog.templates()) names.emplace(name);
    return names;
  }

  const Names all_{"d", "k/gone", "k/kept", "m/a", "m/b", "m/sub/*", "m/sub/c", "p/*", "q/*", "x/e", "y/f"};
};

TEST_F(UnreadMaps, KeepTheirSharesAndThoseOfWhatTheyLedTo) {
  const manager::Catalog before = loaded().catalog;
  ASSERT_EQ(names_of(before), all_);
  write("auto.k", "kept s:/kept\n");
  for (const std::string file : {"auto.m", "more", "sub", "direct", "prog", "auto.k", "extra", "auto.x", "master.d",
                                 "master.d/1.autofs", "auto.y"}) {
    const std::filesystem::path path = directory_ / file;
    const std::filesystem::path aside = directory_ / "aside";
    std::filesystem::rename(path, aside);
    // What is gone, what is a directory or a file in its place, and a FIFO, which must not be waited for.
    for (const std::string place : {"nothing", "other", "fifo"}) {
      if (file == "master.d/1.autofs" && place == "nothing") continue;  // which is a file of the directory less
      if (place == "other" && file == "master.d") write(file, "");
      if (place == "other" && file != "master.d") std::filesystem::create_directory(path);
      if (place == "fifo") {
        ASSERT_EQ(::mkfifo(path.c_str(), 0644), 0);
      }
      const Configuration now = loaded();
      Names wanted = all_;
      if (file != "auto.k") wanted.erase("k/gone");
      EXPECT_EQ(names_of(manager::with_kept(now.catalog, before)), wanted) << file << ": " << place;
      ASSERT_FALSE(now.warnings.empty()) << file;
      EXPECT_NE(now.warnings.front().find(path.native()), std::string::npos) << now.warnings.front();
      EXPECT_NE(now.warnings.front().find("; those of its shares that are in force stay"), std::string::npos)
          << now.warnings.front();
      std::filesystem::remove_all(path);
    }
    std::filesystem::rename(aside, path);
  }
}

TEST_F(UnreadMaps, KeepNoShareOfAMapThatIsNotNamedAnyMore) {
  const manager::Catalog before = loaded().catalog;
  write("auto.master", "/m auto.m\n/k auto.k\n+none\n");
  std::filesystem::remove(directory_ / "auto.m");
  std::filesystem::remove(directory_ / "auto.x");
  EXPECT_EQ(names_of(manager::with_kept(loaded().catalog, before)),
            (Names{"k/gone", "k/kept", "m/a", "m/b", "m/sub/*", "m/sub/c"}));
}

TEST_F(UnreadMaps, AMapThatIsTooLargeIsUnread) {
  const manager::Catalog before = loaded().catalog;
  write("direct", "/d s:/d\n" + std::string(autofs::kMaxFileSize, '#'));
  EXPECT_EQ(names_of(manager::with_kept(loaded().catalog, before)), all_);
}

TEST_F(UnreadMaps, AnIncludeThatHasBecomeAProgramIsUnread) {
  const manager::Catalog before = loaded().catalog;
  ASSERT_EQ(::chmod((directory_ / "more").c_str(), 0755), 0);
  EXPECT_EQ(names_of(manager::with_kept(loaded().catalog, before)), all_);
}

TEST_F(AutofsImportTest, WarningsOfMapsShowNoSecret) {
  write("auto.master", "/m DIR/auto.m --password=plant3d\n/n DIR/auto.n\n");
  write("auto.n", "a -fstype=cifs,password=plant3d //bob:plant3d@h\nb https://u:plant3d@h/x\n");
  write("berth.toml", "[berth]\nnamespace = \"/volumes\"\n[[map]]\nautofs = \"DIR/auto.master\"\n");
  const Result<Configuration> loaded = load(directory_ / "berth.toml");
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message();
  EXPECT_FALSE(loaded->warnings.empty());
  for (const std::string& warning : loaded->warnings) EXPECT_EQ(warning.find("plant3d"), std::string::npos) << warning;
}

TEST_F(AutofsImportTest, MapSectionWithAMistakeIsRefused) {
  const auto refusal = [this](const std::string& text) {
    write("berth.toml", "[berth]\nnamespace = \"/volumes\"\n" + text);
    const Result<Configuration> loaded = load(directory_ / "berth.toml");
    return loaded ? "none" : std::string(loaded.error().story()).substr((directory_ / "berth.toml:").size());
  };
  EXPECT_EQ(refusal("[[map]]\n"),
            "3: \"autofs\" in [[map]] is missing; the path of a master map, such as \"/etc/auto.master\"");
  EXPECT_EQ(refusal("[[map]]\nautofs = \"auto.master\"\n"),
            "4: \"autofs\" in [[map]]: \"auto.master\" is not an absolute path");
  EXPECT_EQ(refusal("[map]\nautofs = \"/x\"\n"), "3: \"map\" is not a value: a section [[map]] is expected");
  EXPECT_EQ(refusal("[[map]]\nautofs = \"DIR/none\"\n"),
            "3: the maps of autofs: \"" + (directory_ / "none") + "\" cannot be read: No such file or directory");
  write("shares.d/a.toml", "[[map]]\nautofs = \"/etc/auto.master\"\n");
  const Result<Configuration> loaded = load(directory_ / "berth.toml");
  EXPECT_NE(std::string(loaded.error().story()).find("belongs in the main file"), std::string::npos);
}

TEST_F(AutofsImportTest, MasterMapThatCannotBeReadIsAnError) {
  EXPECT_EQ(import_autofs(directory_ / "none", "").error().code(), ENOENT);
  EXPECT_EQ(import_autofs(directory_.path(), "").error().code(), EINVAL);
}

}  // namespace
}  // namespace berth::config
