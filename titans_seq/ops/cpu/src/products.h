/* Small matrix products and the like, for one REAL type; included once for each type and
   each set of instructions.

   Matrices are row major and small enough for the cache, so nothing is packed: the right
   operand's rows are read as vectors, the left one's numbers are broadcast, whatever its
   strides. Products with a triangular operand skip what is zero.                          */

#define LANES ((int)(32 / sizeof(REAL)))
#define TILE 6

typedef REAL NAME(vector) __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));

/* Which part of the left operand (rows i, columns k) is not zero; for LOWER_RESULT, which part of
   the result is needed. */
enum NAME(part) { NAME(FULL), NAME(LOWER_LEFT), NAME(UPPER_LEFT), NAME(LOWER_RESULT) };

/* A tile of ROWS x (COUNT vectors); twelve sums keep both multipliers of a core busy. */
#define KERNEL(ROWS, COUNT)                                                                        \
  static inline void NAME(tile##ROWS##x##COUNT)(int k0, int k1, const REAL* a, long row, long col, \
                                                const REAL* b, long ldb, REAL* c, long ldc,        \
                                                REAL scale, const REAL* each, int add) {           \
    NAME(vector) sum[ROWS][COUNT];                                                                 \
    for (int i = 0; i < ROWS; i++)                                                                 \
      for (int v = 0; v < COUNT; v++) sum[i][v] = (NAME(vector)){0};                               \
    for (int k = k0; k < k1; k++) {                                                                \
      NAME(vector) right[COUNT];                                                                   \
      for (int v = 0; v < COUNT; v++) right[v] = *(const NAME(vector)*)(b + k * ldb + v * LANES);  \
      for (int i = 0; i < ROWS; i++)                                                               \
        for (int v = 0; v < COUNT; v++) sum[i][v] += a[i * row + k * col] * right[v];              \
    }                                                                                              \
    for (int i = 0; i < ROWS; i++) {                                                               \
      REAL share = each ? scale * each[i] : scale;                                                 \
      for (int v = 0; v < COUNT; v++) {                                                            \
        NAME(vector)* place = (NAME(vector)*)(c + i * ldc + v * LANES);                            \
        *place = add ? *place + share * sum[i][v] : share * sum[i][v];                             \
      }                                                                                            \
    }                                                                                              \
  }
#define KERNELS(COUNT) \
  KERNEL(1, COUNT)     \
  KERNEL(2, COUNT) KERNEL(3, COUNT) KERNEL(4, COUNT) KERNEL(5, COUNT) KERNEL(6, COUNT)
KERNELS(1)
KERNELS(2)
#undef KERNEL
#undef KERNELS

static inline void NAME(edge)(int k0, int k1, int rows, int columns, const REAL* a, long row,
                              long col, const REAL* b, long ldb, REAL* c, long ldc, REAL scale,
                              const REAL* each, int add) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) {
      REAL sum = 0, share = each ? scale * each[i] : scale;
      for (int k = k0; k < k1; k++) sum += a[i * row + k * col] * b[k * ldb + j];
      c[i * ldc + j] = add ? c[i * ldc + j] + share * sum : share * sum;
    }
}

