// The segment with real processes: real forks, execs and SIGKILLs.

#include "heddle/shm/segment.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "heddle/shm/liveness.hpp"
#include "heddle/shm/segment_file.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "support/process.hpp"
#include "support/traced.hpp"

namespace heddle {
namespace {

namespace fs = std::filesystem;
using test::eventually;
using test::Line;
using test::OneCore;
using test::Process;
using test::Step;
using test::Traced;
using testing::AllOf;
using testing::HasSubstr;

constexpr Segment::Options small{.bytes = 64 << 10, .participants = 8, .objects = 8};

// An object whose maker stands in the middle of making it, until its test says go.
struct Unfinished {
  struct Options {
    Line* test;
  };
  static constexpr ObjectKind kind = ObjectKind::buffer;
  static constexpr ElementType element() { return element_type<std::byte>(); }
  static std::size_t bytes(const Options& /*options*/) { return 64; }
  static void format(std::span<std::byte> /*memory*/, const Options& options) {
    options.test->say("making");
    options.test->hear();
  }
  Unfinished(std::span<std::byte> /*memory*/, Peers& /*peers*/) {}
};
using Finished = SharedBuffer<std::byte>;  // the same, as the directory records it

template <class Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(Errc::system, "nothing was thrown");
}

std::size_t open_descriptors(pid_t pid = getpid()) {
  const fs::path directory = "/proc/" + std::to_string(pid) + "/fd";
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::uint64_t inode_of(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}
std::uint64_t inode_of(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

class SegmentProcess : public testing::Test {
 protected:
  // Whatever a test does, it leaves nothing behind: no file and no descriptor.
  ~SegmentProcess() override {
    EXPECT_EQ(segment_paths(prefix_), std::vector<std::string>());
    for (const std::string& path : segment_paths(prefix_)) unlink(path.c_str());
    EXPECT_EQ(open_descriptors(), descriptors_);
  }

  bool is_named() const { return access(path_.c_str(), F_OK) == 0; }
  void write_file(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
    ASSERT_EQ(content_of(path_), content);
  }
  // A child that is in the segment until it is told to leave, or killed.
  Process participant() const {
    Process child([name = name_](Line& test) {
      const Segment segment = Segment::open(name);
      test.say("in");
      test.hear();
    });
    EXPECT_EQ(child.hear(), "in");
    return child;
  }
  // A name with nobody in it: its maker was killed.
  void leave_abandoned(const Segment::Options& options = small) const {
    Process maker([&](Line& test) {
      const Segment segment = Segment::create(name_, options);
      test.say("in");
      test.hear();
    });
    ASSERT_EQ(maker.hear(), "in");
  }

  const std::size_t descriptors_ = open_descriptors();
  const std::string prefix_ = "test." + std::to_string(getpid());
  const std::string name_ = prefix_ + ".a";
  const std::string path_ = "/dev/shm/heddle." + name_;
};

class SegmentStepByStep : public SegmentProcess {
 protected:
  void SetUp() override { ASSERT_TRUE(Traced::is_allowed()) << Traced::refusal; }
  const OneCore fast_;
};

// ---- Who is alive -------------------------------------------------------------------------------

TEST_F(SegmentProcess, a_killed_process_is_seen_dead_before_anybody_has_waited_for_it) {  // PART-2
  Segment segment = Segment::create(name_, small);
  Process victim = participant();
  ASSERT_EQ(segment.participants().size(), 2U);
  ASSERT_EQ(segment.recover_dead(), 0U);
  kill(victim.pid(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return segment.recover_dead() == 1; }));
  EXPECT_EQ(segment.participants().size(), 1U);
}

TEST_F(SegmentProcess, a_killed_process_is_dead_as_soon_as_it_is_waited_for) {
  Segment segment = Segment::create(name_, small);
  for (int round = 0; round < 20; ++round) {
    Process victim = participant();
    victim.kill();
    ASSERT_EQ(segment.recover_dead(), 1U);
  }
}

TEST_F(SegmentProcess, a_stopped_process_is_alive) {  // PART-2
  Segment segment = Segment::create(name_, small);
  Process sleeper = participant();
  sleeper.stop();
  EXPECT_EQ(segment.recover_dead(), 0U);
  EXPECT_EQ(segment.participants().size(), 2U);
  sleeper.resume();
  sleeper.say("leave");
  EXPECT_EQ(sleeper.join(), 0);
  EXPECT_EQ(segment.participants().size(), 1U);
}

TEST_F(SegmentProcess, a_fork_does_not_keep_its_dead_parent_alive) {  // PART-2
  Segment segment = Segment::create(name_, small);
  Process victim([&](Line& test) {
    const Segment own = Segment::open(name_);
    if (fork() == 0) {
      while (test.hear() == "are you there?") test.say("here");
      _exit(0);
    }
    test.say("in");
    ::pause();
  });
  ASSERT_EQ(victim.hear(), "in");
  victim.kill();
  EXPECT_EQ(segment.recover_dead(), 1U);
  victim.say("are you there?");
  EXPECT_EQ(victim.hear(), "here") << "the fork has survived its parent";
}

TEST_F(SegmentProcess, exec_ends_a_participant) {
  Segment segment = Segment::create(name_, small);
  Process victim([&](Line& test) {
    const Segment own = Segment::open(name_);
    test.say("in");
    test.hear();
    execl("/bin/sleep", "sleep", "1000", nullptr);
  });
  ASSERT_EQ(victim.hear(), "in");
  ASSERT_EQ(segment.recover_dead(), 0U);
  victim.say("exec");
  ASSERT_EQ(victim.hear(), "<gone>");
  EXPECT_TRUE(eventually([&] { return segment.recover_dead() == 1; }));
  EXPECT_EQ(kill(victim.pid(), 0), 0) << "the process lives on, as another program";
}

TEST_F(SegmentProcess, a_participant_that_closes_every_descriptor_is_still_alive) {
  Segment segment = Segment::create(name_, small);
  Process closer([&](Line& test) {
    const Segment own = Segment::open(name_);
    test.say("in");
    test.hear();
    close_range(0, ~0U, 0);
    for (;;) ::pause();
  });
  ASSERT_EQ(closer.hear(), "in");
  closer.say("close");
  ASSERT_EQ(closer.hear(), "<gone>");
  EXPECT_EQ(segment.recover_dead(), 0U);
  EXPECT_EQ(segment.participants().size(), 2U);
  closer.kill();
  EXPECT_EQ(segment.recover_dead(), 1U);
}

TEST_F(SegmentProcess, a_participant_outlives_the_thread_that_joined_and_its_main_thread) {
  Segment segment = Segment::create(name_, small);
  Process threads([&](Line& test) {
    std::optional<Segment> own;
    std::thread([&] { own.emplace(Segment::open(name_)); }).join();
    std::thread([&test] {
      eventually([] { return content_of("/proc/self/stat").find(") Z ") != std::string::npos; });
      test.say("in");
      test.hear();
      _exit(0);
    }).detach();
    syscall(SYS_exit, 0);  // of this thread alone
  });
  ASSERT_EQ(threads.hear(), "in");
  EXPECT_EQ(segment.recover_dead(), 0U);
  EXPECT_EQ(segment.participants().size(), 2U);
  threads.kill();
  EXPECT_EQ(segment.recover_dead(), 1U);
}

TEST_F(SegmentProcess, a_fork_in_another_thread_while_a_token_is_taken_keeps_nothing_of_it) {
  Process process([](Line&) {
    const FileDescriptor file(memfd_create("tokens", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(file.get(), page_bytes), 0);
    std::atomic<bool> forking = true;
    std::thread forker([&] {
      std::vector<pid_t> children;
      for (int i = 0; i < 200; ++i) {
        const pid_t child = fork();
        if (child == 0) {
          prctl(PR_SET_PDEATHSIG, SIGKILL);
          for (;;) ::pause();
        }
        children.push_back(child);
      }
      forking = false;
      while (!forking) yield();  // they live while the tokens are looked at
      for (const pid_t child : children) {
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
      }
    });
    std::uint64_t t = 0;
    while (forking) {
      const LivenessToken token = LivenessToken::take(file.get(), ++t);
      EXPECT_TRUE(token_held(file.get(), t));
    }
    EXPECT_FALSE(any_token_held(file.get())) << "of " << t;
    forking = true;
    forker.join();
  });
  EXPECT_EQ(process.join(), 0);
}

// ---- Recovery -----------------------------------------------------------------------------------

TEST_F(SegmentProcess, the_place_of_a_recovered_process_is_free_for_a_newcomer) {  // PART-3
  Segment segment = Segment::create(name_, small);
  Process victim = participant();
  const auto before = segment.participants().at(1);
  EXPECT_EQ(before.pid, static_cast<std::uint64_t>(victim.pid()));
  victim.kill();
  ASSERT_EQ(segment.recover_dead(), 1U);
  ASSERT_EQ(segment.recover_dead(), 0U);
  Process newcomer = participant();
  const auto after = segment.participants().at(1);
  EXPECT_EQ(after.index, before.index);
  EXPECT_EQ(after.pid, static_cast<std::uint64_t>(newcomer.pid()));
  EXPECT_GT(after.incarnation, before.incarnation);
}

TEST_F(SegmentProcess, a_table_full_of_64_dead_is_recovered_by_the_next_to_join) {
  leave_abandoned({.bytes = 64 << 10, .participants = 64});
  {
    std::vector<Process> victims;
    for (int i = 0; i < 63; ++i) victims.push_back(participant());
    const Segment last = Segment::open(name_);  // at the place of the first, dead already
    EXPECT_EQ(last.participants().size(), 64U);
    for (Process& victim : victims) victim.kill();
    Process newcomer = participant();
    EXPECT_EQ(last.participants().size(), 2U);
  }
  EXPECT_FALSE(is_named());
}

TEST_F(SegmentProcess, all_get_in_who_find_a_table_full_of_dead_at_the_same_time) {
  for (int round = 0; round < 20; ++round) {
    leave_abandoned();
    {
      std::vector<Process> victims;
      for (int i = 0; i < 7; ++i) victims.push_back(participant());
    }
    std::vector<Process> newcomers;
    for (int i = 0; i < 8; ++i) {
      newcomers.emplace_back([&](Line& test) {
        test.say("ready");
        test.hear();
        try {
          const Segment segment = Segment::open(name_);
          test.say("in");
          test.hear();
        } catch (const Error& error) {
          test.say(error.what());
        }
      });
    }
    for (Process& newcomer : newcomers) ASSERT_EQ(newcomer.hear(), "ready");
    for (Process& newcomer : newcomers) newcomer.say("go");
    for (Process& newcomer : newcomers) ASSERT_EQ(newcomer.hear(), "in") << "round " << round;
    for (Process& newcomer : newcomers) newcomer.say("leave");
    for (Process& newcomer : newcomers) ASSERT_EQ(newcomer.join(), 0);
    ASSERT_FALSE(is_named());
  }
}

// Stopped between finding the table full and looking for the dead, who are recovered meanwhile.
TEST_F(SegmentStepByStep, one_that_finds_nobody_left_to_recover_still_gets_the_place) {
  for (int steps = 0; steps < 300; steps += 3) {  // of some 100 between the two
    SCOPED_TRACE(testing::Message() << "it stood at instruction " << steps);
    leave_abandoned({.bytes = 4096, .participants = 2});
    participant().kill();
    const FileDescriptor file(open(path_.c_str(), O_RDWR | O_CLOEXEC));
    Traced joiner([&](Line& test) {
      Traced::begin();
      const Segment own = Segment::open(name_);
      Traced::end();
      test.say("in");
      test.hear();
    });
    while (!any_token_held(file.get())) ASSERT_TRUE(joiner.step(Step::system_call, 1));
    const std::size_t with_token = open_descriptors(joiner.process().pid());
    while (open_descriptors(joiner.process().pid()) == with_token) {
      ASSERT_TRUE(joiner.step(Step::system_call, 1));
    }
    ASSERT_TRUE(joiner.step(Step::instruction, steps));
    Process other = participant();
    joiner.let_go();
    ASSERT_EQ(joiner.process().hear(), "in");
    for (Process* leaver : {&other, &joiner.process()}) {
      leaver->say("leave");
      ASSERT_EQ(leaver->join(), 0);
    }
  }
}

TEST_F(SegmentProcess, a_table_full_of_the_living_refuses_the_next) {
  const Segment segment = Segment::create(name_, {.bytes = 4096, .participants = 2});
  Process other = participant();
  const Error error = error_of([&] { Segment::open(name_); });
  EXPECT_EQ(error.code(), Errc::too_many);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("all 2 places"), HasSubstr(name_)));
  EXPECT_EQ(segment.participants().size(), 2U);
}

TEST_F(SegmentProcess, an_object_whose_maker_was_killed_is_made_by_the_next) {  // DIR-1
  Segment segment = Segment::create(name_, small);
  Process maker([&](Line& test) { Segment::open(name_).open<Unfinished>("x", {&test}); });
  ASSERT_EQ(maker.hear(), "making");
  Process waiting([&](Line& test) {
    Segment own = Segment::open(name_);
    test.say("waits");
    own.open<Finished>("x", {64});  // sees the death by itself
  });
  ASSERT_EQ(waiting.hear(), "waits");
  maker.kill();
  EXPECT_EQ(waiting.join(), 0);
  EXPECT_EQ(segment.find<Finished>("x").size(), 64U);
}

TEST_F(SegmentProcess, an_object_whose_maker_lives_is_waited_for) {  // DIR-2
  Segment segment = Segment::create(name_, small);
  Process maker([&](Line& test) { Segment::open(name_).open<Unfinished>("x", {&test}); });
  ASSERT_EQ(maker.hear(), "making");
  maker.stop();
  EXPECT_EQ(error_of([&] { segment.find<Finished>("x", std::chrono::milliseconds(20)); }).code(),
            Errc::timeout);
  maker.resume();
  maker.say("go on");
  EXPECT_EQ(segment.find<Finished>("x").size(), 64U);
  EXPECT_EQ(maker.join(), 0);
}

TEST_F(SegmentProcess, processes_that_race_for_an_object_make_one) {  // DIR-1
  for (int round = 0; round < 50; ++round) {
    Segment segment = Segment::create(name_, small);
    std::vector<Process> racers;
    for (int i = 0; i < 3; ++i) {
      racers.emplace_back([&](Line& test) {
        Segment own = Segment::open(name_);
        test.say("ready");
        test.hear();
        auto& counter = own.open<SharedBuffer<std::uint64_t>>("x", {1})[0];
        reinterpret_cast<Atomic<std::uint64_t>&>(counter).fetch_add(1, relaxed);
      });
    }
    for (Process& racer : racers) ASSERT_EQ(racer.hear(), "ready");
    for (Process& racer : racers) racer.say("go");
    for (Process& racer : racers) ASSERT_EQ(racer.join(), 0);
    ASSERT_EQ(segment.find<SharedBuffer<std::uint64_t>>("x")[0], 3U);
  }
}

TEST_F(SegmentProcess, an_event_wakes_a_sleeper_of_another_process) {
  Segment segment = Segment::create(name_, small);
  auto& event =
      reinterpret_cast<Event&>(segment.open<SharedBuffer<std::uint32_t>>("event", {1})[0]);
  for (const bool one : {false, true}) {
    Process sleeper([&](Line& test) {
      Segment own = Segment::open(name_);
      auto& same = reinterpret_cast<Event&>(own.find<SharedBuffer<std::uint32_t>>("event")[0]);
      const std::uint32_t announced = same.announce();
      test.say("sleeps");
      const std::int64_t start = monotonic_ns();
      same.sleep(announced, 15'000'000'000);
      EXPECT_LT(monotonic_ns() - start, 15'000'000'000);
    });
    ASSERT_EQ(sleeper.hear(), "sleeps");
    ASSERT_TRUE(eventually([&] { return sleeper.sleeps(); }));
    one ? event.notify_one() : event.notify_all();
    EXPECT_EQ(sleeper.join(), 0);
  }
}

// At every instruction of a recovery: the recoverer stands; another finishes the recovery; a
// newcomer takes the place and claims the same name; the recoverer goes on.
TEST_F(SegmentStepByStep, a_recoverer_that_stood_still_does_not_hit_a_newcomer) {  // PART-2 PART-3
  bool inside = true;
  for (int steps = 0; inside; steps += 5) {
    SCOPED_TRACE(testing::Message() << "it stood at instruction " << steps);
    Segment segment = Segment::create(name_, {.bytes = 4096, .participants = 3, .objects = 2});
    const auto claim = [&](Line& test) { Segment::open(name_).open<Unfinished>("x", {&test}); };
    Process victim(claim);
    ASSERT_EQ(victim.hear(), "making");
    victim.kill();
    Traced recoverer([&](Line& test) {
      Segment own = Segment::open(name_);
      Traced::begin();
      own.recover_dead();
      Traced::end();
      test.say("done");
      test.hear();
    });
    inside = recoverer.step(Step::instruction, steps);
    segment.recover_dead();
    Process newcomer(claim);
    ASSERT_EQ(newcomer.hear(), "making");
    recoverer.let_go();
    ASSERT_EQ(recoverer.process().hear(), "done");
    EXPECT_EQ(segment.participants().size(), 3U);
    EXPECT_EQ(error_of([&] { segment.find<Finished>("x", {}); }).code(), Errc::timeout)
        << "the newcomer's claim is gone";
    newcomer.say("go on");
    EXPECT_EQ(newcomer.join(), 0);
    if (HasFailure()) break;
  }
}

TEST_F(SegmentStepByStep, a_recoverer_killed_at_any_instruction_leaves_the_rest_to_others) {
  bool inside = true;
  for (int steps = 0; inside; steps += 5) {
    SCOPED_TRACE(testing::Message() << "killed at instruction " << steps);
    Segment segment = Segment::create(name_, {.bytes = 4096, .participants = 3, .objects = 2});
    Process victim([&](Line& test) { Segment::open(name_).open<Unfinished>("x", {&test}); });
    ASSERT_EQ(victim.hear(), "making");
    victim.kill();
    Traced recoverer([&](Line&) {
      Segment own = Segment::open(name_);
      Traced::begin();
      own.recover_dead();
      Traced::end();
    });
    inside = recoverer.step(Step::instruction, steps);
    recoverer.process().kill();
    EXPECT_GE(segment.recover_dead(), 1U);
    EXPECT_EQ(segment.recover_dead(), 0U);
    EXPECT_EQ(error_of([&] { segment.find<Finished>("x", {}); }).code(), Errc::not_found);
    Process one = participant();
    Process other = participant();
    if (HasFailure()) break;
  }
}

TEST_F(SegmentProcess, one_that_leaves_while_others_recover_is_gone_once_and_hurts_no_newcomer) {
  Segment segment = Segment::create(name_, small);
  std::vector<Process> guests;
  for (int i = 0; i < 2; ++i) {
    guests.emplace_back([&](Line& test) {
      for (int round = 0; round < 300; ++round) {
        Segment own = Segment::open(name_);
        int me = 0;
        for (const auto& who : own.participants()) me += who.pid == static_cast<unsigned>(getpid());
        ASSERT_EQ(me, 1);
      }
      test.say("done");
    });
  }
  std::vector<Process> recoverers;
  for (int i = 0; i < 2; ++i) {
    recoverers.emplace_back([&](Line& test) {
      Segment own = Segment::open(name_);
      test.say("in");
      for (;;) own.recover_dead();
    });
    ASSERT_EQ(recoverers.back().hear(), "in");
  }
  for (Process& guest : guests) EXPECT_EQ(guest.hear(), "done");
  for (Process& guest : guests) EXPECT_EQ(guest.join(), 0);
  EXPECT_EQ(segment.participants().size(), 3U);
}

// ---- Names --------------------------------------------------------------------------------------

TEST_F(SegmentProcess, a_name_in_use_is_refused_with_the_pid_and_the_program_that_uses_it) {
  const Segment segment = Segment::create(name_, small);
  Process other([&](Line&) {
    const Error error = error_of([&] { Segment::create(name_, small); });
    EXPECT_EQ(error.code(), Errc::name_in_use);
    std::string program = content_of("/proc/self/comm");
    program.pop_back();
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr(name_), HasSubstr(std::to_string(getppid())), HasSubstr(program)));
  });
  EXPECT_EQ(other.join(), 0);
  Process stopped = participant();
  stopped.stop();
  const Error error = error_of([&] { Segment::create(name_, small); });
  EXPECT_THAT(error.what(), HasSubstr("and 1 more"));
}

TEST_F(SegmentProcess, a_name_that_the_dead_left_is_made_anew) {
  leave_abandoned();
  const std::uint64_t old_inode = inode_of(path_);
  ASSERT_NE(old_inode, 0U);
  {
    Segment segment = Segment::create(name_, small);
    EXPECT_NE(inode_of(path_), old_inode);
    EXPECT_EQ(segment.participants().size(), 1U);
    EXPECT_EQ(inode_of(segment.fd()), inode_of(path_));
  }
  EXPECT_FALSE(is_named());
}

TEST_F(SegmentProcess, a_segment_that_the_dead_left_can_still_be_opened) {
  Process maker([&](Line& test) {
    Segment segment = Segment::create(name_, small);
    segment.open<SharedBuffer<int>>("x", {1})[0] = 42;
    test.say("in");
    test.hear();
  });
  ASSERT_EQ(maker.hear(), "in");
  maker.kill();
  Segment segment = Segment::open(name_);
  EXPECT_EQ(segment.find<SharedBuffer<int>>("x")[0], 42);
}

TEST_F(SegmentProcess, the_last_one_out_removes_the_name) {
  std::optional<Segment> segment = Segment::create(name_, small);
  Process other = participant();
  segment.reset();
  EXPECT_TRUE(is_named());
  other.say("leave");
  EXPECT_EQ(other.join(), 0);
  EXPECT_FALSE(is_named());
  EXPECT_EQ(error_of([&] { Segment::open(name_); }).code(), Errc::not_found);
}

TEST_F(SegmentProcess, the_last_one_out_removes_the_name_when_others_were_killed) {
  {
    const Segment segment = Segment::create(name_, small);
    participant().kill();
  }
  EXPECT_FALSE(is_named());
}

TEST_F(SegmentProcess, two_that_leave_at_once_remove_the_name) {
  for (int round = 0; round < 200; ++round) {
    std::optional<Segment> segment = Segment::create(name_, small);
    Process other = participant();
    other.say("leave");
    segment.reset();
    ASSERT_EQ(other.join(), 0);
    ASSERT_FALSE(is_named()) << "round " << round;
  }
}

TEST_F(SegmentProcess, of_two_that_create_a_name_at_once_exactly_one_wins) {
  for (int round = 0; round < 100; ++round) {
    if (round % 2 == 0) leave_abandoned();  // over a name that is free, or that the dead left
    std::vector<Process> creators;
    for (int i = 0; i < 2; ++i) {
      creators.emplace_back([&](Line& test) {
        test.say("ready");
        test.hear();
        try {
          const Segment segment = Segment::create(name_, small);
          test.say("won");
          test.hear();
        } catch (const Error& error) {
          test.say(error.code() == Errc::name_in_use ? "lost" : error.what());
        }
      });
    }
    for (Process& creator : creators) ASSERT_EQ(creator.hear(), "ready");
    for (Process& creator : creators) creator.say("go");
    std::vector<std::string> ends;
    for (Process& creator : creators) ends.push_back(creator.hear());
    ASSERT_THAT(ends, testing::UnorderedElementsAre("won", "lost")) << "round " << round;
    for (Process& creator : creators) creator.say("leave");
    for (Process& creator : creators) ASSERT_EQ(creator.join(), 0);
    ASSERT_FALSE(is_named());
  }
}

TEST_F(SegmentProcess,
       whoever_opens_while_the_last_one_leaves_is_never_in_a_file_without_its_name) {
  std::vector<Process> makers;
  for (int i = 0; i < 2; ++i) {
    makers.emplace_back([&](Line& test) {
      test.say("ready");
      for (;;) {
        try {
          const Segment segment = Segment::create(name_, {.bytes = 4096, .participants = 8});
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Errc::name_in_use) << error.what();
        }
        if (testing::Test::HasFailure()) return;
      }
    });
    ASSERT_EQ(makers.back().hear(), "ready");
  }
  int opened = 0;
  int missed = 0;
  while (opened < 500) {
    try {
      const Segment segment = Segment::open(name_);
      ++opened;
      ASSERT_EQ(inode_of(segment.fd()), inode_of(path_)) << "after " << opened;
      ASSERT_EQ(segment.name(), name_);
    } catch (const Error& error) {
      ++missed;
      ASSERT_EQ(error.code(), Errc::not_found) << error.what();
    }
  }
  for (Process& maker : makers) {
    EXPECT_EQ(waitpid(maker.pid(), nullptr, WNOHANG), 0) << "it has failed";
    maker.kill();
  }
  EXPECT_LE(Segment::clear_abandoned(name_), 1U);
}

