/* One chunk of one row, backward: the mirror of chunk.h. A name with by_ is the gradient by
   what it names. */

typedef struct {
  REAL *by_out, *by_loss;                               /* (chunk, dim), (chunk) */
  REAL *by_keep, *by_decay, *by_headroom, *by_theta;    /* (chunk) */
  REAL* by_first;                                       /* keep, if weights decay first */
  REAL *by_mix, *by_decay_mask;                         /* (chunk, 2 + chunk) */
  REAL *by_h[MOST_LAYERS], *by_z[MOST_LAYERS];          /* (chunk, inner) */
  REAL *by_reads[MOST_LAYERS], *by_errors[MOST_LAYERS]; /* (chunk, outer) */
  REAL* by_before[MOST_LAYERS];
  REAL *by_full_weights[MOST_LAYERS], *by_base[MOST_LAYERS]; /* (inner, outer) */
  REAL *by_weights[MOST_LAYERS], *by_momentum[MOST_LAYERS];  /* of the state at the chunk's end */
  REAL *read_weights[MOST_LAYERS],
      *read_momentum[MOST_LAYERS];                /* of the state that the queries read */
  REAL *by_system, *by_step, *by_square, *solved; /* (chunk, chunk), (chunk) */
  int ends; /* whether the state at the chunk's end has a gradient */
  REAL *scratch1, *scratch2, *scratch3, *scratch4, *transposed_z;
} NAME(ByRow);

static REAL* NAME(lay_out_by)(const Call* call, REAL* space, NAME(ByRow) * by) {
  long c = call->chunk, most = c * (c + 2);
  by->by_out = NAME(reserve)(&space, c * call->widths[0]);
  REAL** vectors[] = {&by->by_loss, &by->by_keep,   &by->by_decay, &by->by_headroom, &by->by_theta,
                      &by->by_step, &by->by_square, &by->solved,   &by->by_first};
  for (int i = 0; i < 9; i++) *vectors[i] = NAME(reserve)(&space, c);
  by->by_mix = NAME(reserve)(&space, c * (c + 2));
  by->by_decay_mask = NAME(reserve)(&space, c * (c + 2));
  by->by_system = NAME(reserve)(&space, c * c);
  for (int l = 0; l < call->layers; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    by->by_h[l] = NAME(reserve)(&space, c * inner);
    by->by_z[l] = NAME(reserve)(&space, c * inner);
    REAL** wide[] = {&by->by_reads[l], &by->by_errors[l], &by->by_before[l]};
    for (int i = 0; i < 3; i++) *wide[i] = NAME(reserve)(&space, c * outer);
    REAL** state[] = {&by->by_full_weights[l], &by->by_base[l],      &by->by_weights[l],
                      &by->by_momentum[l],     &by->read_weights[l], &by->read_momentum[l]};
    for (int i = 0; i < 6; i++) *state[i] = NAME(reserve)(&space, inner * outer);
    long sizes[] = {c * inner, c * outer, inner * outer};
    for (int i = 0; i < 3; i++) most = sizes[i] > most ? sizes[i] : most;
  }
  REAL** scratch[] = {&by->scratch1, &by->scratch2, &by->scratch3, &by->scratch4,
                      &by->transposed_z};
  for (int i = 0; i < 5; i++) *scratch[i] = NAME(reserve)(&space, most);
  return space;
}

/* Backward through the queries' read of the chunk's first state: its weights (which = 0) or its
   momentum (1), share[t] h[t] state. */
static void NAME(state_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l,
                                 int which) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1], columns = c + 2;
  const REAL *state = which ? row->momentum[l] : row->weights[l], *h = row->h[l],
             *given = by->by_reads[l], *share = which ? row->carry : row->fade;
  REAL *by_state = which ? by->read_momentum[l] : by->read_weights[l], *by_h = by->by_h[l];
  NAME(transpose)(inner, outer, state, by->scratch4);
  NAME(product)(c, inner, outer, given, outer, 1, by->scratch4, inner, by->scratch1, inner, 1, 0,
                NAME(FULL));
  for (long t = 0; t < c; t++) {
    const REAL* whole = by->scratch1 + t * inner;
    by->by_mix[t * columns + which] += NAME(dot)(inner, h + t * inner, whole);
    for (long j = 0; j < inner; j++) by_h[t * inner + j] += share[t] * whole[j];
  }
  if (inner < outer) NAME(scale_rows)(c, inner, share, h, by->scratch1), h = by->scratch1;
  else NAME(scale_rows)(c, outer, share, given, by->scratch1), given = by->scratch1;
  NAME(product)(inner, outer, c, h, 1, inner, given, outer, by_state, outer, 1, 0, NAME(FULL));
}

