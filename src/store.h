/* Node store: path -> answer, in memory that the ranks of a node share.
 *
 * An append-only arena of records (format.h) and an open-addressing index of
 * their keys, in one mapping of one file on a memory filesystem.  One process
 * writes (its threads take turns inside); any number of processes and threads
 * read without locks: a record is complete before its index slot is published
 * (release), and stays as it is for ever.
 *
 * Space is reserved before it is touched, so that a full filesystem is an
 * error (ENOSPC) and never SIGBUS.  Source: posix_fallocate(3), mmap(2).
 */
#ifndef MI_STORE_H
#define MI_STORE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "budget.h"
#include "error.h"
#include "format.h"

struct mi_store;

/* What goes into a record; 'key' and 'payload' are borrowed for the call. */
struct mi_entry {
    enum mi_query query;
    enum mi_kind kind;
    uint16_t flags;
    int code;
    const char *key; /* need not be terminated */
    size_t key_size;
    const void *payload;
    size_t size;
    uint64_t object;
    int64_t mtime;
    int64_t changed;
    uint64_t file_size;
    uint64_t device;
    uint64_t inode;
    uint32_t mode;
};

/* Make a store for at most 'capacity' bytes of records in a new file 'name'
 * (mode 0600) of the directory 'dir'; the caller unlinks it.  Writer.
 */
int mi_store_create(struct mi_store **store, int dir, const char *name,
                    size_t capacity, struct mi_error *err);
/* The same without a file, for one process. */
int mi_store_create_private(struct mi_store **store, size_t capacity,
                            struct mi_error *err);
/* From now on take its memory from 'budget' (borrowed, for as long as the
 * store lives; NULL: none), to which is charged what it has already.  What
 * that has not left is ENOSPC.  Writer; before other threads know the store.
 */
void mi_store_set_budget(struct mi_store *store, struct mi_budget *budget);
/* Bytes of a payload, with a path of whatever length, that could be appended
 * now, as far as capacity and budget tell.  Writer; thread-safe.
 */
uint64_t mi_store_room(struct mi_store *store);
/* Map the store that another process has made, for reading.  Refused
 * (MI_ERRNO, EPERM) if the file belongs to another user.
 */
int mi_store_open(struct mi_store **store, int dir, const char *name,
                  struct mi_error *err);
/* Unmap; records must not be used any more.  NULL is allowed. */
void mi_store_destroy(struct mi_store *store);

/* Add a record, and let its key lead to it from now on (a later record
 * replaces an earlier one with the same query and path).  *record (may be
 * NULL) lives as long as the store.  Writer; thread-safe.
 * Errors: ENOSPC when the filesystem or the capacity is exhausted.
 */
int mi_store_append(struct mi_store *store, const struct mi_entry *entry,
                    const struct mi_record **record, struct mi_error *err);

/* The two halves of appending records that come as bytes: room for 'size'
 * bytes at the arena's end, and then their publication.  'size' is a multiple
 * of 16 and the bytes are whole records; each is checked (MI_FORMAT) before
 * its key is published.  'each' (may be NULL) is called for every record
 * before that.  Writer; the caller makes sure that nobody appends in between.
 */
int mi_store_reserve(struct mi_store *store, uint64_t size, void **room,
                     struct mi_error *err);
int mi_store_commit(struct mi_store *store, uint64_t size,
                    void (*each)(void *arg, const struct mi_record *record),
                    void *arg, struct mi_error *err);

/* The latest record of that key, or NULL.  Lock-free; any rank. */
const struct mi_record *mi_store_find(const struct mi_store *store,
                                      enum mi_query query, const char *key,
                                      size_t key_size);

/* Bytes in the arena; it never shrinks.  The bytes below are immutable. */
uint64_t mi_store_used(const struct mi_store *store);
/* Bytes at 'offset' of the arena, below mi_store_used(). */
const void *mi_store_bytes(const struct mi_store *store, uint64_t offset);
/* Number of records, replaced ones included. */
uint64_t mi_store_count(const struct mi_store *store);
/* Bytes of memory reserved so far, index included. */
uint64_t mi_store_reserved(const struct mi_store *store);

#endif
