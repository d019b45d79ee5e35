/* A budget: the bytes of a node's memory that its store and its mirror may
 * take together (--max-store).
 *
 * Thread-safe; one process.  NULL stands for a budget without a limit.
 */
#ifndef MI_BUDGET_H
#define MI_BUDGET_H

#include <stdatomic.h>
#include <stdint.h>

#include "error.h"

struct mi_budget {
    uint64_t limit; /* bytes */
    atomic_uint_fast64_t taken;
};

/* Take 'bytes', or fail with ENOSPC, naming --max-store and the limit. */
int mi_budget_take(struct mi_budget *budget, uint64_t bytes,
                   struct mi_error *err);
/* Take them even if that exceeds the limit: they are in use. */
void mi_budget_charge(struct mi_budget *budget, uint64_t bytes);
/* Give back what was taken. */
void mi_budget_return(struct mi_budget *budget, uint64_t bytes);
/* Bytes that can still be taken; UINT64_MAX without a limit. */
uint64_t mi_budget_room(const struct mi_budget *budget);

#endif
