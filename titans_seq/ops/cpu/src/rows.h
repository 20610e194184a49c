/* The rows of a call, each chunk by chunk: loads, state, tape, and the entry points. */

static void NAME(load)(const Call* call, const Forward* given, NAME(Row) * row, long b, long h,
                       long first) {
  const Tokens* from[] = {&given->queries, &given->keys, &given->values};
  REAL* to[] = {row->h[0], row->z[0], row->values};
  long c = call->chunk, dim = call->widths[0], time = c * call->chunks;
  for (int i = 0; i < 3; i++)
    for (long t = 0; t < c; t++)
      memcpy(to[i] + t * dim,
             (const REAL*)from[i]->at + b * from[i]->batch + h * from[i]->head +
                 (first + t) * from[i]->time,
             dim * sizeof(REAL));
  const void* rates[] = {given->keep.at, given->decay.at, given->headroom.at, given->step.at,
                         given->write.at};
  REAL* places[] = {row->keep, row->decay, row->headroom, row->theta, row->write};
  for (int i = 0; i < 5; i++)
    memcpy(places[i], (const REAL*)rates[i] + (b * call->heads + h) * time + first,
           c * sizeof(REAL));
}

static void NAME(find_bases)(const Call* call, const Forward* given, long h, const REAL** base) {
  for (int l = 0; l < call->layers; l++)
    base[l] = given->base[l].at
                  ? (const REAL*)given->base[l].at + h * call->widths[l] * call->widths[l + 1]
                  : 0;
}

/* The state before the first chunk. */
static void NAME(initial_state)(const Call* call, const Forward* given, long b, long h,
                                const REAL** weights, const REAL** momentum) {
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    weights[l] = given->weights[l].at ? (const REAL*)given->weights[l].at + at : 0;
    momentum[l] = given->momentum[l].at ? (const REAL*)given->momentum[l].at + at : 0;
  }
}

static void NAME(load_state)(const Call* call, NAME(Row) * row, const REAL* const* base,
                             const REAL* const* weights, const REAL* const* momentum) {
  row->has_state = call->exact;
  for (int l = 0; l < call->layers; l++) {
    row->has_state |= weights[l] || momentum[l];
    for (long i = 0; i < call->widths[l] * call->widths[l + 1]; i++) {
      row->weights[l][i] = weights[l] ? weights[l][i] : 0;
      row->momentum[l][i] = momentum[l] ? momentum[l][i] : 0;
      row->full_weights[l][i] = row->weights[l][i] + (base[l] ? base[l][i] : 0);
    }
  }
}

/* Where gradients are taken: at the present weights, or in an open chunk at its anchor. */
static void NAME(set_anchor)(const Call* call, const Forward* given, NAME(Row) * row,
                             const REAL* const* base, long at) {
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1];
    if (!given->anchor[l].at) {
      row->full_anchor[l] = row->full_weights[l];
      continue;
    }
    const REAL* anchor = (const REAL*)given->anchor[l].at + at * n;
    for (long i = 0; i < n; i++) row->full_anchor[l][i] = anchor[i] + (base[l] ? base[l][i] : 0);
    row->slot = given->slot;
    if (!given->units[l].at) continue;
    row->units[l] = (REAL*)given->units[l].at + at * given->open * call->widths[l];
    row->spent[l] = (REAL*)given->spent[l].at + at * given->open;
  }
}

static long NAME(state_size)(const Call* call) {
  long size = 0;
  for (int l = 0; l < call->layers; l++) size += 2 * call->widths[l] * call->widths[l + 1];
  return size;
}

/* Numbers that a chunk keeps for its backward pass: the state at its start, and the reads of the
   layers below the last. */
static long NAME(tape_size)(const Call* call) {
  long size = NAME(state_size)(call);
  for (int l = 0; l + 1 < call->layers; l++) size += call->chunk * call->widths[l + 1];
  return size;
}

