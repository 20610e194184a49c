/* One chunk of one row, backward: the mirror of chunk.h. A name with by_ is the gradient by
   what it names. */

typedef struct {
  REAL *by_out, *by_loss;                               /* (chunk, dim), (chunk) */
  REAL *by_keep, *by_momentum, *by_room, *by_theta;     /* (chunk) */
  REAL* by_first;                                       /* by keep, where it decays first */
  REAL *by_mix, *by_decay;                              /* (chunk, 2 + chunk) */
  REAL *by_h[MOST_LAYERS], *by_z[MOST_LAYERS];          /* (chunk, inner) */
  REAL *by_reads[MOST_LAYERS], *by_errors[MOST_LAYERS]; /* (chunk, outer) */
  REAL* by_before[MOST_LAYERS];
  REAL *by_weights[MOST_LAYERS], *by_base[MOST_LAYERS];    /* (inner, outer) */
  REAL *by_drift[MOST_LAYERS], *by_surge[MOST_LAYERS];     /* by those of the chunk's end */
  REAL *read_drift[MOST_LAYERS], *read_surge[MOST_LAYERS]; /* by those that the queries read */
  REAL *by_system, *by_step, *by_square, *solved;          /* (chunk, chunk), (chunk) */
  int ends; /* whether anything is wanted of the state at the chunk's end */
  REAL *one, *two, *three, *four, *turned_z;
} NAME(ByRow);

static REAL* NAME(lay_out_by)(const Call* call, REAL* space, NAME(ByRow) * by) {
  long c = call->chunk, most = c * (c + 2);
  by->by_out = NAME(cut)(&space, c * call->widths[0]);
  REAL** vectors[] = {&by->by_loss, &by->by_keep,   &by->by_momentum, &by->by_room, &by->by_theta,
                      &by->by_step, &by->by_square, &by->solved,      &by->by_first};
  for (int i = 0; i < 9; i++) *vectors[i] = NAME(cut)(&space, c);
  by->by_mix = NAME(cut)(&space, c * (c + 2));
  by->by_decay = NAME(cut)(&space, c * (c + 2));
  by->by_system = NAME(cut)(&space, c * c);
  for (int l = 0; l < call->layers; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    by->by_h[l] = NAME(cut)(&space, c * inner);
    by->by_z[l] = NAME(cut)(&space, c * inner);
    REAL** wide[] = {&by->by_reads[l], &by->by_errors[l], &by->by_before[l]};
    for (int i = 0; i < 3; i++) *wide[i] = NAME(cut)(&space, c * outer);
    REAL** state[] = {&by->by_weights[l], &by->by_base[l],    &by->by_drift[l],
                      &by->by_surge[l],   &by->read_drift[l], &by->read_surge[l]};
    for (int i = 0; i < 6; i++) *state[i] = NAME(cut)(&space, inner * outer);
    long sizes[] = {c * inner, c * outer, inner * outer};
    for (int i = 0; i < 3; i++) most = sizes[i] > most ? sizes[i] : most;
  }
  REAL** scratch[] = {&by->one, &by->two, &by->three, &by->four, &by->turned_z};
  for (int i = 0; i < 5; i++) *scratch[i] = NAME(cut)(&space, most);
  return space;
}

/* Through what the queries read of the drift (0) or the momentum (1) of the chunk's start. */
static void NAME(state_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l,
                                 int which) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1], columns = c + 2;
  const REAL *state = which ? row->surge[l] : row->drift[l], *h = row->h[l],
             *given = by->by_reads[l], *share = which ? row->carry : row->fade;
  REAL *by_state = which ? by->read_surge[l] : by->read_drift[l], *by_h = by->by_h[l];
  NAME(turn)(inner, outer, state, by->four);
  NAME(product)(c, inner, outer, given, outer, 1, by->four, inner, by->one, inner, 1, 0,
                NAME(FULL));
  for (long t = 0; t < c; t++) {
    const REAL* whole = by->one + t * inner;
    by->by_mix[t * columns + which] += NAME(dot)(inner, h + t * inner, whole);
    for (long j = 0; j < inner; j++) by_h[t * inner + j] += share[t] * whole[j];
  }
  if (inner < outer) NAME(scale_rows)(c, inner, share, h, by->one), h = by->one;
  else NAME(scale_rows)(c, outer, share, given, by->one), given = by->one;
  NAME(product)(inner, outer, c, h, 1, inner, given, outer, by_state, outer, 1, 0, NAME(FULL));
}