#define TILES(COUNT)                                                                          \
  switch (rows) {                                                                             \
    case 6:                                                                                   \
      NAME(tile6x##COUNT)(k0, k1, left, row, col, b + j, ldb, place, ldc, scale, given, add); \
      break;                                                                                  \
    case 5:                                                                                   \
      NAME(tile5x##COUNT)(k0, k1, left, row, col, b + j, ldb, place, ldc, scale, given, add); \
      break;                                                                                  \
    case 4:                                                                                   \
      NAME(tile4x##COUNT)(k0, k1, left, row, col, b + j, ldb, place, ldc, scale, given, add); \
      break;                                                                                  \
    case 3:                                                                                   \
      NAME(tile3x##COUNT)(k0, k1, left, row, col, b + j, ldb, place, ldc, scale, given, add); \
      break;                                                                                  \
    case 2:                                                                                   \
      NAME(tile2x##COUNT)(k0, k1, left, row, col, b + j, ldb, place, ldc, scale, given, add); \
      break;                                                                                  \
    default:                                                                                  \
      NAME(tile1x##COUNT)(k0, k1, left, row, col, b + j, ldb, place, ldc, scale, given, add); \
  }

/* c (m x n) = scale * a (m x k) b (k x n), added to c if `add`; row i is also scaled by each[i]
   unless `each` is null. */
static void NAME(product_by_row)(int m, int n, int k, const REAL* a, long row, long col,
                                 const REAL* b, long ldb, REAL* c, long ldc, REAL scale,
                                 const REAL* each, int add, enum NAME(part) part) {
  for (int j = 0, columns; j < n; j += columns) {
    columns = n - j >= 2 * LANES ? 2 * LANES : n - j >= LANES ? LANES : n - j;
    for (int i = 0; i < m; i += TILE) {
      int rows = m - i < TILE ? m - i : TILE;
      int k0 = 0, k1 = k;
      if (part == NAME(LOWER_LEFT) && i + rows < k) k1 = i + rows;
      if (part == NAME(UPPER_LEFT)) k0 = i;
      if (part == NAME(LOWER_RESULT) && j >= i + rows) continue;
      const REAL *left = a + i * row, *given = each ? each + i : 0;
      REAL* place = c + i * ldc + j;
      if (columns == 2 * LANES) {
        TILES(2)
      } else if (columns == LANES) {
        TILES(1)
      } else {
        NAME(edge)(k0, k1, rows, columns, left, row, col, b + j, ldb, place, ldc, scale, given,
                   add);
      }
    }
  }
}
#undef TILES

static void NAME(product)(int m, int n, int k, const REAL* a, long row, long col, const REAL* b,
                          long ldb, REAL* c, long ldc, REAL scale, int add, enum NAME(part) part) {
  NAME(product_by_row)(m, n, k, a, row, col, b, ldb, c, ldc, scale, 0, add, part);
}

/* Whether vectors can be shuffled, as GCC 12 and Clang do. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES 1
#endif
#endif

#ifdef SHUFFLES
/* Transpose a LANES x LANES square: zip each row with the one half the rows below it, log2(LANES)
   times. */
static inline void NAME(transpose_square)(long m, long n, const REAL* from, REAL* to) {
  NAME(vector) rows[LANES], merged[LANES];
  for (int i = 0; i < LANES; i++) rows[i] = *(const NAME(vector)*)(from + i * n);
  for (int halves = LANES; halves > 1; halves /= 2) {
    for (int i = 0; i < LANES / 2; i++) {
      merged[2 * i] = ZIP_LOW(rows[i], rows[i + LANES / 2]);
      merged[2 * i + 1] = ZIP_HIGH(rows[i], rows[i + LANES / 2]);
    }
    for (int i = 0; i < LANES; i++) rows[i] = merged[i];
  }
  for (int i = 0; i < LANES; i++) *(NAME(vector)*)(to + i * m) = rows[i];
}
#endif

/* to (n x m) = the transpose of from (m x n). */
static void NAME(transpose)(long m, long n, const REAL* from, REAL* to) {
  long rows = 0, columns = 0;
#ifdef SHUFFLES
  rows = m / LANES * LANES, columns = n / LANES * LANES;
  for (long i = 0; i < rows; i += LANES)
    for (long j = 0; j < columns; j += LANES)
      NAME(transpose_square)(m, n, from + i * n + j, to + j * m + i);
#endif
  for (long i = 0; i < m; i++)
    for (long j = i < rows ? columns : 0; j < n; j++) to[j * m + i] = from[i * n + j];
}

static inline REAL NAME(dot)(int n, const REAL* a, const REAL* b) {
  NAME(vector) sums[4] = {{0}, {0}, {0}, {0}};
  int i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES)
    for (int v = 0; v < 4; v++)
      sums[v] +=
          *(const NAME(vector)*)(a + i + v * LANES) * *(const NAME(vector)*)(b + i + v * LANES);
  for (; i + LANES <= n; i += LANES)
    sums[0] += *(const NAME(vector)*)(a + i) * *(const NAME(vector)*)(b + i);
  sums[0] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  REAL sum = 0;
  for (int lane = 0; lane < LANES; lane++) sum += sums[0][lane];
  for (; i < n; i++) sum += a[i] * b[i];
  return sum;
}

/* to = the rows of from (rows x n), each by its own share. */
static void NAME(scale_rows)(long rows, long n, const REAL* share, const REAL* from, REAL* to) {
  for (long t = 0; t < rows; t++)
    for (long j = t * n; j < (t + 1) * n; j++) to[j] = share[t] * from[j];
}
