/* slowfs: a directory once more, read-only, behind a slow file server.
 *
 *     slowfs [-o meta-us=N,rtt-us=N,mbps=N,cache-ms=N] SOURCE MOUNTPOINT
 *
 * The server has two queues.  Whatever is not a read of a file's bytes takes
 * it meta-us microseconds, one request after the other; reads go one after
 * the other at mbps million bytes per second (0: in no time).  On top of that
 * each answer comes rtt-us later, which clients spend beside each other.
 * Nothing is kept between two uses of a name or a file: the kernel asks each
 * time, for each part of a path, and an open file's pages are the only ones
 * that it may use again.  Closing, and what the kernel forgets, are free. With
 * cache-ms the kernel remembers names, also those that are not there, and
 * attributes for that long, and pages of unchanged files: for all processes
 * alike, which are the ranks of one node then.
 *
 * What a request takes to come here and its answer to go back, without a
 * server, is measured at the start and is part of the times above.
 *
 * It serves until its standard input ends, SIGINT, SIGTERM or SIGHUP comes, or
 * somebody else unmounts it; then it unmounts, also what is in use.  So it
 * does not outlive the one who holds the other end of its standard input.
 * After "ready" it answers each line of its input by one line: "reset" by
 * "ok", and "counts" by a JSON object, {"processes": see census.h,
 * "meta_busy": S, "data_busy": S, "overhead": S, in seconds}.
 */
#define FUSE_USE_VERSION 31

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "census.h"
#include "nodes.h"
#include "queue.h"

#define THREADS 128 /* each request that is answered late needs one */
#define STACK (256 * 1024)
#define FD_PATH_SIZE 32
#define LINE_SIZE 256
#define PROBES 101
#define CALIBRATION 100000 /* nanoseconds of service of a probe */

struct directory {
    DIR *stream;
    struct dirent *pending; /* read, and not in an answer yet */
    off_t offset;           /* of the pending one, or of the next */
};

static int64_t meta_ns, rtt_ns, bytes_per_us, cache_ms;
static int64_t overhead_ns; /* of this machine, without a server */
static atomic_bool is_calibrating;
static _Thread_local bool is_greeting; /* the first answer comes next */
static _Atomic double timeout;         /* of what the kernel remembers, in s */
static struct slow_queue meta = SLOW_QUEUE_INIT;
static struct slow_queue data = SLOW_QUEUE_INIT;

/* ---- time --------------------------------------------------------------- */

/* When the request that is here now would have come to a real server, if its
 * answer left there in time.
 */
static int64_t came_at(void)
{
    return slow_queue_now() - overhead_ns;
}

static void charge_meta(fuse_req_t request, enum slow_kind kind)
{
    if (is_calibrating) {
        slow_queue_sleep(slow_queue_now() + CALIBRATION);
        return;
    }
    slow_census_count(fuse_req_ctx(request)->pid, kind, 0);
    if (meta_ns || rtt_ns)
        slow_queue_sleep(slow_queue_take(&meta, came_at(), meta_ns) + rtt_ns);
}

static void charge_data(fuse_req_t request, size_t bytes)
{
    int64_t service = 0;

    slow_census_count(fuse_req_ctx(request)->pid, SLOW_READ, bytes);
    if (bytes_per_us)
        service = (int64_t)bytes * 1000 / bytes_per_us;
    if (service || rtt_ns)
        slow_queue_sleep(slow_queue_take(&data, came_at(), service) + rtt_ns);
}

/* ---- operations --------------------------------------------------------- */

static void path_of(fuse_ino_t id, char path[FD_PATH_SIZE])
{
    snprintf(path, FD_PATH_SIZE, "/proc/self/fd/%d", slow_nodes_fd(id));
}

static void start(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->want &=
        ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                    FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ);
    is_greeting = true;
    connection->max_background = THREADS;
    connection->congestion_threshold = THREADS;
}

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry;
    uint64_t id = 0;
    int code;

    memset(&entry, 0, sizeof(entry));
    charge_meta(request, SLOW_LOOKUP);
    code = slow_nodes_lookup(parent, name, &id, &entry.attr);
    entry.ino = id;
    entry.entry_timeout = entry.attr_timeout = timeout;
    if (code != 0 && (code != ENOENT || cache_ms == 0))
        fuse_reply_err(request, code);
    else if (fuse_reply_entry(request, &entry) != 0 && code == 0)
        slow_nodes_forget(id, 1);
}

