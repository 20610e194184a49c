/* One token of each row, read and written inside an open chunk.

   The chunk's writes stay in a journal until the chunk ends: for each token its unit inputs, its
   changes (errors times bounded steps), and a few numbers. Weights and momentum stay as they were
   before the journal's first token, and nothing as large as a matrix is written. A token reads by
   the dual form of chunk.h, with

       mix[t, s] = keep[s + 1] ... keep[t] + decay[s + 1] mix[t, s + 1],

   so that the last row of the mask takes as many steps as there are tokens. Everything between
   the layer's projections is done here: convolution, SiLU, unit lengths, rates, and after the
   read the norm of each head and its gate. See titans_seq/ops/cpu/memory_open.py. */

/* The last row of the mask: the shares of each token's change, and of the first weights (fade) and
   momentum (carry), in this token's read. */
static void NAME(make_mix_row)(NAME(TokenRow) * token_row) {
  REAL keep_product = 1, sum = 1;
  token_row->mix_row[token_row->slot] = 1;
  for (long s = token_row->slot; s > token_row->first; s--) {
    keep_product *= token_row->keeps[s];
    sum = keep_product + token_row->decays[s] * sum;
    token_row->mix_row[s - 1] = sum;
  }
  token_row->fade = keep_product * token_row->keeps[token_row->first],
  token_row->carry = token_row->decays[token_row->first] * sum;
}

/* A layer's weights where gradients are taken, and its weights after this token less the journal's
   changes; as sums that are never written. */
static inline NAME(Sum) NAME(full_anchor)(const NAME(TokenRow) * token_row, long l) {
  return (NAME(Sum)){{token_row->base[l], token_row->anchor[l]}, {1, 1}};
}
static inline NAME(Sum) NAME(current)(const NAME(TokenRow) * token_row, long l) {
  return (NAME(Sum)){{token_row->base[l], token_row->weights[l], token_row->momentum[l]},
                     {1, token_row->fade, token_row->carry}};
}

/* The key forward and its error backward, at the weights of the chunk's start. The query's product
   with the first layer is computed along with the key's, to read the matrices once. */
static REAL NAME(pass_key)(const Call* call, NAME(TokenRow) * token_row) {
  long last = call->layers - 1, dim = call->widths[last + 1];
  for (long l = 0; l <= last; l++) {
    long inner = call->widths[l], outer = call->widths[l + 1];
    REAL* to = l < last ? token_row->before[l] : token_row->errors[l];
    if (l) NAME(pass_two)(inner, outer, token_row->z[l], NAME(full_anchor)(token_row, l), to);
    else
      NAME(pass_key_and_query)(inner, outer, token_row->k, NAME(full_anchor)(token_row, 0),
                               token_row->q, NAME(current)(token_row, 0), to,
                               token_row->first_read);
    if (l < last)
      NAME(activate_with_factor)(call, outer, to, token_row->factor[l], token_row->z[l + 1]);
  }
  for (long j = 0; j < dim; j++) token_row->errors[last][j] -= token_row->v[j];
  for (long l = last - 1; l >= 0; l--) {
    long outer = call->widths[l + 1];
    NAME(dots_two)(outer, call->widths[l + 2], token_row->errors[l + 1],
                   NAME(full_anchor)(token_row, l + 1), token_row->pulled);
    NAME(slope_with_factor)(call, outer, token_row->pulled, token_row->before[l],
                            token_row->factor[l], token_row->errors[l]);
  }
  return NAME(dot)(dim, token_row->errors[last], token_row->errors[last]) / 2;
}

/* This token's journal entry for one layer: see make_steps and make_change in chunk.h. */
static void NAME(write_token)(const Call* call, NAME(TokenRow) * token_row, int l) {
  long inner = call->widths[l], outer = call->widths[l + 1], slot = token_row->slot;
  REAL *z = token_row->z[l], *error = token_row->errors[l],
       *change = token_row->changes[l] + slot * outer;
  REAL square = NAME(dot)(inner, z, z), inverse = 1 / (square + (REAL)call->tiny);
  REAL step = token_row->theta / (REAL)call->shared;
  if (call->triangular) {
    REAL demand = token_row->theta * square, tiny = call->tiny;
    REAL headroom = token_row->headroom > tiny ? token_row->headroom : tiny, written = 0;
    REAL limit = (demand > headroom ? demand : headroom) * call->layers;
    NAME(dots_one)(slot, inner, z, token_row->units[l], token_row->similarity);
    for (long s = 0; s < slot; s++) token_row->similarity[s] *= token_row->similarity[s];
    written = NAME(dot)(slot, token_row->similarity, token_row->spent[l]) * inverse;
    token_row->spent[l][slot] = demand / limit * (1 - written);
    step = token_row->theta * token_row->headroom / limit * (written < 1 ? 1 - written : 0);
  }
  if (call->bound > 0) {
    REAL size = NAME(root)(NAME(dot)(outer, error, error));
    step /= 1 + NAME(root)(square) * size / (REAL)call->bound;
  }
  for (long j = 0; j < outer; j++) change[j] = step * error[j];
  REAL length = NAME(root)(inverse), *unit = token_row->units[l] + slot * inner;
  for (long j = 0; j < inner; j++) unit[j] = z[j] * length;
  token_row->lengths[l][slot] = 1 / length;
}

