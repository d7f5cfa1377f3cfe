#pragma once

// Takes a process through one operation instruction by instruction, kills it at each of them, and
// lets the survivors show that nothing is lost, torn or stuck.
//
//   struct Push {                          // a new one for every kill, so that each n is the same
//     void child() {                       // in the process that dies
//       ... joins, prepares ...
//       SingleStepped::begin();
//       queue.push(7);                     // the operation
//       SingleStepped::end();
//     }
//     void meet() {}                       // in the test, while the child stands before it
//     int watched() { return fd; }         // the file whose content it can change
//     void survive(const Death& death) {}  // in the test, when the child is dead and reaped
//   };
//   kill_everywhere([] { return Push(); });
//
// Environment: HEDDLE_KILLS=all     the deep form: more of the longer operations
//              HEDDLE_KILLS=2:37    one kill, 37 instructions after the second system call: to see
//                                   a failure again
//              HEDDLE_KILLS_SEED=5  for the random ones
//
// A short operation is killed at all of its instructions. In a long one most instructions change
// nothing that a survivor can see, so it is killed after each that changed the segment or was a
// system call (locks): any other death looks like one of those. And at random ones besides.
// What lies before the last system call is not stepped, so that each kill takes a millisecond.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/environment.hpp"
#include "support/process.hpp"
#include "support/traced.hpp"

namespace heddle::test {

/// A child that stands at its begin() and is then moved by the test, one instruction at a time.
class SingleStepped {
 public:
  /// Returns when `body` has come to begin(). Fails the test when it does not.
  explicit SingleStepped(const Process::Body& body) : process_(body) {
    at_ = await();
    if (at_ != At::step) ADD_FAILURE() << "the child did not come to its operation";
    ptrace(PTRACE_SETOPTIONS, process_.pid(), 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  }

  // In the child. Each is one instruction, so that nothing but the operation is stepped.
  static void begin() {
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) _exit(1);
#if defined(__x86_64__)
    asm volatile("int3" ::: "memory");
#endif
  }
  static void end() {
#if defined(__x86_64__)
    asm volatile("ud2" ::: "memory");
#endif
  }

  /// Takes one step. False when it stood before the end.
  bool step() { return go(PTRACE_SINGLESTEP); }
  /// Goes on until the next system call has returned. False when it met the end before.
  bool pass_system_call() { return go(PTRACE_SYSCALL) && go(PTRACE_SYSCALL); }
  bool has_ended() const { return at_ == At::end; }

  /// Where it stands: the address of the instruction that it has not done yet.
  std::uint64_t address() const {
#if defined(__x86_64__)
    user_regs_struct registers{};
    ptrace(PTRACE_GETREGS, process_.pid(), 0, &registers);
    return registers.rip;
#else
    return 0;
#endif
  }
  /// Whether that is a system call. Parent and child have the same code at the same addresses.
  static bool is_system_call(std::uint64_t address) {
    return std::memcmp(reinterpret_cast<const void*>(address), "\x0f\x05", 2) == 0;
  }
  /// For `addr2line -Cife PROGRAM ADDRESS`.
  static std::string describe(std::uint64_t address) {
    Dl_info info{};
    link_map* map = nullptr;
    std::ostringstream text;
    if (dladdr1(reinterpret_cast<void*>(address), &info, reinterpret_cast<void**>(&map),
                RTLD_DL_LINKMAP) == 0) {
      text << "0x" << std::hex << address;  // the vDSO
    } else {
      text << info.dli_fname << " 0x" << std::hex << address - map->l_addr;
    }
    return text.str();
  }

  /// SIGKILL; returns when it is reaped.
  void kill() {
    while (process_.pid() >= 0) process_.kill();
    at_ = At::gone;
  }

  /// For whoever may be traced. On others than x86-64 a step between a load-exclusive and its store
  /// makes the store fail for ever.
#if defined(__x86_64__)
  static constexpr bool is_possible = true;
#else
  static constexpr bool is_possible = false;
#endif

 private:
  enum class At { step, end, gone };

