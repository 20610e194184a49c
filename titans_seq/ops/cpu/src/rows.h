/* Rows of a call, chunk by chunk. */

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
  const void* rates[] = {given->keep, given->momentum, given->room, given->step, given->write};
  REAL* places[] = {row->keep, row->momentum, row->room, row->theta, row->write};
  for (int i = 0; i < 5; i++)
    memcpy(places[i], (const REAL*)rates[i] + (b * call->heads + h) * time + first,
           c * sizeof(REAL));
}

static void NAME(bases)(const Call* call, const Forward* given, long h, const REAL** base) {
  for (int l = 0; l < call->layers; l++)
    base[l] = given->base[l]
                  ? (const REAL*)given->base[l] + h * call->widths[l] * call->widths[l + 1]
                  : 0;
}

/* The state before the first chunk. */
static void NAME(starts)(const Call* call, const Forward* given, long b, long h, const REAL** drift,
                         const REAL** surge) {
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    drift[l] = given->drift[l] ? (const REAL*)given->drift[l] + at : 0;
    surge[l] = given->surge[l] ? (const REAL*)given->surge[l] + at : 0;
  }
}

static void NAME(take_state)(const Call* call, NAME(Row) * row, const REAL* const* base,
                             const REAL* const* drift, const REAL* const* surge) {
  row->begun = call->exact;
  for (int l = 0; l < call->layers; l++) {
    row->begun |= drift[l] || surge[l];
    for (long i = 0; i < call->widths[l] * call->widths[l + 1]; i++) {
      row->drift[l][i] = drift[l] ? drift[l][i] : 0;
      row->surge[l][i] = surge[l] ? surge[l][i] : 0;
      row->weights[l][i] = row->drift[l][i] + (base[l] ? base[l][i] : 0);
    }
  }
}

/* Take the gradients where the chunk began: here, or, of an open chunk, at its anchor. */
static void NAME(anchor)(const Call* call, const Forward* given, NAME(Row) * row,
                         const REAL* const* base, long at) {
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1];
    if (!given->anchor[l]) {
      row->anchored[l] = row->weights[l];
      continue;
    }
    const REAL* anchor = (const REAL*)given->anchor[l] + at * n;
    for (long i = 0; i < n; i++) row->anchored[l][i] = anchor[i] + (base[l] ? base[l][i] : 0);
    row->slot = given->slot;
    if (!given->units[l]) continue;
    row->units[l] = (REAL*)given->units[l] + at * given->open * call->widths[l];
    row->spent[l] = (REAL*)given->spent[l] + at * given->open;
  }
}

static long NAME(state_size)(const Call* call) {
  long size = 0;
  for (int l = 0; l < call->layers; l++) size += 2 * call->widths[l] * call->widths[l + 1];
  return size;
}

/* Numbers that a chunk keeps for its backward pass: the state at its start, and what the layers
   below the last have read. */
static long NAME(tape_size)(const Call* call) {
  long size = NAME(state_size)(call);
  for (int l = 0; l + 1 < call->layers; l++) size += call->chunk * call->widths[l + 1];
  return size;
}

