/* Products of one vector with the rows or the columns of matrices, for one token at a time.

   Matrices come from afar, and each is used once or twice only: what counts is how many bytes
   pass, and in which order. So a matrix may be given as a sum that is never written; two vectors
   that meet the same matrices do so together; rows are read as they lie; and `dots` goes from
   the last row to the first, since what was read last, from the first row on, is still at hand. */

#define INLINE static inline __attribute__((always_inline))

/* The matrix part[0] + share[1] part[1] + ..., of as many parts as the callee says. */
typedef struct {
  const REAL* part[3];
  REAL share[3];
} NAME(Sum);

INLINE void NAME(sum_at)(int parts, NAME(Sum) m, long at, NAME(vector) * to) {
  *to = *(const NAME(vector)*)(m.part[0] + at);
  for (int p = 1; p < parts; p++) *to += m.share[p] * *(const NAME(vector)*)(m.part[p] + at);
}

INLINE REAL NAME(number_at)(int parts, NAME(Sum) m, long at) {
  REAL sum = m.part[0][at];
  for (int p = 1; p < parts; p++) sum += m.share[p] * m.part[p][at];
  return sum;
}

/* Columns of x times a matrix, as many as `count` vectors hold. Even and odd rows are summed
   apart, so that no sum waits for the one before it. */
INLINE void NAME(pass_columns)(int parts, int count, long inner, const REAL* x, NAME(Sum) m,
                               long outer, long column, REAL* to) {
  NAME(vector) even[4], odd[4], one, two;
  for (int v = 0; v < count; v++) even[v] = odd[v] = (NAME(vector)){0};
  long i = 0;
  for (; i + 2 <= inner; i += 2)
    for (int v = 0; v < count; v++) {
      NAME(sum_at)(parts, m, i * outer + column + v * LANES, &one);
      NAME(sum_at)(parts, m, (i + 1) * outer + column + v * LANES, &two);
      even[v] += x[i] * one, odd[v] += x[i + 1] * two;
    }
  for (int v = 0; v < count; v++) {
    if (i < inner) {
      NAME(sum_at)(parts, m, i * outer + column + v * LANES, &one);
      even[v] += x[i] * one;
    }
    *(NAME(vector)*)(to + column + v * LANES) = even[v] + odd[v];
  }
}

/* The same for some rows of a wide matrix; `to` is added to, but for the first rows. */
INLINE void NAME(pass_rows)(int parts, int rows, const REAL* x, NAME(Sum) m, long outer, long i,
                            REAL* to) {
  REAL by[4];
  for (int r = 0; r < rows; r++) by[r] = x[i + r];
  for (long j = 0; j + LANES <= outer; j += LANES) {
    NAME(vector) sum = {0}, read;
    if (i) sum = *(const NAME(vector)*)(to + j);
    for (int r = 0; r < rows; r++) {
      NAME(sum_at)(parts, m, (i + r) * outer + j, &read);
      sum += by[r] * read;
    }
    *(NAME(vector)*)(to + j) = sum;
  }
}

/* to = x times a matrix (inner, outer). */
INLINE void NAME(pass)(int parts, long inner, long outer, const REAL* x, NAME(Sum) m, REAL* to) {
  long i = 0, j = 0;
  if (outer > 4 * LANES) {
    for (; i + 4 <= inner; i += 4) NAME(pass_rows)(parts, 4, x, m, outer, i, to);
    for (; i < inner; i++) NAME(pass_rows)(parts, 1, x, m, outer, i, to);
    j = outer / LANES * LANES;
  } else if (outer == 4 * LANES) {
    NAME(pass_columns)(parts, 4, inner, x, m, outer, 0, to);
    j = outer;
  }
  for (; j + LANES <= outer; j += LANES) NAME(pass_columns)(parts, 1, inner, x, m, outer, j, to);
  for (; j < outer; j++) {
    to[j] = 0;
    for (i = 0; i < inner; i++) to[j] += x[i] * NAME(number_at)(parts, m, i * outer + j);
  }
}

static void NAME(pass_one)(long inner, long outer, const REAL* x, const REAL* m, REAL* to) {
  NAME(pass)(1, inner, outer, x, (NAME(Sum)){{m}, {1}}, to);
}

static void NAME(pass_two)(long inner, long outer, const REAL* x, NAME(Sum) m, REAL* to) {
  NAME(pass)(2, inner, outer, x, m, to);
}

static void NAME(pass_three)(long inner, long outer, const REAL* x, NAME(Sum) m, REAL* to) {
  NAME(pass)(3, inner, outer, x, m, to);
}

/* Two vectors, each times a matrix of its own of which the first part is the same, for some rows;
   their sums are added to, but for the first rows. */
INLINE void NAME(pass_key_and_query_rows)(int rows, const REAL* key, NAME(Sum) keyed,
                                          const REAL* query, NAME(Sum) queried, long outer, long i,
                                          REAL* to_key, REAL* to_query) {
  REAL by_key[2], by_query[2];
  for (int r = 0; r < rows; r++) by_key[r] = key[i + r], by_query[r] = query[i + r];
  for (long j = 0; j + LANES <= outer; j += LANES) {
    NAME(vector) keys = {0}, queries = {0}, read;
    if (i)
      keys = *(const NAME(vector)*)(to_key + j), queries = *(const NAME(vector)*)(to_query + j);
    for (int r = 0; r < rows; r++) {
      long at = (i + r) * outer + j;
      NAME(sum_at)(3, queried, at, &read);
      queries += by_query[r] * read;
      NAME(sum_at)(2, keyed, at, &read);
      keys += by_key[r] * read;
    }
    *(NAME(vector)*)(to_key + j) = keys, *(NAME(vector)*)(to_query + j) = queries;
  }
}

