/* The linear memory with its gradient at every token: see titans_seq/ops/general/exact.py.

   The error of a token is taken at the weights that the tokens before it have left, so the
   errors of a chunk solve one unit lower triangular system. The keys' reads of the weights and
   of the momentum at the chunk's start are in `before` and `pulled`. */

/* The shares of the chunk's first weights and momentum in the state before token t. */
static inline REAL NAME(first_share)(const Call* call, NAME(Row) * row, long t) {
  return call->decay_first ? row->keep[t] : 1;
}

static inline REAL NAME(weights_before)(const Call* call, NAME(Row) * row, long t) {
  return t ? row->mix[(t - 1) * (call->chunk + 2)] : 1;
}

static inline REAL NAME(momentum_before)(const Call* call, NAME(Row) * row, long t) {
  return t ? row->mix[(t - 1) * (call->chunk + 2) + 1] : 0;
}

static void NAME(exact_errors)(const Call* call, NAME(Row) * row) {
  long c = call->chunk, dim = call->widths[0], columns = c + 2;
  REAL *z = row->z[0], *error = row->errors[0], *weight_reads = row->before[0],
       *momentum_reads = row->pulled[0];
  REAL *system = row->system[0], *gram = row->gram[0];
  NAME(transpose)(c, dim, z, row->scratch1);
  NAME(product)(c, c, dim, z, dim, 1, row->scratch1, c, gram, c, 1, 0, NAME(LOWER_RESULT));
  NAME(product)(c, dim, dim, z, dim, 1, row->full_weights[0], dim, error, dim, 1, 0, NAME(FULL));
  NAME(product)(c, dim, dim, z, dim, 1, row->weights[0], dim, weight_reads, dim, 1, 0, NAME(FULL));
  NAME(product)(c, dim, dim, z, dim, 1, row->momentum[0], dim, momentum_reads, dim, 1, 0,
                NAME(FULL));
  for (long t = 0; t < c; t++) {
    REAL first = NAME(first_share)(call, row, t), *mine = error + t * dim;
    REAL fade = first * NAME(weights_before)(call, row, t) - 1;
    REAL carry = first * NAME(momentum_before)(call, row, t);
    for (long j = 0; j < dim; j++)
      mine[j] += fade * weight_reads[t * dim + j] + carry * momentum_reads[t * dim + j] -
                 row->values[t * dim + j];
    for (long s = 0; s < t; s++) {
      REAL share = first * row->mix[(t - 1) * columns + 2 + s] * row->theta[s] * gram[t * c + s];
      system[t * c + s] = share;
      const REAL* other = error + s * dim;
      for (long j = 0; j < dim; j++) mine[j] -= share * other[j];
    }
    row->error_length[0][t] = NAME(root)(NAME(dot)(dim, mine, mine));
    for (long j = 0; j < dim; j++) row->change[0][t * dim + j] = row->theta[t] * mine[j];
  }
}

/* From the change (in by_errors) to the system's right-hand side, which replaces it: solves the
   transposed system from the last token to the first. Adds to the gradients by keys, weights, masks
   and steps, and writes those by the products z z^T (into by_system). */
static void NAME(exact_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, dim = call->widths[0], columns = c + 2;
  REAL *given = by->by_errors[0], *error = row->errors[0], *weight_reads = row->before[0],
       *momentum_reads = row->pulled[0];
  const REAL *system = row->system[0], *gram = row->gram[0];
  for (long t = 0; t < c; t++) {
    REAL *mine = given + t * dim, *its = error + t * dim;
    by->by_theta[t] += NAME(dot)(dim, mine, its);
    for (long j = 0; j < dim; j++) mine[j] = row->theta[t] * mine[j] + by->by_loss[t] * its[j];
  }
  for (long t = c - 1; t > 0; t--)
    for (long s = 0; s < t; s++)
      for (long j = 0; j < dim; j++) given[s * dim + j] -= system[t * c + s] * given[t * dim + j];
  NAME(transpose)(c, dim, error, by->scratch4);
  REAL *by_system = by->by_system, *faded = by->scratch1, *carried = by->scratch3;
  NAME(product)(c, c, dim, given, dim, 1, by->scratch4, c, by_system, c, -1, 0, NAME(LOWER_RESULT));
  for (long t = 0; t < c; t++) {
    REAL first = NAME(first_share)(call, row, t), by_first = 0, *mine = given + t * dim;
    REAL weights = NAME(weights_before)(call, row, t),
         momentum = NAME(momentum_before)(call, row, t);
    REAL by_weights = NAME(dot)(dim, mine, weight_reads + t * dim),
         by_momentum = NAME(dot)(dim, mine, momentum_reads + t * dim);
    by_first += by_weights * weights + by_momentum * momentum;
    if (t) {
      by->by_mix[(t - 1) * columns] += first * by_weights;
      by->by_mix[(t - 1) * columns + 1] += first * by_momentum;
    }
    for (long s = 0; s < t; s++) {
      REAL number = by_system[t * c + s], mix = row->mix[(t - 1) * columns + 2 + s];
      REAL theta = row->theta[s], similarity = gram[t * c + s];
      by->by_mix[(t - 1) * columns + 2 + s] += number * first * theta * similarity;
      by->by_theta[s] += number * first * mix * similarity;
      by_first += number * mix * theta * similarity;
      by_system[t * c + s] = number * first * mix * theta;
    }
    for (long s = t; s < c; s++) by_system[t * c + s] = 0;
    by->by_first[t] = call->decay_first ? by_first : 0;
    for (long j = t * dim; j < (t + 1) * dim; j++)
      faded[j] = (first * weights - 1) * given[j], carried[j] = first * momentum * given[j];
  }
  const REAL *states[] = {row->full_weights[0], row->weights[0], row->momentum[0]},
             *parts[] = {given, faded, carried};
  REAL* by_states[] = {by->by_full_weights[0], by->read_weights[0], by->read_momentum[0]};
  for (int i = 0; i < 3; i++) {
    NAME(transpose)(c, dim, parts[i], by->scratch4);
    NAME(product)(dim, c, dim, states[i], dim, 1, by->scratch4, c, by->transposed_z, c, 1, i,
                  NAME(FULL));
    NAME(product)(dim, dim, c, row->z[0], 1, dim, parts[i], dim, by_states[i], dim, 1, 1,
                  NAME(FULL));
  }
  NAME(transpose)(dim, c, by->transposed_z, by->scratch1);
  for (long i = 0; i < c * dim; i++) by->by_z[0][i] += by->scratch1[i];
}
