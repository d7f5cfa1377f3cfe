#pragma once

// "heddle queue": tasks from a shell. Each of its commands has a file of its own.

#include <CLI/CLI.hpp>

#include "queue_dead.hpp"
#include "queue_look.hpp"
#include "queue_pop.hpp"
#include "queue_push.hpp"
#include "queue_work.hpp"

namespace heddle {

struct QueueOptions {
  QueuePushOptions push;
  QueuePopOptions pop;
  QueueWorkOptions work;
  QueueStatsOptions stats;
  QueueDeadOptions dead;
  QueueResultOptions result;
  QueueCloseOptions close;
  QueueCloseOptions reopen;
};

/// Adds "queue" to the program's commands; its options land in `options`.
CLI::App* add_queue_command(CLI::App& app, QueueOptions& options);

/// Runs the one that was parsed. Returns its exit code. Throws Error.
int queue_command(const CLI::App& queue, const QueueOptions& options);

}  // namespace heddle
