/* Checks of every argument before a call touches it. Each function returns null, or the name of the
   first buffer or size that does not fit; whoever calls from Python raises that as an error. */

/* The product of `count` sizes; SIZE_MAX, which no buffer holds, if it overflows or one is
   negative. */
static size_t product_of(const long* sizes, int count) {
  size_t product = 1;
  for (int i = 0; i < count; i++)
    if (sizes[i] < 0 || __builtin_mul_overflow(product, (size_t)sizes[i], &product))
      return SIZE_MAX;
  return product;
}

static int holds(Buffer buffer, size_t needed) {
  return !needed || (buffer.at && needed != SIZE_MAX && needed <= buffer.bytes);
}

/* Numbers of `width` bytes; the sizes are the rest of the arguments. */
#define BYTES(...)                               \
  product_of((const long[]){width, __VA_ARGS__}, \
             sizeof((const long[]){width, __VA_ARGS__}) / sizeof(long))
#define NEED(buffer, name, ...) \
  if (!holds(buffer, BYTES(__VA_ARGS__))) return name
#define NEED_IF_GIVEN(buffer, name, ...) \
  if ((buffer).at) NEED(buffer, name, __VA_ARGS__)
#define REQUIRE(condition, name) \
  if (!(condition)) return name

/* One size that is also used as an int. */
static int is_size(long size) { return size >= 1 && size <= INT_MAX; }

static const char* check_sizes(const Call* call) {
  REQUIRE(call->layers >= 1 && call->layers <= MOST_LAYERS, "layers");
  REQUIRE(is_size(call->chunk) && is_size(call->heads), "chunk or heads");
  REQUIRE(call->chunks >= 0 && call->chunks <= INT_MAX, "chunks");
  REQUIRE(call->batch >= 0 && call->batch <= INT_MAX, "batch");
  for (int l = 0; l <= call->layers; l++) REQUIRE(is_size(call->widths[l]), "widths");
  for (int l = 0; l < call->layers; l++)
    REQUIRE(call->widths[l] <= INT_MAX / call->widths[l + 1], "widths");
  REQUIRE(call->widths[0] == call->widths[call->layers], "widths");
  REQUIRE(!call->exact || call->layers == 1, "layers");
  /* masks, (chunk, chunk + 2), and working memory, far from overflow */
  REQUIRE(call->chunk <= 1 << 24 && widest_layer(call) <= 1 << 20, "chunk or widths");
  return 0;
}

static const char* check_rows(long first, long last, long rows) {
  REQUIRE(first >= 0 && first <= last && last <= rows, "rows");
  return 0;
}

/* Strided vectors: the last number of the last vector lies within the memory. */
static int holds_vectors(Tokens tokens, const Call* call, long time, long width) {
  if (!call->batch || !time) return 1;
  if (tokens.batch < 0 || tokens.head < 0 || tokens.time < 0) return 0;
  size_t counts[] = {call->batch - 1, call->heads - 1, time - 1};
  size_t strides[] = {tokens.batch, tokens.head, tokens.time}, last = call->widths[0];
  for (int i = 0; i < 3; i++) {
    size_t offset;
    if (__builtin_mul_overflow(counts[i], strides[i], &offset) ||
        __builtin_add_overflow(last, offset, &last))
      return 0;
  }
  return tokens.at && last <= tokens.bytes / width;
}

