/* One chunk of one row, forward: the dual form of arXiv 2501.00663, equations 16 to 18.

   For each layer, with z and h the inputs of keys and queries, d the errors of the keys, and c
   the bounded steps:

       reads[t] = h[t] F + (kept[t] - 1) h[t] W + carry[t] h[t] S
                  - sum over s <= t of mix[t, s] (h[t] . z[s]) c[s] d[s]
       W' = kept W + carry S - z^T (mix_last c d)
       S' = decay S          - z^T (decay_last c d)

   W ("weights") is the state: the weights at the chunk's start less the base that forgetting
   leads to. F ("full_weights") is W plus that base, S the momentum. kept, carry and mix[t, s] are
   row t of `mix`; decay and decay_last are the last row of `decay_mask`: see
   titans_seq/ops/rules/rates.py. A row's state and all that a chunk touches stay in the cache. */

typedef struct {
  /* inputs of the chunk, (chunk, dim) and (chunk) */
  REAL *values, *keep, *decay, *headroom, *theta, *write;
  /* masks, (chunk, 2 + chunk): columns are the weights, the momentum, and the chunk's tokens */
  REAL *decay_mask, *mix;
  REAL *fade,
      *carry; /* (chunk): shares of the first weights, less 1, and of the momentum in reads */
  /* per layer; h and z are (chunk, inner), the others (chunk, outer) */
  REAL *h[MOST_LAYERS], *z[MOST_LAYERS], *before[MOST_LAYERS], *errors[MOST_LAYERS];
  REAL *pulled[MOST_LAYERS], *reads[MOST_LAYERS], *change[MOST_LAYERS];
  REAL *before_factor[MOST_LAYERS], *reads_factor[MOST_LAYERS]; /* see activation.h */
  REAL *seen[MOST_LAYERS], *gram[MOST_LAYERS], *system[MOST_LAYERS], *mixed[MOST_LAYERS];
  /* per layer, (chunk) */
  REAL *square[MOST_LAYERS], *inverse[MOST_LAYERS], *demand[MOST_LAYERS], *limit[MOST_LAYERS];
  REAL *share[MOST_LAYERS], *scale[MOST_LAYERS], *left[MOST_LAYERS];
  REAL *length[MOST_LAYERS], *error_length[MOST_LAYERS], *divided[MOST_LAYERS];
  REAL* limited[MOST_LAYERS];
  /* the state: per layer (inner, outer) */
  REAL *full_weights[MOST_LAYERS], *weights[MOST_LAYERS], *momentum[MOST_LAYERS];
  REAL* full_anchor[MOST_LAYERS];                /* where gradients are taken: full_weights, or an
                                                    open chunk's anchor plus the base */
  REAL *units[MOST_LAYERS], *spent[MOST_LAYERS]; /* of an open chunk's tokens; null if none */
  REAL* transposed[MOST_LAYERS]; /* `anchored` transposed, of the layers above the first */
  long slot;
  int has_state;                        /* whether weights or momentum may differ from zero */
  REAL *scratch1, *scratch2, *scratch3; /* scratch, as large as the largest of the above */
} NAME(Row);

static REAL* NAME(reserve)(REAL** space, long count) {
  REAL* token_row = *space;
  *space += (count + 15) / 16 * 16;
  return token_row;
}

