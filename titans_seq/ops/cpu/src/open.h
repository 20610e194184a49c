/* One token of each row, read and written inside an open chunk.

   What the chunk's tokens write stays in a journal until the chunk ends: for each token its unit
   inputs, its changes (errors times bounded steps), and a few numbers. The drift and the momentum
   stand where the journal's first writing token found them, and nothing as large as a matrix is
   written. A token reads by the dual form of chunk.h, with

       mix[t, s] = keep[s + 1] ... keep[t] + momentum[s + 1] mix[t, s + 1],

   so that the last row of the masks takes as many steps as there are tokens. Everything between
   the layer's projections is done here: convolution, SiLU, unit lengths, rates, and after the
   reading the norm of each head and its gate. See titans_seq/ops/cpu/memory_open.py. */

/* How every token so far, the drift and the momentum reach the reading of this one. */
static void NAME(make_reach)(NAME(Here) * here) {
  REAL kept = 1, sum = 1;
  here->reach[here->slot] = 1;
  for (long s = here->slot; s > here->first; s--) {
    kept *= here->kept[s];
    sum = kept + here->held[s] * sum;
    here->reach[s - 1] = sum;
  }
  here->fade = kept * here->kept[here->first], here->carry = here->held[here->first] * sum;
}

/* The weights of a layer where gradients are taken, and as they stand after this token but for
   what the journal holds. */
static inline NAME(Sum) NAME(anchored)(const NAME(Here) * here, long l) {
  return (NAME(Sum)){{here->base[l], here->anchor[l]}, {1, 1}};
}
static inline NAME(Sum) NAME(current)(const NAME(Here) * here, long l) {
  return (NAME(Sum)){{here->base[l], here->drift[l], here->surge[l]},
                     {1, here->fade, here->carry}};
}

/* The key forward and its error back, at the weights of the chunk's start. The query, too, meets
   the first layer's weights here. */
static REAL NAME(pass_key)(const Call* call, NAME(Here) * here) {
  long last = call->layers - 1, dim = call->widths[last + 1];
  for (long l = 0; l <= last; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    REAL* to = l < last ? here->before[l] : here->errors[l];
    if (l) NAME(pass_two)(inner, outer, here->z[l], NAME(anchored)(here, l), to);
    else
      NAME(meet)(inner, outer, here->k, NAME(anchored)(here, 0), here->q, NAME(current)(here, 0),
                 to, here->met);
    if (l < last) NAME(activate_open)(call, outer, to, here->open[l], here->z[l + 1]);
  }
  for (long j = 0; j < dim; j++) here->errors[last][j] -= here->v[j];
  for (long l = last - 1; l >= 0; l--) {
    long outer = call->widths[l + 1];
    NAME(dots_two)(outer, call->widths[l + 2], here->errors[l + 1], NAME(anchored)(here, l + 1),
                   here->pulled);
    NAME(slope_open)(call, outer, here->pulled, here->before[l], here->open[l], here->errors[l]);
  }
  return NAME(dot)(dim, here->errors[last], here->errors[last]) / 2;
}

/* This token's entry in the journal for one layer: see make_steps and make_change of chunk.h. */
static void NAME(write_token)(const Call* call, NAME(Here) * here, int l) {
  long inner = call->widths[l], outer = call->widths[l + 1], slot = here->slot;
  REAL *z = here->z[l], *error = here->errors[l], *change = here->changes[l] + slot * outer;
  REAL square = NAME(dot)(inner, z, z), inverse = 1 / (square + (REAL)call->tiny);
  REAL step = here->theta / (REAL)call->shared;
  if (call->triangular) {
    REAL asked = here->theta * square, tiny = call->tiny;
    REAL room = here->room > tiny ? here->room : tiny, written = 0;
    REAL limit = (asked > room ? asked : room) * call->layers;
    NAME(dots_one)(slot, inner, z, here->units[l], here->alike);
    for (long s = 0; s < slot; s++) here->alike[s] *= here->alike[s];
    written = NAME(dot)(slot, here->alike, here->spent[l]) * inverse;
    here->spent[l][slot] = asked / limit * (1 - written);
    step = here->theta * here->room / limit * (written < 1 ? 1 - written : 0);
  }
  if (call->bound > 0) {
    REAL size = NAME(root)(NAME(dot)(outer, error, error));
    step /= 1 + NAME(root)(square) * size / (REAL)call->bound;
  }
  for (long j = 0; j < outer; j++) change[j] = step * error[j];
  REAL length = NAME(root)(inverse), *unit = here->units[l] + slot * inner;
  for (long j = 0; j < inner; j++) unit[j] = z[j] * length;
  here->lengths[l][slot] = 1 / length;
}

