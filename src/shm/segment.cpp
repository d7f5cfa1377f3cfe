#include "heddle/shm/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "heddle/base/error.hpp"
#include "heddle/shm/liveness.hpp"
#include "heddle/shm/recovery.hpp"
#include "heddle/shm/segment_file.hpp"

namespace heddle {
namespace {

using boost::interprocess::mapped_region;

constexpr std::size_t round_up(std::size_t bytes) {
  return (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

std::string program_name() {
  std::string name;
  std::getline(std::ifstream("/proc/self/comm"), name);
  return name;
}

// The word that Peers::present() reads: the kernel zeroes its page in every forked child.
class Presence {
 public:
  Presence()
      : page_(
            mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (page_ == MAP_FAILED) throw_system_error("cannot map a page", errno);
    if (madvise(page_, page_bytes, MADV_WIPEONFORK) != 0) {
      const int error = errno;
      munmap(page_, page_bytes);
      throw_system_error("cannot have a page wiped in forks", error);
    }
    *static_cast<std::uint32_t*>(page_) = 1;
  }
  ~Presence() { munmap(page_, page_bytes); }
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;
  const std::uint32_t* word() const noexcept { return static_cast<const std::uint32_t*>(page_); }

 private:
  void* page_;
};

void fill_header(SegmentHeader& header, const CheckedHeader& plan) {
  header.magic = segment_magic;
  header.version = layout_version;
  header.participants = plan.participants;
  header.objects = plan.objects;
  header.creator_pid = static_cast<std::uint32_t>(getpid());
  header.total_bytes = plan.total_bytes;
  header.heap_offset = plan.heap_offset;
  plan.name.copy(header.name, sizeof header.name - 1);
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  header.created_at = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                      static_cast<std::uint64_t>(now.tv_nsec);
  struct stat space {};
  if (stat("/proc/self/ns/pid", &space) == 0) header.pid_namespace = space.st_ino;
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  std::erase(boot, '-');
  for (std::size_t i = 0; i < 16 && 2 * i + 1 < boot.size(); ++i) {
    header.boot_id[i] = static_cast<std::uint8_t>(std::stoul(boot.substr(2 * i, 2), nullptr, 16));
  }
  if (getrandom(header.uuid, sizeof header.uuid, 0) < 0) {
    throw_system_error("cannot draw a uuid", errno);
  }
  header.heap_used.store(plan.heap_offset, relaxed);
}

std::optional<Segment::ParticipantInfo> living(const ParticipantTable& table, std::uint32_t index,
                                               int fd) {
  const std::uint64_t word = table.look(index);
  const std::uint64_t incarnation = ParticipantWord::incarnation(word);
  if (ParticipantWord::state(word) != ParticipantState::alive || !token_held(fd, incarnation)) {
    return std::nullopt;
  }
  const ParticipantEntry& entry = table.entry(index);
  std::array<char, 33> program{};
  for (std::size_t k = 0; k < 4; ++k) {
    const std::uint64_t part = entry.program[k].load(relaxed);
    std::memcpy(program.data() + k * 8, &part, 8);
  }
  return Segment::ParticipantInfo{index, incarnation, entry.pid.load(relaxed), program.data()};
}

std::vector<Segment::ParticipantInfo> living(const ParticipantTable& table, int fd) {
  std::vector<Segment::ParticipantInfo> result;
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    if (auto info = living(table, i, fd)) result.push_back(std::move(*info));
  }
  return result;
}

}  // namespace

// One joined mapping: the membership of this process, at a fixed address for handles to refer to.
class Segment::Mapping final : Presence, public Peers {
 public:
  /// Maps a file that has a good header, or will have. Does not join.
  Mapping(FileDescriptor file, const CheckedHeader& header)
      : Peers(nobody, word()),
        file_(std::move(file)),
        name_(header.name),
        region_(
            map_segment_file(file_.get(), boost::interprocess::read_write, header.total_bytes)) {
    // A core dump that writes a large segment holds a dead process's locks for seconds.
    madvise(region_.get_address(), region_.get_size(), MADV_DONTDUMP);
    mapping_ = std::span(base(), header.total_bytes);
    auto* entries = reinterpret_cast<ParticipantEntry*>(base() + page_bytes);
    table_ = ParticipantTable({entries, header.participants});
    directory_.emplace(std::span(base(), header.total_bytes), header.heap_offset, this->header(),
                       std::span(reinterpret_cast<DirectoryEntry*>(entries + header.participants),
                                 header.objects));
  }

  ~Mapping() override {
    if (present()) {
      leave();
    } else {
      token_.forget();
    }
  }

