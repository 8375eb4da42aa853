// berth-libvirt: attaches shares for the guests of a hypervisor. man/berth-libvirt.8 says how it is used.
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "src/lib/base/text.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"
#include "src/libvirt/attacher.h"
#include "src/libvirt/hypervisor.h"
#include "src/libvirt/namespaces.h"
#include "src/libvirt/plan.h"

namespace {

using namespace berth;           // NOLINT(google-build-using-namespace): this is its program
using namespace berth::libvirt;  // NOLINT(google-build-using-namespace)

// sysexits(3)
constexpr int kUsage = 64;
constexpr int kUnavailable = 69;

constexpr const char* kHelp = R"(usage: berth-libvirt serve|status [OPTIONS]

Keeps the shares attached that the guests of a hypervisor have their disks on.

  serve    follows the guests, and attaches and detaches, until it is to stop
  status   shows the hypervisor's attachments and all others beside each other;
           exit status 1 when they disagree

  -c, --connect URI      the hypervisor, as for virsh(1); qemu:///system
  -n, --namespace DIR    only this namespace; may be repeated; all of the host
  -o, --origin NAME      what instances are called before the UUID: NAME:UUID;
                         libvirt
  -h, --help             this text
  -V, --version          the version

See berth-libvirt(8).
)";

struct Options {
  bool serves = false;
  std::string uri = "qemu:///system";
  std::string origin = "libvirt";
  std::set<std::string> namespaces;
};

[[noreturn]] void refuse(const std::string& why) {
  std::fprintf(stderr, "berth-libvirt: %s\nTry 'berth-libvirt --help'.\n", why.c_str());
  std::exit(kUsage);  // NOLINT(concurrency-mt-unsafe): there is one thread
}

/// Exits for --help, --version and what is wrong.
Options options_of(int argc, char** argv) {
  const std::array<option, 6> known{{{"connect", required_argument, nullptr, 'c'},
                                     {"namespace", required_argument, nullptr, 'n'},
                                     {"origin", required_argument, nullptr, 'o'},
                                     {"help", no_argument, nullptr, 'h'},
                                     {"version", no_argument, nullptr, 'V'},
                                     {}}};
  Options options;
  for (int found = 0; (found = ::getopt_long(argc, argv, "c:n:o:hV", known.data(), nullptr)) != -1;) {
    switch (found) {
      case 'c':
        options.uri = optarg;
        break;
      case 'n':
        options.namespaces.insert(std::string(optarg).substr(0, std::string(optarg).find_last_not_of('/') + 1));
        break;
      case 'o':
        options.origin = optarg;
        break;
      case 'h':
        std::fputs(kHelp, stdout);
        std::exit(EXIT_SUCCESS);  // NOLINT(concurrency-mt-unsafe)
      case 'V':
        std::puts("berth-libvirt " BERTH_VERSION);
        std::exit(EXIT_SUCCESS);  // NOLINT(concurrency-mt-unsafe)
      default:
        std::exit(kUsage);  // NOLINT(concurrency-mt-unsafe)
    }
  }
  const std::string word = optind < argc ? argv[optind] : "";
  if (word != "serve" && word != "status") refuse(word.empty() ? "say serve or status" : "no command " + quote(word));
  if (optind + 1 < argc) refuse("too many words: " + quote(argv[optind + 1]));
  if (options.origin.empty() || options.origin.find('/') != std::string::npos)
    refuse("an origin is a name without '/'");
  options.serves = word == "serve";
  return options;
}

int fail_with(const Error& error) {
  std::fprintf(stderr, "berth-libvirt: %s\n", error.message().c_str());
  return kUnavailable;
}

/// Calls what it is given when a descriptor of the event loop is ready.
Result<> on_ready(int descriptor, int events, void (*call)(void*), void* with) {
  struct Call {
    void (*call)(void*);
    void* with;
  };
  const auto relay = [](int, int, int, void* opaque) {
    const auto* const target = static_cast<Call*>(opaque);
    target->call(target->with);
  };
  auto target = std::make_unique<Call>(Call{call, with});
  const auto release = [](void* opaque) { delete static_cast<Call*>(opaque); };
  if (::virEventAddHandle(descriptor, events, relay, target.get(), release) < 0)
    return fail(libvirt_error("a descriptor"));
  (void)target.release();
  return {};
}

Result<UniqueFd> block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT}) sigaddset(&signals, signal);
  if (::sigprocmask(SIG_BLOCK, &signals, nullptr) != 0) return fail_errno();
  UniqueFd descriptor(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!descriptor) return fail_errno();
  return descriptor;
}

