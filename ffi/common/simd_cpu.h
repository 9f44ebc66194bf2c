// Vectors of the target at hand (see each_target.h): loads that widen, stores that round,
// exponential and logarithm. No include guard.

namespace jaxdirect::JAXDIRECT_TARGET {
namespace {

template <typename S>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES)));
  typedef int32_t Ints __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES)));
  typedef uint32_t Bits __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES)));
  using Int = int32_t;
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES)));
  typedef int64_t Ints __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES)));
  typedef uint64_t Bits __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES)));
  using Int = int64_t;
};
template <typename S>
using Vec = typename VectorOf<S>::Type;
template <typename S>
using IntVec = typename VectorOf<S>::Ints;
template <typename S>
using BitVec = typename VectorOf<S>::Bits;  // sums of these wrap around
template <typename S>
using IntOf = typename VectorOf<S>::Int;

template <typename S>
inline constexpr int64_t kLanes = JAXDIRECT_VECTOR_BYTES / sizeof(S);

typedef uint16_t ShortVec __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES / 2)));
typedef uint32_t WordVec __attribute__((vector_size(JAXDIRECT_VECTOR_BYTES)));

template <typename S>
inline Vec<S> splat(S value) {
  return value - Vec<S>{};  // folded, unlike a sum: 0 + -0 is 0
}

template <typename To, typename From>
inline To reinterpret(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

// Without instructions of its own a conversion is a call; once is enough.
__attribute__((noinline)) inline Vec<float> widen_each(const Half* from) {
  Vec<float> wide;
  for (int64_t i = 0; i < kLanes<float>; ++i) wide[i] = static_cast<float>(from[i]);
  return wide;
}
__attribute__((noinline)) inline void narrow_each(Half* to, Vec<float> vector) {
  for (int64_t i = 0; i < kLanes<float>; ++i) to[i] = Half(vector[i]);
}

// A whole vector of T from memory, as the type that T is summed in.
template <typename T>
inline Vec<Sum<T>> load(const T* from) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    ShortVec bits;
    __builtin_memcpy(&bits, from, sizeof(bits));
    return reinterpret<Vec<float>>(__builtin_convertvector(bits, WordVec) << 16);
  } else if constexpr (std::is_same_v<T, Half>) {
#if JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 64
    __m256i bits;
    __builtin_memcpy(&bits, from, sizeof(bits));
    return reinterpret<Vec<float>>(_mm512_maskz_cvtph_ps(0xffff, bits));
#elif JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 32
    __m128i bits;
    __builtin_memcpy(&bits, from, sizeof(bits));
    return reinterpret<Vec<float>>(_mm256_cvtph_ps(bits));
#else
    return widen_each(from);
#endif
  } else {
    Vec<T> vector;
    __builtin_memcpy(&vector, from, sizeof(vector));
    return vector;
  }
}

template <typename S>
inline IntVec<S> lane_numbers() {
  IntVec<S> lanes;
  for (int64_t i = 0; i < kLanes<S>; ++i) lanes[i] = static_cast<IntOf<S>>(i);
  return lanes;
}

#if JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 32
template <typename S>
inline __m256i lane_mask(int64_t count) {
  return reinterpret<__m256i>(lane_numbers<S>() < static_cast<IntOf<S>>(count));
}
#endif

// The first `count` lanes, the others zero. Reads no more than those.
template <typename T>
inline Vec<Sum<T>> load_part(const T* from, int64_t count) {
#if JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    return reinterpret<Vec<float>>(_mm512_maskz_loadu_ps(mask, from));
  } else if constexpr (std::is_same_v<T, double>) {
    const auto mask = static_cast<__mmask8>((1u << count) - 1);
    return reinterpret<Vec<double>>(_mm512_maskz_loadu_pd(mask, from));
  }
#elif JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<T, float>) {
    return reinterpret<Vec<float>>(_mm256_maskload_ps(from, lane_mask<float>(count)));
  } else if constexpr (std::is_same_v<T, double>) {
    return reinterpret<Vec<double>>(_mm256_maskload_pd(from, lane_mask<double>(count)));
  }
#endif
  T part[kLanes<Sum<T>>] = {};
  for (int64_t i = 0; i < count; ++i) part[i] = from[i];
  return load<T>(part);
}

