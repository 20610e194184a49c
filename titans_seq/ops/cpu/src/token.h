/* What stands around the reading of one token: a head's query, key, value and rates from the
   layer's projections, and the norm and the gate of what was read. */

typedef struct {
  const REAL *base[MOST_LAYERS], *anchor[MOST_LAYERS], *drift[MOST_LAYERS], *surge[MOST_LAYERS];
  REAL *q, *k, *v, *out;
  REAL *z[MOST_LAYERS + 1], *before[MOST_LAYERS], *errors[MOST_LAYERS], *pulled;
  REAL *open[MOST_LAYERS], *met; /* see activation.h; the query times the first layer */
  REAL keep, hold, room, theta;
  REAL fade, carry, *reach; /* the last row of `mix` */
  REAL* alike;              /* products with the chunk's tokens */
  /* the row's part of the journal, see journal.h */
  REAL *units[MOST_LAYERS], *changes[MOST_LAYERS], *spent[MOST_LAYERS], *lengths[MOST_LAYERS];
  REAL *kept, *held;
  long slot, first;
} NAME(Here);

/* What the layer projects, (rows, ...) each, for the sequences from `first` on. */
typedef struct {
  REAL *mixed, *logits, *gate, *gated;
  long first;
} NAME(Projected);

static void NAME(project_tokens)(const Call* call, const Learned* learned, const Token* token,
                                 long first, long last, REAL** space, NAME(Projected) * to) {
  long dim = call->heads * call->widths[0], rows = last - first;
  REAL* x = NAME(cut)(space, rows * dim);
  for (long r = 0; r < rows; r++)
    memcpy(x + r * dim, (const REAL*)token->token + (first + r) * token->apart, dim * sizeof(REAL));
  to->first = first;
  to->mixed = NAME(cut)(space, rows * 3 * dim);
  to->logits = NAME(cut)(space, rows * 3 * call->heads);
  to->gate = NAME(cut)(space, rows * dim);
  to->gated = NAME(cut)(space, rows * dim);
  NAME(project)(rows, dim, 3 * dim, x, learned->enter, to->mixed);
  NAME(project)(rows, dim, 3 * call->heads, x, learned->rates, to->logits);
  NAME(project)(rows, dim, dim, x, learned->gate, to->gate);
}

/* Some channels of the convolution through SiLU, and their tail moved on. */
static void NAME(convolve)(const Call* call, const Learned* learned, const Token* token,
                           const NAME(Projected) * given, long b, long channel, REAL* to) {
  long n = call->widths[0], width = 3 * call->heads * n, past = learned->kernel - 1;
  const REAL *taps = (const REAL*)learned->taps + channel,
             *tail = (const REAL*)token->tail + b * past * width + channel,
             *now = given->mixed + (b - given->first) * width + channel;
  REAL* moved = (REAL*)token->tail_end + b * past * width + channel;
  for (long j = 0; j < n; j++) to[j] = taps[past * width + j] * now[j];
  for (long i = 0; i < past; i++) {
    for (long j = 0; j < n; j++) to[j] += taps[i * width + j] * tail[i * width + j];
    memcpy(moved + i * width, i + 1 < past ? tail + (i + 1) * width : now, n * sizeof(REAL));
  }
  for (long j = 0; j < n; j++) to[j] *= NAME(gate)(to[j]);
}

static void NAME(make_unit)(long n, REAL* x) {
  REAL by = 1 / NAME(root)(NAME(dot)(n, x, x) + (REAL)1e-12);
  for (long j = 0; j < n; j++) x[j] *= by;
}

static void NAME(token_given)(const Call* call, const Learned* learned, const Token* token,
                              const NAME(Projected) * given, long b, long head,
                              NAME(Here) * here) {
  long width = call->widths[0], dim = call->heads * width;
  NAME(convolve)(call, learned, token, given, b, head * width, here->q);
  NAME(convolve)(call, learned, token, given, b, dim + head * width, here->k);
  NAME(convolve)(call, learned, token, given, b, 2 * dim + head * width, here->v);
  NAME(make_unit)(width, here->q);
  NAME(make_unit)(width, here->k);
  const REAL *logits = given->logits + (b - given->first) * 3 * call->heads + head,
             *bias = (const REAL*)learned->rates_bias + head;
  long next = call->heads;
  REAL keep = logits[0] + bias[0], hold = logits[next] + bias[next];
  here->keep = learned->forgets ? NAME(gate)(keep) : 1;
  here->hold = learned->surges ? NAME(gate)(hold) : 0;
  here->room = learned->surges ? NAME(gate)(-hold) : 1;
  here->theta = (REAL)learned->most_step * NAME(gate)(logits[2 * next] + bias[2 * next]);
}

/* Norm, gain and gate of what one head has read. */
static void NAME(leave_head)(const Call* call, const Learned* learned,
                             const NAME(Projected) * given, long b, long head, const REAL* read) {
  long width = call->widths[0], at = (b - given->first) * call->heads * width + head * width;
  REAL by = 1 / NAME(root)(NAME(dot)(width, read, read) / width + (REAL)1e-6);
  const REAL *gain = (const REAL*)learned->gain + head * width, *gate = given->gate + at;
  REAL* out = given->gated + at;
  for (long j = 0; j < width; j++)
    out[j] = read[j] * by * gain[j] * gate[j] * NAME(gate)(gate[j]);
}
