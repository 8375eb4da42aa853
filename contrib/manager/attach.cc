// What a program does that manages the mounts of a host by itself, as OpenStack Nova does for its guests: the host
// comes up, a guest attaches a share, uses it and detaches it, and the host goes down. No daemon of berth runs.
//
//   g++ -std=c++20 attach.cc -o attach $(pkg-config --cflags --libs berth-manager)
//   ./attach /srv/images disk0
//
// prints /srv/images/disk0, read in a mount of that directory, and then what is mounted. It needs root.
#include <manager/backends/make_backends.h>
#include <manager/engine/manager.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>

namespace {

using berth::Result;
using berth::UniqueFd;
namespace manager = berth::manager;

/// The manager answers on a thread of its own: this waits for it.
template <typename T>
Result<T> wait_for(const std::function<void(berth::UniqueFunction<void(Result<T>)>)>& ask) {
  std::promise<Result<T>> answer;
  std::future<Result<T>> answered = answer.get_future();
  ask([answer = std::move(answer)](Result<T> result) mutable { answer.set_value(std::move(result)); });
  return answered.get();
}

Result<> print_file(int root, const char* name) {
  const UniqueFd file(::openat(root, name, O_RDONLY | O_CLOEXEC));
  if (!file) return berth::fail_errno();
  std::array<char, 4096> bytes{};
  for (ssize_t count = 0; (count = ::read(file.get(), bytes.data(), bytes.size())) != 0;) {
    if (count < 0) return berth::fail_errno();
    std::fwrite(bytes.data(), 1, static_cast<std::size_t>(count), stdout);
  }
  return {};
}

Result<std::unique_ptr<manager::Manager>> make_manager(const std::string& mountpoints, const std::string& directory,
                                                       const berth::Clock& clock) {
  manager::ShareFields fields;
  fields.name = "images";
  fields.type = "bind";  // or "nfs", "cephfs", "fuse.sshfs", ..., with the options of mount(8)
  fields.sources = {directory};
  manager::Catalog catalog;
  manager::ShareSpec spec = TRY(manager::ShareSpec::make(std::move(fields)));
  TRY_VOID(catalog.add(std::move(spec)));

  manager::ManagerSetup setup;
  setup.berth_directory = mountpoints;
  setup.backends = manager::make_backends();
  setup.host = {.up = false, .next_generation = 1};
  setup.on_event = [](const manager::Event& event) {
    if (event.kind == manager::Event::Kind::kMounted) std::puts("mounted");
    if (event.kind == manager::Event::Kind::kUnmounted) std::puts("unmounted");
  };
  return manager::Manager::make(std::move(setup), catalog, clock);
}

Result<> use(const std::string& mountpoints, const std::string& directory, const char* file) {
  const berth::SystemClock clock;
  const std::unique_ptr<manager::Manager> mounts = TRY(make_manager(mountpoints, directory, clock));
  mounts->begin();
  const std::shared_ptr<manager::Share> share = mounts->find("images");
  const manager::Attachment attachment{.instance = "guest-1", .volume = "disk-1"};

  TRY_VOID(wait_for<void>([&](auto done) { mounts->resume(std::move(done)); }));  // the host is up
  TRY_VOID(wait_for<void>([&](auto done) { mounts->attach(*share, attachment, std::move(done)); }));
  Result<> printed;
  {
    const manager::Lease lease =
        TRY(wait_for<manager::Lease>([&](auto done) { (void)mounts->lease(*share, std::move(done)); }));
    printed = print_file(lease.root(), file);
  }
  TRY_VOID(wait_for<void>([&](auto done) { mounts->detach(*share, attachment, std::move(done)); }));
  TRY_VOID(wait_for<void>([&](auto done) { mounts->drain(std::move(done)); }));  // down: nothing is mounted any more
  return printed;
}

}  // namespace

int main(int argc, char** argv) {
  std::string mountpoints = "/tmp/attach-XXXXXX";
  if (argc != 3 || ::mkdtemp(mountpoints.data()) == nullptr) {
    std::fprintf(stderr, "usage: attach DIRECTORY FILE\n");
    return 64;
  }
  const Result<> used = use(mountpoints, argv[1], argv[2]);
  ::rmdir(mountpoints.c_str());
  if (used) return 0;
  std::fprintf(stderr, "attach: %s\n", used.error().message().c_str());
  return 1;
}
