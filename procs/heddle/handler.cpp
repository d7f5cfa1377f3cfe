#include "handler.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <string_view>
#include <utility>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"

namespace heddle {
namespace {

FileDescriptor memory_file(const char* name) {
  FileDescriptor file(memfd_create(name, MFD_CLOEXEC));
  if (file.get() < 0) throw_system_error("cannot make a memory file for a task", errno);
  return file;
}

FileDescriptor input_of(std::span<const std::byte> payload) {
  FileDescriptor file = memory_file("heddle-task");
  for (std::size_t done = 0; done < payload.size();) {
    const ssize_t written = ::write(file.get(), &payload[done], payload.size() - done);
    if (written < 0 && errno != EINTR) throw_system_error("cannot hand a task on", errno);
    if (written > 0) done += static_cast<std::size_t>(written);
  }
  lseek(file.get(), 0, SEEK_SET);
  return file;
}

std::vector<std::string> environment_of(const Task<bytes>& task) {
  std::vector<std::string> all{"HEDDLE_TASK_ID=" + std::to_string(task.id()),
                               "HEDDLE_TASK_TRIES=" + std::to_string(task.tries())};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::string_view(*variable).rfind("HEDDLE_TASK_", 0) != 0) all.emplace_back(*variable);
  }
  return all;
}

}  // namespace

Handler::Handler(Task<bytes> task, const std::string& program,
                 const std::vector<std::string>& arguments, Guardian& guardian, std::size_t place)
    : task_(std::move(task)),
      guardian_(guardian),
      place_(place),
      output_(memory_file("heddle-output")),
      started_(monotonic_ns()) {
  fcntl(output_.get(), F_SETFL, O_APPEND);
  const FileDescriptor input = input_of(task_.payload());
  Launch launch;
  launch.program = program;
  launch.arguments = arguments;
  launch.environment = environment_of(task_);
  launch.input = input.get();
  launch.output = output_.get();
  launch.own_group = true;
  child_ = std::make_unique<ChildProcess>(launch);
  guardian_.watch(place_, child_->pid());
}

Handler::~Handler() {
  if (is_reaped_) return;
  kill();
  reap();
}

double Handler::seconds() const { return static_cast<double>(monotonic_ns() - started_) / 1e9; }

std::size_t Handler::printed() const {
  struct stat status {};
  return fstat(output_.get(), &status) == 0 ? static_cast<std::size_t>(status.st_size) : 0;
}

Ending Handler::reap() {
  guardian_.watch(place_, 0);  // before its number may be another's
  is_reaped_ = true;
  return child_->reap();
}

std::vector<std::byte> Handler::output() const {
  std::vector<std::byte> bytes(printed());
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t length =
        pread(output_.get(), &bytes[done], bytes.size() - done, static_cast<off_t>(done));
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) bytes.resize(done);  // its background processes have cut it
    if (length > 0) done += static_cast<std::size_t>(length);
  }
  return bytes;
}

}  // namespace heddle
