/* The activations of a deep memory, SiLU and GELU, with first and second derivatives. Both are
   act(u) = u * factor(u): the factor is a sigmoid for SiLU, the normal CDF for GELU. */

/* 1 / (1 + exp(-x)). */
static inline REAL NAME(sigmoid)(REAL x) { return 1 / (1 + NAME(exponential)(-x)); }

static inline REAL NAME(normal_density)(REAL u) {
  return NAME(exponential)((REAL)-0.5 * u * u) * (REAL)0.3989422804014327;
}

static inline REAL NAME(normal_cdf)(REAL u) {
  return (REAL)0.5 * (1 + NAME(error_function)(u * (REAL)0.7071067811865476));
}

/* to = act(u) */
__attribute__((unused)) static void NAME(activate)(const Call* call, long n, const REAL* u,
                                                   REAL* to) {
  if (call->gelu)
    for (long i = 0; i < n; i++) to[i] = u[i] * NAME(normal_cdf)(u[i]);
  else
    for (long i = 0; i < n; i++) to[i] = u[i] * NAME(sigmoid)(u[i]);
}

/* The same; keeps factor(u), which is most of the work of the derivatives below. */
static void NAME(activate_with_factor)(const Call* call, long n, const REAL* restrict u,
                                       REAL* restrict factor, REAL* restrict to) {
  if (call->gelu)
    for (long i = 0; i < n; i++) factor[i] = NAME(normal_cdf)(u[i]), to[i] = u[i] * factor[i];
  else
    for (long i = 0; i < n; i++) factor[i] = NAME(sigmoid)(u[i]), to[i] = u[i] * factor[i];
}

/* to = given * act'(u) */
__attribute__((unused)) static void NAME(slope)(const Call* call, long n, const REAL* given,
                                                const REAL* u, REAL* to) {
  if (call->gelu)
    for (long i = 0; i < n; i++)
      to[i] = given[i] * (NAME(normal_cdf)(u[i]) + u[i] * NAME(normal_density)(u[i]));
  else
    for (long i = 0; i < n; i++) {
      REAL factor = NAME(sigmoid)(u[i]);
      to[i] = given[i] * factor * (1 + u[i] * (1 - factor));
    }
}

/* The same, from the factor that activate_with_factor kept. */
static void NAME(slope_with_factor)(const Call* call, long n, const REAL* given, const REAL* u,
                                    const REAL* factor, REAL* restrict to) {
  if (call->gelu)
    for (long i = 0; i < n; i++) to[i] = given[i] * (factor[i] + u[i] * NAME(normal_density)(u[i]));
  else
    for (long i = 0; i < n; i++) to[i] = given[i] * factor[i] * (1 + u[i] * (1 - factor[i]));
}

/* to = given * pulled * act''(u), from the same factor. */
static void NAME(second_slope)(const Call* call, long n, const REAL* given, const REAL* pulled,
                               const REAL* u, const REAL* factor, REAL* restrict to) {
  if (call->gelu)
    for (long i = 0; i < n; i++)
      to[i] = given[i] * pulled[i] * NAME(normal_density)(u[i]) * (2 - u[i] * u[i]);
  else
    for (long i = 0; i < n; i++) {
      REAL by = given[i] * pulled[i] * factor[i] * (1 - factor[i]);
      to[i] = by * (2 + u[i] * (1 - 2 * factor[i]));
    }
}
