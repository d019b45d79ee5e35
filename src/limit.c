#include "limit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define DEFAULT_PERCENT 25

/* log2 of the unit that 'suffix' is, or -1. */
static int shift_of(const char *suffix)
{
    static const char units[] = "kKmMgGtT";
    const char *unit;

    if (!suffix[0])
        return 0;
    unit = strchr(units, suffix[0]);
    return unit && !suffix[1] ? 10 * (int)((unit - units) / 2 + 1) : -1;
}

int mi_limit_parse(struct mi_limit *limit, const char *text)
{
    unsigned long long number;
    char *end;
    int shift;

    if (text[0] < '0' || text[0] > '9')
        return -1; /* strtoull() would take blanks and signs */
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno != 0)
        return -1;
    if (strcmp(end, "%") == 0) {
        if (number > 100)
            return -1;
        *limit = (struct mi_limit){MI_LIMIT_PERCENT, number};
        return 0;
    }
    shift = shift_of(end);
    if (shift < 0 || number > UINT64_MAX >> shift)
        return -1;
    *limit = (struct mi_limit){MI_LIMIT_BYTES, number << shift};
    return 0;
}

int mi_limit_is_zero(const struct mi_limit *limit)
{
    return limit->kind != MI_LIMIT_DEFAULT && limit->value == 0;
}

uint64_t mi_limit_bytes(const struct mi_limit *limit, const char *directory)
{
    uint64_t percent =
        limit->kind == MI_LIMIT_PERCENT ? limit->value : DEFAULT_PERCENT;
    struct statvfs fs;
    uint64_t size;

    if (limit->kind == MI_LIMIT_BYTES)
        return limit->value;
    /* A tmpfs without a size has no blocks. */
    if (statvfs(directory, &fs) != 0 || fs.f_blocks == 0)
        return UINT64_MAX;
    size = (uint64_t)fs.f_blocks * fs.f_frsize;
    return size / 100 * percent + size % 100 * percent / 100;
}
