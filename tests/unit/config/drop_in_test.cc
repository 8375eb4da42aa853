#include "src/config/drop_in.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "src/config/catalog_source.h"
#include "src/lib/base/unique_fd.h"
#include "tests/unit/temporary_directory.h"

namespace berth::config {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class DropIn : public ::testing::Test {
 protected:
  void SetUp() override {
    write("berth.toml", "[berth]\nnamespace = \"/volumes\"\n\n[share.old]\ntype = \"bind\"\nsource = \"/srv/old\"\n");
  }

  void write(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(directory_ / name).parent_path());
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ifstream file(directory_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] Result<ChangedDropIn> add(const NewShare& share) const { return add_share(file_, {}, share); }
  [[nodiscard]] Result<ChangedDropIn> remove(const std::string& name) const { return remove_share(file_, {}, name); }
  [[nodiscard]] Result<Configuration> load_all() const { return load(file_); }
  /// All that is in the directory of drop-ins, hidden files as well.
  [[nodiscard]] std::size_t files() const {
    if (!fs::exists(directory_ / "shares.d")) return 0;
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory_ / "shares.d"), {}));
  }

  berth::testing::TemporaryDirectory directory_;
  const std::string file_ = directory_ / "berth.toml";
};

NewShare bind(const std::string& name) { return {name, "bind", {"/srv/" + name}, {}, {}}; }

TEST_F(DropIn, HoldsWhatWasSaidAndIsForRootAlone) {
  const auto added = add({"home/alice",
                          "nfs",
                          {"nfs1:/a \"b\"\\", "nfs2:/a"},
                          {"vers=4.2", "ro"},
                          {{"idle_timeout", "1h"}, {"read_only", "true"}, {"allow_users", "[0]"}}});
  ASSERT_TRUE(added) << added.error().message();
  EXPECT_EQ(added->path, directory_ / "shares.d/home%2Falice.toml");
  EXPECT_EQ(added->namespace_directory, "/volumes");
  const auto loaded = load_all();
  ASSERT_TRUE(loaded) << loaded.error().message();
  const manager::ShareSpec* const share = loaded->catalog.find("home/alice");
  ASSERT_NE(share, nullptr);
  EXPECT_EQ(share->type(), "nfs");
  EXPECT_EQ(share->sources(), (std::vector<std::string>{"nfs1:/a \"b\"\\", "nfs2:/a"}));
  EXPECT_EQ(share->options(), "vers=4.2,ro");
  EXPECT_TRUE(share->policy().read_only);
  EXPECT_EQ(share->policy().idle_timeout, std::chrono::hours(1));
  EXPECT_EQ(share->policy().allow_users, std::vector<uid_t>{0});
  EXPECT_EQ(files(), 1U);
  struct stat attributes {};
  ASSERT_EQ(::stat(added->path.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0600U);
}

TEST_F(DropIn, NewShareComesWithItsOwnWarningsAlone) {
  write("shares.d/a.toml", "[share.a]\ntype = \"cifs\"\nsource = \"//h/a\"\noptions = \"password=one\"\n");
  const auto added = add({"b", "cifs", {"//h/b"}, {"password=two"}, {}});
  ASSERT_TRUE(added) << added.error().message();
  EXPECT_THAT(added->added.warnings, ::testing::ElementsAre(HasSubstr("shares.d/b.toml:2: [share.b] has a secret in")));
  EXPECT_EQ(added->added.catalog.shares().size(), 1U);
  EXPECT_NE(added->added.catalog.find("b"), nullptr);
  EXPECT_TRUE(remove("b")->added.catalog.shares().empty());
}

TEST_F(DropIn, NameThatIsThereIsRefusedWithFileAndLine) {
  const auto added = add(bind("old"));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), EEXIST);
  EXPECT_THAT(added.error().message(), HasSubstr(file_ + ":4"));
  ASSERT_TRUE(add(bind("new")));
  const auto twice = add(bind("new"));
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().message(), HasSubstr("shares.d/new.toml:2"));
  EXPECT_EQ(files(), 1U);
}

/// A configured share goes before one of a map or a source, so it can be added; what is theirs is deleted with them.
TEST_F(DropIn, NameOfAMapOrASourceCanBeAddedAndIsRemovedThere) {
  write("auto.master", "/m auto.m\n");
  write("auto.m", "one s:/one\n");
  write("berth.toml", "[berth]\nnamespace = \"/volumes\"\nstate_dir = \"" + directory_ / "state" +
                          "\"\n[[map]]\nautofs = \"" + directory_ / "auto.master" +
                          "\"\n[[catalog_source]]\nname = \"fleet\"\nprogram = [\"/bin/true\"]\n");
  ASSERT_TRUE(write_source_file(source_file(source_directory(directory_ / "state", "/volumes"), "fleet"),
                                {{"two", R"({"put":"two","share":{"type":"bind","source":"/two"}})"}}));
  const auto refusal = [this](const std::string& name) {
    const auto removed = remove(name);
    return removed ? "none" : std::string(removed.error().story());
  };
  EXPECT_EQ(refusal("m/one"), "it comes from " + directory_ / "auto.m" + ":1, a map of autofs; delete the entry there");
  EXPECT_EQ(refusal("two"), "it comes from catalog source fleet; delete it in the store of that");
  for (const std::string name : {"m/one", "two"}) {
    const auto added = add(bind(name));
    ASSERT_TRUE(added) << added.error().message();
    EXPECT_EQ(added->added.catalog.find(name)->type(), "bind");
    EXPECT_EQ(add(bind(name)).error().code(), EEXIST);
    EXPECT_TRUE(remove(name));
  }
}

