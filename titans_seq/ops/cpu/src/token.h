/* Around the read of one token: a head's query, key, value and rates from the layer's projections,
   and the norm and gate of its output. */

typedef struct {
  const REAL *base[MOST_LAYERS], *anchor[MOST_LAYERS], *weights[MOST_LAYERS],
      *momentum[MOST_LAYERS];
  REAL *q, *k, *v, *out;
  REAL *z[MOST_LAYERS + 1], *before[MOST_LAYERS], *errors[MOST_LAYERS], *pulled;
  REAL *factor[MOST_LAYERS], *first_read; /* see activation.h; the query times the first layer */
  REAL keep, decay, headroom, theta;
  REAL fade, carry, *mix_row; /* the last row of `mix` */
  REAL* similarity;           /* products with the journal's unit inputs */
  /* the row's journal, see journal.h */
  REAL *units[MOST_LAYERS], *changes[MOST_LAYERS], *spent[MOST_LAYERS], *lengths[MOST_LAYERS];
  REAL *keeps, *decays;
  long slot, first;
} NAME(TokenRow);

/* The layer's projections, (rows, ...) each, for the sequences from `first` on. */
typedef struct {
  REAL *mixed, *logits, *gate, *gated;
  long first;
} NAME(Projected);

static void NAME(project_tokens)(const Call* call, const Learned* learned, const Token* token,
                                 long first, long last, REAL** space, NAME(Projected) * to) {
  long dim = call->heads * call->widths[0], rows = last - first;
  REAL* x = NAME(reserve)(space, rows * dim);
  for (long r = 0; r < rows; r++)
    memcpy(x + r * dim, (const REAL*)token->token.at + (first + r) * token->token_stride,
           dim * sizeof(REAL));
  to->first = first;
  to->mixed = NAME(reserve)(space, rows * 3 * dim);
  to->logits = NAME(reserve)(space, rows * 3 * call->heads);
  to->gate = NAME(reserve)(space, rows * dim);
  to->gated = NAME(reserve)(space, rows * dim);
  NAME(project)(rows, dim, 3 * dim, x, learned->enter.at, to->mixed);
  NAME(project)(rows, dim, 3 * call->heads, x, learned->rates.at, to->logits);
  NAME(project)(rows, dim, dim, x, learned->gate.at, to->gate);
}

/* One head's channels of the convolution through SiLU, and their new tail. */
static void NAME(convolve)(const Call* call, const Learned* learned, const Token* token,
                           const NAME(Projected) * given, long b, long channel, REAL* to) {
  long n = call->widths[0], width = 3 * call->heads * n, past = learned->kernel - 1;
  const REAL *taps = (const REAL*)learned->taps.at + channel,
             *tail = (const REAL*)token->tail.at + b * past * width + channel,
             *now = given->mixed + (b - given->first) * width + channel;
  REAL* moved = (REAL*)token->tail_end.at + b * past * width + channel;
  for (long j = 0; j < n; j++) to[j] = taps[past * width + j] * now[j];
  for (long i = 0; i < past; i++) {
    for (long j = 0; j < n; j++) to[j] += taps[i * width + j] * tail[i * width + j];
    memcpy(moved + i * width, i + 1 < past ? tail + (i + 1) * width : now, n * sizeof(REAL));
  }
  for (long j = 0; j < n; j++) to[j] *= NAME(sigmoid)(to[j]);
}

static void NAME(make_unit)(long n, REAL* x) {
  REAL by = 1 / NAME(root)(NAME(dot)(n, x, x) + (REAL)1e-12);
  for (long j = 0; j < n; j++) x[j] *= by;
}

static void NAME(token_given)(const Call* call, const Learned* learned, const Token* token,
                              const NAME(Projected) * given, long b, long head,
                              NAME(TokenRow) * token_row) {
  long width = call->widths[0], dim = call->heads * width;
  NAME(convolve)(call, learned, token, given, b, head * width, token_row->q);
  NAME(convolve)(call, learned, token, given, b, dim + head * width, token_row->k);
  NAME(convolve)(call, learned, token, given, b, 2 * dim + head * width, token_row->v);
  NAME(make_unit)(width, token_row->q);
  NAME(make_unit)(width, token_row->k);
  const REAL *logits = given->logits + (b - given->first) * 3 * call->heads + head,
             *bias = (const REAL*)learned->rates_bias.at + head;
  long next = call->heads;
  REAL keep_logit = logits[0] + bias[0], decay_logit = logits[next] + bias[next];
  token_row->keep = learned->has_forgetting ? NAME(sigmoid)(keep_logit) : 1;
  token_row->decay = learned->has_momentum ? NAME(sigmoid)(decay_logit) : 0;
  token_row->headroom = learned->has_momentum ? NAME(sigmoid)(-decay_logit) : 1;
  token_row->theta = (REAL)learned->max_step * NAME(sigmoid)(logits[2 * next] + bias[2 * next]);
}

/* Norm, gain and gate of one head's read. */
static void NAME(leave_head)(const Call* call, const Learned* learned,
                             const NAME(Projected) * given, long b, long head, const REAL* read) {
  long width = call->widths[0], at = (b - given->first) * call->heads * width + head * width;
  REAL by = 1 / NAME(root)(NAME(dot)(width, read, read) / width + (REAL)1e-6);
  const REAL *gain = (const REAL*)learned->gain.at + head * width, *gate = given->gate + at;
  REAL* out = given->gated + at;
  for (long j = 0; j < width; j++)
    out[j] = read[j] * by * gain[j] * gate[j] * NAME(sigmoid)(gate[j]);
}
