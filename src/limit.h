/* A limit as the user gives it: bytes, or a part of a filesystem. */
#ifndef MI_LIMIT_H
#define MI_LIMIT_H

#include <stdint.h>

enum mi_limit_kind {
    MI_LIMIT_DEFAULT = 0, /* a quarter of the filesystem */
    MI_LIMIT_BYTES,
    MI_LIMIT_PERCENT /* of the filesystem, 0 to 100 */
};

struct mi_limit {
    enum mi_limit_kind kind;
    uint64_t value;
};

/* Read "NUMBER", "NUMBER" with K, M, G or T behind it (in either case; powers
 * of 1024) or "NUMBER%".  Returns 0, or -1 with '*limit' untouched if it is
 * none of these, or out of range.
 */
int mi_limit_parse(struct mi_limit *limit, const char *text);

/* Is it zero, in whatever unit? */
int mi_limit_is_zero(const struct mi_limit *limit);

/* In bytes, for the filesystem that holds 'directory'; UINT64_MAX if that is
 * needed and cannot be asked, or has no size.  Source: statvfs(3).
 */
uint64_t mi_limit_bytes(const struct mi_limit *limit, const char *directory);

#endif
