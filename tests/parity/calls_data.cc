#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "tests/parity/hand.h"

// The bytes of files.
namespace berth::test {
namespace {

/// Large files are made by seeking, not by writing.
constexpr long kMostWritten = 256 * 1024;
/// Where every file system of these tests could have a byte.
constexpr long kFarthest = 1L << 41;

/// Memory as O_DIRECT wants it.
class Aligned {
 public:
  explicit Aligned(long size) : size_(static_cast<std::size_t>(size)) {
    bytes_ = static_cast<char*>(std::aligned_alloc(4096, (size_ + 8191) / 4096 * 4096));
  }
  ~Aligned() { std::free(bytes_); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  [[nodiscard]] char* data() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  void fill(const std::string& from) { std::copy(from.begin(), from.end(), bytes_); }

 private:
  std::size_t size_;
  char* bytes_;
};

std::string got(const Aligned& buffer, ssize_t size) {
  return size < 0 ? result(size) : digest({buffer.data(), static_cast<std::size_t>(size)});
}

std::string perform_read(Hand& hand, const Operation& op) {
  const Aligned buffer(op.n[1]);
  return got(buffer, ::read(hand.fd(op.slot), buffer.data(), buffer.size()));
}

std::string perform_pread(Hand& hand, const Operation& op) {
  const Aligned buffer(op.n[1]);
  return got(buffer, ::pread(hand.fd(op.slot), buffer.data(), buffer.size(), op.n[0]));
}

void invent_extent(Random& random, Operation& op) {
  op.n = {invent_offset(random), invent_length(random), random.below(1000), 0};
}

/// Not of nothing: tmpfs counts that as an access, and through FUSE it is not asked.
void invent_reading(Random& random, Operation& op) {
  invent_extent(random, op);
  op.n[1] = std::max(op.n[1], 1L);
}

void invent_sending(Random& random, Operation& op) { op.n = {0, 0, std::max(invent_length(random), 1L), 0}; }

std::string perform_write(Hand& hand, const Operation& op) {
  if (hand.ends_bits_by_writing(op.slot)) return "";
  Aligned buffer(op.n[1]);
  buffer.fill(pattern(op.n[1], op.n[2]));
  return result(::write(hand.fd(op.slot), buffer.data(), buffer.size()));
}

std::string perform_pwrite(Hand& hand, const Operation& op) {
  if (hand.ends_bits_by_writing(op.slot)) return "";
  Aligned buffer(op.n[1]);
  buffer.fill(pattern(op.n[1], op.n[2]));
  return result(::pwrite(hand.fd(op.slot), buffer.data(), buffer.size(), op.n[0]));
}

/// In three parts, as the flags of pwritev2(2) say.
std::string perform_writev(Hand& hand, const Operation& op) {
  if (hand.ends_bits_by_writing(op.slot)) return "";
  std::string bytes = pattern(op.n[1], op.n[2]);
  const std::size_t third = bytes.size() / 3;
  const iovec parts[] = {
      {bytes.data(), third}, {bytes.data() + third, third}, {bytes.data() + 2 * third, bytes.size() - 2 * third}};
  return result(::pwritev2(hand.fd(op.slot), parts, 3, op.n[0], static_cast<int>(op.n[3])));
}

void invent_writev(Random& random, Operation& op) {
  invent_extent(random, op);
  op.n[3] = random.of({0, 0, RWF_SYNC, RWF_DSYNC, RWF_APPEND});
}

std::string perform_seek(Hand& hand, const Operation& op) {
  struct stat s {};
  // The end of a directory is what its file system makes of it; through FUSE it is its size.
  // How far a file may reach is its file system's as well.
  if (op.n[1] == SEEK_SET && op.n[0] > kFarthest) return "";
  if (op.n[1] == SEEK_END && ::fstat(hand.fd(op.slot), &s) == 0 && S_ISDIR(s.st_mode)) return "";
  return result(::lseek(hand.fd(op.slot), op.n[0], static_cast<int>(op.n[1])));
}

void invent_seek(Random& random, Operation& op) {
  op.n[0] = invent_offset(random);
  op.n[1] = random.of({SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_DATA, SEEK_HOLE, SEEK_HOLE, 77});
}

std::string perform_ftruncate(Hand& hand, const Operation& op) {
  return result(::ftruncate(hand.fd(op.slot), op.n[0]));
}

std::string perform_truncate(Hand& hand, const Operation& op) {
  return result(::truncate(hand.at(op.path).name(), op.n[0]));
}

void invent_truncate(Random& random, Operation& op) {
  op.path = invent_path(random);
  op.n[0] = invent_offset(random);
}

std::string perform_fallocate(Hand& hand, const Operation& op) {
  return result(::fallocate(hand.fd(op.slot), static_cast<int>(op.n[2]), op.n[0], op.n[1]));
}

void invent_fallocate(Random& random, Operation& op) {
  op.n[0] = random.of({0L, 0L, 1L, 4096L, 5000L, 8192L, 65'536L, -1L, 1L << 62});
  op.n[1] = random.of({0L, 1L, 4096L, 8192L, 10'000L, 65'536L, -1L});
  // Linux passes these modes of fallocate(2) to FUSE, and answers the others itself.
  op.n[2] = random.of({0, 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
                       FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE});
}

std::string perform_copy(Hand& hand, const Operation& op) {
  if (hand.ends_bits_by_writing(op.other_slot)) return "";
  off_t from = op.n[0], to = op.n[1];
  const ssize_t copied = ::copy_file_range(hand.fd(op.slot), &from, hand.fd(op.other_slot), &to,
                                           static_cast<std::size_t>(std::min(op.n[2], kMostWritten)), 0);
  return result(copied) + " at " + std::to_string(from) + " and " + std::to_string(to);
}

std::string perform_sendfile(Hand& hand, const Operation& op) {
  if (hand.ends_bits_by_writing(op.other_slot)) return "";
  return result(::sendfile(hand.fd(op.other_slot), hand.fd(op.slot), nullptr, static_cast<std::size_t>(op.n[2])));
}

void invent_copy(Random& random, Operation& op) {
  op.n = {invent_offset(random), invent_offset(random), invent_length(random), 0};
}

/// Writes to a shared mapping of what the file has (never beyond: that is a signal), or reads it.
std::string perform_map(Hand& hand, const Operation& op) {
  const int fd = hand.fd(op.slot);
  struct stat s {};
  if (::fstat(fd, &s) != 0) return result(-1);
  const long size = std::min(S_ISREG(s.st_mode) ? s.st_size : 4096, kMostWritten);
  if (size <= 0) return "nothing";
  const bool writes = op.n[3] != 0;
  const int protection = writes ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const at =
      ::mmap(nullptr, static_cast<std::size_t>(size), protection, op.n[3] == 2 ? MAP_PRIVATE : MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return result(-1);
  auto* const bytes = static_cast<char*>(at);
  std::string said;
  if (S_ISREG(s.st_mode)) {
    if (writes) {
      const std::string written = pattern(std::min(op.n[1], size), op.n[2]);
      std::copy(written.begin(), written.end(),
                bytes + std::clamp(op.n[0], 0L, size - static_cast<long>(written.size())));
    }
    said = " " + digest({bytes, static_cast<std::size_t>(size)});
  }
  const int synced = ::msync(at, static_cast<std::size_t>(size), MS_SYNC);
  said = result(synced) + said;
  ::munmap(at, static_cast<std::size_t>(size));
  return said;
}

void invent_map(Random& random, Operation& op) {
  invent_extent(random, op);
  op.n[3] = random.of({0, 1, 1, 2});
}

std::string perform_sync(Hand& hand, const Operation& op) {
  const int fd = hand.fd(op.slot);
  switch (op.n[0]) {
    case 0:
      return result(::fsync(fd));
    case 1:
      return result(::fdatasync(fd));
    case 2:
      return result(::sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
    default:
      return result(::syncfs(fd));
  }
}

void invent_sync(Random& random, Operation& op) { op.n[0] = random.of({0, 0, 1, 1, 2, 3}); }

constexpr Call kCalls[] = {
    {"read", 12, &perform_read, &invent_reading, Call::Stamps::kCoarse},
    {"pread", 12, &perform_pread, &invent_reading, Call::Stamps::kCoarse},
    {"write", 25, &perform_write, &invent_extent},
    {"pwrite", 15, &perform_pwrite, &invent_extent},
    {"writev", 5, &perform_writev, &invent_writev},
    {"seek", 10, &perform_seek, &invent_seek},
    {"ftruncate", 8, &perform_ftruncate, &invent_seek},
    {"truncate", 8, &perform_truncate, &invent_truncate},
    {"fallocate", 8, &perform_fallocate, &invent_fallocate},
    {"copy", 5, &perform_copy, &invent_copy, Call::Stamps::kCoarse},
    {"sendfile", 3, &perform_sendfile, &invent_sending, Call::Stamps::kCoarse},
    {"map", 8, &perform_map, &invent_map, Call::Stamps::kCoarse},
    {"sync", 4, &perform_sync, &invent_sync},
};

}  // namespace

std::span<const Call> data_calls() { return kCalls; }

}  // namespace berth::test
