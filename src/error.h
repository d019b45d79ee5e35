/* Errors of the C core.
 *
 * A function that can fail returns 0, or -1 with a caller-owned
 * struct mi_error filled in; its outputs are then untouched.  C never prints
 * and never exits: the error travels up to Cython, which raises.
 */
#ifndef MI_ERROR_H
#define MI_ERROR_H

#include <stddef.h>

/* What 'code' of an error means. */
enum mi_domain {
    MI_NONE = 0,  /* no error */
    MI_ERRNO = 1, /* an errno value */
    MI_MPI = 2,   /* an MPI error class, MPI-4.1 section 9.4 */
    MI_FORMAT = 3 /* malformed input; 'code' is an errno value or 0 */
};

/* 'text' is one line without a newline, always terminated. */
struct mi_error {
    enum mi_domain domain;
    int code;
    char text[1016];
};

/* Fill 'err' (which may be NULL) and return -1, so that a caller can write
 * "return mi_fail(err, ...)".  Keeps errno.  Thread-safe.
 */
int mi_fail(struct mi_error *err, enum mi_domain domain, int code,
            const char *format, ...) __attribute__((format(printf, 4, 5)));

/* mi_fail() with domain MI_ERRNO: 'code' and ": " strerror(code) are taken
 * from errno as it is at the call.
 */
int mi_fail_errno(struct mi_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Put "format: " before the text of an error that is already filled in.
 * Returns -1.
 */
int mi_fail_context(struct mi_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Set to "no error".  NULL is allowed. */
void mi_error_clear(struct mi_error *err);

#endif
