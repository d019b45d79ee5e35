/* The one binary format of mpiimport: records and frames.
 *
 * A node store is an append-only arena of records.  All arenas of a job hold
 * the same bytes at the same offsets; a frame carries a stretch of root's
 * arena to all others (or a piece of a shared object to their mirrors).
 * Numbers are in the byte order of the machine: a job runs on one kind.
 *
 *   arena:   | record | record | record | ...            16-byte aligned
 *
 *   record:  +--------------------------------------------------------+
 *            | struct mi_record (96 bytes)                            |
 *            +--------------------------------------------------------+
 *            | path, key_size bytes, then NUL up to a multiple of 16  |
 *            +--------------------------------------------------------+
 *            | payload, size bytes, then NUL up to a multiple of 16   |
 *            +--------------------------------------------------------+
 *
 *   payload: LIST    struct mi_entries, sorted names of the directory
 *            FILE    the bytes of the file, or of the bytecode file
 *            ABSENT  (of a damaged object) one line that says why
 *            MIRROR  texts, terminated each: its place ("" if that is the
 *                    path), its SONAME ("" if it has none), the place of the
 *                    same file under another path ("" if there is none); then
 *                    what it needs (mi_record_need()).  None of MI_COPY.
 *                    ABSENT with the code MI_MIRROR_REFUSED: the same, or none
 *            STAT    struct mi_status, and of a symbolic link (MI_LSTAT) where
 *                    it leads to, terminated; of MI_REAL: the real path,
 *                    terminated
 *            others  none
 *
 *   stream:  | frame header | payload | frame header | payload | ... | END |
 *            (struct mi_packet, one broadcast, with the payload if that is
 *            small; otherwise the payload is one more)
 *
 *   ask:     | struct mi_ask_head | path | extra |   a message to root
 */
#ifndef MI_FORMAT_H
#define MI_FORMAT_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

#define MI_RECORD_MAGIC 0x3172694dU /* "Mir1" */
#define MI_FRAME_MAGIC 0x3166694dU  /* "Mif1" */
#define MI_FORMAT_VERSION 3

/* What is asked of the filesystem. */
enum mi_query {
    MI_LIST = 1, /* names and types in a directory */
    MI_STAT = 2, /* type, size, modification time */
    MI_READ = 3, /* the bytes of a regular file */
    MI_CODE = 4, /* valid bytecode of a source file; extra: the .pyc's path */
    MI_MIRROR = 5, /* a shared object, with what it needs, in the mirror */
    MI_REAL = 6,   /* the path without symbolic links: realpath(3) */
    MI_LSTAT = 7,  /* as MI_STAT, of a symbolic link itself */
    MI_COPY = 8    /* a regular file as it is, in the mirror */
};
#define MI_QUERY_LAST MI_COPY

/* Is it answered by a file in the mirror? */
static inline int mi_query_mirrors(enum mi_query query)
{
    return query == MI_MIRROR || query == MI_COPY;
}

/* What the answer is. */
enum mi_kind {
    MI_KIND_LIST = 1,
    MI_KIND_STAT = 2,
    MI_KIND_FILE = 3,
    MI_KIND_ABSENT = 4, /* 'code' says why: an errno value */
    MI_KIND_MIRROR = 5  /* 'object' names it in the stream */
};
#define MI_KIND_LAST MI_KIND_MIRROR

/* Codes of an ABSENT answer to MI_CODE, beside the errno values. */
#define MI_CODE_PENDING                                                       \
    4097                    /* no valid bytecode; root is about to compile    \
                             */
#define MI_CODE_SOURCE 4098 /* root has none to give: compile the source */
/* Code of an ABSENT answer to MI_READ, beside the errno values. */
#define MI_READ_REFUSED 4101 /* too large for the store: read it directly */
/* Codes of an ABSENT answer to MI_MIRROR or MI_COPY, beside the errno values.
 */
#define MI_MIRROR_REFUSED 4099 /* load it directly */
#define MI_MIRROR_DAMAGED 4100 /* do not load it; the payload says why */

/* Flags of a record. */
#define MI_FLAG_LOCAL 1 /* LIST: the directory is on a memory filesystem */