/* Lay out a row's working memory; return its end. */
static REAL* NAME(lay_out)(const Call* call, REAL* space, NAME(Row) * row) {
  long c = call->chunk, most = c * (c + 2);
  row->values = NAME(reserve)(&space, c * call->widths[0]);
  REAL** vectors[] = {&row->keep, &row->decay, &row->headroom, &row->theta, &row->write};
  for (int i = 0; i < 5; i++) *vectors[i] = NAME(reserve)(&space, c);
  row->decay_mask = NAME(reserve)(&space, c * (c + 2));
  row->mix = NAME(reserve)(&space, c * (c + 2));
  row->fade = NAME(reserve)(&space, c);
  row->carry = NAME(reserve)(&space, c);
  row->slot = 0, row->has_state = 1;
  for (int l = 0; l < call->layers; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    row->h[l] = NAME(reserve)(&space, c * inner);
    row->z[l] = NAME(reserve)(&space, c * inner);
    REAL** wide[] = {&row->before[l], &row->errors[l],        &row->pulled[l],      &row->reads[l],
                     &row->change[l], &row->before_factor[l], &row->reads_factor[l]};
    for (int i = 0; i < 7; i++) *wide[i] = NAME(reserve)(&space, c * outer);
    REAL** squares[] = {&row->seen[l], &row->gram[l], &row->system[l], &row->mixed[l]};
    for (int i = 0; i < 4; i++) *squares[i] = NAME(reserve)(&space, c * c);
    REAL** small[] = {&row->square[l],       &row->inverse[l], &row->demand[l], &row->limit[l],
                      &row->share[l],        &row->scale[l],   &row->left[l],   &row->length[l],
                      &row->error_length[l], &row->divided[l], &row->limited[l]};
    for (int i = 0; i < 11; i++) *small[i] = NAME(reserve)(&space, c);
    REAL** state[] = {&row->full_weights[l], &row->weights[l], &row->momentum[l],
                      &row->full_anchor[l], &row->transposed[l]};
    for (int i = 0; i < 5; i++) *state[i] = NAME(reserve)(&space, inner * outer);
    row->units[l] = row->spent[l] = 0;
    long sizes[] = {c * inner, c * outer, inner * outer};
    for (int i = 0; i < 3; i++) most = sizes[i] > most ? sizes[i] : most;
  }
  row->scratch1 = NAME(reserve)(&space, most);
  row->scratch2 = NAME(reserve)(&space, most);
  row->scratch3 = NAME(reserve)(&space, most);
  return space;
}

static void NAME(make_masks)(const Call* call, NAME(Row) * row) {
  long c = call->chunk, columns = c + 2;
  for (long i = 0; i < c * columns; i++) row->decay_mask[i] = row->mix[i] = 0;
  for (long t = 0; t < c; t++) {
    REAL *decay_mask = row->decay_mask + t * columns, *mix = row->mix + t * columns;
    REAL decay = row->decay[t], keep = row->keep[t], write = row->write[t];
    if (t)
      for (long s = 0; s < t + 2; s++) {
        decay_mask[s] = decay * decay_mask[s - columns];
        mix[s] = keep * mix[s - columns];
      }
    else decay_mask[1] = decay, mix[0] = keep;
    decay_mask[t + 2] = 1;
    for (long s = 1; s < t + 3; s++) mix[s] += write * decay_mask[s];
    row->fade[t] = mix[0] - 1, row->carry[t] = mix[1];
  }
}

/* Subtract from remaining = 1 what the open chunk's earlier tokens wrote along each token's key:
   left[t] -= sum over s of (unit[s] . unit z[t])^2 spent[s]. */
static void NAME(open_steps)(const Call* call, NAME(Row) * row, int l) {
  long inner = call->widths[l];
  for (long t = 0; t < call->chunk; t++)
    for (long s = 0; s < row->slot; s++) {
      REAL number = NAME(dot)(inner, row->z[l] + t * inner, row->units[l] + s * inner);
      row->left[l][t] -= number * number * row->inverse[l][t] * row->spent[l][s];
    }
}

/* Store unit inputs and spent shares of these tokens for those that follow in the chunk. */
static void NAME(store_units)(const Call* call, NAME(Row) * row, int l) {
  long inner = call->widths[l];
  for (long t = 0; t < call->chunk; t++) {
    REAL length = NAME(root)(row->inverse[l][t]);
    REAL* unit = row->units[l] + (row->slot + t) * inner;
    for (long j = 0; j < inner; j++) unit[j] = row->z[l][t * inner + j] * length;
    row->spent[l][row->slot + t] = row->share[l][t] * row->left[l][t];
  }
}

/* Each token's step: see titans_seq/ops/rules/triangular_step.py. For the triangular step, solves
   the unit lower triangular system for `left`, the share of a token's direction that the chunk
   has not written yet. */
