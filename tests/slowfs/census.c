#include "census.h"

#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lead.h"

#define SLOTS 1024 /* chains of threads */
#define LOOKS 100  /* at a process whose rank is not known */
#define PATH_SIZE 64
#define NAME_SIZE 64

struct process {
    struct process *next;
    pid_t pid;
    int rank; /* -1: not known */
    int looks;
    char name[NAME_SIZE];
    uint64_t counts[SLOW_KINDS];
    uint64_t bytes;
};

struct thread {
    struct thread *next;
    pid_t tid;
    struct process *process;
};

static const char *const names[SLOW_KINDS] = {
    "lookup",  "getattr", "access", "readlink", "opendir",
    "readdir", "open",    "read",   "other",
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct process *processes;
static struct thread *threads[SLOTS];

/* ---- /proc -------------------------------------------------------------- */

/* Read the file 'name' of /proc/PID into a string that the caller frees.
 * Returns its length, or -1 with *text NULL.
 */
static ssize_t read_proc(pid_t pid, const char *name, char **text)
{
    char path[PATH_SIZE], *grown;
    size_t size = 0, room = 0;
    ssize_t got = -1;
    int fd;

    *text = NULL;
    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    do {
        if (room - size < 4096) {
            grown = realloc(*text, room + 65536);
            if (!grown)
                break;
            *text = grown;
            room += 65536;
        }
        got = read(fd, *text + size, room - size - 1);
        size += got > 0 ? (size_t)got : 0;
    } while (got > 0);
    close(fd);
    if (!*text)
        return -1;
    (*text)[size] = '\0';
    return (ssize_t)size;
}

/* The process of a thread; the thread itself if that cannot be told. */
static pid_t process_of(pid_t tid)
{
    char *text, *line;
    pid_t pid = tid;

    if (read_proc(tid, "status", &text) >= 0) {
        line = strstr(text, "\nTgid:");
        if (line)
            pid = (pid_t)strtol(line + 6, NULL, 10);
    }
    free(text);
    return pid;
}

/* The rank that an environment block names, or -1. */
static int rank_in(const char *block, size_t size)
{
    static const char *const variables[] = {
        "PMI_RANK=", "OMPI_COMM_WORLD_RANK=", "PMIX_RANK=", "SLURM_PROCID="};
    const char *end = block + size;

    for (const char *p = block; p < end; p += strlen(p) + 1) {
        for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
            size_t length = strlen(variables[i]);

            if (strncmp(p, variables[i], length) == 0 && isdigit(p[length]))
                return atoi(p + length);
        }
    }
    return -1;
}

static int rank_of(pid_t pid)
{
    char *block;
    ssize_t size = read_proc(pid, "environ", &block);
    int rank = size > 0 ? rank_in(block, (size_t)size) : -1;

    free(block);
    return rank;
}

/* Put the name of a process into 'name', without what JSON has to escape. */
static void name_of(pid_t pid, char name[NAME_SIZE])
{
    char *text;
    size_t length = 0;

    if (read_proc(pid, "comm", &text) > 0) {
        for (const char *p = text; *p && length < NAME_SIZE - 1; p++) {
            if (isprint((unsigned char)*p) && *p != '"' && *p != '\\')
                name[length++] = *p;
        }
    }
    name[length] = '\0';
    free(text);
}

/* ---- counts ------------------------------------------------------------- */

static struct thread **slot_of(pid_t tid)
{
    return &threads[(unsigned)tid % SLOTS];
}

static struct process *find(pid_t tid)
{
    for (struct thread *t = *slot_of(tid); t; t = t->next) {
        if (t->tid == tid)
            return t->process;
    }
    return NULL;
}

/* Return the process 'pid', made if need be; NULL without memory. */
static struct process *find_process(pid_t pid)
{
    struct process *p = processes;

    while (p && p->pid != pid)
        p = p->next;
    if (!p && (p = calloc(1, sizeof(*p)))) {
        p->pid = pid;
        p->rank = -1;
        p->next = processes;
        processes = p;
    }
    return p;
}

static struct process *add(pid_t tid, pid_t pid)
{
    struct process *process = find(tid);
    struct thread *thread;

    if (process)
        return process;
    process = find_process(pid);
    thread = process ? calloc(1, sizeof(*thread)) : NULL;
    if (!thread)
        return NULL;
    thread->tid = tid;
    thread->process = process;
    thread->next = *slot_of(tid);
    *slot_of(tid) = thread;
    return process;
}

void slow_census_count(pid_t tid, enum slow_kind kind, uint64_t bytes)
{
    char name[NAME_SIZE] = "";
    struct process *process;
    pid_t pid = tid;
    int rank = -1;
    bool look;

    pthread_mutex_lock(&lock);
    process = find(tid);
    look = !process || (process->rank < 0 && process->looks < LOOKS);
    if (look) {
        if (process)
            pid = process->pid;
        pthread_mutex_unlock(&lock);
        /* These may wait for the process, and that for the leader. */
        slow_lead_yield();
        if (!process)
            pid = process_of(tid);
        rank = rank_of(pid);
        name_of(pid, name);
        pthread_mutex_lock(&lock);
        process = add(tid, pid);
    }
    if (process) {
        if (look && process->rank < 0) {
            process->rank = rank;
            process->looks++;
            memcpy(process->name, name, sizeof(name));
        }
        process->counts[kind]++;
        process->bytes += bytes;
    }
    pthread_mutex_unlock(&lock);
}

static void print_process(FILE *stream, const struct process *p)
{
    fprintf(stream, "{\"pid\": %ld, \"rank\": ", (long)p->pid);
    if (p->rank < 0)
        fputs("null", stream);
    else
        fprintf(stream, "%d", p->rank);
    fprintf(stream, ", \"name\": \"%s\"", p->name);
    for (int i = 0; i < SLOW_KINDS; i++)
        fprintf(stream, ", \"%s\": %llu", names[i],
                (unsigned long long)p->counts[i]);
    fprintf(stream, ", \"bytes\": %llu}", (unsigned long long)p->bytes);
}

void slow_census_print(FILE *stream)
{
    fputc('[', stream);
    pthread_mutex_lock(&lock);
    for (const struct process *p = processes; p; p = p->next) {
        print_process(stream, p);
        if (p->next)
            fputs(", ", stream);
    }
    pthread_mutex_unlock(&lock);
    fputc(']', stream);
}

void slow_census_reset(void)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < SLOTS; i++) {
        for (struct thread *t = threads[i], *next; t; t = next) {
            next = t->next;
            free(t);
        }
        threads[i] = NULL;
    }
    for (struct process *p = processes, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    processes = NULL;
    pthread_mutex_unlock(&lock);
}
