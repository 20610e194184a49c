/* Queries, keys and values from their projection: each channel mixed with its own last values,
   SiLU, and unit length for queries and keys; forward, and backward from the projection itself.
   Rows are the heads of the sequences. See titans_seq/ops/features.py. */

#define NEARLY_ZERO ((REAL)1e-12) /* added to a squared length */

/* The values that the taps meet at token t, oldest first; before the tail stands zero. */
static inline void NAME(reach)(const Mix* mix, const REAL* zeros, long b, long t, long at,
                               const REAL** to) {
  long all = 3 * mix->heads * mix->width;
  for (long tap = 0; tap < TAPS; tap++) {
    long from = t + tap - (TAPS - 1);
    if (from >= 0) to[tap] = (const REAL*)mix->x + (b * mix->time + from) * all + at;
    else if (mix->tail)
      to[tap] = (const REAL*)mix->tail + ((b + 1) * (TAPS - 1) + from) * all + at;
    else to[tap] = zeros + at;
  }
}

/* sums = the mixed values; to = their SiLU. */
static inline void NAME(mix_some)(long n, long all, const REAL* restrict taps,
                                  const REAL* const* from, REAL* restrict sums,
                                  REAL* restrict to) {
  const REAL *one = from[0], *two = from[1], *three = from[2], *four = from[3];
  for (long i = 0; i < n; i++) {
    REAL sum = taps[i] * one[i] + taps[all + i] * two[i] + taps[2 * all + i] * three[i] +
               taps[3 * all + i] * four[i];
    sums[i] = sum;
    to[i] = sum * NAME(gate)(sum);
  }
}

static inline REAL NAME(shortened)(long n, const REAL* x) {
  return 1 / NAME(root)(NAME(dot)(n, x, x) + NEARLY_ZERO);
}

/* One token of heads `first` to `last`: token by token, so that memory is read in its order. */
static void NAME(mix_token)(const Mix* mix, long b, long t, long first, long last) {
  long width = mix->width, dim = mix->heads * width, all = 3 * dim;
  REAL *zeros = (REAL*)mix->space, *sums = zeros + all;
  REAL* parts[] = {(REAL*)mix->queries, (REAL*)mix->keys, (REAL*)mix->values};
  for (long part = 0; part < 3; part++)
    for (long h = first; h < last; h++) {
      const REAL* from[TAPS];
      long at = part * dim + h * width;
      REAL* to = parts[part] + ((b * mix->heads + h) * mix->time + t) * width;
      NAME(reach)(mix, zeros, b, t, at, from);
      if (t + AHEAD < mix->time) {
        ask_for(from[TAPS - 1] + AHEAD * all, width * sizeof(REAL));
        ask_to_write(to + AHEAD * width, width * sizeof(REAL));
      }
      NAME(mix_some)(width, all, (const REAL*)mix->taps + at, from, sums, to);
      if (part == 2) continue;
      REAL scale = NAME(shortened)(width, to);
      for (long i = 0; i < width; i++) to[i] *= scale;
    }
}

static void NAME(mix_tail)(const Mix* mix, long b, long first, long last) {
  long width = mix->width, dim = mix->heads * width, all = 3 * dim;
  for (long part = 0; part < 3; part++) {
    const REAL* from[TAPS];
    long at = part * dim + first * width;
    NAME(reach)(mix, (const REAL*)mix->space, b, mix->time, at, from);
    for (long i = 0; i < TAPS - 1; i++)
      memcpy((REAL*)mix->tail_end + (b * (TAPS - 1) + i) * all + at, from[i],
             (last - first) * width * sizeof(REAL));
  }
}

/* Gradients by the mixed values, given those by what becomes of them. */
static inline void NAME(unmix)(long n, int unit, const REAL* restrict by, const REAL* restrict sums,
                               const REAL* restrict active, REAL* restrict to) {
  REAL scale = 1, pull = 0;
  if (unit) {
    scale = NAME(shortened)(n, active);
    pull = NAME(dot)(n, active, by) * scale * scale;
  }
  for (long i = 0; i < n; i++) {
    REAL open = NAME(gate)(sums[i]);
    to[i] = scale * (by[i] - pull * active[i]) * open * (1 + sums[i] * (1 - open));
  }
}