  void join() {
    // Relaxed: only that no number is drawn twice matters.
    const std::uint64_t incarnation = header().incarnations.fetch_add(1, relaxed) + 1;
    if (incarnation == 0 || incarnation > ParticipantWord::last_incarnation) {
      throw Error(Errc::corrupt, "the segment's count of participants is damaged; remove it");
    }
    token_ = LivenessToken::take(file_.get(), incarnation);
    self_ = table_.join(incarnation);
    // Once more when it finds nobody dead: others may have recovered them just before.
    for (bool found = true; !self_ && found; self_ = table_.join(incarnation)) {
      found = recover_dead() != 0;
    }
    if (!self_) {
      throw Error(Errc::too_many, "all " + std::to_string(table_.size()) + " places of segment \"" +
                                      name_ +
                                      "\" are taken by living processes; make it with more");
    }
    ParticipantEntry& mine = table_.entry(self_.index());
    mine.pid.store(static_cast<std::uint64_t>(getpid()), relaxed);
    const std::string program = program_name().substr(0, 31);
    for (std::size_t k = 0; k < 4; ++k) {
      std::uint64_t part = 0;
      if (k * 8 < program.size()) {
        std::memcpy(&part, program.data() + k * 8,
                    std::min<std::size_t>(8, program.size() - k * 8));
      }
      mine.program[k].store(part, relaxed);
    }
  }

  bool recover_if_dead(Owner other) noexcept override {
    if (!present() || !other || other == self_) return false;
    if (other.index() >= table_.size()) return true;  // nobody, in a damaged word
    std::uint64_t word = table_.look(other.index());
    switch (ParticipantWord::state(word)) {
      case ParticipantState::free:
        return true;  // dead, and repaired since the caller looked
      case ParticipantState::alive:
        if (token_held(file_.get(), ParticipantWord::incarnation(word))) return false;
        break;
      case ParticipantState::dead:
        break;
    }
    recover(other.index(), word);
    return true;
  }

  std::size_t recover_dead() noexcept {
    std::size_t found = 0;
    for (std::uint32_t i = 0; i < table_.size(); ++i) {
      if (ParticipantWord::state(table_.look(i)) == ParticipantState::free) continue;
      if (recover_if_dead(Owner::at(i))) ++found;
    }
    return found;
  }

  std::byte* base() const noexcept { return static_cast<std::byte*>(region_.get_address()); }
  SegmentHeader& header() const noexcept { return *reinterpret_cast<SegmentHeader*>(base()); }
  const ParticipantTable& table() const noexcept { return table_; }
  Directory& directory() noexcept { return *directory_; }
  const std::string& name() const noexcept { return name_; }
  int fd() const noexcept { return file_.get(); }
  std::size_t bytes() const noexcept { return region_.get_size(); }

 private:
  // Several may do this at once, and any may die in the middle: DEAD stays until one has finished.
  void recover(std::uint32_t index, std::uint64_t word) noexcept {
    if (!table_.mark_dead(index, word)) return;  // another has finished already
    const std::uint64_t dead =
        ParticipantWord::make(ParticipantWord::incarnation(word), ParticipantState::dead);
    directory_->repair(table_.dead(index, dead));
    table_.set_free(index, dead);  // PART-3
  }

  // As a death, but by one's own hand.
  void leave() noexcept {
    if (!self_) return;  // never joined
    recover(self_.index(), table_.look(self_.index()));
    token_.drop();
    if (name_.empty()) return;
    try {
      unlink_if_abandoned(file_.get(), segment_path(name_));
    } catch (const std::exception&) {
      // A stopped joiner or a sticky directory: the next create() or clear_abandoned() removes it.
    }
  }