// A system call counts twice: killed before it, and after it.
TEST_F(SegmentStepByStep,
       a_creator_killed_at_any_system_call_leaves_the_name_free_or_a_whole_segment) {
  int named = 0;
  bool inside = true;
  for (int calls = 0; inside; ++calls) {
    SCOPED_TRACE(testing::Message() << "killed at call " << calls);
    Traced creator([&](Line&) {
      Traced::begin();
      const Segment segment = Segment::create(name_, small);
      Traced::end();
    });
    inside = creator.step(Step::system_call, calls);
    creator.process().kill();
    if (is_named()) {
      ++named;
      Segment segment = Segment::open(name_);
      EXPECT_EQ(segment.recover_dead(), 1U);
      EXPECT_EQ(segment.open<SharedBuffer<int>>("x", {1}).size(), 1U);
    } else {
      const Segment segment = Segment::create(name_, small);
    }
    ASSERT_FALSE(is_named());
  }
  EXPECT_GT(named, 1);
}

TEST_F(SegmentStepByStep, one_killed_at_any_system_call_of_opening_is_not_in_the_way) {  // PART-1
  int joined = 0;
  bool inside = true;
  for (int calls = 0; inside; ++calls) {
    SCOPED_TRACE(testing::Message() << "killed at call " << calls);
    {
      Segment segment = Segment::create(name_, {.bytes = 4096, .participants = 2});
      Traced joiner([&](Line&) {
        Traced::begin();
        const Segment own = Segment::open(name_);
        Traced::end();
      });
      inside = joiner.step(Step::system_call, calls);
      std::uint64_t word = 0;
      const off_t place = page_bytes + sizeof(ParticipantEntry);
      ASSERT_EQ(pread(segment.fd(), &word, sizeof word, place), 8);
      if (ParticipantWord::state(word) == ParticipantState::alive) {
        EXPECT_TRUE(token_held(segment.fd(), ParticipantWord::incarnation(word)));
        ++joined;
      }
      joiner.process().kill();
      Process newcomer = participant();
    }
    ASSERT_FALSE(is_named());
  }
  EXPECT_GT(joined, 1);
}