/* The query through one layer, with the weights after this token. */
static void NAME(read_token)(const Call* call, NAME(TokenRow) * token_row, int l, const REAL* h,
                             REAL* to) {
  long inner = call->widths[l], outer = call->widths[l + 1];
  long first = token_row->first, count = token_row->slot + 1 - first;
  if (l) NAME(pass_three)(inner, outer, h, NAME(current)(token_row, l), to);
  else memcpy(to, token_row->first_read, outer * sizeof(REAL));
  NAME(dots_one)(count, inner, h, token_row->units[l] + first * inner, token_row->similarity);
  for (long s = 0; s < count; s++)
    token_row->similarity[s] *= token_row->mix_row[first + s] * token_row->lengths[l][first + s];
  NAME(pass_one)(count, outer, token_row->similarity, token_row->changes[l] + first * outer,
                 token_row->pulled);
  for (long j = 0; j < outer; j++) to[j] -= token_row->pulled[j];
}

static REAL NAME(token_in_chunk)(const Call* call, NAME(TokenRow) * token_row) {
  token_row->keeps[token_row->slot] = token_row->keep,
  token_row->decays[token_row->slot] = token_row->decay;
  NAME(make_mix_row)(token_row);
  REAL loss = NAME(pass_key)(call, token_row);
  const REAL* h = token_row->q;
  for (int l = 0; l < call->layers; l++) {
    NAME(write_token)(call, token_row, l);
    /* `before` of this layer is no longer needed for the key and takes the query's reads */
    REAL* to = l + 1 < call->layers ? token_row->before[l] : token_row->out;
    NAME(read_token)(call, token_row, l, h, to);
    if (l + 1 < call->layers) NAME(activate)(call, call->widths[l + 1], to, to);
    h = to;
  }
  return loss;
}

/* The linear memory with its gradient at every token, whose state is two small matrices. */
static REAL NAME(token_exactly)(const Call* call, NAME(TokenRow) * token_row, REAL* weights,
                                REAL* momentum) {
  long dim = call->widths[0];
  REAL* error = token_row->errors[0];
  NAME(Sum)
  before = {{token_row->base[0], token_row->weights[0]},
            {1, call->decay_first ? token_row->keep : 1}},
  after = {{token_row->base[0], weights}, {1, 1}};
  NAME(pass_two)(dim, dim, token_row->k, before, error);
  for (long j = 0; j < dim; j++) error[j] -= token_row->v[j];
  for (long i = 0; i < dim; i++) {
    REAL by = token_row->theta * token_row->k[i];
    const REAL *old = token_row->weights[0] + i * dim, *past = token_row->momentum[0] + i * dim;
    for (long j = 0; j < dim; j++) {
      REAL next = token_row->decay * past[j] - by * error[j];
      momentum[i * dim + j] = next;
      weights[i * dim + j] = token_row->keep * old[j] + next;
    }
  }
  NAME(pass_two)(dim, dim, token_row->q, after, token_row->out);
  return NAME(dot)(dim, error, error) / 2;
}

static void NAME(lay_token_out)(const Call* call, REAL* space, NAME(TokenRow) * token_row) {
  long width = call->widths[0], most = widest_layer(call);
  token_row->q = NAME(reserve)(&space, width);
  token_row->k = NAME(reserve)(&space, width);
  token_row->v = NAME(reserve)(&space, width);
  token_row->out = NAME(reserve)(&space, width);
  token_row->mix_row = NAME(reserve)(&space, call->chunk);
  token_row->similarity = NAME(reserve)(&space, call->chunk);
  token_row->z[0] = token_row->k;
  for (int l = 0; l < call->layers; l++) {
    long outer = call->widths[l + 1];
    token_row->before[l] = NAME(reserve)(&space, outer);
    token_row->errors[l] = NAME(reserve)(&space, outer);
    token_row->factor[l] = NAME(reserve)(&space, outer);
    token_row->z[l + 1] = NAME(reserve)(&space, outer);
  }
  token_row->pulled = NAME(reserve)(&space, most);
  token_row->first_read = NAME(reserve)(&space, most);
}

/* Set the pointers to one row's journal. */
static void NAME(find_journal)(const Call* call, const void* journal, long row,
                               NAME(TokenRow) * token_row) {
  REAL* at = (REAL*)journal + row * journal_row(call);
  for (int l = 0; l < call->layers; l++) {
    token_row->units[l] = at + journal_units(call, l),
    token_row->changes[l] = at + journal_changes(call, l);
    token_row->spent[l] = at + journal_spent(call, l),
    token_row->lengths[l] = at + journal_lengths(call, l);
  }
  token_row->keeps = at + journal_keeps(call), token_row->decays = at + journal_decays(call);
}

