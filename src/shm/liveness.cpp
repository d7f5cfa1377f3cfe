#include "heddle/shm/liveness.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>
#include <mutex>
#include <utility>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/shm/layout.hpp"

namespace heddle {
namespace {

constexpr off_t token_base = off_t{1} << 40;
constexpr off_t remove_byte = token_base - 2;

// Held while a token is being taken, and by every fork().
std::mutex fork_gate;
[[maybe_unused]] const int registered = pthread_atfork(
    [] { fork_gate.lock(); }, [] { fork_gate.unlock(); }, [] { fork_gate.unlock(); });

struct flock lock_at(short type, off_t start, off_t length) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;
  return lock;
}

bool is_locked(int fd, short type, off_t start, off_t length) noexcept {
  struct flock lock = lock_at(type, start, length);
  // Does not fail on a regular file; if it ever did, "alive" is the answer that does no harm.
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return true;
  return lock.l_type != F_UNLCK;
}

}  // namespace

LivenessToken LivenessToken::take(int fd, std::uint64_t t) {
  const std::lock_guard no_fork(fork_gate);
  const FileDescriptor own = reopen(fd);
  struct flock lock = lock_at(F_WRLCK, token_base + static_cast<off_t>(t), 1);
  if (fcntl(own.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES) {
      throw Error(Errc::corrupt, "the segment's count of participants is damaged; remove it");
    }
    throw_system_error("cannot lock the liveness token", errno);
  }
  void* page = mmap(nullptr, page_bytes, PROT_READ, MAP_SHARED, own.get(), 0);
  if (page == MAP_FAILED) throw_system_error("cannot map the liveness token", errno);
  LivenessToken token(page);
  if (madvise(page, page_bytes, MADV_DONTFORK) != 0) {
    throw_system_error("cannot keep the liveness token from forks", errno);
  }
  return token;
}

LivenessToken& LivenessToken::operator=(LivenessToken&& other) noexcept {
  if (this != &other) {
    drop();
    page_ = std::exchange(other.page_, nullptr);
  }
  return *this;
}

void LivenessToken::drop() noexcept {
  if (page_ != nullptr) munmap(std::exchange(page_, nullptr), page_bytes);
}

bool token_held(int fd, std::uint64_t t) noexcept {
  return is_locked(fd, F_RDLCK, token_base + static_cast<off_t>(t), 1);
}

bool any_token_held(int fd) noexcept { return is_locked(fd, F_RDLCK, token_base, 0); }

NameLock::NameLock(int fd, For purpose) : file_(reopen(fd)) {
  const short type = purpose == For::joining ? F_RDLCK : F_WRLCK;
  const Deadline deadline = Deadline::after(std::chrono::seconds(1));
  for (;;) {
    struct flock lock = lock_at(type, remove_byte, 1);
    if (fcntl(file_.get(), F_OFD_SETLK, &lock) == 0) return;
    if (errno != EAGAIN && errno != EACCES) {
      throw_system_error("cannot lock the segment's name", errno);
    }
    if (deadline.left(monotonic_ns()) <= 0) {
      throw Error(Errc::timeout,
                  "another process is joining or removing this segment and has not finished for a "
                  "second; is it stopped?");
    }
    yield();
  }
}

NameLock::~NameLock() {
  // Closing would do, but for a child forked just now, which has a copy of the descriptor.
  struct flock lock = lock_at(F_UNLCK, remove_byte, 1);
  fcntl(file_.get(), F_OFD_SETLK, &lock);
}

}  // namespace heddle
