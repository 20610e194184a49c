/* All of the code for float and for double, with one set of instructions. */

#define REAL float
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
static inline float NAME(root)(float x) { return sqrtf(x); }
static inline float NAME(error_function)(float x) { return erff(x); }

/* exp, to a few units in the last place, written so that a compiler makes vectors of it
   (the polynomial is Cephes' expf). */
static inline float NAME(exponential)(float x) {
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  float whole = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  int bits = ((int)whole + 127) << 23;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return sum * scale;
}
#include "activation.h"
#include "products.h"
#include "chunk.h"
#include "backward.h"
#include "exact.h"
#include "rows.h"
#include "vectors.h"
#include "token.h"
#include "open.h"
#include "features.h"
#include "leaving.h"
#undef REAL
#undef LANES
#undef TILE
#undef ZIP_LOW
#undef ZIP_HIGH

#define REAL double
#define ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
static inline double NAME(root)(double x) { return sqrt(x); }
static inline double NAME(error_function)(double x) { return erf(x); }
static inline double NAME(exponential)(double x) { return exp(x); }
#include "activation.h"
#include "products.h"
#include "chunk.h"
#include "backward.h"
#include "exact.h"
#include "rows.h"
#include "vectors.h"
#include "token.h"
#include "open.h"
#include "features.h"
#include "leaving.h"
#undef REAL
#undef LANES
#undef TILE
#undef ZIP_LOW
#undef ZIP_HIGH