static void NAME(find_states)(const Call* call, const ChunkStart* start, long row,
                              NAME(TokenRow) * token_row) {
  for (int l = 0; l < call->layers; l++) {
    long at = row * call->widths[l] * call->widths[l + 1];
    token_row->anchor[l] = (const REAL*)start->anchor[l].at + at;
    token_row->weights[l] = (const REAL*)start->weights[l].at + at;
    token_row->momentum[l] = (const REAL*)start->momentum[l].at + at;
  }
}

/* Read and write one token of the sequences from `first` to `last`. */
static void NAME(token_rows)(const Call* call, const ChunkStart* start, const Learned* learned,
                             const Token* token, long first, long last) {
  NAME(TokenRow) token_row;
  NAME(Projected) given;
  REAL* space = token->space.at;
  long dim = call->heads * call->widths[0], square = call->widths[0] * call->widths[0];
  NAME(project_tokens)(call, learned, token, first, last, &space, &given);
  NAME(lay_token_out)(call, space, &token_row);
  token_row.slot = token->slot, token_row.first = start->first;
  for (long b = first; b < last; b++) ((REAL*)token->loss.at)[b] = 0;
  for (long head = 0; head < call->heads; head++) {
    for (int l = 0; l < call->layers; l++)
      token_row.base[l] =
          (const REAL*)learned->base[l].at + head * call->widths[l] * call->widths[l + 1];
    for (long b = first; b < last; b++) {
      long row = head * call->batch + b;
      REAL loss;
      NAME(find_states)(call, start, row, &token_row);
      NAME(token_given)(call, learned, token, &given, b, head, &token_row);
      if (call->exact)
        loss = NAME(token_exactly)(call, &token_row, (REAL*)token->weights_end.at + row * square,
                                   (REAL*)token->momentum_end.at + row * square);
      else {
        NAME(find_journal)(call, token->journal.at, row, &token_row);
        loss = NAME(token_in_chunk)(call, &token_row);
      }
      ((REAL*)token->loss.at)[b] += loss / call->heads;
      NAME(leave_head)(call, learned, &given, b, head, token_row.out);
    }
  }
  NAME(project)(last - first, dim, dim, given.gated, learned->leave.at,
                (REAL*)token->out.at + first * dim);
}

/* Weights and momentum of one row and layer after the journal's first `length` tokens. */
static void NAME(materialise_layer)(const Call* call, NAME(TokenRow) * token_row, int l,
                                    REAL* weights, REAL* momentum, REAL* one, REAL* two) {
  long inner = call->widths[l], outer = call->widths[l + 1];
  long first = token_row->first, count = token_row->slot + 1 - first;
  const REAL *units = token_row->units[l] + first * inner,
             *change = token_row->changes[l] + first * outer;
  REAL left = 1;
  for (long s = count - 1; s >= 0; s--) {
    REAL length = token_row->lengths[l][first + s], by = length * token_row->mix_row[first + s];
    for (long j = 0; j < outer; j++) {
      one[s * outer + j] = by * change[s * outer + j];
      two[s * outer + j] = length * left * change[s * outer + j];
    }
    left *= token_row->decays[first + s];
  }
  for (long i = 0; i < inner * outer; i++) {
    weights[i] =
        token_row->fade * token_row->weights[l][i] + token_row->carry * token_row->momentum[l][i];
    momentum[i] = left * token_row->momentum[l][i];
  }
  NAME(product)(inner, outer, count, units, 1, inner, one, outer, weights, outer, -1, 1,
                NAME(FULL));
  NAME(product)(inner, outer, count, units, 1, inner, two, outer, momentum, outer, -1, 1,
                NAME(FULL));
}

/* The same for all rows and layers. */
static void NAME(materialise_rows)(const Call* call, const ChunkStart* start,
                                   const Materialised* to) {
  NAME(TokenRow) token_row;
  REAL* space = to->space.at;
  token_row.mix_row = NAME(reserve)(&space, call->chunk);
  REAL* one = NAME(reserve)(&space, call->chunk * widest_layer(call));
  REAL* two = NAME(reserve)(&space, call->chunk * widest_layer(call));
  token_row.slot = to->length - 1, token_row.first = start->first;
  for (long row = 0; row < call->heads * call->batch; row++) {
    NAME(find_journal)(call, to->journal.at, row, &token_row);
    NAME(find_states)(call, start, row, &token_row);
    NAME(make_mix_row)(&token_row);
    for (int l = 0; l < call->layers; l++) {
      long at = row * call->widths[l] * call->widths[l + 1];
      NAME(materialise_layer)(call, &token_row, l, (REAL*)to->weights[l].at + at,
                              (REAL*)to->momentum[l].at + at, one, two);
    }
  }
}
