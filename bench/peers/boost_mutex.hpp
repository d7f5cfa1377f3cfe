#pragma once

// A value behind a Boost.Interprocess mutex: copied in and copied out under it. Readers poll a
// version beside the mutex, so that they do not take it in vain. A process that dies while it holds
// the mutex stops all others.

#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "team.hpp"

namespace heddle::bench {

class BoostMutex {
 public:
  explicit BoostMutex(std::size_t bytes)
      : bytes_(bytes),
        head_(new (map_shared(sizeof(Head) + bytes)) Head),
        words_(reinterpret_cast<std::uint64_t*>(head_ + 1)) {}
  ~BoostMutex() {
    head_->~Head();
    munmap(head_, sizeof(Head) + bytes_);
  }
  BoostMutex(const BoostMutex&) = delete;
  BoostMutex& operator=(const BoostMutex&) = delete;
  void reset() { head_->version.store(0, relaxed); }

  class Writer {
   public:
    explicit Writer(BoostMutex& shared) : shared_(shared) {}
    void publish(std::span<const std::uint64_t> value) {
      const Lock lock(shared_.head_->mutex);
      std::memcpy(shared_.words_, value.data(), value.size_bytes());
      shared_.head_->version.store(++version_, release("BENCH.version"));
    }

   private:
    BoostMutex& shared_;
    std::uint64_t version_ = 0;
  };

  class Reader {
   public:
    explicit Reader(BoostMutex& shared) : shared_(shared), value_(shared.bytes_ / 8) {}
    bool poll() {
      if (shared_.head_->version.load(acquire("BENCH.version")) == seen_) return false;
      const Lock lock(shared_.head_->mutex);
      std::memcpy(value_.data(), shared_.words_, shared_.bytes_);
      seen_ = shared_.head_->version.load(relaxed);
      return true;
    }
    std::span<const std::uint64_t> value() const { return value_; }
    void release() {}

   private:
    BoostMutex& shared_;
    std::vector<std::uint64_t> value_;
    std::uint64_t seen_ = 0;
  };

 private:
  using Lock = boost::interprocess::scoped_lock<boost::interprocess::interprocess_mutex>;
  struct alignas(64) Head {
    boost::interprocess::interprocess_mutex mutex;
    alignas(64) Atomic<std::uint64_t> version;
  };

  std::size_t bytes_;
  Head* head_;
  std::uint64_t* words_;
};

}  // namespace heddle::bench
