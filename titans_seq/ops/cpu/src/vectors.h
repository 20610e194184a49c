/* Products of one vector with the rows or the columns of a matrix, for one token at a time. */

/* to += scale x m, where m has `inner` rows of `outer` numbers, `ld` apart. Eight rows at a time
   are read side by side. */
static void NAME(pass)(long inner, long outer, const REAL* x, REAL scale, const REAL* m, long ld,
                       REAL* to) {
  long i = 0;
  for (; i + 8 <= inner; i += 8) {
    REAL by[8];
    const REAL* row[8];
    for (int r = 0; r < 8; r++) by[r] = scale * x[i + r], row[r] = m + (i + r) * ld;
    long j = 0;
    for (; j + LANES <= outer; j += LANES) {
      NAME(vector) one = {0}, two = {0};
      for (int r = 0; r < 8; r += 2) {
        one += by[r] * *(const NAME(vector)*)(row[r] + j);
        two += by[r + 1] * *(const NAME(vector)*)(row[r + 1] + j);
      }
      *(NAME(vector)*)(to + j) += one + two;
    }
    for (; j < outer; j++)
      for (int r = 0; r < 8; r++) to[j] += by[r] * row[r][j];
  }
  for (; i < inner; i++)
    for (long j = 0; j < outer; j++) to[j] += scale * x[i] * m[i * ld + j];
}

#ifdef SHUFFLES
/* to = x times each of LANES rows of m, `ld` apart, as far as x fills vectors. The sums of two
   rows are merged into one vector of half the sums each, until each lane holds a row's. */
static inline void NAME(dots_together)(long n, const REAL* x, const REAL* m, long ld, REAL* to) {
  NAME(vector) sums[LANES];
  for (int r = 0; r < LANES; r++) sums[r] = (NAME(vector)){0};
  for (long j = 0; j + LANES <= n; j += LANES) {
    NAME(vector) mine = *(const NAME(vector)*)(x + j);
    for (int r = 0; r < LANES; r++) sums[r] += mine * *(const NAME(vector)*)(m + r * ld + j);
  }
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int r = 0; r < half; r++)
      sums[r] = ZIP_LOW(sums[r], sums[r + half]) + ZIP_HIGH(sums[r], sums[r + half]);
  *(NAME(vector)*)to = sums[0];
}
#endif

/* to[i] = row i of m times x, of n numbers; rows are `ld` apart. */
static void NAME(dots)(long rows, long n, const REAL* x, const REAL* m, long ld, REAL* to) {
  long i = 0;
#ifdef SHUFFLES
  for (; i + LANES <= rows; i += LANES) {
    NAME(dots_together)(n, x, m + i * ld, ld, to + i);
    for (long j = n / LANES * LANES; j < n; j++)
      for (int r = 0; r < LANES; r++) to[i + r] += x[j] * m[(i + r) * ld + j];
  }
#endif
  for (; i < rows; i++) to[i] = NAME(dot)(n, m + i * ld, x);
}