TEST_F(DropIn, TemplateIsAShareOfItsOwnName) {
  ASSERT_TRUE(add({"home/*", "bind", {"/srv/&"}, {}, {}}));
  EXPECT_EQ(add({"home/*", "bind", {"/srv/&"}, {}, {}}).error().code(), EEXIST);
  EXPECT_TRUE(remove("home/*"));
  EXPECT_EQ(files(), 0U);
}

/// What `berth check` would refuse, and what could be taken for more than a value.
TEST_F(DropIn, NothingIsWrittenOfWhatIsWrong) {
  const std::vector<NewShare> wrong{
      {"a", "bind", {}, {}, {}},
      {"a", "bind", {"relative"}, {}, {}},
      {"a", "bind", {"/volumes/x"}, {}, {}},
      {"old/below", "bind", {"/srv"}, {}, {}},
      {"..", "bind", {"/srv"}, {}, {}},
      {".berth", "bind", {"/srv"}, {}, {}},
      {"a\nb", "bind", {"/srv"}, {}, {}},
      {"a\xff", "bind", {"/srv"}, {}, {}},
      {std::string(255, 'x') + "/y", "bind", {"/srv"}, {}, {}},
      {"a", "bind", {"/srv"}, {}, {{"sorce", "x"}}},
      {"a", "bind", {"/srv"}, {}, {{"source", "/twice"}}},
      {"a", "bind", {"/srv"}, {}, {{"x]\n[share.b", "x"}}},
      {"a", "bind", {"/srv"}, {}, {{"environment", "[]\n[share.b]\ntype=\"bind\""}}},
      {"a", "bind", {"/srv"}, {}, {{"environment", "["}}},
      {"a", "bind", {"/srv"}, {}, {{"idle_timeout", "soon"}}},
  };
  for (const NewShare& share : wrong) {
    const auto added = add(share);
    EXPECT_FALSE(added) << ::testing::PrintToString(share.name);
    EXPECT_EQ(files(), 0U);
  }
}

TEST_F(DropIn, NothingIsAddedToAConfigurationThatIsWrong) {
  write("shares.d/bad.toml", "[share.bad]\n");
  const auto added = add(bind("a"));
  ASSERT_FALSE(added);
  EXPECT_THAT(added.error().message(), HasSubstr("bad.toml:1"));
  EXPECT_EQ(files(), 1U);
}

TEST_F(DropIn, FileOfSomethingElseIsLeft) {
  write("shares.d/a.toml", "# nothing yet\n");
  EXPECT_EQ(add(bind("a")).error().code(), EEXIST);
  EXPECT_EQ(read("shares.d/a.toml"), "# nothing yet\n");
}

TEST_F(DropIn, RemoveLeavesWhatHoldsMoreThanTheShare) {
  write("shares.d/a.toml",
        "[share.a]\ntype = \"bind\"\nsource = \"/srv\"\n[share.b]\ntype = \"bind\"\nsource = \"/srv\"\n");
  const std::vector<std::pair<std::string, std::string>> elsewhere{
      {"old", file_ + ":4"}, {"a", "a.toml:1"}, {"b", "a.toml:4"}};
  for (const auto& [name, origin] : elsewhere) {
    const auto removed = remove(name);
    ASSERT_FALSE(removed) << name;
    EXPECT_EQ(removed.error().code(), EBUSY);
    EXPECT_THAT(removed.error().message(), HasSubstr(origin));
  }
  EXPECT_EQ(remove("none").error().code(), ENXIO);
  EXPECT_EQ(files(), 1U);
}

TEST_F(DropIn, ChangesCanBeUndone) {
  const auto added = add(bind("a"));
  ASSERT_TRUE(added);
  const std::string text = read("shares.d/a.toml");
  const auto removed = remove("a");
  ASSERT_TRUE(removed);
  EXPECT_EQ(files(), 0U);
  ASSERT_TRUE(undo(*removed));
  EXPECT_EQ(read("shares.d/a.toml"), text);
  ASSERT_TRUE(undo(*added));
  EXPECT_EQ(files(), 0U);
}

/// "a" and "a/b" cannot both be: whatever is added at once, the configuration stays a good one.
TEST_F(DropIn, AddsAtOnceAreMadeOneAfterTheOther) {
  for (int round = 0; round < 8; ++round) {
    const std::string name = "r" + std::to_string(round);
    std::vector<std::thread> threads;
    for (const std::string& share : {name, name + "/b", name + "/b/c"})
      threads.emplace_back([this, share] { (void)add(bind(share)); });
    for (std::thread& thread : threads) thread.join();
    const auto loaded = load_all();
    ASSERT_TRUE(loaded) << loaded.error().message();
  }
  EXPECT_EQ(files(), 8U);
}

TEST_F(DropIn, DirectoryThatAnotherUserLocksHoldsNothingUp) {
  ASSERT_TRUE(add(bind("a")));
  const UniqueFd directory(::open((directory_ / "shares.d").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(directory.get(), LOCK_EX), 0);
  EXPECT_TRUE(add(bind("b")));
  EXPECT_TRUE(remove("a"));
  EXPECT_EQ(files(), 1U);
}

TEST_F(DropIn, WhatAWriterThatDiedHasLeftIsNoPartOfTheNext) {
  write("shares.d/.new", std::string(10'000, 'x'));
  ASSERT_TRUE(add(bind("a")));
  EXPECT_TRUE(load_all());
  EXPECT_EQ(files(), 1U);
}

}  // namespace
}  // namespace berth::config
