#include "src/libvirt/hypervisor.h"

#include <libvirt/virterror.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <utility>

namespace berth::libvirt {
namespace {

/// How soon a daemon that is stuck, or a network that is cut, is noticed: three questions without an answer.
constexpr int kKeepAliveSeconds = 5;
constexpr unsigned kKeepAliveCount = 3;

struct FreeDomain {
  void operator()(virDomainPtr domain) const noexcept { ::virDomainFree(domain); }
};
using Domain = std::unique_ptr<virDomain, FreeDomain>;

std::string uuid_of(virDomainPtr domain) {
  std::array<char, VIR_UUID_STRING_BUFLEN> text{};
  return ::virDomainGetUUIDString(domain, text.data()) == 0 ? text.data() : "";
}

bool is_gone() {
  const virErrorPtr error = ::virGetLastError();
  return error != nullptr && error->code == VIR_ERR_NO_DOMAIN;
}

Result<std::set<std::string>> files_of(virDomainPtr domain, unsigned flags) {
  const std::unique_ptr<char, decltype(&std::free)> xml(::virDomainGetXMLDesc(domain, flags), &std::free);
  if (!xml) return fail(is_gone() ? Error(ENOENT) : libvirt_error("the definition of a guest"));
  return files_in_definition(xml.get());
}

/// What it runs with and what it will be started with next: a disk may be in one of them alone. Errors: ENOENT when it
/// is gone.
Result<Guest> read_guest(virDomainPtr domain) {
  Guest guest;
  guest.name = ::virDomainGetName(domain);
  guest.is_running = ::virDomainIsActive(domain) == 1;
  guest.files = TRY(files_of(domain, 0));
  guest.files.merge(TRY(files_of(domain, VIR_DOMAIN_XML_INACTIVE)));
  return guest;
}

}  // namespace

Error libvirt_error(const std::string& what) {
  const virErrorPtr error = ::virGetLastError();
  const char* const words = error != nullptr && error->message != nullptr ? error->message : "unknown error";
  return {EIO, what + ": " + words};
}

Result<> prepare_event_loop() {
  ::virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
  if (::virInitialize() != 0 || ::virEventRegisterDefaultImpl() != 0) return fail(libvirt_error("libvirt"));
  return {};
}

Result<Guests> list_guests(virConnectPtr connection) {
  virDomainPtr* list = nullptr;
  const int count = ::virConnectListAllDomains(connection, &list, 0);
  if (count < 0) return fail(libvirt_error("the list of guests"));
  const std::unique_ptr<virDomainPtr, decltype(&std::free)> all(list, &std::free);
  Guests guests;
  std::optional<Error> failure;
  for (int number = 0; number < count; ++number) {
    const Domain domain(list[number]);
    Result<Guest> guest = read_guest(domain.get());
    if (guest) {
      guests.insert_or_assign(uuid_of(domain.get()), *std::move(guest));
    } else if (guest.error().code() != ENOENT) {
      failure = guest.error();
    }
  }
  if (failure) return fail(*failure);
  return guests;
}

Hypervisor::Hypervisor(Setup setup) : setup_(std::move(setup)), retry_(setup_.first_retry) {}

Hypervisor::~Hypervisor() {
  disconnect();
  if (timer_ >= 0) ::virEventRemoveTimeout(timer_);
}

Result<> Hypervisor::start() {
  timer_ = ::virEventAddTimeout(
      0, [](int, void* self) { static_cast<Hypervisor*>(self)->on_timer(); }, this, nullptr);
  return timer_ < 0 ? fail(libvirt_error("a timer")) : Result<>();
}

/// One timer: it connects where there is no connection, and reads what has changed where there is one.
void Hypervisor::on_timer() {
  ::virEventUpdateTimeout(timer_, -1);
  if (is_lost_) return fail_connection("the connection is lost");
  if (connection_ == nullptr) return connect();
  if (const Result<> read = read_changed(); !read) fail_connection(read.error().message());
}

void Hypervisor::later(std::chrono::milliseconds when) const {
  ::virEventUpdateTimeout(timer_, static_cast<int>(when.count()));
}

void Hypervisor::connect() {
  connection_ = setup_.open(setup_.uri);
  if (connection_ == nullptr) return fail_connection(libvirt_error(setup_.uri).message());
  Result<Guests> guests = listen().and_then([this] { return list_guests(connection_); });
  if (!guests) return fail_connection(guests.error().message());
  retry_ = setup_.first_retry;
  guests_ = *std::move(guests);
  setup_.on_connection("");
  setup_.on_guests(guests_);
}

void Hypervisor::disconnect() {
  if (connection_ == nullptr) return;
  for (const int callback : std::exchange(callbacks_, {})) ::virConnectDomainEventDeregisterAny(connection_, callback);
  ::virConnectUnregisterCloseCallback(connection_, &Hypervisor::on_closed);
  ::virConnectClose(connection_);
  connection_ = nullptr;
}

void Hypervisor::fail_connection(const std::string& reason) {
  setup_.on_connection(reason);
  disconnect();
  is_lost_ = false;
  changed_.clear();  // all are read again
  later(retry_);
  retry_ = std::min<std::chrono::milliseconds>(retry_ * 2, kLastRetry);
}

/// Before the guests are listed, so that no change is missed between.
Result<> Hypervisor::listen() {
  // A hypervisor in this process (test:///) cannot be lost.
  ::virConnectRegisterCloseCallback(connection_, &Hypervisor::on_closed, this, nullptr);
  ::virConnectSetKeepAlive(connection_, kKeepAliveSeconds, kKeepAliveCount);
  const virConnectDomainEventCallback life = [](virConnectPtr, virDomainPtr domain, int, int, void* self) {
    on_domain(domain, self);
    return 0;
  };
  // Disks of a running guest that come and go. Not every hypervisor has such events.
  const virConnectDomainEventDeviceAddedCallback device = [](virConnectPtr, virDomainPtr domain, const char*,
                                                             void* self) { on_domain(domain, self); };
  const virConnectDomainEventDiskChangeCallback disk = [](virConnectPtr, virDomainPtr domain, const char*, const char*,
                                                          const char*, int, void* self) { on_domain(domain, self); };
  const virConnectDomainEventBlockJobCallback job = [](virConnectPtr, virDomainPtr domain, const char*, int, int,
                                                       void* self) { on_domain(domain, self); };
  const std::array<std::pair<int, virConnectDomainEventGenericCallback>, 5> events{
      {{VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(life)},
       {VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(device)},
       {VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(device)},
       {VIR_DOMAIN_EVENT_ID_DISK_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(disk)},
       {VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, VIR_DOMAIN_EVENT_CALLBACK(job)}}};
  for (const auto& [event, callback] : events) {
    const int registered = ::virConnectDomainEventRegisterAny(connection_, nullptr, event, callback, this, nullptr);
    if (registered >= 0) callbacks_.push_back(registered);
    if (registered < 0 && event == VIR_DOMAIN_EVENT_ID_LIFECYCLE) return fail(libvirt_error("events of guests"));
  }
  return {};
}

/// Not here: libvirt is at work with the connection.
void Hypervisor::on_closed(virConnectPtr, int, void* self) {
  auto* const hypervisor = static_cast<Hypervisor*>(self);
  hypervisor->is_lost_ = true;
  hypervisor->later(std::chrono::milliseconds(0));
}

void Hypervisor::on_domain(virDomainPtr domain, void* self) {
  auto* const hypervisor = static_cast<Hypervisor*>(self);
  hypervisor->changed_.insert(uuid_of(domain));
  hypervisor->later(std::chrono::milliseconds(0));
}

Result<> Hypervisor::read_changed() {
  Guests now = guests_;
  for (const std::string& uuid : std::exchange(changed_, {})) {
    const Domain domain(::virDomainLookupByUUIDString(connection_, uuid.c_str()));
    if (!domain && !is_gone()) return fail(libvirt_error("a guest"));
    Result<Guest> guest = domain ? read_guest(domain.get()) : fail(ENOENT);
    if (guest) {
      now.insert_or_assign(uuid, *std::move(guest));
    } else if (guest.error().code() == ENOENT) {
      now.erase(uuid);
    } else {
      return fail(guest.error());
    }
  }
  if (now == guests_) return {};
  guests_ = std::move(now);
  setup_.on_guests(guests_);
  return {};
}

}  // namespace berth::libvirt
