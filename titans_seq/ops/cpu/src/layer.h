/* Arguments of the memory's input features and output gate, mirrored in
   titans_seq/ops/cpu/features.py. Tensors are contiguous. */

#define TAPS 4 /* of the convolution */

typedef struct {
  long batch, heads, time, width; /* width: of one head */
  Buffer x;                       /* (batch, time, 3 dim) */
  Buffer tail;                    /* (batch, TAPS - 1, 3 dim); may be missing */
  Buffer taps;                    /* (TAPS, 3 dim) */
  Buffer queries, keys, values;   /* (batch, heads, time, width) */
  Buffer tail_end;                /* as the tail; may be missing */
  Buffer space;                   /* zeros: 3 dim + 2 width numbers, and TAPS * 3 dim backward */
} Mix;

typedef struct {
  Buffer by_queries, by_keys, by_values;
  Buffer by_x, by_tail, by_taps; /* the tail's may be missing; the taps' are added to */
} ByMix;

typedef struct {
  long batch, heads, time, width;
  Buffer reads, gate, gain; /* (batch, heads, time, width), (batch, time, dim), (dim) */
  Buffer out;               /* (batch, time, dim) */
  double tiny;              /* added to the mean square */
} Leave;

typedef struct {
  Buffer by_out;
  Buffer by_reads, by_gate, by_gain; /* the gain's are added to */
} ByLeave;

#define AHEAD                                                                           \
  8 /* tokens that a head's values are prefetched ahead of use: the hardware prefetcher \
       cannot follow three streams for each head */

static inline void prefetch(const void* at, long bytes) {
  for (long i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)at + i);
}
static inline void prefetch_for_write(void* at, long bytes) {
  for (long i = 0; i < bytes; i += 64) __builtin_prefetch((char*)at + i, 1);
}
