#include <gtest/gtest.h>

#include <random>

#include "core/bit_io.h"

namespace ans::core {
namespace {

TEST(BitIo, ExpGolombRoundTripsAtEveryOrder) {
  std::mt19937 rng(1);
  for (int order = 0; order < 25; ++order) {
    std::vector<uint32_t> values = {0, 1, 2, 3, 255, 256, (1u << 24) - 1};
    for (int i = 0; i < 100; ++i) values.push_back(rng() >> (8 + rng() % 24));
    BitWriter out;
    int bits = 0;
    for (uint32_t v : values) {
      out.exp_golomb(v, order);
      bits += exp_golomb_bits(v, order);
    }
    EXPECT_EQ(int64_t(out.bytes().size()), (bits + 7) / 8);
    BitReader in(out.bytes().data(), int64_t(out.bytes().size()), Status::kTableTruncated);
    for (uint32_t v : values) EXPECT_EQ(in.exp_golomb(order), v) << "order " << order;
    EXPECT_EQ(in.align(), int64_t(out.bytes().size()));
    EXPECT_EQ(in.status(), Status::kOk);
  }
}

TEST(BitIo, SignsFoldAndUnfold) {
  for (int32_t e : {0, 1, -1, 2, -2, 1000, -1000, (1 << 30), -(1 << 30)}) EXPECT_EQ(unfold_sign(fold_sign(e)), e);
}

TEST(BitIo, ReaderStopsAtTheEnd) {
  const uint8_t data[] = {0x80};
  BitReader in(data, 1, Status::kDirectoryTruncated);
  EXPECT_EQ(in.get(8), 0x80u);
  EXPECT_EQ(in.get(1), 0u);
  EXPECT_EQ(in.status(), Status::kDirectoryTruncated);
  const uint8_t zeros[8] = {};
  BitReader long_code(zeros, 8, Status::kDirectoryTruncated);
  long_code.exp_golomb(0);
  EXPECT_EQ(long_code.status(), Status::kBadExpGolomb);
  const uint8_t padding[] = {0x81};
  BitReader padded(padding, 1, Status::kDirectoryTruncated);
  padded.get(1);
  padded.align();
  EXPECT_EQ(padded.status(), Status::kNonzeroPadding);
}

}  // namespace
}  // namespace ans::core