TEST_F(SegmentStepByStep, one_killed_at_any_system_call_of_leaving_is_not_in_the_way) {
  int named = 0;
  bool inside = true;
  for (int calls = 0; inside; ++calls) {
    SCOPED_TRACE(testing::Message() << "killed at call " << calls);
    Traced leaver([&](Line&) {
      std::optional<Segment> own = Segment::create(name_, {.bytes = 4096, .participants = 1});
      Traced::begin();
      own.reset();
      Traced::end();
    });
    inside = leaver.step(Step::system_call, calls);
    leaver.process().kill();
    if (is_named()) {
      ++named;
      const Segment segment = Segment::open(name_);
    } else {
      const Segment segment = Segment::create(name_, small);
    }
    ASSERT_FALSE(is_named());
  }
  EXPECT_GT(named, 1);
}

TEST_F(SegmentProcess, only_what_the_dead_left_is_cleared) {
  const std::string other_path = path_ + "bandoned";
  leave_abandoned();
  rename(path_.c_str(), other_path.c_str());  // a name of its own
  leave_abandoned();
  const std::string alive = prefix_ + ".living";
  const Segment segment = Segment::create(alive, small);
  const std::string foreign = "/dev/shm/heddle." + prefix_ + ".foreign";
  std::ofstream(foreign) << "somebody's notes";
  EXPECT_EQ(Segment::clear_abandoned(prefix_ + ".b"), 0U);
  EXPECT_EQ(Segment::clear_abandoned(prefix_ + "."), 2U);
  EXPECT_EQ(Segment::clear_abandoned(prefix_ + "."), 0U);
  EXPECT_FALSE(is_named());
  EXPECT_EQ(access(other_path.c_str(), F_OK), -1);
  EXPECT_EQ(inode_of("/dev/shm/heddle." + alive), inode_of(segment.fd()));
  EXPECT_EQ(content_of(foreign), "somebody's notes");
  unlink(foreign.c_str());
}