static void NAME(keep_state)(const Call* call, NAME(Row) * row, REAL* tape) {
  for (int l = 0; l < call->layers && row->begun; l++) {
    long n = call->widths[l] * call->widths[l + 1];
    memcpy(tape, row->drift[l], n * sizeof(REAL));
    memcpy(tape + n, row->surge[l], n * sizeof(REAL));
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
  const REAL *base[MOST_LAYERS] = {0}, *drift[MOST_LAYERS] = {0}, *surge[MOST_LAYERS] = {0};
  NAME(bases)(call, given, h, base);
  NAME(starts)(call, given, b, h, drift, surge);
  NAME(take_state)(call, &row, base, drift, surge);
  NAME(anchor)(call, given, &row, base, h * call->batch + b);
  for (long i = 0; i < call->chunks; i++) {
    REAL* tape = (REAL*)given->tape;
    if (tape) tape += (place * call->chunks + i) * NAME(tape_size)(call);
    if (tape) NAME(keep_state)(call, &row, tape);
    NAME(load)(call, given, &row, b, h, i * c);
    NAME(chunk_forward)(call, &row, base, 0, i + 1 < call->chunks || given->drift_end[0]);
    if (tape) NAME(keep_reads)(call, &row, tape);
    row.begun = 1;
    REAL* out = (REAL*)given->out + (place * time + i * c) * dim;
    REAL* loss = (REAL*)given->loss + place * time + i * c;
    memcpy(out, row.reads[call->layers - 1], c * dim * sizeof(REAL));
    const REAL* size = row.error_length[call->layers - 1];
    for (long t = 0; t < c; t++) loss[t] = (REAL)0.5 * size[t] * size[t];
  }
  for (int l = 0; l < call->layers; l++)
    if (row.units[l]) NAME(remember)(call, &row, l);
  for (int l = 0; l < call->layers && given->drift_end[l]; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    memcpy((REAL*)given->drift_end[l] + at, row.drift[l], n * sizeof(REAL));
    memcpy((REAL*)given->surge_end[l] + at, row.surge[l], n * sizeof(REAL));
  }
}

static void NAME(hand_out)(const Call* call, const Backward* wanted, NAME(Row) * row,
                           NAME(ByRow) * by, long place, long first) {
  long c = call->chunk, dim = call->widths[0], at = place * c * call->chunks + first;
  memcpy((REAL*)wanted->by_queries + at * dim, by->by_h[0], c * dim * sizeof(REAL));
  memcpy((REAL*)wanted->by_keys + at * dim, by->by_z[0], c * dim * sizeof(REAL));
  REAL* values = (REAL*)wanted->by_values + at * dim;
  for (long i = 0; i < c * dim; i++) values[i] = -by->by_errors[call->layers - 1][i];
  memcpy((REAL*)wanted->by_keep + at, by->by_keep, c * sizeof(REAL));
  memcpy((REAL*)wanted->by_momentum + at, by->by_momentum, c * sizeof(REAL));
  memcpy((REAL*)wanted->by_step + at, by->by_theta, c * sizeof(REAL));
  (void)row;
}

static void NAME(backward_row)(const Call* call, const Forward* given, const Backward* wanted,
                               REAL* space, long b, long h) {
  NAME(Row) row;
  NAME(ByRow) by;
  NAME(lay_out_by)(call, NAME(lay_out)(call, space, &row), &by);
  long c = call->chunk, dim = call->widths[0], place = b * call->heads + h, time = c * call->chunks;
  const REAL *base[MOST_LAYERS] = {0}, *drift[MOST_LAYERS] = {0}, *surge[MOST_LAYERS] = {0};
  NAME(bases)(call, given, h, base);
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    memset(by.by_base[l], 0, n * sizeof(REAL));
    by.ends = wanted->by_drift_end[l] || wanted->by_surge_end[l] || (l && by.ends);
    REAL* to[] = {by.by_drift[l], by.by_surge[l]};
    const void* from[] = {wanted->by_drift_end[l], wanted->by_surge_end[l]};
    for (int i = 0; i < 2; i++)
      if (from[i]) memcpy(to[i], (const REAL*)from[i] + at, n * sizeof(REAL));
      else memset(to[i], 0, n * sizeof(REAL));
  }
  for (long i = call->chunks - 1; i >= 0; i--) {
    const REAL *tape =
                   (const REAL*)given->tape + (place * call->chunks + i) * NAME(tape_size)(call),
               *reads = tape + NAME(state_size)(call);
    if (i)
      for (int l = 0; l < call->layers; l++) {
        long n = call->widths[l] * call->widths[l + 1];
        drift[l] = tape, surge[l] = tape + n, tape += 2 * n;
      }
    else NAME(starts)(call, given, b, h, drift, surge);
    NAME(take_state)(call, &row, base, drift, surge);
    NAME(anchor)(call, given, &row, base, 0);
    NAME(load)(call, given, &row, b, h, i * c);
    NAME(chunk_forward)(call, &row, base, reads, 0);
    long at = place * time + i * c;
    if (wanted->by_out)
      memcpy(by.by_out, (const REAL*)wanted->by_out + at * dim, c * dim * sizeof(REAL));
    else memset(by.by_out, 0, c * dim * sizeof(REAL));
    if (wanted->by_loss) memcpy(by.by_loss, (const REAL*)wanted->by_loss + at, c * sizeof(REAL));
    else memset(by.by_loss, 0, c * sizeof(REAL));
    NAME(chunk_backward)(call, &row, &by);
    NAME(hand_out)(call, wanted, &row, &by, place, i * c);
    by.ends = 1;
  }
  for (int l = 0; l < call->layers; l++) {
    long n = call->widths[l] * call->widths[l + 1], at = (h * call->batch + b) * n;
    memcpy((REAL*)wanted->by_base[l] + place * n, by.by_base[l], n * sizeof(REAL));
    memcpy((REAL*)wanted->by_drift[l] + at, by.by_drift[l], n * sizeof(REAL));
    memcpy((REAL*)wanted->by_surge[l] + at, by.by_surge[l], n * sizeof(REAL));
  }
}

static void NAME(forward_rows)(const Call* call, const Forward* given, long first, long last) {
  for (long r = first; r < last; r++)
    NAME(forward_row)(call, given, (REAL*)given->space, r / call->heads, r % call->heads);
}

static void NAME(backward_rows)(const Call* call, const Forward* given, const Backward* wanted,
                                long first, long last) {
  for (long r = first; r < last; r++)
    NAME(backward_row)(call, given, wanted, (REAL*)given->space, r / call->heads, r % call->heads);
}

__attribute__((unused)) static long NAME(room)(const Call* call, int backward) {
  NAME(Row) row;
  NAME(ByRow) by;
  REAL* end = NAME(lay_out)(call, 0, &row);
  if (backward) end = NAME(lay_out_by)(call, end, &by);
  return (long)((char*)end - (char*)0) + 64;
}