/* The query through one layer, as the weights stand after this token. */
static void NAME(read_token)(const Call* call, NAME(Here) * here, int l, const REAL* h, REAL* to) {
  long inner = call->widths[l], outer = call->widths[l + 1];
  long first = here->first, count = here->slot + 1 - first;
  if (l) NAME(pass_three)(inner, outer, h, NAME(current)(here, l), to);
  else memcpy(to, here->met, outer * sizeof(REAL));
  NAME(dots_one)(count, inner, h, here->units[l] + first * inner, here->alike);
  for (long s = 0; s < count; s++)
    here->alike[s] *= here->reach[first + s] * here->lengths[l][first + s];
  NAME(pass_one)(count, outer, here->alike, here->changes[l] + first * outer, here->pulled);
  for (long j = 0; j < outer; j++) to[j] -= here->pulled[j];
}

static REAL NAME(token_in_chunk)(const Call* call, NAME(Here) * here) {
  here->kept[here->slot] = here->keep, here->held[here->slot] = here->hold;
  NAME(make_reach)(here);
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
  NAME(Sum) before = {{here->base[0], here->drift[0]}, {1, call->decay_first ? here->keep : 1}},
            after = {{here->base[0], drift}, {1, 1}};
  NAME(pass_two)(dim, dim, here->k, before, error);
  for (long j = 0; j < dim; j++) error[j] -= here->v[j];
  for (long i = 0; i < dim; i++) {
    REAL by = here->theta * here->k[i];
    const REAL *old = here->drift[0] + i * dim, *past = here->surge[0] + i * dim;
    for (long j = 0; j < dim; j++) {
      REAL next = here->hold * past[j] - by * error[j];
      surge[i * dim + j] = next;
      drift[i * dim + j] = here->keep * old[j] + next;
    }
  }
  NAME(pass_two)(dim, dim, here->q, after, here->out);
  return NAME(dot)(dim, error, error) / 2;
}

static void NAME(lay_token_out)(const Call* call, REAL* space, NAME(Here) * here) {
  long width = call->widths[0], most = open_widest(call);
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
    here->open[l] = NAME(cut)(&space, outer);
    here->z[l + 1] = NAME(cut)(&space, outer);
  }
  here->pulled = NAME(cut)(&space, most);
  here->met = NAME(cut)(&space, most);
}

/* A row's part of the journal. */
static void NAME(open_journal)(const Call* call, const void* journal, long row, NAME(Here) * here) {
  REAL* at = (REAL*)journal + row * open_row(call);
  for (int l = 0; l < call->layers; l++) {
    here->units[l] = at + open_units(call, l), here->changes[l] = at + open_changes(call, l);
    here->spent[l] = at + open_spent(call, l), here->lengths[l] = at + open_lengths(call, l);
  }
  here->kept = at + open_kept(call), here->held = at + open_held(call);
}

static void NAME(find_states)(const Call* call, const Opened* open, long row, NAME(Here) * here) {
  for (int l = 0; l < call->layers; l++) {
    long at = row * call->widths[l] * call->widths[l + 1];
    here->anchor[l] = (const REAL*)open->anchor[l] + at;
    here->drift[l] = (const REAL*)open->drift[l] + at;
    here->surge[l] = (const REAL*)open->surge[l] + at;
  }
}