TEST_F(SegmentProcess, a_name_is_1_to_48_plain_characters) {
  for (const std::string& bad :
       {std::string(), std::string(49, 'n'), std::string("a/b"), std::string("../a"),
        std::string(".a"), std::string("a b"), std::string("a\0b", 3), std::string("\xc3\xa4")}) {
    EXPECT_EQ(error_of([&] { Segment::create(bad, small); }).code(), Errc::invalid_argument);
    EXPECT_EQ(error_of([&] { Segment::open(bad); }).code(), Errc::invalid_argument);
  }
  const std::string longest = prefix_ + std::string(48 - prefix_.size(), '-');
  const Segment segment = Segment::create(longest, small);
  EXPECT_EQ(Segment::adopt(segment.fd()).name(), longest);
}

TEST_F(SegmentProcess, options_that_cannot_work_are_refused_before_anything_is_made) {
  for (const Segment::Options& bad :
       {Segment::Options{.participants = 0}, Segment::Options{.participants = 1024},
        Segment::Options{.objects = 0}, Segment::Options{.objects = (1 << 20) + 1},
        Segment::Options{.bytes = std::size_t{1} << 63}}) {
    EXPECT_EQ(error_of([&] { Segment::create(name_, bad); }).code(), Errc::invalid_argument);
    EXPECT_EQ(error_of([&] { Segment::anonymous(bad); }).code(), Errc::invalid_argument);
  }
  const Segment most = Segment::create(name_, {.bytes = 0, .participants = 1023, .objects = 1});
  EXPECT_EQ(most.participants().size(), 1U);
}

