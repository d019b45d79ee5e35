#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "answers.h"
#include "lead.h"
#include "nodes.h"
#include "requests.h"

#define THREADS 192 /* one leads, the others read what is large */
#define STACK (512 * 1024)
#define PATH_SIZE 64
#define QUOTED(x) #x
#define NUMBER(x) QUOTED(x)

static struct fuse_session *session;
static atomic_bool is_ending;

/* Before its release 3.17 the library does not hand FUSE_CAP_PARALLEL_DIROPS
 * on to the kernel, which then lets new names in one directory wait for each
 * other whoever asks.  So the flag is put into the answer here.
 */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 14)
static ssize_t send_answer(int fd, struct iovec *parts, int count, void *user)
{
    (void)user;
    if (slow_requests_is_greeting() && count > 1 &&
        parts[1].iov_len > offsetof(struct fuse_init_out, max_background)) {
        struct fuse_init_out *answer = parts[1].iov_base;

        answer->flags |= FUSE_PARALLEL_DIROPS;
    }
    return writev(fd, parts, count);
}

static ssize_t receive(int fd, void *buffer, size_t size, void *user)
{
    (void)user;
    /* The library closes the descriptor before the process ends. */
    if (is_ending) {
        errno = ENODEV;
        return -1;
    }
    return read(fd, buffer, size);
}

static int take_over(void)
{
    static const struct fuse_custom_io io = {
        .writev = send_answer,
        .read = receive,
    };

    return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
#else
static int take_over(void)
{
    return 0;
}
#endif

/* Let this thread run before the clients, if that is allowed: a file server
 * has processors of its own.  It needs little, but at once.
 */
static void take_precedence(void)
{
    struct sched_param parameter = {.sched_priority = 1};

    if (sched_setscheduler(0, SCHED_RR, &parameter) != 0)
        setpriority(PRIO_PROCESS, 0, -20);
}

/* Take a request, as the leader, and send answers until there is one. */
static int take(struct fuse_buf *buffer)
{
    slow_lead_take();
    slow_answers_send_until(fuse_session_fd(session));
    return fuse_session_receive_buf(session, buffer);
}

/* Serve requests until the filesystem is unmounted. */
static void *serve(void *argument)
{
    struct fuse_buf buffer = {.mem = NULL};
    int got;

    (void)argument;
    take_precedence();
    do {
        got = take(&buffer);
        if (got > 0)
            fuse_session_process_buf(session, &buffer);
    } while (got > 0 || got == -EINTR || got == -EAGAIN);
    slow_lead_yield();
    free(buffer.mem);
    kill(getpid(), SIGTERM);
    return NULL;
}

static int start_threads(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int code = 0;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < THREADS && code == 0; i++)
        code = pthread_create(&thread, &attributes, serve, NULL);
    pthread_attr_destroy(&attributes);
    return code;
}

/* Let the kernel read as far ahead as one request may go, as the clients of
 * such servers do.  That is the administrator's to say; else it is 128 KiB.
 * Source: sysfs-class-bdi.
 */
static void widen_reads(const char *mountpoint)
{
    char path[PATH_SIZE];
    struct stat status;
    FILE *file;

    if (stat(mountpoint, &status) != 0)
        return;
    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
             major(status.st_dev), minor(status.st_dev));
    file = fopen(path, "we");
    if (!file)
        return;
    fprintf(file, "%d\n", SLOW_LARGEST_READ / 1024);
    fclose(file);
}

int slow_session_start(const char *mountpoint)
{
    static char name[] = "slowfs", flag[] = "-o",
                choices[] = "ro,nosuid,nodev,fsname=slowfs,subtype=slowfs,"
                            "max_read=" NUMBER(SLOW_LARGEST_READ);
    char *words[] = {name, flag, choices, NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
    int code;

    session = fuse_session_new(&arguments, &slow_requests,
                               sizeof(slow_requests), NULL);
    if (!session || fuse_session_mount(session, mountpoint) != 0)
        return -1; /* the library has said why */
    code = take_over();
    if (code == 0)
        code = slow_answers_start();
    if (code == 0 &&
        fcntl(fuse_session_fd(session), F_SETFL, O_RDWR | O_NONBLOCK) != 0)
        code = errno;
    if (code == 0)
        code = start_threads();
    if (code == 0) {
        widen_reads(mountpoint);
        return 0;
    }
    fprintf(stderr, "slowfs: start: %s\n", strerror(abs(code)));
    fuse_session_unmount(session);
    return -1;
}

void slow_session_drop_pages(void)
{
    size_t count;
    uint64_t *ids = slow_nodes_list(&count);

    /* It does not mind ids that it has forgotten. */
    for (size_t i = 0; ids && i < count; i++)
        fuse_lowlevel_notify_inval_inode(session, ids[i], 0, 0);
    free(ids);
}

void slow_session_end(void)
{
    is_ending = true;
    fuse_session_unmount(session);
}
