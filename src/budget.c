#include "budget.h"

#include <errno.h>
#include <inttypes.h>

int mi_budget_take(struct mi_budget *budget, uint64_t bytes,
                   struct mi_error *err)
{
    uint_fast64_t taken;

    if (!budget)
        return 0;
    taken = atomic_load(&budget->taken);
    do {
        if (taken > budget->limit || bytes > budget->limit - taken)
            return mi_fail(err, MI_ERRNO, ENOSPC,
                           "--max-store %" PRIu64
                           " would be exceeded: %" PRIu64
                           " bytes are in use, and %" PRIu64 " are needed",
                           budget->limit, (uint64_t)taken, bytes);
    } while (
        !atomic_compare_exchange_weak(&budget->taken, &taken, taken + bytes));
    return 0;
}

void mi_budget_charge(struct mi_budget *budget, uint64_t bytes)
{
    if (budget)
        atomic_fetch_add(&budget->taken, bytes);
}

void mi_budget_return(struct mi_budget *budget, uint64_t bytes)
{
    if (budget)
        atomic_fetch_sub(&budget->taken, bytes);
}

uint64_t mi_budget_room(const struct mi_budget *budget)
{
    uint64_t taken;

    if (!budget)
        return UINT64_MAX;
    taken = atomic_load(&budget->taken);
    return taken < budget->limit ? budget->limit - taken : 0;
}
