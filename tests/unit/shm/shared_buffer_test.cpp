#include "heddle/shm/shared_buffer.hpp"

#include <gtest/gtest.h>

#include "support/block.hpp"
#include "support/fake_peers.hpp"

namespace heddle {
namespace {

TEST(SharedBuffer, of_a_damaged_size_is_refused) {
  test::FakeTable table([](const Dead&) {});
  test::FakePeers self(table, 0);
  const test::Block block(64);
  for (const std::size_t bytes : {0UL, 7UL, 12UL}) {
    EXPECT_THROW(SharedBuffer<std::uint64_t>(block.span().first(bytes), self), Error) << bytes;
  }
  EXPECT_EQ(SharedBuffer<std::uint64_t>(block.span().first(16), self).size(), 2U);
}

}  // namespace
}  // namespace heddle
