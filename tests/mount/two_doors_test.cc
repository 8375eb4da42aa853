// One share through two doors at once: natively on the host, and through berth in a mount namespace that has seen no
// real mount come.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>

#include "tests/mount/berth_fixture.h"
#include "tests/mount/companion.h"

namespace berth::test {
namespace {

dev_t device_of(const std::string& path) {
  struct stat attributes {};
  return ::stat(path.c_str(), &attributes) == 0 ? attributes.st_dev : 0;
}

/// A page of a file that is mapped, shared.
class Mapping {
 public:
  static constexpr std::size_t kSize = 4096;

  bool open(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (file) bytes_ = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    return bytes_ != MAP_FAILED;
  }
  ~Mapping() {
    if (bytes_ != MAP_FAILED) ::munmap(bytes_, kSize);
  }
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  [[nodiscard]] volatile char& at(std::size_t place) const { return static_cast<volatile char*>(bytes_)[place]; }

 private:
  void* bytes_ = MAP_FAILED;
};

/// A sqlite3(1) that keeps its database open, with what it has cached of it.
class Sqlite {
 public:
  /// `launcher`: a command that executes it, such as in another mount namespace.
  Sqlite(const std::string& launcher, const std::string& database) {
    std::array<int, 2> to{}, from{};
    EXPECT_EQ(::pipe2(to.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(from.data(), O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(to[0], STDIN_FILENO);
      ::dup2(from[1], STDOUT_FILENO);
      ::dup2(from[1], STDERR_FILENO);
      const std::string command = "exec " + launcher + " sqlite3 -batch " + database;
      ::execlp("sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    to_ = UniqueFd(to[1]);
    from_ = UniqueFd(from[0]);
  }
  ~Sqlite() {
    to_.reset();
    ::waitpid(pid_, nullptr, 0);
  }
  Sqlite(const Sqlite&) = delete;
  Sqlite& operator=(const Sqlite&) = delete;

  /// What it answers: the lines, with a blank between them.
  std::string ask(const std::string& statements) {
    const std::string text = statements + "\nSELECT 'end';\n";
    EXPECT_EQ(::write(to_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    std::string said;
    char byte = 0;
    while (!said.ends_with("end\n") && ::read(from_.get(), &byte, 1) == 1) said += byte;
    said.resize(said.ends_with("end\n") ? said.size() - 4 : said.size());
    for (char& c : said) c = c == '\n' ? ' ' : c;
    return said;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd to_, from_;
};

/// What the share is of, and whether it is native on the host.
struct Kind {
  const char* name;
  const char* type;
  bool native;
};

class TwoDoors : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const std::string kind = GetParam().name;
    std::string config;
    if (kind == "overlay" || kind == "below") {
      const std::string layers = server_.make_directory("layers");
      ASSERT_EQ(::mount("tmpfs", layers.c_str(), "tmpfs", 0, nullptr), 0);
      for (const char* name : {"lower", "upper", "work", "merged"})
        server_.make_directory("layers/" + std::string(name));
      const std::string options =
          "lowerdir=" + layers + "/lower,upperdir=" + layers + "/upper,workdir=" + layers + "/work";
      config = "type = \"overlay\"\noptions = \"" + options + "\"\n";
      if (kind == "below") {
        ASSERT_EQ(::mount("overlay", (layers + "/merged").c_str(), "overlay", 0, options.c_str()), 0);
        server_.make_directory("layers/merged/deep");
        config = "type = \"bind\"\nsource = \"" + layers + "/merged/deep\"\n";
      }
    } else if (kind == "bind") {
      config = "type = \"bind\"\nsource = \"" + server_.make_directory("source") + "\"\n";
    } else {
      const std::string image = server_.path("image");
      ASSERT_EQ(::system(("truncate -s 320M " + image + " && mkfs." + kind + " -q " + image).c_str()), 0);
      config = "type = \"" + kind + "\"\nsource = \"" + image + "\"\n";
    }
    ASSERT_TRUE(ok(server_.start("[share.a]\naccess = \"native\"\n" + config)));
  }
  void TearDown() override {
    const std::string layers = server_.path("layers");
    EXPECT_EQ(server_.stop(), Ending{});
    ::umount2((layers + "/merged").c_str(), MNT_DETACH);
    ::umount2(layers.c_str(), MNT_DETACH);
  }
  /// In a mount namespace that no real mount comes to any more.
  std::unique_ptr<Companion> elsewhere(const std::vector<Companion::Step>& steps = {}) {
    return std::make_unique<Companion>([] { return ::unshare(CLONE_NEWNS) == 0 ? 0 : errno; }, steps);
  }
  /// Makes a file; from here on the host's door leads where it is to.
  void open_the_hosts_door(const std::string& file, const std::string& content) {
    ASSERT_TRUE(ok(server_.write_file("namespace/a/" + file, content)));
    ASSERT_TRUE(eventually([&] {
      return server_.read_json("shares/a/status.json").value("native", false) == GetParam().native;
    })) << server_.read_control("shares/a/status").value_or("");
    ASSERT_EQ(device_of(in(file)) != device_of(server_.namespace_path()), GetParam().native);
  }
  [[nodiscard]] std::string in(const std::string& name) const { return server_.in_namespace("a/" + name); }

  BerthServer server_;
};

TEST_P(TwoDoors, MappingsOfOneFileShareEachByte) {
  Mapping theirs;
  const std::string file = in("file");
  const auto companion = elsewhere({
      [&] { return theirs.open(file) ? 0 : errno; },
      [&] { return device_of(file) == device_of(server_.namespace_path()) ? 0 : 1; },
      [&] {  // answers what the host wrote, byte by byte
        for (std::size_t i = 0; i < Mapping::kSize; i += 2) {
          if (theirs.at(i) != 'h') return static_cast<int>(i) + 1;
          theirs.at(i + 1) = 't';
        }
        return 0;
      },
  });
  open_the_hosts_door("file", std::string(Mapping::kSize, '.'));
  Mapping ours;
  ASSERT_TRUE(ours.open(file)) << errno_name(errno);
  ASSERT_EQ(companion->run(0), 0);
  ASSERT_EQ(companion->run(1), 0) << "it comes through berth";
  for (std::size_t i = 0; i < Mapping::kSize; i += 2) ours.at(i) = 'h';
  EXPECT_EQ(companion->run(2), 0) << "the byte of the host that is not seen there, and one";
  std::string wanted;
  for (std::size_t i = 0; i < Mapping::kSize; i += 2) wanted += "ht";
  std::string seen(Mapping::kSize, '\0');
  for (std::size_t i = 0; i < Mapping::kSize; ++i) seen[i] = ours.at(i);
  EXPECT_EQ(seen, wanted);
  EXPECT_EQ(server_.read_file("namespace/a/file").value_or(""), wanted) << "read(2) sees the same";
}

TEST_P(TwoDoors, NoAcknowledgedCommitOfSqliteIsLost) {
  constexpr int kCommits = 400;
  const auto companion = elsewhere();
  open_the_hosts_door("other", "");
  for (const char* const journal : {"delete", "wal"}) {
    SCOPED_TRACE(journal);
    const std::string database = in(std::string(journal) + ".db");
    Sqlite host("", database);
    // As Nova, cloud-init and many do: a busy timeout, and pages in memory that is mapped.
    const std::string setup = ".timeout 20000\nPRAGMA mmap_size = 1048576;";
    host.ask(setup);
    ASSERT_EQ(host.ask("PRAGMA journal_mode = " + std::string(journal) + ";"), std::string(journal) + " ");
    ASSERT_EQ(host.ask("CREATE TABLE t(number INTEGER PRIMARY KEY, door TEXT, filling TEXT);"), "");
    Sqlite container("nsenter --mount=/proc/" + std::to_string(companion->pid()) + "/ns/mnt", database);
    container.ask(setup);
    for (int i = 0; i < kCommits; ++i) {
      Sqlite& door = i % 2 == 0 ? host : container;
      const std::string number = std::to_string(i);
      ASSERT_EQ(door.ask("INSERT INTO t VALUES(" + number + ", '" + (i % 2 == 0 ? "host" : "container") +
                         "', hex(randomblob(100))); SELECT count(*) FROM t;"),
                std::to_string(i + 1) + " ")
          << "after " << i << " acknowledged commits";
    }
    for (Sqlite* const door : {&host, &container}) {
      EXPECT_EQ(door->ask("SELECT count(*), sum(door = 'host') FROM t; PRAGMA integrity_check;"), "400|200 ok ");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TwoDoors,
                         ::testing::Values(Kind{"ext4", "ext4", true}, Kind{"xfs", "xfs", true},
                                           Kind{"btrfs", "btrfs", true}, Kind{"bind", "bind", true},
                                           Kind{"overlay", "overlay", false}, Kind{"below", "bind", false}),
                         [](const auto& kind) { return std::string(kind.param.name); });

}  // namespace
}  // namespace berth::test
