/* Arguments of a call, mirrored in titans_seq/ops/cpu/library.py. Tensors are contiguous unless
   strides are given. A row is one head of one sequence. */

#include <stddef.h>

#define MOST_LAYERS 4

/* A contiguous tensor: its address, null if it is missing, and how many bytes lie there. Nothing is
   read or written before checks.h has compared the bytes with what the call needs. */
typedef struct {
  void* at;
  size_t bytes;
} Buffer;

typedef struct {
  long layers, chunk, chunks, heads, batch;
  long widths[MOST_LAYERS + 1];
  long triangular; /* else plain steps, divided by `shared` */
  long gelu;       /* else SiLU */
  long exact;      /* one layer, the gradient at every token */
  long decay_first;
  double shared;
  double bound; /* on the size of one token's gradient; 0: none */
  double tiny;
} Call;

/* Vectors (batch, heads, time, dim) of any strides but the last, which is 1. */
typedef struct {
  const void* at;
  size_t bytes;           /* from `at` to the end of the memory */
  long batch, head, time; /* strides, in numbers */
} Tokens;

typedef struct {
  Tokens queries, keys, values;
  Buffer keep, decay, headroom, step, write; /* (batch, heads, time) */
  Buffer base[MOST_LAYERS];                  /* (heads, inner, outer); may be missing */
  Buffer weights[MOST_LAYERS];               /* (heads, batch, inner, outer); may be missing */
  Buffer momentum[MOST_LAYERS];              /* likewise */
  Buffer out, loss;                          /* (batch, heads, time[, dim]) */
  Buffer weights_end[MOST_LAYERS], momentum_end[MOST_LAYERS]; /* may be missing */
  /* an open chunk, of which `slot` tokens were read before: the weights at its start; and its
     tokens' unit inputs (heads, batch, open, inner) and spent shares (heads, batch, open), which
     this call extends */
  Buffer anchor[MOST_LAYERS], units[MOST_LAYERS], spent[MOST_LAYERS];
  long slot, open;
  Buffer tape; /* (batch, heads, chunks, tape_size); may be missing */
  Buffer space;
} Forward;

typedef struct {
  Buffer by_out, by_loss;                                           /* may be missing */
  Buffer by_weights_end[MOST_LAYERS], by_momentum_end[MOST_LAYERS]; /* likewise */
  Buffer by_queries, by_keys, by_values, by_keep, by_decay, by_step;
  Buffer by_base[MOST_LAYERS]; /* (batch, heads, inner, outer) */
  Buffer by_weights[MOST_LAYERS], by_momentum[MOST_LAYERS];
} Backward;