/* Backward through the read of one layer: from by_reads to by_h (all but the products h z^T), the
   full weights, `mix`, and the change (into by_errors). The gradient by h z^T is left in
   scratch2, (chunk, chunk). */
static void NAME(read_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1], columns = c + 2;
  REAL* given = by->by_reads[l];
  NAME(product)(c, inner, outer, given, outer, 1, row->transposed[l], inner, by->by_h[l], inner, 1,
                0, NAME(FULL));
  NAME(product)(inner, outer, c, row->h[l], 1, inner, given, outer, by->by_full_weights[l], outer,
                1, 0, NAME(FULL));
  for (int which = 0; which < 2 && row->has_state; which++)
    NAME(state_backward)(call, row, by, l, which);

  NAME(transpose)(c, outer, row->change[l], by->scratch4);
  NAME(product)(c, c, outer, given, outer, 1, by->scratch4, c, by->scratch2, c, -1, 0,
                NAME(LOWER_RESULT));
  for (long t = 0; t < c; t++) {
    const REAL *seen = row->seen[l] + t * c, *mix = row->mix + t * columns + 2;
    REAL *by_mix = by->by_mix + t * columns + 2, *by_seen = by->scratch2 + t * c;
    for (long s = 0; s <= t; s++) {
      by_mix[s] += by_seen[s] * seen[s];
      by_seen[s] *= mix[s];
    }
    for (long s = t + 1; s < c; s++) by_seen[s] = 0;
  }
  NAME(product)(c, outer, c, row->mixed[l], 1, c, given, outer, by->by_errors[l], outer, -1, 0,
                NAME(UPPER_LEFT));
}

/* Backward through the state at the chunk's end: adds to the change (by_errors), sets by_z. */
static void NAME(end_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1], last = c - 1;
  long at = last * (c + 2);
  REAL *by_mix = by->by_mix + at, *by_decay_mask = by->by_decay_mask + at, *z = row->z[l];
  memset(by->by_z[l], 0, c * inner * sizeof(REAL));
  if (!by->ends) return;
  const REAL *states[] = {by->by_weights[l], by->by_momentum[l]},
             *shares[] = {row->mix + at + 2, row->decay_mask + at + 2};
  REAL* by_shares[] = {by_mix + 2, by_decay_mask + 2};
  for (int i = 0; i < 2; i++) {
    const REAL* share = shares[i];
    NAME(product_by_row)(c, outer, inner, z, inner, 1, states[i], outer, by->by_errors[l], outer,
                         -1, share, 1, NAME(FULL));
    NAME(transpose)(inner, outer, states[i], by->scratch4);
    NAME(product)(c, inner, outer, row->change[l], outer, 1, by->scratch4, inner, by->scratch1,
                  inner, 1, 0, NAME(FULL));
    for (long t = 0; t < c; t++) {
      const REAL* whole = by->scratch1 + t * inner;
      by_shares[i][t] -= NAME(dot)(inner, z + t * inner, whole);
      for (long j = 0; j < inner; j++) by->by_z[l][t * inner + j] -= share[t] * whole[j];
    }
  }
  if (!row->has_state) return;
  long n = inner * outer;
  by_mix[0] += NAME(dot)(n, row->weights[l], by->by_weights[l]);
  by_mix[1] += NAME(dot)(n, row->momentum[l], by->by_weights[l]);
  by_decay_mask[1] += NAME(dot)(n, row->momentum[l], by->by_momentum[l]);
}