/* Both directions of whole chunks, or of some tokens of one chunk. */
static const char* check_call(const Call* call, const Forward* given, long first, long last,
                              long width, int backward) {
  const char* wrong = check_sizes(call);
  if (!wrong) wrong = check_rows(first, last, call->batch * call->heads);
  if (wrong) return wrong;
  long heads = call->heads, batch = call->batch, time = call->chunk * call->chunks;
  REQUIRE(holds_vectors(given->queries, call, time, width), "queries");
  REQUIRE(holds_vectors(given->keys, call, time, width), "keys");
  REQUIRE(holds_vectors(given->values, call, time, width), "values");
  NEED(given->keep, "keep", batch, heads, time);
  NEED(given->decay, "decay", batch, heads, time);
  NEED(given->headroom, "headroom", batch, heads, time);
  NEED(given->step, "step", batch, heads, time);
  NEED(given->write, "write", batch, heads, time);
  for (int l = 0; l < call->layers; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    NEED_IF_GIVEN(given->base[l], "base", heads, inner, outer);
    NEED_IF_GIVEN(given->weights[l], "weights", heads, batch, inner, outer);
    NEED_IF_GIVEN(given->momentum[l], "momentum", heads, batch, inner, outer);
    NEED_IF_GIVEN(given->weights_end[l], "weights_end", heads, batch, inner, outer);
    NEED_IF_GIVEN(given->anchor[l], "anchor", heads, batch, inner, outer);
    if (given->weights_end[l].at)
      NEED(given->momentum_end[l], "momentum_end", heads, batch, inner, outer);
    REQUIRE(!given->anchor[l].at || !backward, "anchor");
    REQUIRE(!given->units[l].at || given->anchor[l].at, "anchor");
    if (!given->units[l].at) continue;
    /* tokens of one open chunk, behind those read before */
    REQUIRE(given->slot >= 0 && given->open >= call->chunk, "slot");
    REQUIRE(call->chunks == 1 && given->slot <= given->open - call->chunk, "slot");
    NEED(given->units[l], "units", heads, batch, given->open, inner);
    NEED(given->spent[l], "spent", heads, batch, given->open);
  }
  long kept = tape_size_float_plain(call);
  NEED_IF_GIVEN(given->tape, "tape", batch, heads, call->chunks, kept);
  long space = width == sizeof(double) ? workspace_double_plain(call, backward)
                                       : workspace_float_plain(call, backward);
  REQUIRE(holds(given->space, space), "space");
  if (backward) {
    NEED(given->tape, "tape", batch, heads, call->chunks, kept);
    return 0;
  }
  NEED(given->out, "out", batch, heads, time, call->widths[0]);
  NEED(given->loss, "loss", batch, heads, time);
  return 0;
}

static const char* check_backward(const Call* call, const Backward* wanted, long width) {
  long heads = call->heads, batch = call->batch, time = call->chunk * call->chunks;
  long dim = call->widths[0];
  NEED_IF_GIVEN(wanted->by_out, "by_out", batch, heads, time, dim);
  NEED_IF_GIVEN(wanted->by_loss, "by_loss", batch, heads, time);
  NEED(wanted->by_queries, "by_queries", batch, heads, time, dim);
  NEED(wanted->by_keys, "by_keys", batch, heads, time, dim);
  NEED(wanted->by_values, "by_values", batch, heads, time, dim);
  NEED(wanted->by_keep, "by_keep", batch, heads, time);
  NEED(wanted->by_decay, "by_decay", batch, heads, time);
  NEED(wanted->by_step, "by_step", batch, heads, time);
  for (int l = 0; l < call->layers; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    NEED_IF_GIVEN(wanted->by_weights_end[l], "by_weights_end", heads, batch, inner, outer);
    NEED_IF_GIVEN(wanted->by_momentum_end[l], "by_momentum_end", heads, batch, inner, outer);
    NEED(wanted->by_base[l], "by_base", heads, batch, inner, outer);
    NEED(wanted->by_weights[l], "by_weights", heads, batch, inner, outer);
    NEED(wanted->by_momentum[l], "by_momentum", heads, batch, inner, outer);
  }
  return 0;
}

static const char* check_start(const Call* call, const ChunkStart* start, long width) {
  for (int l = 0; l < call->layers; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    NEED(start->anchor[l], "anchor", call->heads, call->batch, inner, outer);
    NEED(start->weights[l], "weights", call->heads, call->batch, inner, outer);
    NEED(start->momentum[l], "momentum", call->heads, call->batch, inner, outer);
  }
  return 0;
}

static const char* check_learned(const Call* call, const Learned* learned, long width) {
  long heads = call->heads, dim = heads * call->widths[0];
  REQUIRE(learned->kernel >= 1 && learned->kernel <= INT_MAX, "kernel");
  NEED(learned->enter, "enter", 3 * dim, dim);
  NEED(learned->taps, "taps", learned->kernel, 3 * dim);
  NEED(learned->rates, "rates", 3 * heads, dim);
  NEED(learned->rates_bias, "rates_bias", 3 * heads);
  NEED(learned->gain, "gain", dim);
  NEED(learned->gate, "gate", dim, dim);
  NEED(learned->leave, "leave", dim, dim);
  for (int l = 0; l < call->layers; l++)
    NEED(learned->base[l], "base", heads, call->widths[l], call->widths[l + 1]);
  return 0;
}

