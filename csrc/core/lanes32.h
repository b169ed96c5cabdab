// Lanes over 32-bit states and tables in memory: the general backend. `V` supplies the arithmetic of 32 unsigned 32-bit numbers
// (csrc/cpu/vector_*.h); see lane_coder.h for what the functions mean.
#pragma once
#include "core/row_coder.h"

namespace ans::core {
namespace ANS_TARGET {

template <class V>
struct Lanes32 {
  using State = typename V::U32;
  using Index = typename V::U32;
  using Mask = typename V::Mask;
  static constexpr int kDecodeStreams = V::kDecodeStreams, kEncodeStreams = V::kEncodeStreams;

  struct Decoder {
    Decoder() = default;
    explicit Decoder(const DecodeTable& t)
        : Decoder(t.slots, t.first_value, t.escape_index) {}
    ANS_INLINE Decoder(const uint32_t* slots_in, int32_t first_value_in, int escape_index)
        : slots(slots_in), first_value(V::set1(uint32_t(first_value_in))), escape(V::set1(uint32_t(escape_index))) {}
    const uint32_t* slots;
    State first_value, escape;
  };
  struct Encoder {
    explicit Encoder(const EncodeTable& t) : Encoder(t.packed, t.reciprocal, t.slot_of) {}
    ANS_INLINE Encoder(const uint32_t* packed_in, const uint32_t* reciprocal_in, const uint16_t* slot_of_in) : packed(packed_in), reciprocal(reciprocal_in), slot_of(slot_of_in) {}
    const uint32_t *packed, *reciprocal;
    const uint16_t* slot_of;
  };

  ANS_INLINE static State load(const uint32_t* p) { return V::load(p); }
  ANS_INLINE static void store(uint32_t* p, const State& x) { V::store(p, x); }

  template <int kBegin, int kEnd, class Decoders, int kStreams>
  ANS_INLINE static void pop(const Decoders& decoders, State (&x)[kStreams], Index (&index)[kStreams]) {
    ANS_UNROLL
    for (int s = kBegin; s < kEnd; ++s) index[s] = pop_one(decoders[s], x[s]);
  }
  template <int kBegin, int kEnd, int kStreams, class Words>
  ANS_INLINE static void refill(State (&x)[kStreams], Words (&words)[kStreams]) {
    ANS_UNROLL
    for (int s = kBegin; s < kEnd; ++s) V::refill(x[s], words[s]);
  }
  ANS_INLINE static Index pop_one(const Decoder& d, State& x) {
    const State low12 = V::set1(format::kSlots - 1);
    const State entry = V::gather(d.slots, V::and_(x, low12));
    x = V::add(V::mul(V::template shr<20>(entry), V::template shr<12>(x)), V::and_(V::template shr<8>(entry), low12));
    return V::and_(entry, V::set1(0xFF));
  }

  template <bool kPartial, int kStreams, class Words>
  ANS_INLINE static void push(const Encoder& e, State (&x)[kStreams], const Index (&index)[kStreams], const Mask& on, Words (&words)[kStreams]) {
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) push_one<kPartial>(e, x[s], index[s], on, words[s]);
  }
  template <bool kPartial, class Words>
  ANS_INLINE static void push_one(const Encoder& e, State& x, const Index& index, const Mask& on, Words& words) {
    push_with<kPartial>(e, x, index, on, words, [](const State& slot) __attribute__((always_inline)) { return slot; });
  }
  // Where each lane has a table of its own: index finds its entries, slot_at(i) is where entry i of its slot_of lies.
  template <bool kPartial, class Words, class SlotAt>
  ANS_INLINE static void push_with(const Encoder& e, State& x, const Index& index, const Mask& on, Words& words, SlotAt slot_at) {
    const State packed = V::gather(e.packed, index), low12 = V::set1(0xFFF);
    const State freq = V::and_(packed, low12);
    Mask full = V::ge(x, V::template shl<20>(freq));
    if constexpr (kPartial) full = V::both(full, on);
    V::spill(x, full, words);
    // x < freq * 2^20: the rounded-down reciprocal gives the quotient or one less.
    State quotient = V::shr_var(V::mulhi(x, V::gather(e.reciprocal, index)), V::template shr<24>(packed));
    State rest = V::sub(x, V::mul(quotient, freq));
    const Mask low = V::ge(rest, freq);
    quotient = V::select(low, V::add(quotient, V::set1(1)), quotient);
    rest = V::select(low, V::sub(rest, freq), rest);
    if constexpr (kPartial) rest = V::select(on, rest, V::set1(0));  // idle lanes may hold anything: keep the look-up in bounds
    const State slot = V::gather16(e.slot_of, slot_at(V::add(V::and_(V::template shr<12>(packed), low12), rest)));
    const State next = V::or_(V::template shl<12>(quotient), slot);
    x = kPartial ? V::select(on, next, x) : next;
  }
  ANS_INLINE static Mask first(int n) { return V::first(n); }
  ANS_INLINE static State select_state(const Mask& m, const State& a, const State& b) { return V::select(m, a, b); }

  template <class Out>
  ANS_INLINE static void store_row(const Decoder& d, Out* out, const Index& index) { V::store_low(out, V::add(index, d.first_value)); }
  template <class Out, bool kEscape>
  ANS_INLINE static uint64_t store_row_pair(const Decoder& d, Out* out, const Index& first, const Index& second) {
    store_row(d, out, first);
    store_row(d, out + format::kLanes, second);
    if constexpr (!kEscape) return 0;
    return V::any_ge(V::max(first, second), d.escape);  // the escape is the last index; without one (-1) none is
  }
  template <class Out>
  ANS_INLINE static uint32_t equal_in_row(const Out* row, Out v) { return V::equal_mask(row, v); }
  ANS_INLINE static Index load_index(const uint8_t* p) { return V::load_u8(p); }
};

}  // namespace ANS_TARGET
}  // namespace ans::core