// ---- Files that are no segments, or damaged ones ------------------------------------------------

class ForeignFile : public SegmentProcess {
 protected:
  ~ForeignFile() override { EXPECT_EQ(unlink(path_.c_str()), 0); }
  // Refused by all, and left as it is.
  void expect_refused(const std::string& content, Errc code, const std::string& because) {
    write_file(content);
    const std::uint64_t inode = inode_of(path_);
    for (const Error& error : {error_of([&] { Segment::create(name_, small); }),
                               error_of([&] { Segment::open(name_); })}) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_THAT(error.what(), AllOf(HasSubstr(name_), HasSubstr(because)));
      EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
    }
    EXPECT_EQ(Segment::clear_abandoned(name_), 0U);
    EXPECT_EQ(inode_of(path_), inode);
    EXPECT_EQ(content_of(path_), content);
  }
  std::string image() {
    leave_abandoned();
    std::string content = content_of(path_);
    EXPECT_EQ(unlink(path_.c_str()), 0);
    return content;
  }
  template <class T>
  static std::string with(std::string content, std::size_t offset, T value) {
    std::memcpy(content.data() + offset, &value, sizeof value);
    return content;
  }
};

TEST_F(ForeignFile, that_is_no_segment_is_refused_and_left_alone) {
  expect_refused("", Errc::corrupt, "not a Heddle segment");
  expect_refused("somebody's notes", Errc::corrupt, "not a Heddle segment");
  expect_refused(std::string(100'000, 'x'), Errc::corrupt, "not a Heddle segment");
}

TEST_F(ForeignFile, of_another_layout_is_refused_and_both_versions_are_named) {
  const std::string other = with(image(), offsetof(SegmentHeader, version), layout_version + 6);
  expect_refused(other, Errc::layout_mismatch, "has layout " + std::to_string(layout_version + 6));
  expect_refused(other, Errc::layout_mismatch, "has " + std::to_string(layout_version));
}

TEST_F(ForeignFile, that_was_cut_or_damaged_is_refused_and_left_alone) {
  const std::string whole = image();
  expect_refused(whole.substr(0, sizeof(SegmentHeader) - 1), Errc::corrupt, "not a Heddle segment");
  expect_refused(whole.substr(0, sizeof(SegmentHeader)), Errc::corrupt, "damaged header");
  expect_refused(whole.substr(0, whole.size() - page_bytes), Errc::corrupt, "damaged header");
  expect_refused(whole + "x", Errc::corrupt, "damaged header");

  const auto damaged = [&](std::size_t offset, auto value) {
    SCOPED_TRACE(testing::Message() << "offset " << offset << " made " << value);
    expect_refused(with(whole, offset, value), Errc::corrupt, "damaged header");
  };
  damaged(offsetof(SegmentHeader, participants), std::uint32_t{0});
  damaged(offsetof(SegmentHeader, participants), std::uint32_t{1024});
  damaged(offsetof(SegmentHeader, participants), std::uint32_t{1000});  // over the objects
  damaged(offsetof(SegmentHeader, objects), std::uint32_t{0});
  damaged(offsetof(SegmentHeader, objects), ~std::uint32_t{0});
  damaged(offsetof(SegmentHeader, total_bytes), std::uint64_t{0});
  damaged(offsetof(SegmentHeader, total_bytes), std::uint64_t{whole.size() + page_bytes});
  damaged(offsetof(SegmentHeader, heap_offset), std::uint64_t{0});
  damaged(offsetof(SegmentHeader, heap_offset), std::uint64_t{page_bytes});
  damaged(offsetof(SegmentHeader, heap_offset), std::uint64_t{whole.size() + page_bytes});
  damaged(offsetof(SegmentHeader, heap_offset), std::uint64_t{page_bytes * 3 + 64});
  damaged(offsetof(SegmentHeader, heap_offset), ~std::uint64_t{0} - page_bytes + 1);
  damaged(offsetof(SegmentHeader, name), '/');
}

TEST_F(ForeignFile, of_another_user_is_refused) {
  if (geteuid() != 0) {
    write_file("");
    GTEST_SKIP() << "only root can give a file away";
  }
  write_file(image());
  ASSERT_EQ(chown(path_.c_str(), 65534, 65534), 0);
  for (const Error& error : {error_of([&] { Segment::create(name_, small); }),
                             error_of([&] { Segment::open(name_); })}) {
    EXPECT_EQ(error.code(), Errc::permission);
    EXPECT_THAT(error.what(), HasSubstr("user 65534"));
  }
}

TEST_F(SegmentProcess, a_name_that_is_no_file_is_refused_and_left_alone) {
  const std::string target = prefix_ + ".target";
  const std::vector<std::function<int()>> makes = {
      [&] { return mkdir(path_.c_str(), 0700); },
      [&] { return mkfifo(path_.c_str(), 0600); },
      [&] { return symlink(target.c_str(), path_.c_str()); },
  };
  for (std::size_t i = 0; i < makes.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "kind " << i);
    ASSERT_EQ(makes[i](), 0);
    for (const Error& error : {error_of([&] { Segment::create(name_, small); }),
                               error_of([&] { Segment::open(name_); })}) {
      EXPECT_EQ(error.code(), Errc::corrupt) << error.what();
      EXPECT_THAT(error.what(), AllOf(HasSubstr(name_), HasSubstr("not a file")));
    }
    EXPECT_EQ(Segment::clear_abandoned(name_), 0U);
    EXPECT_EQ(std::remove(path_.c_str()), 0);
  }
}

// The tables and the heap's end are read again and again while others write them: whatever stands
// there, an attacher gets an Error or an object, and the process survives.
TEST_F(SegmentProcess, no_damage_to_the_tables_crashes_or_hangs_an_attacher) {
  leave_abandoned();
  const std::string whole = content_of(path_);
  unlink(path_.c_str());
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    std::string damaged = whole;
    const std::size_t tables = page_bytes + 8 * (sizeof(ParticipantEntry) + sizeof(DirectoryEntry));
    for (int i = 0; i < 40; ++i) {
      std::uint64_t value = random();
      if (i % 4 == 0) value &= 0x3ffff;  // states and owners that may exist
      if (i % 4 == 1) value >>= random() % 64;
      const std::size_t at = offsetof(SegmentHeader, incarnations) / 8 +
                             random() % ((tables - offsetof(SegmentHeader, incarnations)) / 8);
      std::memcpy(damaged.data() + at * 8, &value, 8);
    }
    write_file(damaged);
    Process attacher([&](Line&) {
      const auto quietly = [](auto&& call) {
        try {
          call();
        } catch (const Error&) {
        }
      };
      quietly([&] {
        Segment segment = Segment::open(name_);
        segment.participants();
        segment.recover_dead();
        for (const char* name : {"a", "b", "c"}) {
          quietly([&] { segment.find<Finished>(name, {}); });
          quietly([&] { segment.open<Finished>(name, {100}, {}).span()[99] = std::byte{1}; });
        }
      });
    });
    ASSERT_EQ(attacher.join(), 0);
    unlink(path_.c_str());
  }
}

