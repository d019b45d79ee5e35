#include "lead.h"

#include <pthread.h>

static pthread_mutex_t lead = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool is_mine;

void slow_lead_take(void)
{
    if (is_mine)
        return;
    pthread_mutex_lock(&lead);
    is_mine = true;
}

void slow_lead_yield(void)
{
    if (!is_mine)
        return;
    is_mine = false;
    pthread_mutex_unlock(&lead);
}

bool slow_lead_is_mine(void)
{
    return is_mine;
}