static void NAME(make_steps)(const Call* call, NAME(Row) * row, int l) {
  long c = call->chunk;
  REAL layers = call->layers, tiny = call->tiny;
  REAL *gram = row->gram[l], *system = row->system[l], *left = row->left[l];
  for (long t = 0; t < c; t++) {
    REAL square = gram[t * c + t];
    row->square[l][t] = square;
    row->length[l][t] = NAME(root)(square);
    row->scale[l][t] = row->theta[t] / (REAL)call->shared;
    left[t] = 1;
  }
  if (!call->triangular) return;
  for (long t = 0; t < c; t++) {
    REAL demand = row->theta[t] * row->square[l][t];
    REAL headroom = row->headroom[t] > tiny ? row->headroom[t] : tiny;
    REAL limit = (demand > headroom ? demand : headroom) * layers;
    row->demand[l][t] = demand, row->limit[l][t] = limit;
    row->share[l][t] = demand / limit;
    row->scale[l][t] = row->theta[t] * row->headroom[t] / limit;
    row->inverse[l][t] = 1 / (row->square[l][t] + tiny);
  }
  if (row->units[l]) NAME(open_steps)(call, row, l);
  for (long t = 0; t < c; t++) {
    REAL mine = row->inverse[l][t];
    for (long s = 0; s < t; s++) {
      REAL number = gram[t * c + s];
      system[t * c + s] = number * number * mine * row->inverse[l][s] * row->share[l][s];
    }
    left[t] -= NAME(dot)(t, system + t * c, left);
  }
}

static inline REAL NAME(step_of)(NAME(Row) * row, int l, long t) {
  REAL left = row->left[l][t];
  return row->scale[l][t] * (left > 0 ? left : 0);
}

/* Errors times bounded steps: what the tokens change. */
static void NAME(make_change)(const Call* call, NAME(Row) * row, int l) {
  long outer = call->widths[l + 1];
  for (long t = 0; t < call->chunk; t++) {
    const REAL* error = row->errors[l] + t * outer;
    REAL size = NAME(root)(NAME(dot)(outer, error, error)), divided = 1;
    if (call->bound > 0) divided = 1 + row->length[l][t] * size / (REAL)call->bound;
    REAL step = NAME(step_of)(row, l, t) / divided;
    row->error_length[l][t] = size, row->divided[l][t] = divided, row->limited[l][t] = step;
    for (long j = 0; j < outer; j++) row->change[l][t * outer + j] = step * error[j];
  }
}

/* Keys forward and their errors backward, at the weights of the chunk's start. */
static void NAME(pass_keys)(const Call* call, NAME(Row) * row) {
  long c = call->chunk, last = call->layers - 1;
  for (int l = 0; l <= last; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    REAL* to = l < last ? row->before[l] : row->errors[l];
    NAME(product)(c, outer, inner, row->z[l], inner, 1, row->full_anchor[l], outer, to, outer, 1, 0,
                  NAME(FULL));
    if (l < last)
      NAME(activate_with_factor)(call, c * outer, to, row->before_factor[l], row->z[l + 1]);
  }
  for (long i = 0; i < c * call->widths[last + 1]; i++) row->errors[last][i] -= row->values[i];
  for (int l = last - 1; l >= 0; l--) {
    long outer = call->widths[l + 1], next = call->widths[l + 2];
    NAME(transpose)(outer, next, row->full_anchor[l + 1], row->transposed[l + 1]);
    NAME(product)(c, outer, next, row->errors[l + 1], next, 1, row->transposed[l + 1], outer,
                  row->pulled[l], outer, 1, 0, NAME(FULL));
    NAME(slope_with_factor)(call, c * outer, row->pulled[l], row->before[l], row->before_factor[l],
                            row->errors[l]);
  }
}

/* What one layer writes, and how its queries read it: change = c d, (chunk, outer), and
   mixed[t, s] = mix[t, s] (h[t] . z[s]), (chunk, chunk), zero above the diagonal. */
