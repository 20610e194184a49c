/* The linear memory with its gradient at every token: see titans_seq/ops/general/exact.py.

   The error of a token is taken at the weights that the tokens before it have left, so the
   errors of a chunk solve one unit lower triangular system. What the keys read of the drift
   and of the momentum at the chunk's start stands in `before` and `pulled`. */

/* How the state before token t holds the drift and the momentum of the chunk's start. */
static inline REAL NAME(first_share)(const Call* call, NAME(Row) * row, long t) {
  return call->decay_first ? row->keep[t] : 1;
}

static inline REAL NAME(drift_before)(const Call* call, NAME(Row) * row, long t) {
  return t ? row->mix[(t - 1) * (call->chunk + 2)] : 1;
}

static inline REAL NAME(surge_before)(const Call* call, NAME(Row) * row, long t) {
  return t ? row->mix[(t - 1) * (call->chunk + 2) + 1] : 0;
}

static void NAME(exact_errors)(const Call* call, NAME(Row) * row) {
  long c = call->chunk, dim = call->widths[0], columns = c + 2;
  REAL *z = row->z[0], *error = row->errors[0], *drifted = row->before[0], *surged = row->pulled[0];
  REAL *system = row->system[0], *gram = row->gram[0];
  NAME(turn)(c, dim, z, row->one);
  NAME(product)(c, c, dim, z, dim, 1, row->one, c, gram, c, 1, 0, NAME(LOWER_RESULT));
  NAME(product)(c, dim, dim, z, dim, 1, row->weights[0], dim, error, dim, 1, 0, NAME(FULL));
  NAME(product)(c, dim, dim, z, dim, 1, row->drift[0], dim, drifted, dim, 1, 0, NAME(FULL));
  NAME(product)(c, dim, dim, z, dim, 1, row->surge[0], dim, surged, dim, 1, 0, NAME(FULL));
  for (long t = 0; t < c; t++) {
    REAL first = NAME(first_share)(call, row, t), *mine = error + t * dim;
    REAL fade = first * NAME(drift_before)(call, row, t) - 1;
    REAL carry = first * NAME(surge_before)(call, row, t);
    for (long j = 0; j < dim; j++)
      mine[j] +=
          fade * drifted[t * dim + j] + carry * surged[t * dim + j] - row->values[t * dim + j];
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

/* From the change (in by_errors) to the errors' right-hand side, which takes its place; adds to
   the gradients by keys, weights, masks and steps, and writes those by the keys' products. */
static void NAME(exact_backward)(const Call* call, NAME(Row) * row, NAME(ByRow) * by) {
  long c = call->chunk, dim = call->widths[0], columns = c + 2;
  REAL *given = by->by_errors[0], *error = row->errors[0], *drifted = row->before[0],
       *surged = row->pulled[0];
  const REAL *system = row->system[0], *gram = row->gram[0];
  for (long t = 0; t < c; t++) {
    REAL *mine = given + t * dim, *its = error + t * dim;
    by->by_theta[t] += NAME(dot)(dim, mine, its);
    for (long j = 0; j < dim; j++) mine[j] = row->theta[t] * mine[j] + by->by_loss[t] * its[j];
  }
  for (long t = c - 1; t > 0; t--)
    for (long s = 0; s < t; s++)
      for (long j = 0; j < dim; j++) given[s * dim + j] -= system[t * c + s] * given[t * dim + j];
  NAME(turn)(c, dim, error, by->four);
  REAL *by_system = by->by_system, *faded = by->one, *carried = by->three;
  NAME(product)(c, c, dim, given, dim, 1, by->four, c, by_system, c, -1, 0, NAME(LOWER_RESULT));
  for (long t = 0; t < c; t++) {
    REAL first = NAME(first_share)(call, row, t), by_first = 0, *mine = given + t * dim;
    REAL drift = NAME(drift_before)(call, row, t), surge = NAME(surge_before)(call, row, t);
    REAL by_drift = NAME(dot)(dim, mine, drifted + t * dim),
         by_surge = NAME(dot)(dim, mine, surged + t * dim);
    by_first += by_drift * drift + by_surge * surge;
    if (t) {
      by->by_mix[(t - 1) * columns] += first * by_drift;
      by->by_mix[(t - 1) * columns + 1] += first * by_surge;
    }
    for (long s = 0; s < t; s++) {
      REAL number = by_system[t * c + s], mix = row->mix[(t - 1) * columns + 2 + s];
      REAL theta = row->theta[s], alike = gram[t * c + s];
      by->by_mix[(t - 1) * columns + 2 + s] += number * first * theta * alike;
      by->by_theta[s] += number * first * mix * alike;
      by_first += number * mix * theta * alike;
      by_system[t * c + s] = number * first * mix * theta;
    }
    for (long s = t; s < c; s++) by_system[t * c + s] = 0;
    by->by_first[t] = call->decay_first ? by_first : 0;
    for (long j = t * dim; j < (t + 1) * dim; j++)
      faded[j] = (first * drift - 1) * given[j], carried[j] = first * surge * given[j];
  }
  const REAL *states[] = {row->weights[0], row->drift[0], row->surge[0]},
             *parts[] = {given, faded, carried};
  REAL* by_states[] = {by->by_weights[0], by->read_drift[0], by->read_surge[0]};
  for (int i = 0; i < 3; i++) {
    NAME(turn)(c, dim, parts[i], by->four);
    NAME(product)(dim, c, dim, states[i], dim, 1, by->four, c, by->turned_z, c, 1, i, NAME(FULL));
    NAME(product)(dim, dim, c, row->z[0], 1, dim, parts[i], dim, by_states[i], dim, 1, 1,
                  NAME(FULL));
  }
  NAME(turn)(dim, c, by->turned_z, by->one);
  for (long i = 0; i < c * dim; i++) by->by_z[0][i] += by->one[i];
}