/* From the change = step * error to the errors, the steps and the inputs' squared lengths. */
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

/* From the triangular steps to theta, the headroom and the products z z^T (into by_system). */
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
  for (long t = 0; t < c; t++) by->scratch1[t] = 0;
  for (long t = 0; t < c; t++) {
    REAL gained = row->inverse[l][t] * solved[t];
    for (long s = 0; s < t; s++) {
      REAL number = gained * gram[t * c + s];
      by->scratch1[s] += number * gram[t * c + s];
      out[t * c + s] = -2 * number * row->inverse[l][s] * row->share[l][s] * left[s];
    }
  }
  for (long t = 0; t < c; t++) {
    REAL inverse = row->inverse[l][t], limit = row->limit[l][t], share = row->share[l][t];
    REAL theta = row->theta[t], scale = row->scale[l][t];
    REAL headroom = row->headroom[t] > tiny ? row->headroom[t] : tiny;
    REAL by_share = -left[t] * inverse * by->scratch1[t];
    REAL by_left = left[t] > 0 ? by->by_step[t] * scale : 0;
    REAL by_scale = by->by_step[t] * (left[t] > 0 ? left[t] : 0);
    REAL by_square = by->by_square[t] + inverse * solved[t] * (1 - left[t]) +
                     inverse * left[t] * (by_left - solved[t]);
    if (row->demand[l][t] > headroom) {
      by_square -= by_scale * scale * inverse;
      by->by_headroom[t] += by_scale * theta / limit;
    } else {
      by_square += by_share * theta / limit;
      by->by_theta[t] += (by_share * row->square[l][t] + by_scale * row->headroom[t]) / limit;
      by->by_headroom[t] -= by_share * share / headroom;
    }
    out[t * c + t] = by_square;
  }
}

static void NAME(exact_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by);

/* Backward through one layer's read and write. Afterwards by_h is complete; by_z lacks only what
   keys_backward adds. */
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
  REAL *by_seen = by->scratch2, *by_gram = by->by_system, *h = row->h[l], *z = row->z[l];
  NAME(product)(c, inner, c, by_seen, c, 1, z, inner, by->by_h[l], inner, 1, 1, NAME(LOWER_LEFT));
  NAME(product)(c, inner, c, by_seen, 1, c, h, inner, by->by_z[l], inner, 1, 1, NAME(UPPER_LEFT));
  NAME(product)(c, inner, c, by_gram, c, 1, z, inner, by->by_z[l], inner, 1, 1, NAME(LOWER_LEFT));
  NAME(product)(c, inner, c, by_gram, 1, c, z, inner, by->by_z[l], inner, 1, 1, NAME(UPPER_LEFT));
}

/* Backward through the keys' forward and backward pass at the chunk's first weights: from by_errors
   and by_z to the keys, the values and the full weights. */
static void NAME(keys_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, last = call->layers - 1;
  for (int l = 0; l < last; l++) {
    long outer = call->widths[l + 1], next = call->widths[l + 2];
    REAL* by_pulled = by->scratch1;
    const REAL *before = row->before[l], *factor = row->before_factor[l];
    NAME(slope_with_factor)(call, c * outer, by->by_errors[l], before, factor, by_pulled);
    NAME(second_slope)(call, c * outer, by->by_errors[l], row->pulled[l], before, factor,
                       by->by_before[l]);
    NAME(product)(c, next, outer, by_pulled, outer, 1, row->full_weights[l + 1], next,
                  by->by_errors[l + 1], next, 1, 1, NAME(FULL));
    NAME(product)(outer, next, c, by_pulled, 1, outer, row->errors[l + 1], next,
                  by->by_full_weights[l + 1], next, 1, 1, NAME(FULL));
  }
  long dim = call->widths[last + 1];
  for (long t = 0; t < c; t++)
    for (long j = t * dim; j < (t + 1) * dim; j++)
      by->by_errors[last][j] += by->by_loss[t] * row->errors[last][j];
  REAL* given = by->by_errors[last];
  for (int l = last; l >= 0; l--) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    NAME(product)(c, inner, outer, given, outer, 1, row->transposed[l], inner, by->by_z[l], inner,
                  1, 1, NAME(FULL));
    NAME(product)(inner, outer, c, row->z[l], 1, inner, given, outer, by->by_full_weights[l], outer,
                  1, 1, NAME(FULL));
    if (!l) break;
    NAME(slope_with_factor)(call, c * inner, by->by_z[l], row->before[l - 1],
                            row->before_factor[l - 1], by->scratch1);
    for (long i = 0; i < c * inner; i++) by->by_before[l - 1][i] += by->scratch1[i];
    given = by->by_before[l - 1];
  }
}

