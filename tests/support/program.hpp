#pragma once

// The heddle program, run as a person or a script would: its output line by line as it comes, its
// exit code, signals sent to it.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "support/process.hpp"

namespace heddle::test {

class Program {
 public:
  /// Starts it. `before` runs in the child, to change the world that the program finds.
  explicit Program(std::vector<std::string> arguments, const std::function<void()>& before = {}) {
    int out[2];
    int err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) std::abort();
    arguments.insert(arguments.begin(), HEDDLE_PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ < 0) std::abort();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      if (before) before();
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    err_ = err[0];
  }
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(out_);
    close(err_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  pid_t pid() const { return pid_; }
  void send(int signal) { ::kill(pid_, signal); }

  /// The next line of standard output; nothing at its end or out of patience.
  std::optional<std::string> line() {
    for (;;) {
      if (const auto end = buffer_.find('\n'); end != buffer_.npos) {
        std::string text = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return text;
      }
      if (!read_more(out_, buffer_)) return std::nullopt;
    }
  }
  /// The next event of a --json run.
  std::optional<nlohmann::json> event() {
    const auto text = line();
    if (!text) return std::nullopt;
    return nlohmann::json::parse(*text);
  }
  /// The next event of this kind, others passed over.
  std::optional<nlohmann::json> event(const std::string& kind) {
    while (auto next = event()) {
      if ((*next)["event"] == kind) return next;
    }
    return std::nullopt;
  }

  /// Waits for a first line of standard error; false when there comes none.
  bool complains() {
    while (errors_.find('\n') == errors_.npos) {
      if (!read_more(err_, errors_)) return false;
    }
    return true;
  }
  /// Waits for its end, after which all output is known. The exit code, or minus the signal.
  int join() {
    while (line()) {
    }
    while (read_more(err_, errors_)) {
    }
    return wait();
  }
  /// Closes our end of its standard output.
  void stop_reading() {
    close(out_);
    out_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
  /// Waits for its end without reading what it prints.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  /// Standard error, after join(); or what complains() has seen of it.
  const std::string& errors() const { return errors_; }

 private:
  static bool read_more(int fd, std::string& into) {
    pollfd ready{fd, POLLIN, 0};
    if (poll(&ready, 1, 50'000) <= 0) return false;
    char piece[4096];
    const ssize_t length = read(fd, piece, sizeof piece);
    if (length <= 0) return false;
    into.append(piece, static_cast<std::size_t>(length));
    return true;
  }

  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  std::string buffer_;
  std::string errors_;
};

/// What lies in /dev/shm of `heddle train`: of its own naming, or named by this test with its pid.
inline std::set<std::string> segments() {
  const std::string ours = "-" + std::to_string(getpid());
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename();
    if (name.rfind("heddle.train-", 0) == 0 || name.find(ours) != name.npos) found.insert(name);
  }
  return found;
}

}  // namespace heddle::test
