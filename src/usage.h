/* What is said about a command line or a variable that cannot be used. */
#ifndef MI_USAGE_H
#define MI_USAGE_H

#include "error.h"

/* For a value in a message: what follows it stays in. */
#define MI_USAGE_WIDTH 400
#define MI_USAGE_VALUE "'%.400s'"

/* Fill 'err' with MI_ERRNO, EINVAL and the text, on one line whatever values
 * it names.  Returns -1.
 */
int mi_usage_refuse(struct mi_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* That 'option' has no argument.  Returns -1. */
int mi_usage_missing(const char *option, struct mi_error *err);

/* MI_ERRNO and ENOMEM.  Returns -1. */
int mi_usage_no_memory(struct mi_error *err);

/* Words, the last a NULL, and how a message lists them. */
struct mi_choices {
    const char *words[4];
    const char *listed;
};

/* The number of the choice that 'text' is, or -1 with 'err'; 'origin' is the
 * option or the variable.
 */
int mi_usage_choose(const struct mi_choices *choices, const char *text,
                    const char *origin, struct mi_error *err);

#endif