  FileDescriptor file_;
  std::string name_;
  mapped_region region_;
  ParticipantTable table_;
  std::optional<Directory> directory_;
  LivenessToken token_;
};

namespace {

CheckedHeader plan(std::string_view name, const Segment::Options& options) {
  if (options.participants == 0 || options.participants > max_participants) {
    throw Error(Errc::invalid_argument, "a segment has 1 to " + std::to_string(max_participants) +
                                            " participants, not " +
                                            std::to_string(options.participants));
  }
  constexpr std::uint32_t most_objects = 1 << 20;
  if (options.objects == 0 || options.objects > most_objects) {
    throw Error(Errc::invalid_argument, "a segment has 1 to " + std::to_string(most_objects) +
                                            " objects, not " + std::to_string(options.objects));
  }
  constexpr std::size_t most_bytes = std::size_t{1} << 46;
  if (options.bytes > most_bytes) {
    throw Error(Errc::invalid_argument,
                "a segment has at most " + std::to_string(most_bytes) + " bytes");
  }
  const std::size_t heap = round_up(page_bytes + options.participants * sizeof(ParticipantEntry) +
                                    options.objects * sizeof(DirectoryEntry));
  return {heap + round_up(options.bytes), heap, options.participants, options.objects,
          std::string(name)};
}

std::string describe(std::string_view name) { return "segment \"" + std::string(name) + "\""; }

// Somebody is in the segment behind `fd`: says who.
[[noreturn]] void throw_in_use(int fd, std::string_view name) {
  std::string who = "a living process";
  const CheckedHeader header = read_header(fd, segment_path(name));
  const mapped_region region =
      map_segment_file(fd, boost::interprocess::read_only, header.heap_offset);
  auto* base = static_cast<std::byte*>(region.get_address());
  const ParticipantTable table(
      {reinterpret_cast<ParticipantEntry*>(base + page_bytes), header.participants});
  const auto in = living(table, fd);
  if (!in.empty()) {
    who = "process " + std::to_string(in.front().pid) + " (" + in.front().program + ")";
    if (in.size() > 1) who += " and " + std::to_string(in.size() - 1) + " more";
  }
  throw Error(Errc::name_in_use, describe(name) + " is in use by " + who +
                                     ": choose another name, or end that process first");
}

}  // namespace

Segment::Segment(std::unique_ptr<Mapping> mapping) : mapping_(std::move(mapping)) {}
Segment::Segment(Segment&&) noexcept = default;
Segment& Segment::operator=(Segment&&) noexcept = default;
Segment::~Segment() = default;

Segment Segment::create(std::string_view name, const Options& options) {
  const std::string path = segment_path(name);
  const CheckedHeader header = plan(name, options);
  // Refused before any memory is taken; the naming below decides.
  const auto clear_name = [&] {
    const auto existing = open_segment_file(path);
    if (!existing) return;
    read_header(existing->get(), path);  // nothing but a segment is ever removed
    if (unlink_if_abandoned(existing->get(), path) == Unlinked::in_use) {
      throw_in_use(existing->get(), name);
    }
  };
  clear_name();
  auto mapping =
      std::make_unique<Mapping>(make_segment_file(FileFor::naming, header.total_bytes), header);
  fill_header(mapping->header(), header);
  mapping->join();
  while (!name_segment_file(mapping->fd(), path)) clear_name();
  return Segment(std::move(mapping));
}

Segment Segment::anonymous(const Options& options) {
  const CheckedHeader header = plan("", options);
  auto mapping =
      std::make_unique<Mapping>(make_segment_file(FileFor::inheriting, header.total_bytes), header);
  fill_header(mapping->header(), header);
  mapping->join();
  return Segment(std::move(mapping));
}

Segment Segment::open(std::string_view name) {
  const std::string path = segment_path(name);
  for (;;) {
    auto file = open_segment_file(path);
    if (!file) throw Error(Errc::not_found, "no " + describe(name) + "; start its maker first");
    const NameLock joining(file->get(), NameLock::For::joining);
    if (!is_named(file->get(), path)) continue;  // removed, perhaps made anew, since it was opened
    CheckedHeader header = read_header(file->get(), path);
    header.name = name;  // the file may have been moved since it was made
    auto mapping = std::make_unique<Mapping>(std::move(*file), header);
    mapping->join();
    return Segment(std::move(mapping));
  }
}

Segment Segment::adopt(int fd) {
  const CheckedHeader header = read_header(fd, "file descriptor " + std::to_string(fd));
  auto mapping = std::make_unique<Mapping>(duplicate(fd), header);
  mapping->join();
  return Segment(std::move(mapping));
}

std::size_t Segment::clear_abandoned(std::string_view prefix) {
  std::size_t removed = 0;
  for (const std::string& path : segment_paths(prefix)) {
    try {
      const auto file = open_segment_file(path);
      if (!file) continue;
      read_header(file->get(), path);
      if (unlink_if_abandoned(file->get(), path) == Unlinked::removed) ++removed;
    } catch (const Error&) {
      continue;  // another's, of another layout, or no segment: not ours to remove
    }
  }
  return removed;
}

std::size_t Segment::recover_dead() noexcept { return mapping_->recover_dead(); }
std::vector<Segment::ParticipantInfo> Segment::participants() const {
  return living(mapping_->table(), mapping_->fd());
}
std::optional<Segment::ParticipantInfo> Segment::participant(Owner owner) const {
  const ParticipantTable& table = mapping_->table();
  if (!owner || owner.index() >= table.size()) return std::nullopt;
  return living(table, owner.index(), mapping_->fd());
}
const std::string& Segment::name() const noexcept { return mapping_->name(); }
int Segment::fd() const noexcept { return mapping_->fd(); }
std::size_t Segment::bytes() const noexcept { return mapping_->bytes(); }
Directory& Segment::directory() noexcept { return mapping_->directory(); }
Peers& Segment::peers() noexcept { return *mapping_; }

}  // namespace heddle
