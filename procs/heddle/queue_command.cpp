#include "queue_command.hpp"

namespace heddle {

CLI::App* add_queue_command(CLI::App& app, QueueOptions& options) {
  CLI::App* queue = app.add_subcommand("queue", "tasks that survive those who work on them");
  queue->require_subcommand(1);
  add_queue_push(*queue, options.push);
  add_queue_work(*queue, options.work);
  add_queue_pop(*queue, options.pop);
  add_queue_stats(*queue, options.stats);
  add_queue_result(*queue, options.result);
  add_queue_dead(*queue, options.dead);
  add_queue_close(*queue, options.close);
  add_queue_reopen(*queue, options.reopen);
  queue->footer(
      "heddle queue push demo/jobs --close < lines       # each line is a task\n"
      "heddle queue work demo/jobs -n 4 -- ./handle      # one process for each, in another "
      "terminal");
  return queue;
}

int queue_command(const CLI::App& queue, const QueueOptions& options) {
  if (queue.got_subcommand("push")) return queue_push(options.push);
  if (queue.got_subcommand("work")) return queue_work(options.work);
  if (queue.got_subcommand("pop")) return queue_pop(options.pop);
  if (queue.got_subcommand("stats")) return queue_stats(options.stats);
  if (queue.got_subcommand("result")) return queue_result(options.result);
  if (queue.got_subcommand("dead")) return queue_dead(options.dead);
  if (queue.got_subcommand("close")) return queue_close(options.close);
  return queue_reopen(options.reopen);
}

}  // namespace heddle
