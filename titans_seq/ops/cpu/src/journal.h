/* Arguments of a call for one token, mirrored in titans_seq/ops/cpu/journal.py, and the layout of
   an open chunk's journal. Tensors are contiguous. */

typedef struct {
  Buffer anchor[MOST_LAYERS]; /* weights at the chunk's start, (heads, batch, inner, outer) */
  Buffer weights[MOST_LAYERS], momentum[MOST_LAYERS]; /* after the first `first` tokens */
  long first;
} ChunkStart;

/* Parameters of the layer around the memory; projections are (outputs, inputs). */
typedef struct {
  Buffer enter;             /* (3 dim, dim): to queries, keys and values of all heads */
  Buffer taps;              /* (kernel, 3 dim), the newest last */
  Buffer rates, rates_bias; /* (3 heads, dim), (3 heads): keep, momentum and step */
  Buffer gain;              /* (dim) */
  Buffer gate, leave;       /* (dim, dim) */
  Buffer base[MOST_LAYERS]; /* (heads, inner, outer) */
  long kernel, has_forgetting, has_momentum;
  double max_step;
} Learned;

typedef struct {
  Buffer token;                     /* (batch, dim), rows `token_stride` numbers apart */
  Buffer tail;                      /* (batch, kernel - 1, 3 dim): of the projected past */
  Buffer tail_end, out, loss;       /* as tail; (batch, dim); (batch) */
  Buffer journal;                   /* (heads, batch, journal_row); not used by the exact form */
  Buffer weights_end, momentum_end; /* (heads, batch, dim, dim), of the exact form only */
  Buffer space;
  long slot, token_stride;
} Token;

typedef struct {
  Buffer journal;
  Buffer weights[MOST_LAYERS], momentum[MOST_LAYERS]; /* (heads, batch, inner, outer) */
  Buffer space;
  long length; /* tokens of the journal to include */
} Materialised;

/* A row's journal: per layer the tokens' unit inputs (chunk, inner) and changes (chunk, outer);
   then, (chunk) each, per layer their spent shares and the lengths of their inputs; last the
   tokens' keep and decay rates. */
static long journal_units(const Call* call, int l) {
  long at = 0;
  for (int i = 0; i < l; i++) at += call->widths[i] + call->widths[i + 1];
  return at * call->chunk;
}
static long journal_changes(const Call* call, int l) {
  return journal_units(call, l) + call->widths[l] * call->chunk;
}
static long journal_spent(const Call* call, int l) {
  return journal_units(call, call->layers) + 2 * l * call->chunk;
}
static long journal_lengths(const Call* call, int l) {
  return journal_spent(call, l) + call->chunk;
}
static long journal_keeps(const Call* call) { return journal_spent(call, call->layers); }
static long journal_decays(const Call* call) { return journal_keeps(call) + call->chunk; }
static long journal_row(const Call* call) {
  return (journal_decays(call) + call->chunk + 15) / 16 * 16;
}

static long widest_layer(const Call* call) {
  long most = 0;
  for (int l = 0; l <= call->layers; l++) most = call->widths[l] > most ? call->widths[l] : most;
  return most;
}

/* Numbers of working memory for one token of `rows` sequences: the projections, and at most five
   vectors a layer and five more. */
static long token_workspace(const Call* call, long rows) {
  long dim = call->heads * call->widths[0];
  return rows * (6 * dim + 3 * call->heads) + 80 + 2 * (call->chunk + 16) +
         5 * (call->layers + 1) * (widest_layer(call) + 16);
}

/* The same for materialising an open chunk's state. */
static long materialise_workspace(const Call* call) {
  return call->chunk + 2 * call->chunk * widest_layer(call) + 64;
}
