#pragma once

// What a command reads from and writes to, so that a signal ends it wherever it waits.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "heddle/run/stop_signals.hpp"
#include "heddle/shm/file_descriptor.hpp"

namespace heddle {

/// Thrown where a signal ends the command, or SIGPIPE would: all is given back on the way out.
struct Stopped {
  int signal;
  int exit_code() const { return 128 + signal; }
};

/// Waits until `fd` is ready for poll()'s `events`, or -1 for nothing at all; false when the time is
/// over first. Throws Stopped.
bool wait_for_descriptor(int fd, short events, std::int64_t nanoseconds, StopSignals& signals);
constexpr std::int64_t for_ever = INT64_MAX;

class Input {
 public:
  /// "-" is standard input. Throws Error when there is no such file.
  Input(const std::string& file, StopSignals& signals);
  const std::string& name() const { return name_; }  ///< for messages

  /// Reads `bytes`, fewer only at the end. Throws Error, Stopped.
  std::size_t read(void* to, std::size_t bytes);
  /// Reads at most so many, piece by piece: the memory follows what is really there.
  std::vector<std::byte> read_bytes(std::size_t most);
  /// The next line without its end, nothing after the last. Throws Error, Stopped.
  std::optional<std::string> line();

 private:
  bool fill();

  FileDescriptor file_;
  std::string name_;
  StopSignals& signals_;
  std::string buffer_;
  std::size_t used_ = 0;  // of the buffer
};

class Output {
 public:
  /// "-" is standard output. Throws Error when there can be no such file.
  Output(const std::string& file, StopSignals& signals);
  /// Throws Error, Stopped: when nobody reads any more, by SIGPIPE.
  void write(std::string_view text);
  /// Waits, and sees when nobody reads any more. Throws Stopped.
  void pause(std::int64_t nanoseconds);

 private:
  FileDescriptor file_;
  std::string name_;
  StopSignals& signals_;
};

/// Runs a command; returns its exit code, also when a signal ends it.
template <class Command>
int run_until_stopped(Command&& command) {
  StopSignals signals;  // before anything is made
  try {
    return command(signals);
  } catch (const Stopped& stopped) {
    return stopped.exit_code();
  }
}

}  // namespace heddle