/* How an object gets what it needs. */
enum mi_need {
    MI_NEED_SYSTEM = 's',  /* NAME; the tree has none: the system's */
    MI_NEED_MIRROR = 'm',  /* PATH, which has a record of its own */
    MI_NEED_VARIANT = 'v', /* the same, but the linker may choose one of the
                            * directory's glibc-hwcaps/, mirrored as well */
    MI_NEED_LOCAL = 'l',   /* PATH in a directory of the node's own */
    MI_NEED_ORIGIN = 'o',  /* as MIRROR, but needed by a path: $ORIGIN/... */
    MI_NEED_PATH = 'p',    /* needed by its path on the tree: PATH is that of
                            * an object of ours that answers to it */
    MI_NEED_UNKNOWN = 'u', /* NAME; only the linker knows */
    /* Not a need.  In the record of a directory, whose path ends in a '/': */
    MI_NEED_LINK = 'n' /* NAME in it, which the mirror has as a symbolic link
                        * to the tree unless it has a copy */
};
/* Has the linker to be helped (a capital letter)? */
#define MI_NEED_HELP(need) ((need)[0] >= 'A' && (need)[0] <= 'Z')
/* The letter in small. */
#define MI_NEED_KIND(need) ((need)[0] | 0x20)

struct mi_record {
    uint32_t magic;
    uint8_t kind;
    uint8_t query;
    uint16_t flags;
    uint32_t key_size; /* bytes of the path, without NUL; at most MI_PATH */
    int32_t code;      /* ABSENT: why */
    uint64_t size;     /* bytes of the payload */
    uint64_t hash;     /* mi_hash() of query and path */
    uint64_t object; /* MIRROR: identity in the stream, from 1; 0: no bytes */
    int64_t mtime;   /* of the file, nanoseconds since the epoch */
    uint64_t file_size; /* of the file, bytes */
    uint64_t device;
    uint64_t inode;
    int64_t changed; /* its ctime, which nobody can set; 0: not known */
    uint32_t mode;   /* st_mode of the file */
    uint32_t reserved;
    uint64_t check; /* mi_hash() of the 88 bytes before */
};

/* The payload of LIST: count, then for each name, in strcmp() order, the
 * offset of its entry from the payload's begin; an entry is a type character
 * ('f' regular file, 'd' directory, 'o' other) and the name with its NUL.
 * Symbolic links are followed; their type is in upper case.  The entries
 * themselves lie in the order in which the directory gave them.
 */
struct mi_entries {
    uint32_t count;
    uint32_t offset[];
};

/* What a STAT's record has no member for; times in nanoseconds since the
 * epoch, the rest as in struct stat.
 */
struct mi_status {
    int64_t atime;
    int64_t ctime;
    uint64_t nlink;
    uint64_t uid;
    uint64_t gid;
    uint64_t rdev;
    uint64_t blksize;
    uint64_t blocks;
};

enum mi_frame_type {
    MI_FRAME_RECORDS = 1, /* 'offset' and 'size' are a stretch of the arena */
    MI_FRAME_OBJECT = 2,  /* a piece at 'offset' of object 'object' */
    MI_FRAME_FULL = 3,    /* root stores nothing any more; no payload */
    MI_FRAME_END = 4,     /* the last frame; no payload */
    MI_FRAME_PARK = 5     /* no frame before a message has come; no payload */
};

/* Largest payload of a frame, bytes. */
#define MI_FRAME_MAX (4u << 20)

struct mi_frame {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint64_t sequence; /* from 0, without gaps */
    uint64_t offset;
    uint64_t size; /* bytes of the payload */
    uint64_t object;
    uint64_t object_size; /* OBJECT: bytes of the whole object */
    uint64_t object_mode; /* OBJECT: permission bits */
    uint64_t spare;
    uint64_t check; /* mi_hash() of the 64 bytes before */
};

/* What is broadcast for each frame.  As a whole it stays below the sizes from
 * which MPI libraries hand over to a rendezvous (4096 bytes with headers of
 * theirs is the least).
 */
#define MI_PACKET_BYTES 3896u

struct mi_packet {
    struct mi_frame frame;
    unsigned char bytes[MI_PACKET_BYTES]; /* the payload, if it has room */
};

/* Longest path, bytes, without NUL. */
#define MI_PATH (PATH_MAX - 1)

struct mi_ask_head {
    uint32_t query;
    uint32_t key_size;
    uint32_t extra_size;
    uint32_t flags;
};

/* What an ask holds.  The texts need no terminator. */
struct mi_ask {
    enum mi_query query;
    unsigned flags; /* 0; in a reader's own queue MI_ASK_PRESENT */
    const char *key, *extra;
    size_t key_size, extra_size;
};