template <typename T>
inline void store(T* to, Vec<Sum<T>> vector) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const auto wide = reinterpret<WordVec>(vector);
    const WordVec rounded = (wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16;
    const WordVec quiet = (wide >> 16) | 0x40u;  // a NaN stays one
    const auto chosen = (wide & 0x7fffffffu) > 0x7f800000u ? quiet : rounded;
    const auto bits = __builtin_convertvector(chosen, ShortVec);
    __builtin_memcpy(static_cast<void*>(to), &bits, sizeof(bits));
  } else if constexpr (std::is_same_v<T, Half>) {
#if JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 64
    const __m256i bits = _mm512_maskz_cvtps_ph(0xffff, reinterpret<__m512>(vector), 0);
    __builtin_memcpy(static_cast<void*>(to), &bits, sizeof(bits));
#elif JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 32
    const __m128i bits = _mm256_cvtps_ph(reinterpret<__m256>(vector), 0);
    __builtin_memcpy(static_cast<void*>(to), &bits, sizeof(bits));
#else
    narrow_each(to, vector);
#endif
  } else {
    __builtin_memcpy(to, &vector, sizeof(vector));
  }
}

// The first `count` lanes.
template <typename T>
inline void store_part(T* to, Vec<Sum<T>> vector, int64_t count) {
#if JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    return _mm512_mask_storeu_ps(to, mask, reinterpret<__m512>(vector));
  } else if constexpr (std::is_same_v<T, double>) {
    const auto mask = static_cast<__mmask8>((1u << count) - 1);
    return _mm512_mask_storeu_pd(to, mask, reinterpret<__m512d>(vector));
  }
#elif JAXDIRECT_X86_TARGETS && JAXDIRECT_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<T, float>) {
    return _mm256_maskstore_ps(to, lane_mask<float>(count), reinterpret<__m256>(vector));
  } else if constexpr (std::is_same_v<T, double>) {
    return _mm256_maskstore_pd(to, lane_mask<double>(count), reinterpret<__m256d>(vector));
  }
#endif
  T part[kLanes<Sum<T>>];
  store<T>(part, vector);
  for (int64_t i = 0; i < count; ++i) to[i] = part[i];
}

// Lane i of the result is lane from[i].
template <typename V, typename I>
inline V permute(V vector, I from) {
#if defined(__clang__)
  V result;
  for (size_t i = 0; i < sizeof(V) / sizeof(vector[0]); ++i) result[i] = vector[from[i]];
  return result;
#else
  return __builtin_shuffle(vector, from);
#endif
}

// Lane i of the result is lane from[i] of both vectors in a row.
template <typename V, typename I>
inline V permute(V first, V second, I from) {
#if defined(__clang__)
  constexpr size_t L = sizeof(V) / sizeof(first[0]);
  V result;
  for (size_t i = 0; i < L; ++i) {
    const auto lane = static_cast<size_t>(from[i]);
    result[i] = lane < L ? first[lane] : second[lane - L];
  }
  return result;
#else
  return __builtin_shuffle(first, second, from);
#endif
}

// Swaps rows and columns of kLanes vectors.
template <typename S>
__attribute__((always_inline)) inline void transpose(Vec<S>* rows) {
  constexpr auto L = static_cast<IntOf<S>>(kLanes<S>);
  const IntVec<S> lanes = lane_numbers<S>();
#pragma GCC unroll 4
  for (IntOf<S> half = 1; half < L; half *= 2) {
    const auto upper = (lanes & half) != 0;
    const IntVec<S> across = lanes ^ half;
    const IntVec<S> low = upper ? across + L : lanes;
    const IntVec<S> high = upper ? lanes + L : across;
#pragma GCC unroll 16
    for (IntOf<S> i = 0; i < L; ++i) {
      if ((i & half) != 0) continue;
      const Vec<S> a = rows[i];
      const Vec<S> b = rows[i + half];
      rows[i] = permute(a, b, low);
      rows[i + half] = permute(a, b, high);
    }
  }
}

// Every lane becomes the sum of its run of `run` lanes, a power of two.
template <typename S>
inline Vec<S> sum_runs(Vec<S> vector, int64_t run) {
  const IntVec<S> lanes = lane_numbers<S>();
#pragma GCC unroll 4
  for (IntOf<S> step = 1; step < kLanes<S>; step *= 2) {
    if (step < run) vector += permute(vector, lanes ^ step);
  }
  return vector;
}