/* Through the read: from by_reads to by_h (without the products h z), the weights read, the
   mask, and the change (in by_errors). Leaves the gradient by h z in `two`. */
static void NAME(read_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1], columns = c + 2;
  REAL* given = by->by_reads[l];
  NAME(product)(c, inner, outer, given, outer, 1, row->turned[l], inner, by->by_h[l], inner, 1, 0,
                NAME(FULL));
  NAME(product)(inner, outer, c, row->h[l], 1, inner, given, outer, by->by_weights[l], outer, 1, 0,
                NAME(FULL));
  for (int which = 0; which < 2 && row->begun; which++)
    NAME(state_backward)(call, row, by, l, which);

  NAME(turn)(c, outer, row->change[l], by->four);
  NAME(product)(c, c, outer, given, outer, 1, by->four, c, by->two, c, -1, 0, NAME(LOWER_RESULT));
  for (long t = 0; t < c; t++) {
    const REAL *seen = row->seen[l] + t * c, *mix = row->mix + t * columns + 2;
    REAL *by_mix = by->by_mix + t * columns + 2, *by_seen = by->two + t * c;
    for (long s = 0; s <= t; s++) {
      by_mix[s] += by_seen[s] * seen[s];
      by_seen[s] *= mix[s];
    }
    for (long s = t + 1; s < c; s++) by_seen[s] = 0;
  }
  NAME(product)(c, outer, c, row->mixed[l], 1, c, given, outer, by->by_errors[l], outer, -1, 0,
                NAME(UPPER_LEFT));
}

/* Through the state at the chunk's end: adds to the change (by_errors), and begins by_z. */
static void NAME(end_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1], last = c - 1;
  long at = last * (c + 2);
  REAL *by_mix = by->by_mix + at, *by_decay = by->by_decay + at, *z = row->z[l];
  memset(by->by_z[l], 0, c * inner * sizeof(REAL));
  if (!by->ends) return;
  const REAL *states[] = {by->by_drift[l], by->by_surge[l]},
             *shares[] = {row->mix + at + 2, row->decay + at + 2};
  REAL* by_shares[] = {by_mix + 2, by_decay + 2};
  for (int i = 0; i < 2; i++) {
    const REAL* share = shares[i];
    NAME(product_by_row)(c, outer, inner, z, inner, 1, states[i], outer, by->by_errors[l], outer,
                         -1, share, 1, NAME(FULL));
    NAME(turn)(inner, outer, states[i], by->four);
    NAME(product)(c, inner, outer, row->change[l], outer, 1, by->four, inner, by->one, inner, 1, 0,
                  NAME(FULL));
    for (long t = 0; t < c; t++) {
      const REAL* whole = by->one + t * inner;
      by_shares[i][t] -= NAME(dot)(inner, z + t * inner, whole);
      for (long j = 0; j < inner; j++) by->by_z[l][t * inner + j] -= share[t] * whole[j];
    }
  }
  if (!row->begun) return;
  long n = inner * outer;
  by_mix[0] += NAME(dot)(n, row->drift[l], by->by_drift[l]);
  by_mix[1] += NAME(dot)(n, row->surge[l], by->by_drift[l]);
  by_decay[1] += NAME(dot)(n, row->surge[l], by->by_surge[l]);
}

/* From the change to the errors, and to the gradients by the steps and squared lengths. */
static void NAME(change_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long outer = call->widths[l + 1];
  REAL small = 1e-12, bound = call->bound;
  for (long t = 0; t < call->chunk; t++) {
    REAL *mine = by->by_errors[l] + t * outer, step = row->limited[l][t];
    const REAL* error = row->errors[l] + t * outer;
    REAL by_step = NAME(dot)(outer, mine, error), along = 0, by_square = 0;
    if (bound > 0) {
      REAL length = row->length[l][t], size = row->error_length[l][t];
      by_step /= row->divided[l][t];
      REAL by_size = by_step * step / bound;
      by_square = (REAL)-0.5 * by_size * size / (length + small);
      along = -by_size * length / (size + small);
    }
    by->by_step[t] = by_step, by->by_square[t] = by_square;
    for (long j = 0; j < outer; j++) mine[j] = step * mine[j] + along * error[j];
  }
}

