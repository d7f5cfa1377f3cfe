#pragma once

// A Redis list as a queue, through hiredis and a Unix socket: RPUSH and LPOP, or BLPOP for a consumer
// that sleeps. Each command waits for its answer; a list has no bound. The server is the benchmark's
// own: it keeps nothing on disk and listens nowhere else.

#include <fcntl.h>
#include <fmt/format.h>
#include <hiredis/hiredis.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "heddle/shm/file_descriptor.hpp"
#include "peers/daemon.hpp"
#include "queue_contender.hpp"

namespace heddle::bench {

class RedisServer {
 private:
  struct TemporaryDirectory {
    TemporaryDirectory() {
      if (mkdtemp(path.data()) == nullptr) {
        throw Failure(fmt::format("no directory {}: {}", path, strerror(errno)));
      }
    }
    ~TemporaryDirectory() { std::filesystem::remove_all(path); }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    std::string path = std::filesystem::temp_directory_path() / "heddle-bench-XXXXXX";
  };

 public:
  // The descriptor names the socket when its directory is gone. So nothing is left behind, however
  // the benchmark ends.
  explicit RedisServer(const TemporaryDirectory& directory = {})
      : daemon_("redis-server", "ready to accept connections",
                [&] { execute(directory.path + "/socket"); }),
        socket_(open((directory.path + "/socket").c_str(), O_PATH | O_CLOEXEC)) {}

  /// The socket, for this process and those that are forked from it.
  std::string socket() const { return fmt::format("/proc/self/fd/{}", socket_.get()); }

 private:
  static void execute(const std::string& socket) {
    // Debian's package redis-server also starts a server of the system's. redis-tools does not, and
    // has the same program under another name; what it is it takes from the name it is called by.
    for (const char* program : {"redis-server", "redis-check-rdb"}) {
      execlp(program, "redis-server", "--port", "0", "--unixsocket", socket.c_str(), "--save", "",
             nullptr);
    }
  }

  Daemon daemon_;
  FileDescriptor socket_;
};

template <Waiting waiting>
class RedisQueue {
 public:
  class Handle {
   public:
    explicit Handle(RedisQueue& queue)
        : connection_(redisConnectUnix(queue.server_->socket().c_str()), redisFree) {
      if (connection_ == nullptr || connection_->err != 0) throw Failure("redis: no connection");
    }

    bool push(const Payload& payload) {
      command("RPUSH tasks %b", static_cast<const void*>(&payload), sizeof(payload));
      return true;
    }

    template <class Use>
    bool take(Use&& use) {
      constexpr bool sleeps = waiting == Waiting::sleeps;
      const Reply reply = command(sleeps ? "BLPOP tasks 10" : "LPOP tasks");
      if (reply->type == REDIS_REPLY_NIL) return false;
      const redisReply& value = sleeps ? *reply->element[1] : *reply;  // after the list's name
      Payload payload;
      if (value.type != REDIS_REPLY_STRING || value.len != sizeof(payload)) {
        throw Failure("redis: a task came out as something else");
      }
      std::memcpy(&payload, value.str, sizeof(payload));
      use(payload);
      return true;
    }

   private:
    using Reply = std::unique_ptr<redisReply, decltype(&freeReplyObject)>;

    template <class... Arguments>
    Reply command(const char* format, Arguments... arguments) {
      void* const answer = redisCommand(connection_.get(), format, arguments...);
      Reply reply(static_cast<redisReply*>(answer), freeReplyObject);
      if (reply == nullptr) throw Failure(fmt::format("redis: {}", connection_->errstr));
      if (reply->type == REDIS_REPLY_ERROR) throw Failure(fmt::format("redis: {}", reply->str));
      return reply;
    }

    std::unique_ptr<redisContext, decltype(&redisFree)> connection_;
  };

 private:
  std::shared_ptr<RedisServer> server_ = running<RedisServer>();
};

}  // namespace heddle::bench
