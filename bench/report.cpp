#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "distance.hpp"
#include "statistics.hpp"

namespace heddle::bench {
namespace {

/// The rows of those samples: the contender's own figure, then what was measured beside it.
std::vector<Row> rows_of(const Measured& contender, const std::vector<const Sample*>& samples) {
  if (samples.empty()) return {};
  const auto row_of = [&](auto value) {
    std::vector<double> values;
    for (const Sample* sample : samples) values.push_back(value(*sample));
    Row row;
    row.label = contender.label;
    row.runs = samples.size();
    row.median = median(values);
    row.mad = median_deviation(values);
    return row;
  };
  std::vector<Row> rows{row_of([](const Sample& sample) { return sample.value; })};
  Histogram all;
  for (const Sample* sample : samples) {
    if (sample->durations) all.merge(*sample->durations);
  }
  if (all.count() > 0) {
    rows[0].tail = {nanoseconds(all.quantile(0.99)), nanoseconds(all.quantile(0.999)),
                    nanoseconds(static_cast<double>(all.max()))};
  }
  if (samples[0]->ranks) {
    const auto over_samples = [&](double OverRanks::*part) {
      return row_of([&](const Sample& sample) { return (*sample.ranks).*part; }).median;
    };
    rows[0].ranks = {over_samples(&OverRanks::avg), over_samples(&OverRanks::min),
                     over_samples(&OverRanks::max)};
  }
  for (std::size_t i = 0; i < samples[0]->beside.size(); ++i) {
    Row row = row_of([&](const Sample& sample) { return sample.beside[i].value; });
    row.label.metric = samples[0]->beside[i].metric;
    row.label.unit = samples[0]->beside[i].unit;
    row.label.against_case = "";
    rows.push_back(std::move(row));
  }
  return rows;
}

/// "64KiB" in bytes.
double bytes_of(const std::string& size) {
  const double number = std::stod(size);
  if (size.ends_with("KiB")) return number * 1024;
  return size.ends_with("MiB") ? number * 1024 * 1024 : number;
}

std::string in_words(double value, const std::string& unit) {
  if (unit == "ns") {
    if (value < 1e3) return fmt::format("{:.1f} ns", value);
    if (value < 1e6) return fmt::format("{:.2f} µs", value / 1e3);
    return fmt::format("{:.2f} ms", value / 1e6);
  }
  if (value >= 1e6) return fmt::format("{:.2f} M {}", value / 1e6, unit);
  if (value >= 1e3) return fmt::format("{:.2f} k {}", value / 1e3, unit);
  return fmt::format("{:.1f} {}", value, unit);
}

/// Its median over that of the row that its label names, in the same group.
std::string ratio(const Row& row, const std::vector<Row>& rows) {
  const auto other = std::ranges::find_if(rows, [&](const Row& each) {
    return each.label.name == row.label.against_case && each.label.impl == row.label.against_impl &&
           each.group == row.group;
  });
  if (other == rows.end()) return "";
  return fmt::format("{:.2f} × {}", row.median / other->median, other->label.impl);
}

/// The cells below each other; the first two columns to the left, the others to the right.
std::string aligned(const std::vector<std::vector<std::string>>& lines) {
  constexpr std::size_t left = 2;
  // "µ", "±" and "×" are two bytes and one place.
  const auto places = [](const std::string& text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; }));
  };
  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], places(line[i]));
  }
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - places(line[i]), ' ');
      row += (i > 0 ? "  " : "") + (i < left ? line[i] + padding : padding + line[i]);
    }
    text += row.substr(0, row.find_last_not_of(' ') + 1) + '\n';
  }
  return text;
}

}  // namespace