  bool go(decltype(PTRACE_SINGLESTEP) how) {
    if (at_ != At::step) return false;
    ptrace(how, process_.pid(), 0, 0);
    at_ = await();
    if (at_ == At::gone) ADD_FAILURE() << "the child ended, or crashed, in the middle";
    return at_ == At::step;
  }

  At await() {
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(process_.pid()), &info, WEXITED | WSTOPPED | WNOWAIT);
    if (info.si_code != CLD_TRAPPED) return At::gone;
    const int signal = info.si_status & 0x7f;  // 0x80 marks a system call
    return signal == SIGTRAP ? At::step : signal == SIGILL ? At::end : At::gone;
  }

  Process process_;
  At at_ = At::gone;
};

/// How the child died.
struct Death {
  long calls = 0;         ///< system calls of the operation that it had done
  long instructions = 0;  ///< and instructions since then
  bool ended = false;     ///< that was all of it

  bool never_began() const { return calls == 0 && instructions == 0 && !ended; }
  /// Before its first instruction it has not done it, after its last it has.
  bool allows(bool done) const { return done ? !never_began() : !ended; }
};

/// What the environment asks for. Throws when that is not known.
struct KillPlan {
  static KillPlan from_environment() {
    KillPlan plan;
    const char* kills = std::getenv("HEDDLE_KILLS");
    if (kills != nullptr && std::string(kills) == "all") {
      plan.deep = true;
    } else if (kills != nullptr) {
      Death at;
      char rest = 0;
      if (std::sscanf(kills, "%ld:%ld%c", &at.calls, &at.instructions, &rest) != 2 ||
          at.calls < 0 || at.instructions < 0) {
        throw std::invalid_argument("HEDDLE_KILLS=" + std::string(kills) +
                                    ": give \"all\", or CALLS:INSTRUCTIONS as in 2:37");
      }
      plan.only = at;
    }
    plan.seed = number_from_environment("HEDDLE_KILLS_SEED", "a number", 0, UINT_MAX)
                    .value_or(plan.deep ? std::random_device{}() : 5);
    return plan;
  }

  bool deep = false;
  std::optional<Death> only;
  std::uint64_t seed = 5;

  long every_up_to() const { return deep ? 2000 : 450; }  ///< instructions of an operation
  int random_kills() const { return deep ? 1000 : 200; }  ///< of a longer one
};

/// Sees whether a file's content has changed since the last look.
class Watch {
 public:
  explicit Watch(int fd) {
    struct stat status {};
    if (fstat(fd, &status) != 0) std::abort();
    bytes_ = static_cast<std::size_t>(status.st_size);
    memory_ = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0);
    if (memory_ == MAP_FAILED) std::abort();
    copy_.resize(bytes_);
    changed();
  }
  ~Watch() { munmap(memory_, bytes_); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  bool changed() {
    if (std::memcmp(copy_.data(), memory_, bytes_) == 0) return false;
    std::memcpy(copy_.data(), memory_, bytes_);
    return true;
  }

 private:
  std::size_t bytes_ = 0;
  void* memory_ = nullptr;
  std::vector<std::byte> copy_;
};

/// Ends the program with a word about where, should the survivors be stuck.
class Alarm {
 public:
  explicit Alarm(const std::string& where) {
    std::snprintf(text, sizeof text, "STUCK: the survivors of a process %s\n", where.c_str());
    signal(SIGALRM, [](int) {
      if (write(STDERR_FILENO, text, std::strlen(text)) < 0) _exit(3);
      std::abort();
    });
    alarm(static_cast<unsigned>(patience / std::chrono::seconds(1)));
  }
  ~Alarm() { alarm(0); }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

 private:
  static inline char text[512];
};

template <class Make>
class KillEverywhere {
 public:
  explicit KillEverywhere(Make& make) : make_(make) {}

