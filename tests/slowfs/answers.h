/* Answers that are worked out, and wait for their time.
 *
 * All calls are thread-safe but slow_answers_start().
 */
#ifndef SLOW_ANSWERS_H
#define SLOW_ANSWERS_H

#define FUSE_USE_VERSION 31

#include <fuse_lowlevel.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum slow_shape {
    SLOW_STATUS, /* nothing but 'code', an errno or 0 */
    SLOW_ENTRY,  /* a name's node, which is forgotten if nobody waits */
    SLOW_ATTRIBUTES,
    SLOW_FILE,      /* an opened one: 'file', a descriptor in 'fh' */
    SLOW_DIRECTORY, /* another one: 'file', what directory.h opens in 'fh' */
    SLOW_BYTES,     /* 'size' bytes of 'bytes' */
    SLOW_SPACE,
};

struct slow_answer {
    struct slow_answer *next;
    fuse_req_t request;
    int64_t due; /* see queue.h */
    enum slow_shape shape;
    int code;
    char *bytes; /* from malloc(), the answer's own; or NULL */
    size_t size;
    union {
        struct fuse_entry_param entry;
        struct stat status;
        struct fuse_file_info file;
        struct statvfs space;
    } of;
};

/* Before all others.  Returns 0 or an errno. */
int slow_answers_start(void);

/* Return an answer to 'request' that is SLOW_STATUS, 0, to be filled in and
 * handed over to one of the next two.  Without memory the request is answered
 * by that, and NULL is returned.
 */
struct slow_answer *slow_answers_new(fuse_req_t request, int64_t due);

/* Send an answer now, and free it. */
void slow_answers_send(struct slow_answer *answer);

/* Let the leader (lead.h) send an answer when it is due. */
void slow_answers_add(struct slow_answer *answer);

/* For the leader: send answers as they become due, until 'fd' can be read. */
void slow_answers_send_until(int fd);

#endif