static void NAME(write_layer)(const Call* call, NAME(Row) * row, int l) {
  long c = call->chunk, inner = call->widths[l], columns = c + 2;
  REAL *h = row->h[l], *z = row->z[l];
  NAME(transpose)(c, inner, z, row->scratch1);
  NAME(product)(c, c, inner, h, inner, 1, row->scratch1, c, row->seen[l], c, 1, 0,
                NAME(LOWER_RESULT));
  if (!call->exact) {
    NAME(product)(c, c, inner, z, inner, 1, row->scratch1, c, row->gram[l], c, 1, 0,
                  NAME(LOWER_RESULT));
    NAME(make_steps)(call, row, l);
    NAME(make_change)(call, row, l);
  }
  for (long t = 0; t < c; t++) {
    const REAL *mix = row->mix + t * columns + 2, *seen = row->seen[l] + t * c;
    REAL* mixed = row->mixed[l] + t * c;
    for (long s = 0; s <= t; s++) mixed[s] = mix[s] * seen[s];
    for (long s = t + 1; s < c; s++) mixed[s] = 0;
  }
}

/* The queries through one layer, each with the weights after its own token. */
static void NAME(read_layer)(const Call* call, NAME(Row) * row, int l) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1];
  REAL *h = row->h[l], *out = row->reads[l];
  NAME(product)(c, outer, inner, h, inner, 1, row->full_weights[l], outer, out, outer, 1, 0,
                NAME(FULL));
  const REAL *states[] = {row->weights[l], row->momentum[l]}, *shares[] = {row->fade, row->carry};
  for (int i = 0; i < 2 && row->has_state; i++)
    NAME(product_by_row)(c, outer, inner, h, inner, 1, states[i], outer, out, outer, 1, shares[i],
                         1, NAME(FULL));
  NAME(product)(c, outer, c, row->mixed[l], c, 1, row->change[l], outer, out, outer, -1, 1,
                NAME(LOWER_LEFT));
}

/* Weights and momentum of one layer at the chunk's end. */
static void NAME(end_layer)(const Call* call, NAME(Row) * row, int l, const REAL* base) {
  long c = call->chunk, inner = call->widths[l], outer = call->widths[l + 1], columns = c + 2;
  const REAL *mix = row->mix + (c - 1) * columns, *decay_mask = row->decay_mask + (c - 1) * columns;
  REAL *weights = row->weights[l], *momentum = row->momentum[l];
  for (long i = 0; i < inner * outer; i++) {
    weights[i] = mix[0] * weights[i] + mix[1] * momentum[i];
    momentum[i] *= decay_mask[1];
  }
  NAME(scale_rows)(c, outer, mix + 2, row->change[l], row->scratch1);
  NAME(scale_rows)(c, outer, decay_mask + 2, row->change[l], row->scratch2);
  NAME(product)(inner, outer, c, row->z[l], 1, inner, row->scratch1, outer, weights, outer, -1, 1,
                NAME(FULL));
  NAME(product)(inner, outer, c, row->z[l], 1, inner, row->scratch2, outer, momentum, outer, -1, 1,
                NAME(FULL));
  for (long i = 0; i < inner * outer; i++)
    row->full_weights[l][i] = weights[i] + (base ? base[i] : 0);
}

static void NAME(exact_errors)(const Call* call, NAME(Row) * row);

/* Write a chunk and read with its queries; `ends` moves the state to the chunk's end. The backward
   pass hands in `known`, the reads of the layers below the last from the tape; the last layer's
   reads, which only the output needs, are then left out. */
static void NAME(chunk_forward)(const Call* call, NAME(Row) * row, const REAL* const* base,
                                const REAL* known, int ends) {
  NAME(make_masks)(call, row);
  if (call->exact) NAME(exact_errors)(call, row);
  else NAME(pass_keys)(call, row);
  for (int l = 0; l < call->layers; l++) {
    long size = call->chunk * call->widths[l + 1];
    NAME(write_layer)(call, row, l);
    if (!known) NAME(read_layer)(call, row, l);
    if (l + 1 < call->layers) {
      if (known) memcpy(row->reads[l], known, size * sizeof(REAL)), known += size;
      NAME(activate_with_factor)(call, size, row->reads[l], row->reads_factor[l], row->h[l + 1]);
    }
    if (ends) NAME(end_layer)(call, row, l, base[l]);
  }
}
