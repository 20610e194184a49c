/* The dual form of the memory on a CPU: see titans_seq/ops/cpu/memory.py.

   Everything is written once and included for each type and set of instructions; what the
   processor at hand can do is asked at run time. No Python and no library but libc's is used:
   it is loaded with ctypes, so one build serves every version of Python and of PyTorch.    */

#include <math.h>
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

/* Counted up with every change of what a call hands over; see library.py. */
PUBLIC long titans_interface(void) { return 2; }

PUBLIC long titans_room(const Call* call, int backward, int is_double) {
  return is_double ? room_double_plain(call, backward) : room_float_plain(call, backward);
}

PUBLIC void titans_forward(const Call* call, const Forward* given, long first, long last,
                           int is_double) {
  if (is_double) PICK(forward_rows, double, call, given, first, last);
  else PICK(forward_rows, float, call, given, first, last);
}

PUBLIC void titans_backward(const Call* call, const Forward* given, const Backward* wanted,
                            long first, long last, int is_double) {
  if (is_double) PICK(backward_rows, double, call, given, wanted, first, last);
  else PICK(backward_rows, float, call, given, wanted, first, last);
}

/* Numbers of a row's part in the journal of an open chunk. */
PUBLIC long titans_journal_row(const Call* call) { return open_row(call); }

/* Numbers of working memory that a token of `rows` sequences takes. */
PUBLIC long titans_token_room(const Call* call, long rows) { return open_space(call, rows); }

/* The same where an open chunk's state is written out. */
PUBLIC long titans_settle_room(const Call* call) { return settle_space(call); }

PUBLIC void titans_token(const Call* call, const Opened* open, const Learned* learned,
                         const Token* token, long first, long last, int is_double) {
  if (is_double) PICK(token_rows, double, call, open, learned, token, first, last);
  else PICK(token_rows, float, call, open, learned, token, first, last);
}

PUBLIC void titans_settle(const Call* call, const Opened* open, const Settled* to, int is_double) {
  if (is_double) PICK(settle_rows, double, call, open, to);
  else PICK(settle_rows, float, call, open, to);
}

PUBLIC void titans_mix(const Mix* given, long first, long last, int is_double) {
  if (is_double) PICK(mix_rows, double, given, first, last);
  else PICK(mix_rows, float, given, first, last);
}

PUBLIC void titans_unmix(const Mix* given, const ByMix* wanted, long first, long last,
                         int is_double) {
  if (is_double) PICK(unmix_rows, double, given, wanted, first, last);
  else PICK(unmix_rows, float, given, wanted, first, last);
}

PUBLIC void titans_leave(const Leave* given, long first, long last, int is_double) {
  if (is_double) PICK(leave_rows, double, given, first, last);
  else PICK(leave_rows, float, given, first, last);
}

PUBLIC void titans_unleave(const Leave* given, const ByLeave* wanted, long first, long last,
                         int is_double) {
  if (is_double) PICK(unleave_rows, double, given, wanted, first, last);
  else PICK(unleave_rows, float, given, wanted, first, last);
}
