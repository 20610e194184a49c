/* What one call hands over; the mirror of titans_seq/ops/kernels.py. Tensors are contiguous
   unless strides are given. Rows are the heads of the sequences. */

#define MOST_LAYERS 4

typedef struct {
  long layers, chunk, chunks, heads, batch;
  long widths[MOST_LAYERS + 1];
  long triangular; /* else plain steps, divided by `shared` */
  long gelu;       /* else SiLU */
  long exact;      /* one layer, the gradient at every token */
  long decay_first;
  double shared;
  double bound; /* on one token's gradient; none if not above 0 */
  double tiny;
} Call;

typedef struct {
  const void* at;
  long batch, head, time; /* strides, in numbers */
} Tokens;

typedef struct {
  Tokens queries, keys, values;
  const void *keep, *momentum, *room, *step, *write; /* (batch, heads, time) */
  const void* base[MOST_LAYERS];                     /* (heads, inner, outer); may be missing */
  const void* drift[MOST_LAYERS];                    /* (heads, batch, inner, outer); likewise */
  const void* surge[MOST_LAYERS];                    /* the momentum S, likewise */
  void *out, *loss;                                  /* (batch, heads, time[, dim]) */
  void *drift_end[MOST_LAYERS], *surge_end[MOST_LAYERS];
  /* an open chunk, of which `slot` tokens were read before: its first drift; and the unit inputs
     (heads, batch, open, inner) and shares spent (heads, batch, open) of its tokens, added to */
  const void* anchor[MOST_LAYERS];
  void *units[MOST_LAYERS], *spent[MOST_LAYERS];
  long slot, open;
  void* tape; /* (batch, heads, chunks, kept), see tape_size; may be missing */
  void* space;
} Forward;

typedef struct {
  const void *by_out, *by_loss;                                      /* may be missing */
  const void *by_drift_end[MOST_LAYERS], *by_surge_end[MOST_LAYERS]; /* likewise */
  void *by_queries, *by_keys, *by_values, *by_keep, *by_momentum, *by_step;
  void* by_base[MOST_LAYERS]; /* (batch, heads, inner, outer) */
  void *by_drift[MOST_LAYERS], *by_surge[MOST_LAYERS];
} Backward;