TEST_F(SegmentProcess, a_damaged_count_of_incarnations_is_refused) {
  leave_abandoned();
  const std::string whole = content_of(path_);
  for (const std::uint64_t count :
       {std::uint64_t{1} << 48, ~std::uint64_t{0}, ParticipantWord::last_incarnation}) {
    std::string damaged = whole;
    std::memcpy(damaged.data() + offsetof(SegmentHeader, incarnations), &count, 8);
    write_file(damaged);
    EXPECT_EQ(error_of([&] { Segment::open(name_); }).code(), Errc::corrupt);
  }
  {
    const std::uint64_t count = 0;  // gives the living one's again
    Segment segment = Segment::create(name_ + "b", small);
    ASSERT_EQ(pwrite(segment.fd(), &count, 8, offsetof(SegmentHeader, incarnations)), 8);
    EXPECT_EQ(error_of([&] { Segment::open(name_ + "b"); }).code(), Errc::corrupt);
  }
  unlink(path_.c_str());
}

// ---- Forks --------------------------------------------------------------------------------------

TEST_F(SegmentProcess, a_forked_childs_handles_are_closed_and_its_end_changes_nothing) {
  std::optional<Segment> segment = Segment::create(name_, small);
  segment->open<SharedBuffer<int>>("x", {1})[0] = 42;
  Process victim = participant();
  victim.kill();
  Process child([&](Line&) {
    EXPECT_FALSE(segment->peers().present());
    EXPECT_EQ(segment->recover_dead(), 0U);
    EXPECT_EQ(error_of([&] { segment->find<SharedBuffer<int>>("x"); }).code(), Errc::closed);
    EXPECT_EQ(error_of([&] { segment->open<SharedBuffer<int>>("y", {1}); }).code(), Errc::closed);
    segment.reset();
  });
  EXPECT_EQ(child.join(), 0);
  EXPECT_TRUE(segment->peers().present());
  EXPECT_TRUE(is_named());
  EXPECT_EQ(segment->participants().size(), 1U);
  EXPECT_EQ(segment->find<SharedBuffer<int>>("x")[0], 42);
  EXPECT_EQ(segment->recover_dead(), 1U);
  Process other([&](Line&) {
    EXPECT_EQ(error_of([&] { Segment::create(name_, small); }).code(), Errc::name_in_use);
  });
  EXPECT_EQ(other.join(), 0);
}

