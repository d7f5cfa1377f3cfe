#pragma once

// iceoryx, with a RouDi (its daemon) of the benchmark's own. The value is copied into a loaned chunk
// that the reader takes and reads once where it is: what heddle_view does.

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/popo/wait_set.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "heddle/shm/file_descriptor.hpp"
#include "one_way.hpp"
#include "peers/daemon.hpp"
#include "team.hpp"

namespace heddle::bench {

class Roudi {
 private:
  static int config() {
    const int file = memfd_create("roudi.toml", 0);
    std::string text = "[general]\nversion = 1\n[[segment]]\n";
    for (const unsigned bytes : {64U, 4U << 10U, 64U << 10U, 1U << 20U, 64U << 20U}) {
      text += fmt::format("[[segment.mempool]]\nsize = {}\ncount = 4\n", bytes);
    }
    if (write(file, text.data(), text.size()) < 0) throw Failure("no configuration for iox-roudi");
    return file;
  }

  FileDescriptor config_{config()};
  Daemon daemon_{"iox-roudi", "ready for clients", [this] {
                   const std::string path = fmt::format("/proc/self/fd/{}", config_.get());
                   execlp("iox-roudi", "iox-roudi", "-c", path.c_str(), nullptr);
                 }};
};

/// A process of RouDi's, from construction to destruction.
class Registered {
 public:
  explicit Registered(const iox::RuntimeName_t& name) {
    iox::log::LogManager::GetLogManager().SetDefaultLogLevel(
        iox::log::LogLevel::kError, iox::log::LogLevelOutput::kHideLogLevel);
    iox::runtime::PoshRuntime::initRuntime(name);
  }
  // It would be destroyed at exit(), which members of a team do not call; RouDi would miss them.
  ~Registered() { iox::runtime::PoshRuntime::getInstance().~PoshRuntime(); }
  Registered(const Registered&) = delete;
  Registered& operator=(const Registered&) = delete;
};

class Iceoryx {
 public:
  explicit Iceoryx(std::size_t bytes) : bytes_(static_cast<std::uint32_t>(bytes)) {}
  void reset() {}

  class Writer {
   public:
    explicit Writer(Iceoryx& channel) : bytes_(channel.bytes_), publisher_(service(bytes_)) {
      wait_for([&] { return publisher_.hasSubscribers(); });
    }
    void publish(std::span<const std::uint64_t> value) {
      auto chunk = publisher_.loan(bytes_);
      if (chunk.has_error()) throw Failure("iceoryx has no chunk to loan");
      std::memcpy(chunk.value(), value.data(), value.size_bytes());
      publisher_.publish(chunk.value());
    }

   private:
    Registered process_{"heddle-bench-writer"};
    std::uint32_t bytes_;
    iox::popo::UntypedPublisher publisher_;
  };

  class Reader {
   public:
    explicit Reader(Iceoryx& channel)
        : bytes_(channel.bytes_), subscriber_(service(bytes_), {.queueCapacity = 1}) {
      wait_for(
          [&] { return subscriber_.getSubscriptionState() == iox::SubscribeState::SUBSCRIBED; });
    }
    bool poll() {
      const auto taken = subscriber_.take();
      if (taken.has_error()) return false;
      chunk_ = taken.value();
      read_once(value());
      return true;
    }
    std::span<const std::uint64_t> value() const {
      return {static_cast<const std::uint64_t*>(chunk_), bytes_ / 8};
    }
    void release() {
      subscriber_.release(chunk_);
      chunk_ = nullptr;
    }

   protected:
    Registered process_{"heddle-bench-reader"};
    std::uint32_t bytes_;
    iox::popo::UntypedSubscriber subscriber_;

   private:
    const void* chunk_ = nullptr;
  };

 private:
  static iox::capro::ServiceDescription service(std::uint32_t bytes) {
    const std::string size = std::to_string(bytes);
    return {"heddle", "bench", {iox::cxx::TruncateToCapacity, size.c_str()}};
  }

  /// RouDi connects the two, some time.
  template <class Ready>
  static void wait_for(Ready&& ready) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!ready()) {
      if (std::chrono::steady_clock::now() > end) throw Failure("iceoryx made no connection");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::shared_ptr<Roudi> roudi_ = running<Roudi>();
  std::uint32_t bytes_;
};

class IceoryxAsleep : public Iceoryx {
 public:
  using Iceoryx::Iceoryx;

  class Reader : public Iceoryx::Reader {
   public:
    explicit Reader(IceoryxAsleep& channel) : Iceoryx::Reader(channel) {
      const auto attached =
          waits_.attachEvent(subscriber_, iox::popo::SubscriberEvent::DATA_RECEIVED);
      if (attached.has_error()) throw Failure("iceoryx attaches no event");
    }
    bool poll() {
      waits_.wait();
      return Iceoryx::Reader::poll();
    }

   private:
    iox::popo::WaitSet<> waits_;
  };
};

}  // namespace heddle::bench
