#include "src/lib/sys/nfs_transport.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace berth::sys {
namespace {

// As Linux 6.1 prints them.
constexpr const char* kMountinfo =
    "21 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/l\n"
    "40 21 0:41 / /run/berth/v/three rw,nosuid,nodev,relatime - nfs 192.0.2.7:/export/three "
    "rw,vers=3,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,mountaddr=192.0.2.7,"
    "mountvers=3,mountport=20048,mountproto=udp,local_lock=none,addr=192.0.2.7\n"
    "41 21 0:42 / /run/berth/v/with\\040blank rw,nosuid,nodev,relatime master:7 - nfs4 filer:/media "
    "rw,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp6,nconnect=2,timeo=600,retrans=2,sec=krb5p,"
    "clientaddr=2001:db8::1,local_lock=none,addr=2001:db8::7\n"
    "42 21 0:43 / /run/berth/v/fast rw,nosuid,nodev,relatime - nfs 192.0.2.8:/fast "
    "rw,vers=3,rsize=1048576,hard,proto=rdma,port=20049,timeo=600,retrans=2,sec=sys,mountaddr=192.0.2.8,mountvers=3,"
    "mountproto=tcp,local_lock=none,addr=192.0.2.8\n"
    "43 21 0:44 / /run/berth/v/other rw,relatime - cifs //filer/x rw,vers=3.1.1,addr=192.0.2.9\n";

constexpr const char* kMountstats =
    "device overlay mounted on / with fstype overlay\n"
    "device 192.0.2.7:/export/three mounted on /run/berth/v/three with fstype nfs statvers=1.1\n"
    "\topts:\trw,vers=3,rsize=1048576,wsize=1048576,namlen=255,acregmin=3,acregmax=60,acdirmin=30,acdirmax=60,hard,"
    "proto=tcp,port=2049,timeo=600,retrans=2,sec=sys,mountaddr=192.0.2.7,mountvers=3,mountport=20048,mountproto=udp,"
    "local_lock=none\n"
    "\tage:\t17\n"
    "\tcaps:\tcaps=0x3fc7,wtmult=4096,dtsize=1048576,bsize=0,namlen=255\n"
    "\tsec:\tflavor=1,pseudoflavor=1\n"
    "\tevents:\t1 2 0 0 1 1 3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 \n"
    "\tbytes:\t0 0 0 0 0 0 0 0 \n"
    "\tRPC iostats version: 1.1  p/v: 100003/3 (nfs)\n"
    "\txprt:\ttcp 829 1 1 0 0 12 12 0 12 0 2 0 0\n"
    "\tper-op statistics\n"
    "\t        NULL: 1 1 0 44 24 0 0 0 0\n"
    "\n"
    "no device mounted on /run/berth/none with fstype tmpfs\n"
    "device filer:/media mounted on /run/berth/v/with\\040blank with fstype nfs4 statvers=1.1\n"
    "\topts:\trw,vers=4.2,rsize=1048576,namlen=255,hard,proto=tcp6,nconnect=2,timeo=600,retrans=2,sec=krb5p,"
    "clientaddr=2001:db8::1,local_lock=none\n"
    "\timpl_id:\tname='',domain='',date='0,0'\n"
    "\tnfsv4:\tbm0=0xfdffbfff,bm1=0xf9be3e,bm2=0x68800,acl=0x3,sessions,pnfs=not configured,lease_time=90\n"
    "\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)\n"
    "\txprt:\ttcp 0 0 2 0 3 24 24 0 24 0 2 0 0\n"
    "\txprt:\ttcp 0 0 2 0 3 24 24 0 24 0 2 0 0\n"
    "\tper-op statistics\n"
    "device 192.0.2.8:/fast mounted on /run/berth/v/fast with fstype nfs statvers=1.1\n"
    "\topts:\trw,vers=3,rsize=1048576,hard,proto=rdma,port=20049,timeo=600,retrans=2,sec=sys,local_lock=none\n"
    "\txprt:\trdma 0 0 1 0 0 8 8 0 8 0 0 0 0 0 0 0 0 0 0 0\n";

TEST(NfsTransport, IsToldOfEachVersionAndTransport) {
  const auto of = [](std::uint64_t id) {
    return parse_nfs_transport(id, kMountinfo, kMountstats).value_or(NfsTransport{});
  };
  EXPECT_EQ(of(40), (NfsTransport{"192.0.2.7", "tcp", "3", 2049, 1}));
  EXPECT_EQ(of(41), (NfsTransport{"2001:db8::7", "tcp6", "4.2", 2049, 2}));
  EXPECT_EQ(of(42), (NfsTransport{"192.0.2.8", "rdma", "3", 20049, 1}));
}

TEST(NfsTransport, IsThatOfTheMountTableWhereTheStatisticsAreMissing) {
  EXPECT_EQ(parse_nfs_transport(41, kMountinfo, "").value_or(NfsTransport{}),
            (NfsTransport{"2001:db8::7", "tcp6", "4.2", 2049, 0}));
}

TEST(NfsTransport, IsNoneForOtherFileSystemsAndMountsThatAreNotThere) {
  for (const std::uint64_t id : {0UL, 4UL, 21UL, 43UL, 400UL})
    EXPECT_FALSE(parse_nfs_transport(id, kMountinfo, kMountstats)) << id;
  EXPECT_FALSE(nfs_transport(0));
}

TEST(NfsTransport, AnyTextIsFine) {
  const auto line = [](const std::string& options) { return "1 2 0:3 / /x rw - nfs a:/b " + options + "\n"; };
  EXPECT_EQ(
      parse_nfs_transport(1, line("addr=\x1b[31m,vers=" + std::string(1000, '4') + ",port=99999,proto"), "").value(),
      NfsTransport{});
  EXPECT_EQ(parse_nfs_transport(1, line("port=x,,=,addr="), "device  mounted on /x with fstype nfs\n\txprt\n\t:\n")
                .value()
                .connections,
            1U);
  // Whatever is cut off or changed.
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string table = kMountinfo;
    std::string statistics = kMountstats;
    for (std::string* const text : {&table, &statistics}) {
      for (int i = 0; i < 8; ++i) (*text)[random() % text->size()] = static_cast<char>(random() % 256);
      text->resize(random() % text->size());
    }
    for (const std::uint64_t id : {21UL, 40UL, 41UL, 42UL, 43UL})
      static_cast<void>(parse_nfs_transport(id, table, statistics));
  }
}

}  // namespace
}  // namespace berth::sys