TEST_F(SegmentProcess, a_forked_child_opens_anew_and_recovers_its_dead_parent) {
  Process parent([&](Line& test) {
    Segment segment = Segment::create(name_, small);
    if (fork() == 0) {
      Segment own = Segment::open(name_);
      test.say("child is in");
      test.hear();
      test.say(std::to_string(own.recover_dead()) + " recovered");
      test.hear();
      own = Segment::anonymous(small);  // leaves
      test.say("left");
      _exit(0);
    }
    ::pause();
  });
  ASSERT_EQ(parent.hear(), "child is in");
  parent.kill();
  parent.say("recover");
  EXPECT_EQ(parent.hear(), "1 recovered");
  EXPECT_TRUE(is_named());
  parent.say("leave");
  EXPECT_EQ(parent.hear(), "left");
  EXPECT_FALSE(is_named());
}

TEST_F(SegmentProcess, a_process_may_be_in_a_segment_twice) {
  Segment one = Segment::create(name_, small);
  {
    Segment two = Segment::open(name_);
    EXPECT_EQ(two.participants().size(), 2U);
    EXPECT_EQ(one.recover_dead() + two.recover_dead(), 0U);
    two.open<SharedBuffer<int>>("x", {1})[0] = 42;
  }
  EXPECT_EQ(one.participants().size(), 1U);
  EXPECT_EQ(one.find<SharedBuffer<int>>("x")[0], 42);
  EXPECT_TRUE(is_named());
}

// ---- Without a name -----------------------------------------------------------------------------

TEST_F(SegmentProcess, an_anonymous_one_is_adopted_by_a_forked_child_and_outlives_its_maker) {
  std::optional<Segment> segment = Segment::anonymous(small);
  segment->open<SharedBuffer<int>>("x", {1})[0] = 42;
  Process child([&](Line& test) {
    Segment own = Segment::adopt(segment->fd());
    segment.reset();
    EXPECT_EQ(own.name(), "");
    EXPECT_EQ(own.participants().size(), 2U);
    own.find<SharedBuffer<int>>("x")[0] = 43;
    test.say("in");
    test.hear();
    EXPECT_EQ(own.participants().size(), 1U);
    EXPECT_EQ(own.find<SharedBuffer<int>>("x")[0], 44);
  });
  ASSERT_EQ(child.hear(), "in");
  EXPECT_EQ(segment->find<SharedBuffer<int>>("x")[0], 43);
  segment->find<SharedBuffer<int>>("x")[0] = 44;
  segment.reset();
  child.say("left");
  EXPECT_EQ(child.join(), 0);
}

// What the test below executes: this very program, which comes here before it comes to main().
constexpr const char* adopt_variable = "HEDDLE_TEST_ADOPT";
[[maybe_unused]] const bool adopted = [] {
  if (const char* fd = std::getenv(adopt_variable)) {
    Segment own = Segment::adopt(std::atoi(fd));
    auto x = own.find<SharedBuffer<int>>("x");
    x[0] = x[0] == 42 && own.participants().size() == 2 ? 43 : -1;
    raise(SIGKILL);
  }
  return false;
}();

TEST_F(SegmentProcess, an_anonymous_one_is_adopted_by_an_executed_child) {
  Segment segment = Segment::anonymous(small);
  segment.open<SharedBuffer<int>>("x", {1})[0] = 42;
  Process child([&](Line&) {
    fcntl(segment.fd(), F_SETFD, 0);  // inherited
    setenv(adopt_variable, std::to_string(segment.fd()).c_str(), 1);
    execl("/proc/self/exe", "adopter", nullptr);
  });
  EXPECT_EQ(child.join(), -SIGKILL);
  EXPECT_EQ(segment.find<SharedBuffer<int>>("x")[0], 43);
  EXPECT_EQ(segment.recover_dead(), 1U);
}

TEST_F(SegmentProcess, an_adopter_of_a_named_one_who_is_the_last_out_removes_the_name) {
  std::optional<Segment> segment = Segment::create(name_, small);
  Process child([&](Line& test) {
    const Segment own = Segment::adopt(segment->fd());
    test.say("in");
    test.hear();
  });
  ASSERT_EQ(child.hear(), "in");
  segment.reset();
  EXPECT_TRUE(is_named());
  child.say("leave");
  EXPECT_EQ(child.join(), 0);
  EXPECT_FALSE(is_named());
}

TEST_F(SegmentProcess, a_descriptor_of_something_else_is_not_adopted) {
  EXPECT_EQ(error_of([] { Segment::adopt(9999); }).code(), Errc::system);
  const FileDescriptor file(memfd_create("empty", MFD_CLOEXEC));
  EXPECT_EQ(error_of([&] { Segment::adopt(file.get()); }).code(), Errc::corrupt);
}

TEST_F(SegmentProcess, handles_stay_good_when_the_segment_is_moved) {
  Segment segment = Segment::anonymous(small);
  Peers& peers = segment.peers();
  auto buffer = segment.open<SharedBuffer<int>>("x", {1});
  Segment moved = std::move(segment);
  buffer[0] = 42;
  EXPECT_EQ(&moved.peers(), &peers);
  EXPECT_TRUE(peers.present());
  EXPECT_EQ(moved.find<SharedBuffer<int>>("x")[0], 42);
}

// ---- Room ---------------------------------------------------------------------------------------

// Runs `body` in a child with a /dev/shm which only it sees, if the machine lets it mount one.
void with_own_dev_shm(const char* options, const std::function<void()>& body) {
  Process child([&](Line& test) {
    const std::string user = std::to_string(geteuid());
    const std::string group = std::to_string(getegid());
    const bool is_root = geteuid() == 0;
    bool may = unshare(CLONE_NEWNS | (is_root ? 0 : CLONE_NEWUSER)) == 0;
    if (!is_root) {  // in a user's own name space he is root, once his number has a meaning there
      std::ofstream("/proc/self/setgroups") << "deny";
      std::ofstream("/proc/self/uid_map") << "0 " + user + " 1";
      std::ofstream("/proc/self/gid_map") << "0 " + group + " 1";
    }
    may = may && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    may = may && mount("tmpfs", "/dev/shm", "tmpfs", 0, options) == 0;
    if (!may) {
      test.say(std::string("no mounts of one's own here: ") + std::strerror(errno));
      return;
    }
    test.say("");
    body();
  });
  if (const std::string why_not = child.hear(); !why_not.empty() && why_not != "<gone>") {
    GTEST_SKIP() << why_not;
  }
  EXPECT_EQ(child.join(), 0);
}

