/* The memory's output: each head's reads RMS-normalised, times learned gains and the SiLU of a
   gate; forward and backward. See titans_seq/ops/features.py. */

static inline REAL NAME(inverse_rms)(const Leave* leave, const REAL* x) {
  REAL mean = NAME(dot)(leave->width, x, x) / leave->width;
  return 1 / NAME(root)(mean + (REAL)leave->tiny);
}

static inline void NAME(leave_channels)(long n, REAL scale, const REAL* restrict reads,
                                        const REAL* restrict gate, const REAL* restrict gain,
                                        REAL* restrict out) {
  for (long i = 0; i < n; i++)
    out[i] = reads[i] * scale * gain[i] * gate[i] * NAME(sigmoid)(gate[i]);
}

static void NAME(leave_row)(const Leave* leave, long b, long h) {
  long width = leave->width, dim = leave->heads * width;
  const REAL* reads = (const REAL*)leave->reads.at + (b * leave->heads + h) * leave->time * width;
  for (long t = 0; t < leave->time; t++) {
    long at = (b * leave->time + t) * dim + h * width;
    NAME(leave_channels)(width, NAME(inverse_rms)(leave, reads + t * width), reads + t * width,
                         (const REAL*)leave->gate.at + at, (const REAL*)leave->gain.at + h * width,
                         (REAL*)leave->out.at + at);
  }
}

/* to = gradients by the normalised reads; those by gate and gain are final. */
static inline void NAME(unleave)(long n, REAL scale, const REAL* restrict reads,
                                 const REAL* restrict gate, const REAL* restrict gain,
                                 const REAL* restrict by, REAL* restrict to, REAL* restrict by_gate,
                                 REAL* restrict by_gain) {
  for (long i = 0; i < n; i++) {
    REAL sigmoid = NAME(sigmoid)(gate[i]), normed = reads[i] * scale, mine = by[i];
    REAL passed = mine * gate[i] * sigmoid;
    by_gate[i] = mine * gain[i] * normed * sigmoid * (1 + gate[i] * (1 - sigmoid));
    by_gain[i] += passed * normed;
    to[i] = passed * gain[i];
  }
}

static void NAME(unleave_row)(const Leave* leave, const ByLeave* wanted, long b, long h) {
  long width = leave->width, dim = leave->heads * width;
  long row = (b * leave->heads + h) * leave->time * width;
  const REAL* reads = (const REAL*)leave->reads.at + row;
  REAL* by_reads = (REAL*)wanted->by_reads.at + row;
  for (long t = 0; t < leave->time; t++, reads += width, by_reads += width) {
    long at = (b * leave->time + t) * dim + h * width;
    REAL scale = NAME(inverse_rms)(leave, reads);
    NAME(unleave)(width, scale, reads, (const REAL*)leave->gate.at + at,
                  (const REAL*)leave->gain.at + h * width, (const REAL*)wanted->by_out.at + at,
                  by_reads, (REAL*)wanted->by_gate.at + at, (REAL*)wanted->by_gain.at + h * width);
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
