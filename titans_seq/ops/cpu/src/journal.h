/* What a call for one token hands over, the mirror of titans_seq/ops/cpu/open.py, and how the
   journal of an open chunk is laid out. Tensors are contiguous. */

typedef struct {
  const void *anchor[MOST_LAYERS]; /* drift at the chunk's start, (heads, batch, inner, outer) */
  const void *drift[MOST_LAYERS], *surge[MOST_LAYERS]; /* after the first `first` tokens */
  long first;
} Opened;

/* What the layer around the memory has learned; matrices of projections are (to, from). */
typedef struct {
  const void* enter; /* (3 dim, dim): to queries, keys and values of all heads */
  const void* taps;  /* (kernel, 3 dim), the newest last */
  const void *rates, *rates_bias; /* (3 heads, dim), (3 heads): keep, momentum and step */
  const void* gain;               /* (dim) */
  const void *gate, *leave;       /* (dim, dim) */
  const void* base[MOST_LAYERS];  /* (heads, inner, outer) */
  long kernel, forgets, surges;
  double most_step;
} Learned;

typedef struct {
  const void* token;           /* (batch, dim), its rows `apart` numbers apart */
  const void* tail;            /* (batch, kernel - 1, 3 dim): the past's, projected */
  void *tail_end, *out, *loss; /* as tail; (batch, dim); (batch) */
  void* journal;               /* (heads, batch, journal_row); none for the exact form */
  void *drift_end, *surge_end; /* of the exact form only */
  void* space;
  long slot, apart;
} Token;

typedef struct {
  const void* journal;
  void *drift[MOST_LAYERS], *surge[MOST_LAYERS]; /* (heads, batch, inner, outer) */
  void* space;
  long length; /* tokens of the journal that they shall hold */
} Settled;

/* Where the tokens of a chunk stand in a row's journal: per layer their unit inputs and their
   changes, (chunk, inner) and (chunk, outer); then, (chunk) each, per layer what they have spent
   and how long their inputs are, and last how much of drift and momentum they keep. */
static long open_units(const Call* call, int l) {
  long at = 0;
  for (int i = 0; i < l; i++) at += call->widths[i] + call->widths[i + 1];
  return at * call->chunk;
}
static long open_changes(const Call* call, int l) {
  return open_units(call, l) + call->widths[l] * call->chunk;
}
static long open_spent(const Call* call, int l) {
  return open_units(call, call->layers) + 2 * l * call->chunk;
}
static long open_lengths(const Call* call, int l) { return open_spent(call, l) + call->chunk; }
static long open_kept(const Call* call) { return open_spent(call, call->layers); }
static long open_held(const Call* call) { return open_kept(call) + call->chunk; }
static long open_row(const Call* call) { return (open_held(call) + call->chunk + 15) / 16 * 16; }

static long open_widest(const Call* call) {
  long most = 0;
  for (int l = 0; l <= call->layers; l++) most = call->widths[l] > most ? call->widths[l] : most;
  return most;
}

/* Numbers of working memory that a token of `rows` sequences takes: what is projected, and at
   most five vectors a layer and five more. */
static long open_space(const Call* call, long rows) {
  long dim = call->heads * call->widths[0];
  return rows * (6 * dim + 3 * call->heads) + 80 + 2 * (call->chunk + 16) +
         5 * (call->layers + 1) * (open_widest(call) + 16);
}

/* The same where a chunk's state is written out. */
static long settle_space(const Call* call) {
  return call->chunk + 2 * call->chunk * open_widest(call) + 64;
}
