#pragma once

// Who repairs what after a death: one function for each kind of object.

#include <cstddef>
#include <span>

#include "heddle/shm/object.hpp"

namespace heddle {

/// Gives back all that `dead` holds in the object at `memory`, and wakes all who may wait for it.
/// Idempotent; several may run at once and any may die in the middle. Checks what it reads: the
/// object may be damaged. Each of its repairs is the loop described at `Dead`.
using Repair = void (*)(std::span<std::byte> memory, const Dead& dead) noexcept;

/// The repair of this kind; nullptr when it has no owners. Defined above this layer, where all
/// mechanisms are known (src/sync/repairs.cpp): a survivor must be able to repair kinds that it
/// does not use itself.
Repair repair_of(ObjectKind kind) noexcept;

}  // namespace heddle
