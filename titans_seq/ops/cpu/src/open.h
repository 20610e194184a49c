/* One token of each row, read and written inside an open chunk.

   What the chunk's tokens write stays in a journal until the chunk ends: for each token its unit
   inputs, its changes (errors times bounded steps), and a few numbers. The drift and the momentum
   stand where the journal's first writing token found them, and nothing as large as a matrix is
   written. A token reads by the dual form of chunk.h, with

       mix[t, s] = keep[s + 1] ... keep[t] + momentum[s + 1] mix[t, s + 1],

   so that the last row of the masks takes as many steps as there are tokens. Everything between
   the layer's projections is done here: convolution, SiLU, unit lengths, rates, and after the
   reading the norm of each head and its gate. See titans_seq/ops/memory_open.py. */

/* How every token so far, the drift and the momentum reach the reading of this one. */
static void NAME(make_reach)(const Call* call, NAME(Here) * here) {
  long rates = open_rates(call);
  REAL kept = 1, sum = 1;
  here->reach[here->slot] = 1;
  for (long s = here->slot; s > here->first; s--) {
    const REAL* at = here->block + s * here->stride + rates;
    kept *= at[0];
    sum = kept + at[1] * sum;
    here->reach[s - 1] = sum;
  }
  const REAL* at = here->block + here->first * here->stride + rates;
  here->fade = kept * at[0], here->carry = at[1] * sum;
}

/* The key forward and its error back, at the weights of the chunk's start. */
static REAL NAME(pass_key)(const Call* call, NAME(Here) * here) {
  long last = call->layers - 1;
  for (long l = 0; l <= last; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    REAL* to = l < last ? here->before[l] : here->errors[l];
    for (long j = 0; j < outer; j++) to[j] = l < last ? 0 : -here->v[j];
    NAME(pass)(inner, outer, here->z[l], 1, here->base[l], outer, to);
    NAME(pass)(inner, outer, here->z[l], 1, here->anchor[l], outer, to);
    if (l < last) NAME(activate)(call, outer, to, here->z[l + 1]);
  }
  for (long l = last - 1; l >= 0; l--) {
    long outer = call->widths[l + 1], next = call->widths[l + 2];
    NAME(dots)(outer, next, here->errors[l + 1], here->base[l + 1], next, here->pulled);
    NAME(dots)(outer, next, here->errors[l + 1], here->anchor[l + 1], next, here->errors[l]);
    for (long j = 0; j < outer; j++) here->pulled[j] += here->errors[l][j];
    NAME(slope)(call, outer, here->pulled, here->before[l], here->errors[l]);
  }
  return NAME(dot)(call->widths[last + 1], here->errors[last], here->errors[last]) / 2;
}

/* This token's entry in the journal for one layer: see make_steps and make_change of chunk.h. */
static void NAME(write_token)(const Call* call, NAME(Here) * here, int l) {
  long inner = call->widths[l], outer = call->widths[l + 1], units = open_units(call, l);
  REAL *z = here->z[l], *error = here->errors[l], *change = here->mine + open_change(call, l);
  REAL square = NAME(dot)(inner, z, z), inverse = 1 / (square + (REAL)call->tiny);
  REAL step = here->theta / (REAL)call->shared;
  if (call->triangular) {
    REAL asked = here->theta * square, tiny = call->tiny;
    REAL room = here->room > tiny ? here->room : tiny, left = 1;
    REAL limit = (asked > room ? asked : room) * call->layers;
    const REAL* spent = here->block + open_spent(call, l);
    NAME(dots)(here->slot, inner, z, here->block + units, here->stride, here->alike);
    for (long s = 0; s < here->slot; s++)
      left -= here->alike[s] * here->alike[s] * inverse * spent[s * here->stride];
    here->mine[open_spent(call, l)] = asked / limit * left;
    step = here->theta * here->room / limit * (left > 0 ? left : 0);
  }
  if (call->bound > 0) {
    REAL size = NAME(root)(NAME(dot)(outer, error, error));
    step /= 1 + NAME(root)(square) * size / (REAL)call->bound;
  }
  for (long j = 0; j < outer; j++) change[j] = step * error[j];
  REAL length = NAME(root)(inverse);
  for (long j = 0; j < inner; j++) here->mine[units + j] = z[j] * length;
  here->mine[open_length(call, l)] = 1 / length;
}

