#pragma once

namespace heddle {

/// One worker of `heddle train`, as its supervisor has started it. Returns the exit code.
int worker_command();

}  // namespace heddle