static void NAME(keep_state)(const Call* call, NAME(Row) * row, REAL* tape) {
  for (int l = 0; l < call->layers && row->has_state; l++) {
    long n = call->widths[l] * call->widths[l + 1];
    memcpy(tape, row->weights[l], n * sizeof(REAL));
    memcpy(tape + n, row->momentum[l], n * sizeof(REAL));
    tape += 2 * n;
  }
}

static void NAME(keep_reads)(const Call* call, NAME(Row) * row, REAL* tape) {
  tape += NAME(state_size)(call);
  for (int l = 0; l + 1 < call->layers; l++) {
    long n = call->chunk * call->widths[l + 1];
    memcpy(tape, row->reads[l], n * sizeof(REAL));
    tape += n;
  }
}

static void NAME(forward_row)(const Call* call, const Forward* given, REAL* space, long b, long h) {
  NAME(Row) row;
  NAME(lay_out)(call, space, &row);
  long c = call->chunk, dim = call->widths[0], place = b * call->heads + h, time = c * call->chunks;
  const REAL *base[MOST_LAYERS] = {0}, *weights[MOST_LAYERS] = {0}, *momentum[MOST_LAYERS] = {0};
  NAME(find_bases)(call, given, h, base);
  NAME(initial_state)(call, given, b, h, weights, momentum);
  NAME(load_state)(call, &row, base, weights, momentum);
  NAME(set_anchor)(call, given, &row, base, h * call->batch + b);
  for (long i = 0; i < call->chunks; i++) {
    REAL* tape = (REAL*)given->tape.at;
    if (tape) tape += (place * call->chunks + i) * NAME(tape_size)(call);
    if (tape) NAME(keep_state)(call, &row, tape);
    NAME(load)(call, given, &row, b, h, i * c);
    NAME(chunk_forward)(call, &row, base, 0, i + 1 < call->chunks || given->weights_end[0].at);
    if (tape) NAME(keep_reads)(call, &row, tape);
    row.has_state = 1;
    REAL* out = (REAL*)given->out.at + (place * time + i * c) * dim;
    REAL* loss = (REAL*)given->loss.at + place * time + i * c;
    memcpy(out, row.reads[call->layers - 1], c * dim * sizeof(REAL));
    const REAL* size = row.error_length[call->layers - 1];
    for (long t = 0; t < c; t++) loss[t] = (REAL)0.5 * size[t] * size[t];
  }
  for (int l = 0; l < call->layers; l++)
    if (row.units[l]) NAME(store_units)(call, &row, l);
  for (int l = 0; l < call->layers && given->weights_end[l].at; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    memcpy((REAL*)given->weights_end[l].at + at, row.weights[l], n * sizeof(REAL));
    memcpy((REAL*)given->momentum_end[l].at + at, row.momentum[l], n * sizeof(REAL));
  }
}

static void NAME(write_gradients)(const Call* call, const Backward* wanted, NAME(Row) * row,
                                  NAME(ByRow) * by, long place, long first) {
  long c = call->chunk, dim = call->widths[0], at = place * c * call->chunks + first;
  memcpy((REAL*)wanted->by_queries.at + at * dim, by->by_h[0], c * dim * sizeof(REAL));
  memcpy((REAL*)wanted->by_keys.at + at * dim, by->by_z[0], c * dim * sizeof(REAL));
  REAL* values = (REAL*)wanted->by_values.at + at * dim;
  for (long i = 0; i < c * dim; i++) values[i] = -by->by_errors[call->layers - 1][i];
  memcpy((REAL*)wanted->by_keep.at + at, by->by_keep, c * sizeof(REAL));
  memcpy((REAL*)wanted->by_decay.at + at, by->by_decay, c * sizeof(REAL));
  memcpy((REAL*)wanted->by_step.at + at, by->by_theta, c * sizeof(REAL));
  (void)row;
}

