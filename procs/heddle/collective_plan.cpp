#include "collective_plan.hpp"

#include <array>
#include <span>

#include "heddle/base/error.hpp"
#include "heddle/shm/layout.hpp"

namespace heddle {
namespace {

template <class Value>
struct Named {
  std::string_view name;
  Value value;
};

constexpr std::array<Named<Collective>, 9> collectives{{
    {"allreduce", Collective::allreduce},
    {"reduce", Collective::reduce},
    {"reduce_scatter", Collective::reduce_scatter},
    {"all_gather", Collective::all_gather},
    {"gather", Collective::gather},
    {"scatter", Collective::scatter},
    {"broadcast", Collective::broadcast},
    {"all_to_all", Collective::all_to_all},
    {"barrier", Collective::barrier},
}};
constexpr std::array<Named<NumberType>, 6> types{{
    {"float32", NumberType::float32},
    {"float64", NumberType::float64},
    {"int32", NumberType::int32},
    {"int64", NumberType::int64},
    {"bfloat16", NumberType::bfloat16},
    {"float16", NumberType::float16},
}};
constexpr std::array<Named<Reduction>, 5> reductions{{
    {"sum", Reduction::sum},
    {"mean", Reduction::mean},
    {"min", Reduction::min},
    {"max", Reduction::max},
    {"product", Reduction::product},
}};

template <class Value, std::size_t n>
std::string_view name_in(const std::array<Named<Value>, n>& all, Value value) {
  for (const auto& each : all) {
    if (each.value == value) return each.name;
  }
  return "unknown";
}

template <class Value, std::size_t n>
Value parse(const char* what, const std::array<Named<Value>, n>& all, const std::string& name) {
  std::string list;
  for (std::size_t i = 0; i < n; ++i) {
    if (all[i].name == name) return all[i].value;
    list += (i == 0 ? "" : i + 1 == n ? " or " : ", ") + std::string(all[i].name);
  }
  throw Error(Errc::invalid_argument,
              std::string("unknown ") + what + " \"" + name + "\": give " + list);
}

}  // namespace

std::vector<CollectiveRow> rows_of(const CollectivePlan& plan) {
  if (plan.what == Collective::barrier) return {{0, BenchMemory::its_own}};
  std::vector<CollectiveRow> rows;
  for (std::uint64_t bytes = plan.min_bytes; bytes <= plan.max_bytes; bytes *= 2) {
    if (plan.shared) rows.push_back({bytes / plan.element(), BenchMemory::shared});
    if (plan.its_own) rows.push_back({bytes / plan.element(), BenchMemory::its_own});
  }
  return rows;
}

CollectiveBuffers buffers_of(const CollectivePlan& plan, std::uint32_t rank, std::size_t count) {
  const std::size_t all = count * plan.ranks;
  const bool is_root = rank == bench_root;
  switch (plan.what) {
    case Collective::allreduce:
    case Collective::broadcast:
      return {0, count};
    case Collective::all_gather:
      return {0, all};
    case Collective::reduce:
      return {count, is_root ? count : 0};
    case Collective::reduce_scatter:
      return {all, count};
    case Collective::gather:
      return {count, is_root ? all : 0};
    case Collective::scatter:
      return {is_root ? all : 0, count};
    case Collective::all_to_all:
      return {all, all};
    default:
      return {};
  }
}

std::size_t buffer_bytes_of_all(const CollectivePlan& plan) {
  const auto pages = [](std::size_t bytes) { return (bytes / page_bytes + 1) * page_bytes; };
  std::size_t sum = 0;
  for (std::uint32_t rank = 0; rank < plan.ranks; ++rank) {
    const auto buffers = buffers_of(plan, rank, plan.max_bytes / plan.element());
    sum += pages(buffers.in * plan.element()) + pages(buffers.out * plan.element());
  }
  return sum;
}

bool reduces(Collective what) {
  return what == Collective::allreduce || what == Collective::reduce ||
         what == Collective::reduce_scatter;
}

bool needs_all(Collective what) {
  return what == Collective::barrier || what == Collective::allreduce ||
         what == Collective::reduce_scatter || what == Collective::all_gather ||
         what == Collective::all_to_all;
}

std::string_view name_of(Collective what) { return name_in(collectives, what); }
std::string_view name_of(NumberType type) { return name_in(types, type); }
std::string_view name_of(Reduction reduction) { return name_in(reductions, reduction); }
std::string_view name_of(BenchMemory memory) {
  return memory == BenchMemory::shared ? "shared" : "private";
}

Collective parse_collective(const std::string& name) { return parse("--op", collectives, name); }
NumberType parse_number_type(const std::string& name) { return parse("--type", types, name); }
Reduction parse_reduction(const std::string& name) {
  return parse("--reduction", reductions, name);
}

}  // namespace heddle
