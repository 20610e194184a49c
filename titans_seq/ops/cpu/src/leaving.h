/* What the memory has read, each head divided by the root of its mean square, times learned gains
   and the SiLU of a gate; forward and backward. See titans_seq/ops/features.py. */

static inline REAL NAME(evened)(const Leave* leave, const REAL* x) {
  REAL mean = NAME(dot)(leave->width, x, x) / leave->width;
  return 1 / NAME(root)(mean + (REAL)leave->tiny);
}

static inline void NAME(leave_some)(long n, REAL scale, const REAL* restrict reads,
                                    const REAL* restrict gate, const REAL* restrict gain,
                                    REAL* restrict out) {
  for (long i = 0; i < n; i++)
    out[i] = reads[i] * scale * gain[i] * gate[i] * NAME(gate)(gate[i]);
}

static void NAME(leave_row)(const Leave* leave, long b, long h) {
  long width = leave->width, dim = leave->heads * width;
  const REAL* reads = (const REAL*)leave->reads + (b * leave->heads + h) * leave->time * width;
  for (long t = 0; t < leave->time; t++) {
    long at = (b * leave->time + t) * dim + h * width;
    NAME(leave_some)(width, NAME(evened)(leave, reads + t * width), reads + t * width,
                     (const REAL*)leave->gate + at, (const REAL*)leave->gain + h * width,
                     (REAL*)leave->out + at);
  }
}

/* to = the gradients by the normalised reads; the gate's and the gain's are final. */
static inline void NAME(unleave)(long n, REAL scale, const REAL* restrict reads,
                                 const REAL* restrict gate, const REAL* restrict gain,
                                 const REAL* restrict by, REAL* restrict to,
                                 REAL* restrict by_gate, REAL* restrict by_gain) {
  for (long i = 0; i < n; i++) {
    REAL open = NAME(gate)(gate[i]), normed = reads[i] * scale, mine = by[i];
    REAL passed = mine * gate[i] * open;
    by_gate[i] = mine * gain[i] * normed * open * (1 + gate[i] * (1 - open));
    by_gain[i] += passed * normed;
    to[i] = passed * gain[i];
  }
}

static void NAME(unleave_row)(const Leave* leave, const ByLeave* wanted, long b, long h) {
  long width = leave->width, dim = leave->heads * width;
  long row = (b * leave->heads + h) * leave->time * width;
  const REAL* reads = (const REAL*)leave->reads + row;
  REAL* by_reads = (REAL*)wanted->by_reads + row;
  for (long t = 0; t < leave->time; t++, reads += width, by_reads += width) {
    long at = (b * leave->time + t) * dim + h * width;
    REAL scale = NAME(evened)(leave, reads);
    NAME(unleave)(width, scale, reads, (const REAL*)leave->gate + at,
                  (const REAL*)leave->gain + h * width, (const REAL*)wanted->by_out + at, by_reads,
                  (REAL*)wanted->by_gate + at, (REAL*)wanted->by_gain + h * width);
    REAL pull = NAME(dot)(width, reads, by_reads) / width * scale * scale;
    for (long i = 0; i < width; i++) by_reads[i] = scale * (by_reads[i] - pull * reads[i]);
  }
}

static void NAME(leave_rows)(const Leave* leave, long first, long last) {
  for (long r = first; r < last; r++) NAME(leave_row)(leave, r / leave->heads, r % leave->heads);
}

static void NAME(unleave_rows)(const Leave* leave, const ByLeave* wanted, long first, long last) {
  for (long r = first; r < last; r++)
    NAME(unleave_row)(leave, wanted, r / leave->heads, r % leave->heads);
}
