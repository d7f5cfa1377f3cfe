#include "elements.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

static_assert(std::endian::native == std::endian::little);  // as it is in the .npy files

template <class T>
bool parse(std::string_view word, std::vector<std::byte>& to) {
  T number{};
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size()) return false;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(number)) return false;  // it reads "nan"
  }
  const auto bytes = std::as_bytes(std::span(&number, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
  return true;
}

template <class T>
void print(std::span<const std::byte> elements, std::string_view between, bool json,
           std::string& to) {
  for (std::size_t at = 0; at < elements.size(); at += sizeof(T)) {
    T number;
    std::memcpy(&number, &elements[at], sizeof number);
    if (at != 0) to += between;
    bool is_null = false;
    if constexpr (std::is_floating_point_v<T>) is_null = json && !std::isfinite(number);
    if (is_null) {
      to += "null";
    } else {
      fmt::format_to(std::back_inserter(to), "{}", number);  // what is read back as the same bits
    }
  }
}

template <class T>
ElementForm form(const char* name, const char* npy) {
  return {name, npy, element_type<T>(), sizeof(T), parse<T>, print<T>};
}

const std::vector<ElementForm>& forms() {
  static const std::vector<ElementForm> all = [] {
    std::vector<ElementForm> made{
        form<float>("f32", "<f4"),         form<double>("f64", "<f8"),
        form<std::int8_t>("i8", "|i1"),    form<std::int16_t>("i16", "<i2"),
        form<std::int32_t>("i32", "<i4"),  form<std::int64_t>("i64", "<i8"),
        form<std::uint8_t>("u8", "|u1"),   form<std::uint16_t>("u16", "<u2"),
        form<std::uint32_t>("u32", "<u4"), form<std::uint64_t>("u64", "<u8"),
        form<std::uint8_t>("bytes", "|V1")};
    made.back().type = element_type<std::byte>();
    return made;
  }();
  return all;
}

const ElementForm* find(std::string ElementForm::*name, std::string_view wanted) {
  const auto found = std::find_if(forms().begin(), forms().end(),
                                  [&](const ElementForm& form) { return form.*name == wanted; });
  return found == forms().end() ? nullptr : &*found;
}

std::string list(std::string ElementForm::*name) {
  std::string all;
  for (const ElementForm& form : forms()) all += (all.empty() ? "" : ", ") + form.*name;
  return all;
}

}  // namespace

const ElementForm& element_named(std::string_view name) {
  if (const ElementForm* found = find(&ElementForm::name, name)) return *found;
  throw Error(Errc::invalid_argument,
              fmt::format("unknown type \"{}\": there are {}", name, list(&ElementForm::name)));
}

const ElementForm& element_of_npy(std::string_view descr) {
  if (const ElementForm* found = find(&ElementForm::npy, descr)) return *found;
  throw Error(
      Errc::bad_data,
      fmt::format("its elements are \"{}\", and can be {}: convert it with numpy's astype()", descr,
                  list(&ElementForm::npy)));
}

ElementForm element_recorded(const ElementType& type) {
  for (const ElementForm& form : forms()) {
    if (form.type == type) return form;
  }
  return {"struct", fmt::format("|V{}", type.size), type, 1, nullptr, print<std::uint8_t>};
}

}  // namespace heddle
