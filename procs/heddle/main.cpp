#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "bench_command.hpp"
#include "heddle/base/error.hpp"
#include "pub_command.hpp"
#include "queue_command.hpp"
#include "storm_command.hpp"
#include "sub_command.hpp"
#include "train_command.hpp"
#include "worker_command.hpp"

namespace {

constexpr int failed = 1;
constexpr int bad_input = 2;

int complain(const std::string& message, int exit_code) {
  std::string line = message;  // one line, whatever a library puts into it
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  std::fprintf(stderr, "heddle: %s\n", line.c_str());
  return exit_code;
}

int exit_code_of(heddle::Errc code) {
  switch (code) {
    case heddle::Errc::timeout:
    case heddle::Errc::closed:
    case heddle::Errc::system:
      return failed;
    default:
      return bad_input;
  }
}

// A segment's file must not become descriptor 1 or 2, where everything is printed to.
void fill_standard_descriptors() {
  while (true) {
    const int fd = open("/dev/null", O_RDWR);
    if (fd > STDERR_FILENO) close(fd);
    if (fd < 0 || fd > STDERR_FILENO) return;
  }
}

int run(int argc, char** argv) {
  CLI::App app("Heddle: shared memory for processes that work together and may die.", "heddle");
  app.set_version_flag("--version", "heddle " HEDDLE_VERSION);
  app.require_subcommand(1);
  heddle::TrainOptions train;
  const CLI::App* train_app = add_train_command(app, train);
  heddle::PubOptions pub;
  const CLI::App* pub_app = add_pub_command(app, pub);
  heddle::SubOptions sub;
  const CLI::App* sub_app = add_sub_command(app, sub);
  heddle::PullOptions pull;
  const CLI::App* pull_app = add_pull_command(app, pull);
  heddle::QueueOptions queue;
  const CLI::App* queue_app = add_queue_command(app, queue);
  heddle::StormOptions storm;
  const CLI::App* storm_app = add_storm_command(app, storm);
  heddle::BenchOptions bench;
  const CLI::App* bench_app = add_bench_command(app, bench);
  const CLI::App* worker_app =
      app.add_subcommand("worker", "what heddle train starts")->group("");  // not for people
  if (const std::string first = argc > 1 ? argv[1] : ""; !first.empty() && first[0] != '-') {
    const auto named = [&](const CLI::App* command) { return command->check_name(first); };
    if (app.get_subcommands(named).empty()) {
      return complain("unknown command \"" + first +
                          "\": there are train, pub, sub, pull, queue, storm and bench",
                      bad_input);
    }
  }
  if (const std::string second = argc > 2 ? argv[2] : "";
      !second.empty() && second[0] != '-' && queue_app->check_name(argv[1])) {
    const auto named = [&](const CLI::App* command) { return command->check_name(second); };
    if (queue_app->get_subcommands(named).empty()) {
      return complain("unknown command \"queue " + second +
                          "\": there are push, work, pop, stats, result, dead, close and reopen",
                      bad_input);
    }
  }
  if (const std::string second = argc > 2 ? argv[2] : "";
      !second.empty() && second[0] != '-' && bench_app->check_name(argv[1])) {
    const auto named = [&](const CLI::App* command) { return command->check_name(second); };
    if (bench_app->get_subcommands(named).empty()) {
      return complain("unknown command \"bench " + second + "\": there is collective", bad_input);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::string command;
    for (auto parsed = app.get_subcommands(); !parsed.empty();
         parsed = parsed.front()->get_subcommands()) {
      command += parsed.front()->get_name() + " ";
    }
    return complain(
        std::string(error.what()) + "; \"heddle " + command + "--help\" lists the options",
        bad_input);
  }
  if (train_app->parsed()) return train_command(train);
  if (pub_app->parsed()) return pub_command(pub);
  if (sub_app->parsed()) return sub_command(sub);
  if (pull_app->parsed()) return pull_command(pull);
  if (queue_app->parsed()) return queue_command(*queue_app, queue);
  if (storm_app->parsed()) return storm_command(storm);
  if (bench_app->parsed()) return bench_command(*bench_app, bench);
  if (worker_app->parsed()) return heddle::worker_command();
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  fill_standard_descriptors();
  signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write(), after which all is cleared up
  try {
    return run(argc, argv);
  } catch (const heddle::Error& error) {
    return complain(error.what(), exit_code_of(error.code()));
  } catch (const std::exception& error) {
    return complain(error.what(), failed);
  }
}
