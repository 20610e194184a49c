/* What a call for one token hands over, the mirror of titans_seq/ops/cpu/open.py, and how the
   journal of an open chunk is laid out. */

typedef struct {
  const void *anchor[MOST_LAYERS]; /* drift at the chunk's start, (heads, batch, inner, outer) */
  const void *drift[MOST_LAYERS], *surge[MOST_LAYERS]; /* after the first `first` tokens */
  long first;
} Opened;

typedef struct {
  const void* mixed;  /* (batch, 3 dim): queries, keys and values of each head, projected */
  const void* tail;   /* (batch, kernel - 1, 3 dim): those of the tokens before */
  const void* taps;   /* (kernel, 3 dim) */
  const void* logits; /* (batch, 3 heads): keep, momentum, step */
  const void* gain;   /* (dim) */
  const void* gate;   /* (batch, dim) */
  const void* base[MOST_LAYERS];
  void *tail_end, *out, *loss; /* as tail; (batch, dim); (batch) */
  void* journal;               /* (chunk, heads, batch, block); none for the exact form */
  void *drift_end, *surge_end; /* of the exact form only */
  void* space;
  long kernel, slot, forgets, surges;
  double most_step;
} Token;

typedef struct {
  const void* journal;
  void *drift[MOST_LAYERS], *surge[MOST_LAYERS]; /* (heads, batch, inner, outer) */
  void* space;
  long length; /* tokens of the journal that they shall hold */
} Settled;

/* Where a token's numbers stand in its block: per layer unit inputs and changes, then what each
   layer has spent, the length of each layer's input, keep and momentum. */
static long open_units(const Call* call, int l) {
  long at = 0;
  for (int i = 0; i < l; i++) at += call->widths[i] + call->widths[i + 1];
  return at;
}
static long open_change(const Call* call, int l) {
  return open_units(call, l) + call->widths[l];
}
static long open_spent(const Call* call, int l) { return open_units(call, call->layers) + l; }
static long open_length(const Call* call, int l) { return open_spent(call, call->layers) + l; }
static long open_rates(const Call* call) { return open_length(call, call->layers); }
static long open_block(const Call* call) { return (open_rates(call) + 2 + 15) / 16 * 16; }

static long open_widest(const Call* call) {
  long most = 0;
  for (int l = 0; l <= call->layers; l++) most = call->widths[l] > most ? call->widths[l] : most;
  return most;
}

/* Numbers of working memory that a token takes: at most four vectors a layer and four more. */
static long open_space(const Call* call) {
  return 2 * (call->chunk + 16) + 4 * (call->layers + 1) * (open_widest(call) + 16);
}

/* The same where a chunk's state is written out. */
static long settle_space(const Call* call) {
  return call->chunk + 2 * call->chunk * open_widest(call) + 64;
}