static const char* check_token(const Call* call, const ChunkStart* start, const Learned* learned,
                               const Token* token, long first, long last, long width) {
  const char* wrong = check_sizes(call);
  if (!wrong) wrong = check_rows(first, last, call->batch);
  if (!wrong) wrong = check_start(call, start, width);
  if (!wrong) wrong = check_learned(call, learned, width);
  if (wrong) return wrong;
  long heads = call->heads, batch = call->batch, dim = heads * call->widths[0];
  long past = learned->kernel - 1, stride = token->token_stride;
  REQUIRE(stride >= 0 && stride <= INT_MAX, "token");
  if (batch) NEED(token->token, "token", (batch - 1) * stride + dim);
  NEED(token->tail, "tail", batch, past, 3 * dim);
  NEED(token->tail_end, "tail_end", batch, past, 3 * dim);
  NEED(token->out, "out", batch, dim);
  NEED(token->loss, "loss", batch);
  NEED(token->space, "space", token_workspace(call, last - first));
  if (call->exact) {
    NEED(token->weights_end, "weights_end", heads, batch, call->widths[0], call->widths[0]);
    NEED(token->momentum_end, "momentum_end", heads, batch, call->widths[0], call->widths[0]);
    return 0;
  }
  REQUIRE(start->first >= 0 && start->first <= token->slot && token->slot < call->chunk, "slot");
  NEED(token->journal, "journal", heads, batch, journal_row(call));
  return 0;
}

static const char* check_materialise(const Call* call, const ChunkStart* start,
                                     const Materialised* to, long width) {
  const char* wrong = check_sizes(call);
  if (!wrong) wrong = check_start(call, start, width);
  if (wrong) return wrong;
  REQUIRE(start->first >= 0 && start->first < to->length && to->length <= call->chunk, "length");
  NEED(to->journal, "journal", call->heads, call->batch, journal_row(call));
  NEED(to->space, "space", materialise_workspace(call));
  for (int l = 0; l < call->layers; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    NEED(to->weights[l], "weights", call->heads, call->batch, inner, outer);
    NEED(to->momentum[l], "momentum", call->heads, call->batch, inner, outer);
  }
  return 0;
}

/* Sizes of the features: (batch, heads, time, width of a head). */
static const char* check_heads(long batch, long heads, long time, long size, long first,
                               long last) {
  REQUIRE(batch >= 0 && batch <= INT_MAX && time >= 0, "batch or time");
  REQUIRE(is_size(heads) && is_size(size) && heads <= INT_MAX / size, "heads or width");
  return check_rows(first, last, batch * heads);
}

static const char* check_mix(const Mix* mix, long first, long last, long width, int backward) {
  long batch = mix->batch, heads = mix->heads, time = mix->time, size = mix->width;
  const char* wrong = check_heads(batch, heads, time, size, first, last);
  if (wrong) return wrong;
  long all = 3 * heads * size;
  NEED(mix->x, "x", batch, time, all);
  NEED_IF_GIVEN(mix->tail, "tail", batch, TAPS - 1, all);
  NEED(mix->taps, "taps", TAPS, all);
  NEED(mix->space, "space", all * (backward ? 1 + TAPS : 1) + 2 * size);
  if (backward) return 0;
  NEED(mix->queries, "queries", batch, heads, time, size);
  NEED(mix->keys, "keys", batch, heads, time, size);
  NEED(mix->values, "values", batch, heads, time, size);
  NEED_IF_GIVEN(mix->tail_end, "tail_end", batch, TAPS - 1, all);
  return 0;
}

static const char* check_unmix(const Mix* mix, const ByMix* wanted, long width) {
  long batch = mix->batch, heads = mix->heads, time = mix->time, size = mix->width;
  NEED(wanted->by_queries, "by_queries", batch, heads, time, size);
  NEED(wanted->by_keys, "by_keys", batch, heads, time, size);
  NEED(wanted->by_values, "by_values", batch, heads, time, size);
  NEED(wanted->by_x, "by_x", batch, time, 3 * heads * size);
  NEED_IF_GIVEN(wanted->by_tail, "by_tail", batch, TAPS - 1, 3 * heads * size);
  NEED(wanted->by_taps, "by_taps", TAPS, 3 * heads * size);
  return 0;
}

static const char* check_leave(const Leave* leave, long first, long last, long width,
                               int backward) {
  long batch = leave->batch, heads = leave->heads, time = leave->time, size = leave->width;
  const char* wrong = check_heads(batch, heads, time, size, first, last);
  if (wrong) return wrong;
  NEED(leave->reads, "reads", batch, heads, time, size);
  NEED(leave->gate, "gate", batch, time, heads * size);
  NEED(leave->gain, "gain", heads * size);
  if (!backward) NEED(leave->out, "out", batch, time, heads * size);
  return 0;
}

static const char* check_unleave(const Leave* leave, const ByLeave* wanted, long width) {
  long batch = leave->batch, heads = leave->heads, time = leave->time, size = leave->width;
  NEED(wanted->by_out, "by_out", batch, time, heads * size);
  NEED(wanted->by_reads, "by_reads", batch, heads, time, size);
  NEED(wanted->by_gate, "by_gate", batch, time, heads * size);
  NEED(wanted->by_gain, "by_gain", heads * size);
  return 0;
}