/* From the steps to what was asked for and to the products of the inputs (by_system). */
static void NAME(steps_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk;
  REAL *out = by->by_system, *solved = by->solved, tiny = call->tiny;
  for (long i = 0; i < c * c; i++) out[i] = 0;
  if (!call->triangular) {
    for (long t = 0; t < c; t++) {
      by->by_theta[t] += by->by_step[t] / (REAL)call->shared;
      out[t * c + t] = by->by_square[t];
    }
    return;
  }
  const REAL *system = row->system[l], *gram = row->gram[l], *left = row->left[l];
  for (long t = 0; t < c; t++) solved[t] = left[t] > 0 ? by->by_step[t] * row->scale[l][t] : 0;
  for (long t = c - 1; t > 0; t--)
    for (long s = 0; s < t; s++) solved[s] -= system[t * c + s] * solved[t];
  for (long t = 0; t < c; t++) by->one[t] = 0;
  for (long t = 0; t < c; t++) {
    REAL gained = row->inverse[l][t] * solved[t];
    for (long s = 0; s < t; s++) {
      REAL number = gained * gram[t * c + s];
      by->one[s] += number * gram[t * c + s];
      out[t * c + s] = -2 * number * row->inverse[l][s] * row->share[l][s] * left[s];
    }
  }
  for (long t = 0; t < c; t++) {
    REAL inverse = row->inverse[l][t], limit = row->limit[l][t], share = row->share[l][t];
    REAL theta = row->theta[t], scale = row->scale[l][t];
    REAL room = row->room[t] > tiny ? row->room[t] : tiny;
    REAL by_share = -left[t] * inverse * by->one[t];
    REAL by_left = left[t] > 0 ? by->by_step[t] * scale : 0;
    REAL by_scale = by->by_step[t] * (left[t] > 0 ? left[t] : 0);
    REAL by_square = by->by_square[t] + inverse * solved[t] * (1 - left[t]) +
                     inverse * left[t] * (by_left - solved[t]);
    if (row->asked[l][t] > room) {
      by_square -= by_scale * scale * inverse;
      by->by_room[t] += by_scale * theta / limit;
    } else {
      by_square += by_share * theta / limit;
      by->by_theta[t] += (by_share * row->square[l][t] + by_scale * row->room[t]) / limit;
      by->by_room[t] -= by_share * share / room;
    }
    out[t * c + t] = by_square;
  }
}

static void NAME(exact_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by);

/* Through one layer's read and write; by_h and by_z are complete but for the keys' own pass. */
static void NAME(layer_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk, inner = call->widths[l];
  NAME(read_backward)(call, row, by, l);
  NAME(end_backward)(call, row, by, l);
  if (call->exact) {
    NAME(exact_backward)(call, row, by);
  } else {
    NAME(change_backward)(call, row, by, l);
    NAME(steps_backward)(call, row, by, l);
  }
  REAL *by_seen = by->two, *by_gram = by->by_system, *h = row->h[l], *z = row->z[l];
  NAME(product)(c, inner, c, by_seen, c, 1, z, inner, by->by_h[l], inner, 1, 1, NAME(LOWER_LEFT));
  NAME(product)(c, inner, c, by_seen, 1, c, h, inner, by->by_z[l], inner, 1, 1, NAME(UPPER_LEFT));
  NAME(product)(c, inner, c, by_gram, c, 1, z, inner, by->by_z[l], inner, 1, 1, NAME(LOWER_LEFT));
  NAME(product)(c, inner, c, by_gram, 1, c, z, inner, by->by_z[l], inner, 1, 1, NAME(UPPER_LEFT));
}