/* to += one * two. */
static inline void NAME(add_products)(long n, const REAL* one, const REAL* two,
                                      REAL* restrict to) {
  for (long i = 0; i < n; i++) to[i] += one[i] * two[i];
}

/* Gradients by one token: `by` are those by the mixed values of this token and of those after. */
static inline void NAME(unreach)(long n, long all, const REAL* taps, const REAL* const* by,
                                 REAL* restrict to) {
  const REAL *one = by[3], *two = by[2], *three = by[1], *four = by[0];
  for (long i = 0; i < n; i++)
    to[i] = taps[i] * one[i] + taps[all + i] * two[i] + taps[2 * all + i] * three[i] +
            taps[3 * all + i] * four[i];
}

/* What one token hands back; `ring` (TAPS, 3 dim) holds the gradients by the mixed values of this
   token and of those after it. Tokens before the first are the tail. */
static void NAME(unmix_token)(const Mix* mix, const ByMix* wanted, REAL* ring, long b, long t,
                              long first, long last) {
  long width = mix->width, dim = mix->heads * width, all = 3 * dim, time = mix->time;
  REAL *zeros = (REAL*)mix->space, *sums = zeros + all, *active = sums + width;
  const REAL *taps = (const REAL*)mix->taps,
             *parts[] = {(const REAL*)wanted->by_queries, (const REAL*)wanted->by_keys,
                         (const REAL*)wanted->by_values};
  REAL* by_x = t >= 0 ? (REAL*)wanted->by_x + (b * time + t) * all
                      : (REAL*)wanted->by_tail + ((b + 1) * (TAPS - 1) + t) * all;
  for (long part = 0; part < 3; part++)
    for (long h = first; h < last; h++) {
      const REAL *from[TAPS], *by[TAPS];
      long at = part * dim + h * width;
      REAL* mine = ring + ((t + TAPS) % TAPS) * all + at;
      for (long i = 0; i < TAPS; i++) by[i] = ring + ((t + i + TAPS) % TAPS) * all + at;
      if (t >= 0) {
        const REAL* given = parts[part] + ((b * mix->heads + h) * time + t) * width;
        NAME(reach)(mix, zeros, b, t, at, from);
        if (t >= AHEAD + TAPS) {
          ask_for(from[0] - AHEAD * all, width * sizeof(REAL));
          ask_for(given - AHEAD * width, width * sizeof(REAL));
          ask_to_write(by_x + at - AHEAD * all, width * sizeof(REAL));
        }
        NAME(mix_some)(width, all, taps + at, from, sums, active);
        NAME(unmix)(width, part < 2, given, sums, active, mine);
        for (long i = 0; i < TAPS; i++)
          NAME(add_products)(width, mine, from[i], (REAL*)wanted->by_taps + i * all + at);
      } else memset(mine, 0, width * sizeof(REAL));
      NAME(unreach)(width, all, taps + at, by, by_x + at);
    }
}

static void NAME(mix_rows)(const Mix* mix, long first, long last) {
  for (long r = first, end; r < last; r = end) {
    long b = r / mix->heads, before = b * mix->heads;
    end = before + mix->heads < last ? before + mix->heads : last;
    for (long t = 0; t < mix->time; t++) NAME(mix_token)(mix, b, t, r - before, end - before);
    if (mix->tail_end) NAME(mix_tail)(mix, b, r - before, end - before);
  }
}

/* From the last token to the first, so that what a token hands back to its past is at hand. */
static void NAME(unmix_rows)(const Mix* mix, const ByMix* wanted, long first, long last) {
  long all = 3 * mix->heads * mix->width;
  REAL* ring = (REAL*)mix->space + all + 2 * mix->width;
  for (long r = first, end; r < last; r = end) {
    long b = r / mix->heads, before = b * mix->heads;
    end = before + mix->heads < last ? before + mix->heads : last;
    memset(ring, 0, TAPS * all * sizeof(REAL));
    for (long t = mix->time - 1; t >= (wanted->by_tail ? 1 - TAPS : 0); t--)
      NAME(unmix_token)(mix, wanted, ring, b, t, r - before, end - before);
  }
}
#undef NEARLY_ZERO
