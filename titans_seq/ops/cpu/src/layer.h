/* What stands before and after the memory in its layer; the mirror of
   titans_seq/ops/cpu/features.py. Tensors are contiguous. */

#define TAPS 4 /* of the convolution */

typedef struct {
  long batch, heads, time, width;   /* width: of one head */
  const void *x, *tail, *taps;      /* (batch, time | TAPS - 1, 3 dim), (TAPS, 3 dim); the tail may
                                       be missing */
  void *queries, *keys, *values;    /* (batch, heads, time, width) */
  void* tail_end;                   /* as the tail; may be missing */
  void* space;                      /* zeros: 3 dim and 2 width numbers, and 12 dim backward */
} Mix;

typedef struct {
  const void *by_queries, *by_keys, *by_values;
  void *by_x, *by_tail, *by_taps; /* the tail's may be missing; the taps' are added to */
} ByMix;

typedef struct {
  long batch, heads, time, width;
  const void *reads, *gate, *gain; /* (batch, heads, time, width), (batch, time, dim), (dim) */
  void* out;                       /* (batch, time, dim) */
  double tiny;                     /* added to the mean square */
} Leave;

typedef struct {
  const void* by_out;
  void *by_reads, *by_gate, *by_gain; /* the gain's are added to */
} ByLeave;

#define AHEAD 8 /* tokens: so much earlier than needed is a head's part asked of the memory, whose
                   own guesses fail with as many streams as there are heads, three times */

static inline void ask_for(const void* at, long bytes) {
  for (long i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)at + i);
}
static inline void ask_to_write(void* at, long bytes) {
  for (long i = 0; i < bytes; i += 64) __builtin_prefetch((char*)at + i, 1);
}
