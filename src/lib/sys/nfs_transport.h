#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace berth::sys {

/// By which way a mounted NFS file system reaches its server.
struct NfsTransport {
  std::string address;            ///< of the server, as the kernel prints it: "192.0.2.7", "2001:db8::7"; "": not told
  std::string protocol;           ///< "tcp", "tcp6", "udp", "rdma"; "": not told
  std::string version;            ///< "3", "4.2"; "": not told
  std::uint32_t port = 0;         ///< of the server; 0: not told
  std::uint32_t connections = 0;  ///< as many as there are (nfs(5), nconnect); 0: not told

  friend bool operator==(const NfsTransport&, const NfsTransport&) = default;
};

/// The transport of a mount of the calling thread's mount namespace, by the kernel's id of it. Nothing: it is not
/// there, or no NFS. Reads /proc/thread-self/mountinfo and mountstats; asks no server.
std::optional<NfsTransport> nfs_transport(std::uint64_t mount_id);

/// The same out of their texts (proc(5)). Any text is fine; what cannot be told is left empty.
std::optional<NfsTransport> parse_nfs_transport(std::uint64_t mount_id, std::string_view mountinfo,
                                                std::string_view mountstats);

}  // namespace berth::sys