static void NAME(pass_key_and_query)(long inner, long outer, const REAL* key, NAME(Sum) keyed,
                                     const REAL* query, NAME(Sum) queried, REAL* to_key,
                                     REAL* to_query) {
  long i = 0;
  for (; i + 2 <= inner; i += 2)
    NAME(pass_key_and_query_rows)(2, key, keyed, query, queried, outer, i, to_key, to_query);
  if (i < inner)
    NAME(pass_key_and_query_rows)(1, key, keyed, query, queried, outer, i, to_key, to_query);
  for (long j = outer / LANES * LANES; j < outer; j++) {
    to_key[j] = to_query[j] = 0;
    for (i = 0; i < inner; i++) {
      to_key[j] += key[i] * NAME(number_at)(2, keyed, i * outer + j);
      to_query[j] += query[i] * NAME(number_at)(3, queried, i * outer + j);
    }
  }
}

#ifdef SHUFFLES
/* The sums of each of LANES vectors: two vectors are merged into one of half the sums each,
   until each lane holds one. */
INLINE void NAME(sum_each)(NAME(vector) * sums, REAL* to) {
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int r = 0; r < half; r++)
      sums[r] = ZIP_LOW(sums[r], sums[r + half]) + ZIP_HIGH(sums[r], sums[r + half]);
  *(NAME(vector)*)to = sums[0];
}

/* to = x times each of LANES rows of a matrix, as far as x fills vectors. */
INLINE void NAME(dots_together)(int parts, long n, const REAL* x, NAME(Sum) m, long row, REAL* to) {
  NAME(vector) sums[LANES], read;
  for (int r = 0; r < LANES; r++) sums[r] = (NAME(vector)){0};
  for (long j = 0; j + LANES <= n; j += LANES) {
    NAME(vector) mine = *(const NAME(vector)*)(x + j);
    for (int r = 0; r < LANES; r++) {
      NAME(sum_at)(parts, m, (row + r) * n + j, &read);
      sums[r] += mine * read;
    }
  }
  NAME(sum_each)(sums, to + row);
}
#endif

/* to[i] = row i of a matrix (rows, n) times x. */
INLINE void NAME(dots)(int parts, long rows, long n, const REAL* x, NAME(Sum) m, REAL* to) {
  long together = 0, whole = n / LANES * LANES;
#ifdef SHUFFLES
  together = rows / LANES * LANES;
#endif
  for (long r = rows - 1; r >= together; r--) {
    NAME(vector) sum = {0}, read;
    for (long j = 0; j < whole; j += LANES) {
      NAME(sum_at)(parts, m, r * n + j, &read);
      sum += *(const NAME(vector)*)(x + j) * read;
    }
    to[r] = 0;
    for (int lane = 0; lane < LANES; lane++) to[r] += sum[lane];
  }
#ifdef SHUFFLES
  for (long r = together - LANES; r >= 0; r -= LANES) NAME(dots_together)(parts, n, x, m, r, to);
#endif
  for (long r = 0; r < rows && whole < n; r++)
    for (long j = whole; j < n; j++) to[r] += x[j] * NAME(number_at)(parts, m, r * n + j);
}

static void NAME(dots_one)(long rows, long n, const REAL* x, const REAL* m, REAL* to) {
  NAME(dots)(1, rows, n, x, (NAME(Sum)){{m}, {1}}, to);
}

static void NAME(dots_two)(long rows, long n, const REAL* x, NAME(Sum) m, REAL* to) {
  NAME(dots)(2, rows, n, x, m, to);
}

#ifdef SHUFFLES
/* Two vectors times LANES / 2 rows of a matrix (rows, n), of which n is a whole number of
   vectors; to[0] and to[outer] are where the first products go. */
INLINE void NAME(project_two)(long n, const REAL* x, const REAL* m, long outer, REAL* to) {
  NAME(vector) sums[LANES];
  REAL each[LANES];
  for (int r = 0; r < LANES; r++) sums[r] = (NAME(vector)){0};
  for (long j = 0; j < n; j += LANES) {
    NAME(vector) one = *(const NAME(vector)*)(x + j), two = *(const NAME(vector)*)(x + n + j);
    for (int r = 0; r < LANES / 2; r++) {
      NAME(vector) row = *(const NAME(vector)*)(m + r * n + j);
      sums[r] += one * row, sums[r + LANES / 2] += two * row;
    }
  }
  NAME(sum_each)(sums, each);
  memcpy(to, each, sizeof each / 2), memcpy(to + outer, each + LANES / 2, sizeof each / 2);
}
#endif

/* to = each of `rows` vectors times the rows of a matrix, (outer, inner). */
static void NAME(project)(long rows, long inner, long outer, const REAL* x, const REAL* m,
                          REAL* to) {
  long done = 0, pairs = 0;
#ifdef SHUFFLES
  if (inner % LANES == 0) done = outer / (LANES / 2) * (LANES / 2), pairs = rows / 2 * 2;
  for (long j = 0; j < done; j += LANES / 2)
    for (long r = 0; r < pairs; r += 2)
      NAME(project_two)(inner, x + r * inner, m + j * inner, outer, to + r * outer + j);
#endif
  for (long r = 0; r < rows; r++) {
    long first = r < pairs ? done : 0;
    NAME(dots_one)(outer - first, inner, x + r * inner, m + first * inner, to + r * outer + first);
  }
}