static void NAME(read_token)(const Call* call, NAME(Here) * here, int l, const REAL* h, REAL* to) {
  long inner = call->widths[l], outer = call->widths[l + 1];
  long first = here->first, count = here->slot + 1 - first;
  const REAL *begin = here->block + first * here->stride, *length = begin + open_length(call, l);
  memset(to, 0, outer * sizeof(REAL));
  NAME(pass)(inner, outer, h, 1, here->base[l], outer, to);
  NAME(pass)(inner, outer, h, here->fade, here->drift[l], outer, to);
  NAME(pass)(inner, outer, h, here->carry, here->surge[l], outer, to);
  NAME(dots)(count, inner, h, begin + open_units(call, l), here->stride, here->alike);
  for (long s = 0; s < count; s++)
    here->alike[s] *= here->reach[first + s] * length[s * here->stride];
  NAME(pass)(count, outer, here->alike, -1, begin + open_change(call, l), here->stride, to);
}

static REAL NAME(token_in_chunk)(const Call* call, NAME(Here) * here) {
  REAL* rates = here->mine + open_rates(call);
  rates[0] = here->keep, rates[1] = here->held;
  NAME(make_reach)(call, here);
  REAL loss = NAME(pass_key)(call, here);
  const REAL* h = here->q;
  for (int l = 0; l < call->layers; l++) {
    NAME(write_token)(call, here, l);
    /* the keys' inputs and slopes of this layer are done with: their room takes the query's */
    REAL* to = l + 1 < call->layers ? here->before[l] : here->out;
    NAME(read_token)(call, here, l, h, to);
    if (l + 1 < call->layers) NAME(activate)(call, call->widths[l + 1], to, to);
    h = to;
  }
  return loss;
}

/* The linear memory with its gradient at every token, whose state is two small matrices. */
static REAL NAME(token_exactly)(const Call* call, NAME(Here) * here, REAL* drift, REAL* surge) {
  long dim = call->widths[0];
  REAL* error = here->errors[0];
  for (long j = 0; j < dim; j++) error[j] = -here->v[j];
  NAME(pass)(dim, dim, here->k, 1, here->base[0], dim, error);
  NAME(pass)(dim, dim, here->k, call->decay_first ? here->keep : 1, here->drift[0], dim, error);
  for (long i = 0; i < dim; i++) {
    REAL by = here->theta * here->k[i];
    const REAL *old = here->drift[0] + i * dim, *past = here->surge[0] + i * dim;
    for (long j = 0; j < dim; j++) {
      REAL next = here->held * past[j] - by * error[j];
      surge[i * dim + j] = next;
      drift[i * dim + j] = here->keep * old[j] + next;
    }
  }
  memset(here->out, 0, dim * sizeof(REAL));
  NAME(pass)(dim, dim, here->q, 1, here->base[0], dim, here->out);
  NAME(pass)(dim, dim, here->q, 1, drift, dim, here->out);
  return NAME(dot)(dim, error, error) / 2;
}

static void NAME(lay_token_out)(const Call* call, REAL* space, NAME(Here) * here) {
  long width = call->widths[0], most = 0;
  here->q = NAME(cut)(&space, width);
  here->k = NAME(cut)(&space, width);
  here->v = NAME(cut)(&space, width);
  here->out = NAME(cut)(&space, width);
  here->reach = NAME(cut)(&space, call->chunk);
  here->alike = NAME(cut)(&space, call->chunk);
  here->z[0] = here->k;
  for (int l = 0; l < call->layers; l++) {
    long outer = call->widths[l + 1];
    here->before[l] = NAME(cut)(&space, outer);
    here->errors[l] = NAME(cut)(&space, outer);
    here->z[l + 1] = NAME(cut)(&space, outer);
    most = outer > most ? outer : most;
  }
  here->pulled = NAME(cut)(&space, most);
}

