/* Queries, keys and values from their projection: each channel mixed with its own last values,
   SiLU, and unit length for queries and keys; forward, and backward from the projection itself.
   Rows are the heads of the sequences. See titans_seq/ops/features.py. */

#define NEARLY_ZERO ((REAL)1e-12) /* added to a squared length */

/* Pointers to the inputs of the taps at token t, oldest first: from x, before it the tail or zeros.
 */
static inline void NAME(tap_inputs)(const Mix* mix, const REAL* zeros, long b, long t, long at,
                                    const REAL** to) {
  long all = 3 * mix->heads * mix->width;
  for (long tap = 0; tap < TAPS; tap++) {
    long from = t + tap - (TAPS - 1);
    if (from >= 0) to[tap] = (const REAL*)mix->x.at + (b * mix->time + from) * all + at;
    else if (mix->tail.at)
      to[tap] = (const REAL*)mix->tail.at + ((b + 1) * (TAPS - 1) + from) * all + at;
    else to[tap] = zeros + at;
  }
}

/* sums = the convolution; to = its SiLU. */
static inline void NAME(mix_channels)(long n, long all, const REAL* restrict taps,
                                      const REAL* const* from, REAL* restrict sums,
                                      REAL* restrict to) {
  const REAL *one = from[0], *two = from[1], *three = from[2], *four = from[3];
  for (long i = 0; i < n; i++) {
    REAL sum = taps[i] * one[i] + taps[all + i] * two[i] + taps[2 * all + i] * three[i] +
               taps[3 * all + i] * four[i];
    sums[i] = sum;
    to[i] = sum * NAME(sigmoid)(sum);
  }
}

static inline REAL NAME(inverse_length)(long n, const REAL* x) {
  return 1 / NAME(root)(NAME(dot)(n, x, x) + NEARLY_ZERO);
}

/* One token of heads first to last: token by token, so that x is read in memory order. */
static void NAME(mix_token)(const Mix* mix, long b, long t, long first, long last) {
  long width = mix->width, dim = mix->heads * width, all = 3 * dim;
  REAL *zeros = (REAL*)mix->space.at, *sums = zeros + all;
  REAL* parts[] = {(REAL*)mix->queries.at, (REAL*)mix->keys.at, (REAL*)mix->values.at};
  for (long part = 0; part < 3; part++)
    for (long h = first; h < last; h++) {
      const REAL* from[TAPS];
      long at = part * dim + h * width;
      REAL* to = parts[part] + ((b * mix->heads + h) * mix->time + t) * width;
      NAME(tap_inputs)(mix, zeros, b, t, at, from);
      if (t + AHEAD < mix->time) {
        prefetch(from[TAPS - 1] + AHEAD * all, width * sizeof(REAL));
        prefetch_for_write(to + AHEAD * width, width * sizeof(REAL));
      }
      NAME(mix_channels)(width, all, (const REAL*)mix->taps.at + at, from, sums, to);
      if (part == 2) continue;
      REAL scale = NAME(inverse_length)(width, to);
      for (long i = 0; i < width; i++) to[i] *= scale;
    }
}

static void NAME(mix_tail)(const Mix* mix, long b, long first, long last) {
  long width = mix->width, dim = mix->heads * width, all = 3 * dim;
  for (long part = 0; part < 3; part++) {
    const REAL* from[TAPS];
    long at = part * dim + first * width;
    NAME(tap_inputs)(mix, (const REAL*)mix->space.at, b, mix->time, at, from);
    for (long i = 0; i < TAPS - 1; i++)
      memcpy((REAL*)mix->tail_end.at + (b * (TAPS - 1) + i) * all + at, from[i],
             (last - first) * width * sizeof(REAL));
  }
}

/* Gradients by the convolution's sums, from those by its outputs. */
static inline void NAME(unmix)(long n, int unit, const REAL* restrict by, const REAL* restrict sums,
                               const REAL* restrict active, REAL* restrict to) {
  REAL scale = 1, pull = 0;
  if (unit) {
    scale = NAME(inverse_length)(n, active);
    pull = NAME(dot)(n, active, by) * scale * scale;
  }
  for (long i = 0; i < n; i++) {
    REAL sigmoid = NAME(sigmoid)(sums[i]);
    to[i] = scale * (by[i] - pull * active[i]) * sigmoid * (1 + sums[i] * (1 - sigmoid));
  }
}

