#include "heddle/shm/directory.hpp"

namespace heddle {
namespace {

std::string describe(ObjectKind kind, const ElementType& element) {
  std::string text = to_string(kind);
  if (element.size == 0) return text;
  const auto* end = std::find(std::begin(element.name), std::end(element.name), '\0');
  return text + " of " + std::string(std::begin(element.name), end) + " (" +
         std::to_string(element.size) + " bytes, aligned to " + std::to_string(element.alignment) +
         ")";
}

void check_name(std::string_view name) {
  if (name.empty() || name.size() > Directory::max_name || name.find('\0') != name.npos) {
    throw Error(Errc::invalid_argument, "object name \"" + std::string(name) +
                                            "\" must have 1 to " +
                                            std::to_string(Directory::max_name) + " characters");
  }
}

}  // namespace

const char* to_string(ObjectKind kind) noexcept {
  switch (kind) {
    case ObjectKind::buffer:
      return "buffer";
    case ObjectKind::slot:
      return "slot";
    case ObjectKind::task_queue:
      return "task queue";
    case ObjectKind::barrier:
      return "barrier";
    case ObjectKind::board:
      return "board";
    case ObjectKind::group:
      return "group";
  }
  return "object of an unknown kind";
}

std::span<std::byte> Directory::find(std::string_view name, ObjectKind kind,
                                     const ElementType& element, Peers& peers, Deadline deadline) {
  bool claimed = false;
  const DirectoryEntry& entry = seek(name, nullptr, peers, deadline, claimed);
  return checked(entry, name, kind, element);
}

// Walks to the entry of `name`: READY, or CLAIMED by this process when `create` is given.
DirectoryEntry& Directory::seek(std::string_view name, const Spec* create, Peers& peers,
                                Deadline deadline, bool& claimed) {
  check_name(name);
  if (!peers.present() && (create != nullptr || !peers.observes())) {
    throw Error(Errc::closed, "this segment is that of the parent process: open it anew");
  }
  const std::uint64_t hashed = hash(name);
  const std::uint64_t tag = hashed >> 34;
  const std::size_t first = hashed % entries_.size();
  for (std::size_t step = 0; step < entries_.size(); ++step) {
    DirectoryEntry& entry = entries_[(first + step) % entries_.size()];
    for (;;) {
      std::uint64_t word = entry.word.load(acquire("DIR.look"));  // <- DIR.ready, .orphan
      const State state = state_of(word);
      if (state == State::free || (state == State::orphan && tag_of(word) == tag)) {
        if (create == nullptr) {
          throw Error(Errc::not_found, "no object \"" + std::string(name) + "\" in this segment");
        }
        const std::uint64_t mine = pack(tag, generation_of(word) + 1, State::claimed, peers.self());
        // -> DIR.repair. No acquire: no value of the word comes twice, so it is the one looked at.
        if (!entry.word.compare_exchange(word, mine, release("DIR.claim"))) continue;
        claimed = true;
        return entry;
      }
      if (tag_of(word) != tag) break;
      if (state == State::claimed) {
        await_creator(entry, name, peers, deadline);
        continue;
      }
      if (name_of(entry) == name) return entry;
      break;  // another name with the same tag
    }
  }
  if (create == nullptr) {
    throw Error(Errc::not_found, "no object \"" + std::string(name) + "\" in this segment");
  }
  throw Error(Errc::too_many, "no room for object \"" + std::string(name) + "\": the directory's " +
                                  std::to_string(entries_.size()) +
                                  " entries are used; make the segment with more objects");
}

void Directory::await_creator(DirectoryEntry& entry, std::string_view name, Peers& peers,
                              Deadline deadline) {
  std::uint64_t word = 0;
  const auto finished = [&] {
    word = entry.word.load(acquire("DIR.look"));  // <- DIR.ready
    return state_of(word) != State::claimed;
  };
  const auto probe = [&] {
    const Owner creator = owner_of(word);
    // A creator that is dead now has left ORPHAN, which `finished` sees.
    const bool gone = !creator || peers.recover_if_dead(creator);
    return gone && entry.word.load(relaxed) == word ? Status::peer_died : Status::ready;
  };
  const Status status =
      wait_for(header_.directory_changed, deadline, WaitStrategy::adaptive, finished, probe,
               nullptr, peers.observes() ? Sleeps::unseen : Sleeps::announced);
  if (status == Status::peer_died) {
    throw Error(Errc::corrupt,
                "object \"" + std::string(name) +
                    "\" has a damaged directory entry, claimed by nobody; make a new "
                    "segment");
  }
  if (status != Status::ready) {
    throw Error(Errc::timeout, "object \"" + std::string(name) +
                                   "\" is being made by another process, which lives but has not "
                                   "finished; is it stopped?");
  }
}

void Directory::finish(DirectoryEntry& entry, State state) noexcept {
  const std::uint64_t word = entry.word.load(relaxed);  // ours: nobody else changes it
  entry.word.store(pack(tag_of(word), generation_of(word), state, nobody),
                   release("DIR.ready"));  // -> DIR.look
  header_.directory_changed.notify_all();
}

std::uint64_t Directory::allocate(std::string_view name, std::size_t bytes) {
  // Large objects get pages of their own.
  const std::uint64_t alignment = bytes >= page_bytes ? page_bytes : cache_line;
  std::uint64_t used = header_.heap_used.load(relaxed);
  for (;;) {
    if (used < heap_offset_) {
      throw Error(Errc::corrupt, "the segment's header is damaged; make a new segment");
    }
    const std::uint64_t start = (used + alignment - 1) / alignment * alignment;
    // The bounds come first: an addition that is taken back would fail the requests of others.
    if (used > memory_.size() || start > memory_.size() || bytes > memory_.size() - start) {
      throw Error(Errc::no_space, "object \"" + std::string(name) + "\" needs " +
                                      std::to_string(bytes) + " bytes, and the segment has " +
                                      std::to_string(memory_.size() - std::min<std::uint64_t>(
                                                                          start, memory_.size())) +
                                      " left; make it larger");
    }
    // Relaxed: the memory is fresh, nobody wrote to it before.
    if (header_.heap_used.compare_exchange(used, start + bytes, relaxed)) return start;
  }
}

std::span<std::byte> Directory::object_at(const DirectoryEntry& entry) const noexcept {
  const std::uint64_t offset = entry.offset;
  const std::uint64_t bytes = entry.bytes;
  const bool inside = offset >= heap_offset_ && offset <= memory_.size() &&
                      bytes <= memory_.size() - offset && offset % cache_line == 0;
  return inside ? memory_.subspan(offset, bytes) : std::span<std::byte>();
}

std::span<std::byte> Directory::checked(const DirectoryEntry& entry, std::string_view name,
                                        ObjectKind kind, const ElementType& element) const {
  const std::string quoted = "object \"" + std::string(name) + "\"";
  const std::span<std::byte> object = object_at(entry);
  if (object.empty()) throw Error(Errc::corrupt, quoted + " has a damaged directory entry");
  if (entry.kind != kind || !(entry.element == element)) {
    throw Error(Errc::type_mismatch, quoted + " is a " + describe(entry.kind, entry.element) +
                                         ", not a " + describe(kind, element));
  }
  return object;
}

void Directory::check_options(std::string_view name, std::string difference, std::size_t bytes,
                              std::size_t wanted) {
  if (difference.empty() && bytes != wanted) {
    difference = "it has " + std::to_string(bytes) + " bytes, not " + std::to_string(wanted);
  }
  if (difference.empty()) return;
  throw Error(Errc::type_mismatch, "object \"" + std::string(name) +
                                       "\" was made with other options: " + difference +
                                       "; find() takes it as it is");
}

void Directory::repair(const Dead& dead) noexcept {
  for (DirectoryEntry& entry : entries_) {
    for (;;) {
      std::uint64_t word = entry.word.load(acquire("DIR.repair"));  // <- DIR.claim
      if (state_of(word) != State::claimed || !dead.owns(owner_of(word).bits())) break;
      if (!dead.still()) return;
      const std::uint64_t orphan = pack(tag_of(word), generation_of(word), State::orphan, nobody);
      // Passes on what the dead had written, to who takes over. -> DIR.look
      if (entry.word.compare_exchange(word, orphan, release("DIR.orphan"))) break;
    }
  }
  header_.directory_changed.wake_regardless();
  for_each([&](std::string_view, const Spec& spec, std::span<std::byte> object) {
    if (const Repair repair_object = repair_of(spec.kind)) repair_object(object, dead);
  });
}

}  // namespace heddle
