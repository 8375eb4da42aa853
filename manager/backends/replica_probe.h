#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "manager/model/backend.h"
#include "manager/model/share_spec.h"

namespace berth::manager {

/// How long a server may take to accept a connection.
inline constexpr std::chrono::seconds kReplicaPatience{2};
/// How long the resolver may take for a name that the file system needs: longer than resolv.conf(5) gives the first of
/// two name servers (5 s).
inline constexpr std::chrono::seconds kResolverPatience{8};

/// The sources of a share in the order in which they are to be tried.
struct ReplicaOrder {
  /// First those whose servers answer, the one that costs least at their head (the time of its answer, once more for
  /// each of its weight), then the others by their weights, and in their configured order.
  std::vector<std::string> sources;
  std::vector<PassedOver> silent = {};   ///< the last ones of `sources`: their servers refuse, or have not answered
  std::vector<PassedOver> unknown = {};  ///< not in `sources`: the resolver does not know their servers; its words
};

/// Asks the servers of all sources at once, by a TCP connection (IPv6 and IPv4) to the port of the file system. Of a
/// single source only the name is looked up, and only for a file system that knows the resolver's names alone. Where
/// the port of a type is not known the sources come by their weights, and as configured. Takes kResolverPatience at
/// most, and less once a server has answered. A thread of its own asks each server, because a look-up of a name may
/// hang.
ReplicaOrder order_replicas(const ShareSpec& spec, const std::vector<std::string>& sources, const Attempt& attempt);

/// Whether the server of a source other than `but` answers; of a type whose port is not known: true. As
/// order_replicas().
bool another_answers(const ShareSpec& spec, const std::string& but, TimePoint deadline);

/// The TCP port that the servers of a file system listen at; 0: not known. `options`: as in mount(8) -o, where "port"
/// may say another.
int port_of(std::string_view type, std::string_view options) noexcept;

}  // namespace berth::manager
