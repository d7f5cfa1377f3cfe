#include "heddle/shm/observer.hpp"

#include <optional>
#include <string>

#include "heddle/base/error.hpp"
#include "heddle/shm/segment_file.hpp"

namespace heddle {

// Peers to whom nobody belongs: no operation that claims a word gets past present().
class Observer::Mapping final : public Peers {
 public:
  Mapping(FileDescriptor file, const CheckedHeader& header)
      : Peers(nobody, &absent, true),
        file_(std::move(file)),
        region_(map_segment_file(file_.get(), boost::interprocess::read_only, header.total_bytes)) {
    auto* base = static_cast<std::byte*>(region_.get_address());
    auto* participants = reinterpret_cast<ParticipantEntry*>(base + page_bytes);
    directory_.emplace(
        std::span(base, header.total_bytes), header.heap_offset,
        *reinterpret_cast<SegmentHeader*>(base),
        std::span(reinterpret_cast<DirectoryEntry*>(participants + header.participants),
                  header.objects));
  }

  // It could look, but not repair.
  bool recover_if_dead(Owner /*other*/) noexcept override { return false; }

  Directory& directory() noexcept { return *directory_; }

 private:
  static constexpr std::uint32_t absent = 0;
  FileDescriptor file_;
  boost::interprocess::mapped_region region_;
  std::optional<Directory> directory_;  // reads alone: its memory cannot be written
};

Observer::Observer(std::unique_ptr<Mapping> mapping) : mapping_(std::move(mapping)) {}
Observer::Observer(Observer&&) noexcept = default;
Observer& Observer::operator=(Observer&&) noexcept = default;
Observer::~Observer() = default;

Observer Observer::open(std::string_view name) {
  const std::string path = segment_path(name);
  auto file = open_segment_file(path, OpenFor::observing);
  if (!file) {
    throw Error(Errc::not_found, "no segment \"" + std::string(name) + "\"; start its maker first");
  }
  const CheckedHeader header = read_header(file->get(), path);
  return Observer(std::make_unique<Mapping>(std::move(*file), header));
}

Directory& Observer::directory() noexcept { return mapping_->directory(); }
Peers& Observer::peers() noexcept { return *mapping_; }

}  // namespace heddle
