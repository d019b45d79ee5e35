#include "answers.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "directory.h"
#include "lead.h"
#include "nodes.h"
#include "queue.h"
#include "toll.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slow_answer *first; /* the others behind it, as they are due */
static int wake_fd = -1;          /* for a leader that waits for less */

int slow_answers_start(void)
{
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return wake_fd < 0 ? errno : 0;
}

struct slow_answer *slow_answers_new(fuse_req_t request, int64_t due)
{
    struct slow_answer *answer = calloc(1, sizeof(*answer));

    if (!answer) {
        fuse_reply_err(request, ENOMEM);
        return NULL;
    }
    answer->request = request;
    answer->due = due;
    return answer;
}

void slow_answers_send(struct slow_answer *answer)
{
    fuse_req_t request = answer->request;

    switch (answer->shape) {
    case SLOW_STATUS:
        fuse_reply_err(request, answer->code);
        break;
    case SLOW_ENTRY:
        if (fuse_reply_entry(request, &answer->of.entry) != 0 &&
            answer->of.entry.ino != 0)
            slow_nodes_forget(answer->of.entry.ino, 1);
        break;
    case SLOW_ATTRIBUTES:
        fuse_reply_attr(request, &answer->of.status, slow_toll_timeout());
        break;
    case SLOW_FILE:
        if (fuse_reply_open(request, &answer->of.file) != 0)
            close((int)answer->of.file.fh);
        break;
    case SLOW_DIRECTORY:
        if (fuse_reply_open(request, &answer->of.file) != 0)
            slow_directory_close(answer->of.file.fh);
        break;
    case SLOW_BYTES:
        fuse_reply_buf(request, answer->bytes, answer->size);
        break;
    case SLOW_SPACE:
        fuse_reply_statfs(request, &answer->of.space);
        break;
    }
    free(answer->bytes);
    free(answer);
}

void slow_answers_add(struct slow_answer *answer)
{
    struct slow_answer **p = &first;
    uint64_t one = 1;

    pthread_mutex_lock(&lock);
    while (*p && (*p)->due <= answer->due)
        p = &(*p)->next;
    answer->next = *p;
    *p = answer;
    pthread_mutex_unlock(&lock);
    /* It fails only where enough wake the leader already. */
    if (!slow_lead_is_mine() && write(wake_fd, &one, sizeof(one)) < 0)
        return;
}

/* Return the first answer if it is due, taken out.  Else NULL, with *left the
 * nanoseconds until then, or -1 if there is none.
 */
static struct slow_answer *take_due(int64_t *left)
{
    struct slow_answer *answer;

    pthread_mutex_lock(&lock);
    answer = first;
    *left = -1;
    if (answer) {
        *left = answer->due - slow_queue_now();
        if (*left <= 0)
            first = answer->next;
        else
            answer = NULL;
    }
    pthread_mutex_unlock(&lock);
    return answer;
}

void slow_answers_send_until(int fd)
{
    struct pollfd polled[2] = {
        {.fd = fd, .events = POLLIN},
        {.fd = wake_fd, .events = POLLIN},
    };
    struct slow_answer *answer;
    struct timespec limit;
    uint64_t count;
    int64_t left;

    do {
        while ((answer = take_due(&left)))
            slow_answers_send(answer);
        limit = slow_queue_timespec(left);
        if (ppoll(polled, 2, left < 0 ? NULL : &limit, NULL) <= 0)
            polled[0].revents = polled[1].revents = 0;
        if (polled[1].revents && read(wake_fd, &count, sizeof(count)) < 0)
            continue;
    } while (!polled[0].revents);
}
