/* What stands around the reading of one token: a head's query, key, value and rates from the
   layer's projections, and the norm and the gate of what was read. */

typedef struct {
  const REAL *base[MOST_LAYERS], *anchor[MOST_LAYERS], *drift[MOST_LAYERS], *surge[MOST_LAYERS];
  REAL *q, *k, *v, *out;
  REAL *z[MOST_LAYERS + 1], *before[MOST_LAYERS], *errors[MOST_LAYERS], *pulled;
  REAL keep, held, room, theta;
  REAL fade, carry, *reach; /* the last row of `mix` */
  REAL* alike;              /* products with the chunk's tokens */
  REAL* mine;               /* this token's block */
  const REAL* block;        /* the first token's */
  long stride, slot, first;
} NAME(Here);

/* Some channels of the convolution through SiLU, and their tail moved on. */
static void NAME(convolve)(const Call* call, const Token* token, long b, long channel, REAL* to) {
  long n = call->widths[0], width = 3 * call->heads * n, past = token->kernel - 1;
  const REAL *taps = (const REAL*)token->taps + channel,
             *tail = (const REAL*)token->tail + b * past * width + channel,
             *now = (const REAL*)token->mixed + b * width + channel;
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

static void NAME(token_given)(const Call* call, const Token* token, long b, long head,
                              NAME(Here) * here) {
  long width = call->widths[0], dim = call->heads * width;
  NAME(convolve)(call, token, b, head * width, here->q);
  NAME(convolve)(call, token, b, dim + head * width, here->k);
  NAME(convolve)(call, token, b, 2 * dim + head * width, here->v);
  NAME(make_unit)(width, here->q);
  NAME(make_unit)(width, here->k);
  const REAL* logits = (const REAL*)token->logits + b * 3 * call->heads + head;
  here->keep = token->forgets ? NAME(gate)(logits[0]) : 1;
  here->held = token->surges ? NAME(gate)(logits[call->heads]) : 0;
  here->room = token->surges ? NAME(gate)(-logits[call->heads]) : 1;
  here->theta = (REAL)token->most_step * NAME(gate)(logits[2 * call->heads]);
}

/* Norm, gain and gate of what one head has read. */
static void NAME(leave_head)(const Call* call, const Token* token, long b, long head,
                             const REAL* read) {
  long width = call->widths[0], dim = call->heads * width, at = head * width;
  REAL by = 1 / NAME(root)(NAME(dot)(width, read, read) / width + (REAL)1e-6);
  const REAL *gain = (const REAL*)token->gain + at, *gate = (const REAL*)token->gate + b * dim + at;
  REAL* out = (REAL*)token->out + b * dim + at;
  for (long j = 0; j < width; j++)
    out[j] = read[j] * by * gain[j] * gate[j] * NAME(gate)(gate[j]);
}