/* From the masks to the rates, last row first, since each row is made from the one before it. */
static void NAME(masks_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, columns = c + 2;
  for (long t = c - 1; t >= 0; t--) {
    REAL *by_mix = by->by_mix + t * columns, *by_decay_mask = by->by_decay_mask + t * columns;
    REAL written = row->write[t];
    for (long s = 0; s < t + 3; s++) by_decay_mask[s] += written * by_mix[s];
    if (!t) {
      by->by_keep[0] = by_mix[0], by->by_decay[0] = by_decay_mask[1];
      break;
    }
    by->by_keep[t] = NAME(dot)(t + 2, by_mix, row->mix + (t - 1) * columns);
    by->by_decay[t] = NAME(dot)(t + 1, by_decay_mask + 1, row->decay_mask + (t - 1) * columns + 1);
    for (long s = 0; s < t + 2; s++) {
      by_mix[s - columns] += row->keep[t] * by_mix[s];
      by_decay_mask[s - columns] += row->decay[t] * by_decay_mask[s];
    }
  }
}

/* From gradients by the state after the chunk to gradients by the state before it. */
static void NAME(state_gradients)(const Call* call, NAME(Row) * row, NAME(ByRow) * by, int l) {
  long c = call->chunk, n = call->widths[l] * call->widths[l + 1], columns = c + 2;
  REAL keep_product = row->mix[(c - 1) * columns], carry = row->mix[(c - 1) * columns + 1];
  REAL decay_product = row->decay_mask[(c - 1) * columns + 1];
  REAL* restrict by_weights = by->by_weights[l], * restrict by_momentum = by->by_momentum[l];
  REAL* restrict by_base = by->by_base[l];
  const REAL *by_full_weights = by->by_full_weights[l], *read_weights = by->read_weights[l],
             *read_momentum = by->read_momentum[l];
  for (long i = 0; i < n; i++) by_base[i] += by_full_weights[i];
  for (long i = 0; i < n && row->has_state; i++) {
    by_momentum[i] = decay_product * by_momentum[i] + carry * by_weights[i] + read_momentum[i];
    by_weights[i] = keep_product * by_weights[i] + by_full_weights[i] + read_weights[i];
  }
}

/* `row` holds the chunk as chunk_forward left it, with the state of its start; by_out and
   by_loss are filled. */
static void NAME(chunk_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, last = call->layers - 1;
  for (long i = 0; i < c * (c + 2); i++) by->by_mix[i] = by->by_decay_mask[i] = 0;
  for (long t = 0; t < c; t++) by->by_headroom[t] = by->by_theta[t] = 0;
  for (long i = 0; i < c * call->widths[last + 1]; i++) by->by_reads[last][i] = by->by_out[i];
  NAME(transpose)(call->widths[0], call->widths[1], row->full_weights[0], row->transposed[0]);
  for (int l = last; l >= 0; l--) {
    NAME(layer_backward)(call, row, by, l);
    if (l)
      NAME(slope_with_factor)(call, c * call->widths[l], by->by_h[l], row->reads[l - 1],
                              row->reads_factor[l - 1], by->by_reads[l - 1]);
  }
  if (!call->exact) NAME(keys_backward)(call, row, by);
  for (int l = 0; l <= last; l++) NAME(state_gradients)(call, row, by, l);
  NAME(masks_backward)(call, row, by);
  for (long t = 0; t < c; t++) {
    by->by_decay[t] -= by->by_headroom[t];
    if (call->exact) by->by_keep[t] += by->by_first[t];
  }
}
