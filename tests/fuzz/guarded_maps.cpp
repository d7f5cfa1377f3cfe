// Every shared mapping of this program lies between two areas that nobody may touch, so that an
// access outside a segment is a SIGSEGV and not another mapping's byte. The linker sends the calls
// here (--wrap).

#include <sys/mman.h>

#include <cstddef>
#include <set>

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t guard = std::size_t{16} << 20;

std::size_t with_guards(std::size_t bytes) { return 2 * guard + (bytes + page - 1) / page * page; }

std::set<void*>& guarded() {
  static std::set<void*> maps;
  return maps;
}

}  // namespace

extern "C" {

void* __real_mmap(void* address, std::size_t bytes, int protection, int flags, int fd,
                  off_t offset);
int __real_munmap(void* address, std::size_t bytes);

void* __wrap_mmap(void* address, std::size_t bytes, int protection, int flags, int fd,
                  off_t offset) {
  if (address != nullptr || (flags & MAP_SHARED) == 0) {
    return __real_mmap(address, bytes, protection, flags, fd, offset);
  }
  void* all =
      __real_mmap(nullptr, with_guards(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return all;
  void* map = __real_mmap(static_cast<std::byte*>(all) + guard, bytes, protection,
                          flags | MAP_FIXED, fd, offset);
  if (map == MAP_FAILED) {
    __real_munmap(all, with_guards(bytes));
  } else {
    guarded().insert(map);
  }
  return map;
}

int __wrap_munmap(void* address, std::size_t bytes) {
  if (guarded().erase(address) == 0) return __real_munmap(address, bytes);
  return __real_munmap(static_cast<std::byte*>(address) - guard, with_guards(bytes));
}
}
