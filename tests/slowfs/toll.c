#include "toll.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "queue.h"

#define PROBES 201
#define LUCKY 20           /* one probe in so many is too fast to count */
#define CALIBRATION 100000 /* nanoseconds of service of a probe */

static int64_t meta_ns, rtt_ns, bytes_per_us, cache_ms;
static _Atomic int64_t overhead_ns; /* of this machine, without a server */
static atomic_bool is_calibrating;
static _Atomic double timeout; /* of what the kernel remembers, in s */
static struct slow_queue meta = SLOW_QUEUE_INIT;
static struct slow_queue data = SLOW_QUEUE_INIT;

int slow_toll_parse(char *text)
{
    static char words[][9] = {"meta-us", "rtt-us", "mbps", "cache-ms"};
    char *const keys[] = {words[0], words[1], words[2], words[3], NULL};
    int64_t *const targets[] = {&meta_ns, &rtt_ns, &bytes_per_us, &cache_ms};
    char *value, *end;

    while (*text) {
        int key = getsubopt(&text, keys, &value);
        long number;

        if (key < 0 || !value || !*value)
            return -1;
        number = strtol(value, &end, 10);
        if (*end || number < 0 || number > 1000000)
            return -1;
        *targets[key] = key < 2 ? number * 1000 : number;
    }
    return 0;
}

/* When the request that is here now would have come to a real server, if its
 * answer left there in time.
 */
static int64_t came_at(void)
{
    return slow_queue_now() - overhead_ns;
}

int64_t slow_toll_meta(pid_t thread, enum slow_kind kind)
{
    if (is_calibrating)
        return slow_queue_now() + CALIBRATION;
    slow_census_count(thread, kind, 0);
    if (!meta_ns && !rtt_ns)
        return 0;
    return slow_queue_take(&meta, came_at(), meta_ns) + rtt_ns;
}

int64_t slow_toll_data(pid_t thread, size_t bytes)
{
    int64_t service = 0;

    slow_census_count(thread, SLOW_READ, bytes);
    if (bytes_per_us)
        service = (int64_t)bytes * 1000 / bytes_per_us;
    if (!service && !rtt_ns)
        return 0;
    return slow_queue_take(&data, came_at(), service) + rtt_ns;
}

static int compare(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Set overhead_ns to what a request takes here at least, but for a few lucky
 * ones.  Most take longer, by up to a factor of five from one minute to the
 * next: with what is usual, a request could be answered before its time.
 */
static void measure_overhead(const char *mountpoint)
{
    int64_t taken[PROBES];
    struct stat status;
    int done = 0;

    is_calibrating = true;
    while (done < PROBES) {
        int64_t start = slow_queue_now();

        if (stat(mountpoint, &status) != 0)
            break;
        taken[done++] = slow_queue_now() - start - CALIBRATION;
    }
    is_calibrating = false;
    qsort(taken, (size_t)done, sizeof(*taken), compare);
    if (done > 0 && taken[done / LUCKY] > 0)
        overhead_ns = taken[done / LUCKY];
}

void slow_toll_calibrate(const char *mountpoint)
{
    if (meta_ns || rtt_ns || bytes_per_us)
        measure_overhead(mountpoint);
    timeout = (double)cache_ms / 1e3;
}

double slow_toll_timeout(void)
{
    return timeout;
}

void slow_toll_print(FILE *stream)
{
    fprintf(stream,
            "\"meta_busy\": %.6f, \"data_busy\": %.6f, \"overhead\": %.6f",
            (double)slow_queue_busy(&meta) / 1e9,
            (double)slow_queue_busy(&data) / 1e9, (double)overhead_ns / 1e9);
}

void slow_toll_reset(void)
{
    slow_queue_reset(&meta);
    slow_queue_reset(&data);
}
