#pragma once

#include <stdexcept>
#include <string>

namespace heddle {

/// What a call on a hot path answers. It never throws.
enum class [[nodiscard]] Status{
    ready,       ///< done; the result is there
    timeout,     ///< the deadline passed first; nothing was changed
    peer_died,   ///< a process that this call waited for is dead (and recovered)
    closed,      ///< the object was closed, or this handle belongs to the parent of a fork
    empty,       ///< there is nothing to take yet
    full,        ///< there is no room now
    busy,        ///< every buffer is pinned or being written by the living
    lost_lease,  ///< this task is no longer ours; nothing was changed
    overtaken,   ///< another was first: the version is not the expected one; nothing was changed
    invalid,     ///< an argument does not fit the object, a length for one; nothing was done
    failed,      ///< the task has become a dead letter: there will be no result
    mismatch,    ///< the others have called something else; nothing was done
    expired,     ///< it was there, and is no more: a later one has its place
};

const char* to_string(Status status) noexcept;

/// Why a set-up call failed.
enum class Errc {
  invalid_argument,  ///< the caller's values cannot work
  name_in_use,       ///< a living process holds this name
  not_found,         ///< no object or segment of this name
  too_many,          ///< a fixed table is full
  no_space,          ///< the file system or the segment has no room
  layout_mismatch,   ///< made by another layout version of Heddle
  type_mismatch,     ///< an object of another kind, element type or shape
  corrupt,           ///< not a segment, or a damaged one
  bad_data,          ///< a data file is damaged or of another format
  permission,        ///< the operating system refused
  timeout,           ///< another process did not finish in time
  closed,            ///< the segment was closed, or is that of a forked parent
  system,            ///< the operating system failed in another way
};

/// Thrown by set-up functions only. what() is one line: what happened, to which object, what to do.
class Error : public std::runtime_error {
 public:
  Error(Errc code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Errc code() const noexcept { return code_; }

 private:
  Errc code_;
};

/// `doing` failed with this errno: picks the Errc and appends the system's own words.
[[noreturn]] void throw_system_error(const std::string& doing, int error_number);

}  // namespace heddle