/* Read and write one token of the sequences from `first` to `last`. */
static void NAME(token_rows)(const Call* call, const Opened* open, const Token* token, long first,
                             long last) {
  NAME(Here) here;
  NAME(lay_token_out)(call, token->space, &here);
  long rows = call->heads * call->batch, block = open_block(call);
  here.stride = rows * block, here.slot = token->slot, here.first = open->first;
  for (long b = first; b < last; b++) {
    REAL loss = 0;
    for (long head = 0; head < call->heads; head++) {
      long row = head * call->batch + b;
      for (int l = 0; l < call->layers; l++) {
        long size = call->widths[l] * call->widths[l + 1];
        here.base[l] = (const REAL*)token->base[l] + head * size;
        here.anchor[l] = (const REAL*)open->anchor[l] + row * size;
        here.drift[l] = (const REAL*)open->drift[l] + row * size;
        here.surge[l] = (const REAL*)open->surge[l] + row * size;
      }
      NAME(token_given)(call, token, b, head, &here);
      if (call->exact) {
        long at = row * call->widths[0] * call->widths[0];
        loss += NAME(token_exactly)(call, &here, (REAL*)token->drift_end + at,
                                    (REAL*)token->surge_end + at);
      } else {
        here.block = (const REAL*)token->journal + row * block;
        here.mine = (REAL*)token->journal + here.slot * here.stride + row * block;
        loss += NAME(token_in_chunk)(call, &here);
      }
      NAME(leave_head)(call, token, b, head, here.out);
    }
    ((REAL*)token->loss)[b] = loss / call->heads;
  }
}

/* Drift and momentum of one row and layer after the journal's first `length` tokens. */
static void NAME(settle_layer)(const Call* call, NAME(Here) * here, int l, REAL* drift, REAL* surge,
                               REAL* one, REAL* two) {
  long inner = call->widths[l], outer = call->widths[l + 1], change = open_change(call, l);
  long count = here->slot + 1 - here->first;
  const REAL* begin = here->block + here->first * here->stride;
  REAL left = 1;
  for (long s = count - 1; s >= 0; s--) {
    const REAL* at = begin + s * here->stride;
    REAL length = at[open_length(call, l)], by = length * here->reach[here->first + s];
    for (long j = 0; j < outer; j++) {
      one[s * outer + j] = by * at[change + j];
      two[s * outer + j] = length * left * at[change + j];
    }
    left *= at[open_rates(call) + 1];
  }
  for (long i = 0; i < inner * outer; i++) {
    drift[i] = here->fade * here->drift[l][i] + here->carry * here->surge[l][i];
    surge[i] = left * here->surge[l][i];
  }
  const REAL* units = begin + open_units(call, l);
  NAME(product)(inner, outer, count, units, 1, here->stride, one, outer, drift, outer, -1, 1,
                NAME(FULL));
  NAME(product)(inner, outer, count, units, 1, here->stride, two, outer, surge, outer, -1, 1,
                NAME(FULL));
}

/* All rows' drift and momentum, one row after another. */
static void NAME(settle_rows)(const Call* call, const Opened* open, const Settled* to) {
  NAME(Here) here;
  REAL* space = to->space;
  long rows = call->heads * call->batch, block = open_block(call);
  here.reach = NAME(cut)(&space, call->chunk), here.stride = rows * block;
  REAL* one = NAME(cut)(&space, call->chunk * open_widest(call));
  REAL* two = NAME(cut)(&space, call->chunk * open_widest(call));
  here.slot = to->length - 1, here.first = open->first;
  for (long row = 0; row < rows; row++) {
    here.block = (const REAL*)to->journal + row * block;
    NAME(make_reach)(call, &here);
    for (int l = 0; l < call->layers; l++) {
      long at = row * call->widths[l] * call->widths[l + 1];
      here.drift[l] = (const REAL*)open->drift[l] + at;
      here.surge[l] = (const REAL*)open->surge[l] + at;
      NAME(settle_layer)(call, &here, l, (REAL*)to->drift[l] + at, (REAL*)to->surge[l] + at, one,
                         two);
    }
  }
}