/* to += one * two. */
static inline void NAME(add_products)(long n, const REAL* one, const REAL* two, REAL* restrict to) {
  for (long i = 0; i < n; i++) to[i] += one[i] * two[i];
}

/* Gradients by one token's input: `by` are those by the sums of this token and the three after. */
static inline void NAME(tap_gradients)(long n, long all, const REAL* taps, const REAL* const* by,
                                       REAL* restrict to) {
  const REAL *one = by[3], *two = by[2], *three = by[1], *four = by[0];
  for (long i = 0; i < n; i++)
    to[i] = taps[i] * one[i] + taps[all + i] * two[i] + taps[2 * all + i] * three[i] +
            taps[3 * all + i] * four[i];
}

/* Backward for one token; `ring` (TAPS, 3 dim) holds the gradients by the sums of this token and
   the three after it. Tokens before the first are the tail. */
static void NAME(unmix_token)(const Mix* mix, const ByMix* wanted, REAL* ring, long b, long t,
                              long first, long last) {
  long width = mix->width, dim = mix->heads * width, all = 3 * dim, time = mix->time;
  REAL *zeros = (REAL*)mix->space.at, *sums = zeros + all, *active = sums + width;
  const REAL *taps = (const REAL*)mix->taps.at,
             *parts[] = {(const REAL*)wanted->by_queries.at, (const REAL*)wanted->by_keys.at,
                         (const REAL*)wanted->by_values.at};
  REAL* by_x = t >= 0 ? (REAL*)wanted->by_x.at + (b * time + t) * all
                      : (REAL*)wanted->by_tail.at + ((b + 1) * (TAPS - 1) + t) * all;
  for (long part = 0; part < 3; part++)
    for (long h = first; h < last; h++) {
      const REAL *from[TAPS], *by[TAPS];
      long at = part * dim + h * width;
      REAL* mine = ring + ((t + TAPS) % TAPS) * all + at;
      for (long i = 0; i < TAPS; i++) by[i] = ring + ((t + i + TAPS) % TAPS) * all + at;
      if (t >= 0) {
        const REAL* given = parts[part] + ((b * mix->heads + h) * time + t) * width;
        NAME(tap_inputs)(mix, zeros, b, t, at, from);
        if (t >= AHEAD + TAPS) {
          prefetch(from[0] - AHEAD * all, width * sizeof(REAL));
          prefetch(given - AHEAD * width, width * sizeof(REAL));
          prefetch_for_write(by_x + at - AHEAD * all, width * sizeof(REAL));
        }
        NAME(mix_channels)(width, all, taps + at, from, sums, active);
        NAME(unmix)(width, part < 2, given, sums, active, mine);
        for (long i = 0; i < TAPS; i++)
          NAME(add_products)(width, mine, from[i], (REAL*)wanted->by_taps.at + i * all + at);
      } else memset(mine, 0, width * sizeof(REAL));
      NAME(tap_gradients)(width, all, taps + at, by, by_x + at);
    }
}

static void NAME(mix_rows)(const Mix* mix, long first, long last) {
  for (long r = first, end; r < last; r = end) {
    long b = r / mix->heads, before = b * mix->heads;
    end = before + mix->heads < last ? before + mix->heads : last;
    for (long t = 0; t < mix->time; t++) NAME(mix_token)(mix, b, t, r - before, end - before);
    if (mix->tail_end.at) NAME(mix_tail)(mix, b, r - before, end - before);
  }
}

/* From the last token to the first: an input's gradient needs those of the later sums. */
static void NAME(unmix_rows)(const Mix* mix, const ByMix* wanted, long first, long last) {
  long all = 3 * mix->heads * mix->width;
  REAL* ring = (REAL*)mix->space.at + all + 2 * mix->width;
  for (long r = first, end; r < last; r = end) {
    long b = r / mix->heads, before = b * mix->heads;
    end = before + mix->heads < last ? before + mix->heads : last;
    memset(ring, 0, TAPS * all * sizeof(REAL));
    for (long t = mix->time - 1; t >= (wanted->by_tail.at ? 1 - TAPS : 0); t--)
      NAME(unmix_token)(mix, wanted, ring, b, t, r - before, end - before);
  }
}
#undef NEARLY_ZERO