Report report(const std::vector<Measured>& measured) {
  Report result;
  const DistanceGroups groups(measured);
  std::vector<std::size_t> kept(groups.groups().size());
  std::size_t straddled = 0;

  for (const Measured& contender : measured) {
    if (contender.processes < 2) {
      std::vector<const Sample*> samples;
      for (const Taken& taken : contender.samples) samples.push_back(&taken.sample);
      for (Row& row : rows_of(contender, samples)) {
        row.group = "near";  // one core: nothing to cross
        result.rows.push_back(std::move(row));
      }
      continue;
    }
    std::vector<std::vector<const Sample*>> samples(groups.groups().size());
    for (const Taken& taken : contender.samples) {
      const auto group = groups.group_of(taken.distance);
      if (!group) {
        ++straddled;
        continue;
      }
      ++kept[*group];
      samples[*group].push_back(&taken.sample);
    }
    for (std::size_t i = 0; i < samples.size(); ++i) {
      for (Row& row : rows_of(contender, samples[i])) {
        row.group = groups.groups()[i].name;
        row.nearest = groups.groups()[i].nearest;
        row.ping_pong_ns = groups.groups()[i].ping_pong_ns;
        result.rows.push_back(std::move(row));
      }
    }
    if (std::ranges::all_of(samples, [](const auto& each) { return each.empty(); })) {
      result.notes.push_back(fmt::format("{} {}: no sample with the cores at one distance",
                                         contender.label.name, contender.label.impl));
    }
  }
  // The far rows below all near ones.
  std::stable_partition(result.rows.begin(), result.rows.end(),
                        [](const Row& row) { return row.nearest; });

  for (std::size_t i = 0; i < kept.size(); ++i) {
    const DistanceGroups::Group& group = groups.groups()[i];
    result.notes.push_back(fmt::format("{} samples with the cores {}: {:.0f} ns round trip",
                                       kept[i], group.name, group.ping_pong_ns));
  }
  if (straddled > 0) {
    result.notes.push_back(
        fmt::format("{} samples dropped: the distance changed while they ran", straddled));
  }
  return result;
}

std::string table(const Report& report) {
  std::vector<std::vector<std::string>> lines{
      {"case", "impl", "median", "± MAD", "p99", "p99.9", "max", "median ÷ that of"}};
  for (const Row& row : report.rows) {
    const std::string& unit = row.label.unit;
    const auto tail = [&](double Tail::*part) {
      return row.tail ? in_words((*row.tail).*part, unit) : "";
    };
    lines.push_back({row.case_name(), row.label.impl, in_words(row.median, unit),
                     row.median > 0 ? fmt::format("± {:.1f} %", 100 * row.mad / row.median) : "",
                     tail(&Tail::p99), tail(&Tail::p999), tail(&Tail::max),
                     ratio(row, report.rows)});
  }
  std::string text = aligned(lines);
  for (const std::string& note : report.notes) text += note + '\n';
  return text;
}

std::string collective_tables(const Report& report) {
  // allreduce/f32/1KiB/2, and perhaps /far: the size is the last but one
  struct Line {
    std::string size;
    const Row* row;
  };
  std::vector<std::pair<std::string, std::vector<Line>>> tables;
  for (const Row& row : report.rows) {
    const std::string& name = row.label.name;
    if (!row.ranks) continue;
    const std::size_t ranks = name.rfind('/');
    const std::size_t size = name.rfind('/', ranks - 1);
    const std::string title =
        fmt::format("{}, {} ranks, {}{}", name.substr(0, size), name.substr(ranks + 1),
                    row.label.impl, row.nearest ? "" : ", cores far");
    auto table = std::ranges::find(tables, title, [](const auto& each) { return each.first; });
    if (table == tables.end()) table = tables.insert(table, {title, {}});
    table->second.push_back({name.substr(size + 1, ranks - size - 1), &row});
  }
  std::string text;
  for (const auto& [title, lines] : tables) {
    text += fmt::format("# {}\n{:<12}{:>18}{:>18}{:>18}{:>18}\n", title, "# Size",
                        "Avg Latency(us)", "Min Latency(us)", "Max Latency(us)", "Bandwidth(MB/s)");
    for (const auto& [size, row] : lines) {
      const double bytes = bytes_of(size);
      text += fmt::format("{:<12.0f}{:>18.2f}{:>18.2f}{:>18.2f}{:>18.2f}\n", bytes,
                          row->ranks->avg / 1e3, row->ranks->min / 1e3, row->ranks->max / 1e3,
                          bytes / row->ranks->avg * 1e3);
    }
    text += '\n';
  }
  for (const std::string& note : report.notes) text += "# " + note + '\n';
  return text;
}

nlohmann::ordered_json to_json(const std::vector<Row>& rows) {
  auto array = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    nlohmann::ordered_json object{{"suite", row.label.suite}, {"case", row.case_name()},
                                  {"impl", row.label.impl},   {"metric", row.label.metric},
                                  {"unit", row.label.unit},   {"median", row.median},
                                  {"mad", row.mad},           {"runs", row.runs},
                                  {"group", row.group},       {"ping_pong_ns", row.ping_pong_ns}};
    if (row.tail) {
      object["p99"] = row.tail->p99;
      object["p999"] = row.tail->p999;
      object["max"] = row.tail->max;
    }
    if (row.ranks) {
      object["ranks_avg"] = row.ranks->avg;
      object["ranks_min"] = row.ranks->min;
      object["ranks_max"] = row.ranks->max;
    }
    array.push_back(std::move(object));
  }
  return array;
}

}  // namespace heddle::bench