static void forget(fuse_req_t request, fuse_ino_t id, uint64_t count)
{
    slow_nodes_forget(id, count);
    fuse_reply_none(request);
}

static void get_attributes(fuse_req_t request, fuse_ino_t id,
                           struct fuse_file_info *file)
{
    struct stat status;

    (void)file;
    charge_meta(request, SLOW_GETATTR);
    if (fstatat(slow_nodes_fd(id), "", &status,
                AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0)
        fuse_reply_attr(request, &status, timeout);
    else
        fuse_reply_err(request, errno);
}

static void check_access(fuse_req_t request, fuse_ino_t id, int mask)
{
    char path[FD_PATH_SIZE];

    path_of(id, path);
    charge_meta(request, SLOW_ACCESS);
    fuse_reply_err(request, access(path, mask) == 0 ? 0 : errno);
}

static void read_link(fuse_req_t request, fuse_ino_t id)
{
    char target[PATH_MAX + 1];
    ssize_t length;

    charge_meta(request, SLOW_READLINK);
    length = readlinkat(slow_nodes_fd(id), "", target, sizeof(target) - 1);
    if (length < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    target[length] = '\0';
    fuse_reply_readlink(request, target);
}

static void open_file(fuse_req_t request, fuse_ino_t id,
                      struct fuse_file_info *file)
{
    char path[FD_PATH_SIZE];
    int fd;

    path_of(id, path);
    charge_meta(request, SLOW_OPEN);
    if ((file->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(request, EROFS);
        return;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fuse_reply_err(request, errno);
        return;
    }
    file->fh = (uint64_t)fd;
    file->keep_cache = cache_ms > 0;
    if (fuse_reply_open(request, file) != 0)
        close(fd);
}

static void read_file(fuse_req_t request, fuse_ino_t id, size_t size,
                      off_t offset, struct fuse_file_info *file)
{
    char *buffer = malloc(size);
    ssize_t got;

    (void)id;
    if (!buffer) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    got = pread((int)file->fh, buffer, size, offset);
    if (got < 0) {
        fuse_reply_err(request, errno);
    } else {
        charge_data(request, (size_t)got);
        fuse_reply_buf(request, buffer, (size_t)got);
    }
    free(buffer);
}

static void close_file(fuse_req_t request, fuse_ino_t id,
                       struct fuse_file_info *file)
{
    (void)id;
    close((int)file->fh);
    fuse_reply_err(request, 0);
}

static void open_directory(fuse_req_t request, fuse_ino_t id,
                           struct fuse_file_info *file)
{
    struct directory *directory = calloc(1, sizeof(*directory));
    char path[FD_PATH_SIZE];

    path_of(id, path);
    charge_meta(request, SLOW_OPENDIR);
    if (directory)
        directory->stream = opendir(path);
    if (!directory || !directory->stream) {
        fuse_reply_err(request, directory ? errno : ENOMEM);
        free(directory);
        return;
    }
    file->fh = (uint64_t)(uintptr_t)directory;
    if (fuse_reply_open(request, file) != 0) {
        closedir(directory->stream);
        free(directory);
    }
}

/* Fill 'buffer' with entries from where the directory stands; return the
 * bytes used, or -1 with errno set.
 */
static ssize_t fill(fuse_req_t request, struct directory *directory,
                    char *buffer, size_t size)
{
    size_t used = 0, needed;
    struct dirent *entry;
    struct stat status;

    memset(&status, 0, sizeof(status));
    for (;;) {
        if (!directory->pending) {
            errno = 0;
            directory->pending = readdir(directory->stream);
            if (!directory->pending)
                return errno != 0 && used == 0 ? -1 : (ssize_t)used;
        }
        entry = directory->pending;
        status.st_ino = entry->d_ino;
        status.st_mode = (mode_t)entry->d_type << 12;
        needed = fuse_add_direntry(request, buffer + used, size - used,
                                   entry->d_name, &status, entry->d_off);
        if (needed > size - used)
            return (ssize_t)used;
        used += needed;
        directory->offset = entry->d_off;
        directory->pending = NULL;
    }
}

static void read_directory(fuse_req_t request, fuse_ino_t id, size_t size,
                           off_t offset, struct fuse_file_info *file)
{
    struct directory *directory = (struct directory *)(uintptr_t)file->fh;
    char *buffer = malloc(size);
    ssize_t used = -1;

    (void)id;
    charge_meta(request, SLOW_READDIR);
    if (!buffer) {
        fuse_reply_err(request, ENOMEM);
        return;
    }
    if (offset != directory->offset) {
        seekdir(directory->stream, offset);
        directory->pending = NULL;
        directory->offset = offset;
    }
    used = fill(request, directory, buffer, size);
    if (used < 0)
        fuse_reply_err(request, errno);
    else
        fuse_reply_buf(request, buffer, (size_t)used);
    free(buffer);
}

static void close_directory(fuse_req_t request, fuse_ino_t id,
                            struct fuse_file_info *file)
{
    struct directory *directory = (struct directory *)(uintptr_t)file->fh;

    (void)id;
    closedir(directory->stream);
    free(directory);
    fuse_reply_err(request, 0);
}

static void get_filesystem(fuse_req_t request, fuse_ino_t id)
{
    char path[FD_PATH_SIZE];
    struct statvfs status;

    path_of(id, path);
    charge_meta(request, SLOW_OTHER);
    if (statvfs(path, &status) == 0)
        fuse_reply_statfs(request, &status);
    else
        fuse_reply_err(request, errno);
}

/* What is not here (flush, extended attributes, ...) the library answers by
 * ENOSYS, and the kernel does not ask again.
 */
static const struct fuse_lowlevel_ops operations = {
    .init = start,
    .lookup = lookup,
    .forget = forget,
    .getattr = get_attributes,
    .access = check_access,
    .readlink = read_link,
    .open = open_file,
    .read = read_file,
    .release = close_file,
    .opendir = open_directory,
    .readdir = read_directory,
    .releasedir = close_directory,
    .statfs = get_filesystem,
};

/* ---- what the library does not say ---------------------------------------
 */

/* Before its release 3.17 the library does not hand FUSE_CAP_PARALLEL_DIROPS
 * on to the kernel, which then lets new names in one directory wait for each
 * other whoever asks.  So the flag is put into the answer here.
 */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 14)
static ssize_t send_answer(int fd, struct iovec *parts, int count, void *user)
{
    (void)user;
    if (is_greeting && count > 1 &&
        parts[1].iov_len > offsetof(struct fuse_init_out, max_background)) {
        struct fuse_init_out *answer = parts[1].iov_base;

        answer->flags |= FUSE_PARALLEL_DIROPS;
    }
    is_greeting = false;
    return writev(fd, parts, count);
}

static ssize_t receive(int fd, void *buffer, size_t size, void *user)
{
    (void)user;
    return read(fd, buffer, size);
}

static int take_over(struct fuse_session *session)
{
    static const struct fuse_custom_io io = {
        .writev = send_answer,
        .read = receive,
    };

    return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
#else
static int take_over(struct fuse_session *session)
{
    (void)session;
    return 0;
}
#endif

/* ---- control ------------------------------------------------------------ */

/* Answer one line of the standard input. */
static void answer(const char *line)
{
    if (strcmp(line, "reset") == 0) {
        slow_census_reset();
        slow_queue_reset(&meta);
        slow_queue_reset(&data);
        puts("ok");
    } else if (strcmp(line, "counts") == 0) {
        fputs("{\"processes\": ", stdout);
        slow_census_print(stdout);
        printf(", \"meta_busy\": %.6f, \"data_busy\": %.6f, "
               "\"overhead\": %.6f}\n",
               (double)slow_queue_busy(&meta) / 1e9,
               (double)slow_queue_busy(&data) / 1e9,
               (double)overhead_ns / 1e9);
    } else {
        puts("what?");
    }
    fflush(stdout);
}

/* Read what there is of the input, and answer its whole lines.  Returns 0 at
 * its end, else 1.
 */
static int read_input(void)
{
    static char line[LINE_SIZE];
    static size_t length;
    char text[LINE_SIZE];
    ssize_t got = read(STDIN_FILENO, text, sizeof(text));

    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 1;
    if (got <= 0)
        return 0;
    for (ssize_t i = 0; i < got; i++) {
        if (text[i] == '\n') {
            line[length] = '\0';
            length = 0;
            answer(line);
        } else if (length < sizeof(line) - 1) {
            line[length++] = text[i];
        }
    }
    return 1;
}

/* Return when it is time to end. */
static void wait_for_end(int signals)
{
    struct pollfd polled[2] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = signals, .events = POLLIN},
    };

    for (;;) {
        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            return;
        if (polled[1].revents)
            return;
        if (polled[0].revents && !read_input())
            return;
    }
}

/* ---- start -------------------------------------------------------------- */

/* Let this thread run before the clients, if that is allowed: a file server
 * has processors of its own.  It needs little, but at once.
 */
static void take_precedence(void)
{
    struct sched_param parameter = {.sched_priority = 1};

    if (sched_setscheduler(0, SCHED_RR, &parameter) != 0)
        setpriority(PRIO_PROCESS, 0, -20);
}

/* Serve requests until the filesystem is unmounted. */
static void *serve(void *argument)
{
    struct fuse_session *session = argument;
    struct fuse_buf buffer = {.mem = NULL};
    int got;

    take_precedence();
    do {
        got = fuse_session_receive_buf(session, &buffer);
        if (got > 0)
            fuse_session_process_buf(session, &buffer);
    } while (got > 0 || got == -EINTR || got == -EAGAIN);
    free(buffer.mem);
    kill(getpid(), SIGTERM);
    return NULL;
}

static int start_threads(struct fuse_session *session)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int code = 0;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < THREADS && code == 0; i++)
        code = pthread_create(&thread, &attributes, serve, session);
    pthread_attr_destroy(&attributes);
    return code;
}

