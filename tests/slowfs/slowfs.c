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
 * "ok", when all counts are 0 and pages that the kernel would drop at the next
 * open (all, without cache-ms) are gone; and "counts" by a JSON object,
 * {"processes": see census.h, "meta_busy": S, "data_busy": S, "overhead": S,
 * in seconds}.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "census.h"
#include "nodes.h"
#include "session.h"
#include "toll.h"

#define LINE_SIZE 256

/* Answer one line of the standard input. */
static void answer(const char *line)
{
    if (strcmp(line, "reset") == 0) {
        if (slow_toll_timeout() == 0)
            slow_session_drop_pages();
        slow_census_reset();
        slow_toll_reset();
        puts("ok");
    } else if (strcmp(line, "counts") == 0) {
        fputs("{\"processes\": ", stdout);
        slow_census_print(stdout);
        fputs(", ", stdout);
        slow_toll_print(stdout);
        puts("}");
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

static int run(const char *mountpoint)
{
    int signals = take_signals();

    if (signals < 0 || slow_session_start(mountpoint) != 0)
        return 1;
    slow_toll_calibrate(mountpoint);
    puts("ready");
    fflush(stdout);
    wait_for_end(signals);
    slow_session_end();
    fflush(stdout);
    _exit(0); /* with the threads, whatever they wait for */
}

int main(int argc, char **argv)
{
    int option, code, bad = 0;

    while ((option = getopt(argc, argv, "o:")) != -1)
        bad |= option != 'o' || slow_toll_parse(optarg) != 0;
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