TEST_F(SegmentProcess, what_does_not_fit_into_dev_shm_is_refused_and_leaves_nothing) {
  with_own_dev_shm("size=1m", [&] {
    const auto expect_refused = [&](std::size_t bytes, const std::string& left) {
      const Error error = error_of([&] { Segment::create(name_, {.bytes = bytes}); });
      EXPECT_EQ(error.code(), Errc::no_space) << error.what();
      EXPECT_THAT(error.what(), AllOf(HasSubstr("/dev/shm"), HasSubstr(left)));
      EXPECT_TRUE(fs::is_empty("/dev/shm") || access("/dev/shm/other", F_OK) == 0);
      struct statvfs space {};
      EXPECT_EQ(statvfs("/dev/shm", &space), 0);
      EXPECT_GT(space.f_bfree, 0U);
    };
    expect_refused(8 << 20, "1 MiB left");
    {
      const Segment fits = Segment::create(name_, {.bytes = 512 << 10});
      EXPECT_TRUE(is_named());
    }
    EXPECT_TRUE(fs::is_empty("/dev/shm"));
    std::ofstream("/dev/shm/other") << std::string(600 << 10, 'x');
    expect_refused(512 << 10, "0 MiB left");
  });
}

TEST_F(SegmentProcess, no_room_for_one_more_file_is_no_space_too) {
  with_own_dev_shm("size=4m,nr_inodes=1", [&] {
    EXPECT_EQ(error_of([&] { Segment::create(name_, small); }).code(), Errc::no_space);
  });
}

// The files of the control group that this process is in, written by the test.
class FakeControlGroup {
 public:
  FakeControlGroup() {
    EXPECT_EQ(mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, nullptr), 0) << std::strerror(errno);
    const bool unified = content_of("/proc/self/cgroup").find(":memory:") == std::string::npos;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
      if (unified ? line.rfind("0::", 0) != 0 : line.find(":memory:") == line.npos) continue;
      const fs::path root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
      const std::string group = line.substr(line.find(':', line.find(':') + 1) + 1);
      fs::create_directories(root.string() + group);
      groups_.push_back({unified, root, root.string() + group});
    }
  }
  void set(std::uint64_t limit, std::uint64_t used, std::uint64_t cached,
           bool of_its_root = false) {
    for (const auto& [unified, root, group] : groups_) {
      const std::string at = (of_its_root ? root : group).string();
      std::ofstream(at + (unified ? "/memory.max" : "/memory.limit_in_bytes")) << limit << "\n";
      std::ofstream(at + (unified ? "/memory.current" : "/memory.usage_in_bytes")) << used << "\n";
      std::ofstream(at + "/memory.stat")
          << "anon 12345\n"
          << (unified ? "" : "total_") << "inactive_file " << cached / 2 << "\n"
          << (unified ? "" : "total_") << "active_file " << cached - cached / 2 << "\nshmem 7\n";
    }
  }

 private:
  struct Group {
    bool unified;
    fs::path root, path;
  };
  std::vector<Group> groups_;
};

TEST_F(SegmentProcess, what_does_not_fit_into_the_control_groups_memory_is_refused) {
  with_own_dev_shm("size=1g", [&] {
    constexpr std::uint64_t mib = 1 << 20;
    FakeControlGroup group;
    const auto attempt = [&](std::size_t bytes) {
      return error_of([&] { Segment::create(name_, {.bytes = bytes}); });
    };
    group.set(64 * mib, 40 * mib, 0);
    const Error error = attempt(32 * mib);
    EXPECT_EQ(error.code(), Errc::no_space);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("memory limit"), HasSubstr("24 MiB left")));
    EXPECT_STREQ(attempt(16 * mib).what(), "nothing was thrown");
    group.set(64 * mib, 40 * mib, 20 * mib);
    EXPECT_STREQ(attempt(32 * mib).what(), "nothing was thrown") << "a cache makes room";
    group.set(16 * mib, 40 * mib, 0);
    EXPECT_THAT(attempt(1 * mib).what(), HasSubstr("0 MiB left"));
    group.set(1024 * mib, 0, 0);
    group.set(64 * mib, 60 * mib, 0, true);
    EXPECT_THAT(attempt(32 * mib).what(), HasSubstr("4 MiB left")) << "the limit of a group above";
  });
}

TEST_F(SegmentProcess, an_absurd_size_is_refused_before_any_memory_is_taken) {
  for (const auto& call :
       {std::function<void()>([&] { Segment::create(name_, {.bytes = std::size_t{1} << 45}); }),
        std::function<void()>([&] { Segment::anonymous({.bytes = std::size_t{1} << 45}); })}) {
    const Error error = error_of(call);
    EXPECT_EQ(error.code(), Errc::no_space) << error.what();
  }
}

TEST_F(SegmentProcess, a_process_that_is_interrupted_all_the_time_gets_its_segment) {
  Process process([&](Line&) {
    signal(SIGALRM, [](int) {});
    const itimerval often{{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &often, nullptr);
    for (int round = 0; round < 3; ++round) {
      const Segment segment = Segment::create(name_, {.bytes = 96 << 20});
      EXPECT_GE(segment.bytes(), std::size_t{96} << 20);
    }
  });
  EXPECT_EQ(process.join(), 0);
}

TEST_F(SegmentProcess, every_page_is_there_before_anybody_touches_it) {
  const Segment segment = Segment::create(name_, {.bytes = 4 << 20});
  struct stat status {};
  ASSERT_EQ(fstat(segment.fd(), &status), 0);
  EXPECT_GE(static_cast<std::size_t>(status.st_blocks) * 512, segment.bytes());
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(SegmentProcess, a_failure_leaves_no_descriptor_open) {
  const Segment full = Segment::create(name_, {.bytes = 4096, .participants = 1});
  const std::size_t before = open_descriptors();
  for (int round = 0; round < 10; ++round) {
    EXPECT_THROW(Segment::open(name_), Error);           // too many
    EXPECT_THROW(Segment::adopt(full.fd()), Error);      // too many
    EXPECT_THROW(Segment::create(name_, small), Error);  // in use
    EXPECT_THROW(Segment::create(name_ + "b", {.bytes = std::size_t{1} << 45}), Error);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(SegmentProcess, no_descriptor_left_to_the_process_is_an_error_and_leaves_nothing) {
  Process process([&](Line&) {
    for (rlim_t limit = 3; limit < 20; ++limit) {
      const rlimit few{limit, 20};
      setrlimit(RLIMIT_NOFILE, &few);
      const Error error = error_of([&] { const Segment made = Segment::create(name_, small); });
      if (std::string(error.what()) == "nothing was thrown") return;
      EXPECT_EQ(error.code(), Errc::system) << error.what();
      EXPECT_FALSE(is_named());
    }
    FAIL() << "20 descriptors are enough";
  });
  EXPECT_EQ(process.join(), 0);
}

}  // namespace
}  // namespace heddle