static int compare(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Set overhead_ns to the median of some requests that are made here. */
static void calibrate(const char *mountpoint)
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
    if (done > 0 && taken[done / 2] > 0)
        overhead_ns = taken[done / 2];
}

/* Block the signals that end us; return a descriptor to read them from. */
static int take_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Every file that the kernel remembers has a descriptor. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_max < 1 << 20) {
        struct rlimit more = {1 << 20, 1 << 20};

        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Set what "meta-us=N,rtt-us=N,..." says, N whole numbers.  Returns 0, or
 * -1 if it says something else.
 */
static int parse(char *text)
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

static int run(const char *mountpoint)
{
    static char name[] = "slowfs", flag[] = "-o",
                choices[] = "ro,nosuid,nodev,fsname=slowfs,subtype=slowfs";
    char *words[] = {name, flag, choices, NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
    int signals = take_signals(), code;
    struct fuse_session *session;

    session =
        fuse_session_new(&arguments, &operations, sizeof(operations), NULL);
    if (signals < 0 || !session)
        return 1;
    if (fuse_session_mount(session, mountpoint) != 0)
        return 1;
    code = take_over(session);
    if (code == 0)
        code = start_threads(session);
    if (code == 0) {
        if (meta_ns || rtt_ns || bytes_per_us)
            calibrate(mountpoint);
        timeout = (double)cache_ms / 1e3;
        puts("ready");
        fflush(stdout);
        wait_for_end(signals);
    } else {
        fprintf(stderr, "slowfs: start: %s\n", strerror(abs(code)));
    }
    /* The threads end with the process, whatever they wait for. */
    fuse_session_unmount(session);
    fflush(stdout);
    _exit(code != 0);
}

int main(int argc, char **argv)
{
    int option, code, bad = 0;

    while ((option = getopt(argc, argv, "o:")) != -1)
        bad |= option != 'o' || parse(optarg) != 0;
    if (bad || argc - optind != 2) {
        fputs("usage: slowfs [-o meta-us=N,rtt-us=N,mbps=N,cache-ms=N] SOURCE "
              "MOUNTPOINT\n",
              stderr);
        return 2;
    }
    raise_limit();
    /* Sleep for as long as was asked for, in all threads. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    code = slow_nodes_start(argv[optind]);
    if (code != 0) {
        fprintf(stderr, "slowfs: %s: %s\n", argv[optind], strerror(code));
        return 1;
    }
    return run(argv[optind + 1]);
}
