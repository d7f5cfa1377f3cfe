#include "heddle/shm/recovery.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"
#include "heddle/sync/group.hpp"
#include "heddle/sync/queue_core.hpp"
#include "heddle/sync/slot_core.hpp"

namespace heddle {

// The one place that knows all kinds of objects. A new kind with owners is added here.
Repair repair_of(ObjectKind kind) noexcept {
  switch (kind) {
    case ObjectKind::slot:
      return SlotCore::repair;
    case ObjectKind::task_queue:
      return QueueCore::repair;
    case ObjectKind::barrier:
      return Barrier::repair;
    case ObjectKind::board:
      return Board::repair;
    case ObjectKind::group:
      return Group::repair;
    case ObjectKind::buffer:
      return nullptr;
  }
  return nullptr;  // a damaged entry
}

}  // namespace heddle