/* Read and write one token of the sequences from `first` to `last`. */
static void NAME(token_rows)(const Call* call, const Opened* open, const Learned* learned,
                             const Token* token, long first, long last) {
  NAME(Here) here;
  NAME(Projected) given;
  REAL* space = token->space;
  long dim = call->heads * call->widths[0], square = call->widths[0] * call->widths[0];
  NAME(project_tokens)(call, learned, token, first, last, &space, &given);
  NAME(lay_token_out)(call, space, &here);
  here.slot = token->slot, here.first = open->first;
  for (long b = first; b < last; b++) ((REAL*)token->loss)[b] = 0;
  for (long head = 0; head < call->heads; head++) {
    for (int l = 0; l < call->layers; l++)
      here.base[l] =
          (const REAL*)learned->base[l] + head * call->widths[l] * call->widths[l + 1];
    for (long b = first; b < last; b++) {
      long row = head * call->batch + b;
      REAL loss;
      NAME(find_states)(call, open, row, &here);
      NAME(token_given)(call, learned, token, &given, b, head, &here);
      if (call->exact)
        loss = NAME(token_exactly)(call, &here, (REAL*)token->drift_end + row * square,
                                   (REAL*)token->surge_end + row * square);
      else {
        NAME(open_journal)(call, token->journal, row, &here);
        loss = NAME(token_in_chunk)(call, &here);
      }
      ((REAL*)token->loss)[b] += loss / call->heads;
      NAME(leave_head)(call, learned, &given, b, head, here.out);
    }
  }
  NAME(project)(last - first, dim, dim, given.gated, learned->leave,
                (REAL*)token->out + first * dim);
}

/* Drift and momentum of one row and layer after the journal's first `length` tokens. */
static void NAME(settle_layer)(const Call* call, NAME(Here) * here, int l, REAL* drift, REAL* surge,
                               REAL* one, REAL* two) {
  long inner = call->widths[l], outer = call->widths[l + 1];
  long first = here->first, count = here->slot + 1 - first;
  const REAL *units = here->units[l] + first * inner, *change = here->changes[l] + first * outer;
  REAL left = 1;
  for (long s = count - 1; s >= 0; s--) {
    REAL length = here->lengths[l][first + s], by = length * here->reach[first + s];
    for (long j = 0; j < outer; j++) {
      one[s * outer + j] = by * change[s * outer + j];
      two[s * outer + j] = length * left * change[s * outer + j];
    }
    left *= here->held[first + s];
  }
  for (long i = 0; i < inner * outer; i++) {
    drift[i] = here->fade * here->drift[l][i] + here->carry * here->surge[l][i];
    surge[i] = left * here->surge[l][i];
  }
  NAME(product)(inner, outer, count, units, 1, inner, one, outer, drift, outer, -1, 1, NAME(FULL));
  NAME(product)(inner, outer, count, units, 1, inner, two, outer, surge, outer, -1, 1, NAME(FULL));
}

/* All rows' drift and momentum, one row after another. */
static void NAME(settle_rows)(const Call* call, const Opened* open, const Settled* to) {
  NAME(Here) here;
  REAL* space = to->space;
  here.reach = NAME(cut)(&space, call->chunk);
  REAL* one = NAME(cut)(&space, call->chunk * open_widest(call));
  REAL* two = NAME(cut)(&space, call->chunk * open_widest(call));
  here.slot = to->length - 1, here.first = open->first;
  for (long row = 0; row < call->heads * call->batch; row++) {
    NAME(open_journal)(call, to->journal, row, &here);
    NAME(find_states)(call, open, row, &here);
    NAME(make_reach)(&here);
    for (int l = 0; l < call->layers; l++) {
      long at = row * call->widths[l] * call->widths[l + 1];
      NAME(settle_layer)(call, &here, l, (REAL*)to->drift[l] + at, (REAL*)to->surge[l] + at, one,
                         two);
    }
  }
}