static void NAME(backward_row)(const Call* call, const Forward* given, const Backward* wanted,
                               REAL* space, long b, long h) {
  NAME(Row) row;
  NAME(ByRow) by;
  NAME(lay_out_by)(call, NAME(lay_out)(call, space, &row), &by);
  long c = call->chunk, dim = call->widths[0], place = b * call->heads + h, time = c * call->chunks;
  const REAL *base[MOST_LAYERS] = {0}, *weights[MOST_LAYERS] = {0}, *momentum[MOST_LAYERS] = {0};
  NAME(find_bases)(call, given, h, base);
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    memset(by.by_base[l], 0, n * sizeof(REAL));
    by.ends = wanted->by_weights_end[l].at || wanted->by_momentum_end[l].at || (l && by.ends);
    REAL* to[] = {by.by_weights[l], by.by_momentum[l]};
    const void* from[] = {wanted->by_weights_end[l].at, wanted->by_momentum_end[l].at};
    for (int i = 0; i < 2; i++)
      if (from[i]) memcpy(to[i], (const REAL*)from[i] + at, n * sizeof(REAL));
      else memset(to[i], 0, n * sizeof(REAL));
  }
  for (long i = call->chunks - 1; i >= 0; i--) {
    const REAL *tape =
                   (const REAL*)given->tape.at + (place * call->chunks + i) * NAME(tape_size)(call),
               *reads = tape + NAME(state_size)(call);
    if (i)
      for (int l = 0; l < call->layers; l++) {
        long n = call->widths[l] * call->widths[l + 1];
        weights[l] = tape, momentum[l] = tape + n, tape += 2 * n;
      }
    else NAME(initial_state)(call, given, b, h, weights, momentum);
    NAME(load_state)(call, &row, base, weights, momentum);
    NAME(set_anchor)(call, given, &row, base, 0);
    NAME(load)(call, given, &row, b, h, i * c);
    NAME(chunk_forward)(call, &row, base, reads, 0);
    long at = place * time + i * c;
    if (wanted->by_out.at)
      memcpy(by.by_out, (const REAL*)wanted->by_out.at + at * dim, c * dim * sizeof(REAL));
    else memset(by.by_out, 0, c * dim * sizeof(REAL));
    if (wanted->by_loss.at)
      memcpy(by.by_loss, (const REAL*)wanted->by_loss.at + at, c * sizeof(REAL));
    else memset(by.by_loss, 0, c * sizeof(REAL));
    NAME(chunk_backward)(call, &row, &by);
    NAME(write_gradients)(call, wanted, &row, &by, place, i * c);
    by.ends = 1;
  }
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    memcpy((REAL*)wanted->by_base[l].at + place * n, by.by_base[l], n * sizeof(REAL));
    memcpy((REAL*)wanted->by_weights[l].at + at, by.by_weights[l], n * sizeof(REAL));
    memcpy((REAL*)wanted->by_momentum[l].at + at, by.by_momentum[l], n * sizeof(REAL));
  }
}

static void NAME(forward_rows)(const Call* call, const Forward* given, long first, long last) {
  for (long r = first; r < last; r++)
    NAME(forward_row)(call, given, (REAL*)given->space.at, r / call->heads, r % call->heads);
}

static void NAME(backward_rows)(const Call* call, const Forward* given, const Backward* wanted,
                                long first, long last) {
  for (long r = first; r < last; r++)
    NAME(backward_row)(call, given, wanted, (REAL*)given->space.at, r / call->heads,
                       r % call->heads);
}

__attribute__((unused)) static long NAME(workspace)(const Call* call, int backward) {
  NAME(Row) row;
  NAME(ByRow) by;
  /* laid out from an address that is never used, to measure it */
  REAL *origin = (REAL*)(uintptr_t)64, *end = NAME(lay_out)(call, origin, &row);
  if (backward) end = NAME(lay_out_by)(call, end, &by);
  return (end - origin) * sizeof(REAL);
}
