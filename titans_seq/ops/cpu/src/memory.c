/* The dual form of the memory on a CPU: see titans_seq/ops/cpu/memory.py.

   Everything is written once and included for each type and instruction set; the processor's
   features are queried at run time. Only libc is used: the library is loaded with ctypes, so one
   build serves every version of Python and of PyTorch.                                      */

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "call.h"
#include "journal.h"
#include "layer.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE 1
#endif

#define PASTE(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) PASTE(a, b, c)
#define NAME(a) JOIN(a, REAL, SET)

#define SET plain
#include "types.h"
#undef SET

#ifdef WIDE
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define SET wide
#include "types.h"
#undef SET
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
static int wide(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#define PICK(name, type, ...)                      \
  do {                                             \
    if (wide()) name##_##type##_wide(__VA_ARGS__); \
    else name##_##type##_plain(__VA_ARGS__);       \
  } while (0)
#else
#define PICK(name, type, ...) name##_##type##_plain(__VA_ARGS__)
#endif

#ifdef _WIN32
#define PUBLIC __declspec(dllexport)
#else
#define PUBLIC __attribute__((visibility("default")))
#endif

#include "checks.h"

/* Version of the arguments of all calls; see library.py. */
PUBLIC long titans_interface(void) { return 3; }

/* Bytes of one number. */
static long width_of(int is_double) { return is_double ? sizeof(double) : sizeof(float); }

/* Bytes of working memory for each thread. */
PUBLIC long titans_workspace(const Call* call, int backward, int is_double) {
  if (check_sizes(call)) return -1;
  return is_double ? workspace_double_plain(call, backward) : workspace_float_plain(call, backward);
}

/* Numbers of one row's journal. */
PUBLIC long titans_journal_row(const Call* call) {
  return check_sizes(call) ? -1 : journal_row(call);
}

/* Numbers of working memory for one token of `rows` sequences. */
PUBLIC long titans_token_workspace(const Call* call, long rows) {
  return check_sizes(call) ? -1 : token_workspace(call, rows);
}

/* The same for materialising an open chunk's state. */
PUBLIC long titans_materialise_workspace(const Call* call) {
  return check_sizes(call) ? -1 : materialise_workspace(call);
}

/* The functions from here on return null, or the name of an argument that they refused. */

PUBLIC const char* titans_forward(const Call* call, const Forward* given, long first, long last,
                                  int is_double) {
  const char* wrong = check_call(call, given, first, last, width_of(is_double), 0);
  if (wrong) return wrong;
  if (is_double) PICK(forward_rows, double, call, given, first, last);
  else PICK(forward_rows, float, call, given, first, last);
  return 0;
}

PUBLIC const char* titans_backward(const Call* call, const Forward* given, const Backward* wanted,
                                   long first, long last, int is_double) {
  long width = width_of(is_double);
  const char* wrong = check_call(call, given, first, last, width, 1);
  if (!wrong) wrong = check_backward(call, wanted, width);
  if (wrong) return wrong;
  if (is_double) PICK(backward_rows, double, call, given, wanted, first, last);
  else PICK(backward_rows, float, call, given, wanted, first, last);
  return 0;
}

PUBLIC const char* titans_token(const Call* call, const ChunkStart* start, const Learned* learned,
                                const Token* token, long first, long last, int is_double) {
  const char* wrong = check_token(call, start, learned, token, first, last, width_of(is_double));
  if (wrong) return wrong;
  if (is_double) PICK(token_rows, double, call, start, learned, token, first, last);
  else PICK(token_rows, float, call, start, learned, token, first, last);
  return 0;
}

PUBLIC const char* titans_materialise(const Call* call, const ChunkStart* start,
                                      const Materialised* to, int is_double) {
  const char* wrong = check_materialise(call, start, to, width_of(is_double));
  if (wrong) return wrong;
  if (is_double) PICK(materialise_rows, double, call, start, to);
  else PICK(materialise_rows, float, call, start, to);
  return 0;
}

PUBLIC const char* titans_mix(const Mix* given, long first, long last, int is_double) {
  const char* wrong = check_mix(given, first, last, width_of(is_double), 0);
  if (wrong) return wrong;
  if (is_double) PICK(mix_rows, double, given, first, last);
  else PICK(mix_rows, float, given, first, last);
  return 0;
}

PUBLIC const char* titans_unmix(const Mix* given, const ByMix* wanted, long first, long last,
                                int is_double) {
  long width = width_of(is_double);
  const char* wrong = check_mix(given, first, last, width, 1);
  if (!wrong) wrong = check_unmix(given, wanted, width);
  if (wrong) return wrong;
  if (is_double) PICK(unmix_rows, double, given, wanted, first, last);
  else PICK(unmix_rows, float, given, wanted, first, last);
  return 0;
}

PUBLIC const char* titans_leave(const Leave* given, long first, long last, int is_double) {
  const char* wrong = check_leave(given, first, last, width_of(is_double), 0);
  if (wrong) return wrong;
  if (is_double) PICK(leave_rows, double, given, first, last);
  else PICK(leave_rows, float, given, first, last);
  return 0;
}

PUBLIC const char* titans_unleave(const Leave* given, const ByLeave* wanted, long first, long last,
                                  int is_double) {
  long width = width_of(is_double);
  const char* wrong = check_leave(given, first, last, width, 1);
  if (!wrong) wrong = check_unleave(given, wanted, width);
  if (wrong) return wrong;
  if (is_double) PICK(unleave_rows, double, given, wanted, first, last);
  else PICK(unleave_rows, float, given, wanted, first, last);
  return 0;
}
