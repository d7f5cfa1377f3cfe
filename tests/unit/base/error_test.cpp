#include "heddle/base/error.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string>

namespace heddle {
namespace {

TEST(Error, every_status_has_a_name_of_its_own) {
  std::set<std::string> names;
  int count = 0;
  for (const Status status :
       {Status::ready, Status::timeout, Status::peer_died, Status::closed, Status::empty,
        Status::full, Status::busy, Status::lost_lease, Status::overtaken, Status::invalid,
        Status::failed, Status::expired}) {
    names.insert(to_string(status));
    ++count;
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(count));
  EXPECT_FALSE(names.contains("unknown"));
}

Errc code_of(int error_number) {
  try {
    throw_system_error("cannot do it", error_number);
  } catch (const Error& error) {
    return error.code();
  }
}

TEST(Error, a_system_error_is_told_apart_where_a_caller_can_do_something_about_it) {
  EXPECT_EQ(code_of(EACCES), Errc::permission);
  EXPECT_EQ(code_of(EPERM), Errc::permission);
  EXPECT_EQ(code_of(ENOSPC), Errc::no_space);
  EXPECT_EQ(code_of(ENOMEM), Errc::no_space);
  EXPECT_EQ(code_of(ENOENT), Errc::not_found);
  EXPECT_EQ(code_of(EMFILE), Errc::system);
}

TEST(Error, a_system_error_is_one_line_with_the_systems_own_words) {
  try {
    throw_system_error("cannot open \"x\"", EACCES);
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "cannot open \"x\": Permission denied");
  }
}

}  // namespace
}  // namespace heddle