  void run() {
    const auto plan = KillPlan::from_environment();
    const OneCore fast;
    const auto start = std::chrono::steady_clock::now();
    const std::string how = plan.only ? one(*plan.only) : many(plan);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    testing::Test::RecordProperty("kills", kills_);
    std::printf("[    KILLS ] %d in %.1f s: %s\n", kills_, took.count(), how.c_str());
  }

 private:
  static constexpr long never = LONG_MAX;
  /// The child is killed when it has done `calls` and then the first of these three.
  struct Stop {
    long calls = 0;
    long instructions = never;
    long changes = never;      ///< of the segment
    bool at_next_call = true;  ///< when that has returned
  };

  std::string one(const Death& at) {
    kill_at({.calls = at.calls, .instructions = at.instructions, .at_next_call = false});
    return "that one only";
  }

  std::string many(const KillPlan& plan) {
    kill_at({.at_next_call = false});  // whoever is the first binds symbols, and is longer
    const long length = kill_at({.at_next_call = false}).instructions;
    const bool every = length <= plan.every_up_to();
    kill_at({.instructions = 0});
    std::vector<long> lengths;  // from each system call to the next
    for (bool ended = false; !ended && !failed();) {
      const auto calls = static_cast<long>(lengths.size());
      for (long n = 1;; ++n) {
        const Death death = kill_at(every ? Stop{.calls = calls, .instructions = n}
                                          : Stop{.calls = calls, .changes = n});
        ended = death.ended;
        if (!ended && death.calls == calls && !failed()) continue;
        lengths.push_back(steps_);
        break;
      }
    }
    const std::string all = std::to_string(length) + " instructions";
    if (every) return "at each of " + all;
    std::mt19937_64 random(plan.seed);
    const auto below = [&random](long limit) {
      return static_cast<long>(random() % static_cast<unsigned long>(std::max(limit, 1L)));
    };
    for (int i = 0; i < plan.random_kills() && !failed(); ++i) {
      const auto calls = below(static_cast<long>(lengths.size()));
      kill_at({.calls = calls, .instructions = below(lengths[static_cast<std::size_t>(calls)])});
    }
    return "after each of the " + std::to_string(lengths.size() - 1) +
           " system calls and each change of the segment, and at " +
           std::to_string(plan.random_kills()) + " of " + all + " at random, seed " +
           std::to_string(plan.seed);
  }

  static bool failed() { return testing::Test::HasFailure(); }

  /// make() gives a scene, or a pointer to one that may not move.
  template <class Made>
  static auto& scene_of(Made& made) {
    if constexpr (requires { *made; }) {
      return *made;
    } else {
      return made;
    }
  }

  Death kill_at(const Stop& stop) {
    auto made = make_();
    auto& scene = scene_of(made);
    SingleStepped child([&](Line&) { scene.child(); });
    scene.meet();
    Death death;
    while (death.calls < stop.calls && child.pass_system_call()) ++death.calls;
    std::optional<Watch> watch;
    if (stop.changes != never) watch.emplace(scene.watched());
    long changes = 0;
    for (steps_ = 0; death.instructions < stop.instructions && changes < stop.changes;) {
      const bool call = stop.at_next_call && SingleStepped::is_system_call(child.address());
      if (!child.step()) break;
      ++steps_;
      ++death.instructions;
      if (call) {
        ++death.calls;
        death.instructions = 0;
        break;
      }
      if (watch && watch->changed()) ++changes;
    }
    const std::uint64_t address = child.address();
    death.ended = child.has_ended();
    child.kill();
    ++kills_;
    const std::string where = "killed after " + std::to_string(death.calls) +
                              " system calls and then " + std::to_string(death.instructions) +
                              " instructions, before the one at " +
                              SingleStepped::describe(address);
    SCOPED_TRACE(where);
    const Alarm alarm(where);
    scene.survive(death);
    return death;
  }

  Make& make_;
  int kills_ = 0;
  long steps_ = 0;  // of the last one, since the system calls that were passed
};

/// Kills the child of each scene that make() gives at another instruction of its operation.
template <class Make>
void kill_everywhere(Make make) {
  KillEverywhere<Make>(make).run();
}

}  // namespace heddle::test