Result<> serve(const Options& options) {
  const UniqueFd signals = TRY(block_signals());
  Attacher attacher(options.origin, options.namespaces);
  TRY_VOID(attacher.start());
  Hypervisor hypervisor({.uri = options.uri,
                         .on_guests = [&](const Guests& guests) { attacher.want(guests); },
                         .on_connection =
                             [&, known = std::string("none yet")](const std::string& why_not) mutable {
                               if (why_not == known) return;
                               known = why_not;
                               if (why_not.empty()) log::info("connected to {}", options.uri);
                               if (!why_not.empty()) log::warning("no connection to {}: {}", options.uri, why_not);
                             },
                         .open = [](const std::string& uri) { return ::virConnectOpenReadOnly(uri.c_str()); }});
  const UniqueFd mounts = TRY(sys::open_at(AT_FDCWD, "/proc/self/mountinfo", O_RDONLY));
  bool stops = false;
  TRY_VOID(on_ready(
      signals.get(), VIR_EVENT_HANDLE_READABLE, [](void* stop) { *static_cast<bool*>(stop) = true; }, &stops));
  // proc(5): a change of the mount table is an error of poll(2), which is told once.
  TRY_VOID(on_ready(
      mounts.get(), VIR_EVENT_HANDLE_ERROR, [](void* to) { static_cast<Attacher*>(to)->on_mounts_changed(); },
      &attacher));
  TRY_VOID(hypervisor.start());
  while (!stops) {
    if (::virEventRunDefaultImpl() != 0) return fail(libvirt_error("the event loop"));
  }
  log::info("stopped: what is attached stays attached");
  // An attachment under way may wait for a share that hangs. Its caller is gone then, and it is given back.
  ::_exit(EXIT_SUCCESS);
}

struct Width {
  int share = 5, attachment = 10, guest = 5;
};

void print(const std::vector<Line>& lines, Width width) {
  const auto name_of = [](const Line& line) { return escape(line.share.empty() ? "-" : line.share); };
  const auto words_of = [](const Line& line) {
    return escape(line.share.empty() ? line.attachment.volume
                                     : line.attachment.instance + "/" + line.attachment.volume);
  };
  const auto guest_of = [](const Line& line) { return escape(line.guest.empty() ? "-" : line.guest); };
  for (const Line& line : lines) {
    width.share = std::max(width.share, static_cast<int>(name_of(line).size()));
    width.attachment = std::max(width.attachment, static_cast<int>(words_of(line).size()));
    width.guest = std::max(width.guest, static_cast<int>(guest_of(line).size()));
  }
  std::printf("%-*s  %-*s  %-*s  %-10s  %s\n", width.share, "SHARE", width.attachment, "ATTACHMENT", width.guest,
              "GUEST", "BY", "DISAGREEMENT");
  for (const Line& line : lines) {
    std::printf("%-*s  %-*s  %-*s  %-10s  %s\n", width.share, name_of(line).c_str(), width.attachment,
                words_of(line).c_str(), width.guest, guest_of(line).c_str(), line.is_by_hand ? "hand" : "hypervisor",
                line.disagreement.empty() ? "-" : line.disagreement.c_str());
  }
}

Result<bool> show_status(const Options& options) {
  const std::unique_ptr<virConnect, int (*)(virConnectPtr)> connection(::virConnectOpenReadOnly(options.uri.c_str()),
                                                                       &::virConnectClose);
  if (!connection) return fail(libvirt_error(options.uri));
  const Guests guests = TRY(list_guests(connection.get()));
  std::vector<std::string> namespaces = TRY(find_namespaces());
  if (!options.namespaces.empty()) namespaces.assign(options.namespaces.begin(), options.namespaces.end());
  bool agrees = true;
  for (const std::string& one : namespaces) {
    const Seen seen = TRY(look_into(one, guests));
    const std::vector<Line> lines =
        compare(wanted_in(one, seen.shares, guests, options.origin), seen.attachments, guests, options.origin);
    if (namespaces.size() > 1) std::printf("%s\n", escape(one).c_str());
    print(lines, {});
    agrees =
        agrees && std::all_of(lines.begin(), lines.end(), [](const Line& line) { return line.disagreement.empty(); });
  }
  return agrees;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = options_of(argc, argv);
  log::start(log::Level::kInfo);
  if (const Result<> prepared = prepare_event_loop(); !prepared) return fail_with(prepared.error());
  if (options.serves) {
    const Result<> served = serve(options);
    return served ? EXIT_SUCCESS : fail_with(served.error());
  }
  const Result<bool> agrees = show_status(options);
  if (!agrees) return fail_with(agrees.error());
  return *agrees ? EXIT_SUCCESS : EXIT_FAILURE;
}
