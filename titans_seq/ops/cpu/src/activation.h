/* Non-linearities of a deep memory, their slopes and second derivatives. */

/* 1 / (1 + exp(-x)). */
static inline REAL NAME(gate)(REAL x) { return 1 / (1 + NAME(power)(-x)); }

static inline REAL NAME(bell)(REAL u) {
  return NAME(power)((REAL)-0.5 * u * u) * (REAL)0.3989422804014327;
}

static inline REAL NAME(below)(REAL u) {
  return (REAL)0.5 * (1 + NAME(error_function)(u * (REAL)0.7071067811865476));
}

/* to = the non-linearity at u. */
__attribute__((unused)) static void NAME(activate)(const Call* call, long n, const REAL* u,
                                                   REAL* to) {
  if (call->gelu)
    for (long i = 0; i < n; i++) to[i] = u[i] * NAME(below)(u[i]);
  else
    for (long i = 0; i < n; i++) to[i] = u[i] * NAME(gate)(u[i]);
}

/* The same, keeping in `open` what u is multiplied by: most of the work of the slopes below. */
static void NAME(activate_open)(const Call* call, long n, const REAL* restrict u,
                                REAL* restrict open, REAL* restrict to) {
  if (call->gelu)
    for (long i = 0; i < n; i++) open[i] = NAME(below)(u[i]), to[i] = u[i] * open[i];
  else
    for (long i = 0; i < n; i++) open[i] = NAME(gate)(u[i]), to[i] = u[i] * open[i];
}

/* to = given * the slope at u. */
__attribute__((unused)) static void NAME(slope)(const Call* call, long n, const REAL* given,
                                                const REAL* u, REAL* to) {
  if (call->gelu)
    for (long i = 0; i < n; i++) to[i] = given[i] * (NAME(below)(u[i]) + u[i] * NAME(bell)(u[i]));
  else
    for (long i = 0; i < n; i++) {
      REAL open = NAME(gate)(u[i]);
      to[i] = given[i] * open * (1 + u[i] * (1 - open));
    }
}

/* The same from what activate_open kept. */
static void NAME(slope_open)(const Call* call, long n, const REAL* given, const REAL* u,
                             const REAL* open, REAL* restrict to) {
  if (call->gelu)
    for (long i = 0; i < n; i++) to[i] = given[i] * (open[i] + u[i] * NAME(bell)(u[i]));
  else
    for (long i = 0; i < n; i++) to[i] = given[i] * open[i] * (1 + u[i] * (1 - open[i]));
}

/* to = given * pulled * the second derivative at u; `open` as above. */
static void NAME(bend)(const Call* call, long n, const REAL* given, const REAL* pulled,
                       const REAL* u, const REAL* open, REAL* restrict to) {
  if (call->gelu)
    for (long i = 0; i < n; i++)
      to[i] = given[i] * pulled[i] * NAME(bell)(u[i]) * (2 - u[i] * u[i]);
  else
    for (long i = 0; i < n; i++) {
      REAL by = given[i] * pulled[i] * open[i] * (1 - open[i]);
      to[i] = by * (2 + u[i] * (1 - 2 * open[i]));
    }
}
