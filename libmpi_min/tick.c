#include "tick.h"

#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PERIOD 1000000 /* nanoseconds */
#define SLICE 100000   /* likewise */
#define STACK 65536

/* As the kernel has it, first version.  Source: sched_setattr(2). */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* Who asks for little may interrupt who asks for more, from Linux 6.12 on;
 * before that, a thread that sleeps most of the time may.
 */
static void ask_for_little(void)
{
    struct attributes attributes = {
        .size = sizeof(attributes),
        .nice = getpriority(PRIO_PROCESS, 0),
        .runtime = SLICE,
    };

    (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

static void *run(void *arg)
{
    struct mpimin_tick *tick = arg;
    struct timespec next;

    ask_for_little();
    pthread_mutex_lock(&tick->lock);
    while (!tick->is_over) {
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_nsec += PERIOD;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        (void)pthread_cond_timedwait(&tick->change, &tick->lock, &next);
    }
    pthread_mutex_unlock(&tick->lock);
    return NULL;
}

static int processors_of(pid_t process)
{
    cpu_set_t set;

    return sched_getaffinity(process, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
                                                              : 0;
}

/* Those of the node's ranks: a launcher may have bound each to some of its
 * own.
 */
static int processors(void)
{
    int own = processors_of(0), launcher_s = processors_of(getppid());

    return own == 0 ? INT_MAX : own > launcher_s ? own : launcher_s;
}

void mpimin_tick_start(struct mpimin_tick *tick, int ranks)
{
    pthread_condattr_t clock;
    pthread_attr_t stack;

    memset(tick, 0, sizeof(*tick));
    if (ranks <= processors())
        return;
    pthread_mutex_init(&tick->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&tick->change, &clock);
    pthread_condattr_destroy(&clock);
    pthread_attr_init(&stack);
    pthread_attr_setstacksize(&stack, STACK);
    tick->is_running = pthread_create(&tick->thread, &stack, run, tick) == 0;
    pthread_attr_destroy(&stack);
}

void mpimin_tick_stop(struct mpimin_tick *tick)
{
    if (!tick->is_running)
        return;
    pthread_mutex_lock(&tick->lock);
    tick->is_over = 1;
    pthread_cond_signal(&tick->change);
    pthread_mutex_unlock(&tick->lock);
    pthread_join(tick->thread, NULL);
    pthread_cond_destroy(&tick->change);
    pthread_mutex_destroy(&tick->lock);
}