/* Through the keys' pass: from by_errors and by_z to the keys, the values and the weights. */
static void NAME(keys_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, last = call->layers - 1;
  for (int l = 0; l < last; l++) {
    long outer = call->widths[l + 1], next = call->widths[l + 2];
    REAL* by_pulled = by->one;
    const REAL *before = row->before[l], *open = row->before_open[l];
    NAME(slope_open)(call, c * outer, by->by_errors[l], before, open, by_pulled);
    NAME(bend)(call, c * outer, by->by_errors[l], row->pulled[l], before, open, by->by_before[l]);
    NAME(product)(c, next, outer, by_pulled, outer, 1, row->weights[l + 1], next,
                  by->by_errors[l + 1], next, 1, 1, NAME(FULL));
    NAME(product)(outer, next, c, by_pulled, 1, outer, row->errors[l + 1], next,
                  by->by_weights[l + 1], next, 1, 1, NAME(FULL));
  }
  long dim = call->widths[last + 1];
  for (long t = 0; t < c; t++)
    for (long j = t * dim; j < (t + 1) * dim; j++)
      by->by_errors[last][j] += by->by_loss[t] * row->errors[last][j];
  REAL* given = by->by_errors[last];
  for (int l = last; l >= 0; l--) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    NAME(product)(c, inner, outer, given, outer, 1, row->turned[l], inner, by->by_z[l], inner, 1, 1,
                  NAME(FULL));
    NAME(product)(inner, outer, c, row->z[l], 1, inner, given, outer, by->by_weights[l], outer, 1,
                  1, NAME(FULL));
    if (!l) break;
    NAME(slope_open)(call, c * inner, by->by_z[l], row->before[l - 1], row->before_open[l - 1],
                     by->one);
    for (long i = 0; i < c * inner; i++) by->by_before[l - 1][i] += by->one[i];
    given = by->by_before[l - 1];
  }
}

/* From the masks to the rates. */
static void NAME(masks_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, columns = c + 2;
  for (long t = c - 1; t >= 0; t--) {
    REAL *by_mix = by->by_mix + t * columns, *by_decay = by->by_decay + t * columns;
    REAL written = row->write[t];
    for (long s = 0; s < t + 3; s++) by_decay[s] += written * by_mix[s];
    if (!t) {
      by->by_keep[0] = by_mix[0], by->by_momentum[0] = by_decay[1];
      break;
    }
    by->by_keep[t] = NAME(dot)(t + 2, by_mix, row->mix + (t - 1) * columns);
    by->by_momentum[t] = NAME(dot)(t + 1, by_decay + 1, row->decay + (t - 1) * columns + 1);
    for (long s = 0; s < t + 2; s++) {
      by_mix[s - columns] += row->keep[t] * by_mix[s];
      by_decay[s - columns] += row->momentum[t] * by_decay[s];
    }
  }
}

/* From the gradients by the state after the chunk to those by the one before, if it varies. */
static void NAME(hand_back)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk, n = call->widths[l] * call->widths[l + 1], columns = c + 2;
  REAL kept = row->mix[(c - 1) * columns], carry = row->mix[(c - 1) * columns + 1];
  REAL held = row->decay[(c - 1) * columns + 1];
  REAL* restrict by_drift = by->by_drift[l], * restrict by_surge = by->by_surge[l];
  REAL* restrict by_base = by->by_base[l];
  const REAL *by_weights = by->by_weights[l], *read_drift = by->read_drift[l],
             *read_surge = by->read_surge[l];
  for (long i = 0; i < n; i++) by_base[i] += by_weights[i];
  for (long i = 0; i < n && row->begun; i++) {
    by_surge[i] = held * by_surge[i] + carry * by_drift[i] + read_surge[i];
    by_drift[i] = kept * by_drift[i] + by_weights[i] + read_drift[i];
  }
}

/* `row` holds the chunk as chunk_forward left it, with the state of its start; by_out and
   by_loss are filled. */
static void NAME(chunk_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, last = call->layers - 1;
  for (long i = 0; i < c * (c + 2); i++) by->by_mix[i] = by->by_decay[i] = 0;
  for (long t = 0; t < c; t++) by->by_room[t] = by->by_theta[t] = 0;
  for (long i = 0; i < c * call->widths[last + 1]; i++) by->by_reads[last][i] = by->by_out[i];
  NAME(turn)(call->widths[0], call->widths[1], row->weights[0], row->turned[0]);
  for (int l = last; l >= 0; l--) {
    NAME(layer_backward)(call, row, by, l);
    if (l)
      NAME(slope_open)(call, c * call->widths[l], by->by_h[l], row->reads[l - 1],
                       row->reads_open[l - 1], by->by_reads[l - 1]);
  }
  if (!call->exact) NAME(keys_backward)(call, row, by);
  for (int l = 0; l <= last; l++) NAME(hand_back)(call, row, by, l);
  NAME(masks_backward)(call, row, by);
  for (long t = 0; t < c; t++) {
    by->by_momentum[t] -= by->by_room[t];
    if (call->exact) by->by_keep[t] += by->by_first[t];
  }
}
