#pragma once

// The segment: one block of memory that processes map, wherever it lies in each of them.
//
// Named segments are files of tmpfs (/dev/shm/heddle.NAME). A file gets its name only when it is
// complete and its creator has joined, so no opener sees half a segment. Its blocks are reserved at
// once: a full /dev/shm is an Error here and not SIGBUS later. The last participant to leave
// removes the name; what participants that were all killed have left is replaced by the next
// create() of that name, and cleared by clear_abandoned().
//
// Who may call    open, find: any thread.  A process may map one segment several times; each is a
//                 participant of its own.
// Progress        set-up calls make system calls, may block until their deadline, throw Error
// On death        any survivor recovers all that the dead held: waiters when they look, or
//                 recover_dead() at once
// Forks           a forked child must not use the parent's Segment or handles: they answer
//                 `closed`; it opens the segment anew

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heddle/base/clock.hpp"
#include "heddle/shm/directory.hpp"
#include "heddle/shm/object.hpp"
#include "heddle/shm/participant.hpp"

namespace heddle {

class Segment {
 public:
  struct Options {
    std::size_t bytes = std::size_t{16} << 20;  ///< room for objects; tables are added to it
    std::uint32_t participants = 64;            ///< at once, 1 to 1,023
    std::uint32_t objects = 256;                ///< names in all
  };

  struct ParticipantInfo {
    std::uint32_t index;
    std::uint64_t incarnation;
    std::uint64_t pid;
    std::string program;
  };

  /// Makes a segment of this name: 1 to 48 letters, digits, '.', '_' or '-', no '.' first.
  /// Throws Error{name_in_use} when a living process is in one of this name (and says which),
  /// {no_space} when /dev/shm or the memory limit is too small, {layout_mismatch, corrupt} when a
  /// file of the name is not a segment of this version. One left by the dead is replaced.
  static Segment create(std::string_view name, const Options& options);
  /// Joins the segment of this name. Throws Error{not_found, permission, layout_mismatch, corrupt,
  /// too_many}.
  static Segment open(std::string_view name);
  /// Makes one without a name. It lives as long as some process maps it or holds fd().
  static Segment anonymous(const Options& options);
  /// Joins the segment behind a file descriptor inherited from, or sent by, another process: its
  /// fd(). The descriptor stays the caller's.
  static Segment adopt(int fd);

  /// Removes segments whose names begin with `prefix` and in which nobody lives. Returns how many.
  static std::size_t clear_abandoned(std::string_view prefix);

  Segment(Segment&&) noexcept;
  Segment& operator=(Segment&&) noexcept;
  /// Leaves: gives back all that this process holds; the last one out removes the name.
  ~Segment();

  /// The object of this name; made with `options` if there is none. Throws Error{type_mismatch} if
  /// it is of another kind or element, or was made with options that contradict these (find() takes
  /// it as it is), {no_space, too_many}, {timeout} if its creator lives but does not finish within
  /// `patience`.
  template <SharedObject M>
  M open(std::string_view name, const typename M::Options& options,
         std::chrono::nanoseconds patience = std::chrono::seconds(5)) {
    const Directory::Spec spec{M::kind, M::element(), M::bytes(options)};
    const auto difference = [&](std::span<std::byte> memory) -> std::string {
      if constexpr (requires { M::difference(memory, options); }) {
        return M::difference(memory, options);
      }
      return {};
    };
    return M(directory().find_or_create(
                 name, spec, peers(), Deadline::after(patience),
                 [&](std::span<std::byte> memory) { M::format(memory, options); }, difference),
             peers());
  }

  /// The object of this name; Error{not_found} if nobody has made it.
  template <SharedObject M>
  M find(std::string_view name, std::chrono::nanoseconds patience = std::chrono::seconds(5)) {
    return M(directory().find(name, M::kind, M::element(), peers(), Deadline::after(patience)),
             peers());
  }

  /// Recovers every participant that is dead. Returns how many places it found dead.
  std::size_t recover_dead() noexcept;
  /// Who is in the segment and alive.
  std::vector<ParticipantInfo> participants() const;
  /// The one that a word names; nothing when it is dead.
  std::optional<ParticipantInfo> participant(Owner owner) const;

  const std::string& name() const noexcept;  ///< empty for an anonymous one
  int fd() const noexcept;                   ///< of the file; not inherited by exec
  std::size_t bytes() const noexcept;        ///< of the whole mapping
  Directory& directory() noexcept;
  /// For handles that are not made by open() or find(). Stays where it is when the Segment moves.
  Peers& peers() noexcept;

 private:
  class Mapping;
  explicit Segment(std::unique_ptr<Mapping> mapping);
  std::unique_ptr<Mapping> mapping_;
};

}  // namespace heddle