#define MI_ASK_PRESENT 1u /* no answer is wanted if there is no such thing */

/* Longest ask message, bytes. */
#define MI_ASK_MAX (sizeof(struct mi_ask_head) + 2 * MI_PATH)

_Static_assert(sizeof(struct mi_status) == 64, "layout of a status");
_Static_assert(sizeof(struct mi_record) == 96, "layout of a record");
_Static_assert(sizeof(struct mi_frame) == 72, "layout of a frame");
_Static_assert(sizeof(struct mi_packet) == 3968, "layout of a packet");
_Static_assert(sizeof(struct mi_ask_head) == 16, "layout of an ask");

/* 64-bit hash of 'size' bytes (FNV-1a, finished with a mixer).  The same on
 * all ranks; not meant to resist an adversary.
 */
uint64_t mi_hash(uint64_t seed, const void *data, size_t size);
uint64_t mi_key_hash(enum mi_query query, const char *key, size_t size);

/* Bytes that a record takes in the arena. */
uint64_t mi_record_total(uint32_t key_size, uint64_t size);
/* Its path (terminated) and payload.  Live as long as the record. */
const char *mi_record_key(const struct mi_record *record);
const void *mi_record_payload(const struct mi_record *record);
/* STAT: its status, or NULL if that is not in the record (MI_REAL); *target is
 * where a symbolic link leads to, or NULL for everything else.  Both live as
 * long as the record.
 */
const struct mi_status *mi_record_status(const struct mi_record *record,
                                         const char **target);
/* The path that the mirror repeats for an object: the record's own, unless
 * that leads through a "..".  This and those below are for MIRROR records and
 * those with the code MI_MIRROR_REFUSED; the texts live as long as the record.
 */
const char *mi_record_place(const struct mi_record *record);
/* Its SONAME, or "". */
const char *mi_record_soname(const struct mi_record *record);
/* MIRROR: the place of the file that it is a link to (the tree has one file
 * under several paths), or "".
 */
const char *mi_record_link(const struct mi_record *record);
/* What the object needs, one after the other in its own order: a letter of
 * enum mi_need and a text.  A capital letter: looking for it would lead the
 * dynamic linker to the tree.  'previous' is NULL at first; NULL at the end.
 */
const char *mi_record_need(const struct mi_record *record,
                           const char *previous);
/* Fill in magic, hash and check of a record whose other fields are set. */
void mi_record_seal(struct mi_record *record, const char *key);
/* Is there one whole sound record in the 'room' bytes at 'record'? */
int mi_record_check(const struct mi_record *record, uint64_t room,
                    struct mi_error *err);

void mi_frame_seal(struct mi_frame *frame);
/* Is it the sound header of frame number 'sequence', and does it continue an
 * arena of 'used' bytes?
 */
int mi_frame_check(const struct mi_frame *frame, uint64_t sequence,
                   uint64_t used, struct mi_error *err);

/* The ask that these terminated texts make, without flags.  Borrows them. */
struct mi_ask mi_ask_of(enum mi_query query, const char *key,
                        const char *extra);
/* Put an ask into 'message' (MI_ASK_MAX bytes); *size is its length.
 * Fails with MI_FORMAT if a path is too long.
 */
int mi_ask_pack(void *message, const struct mi_ask *ask, size_t *size,
                struct mi_error *err);
/* Take one apart; the strings point into 'message' and are not terminated. */
int mi_ask_unpack(const void *message, size_t size, struct mi_ask *ask,
                  struct mi_error *err);

/* What a listing says of 'name' (an identifier, 'size' bytes): *directory is
 * 1 if it is a directory, and *suffix the first i for which name + suffixes[i]
 * is a regular file, or -1.
 */
void mi_entries_match(const struct mi_record *list, const char *name,
                      size_t size, const char *const *suffixes, int count,
                      int *directory, int *suffix);
/* Type of the entry 'name': 'f', 'd', 'o', or 0 if there is none. */
char mi_entries_type(const struct mi_record *list, const char *name);
/* Entry number i, or NULL past the last.  *type as above. */
const char *mi_entries_name(const struct mi_record *list, uint32_t i,
                            char *type);
/* The entry after 'previous' in the order of the directory, the first for
 * NULL; NULL past the last.  *link says whether it is a symbolic link.
 */
const char *mi_entries_next(const struct mi_record *list, const char *previous,
                            char *type, int *link);

#endif