template <typename S>
inline S sum_lanes(Vec<S> vector) {
  return sum_runs<S>(vector, kLanes<S>)[0];
}

// ln 2 in two parts, the first with few bits, so that small multiples of it are exact.
template <typename S>
inline constexpr S kLn2High = sizeof(S) == 4 ? S(0.693359375) : S(6.93147180369123816490e-01);
template <typename S>
inline constexpr S kLn2Low = sizeof(S) == 4 ? S(-2.12194440e-4) : S(1.90821492927058770002e-10);
template <typename S>
inline constexpr int kMantissaBits = sizeof(S) == 4 ? 23 : 52;
constexpr double factorial(int n) { return n <= 1 ? 1.0 : n * factorial(n - 1); }

// 2^n as a number, for n of normal numbers.
template <typename S>
inline Vec<S> power_of_two(IntVec<S> n) {
  constexpr auto kOne = std::bit_cast<IntOf<S>>(S(1));
  return reinterpret<Vec<S>>((reinterpret<BitVec<S>>(n) << kMantissaBits<S>)+kOne);
}

// To 1.2 units in the last place, but 0 instead of numbers that are not normal, which cost hundreds
// of cycles each: 2^n times a Taylor polynomial on [-ln 2 / 2, ln 2 / 2].
template <typename S>
inline Vec<S> exponential(Vec<S> x) {
  constexpr S kLeast = sizeof(S) == 4 ? S(-87.33) : S(-708.3);
  constexpr S kMost = sizeof(S) == 4 ? S(89) : S(710);
  constexpr S kRound = S(1.5) * S(IntOf<S>{1} << kMantissaBits<S>);  // adding it rounds
  constexpr int kTerms = sizeof(S) == 4 ? 7 : 13;
  const auto tiny = x < kLeast;
  x = tiny ? Vec<S>{} : x;  // NaN stays
  x = x > kMost ? splat(kMost) : x;
  const Vec<S> shifted = x * S(1.44269504088896340736) + kRound;
  const Vec<S> n = shifted - kRound;
  const Vec<S> r = (x - n * kLn2High<S>)-n * kLn2Low<S>;
  Vec<S> sum = splat(S(1 / factorial(kTerms)));
#pragma GCC unroll 16
  for (int i = kTerms - 1; i >= 0; --i) sum = sum * r + S(1 / factorial(i));
  // In two factors: 2^n itself may be too large.
  const IntVec<S> exponent = reinterpret<IntVec<S>>(reinterpret<BitVec<S>>(shifted) -
                                                    reinterpret<BitVec<S>>(splat(kRound)));
  const IntVec<S> half = exponent >> 1;
  return tiny ? Vec<S>{} : sum * power_of_two<S>(half) * power_of_two<S>(exponent - half);
}

// Of positive normal numbers, to a unit in the last place of the larger of the result and 1.
template <typename S>
inline Vec<S> logarithm(Vec<S> x) {
  constexpr S kRootHalf = S(0.70710678118654752440);
  constexpr int kTerms = sizeof(S) == 4 ? 5 : 11;
  const auto bits = reinterpret<BitVec<S>>(x);
  const auto root = reinterpret<BitVec<S>>(splat(kRootHalf));
  const auto exponent = reinterpret<IntVec<S>>(bits - root) >> kMantissaBits<S>;
  const Vec<S> n = __builtin_convertvector(exponent, Vec<S>);
  const Vec<S> m =
      reinterpret<Vec<S>>(bits - (reinterpret<BitVec<S>>(exponent) << kMantissaBits<S>));
  const Vec<S> s = (m - S(1)) / (m + S(1));  // log m = 2 artanh s
  const Vec<S> s2 = s * s;
  Vec<S> sum = splat(S(2) / S(2 * kTerms + 1));
#pragma GCC unroll 16
  for (int i = kTerms - 1; i >= 1; --i) sum = sum * s2 + S(2) / S(2 * i + 1);
  const Vec<S> small = s * s2 * sum + (n * kLn2Low<S> + S(2) * s);
  return n * kLn2High<S> + small;
}

}  // namespace
}  // namespace jaxdirect::JAXDIRECT_TARGET
